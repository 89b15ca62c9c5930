"""The metrics of runs as one table: a line per run and step. Torch-free."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsc_engine.runs.files import whole_file
from lsc_engine.runs.metrics.parsing import Floats
from lsc_engine.runs.read.run import Run

PLACES = ("epoch", "time")


def metrics_of(run: Run) -> tuple[Floats, dict[str, Floats], dict[str, Floats]]:
    """Steps [N], epoch and time [N], and every metric [N]: NaN where a step has none of it, or where it was NaN."""
    names = [name for name in run.metric_names() if name not in PLACES]
    found = {name: run.axes(name) for name in names}
    steps = np.unique(np.concatenate([axes[0] for axes in found.values()])) if found else np.empty(0, np.int64)
    places = {place: np.full(steps.size, np.nan) for place in PLACES}
    columns = {}
    for name, (step, values, epoch, time) in found.items():
        at = np.searchsorted(steps, step)
        column = np.full(steps.size, np.nan)
        column[at] = values
        columns[name] = column
        for place, its in zip(PLACES, (epoch, time), strict=True):
            places[place][at] = np.where(np.isfinite(its), its, places[place][at])
    return steps.astype(np.float64), places, columns


def lines(runs: Sequence[Run]) -> tuple[list[str], Iterator[list[Any]]]:
    """Head and lines: run, step, epoch, time, and every metric of any of the runs; None where it was not logged."""
    names = list(dict.fromkeys(name for run in runs for name in run.metric_names() if name not in PLACES))
    return ["run", "step", *PLACES, *names], _lines(runs, names)


def _lines(runs: Sequence[Run], names: Sequence[str]) -> Iterator[list[Any]]:
    for run in runs:
        steps, places, columns = metrics_of(run)
        logged = {name: set(run.history(name)[0].tolist()) for name in columns if not np.isfinite(columns[name]).all()}
        for row, step in enumerate(steps.astype(np.int64).tolist()):
            line: list[Any] = [run.id, step, *(_plain(places[place][row]) for place in PLACES)]
            for name in names:
                column = columns.get(name)
                value = None if column is None else float(column[row])
                absent = value is None or (not math.isfinite(value) and step not in logged.get(name, ()))
                line.append(None if absent else value)
            yield line


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def write_csv(runs: Sequence[Run], path: Path) -> int:
    """Write the table as CSV, whole or not at all: what was not logged is empty, what was not finite reads nan, inf or
    -inf. Returns the number of lines."""
    head, rows = lines(runs)
    count = 0
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(head)
        for line in rows:
            writer.writerow(["" if cell is None else repr(cell) if isinstance(cell, float) else cell for cell in line])
            count += 1
    return count
