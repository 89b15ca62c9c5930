"""The metrics of runs as one table: a line per run and step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lsc_engine.common import safe_io
from lsc_engine.runs.read.run import Run

AXES = ("epoch", "time")


def lines(runs: Sequence[Run]) -> tuple[list[str], Iterator[list[Any]]]:
    """Head and lines: run, step, epoch, time, and every metric of any of the runs; None if it was not logged."""
    names = list(dict.fromkeys(name for run in runs for name in run.metric_names() if name not in AXES))
    return ["run", "step", *AXES, *names], (line for run in runs for line in _lines(run, names))


def _lines(run: Run, names: Sequence[str]) -> Iterator[list[Any]]:
    logged = {name: run.axes(name) for name in run.metric_names() if name not in AXES}
    steps = np.unique(np.concatenate([axes[0] for axes in logged.values()])) if logged else np.empty(0, np.int64)
    columns: dict[str, list[float | None]] = {name: [None] * steps.size for name in (*AXES, *names)}
    for name, (step, values, epoch, time) in logged.items():
        at = np.searchsorted(steps, step).tolist()
        for column, found in ((name, values), ("epoch", epoch), ("time", time)):
            for row, value in zip(at, found.tolist(), strict=True):
                if column == name or math.isfinite(value):
                    columns[column][row] = value
    yield from ([run.id, *line] for line in zip(steps.tolist(), *columns.values(), strict=True))


def write_csv(runs: Sequence[Run], path: Path) -> None:
    """Write the table as CSV, whole or not at all: what was not logged is empty, what was not finite reads nan, inf or
    -inf. Raises OSError."""
    head, rows = lines(runs)
    safe_io.write_csv(path, chain([head], rows))
