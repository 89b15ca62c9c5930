"""Runs, and studies whose runs build on each other, trained in this process on tiny data."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

from lsc_engine.runs.folder.writer import create_run
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.execute import execute
from lsc_engine.training.job import Job
from lsc_engine.training.signals import Signals

BASE = """
[data]
dataset = "digits"
[model]
name = "encoder"
width = 0.1
dim = 4
[target]
method = "lsc"
system = "V21"
[optimizer]
lr = 3e-3
[train]
duration = "3 epochs"
batch_size = 64
"""


class After(Signals):
    """Real signals, sent to this process when a given step is reached."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self._at, self._number = step, number

    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
        if step >= self._at and self.stop is None:
            os.kill(os.getpid(), self._number)


def train_one(
    root: Path, preset: str, *sets: str, name: str = "t", signals: Signals | None = None, again: bool = False
) -> Any:
    """The first run of a preset, trained, or trained further where it is there `again`."""
    file = root / "t.toml"
    file.write_text(preset)
    plan = plan_study(file, name=name, sets=sets)
    folder = root / "runs" / plan.runs[0].id
    if not again:
        create_run(folder, plan.runs[0].config, {})
    with signals or Signals() as inside:
        state = execute(
            Job(folder, root / "runs"), plan.runs[0].config, device=torch.device("cpu"), signals=inside, echo=False,
             progress=inside.update if isinstance(inside, After) else None,
        )  # fmt: skip
    found = open_run(folder)
    assert found.status().state == state, found.log_path.read_text()
    return found


def variant(name: str, *lines: str) -> str:
    return "\n".join(["[[variants]]", f'name = "{name}"', *lines, ""])


def trained(root: Path, *variants: str, base: str = BASE, sets: tuple[str, ...] = (), name: str = "s") -> Any:
    """The runs of a preset by variant, each trained after those it needs; runs that are there already go on."""
    file = root / f"{name}.toml"
    file.write_text(base + "".join(variants))
    found = {}
    for run in plan_study(file, sets=sets).runs:
        folder = root / "runs" / run.id
        if not folder.exists():
            create_run(folder, run.config, {})
        go_on(root, folder, run.config)
        found[run.config.variant] = open_run(folder)
    return found


def go_on(root: Path, folder: Path, config: Any, signals: Any = None) -> Any:
    """Train one run, from its newest checkpoint where it has one; the run."""
    if open_run(folder).status().state != "finished":
        with signals or Signals() as inside:
            execute(Job(folder, root / "runs"), config, device=torch.device("cpu"), signals=inside,
                    echo=False, progress=getattr(inside, "update", None))  # fmt: skip
    return open_run(folder)


def weights(run: Any) -> dict[str, torch.Tensor]:
    """The tensors of a run's newest checkpoint."""
    from safetensors.torch import load_file

    return load_file(sorted((run.path / "checkpoints").iterdir())[-1] / "model.safetensors")


def first(run: Any, metric: str) -> tuple[int, float]:
    """Step and value of a metric's first line."""
    steps, values = run.history(metric)
    return int(steps[0]), float(values[0])
