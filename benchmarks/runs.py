"""Run folders for the benchmarks of viewers: finished runs with plausible curves, and one that is at work."""

from __future__ import annotations

import json
import math
import shutil
import threading
from pathlib import Path

from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import plan_study

PRESET, VARIANT = "demo", "V21-384"


def values(step: int) -> dict[str, float]:
    """Values of one log point."""
    noise = 0.02 * math.sin(step * 12.9898)
    return {
        "train/loss": 0.2 + 0.8 * math.exp(-step / 4000) + noise, "train/accuracy": 1 - math.exp(-step / 6000),
        "val/loss": 0.3 + 0.7 * math.exp(-step / 4000), "val/accuracy": 0.9 - 0.9 * math.exp(-step / 5000) + noise / 4,
        "lr": 1e-3, "speed/images_per_second": 3000 + 100 * noise,
    }  # fmt: skip


def new_run(root: Path, study: str) -> Path:
    """A run that has not begun."""
    (plan,) = plan_study(PRESET, name=study, variants=(VARIANT,), seeds=(0,)).runs
    return create_run(root / plan.id, plan.config, {"command": ["lsc-engine", "run", PRESET]})


def finished_run(root: Path, study: str, points: int) -> Path:
    """A run that ended well, with `points` log points."""
    folder = new_run(root, study)
    with RunWriter.open(folder, device="cpu", total_steps=points * 10, echo=False) as writer:
        for i in range(1, points + 1):
            writer.metrics(i * 10, i / 5, i * 0.5, values(i * 10))
        writer.finish("finished", 0)
    return folder


def many_runs(root: Path, scratch: Path, count: int) -> None:
    """`count` finished runs in studies of twenty."""
    source = finished_run(scratch, "one", 50)
    for i in range(count):
        shutil.copytree(source, root / f"study-{i // 20:03}" / VARIANT / f"seed-{i % 20}")


def long_run(root: Path, lines: int) -> Path:
    """A finished run of 60 epochs whose metrics file has `lines` lines."""
    folder = finished_run(root, "long", 10)
    form = '{{"step":{0},"epoch":{1:.6f},"time":{2:.3f},"attempt":1,"train/loss":{3:.7f},"lr":0.001}}\n'
    with (folder / "metrics.jsonl").open("w") as file:
        for start in range(1, lines + 1, 10_000):
            last = min(start + 10_000, lines + 1)
            file.write("".join(form.format(i, 60 * i / lines, i / 50, 0.2 + 0.8 / i) for i in range(start, last)))
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"step": lines, "total_steps": lines}))
    return folder


class RunAtWork(threading.Thread):
    """A run that gets `rate` log points, a heartbeat and a log line every second, until `stop`."""

    def __init__(self, folder: Path, begun: int, total: int, rate: int) -> None:
        super().__init__(daemon=True)
        self.writer = RunWriter.open(folder, device="cpu", total_steps=total * 10, echo=False)
        self.at, self.total, self.rate = 0, total, rate
        for _ in range(begun):
            self._point()
        self.writer.status(state="running")
        self.writer.heartbeat(begun * 10, eta=600.0)
        self._ended = threading.Event()

    def _point(self) -> None:
        self.at += 1
        self.writer.metrics(self.at * 10, self.at / 5, self.at * 0.5, values(self.at * 10))

    def run(self) -> None:
        """Once a second."""
        while not self._ended.wait(1.0):
            for _ in range(self.rate):
                self._point()
            self.writer.message(f"epoch {self.at / 5:.2f}  loss {values(self.at * 10)['train/loss']:.4f}")
            self.writer.heartbeat(self.at * 10, eta=float(self.total - self.at))

    def stop(self) -> None:
        """No more points."""
        self._ended.set()
        self.join(5)
        self.writer.finish("finished", 0)
        self.writer.close()
