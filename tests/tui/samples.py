"""Run folders for the tests of the viewer: made with the engine's own writer, with fixed hosts and times."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lsc_engine.runs.folder.status import Status, read_status, write_status
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import plan_study

PRESET = Path(__file__).parent / "sample.toml"
HOST = "gpu07"
DEVICE = "NVIDIA H100 80GB HBM3 (cuda:2)"
START = 1_795_000_000.0
CHANGED = START + 9_990
STUDY = (
    # variant, seed, state, points, last loss
    ("A-384", 0, "finished", 200, 0.24),
    ("A-384", 1, "running", 142, 0.26),
    ("V21-384", 0, "finished", 200, 0.12),
    ("V21-min", 0, "running", 128, 0.10),
    ("V21-min", 1, "diverged", 24, 0.10),
    ("CE-384", 0, "queued", 0, 1.0),
)


def losses(rng: np.random.Generator, count: int, end: float) -> np.ndarray:
    """A falling loss with noise."""
    t = np.arange(count) / 200
    return np.asarray(end + (1 - end) * np.exp(-5 * t) * (1 + 0.03 * rng.normal(size=count)))


def fill(folder: Path, *, points: int, total: int, end: float, seed: int, attempt_at: int | None = None) -> RunWriter:
    """Write `points` log points of a run of 200; with `attempt_at` the run was resumed there."""
    rng = np.random.default_rng(seed)
    values = losses(rng, 200, end)
    every = total // 200
    writer = RunWriter.open(folder, device=DEVICE, owner="ada", total_steps=total, echo=False)
    for i in range(points):
        if attempt_at is not None and i == attempt_at:
            writer.message("SIGTERM: saved, leaving")
            writer.finish("stopped", 143, "stopped by SIGTERM")
            writer = RunWriter.open(folder, device=DEVICE, owner="ada", total_steps=total, echo=False)
            writer.message(f"resumed at step {i * every}")
        row = {
            "train/loss": float(values[i]),
            "lr": 1e-3,
            "speed/images_per_second": 21_400 + float(rng.integers(-40, 40)),
        }
        if i % 4 == 0:
            row["train/accuracy"] = 1 / (1 + math.exp(-(i - 40) / 12)) * (1 - end / 3)
        writer.metrics((i + 1) * every, i + 1.0, (i + 1) * 14.0, row)
        if i % 10 == 0:
            writer.message(f"epoch {i + 1}  loss {values[i]:.4f}")
    return writer


def fix(folder: Path, **changes: Any) -> Status:
    """Put fixed values into a status, as another host would have written them."""
    fixed = {"host": HOST, "machine": "m", "boot_id": "b", "owner": "ada", "pid": 41207}
    status = replace(read_status(folder), **fixed, **changes)
    write_status(folder, status, durable=False)
    os.utime(folder / "status.json", (CHANGED, CHANGED))
    log = folder / "log.txt"
    if log.exists():
        lines = [line.partition(" ")[2] for line in log.read_text().splitlines()]
        stamped = [f"04:{i // 60 % 60:02d}:{i % 60:02d} {line}" for i, line in enumerate(lines)]
        log.write_text("\n".join(stamped) + "\n")
    return status


def make_study(
    root: Path, rows: Iterable[tuple[str, int, str, int, float]] = STUDY, name: str = "lsc-2025/fig9",
    started: float = START, fixed: bool = True, preset: Path = PRESET,
) -> dict[str, Path]:  # fmt: skip
    """A study in states of every kind; run id -> folder."""
    plan = plan_study(preset, name=name, seeds=(0, 1, 2))
    configs = {run.id: run.config for run in plan.runs}
    out = {}
    for number, (variant, seed, state, points, end) in enumerate(rows):
        identifier = f"{name}/{variant}/seed-{seed}"
        folder = root / identifier
        create_run(folder, configs[identifier], {"command": ["lsc-engine", "run", "demo"]})
        out[identifier] = folder
        total = 800
        if state == "queued":
            if fixed:
                fix(folder, started=None)
            continue
        attempt_at = 70 if variant == "V21-min" and seed == 0 else None
        writer = fill(folder, points=points, total=total, end=end, seed=number, attempt_at=attempt_at)
        if state == "diverged":
            writer.metrics(points * 4 + 4, points + 1.0, points * 14.0, {"train/loss": math.nan})
            writer.finish("diverged", 3, "the loss became NaN at step 100; last good checkpoint step 80: fork from it")
        elif state == "finished":
            writer.finish("finished", 0, "")
        elif state == "failed":
            writer.finish("failed", 1, "CUDA out of memory: 41.2 GB wanted")
        else:
            writer.status(state=state)
            writer.heartbeat(points * 4, eta=(200 - points) * 14.0)
            writer.close()
        if fixed:
            # With such a pace a run of another host never counts as stalled.
            fix(folder, state=state, started=started + number * 100, heartbeat=CHANGED, pace=1e9,
                eta=None if state != "running" else (200 - points) * 14.0, seconds=points * 14.0)  # fmt: skip
    return out
