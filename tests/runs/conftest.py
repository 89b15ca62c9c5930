"""What the tests of run folders share: settings of a run and a folder made from them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.runs.folder.writer import create_run
from lsc_engine.runs.metrics.reader import MetricsTable, MetricsTail

TOML = """title = "test"
{extra}
[data]
dataset = "digits"
[model]
name = "mlp"
dim = {dim}
[target]
method = "{method}"
system = "V21"
loss = "{loss}"
[optimizer]
lr = {lr}
[train]
duration = "10 steps"
[compare]
baseline = "a"
levels = {{ "train/accuracy" = [0.5], "train/loss" = [0.5] }}
"""


def read_metrics(path: Path) -> MetricsTable:
    """The whole file as columns. UnreadableError when it cannot be read."""
    tail = MetricsTail(path)
    tail.poll()
    if tail.problem is not None:
        raise UnreadableError(tail.problem)
    return tail.table


@dataclass(frozen=True)
class Data:
    """Where the images of a run are: nowhere in particular."""

    path: str | None = None


@dataclass(frozen=True)
class Settings:
    """Settings of one run as the run folder needs them."""

    study: str = "group/study"
    variant: str = "a"
    seed: int = 0
    method: str = "lsc"
    loss: str = "cosine"
    dim: int = 10
    lr: float = 1e-3
    extra: str = ""
    data: Data = Data()

    def to_toml(self) -> str:
        """A preset."""
        fields = {"method": self.method, "loss": self.loss, "dim": self.dim, "lr": self.lr, "extra": self.extra}
        return TOML.format(**fields) + f"[study]\nseed = {self.seed}\n"

    def to_table(self) -> dict[str, object]:
        """The same as tables."""
        return tomllib.loads(self.to_toml())


MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Creates queued run folders below `tmp_path / "runs"`."""

    def make(root: Path = tmp_path / "runs", **changes: object) -> Path:
        settings = Settings(**changes)  # type: ignore[arg-type]
        folder = root / settings.study / settings.variant / f"seed-{settings.seed}"
        return create_run(folder, settings, {"command": "test"})

    return make
