"""The metrics of runs as one table: a line per run and step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lsc_engine.common import safe_io
from lsc_engine.runs.metrics.parsing import Floats
from lsc_engine.runs.read.run import Run

AXES = ("epoch", "time")


def metrics_of(run: Run) -> tuple[Floats, dict[str, Floats], dict[str, Floats]]:
    """Steps [N], epoch and time [N], and every metric [N]: NaN if a step has none of it, or if it was NaN."""
    found = {name: run.axes(name) for name in run.metric_names() if name not in AXES}
    steps = np.unique(np.concatenate([axes[0] for axes in found.values()])) if found else np.empty(0, np.int64)
    axes = {axis: np.full(steps.size, np.nan) for axis in AXES}
    columns = {}
    for name, (step, values, epoch, time) in found.items():
        at = np.searchsorted(steps, step)
        columns[name] = np.full(steps.size, np.nan)
        columns[name][at] = values
        for axis, known in zip(AXES, (epoch, time), strict=True):
            axes[axis][at] = np.where(np.isfinite(known), known, axes[axis][at])
    return steps.astype(np.float64), axes, columns


def lines(runs: Sequence[Run]) -> tuple[list[str], Iterator[list[Any]]]:
    """Head and lines: run, step, epoch, time, and every metric of any of the runs; None if it was not logged."""
    names = list(dict.fromkeys(name for run in runs for name in run.metric_names() if name not in AXES))
    return ["run", "step", *AXES, *names], (line for run in runs for line in _lines(run, names))


def _lines(run: Run, names: Sequence[str]) -> Iterator[list[Any]]:
    steps, axes, columns = metrics_of(run)
    logged = {name: set(run.history(name)[0].tolist()) for name in columns if not np.isfinite(columns[name]).all()}
    for row, step in enumerate(steps.astype(np.int64).tolist()):
        places = [float(axes[axis][row]) for axis in AXES]
        line: list[Any] = [run.id, step, *(place if math.isfinite(place) else None for place in places)]
        for name in names:
            value = float(columns[name][row]) if name in columns else None
            absent = value is None or (not math.isfinite(value) and step not in logged.get(name, ()))
            line.append(None if absent else value)
        yield line


def write_csv(runs: Sequence[Run], path: Path) -> None:
    """Write the table as CSV, whole or not at all: what was not logged is empty, what was not finite reads nan, inf or
    -inf. Raises OSError."""
    head, rows = lines(runs)
    safe_io.write_csv(path, chain([head], rows))
