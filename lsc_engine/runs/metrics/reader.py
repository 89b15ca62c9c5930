"""metrics.jsonl as columns, while it grows: appended by one writer, read by many at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsc_engine.common.safe_io import UnreadableError, opened, read_tail
from lsc_engine.runs.metrics.parsing import MAX_LINE, MAX_NAMES, Columns, Floats, Ints, parse_block, parse_line

MAX_METRICS = 4 << 30
# How many layers are fixed; only runs that fix layers as they go on have it.
FIXED = "model/fixed_layers"
_READ = 4 << 20
_SIGNATURE = 256
_AXES = ("epoch", "time")
# Lines without a new name after which the search for last values ends.
_ENOUGH_LINES = 32


def ordered(columns: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """`columns` (steps, attempts, values) by rising step, of each step the latest attempt and in it the last row."""
    step, attempt = columns[:2]
    if len(step) < 2 or bool((step[1:] > step[:-1]).all()):
        return columns
    order = np.lexsort((attempt, step))
    step = step[order]
    order = order[np.append(step[1:] != step[:-1], True)]
    return [column[order] for column in columns]


def layers_fixed(counts: Floats) -> Ints:
    """The places in `counts` [N], the values of FIXED, at which there were more than before; 0 before the first."""
    known = np.where(np.isfinite(counts), counts, 0.0)
    highest = np.concatenate([[0.0], np.maximum.accumulate(known)])
    return np.flatnonzero(known > highest[:-1])


class _Growing:
    """Arrays of equal length that grow together. A part that is not shorter than the one before is joined to it, so a
    file that is followed for days has few."""

    def __init__(self, *kinds: type[np.generic]) -> None:
        self.parts: list[list[NDArray[Any]]] = [[np.empty(0, kind) for kind in kinds]]

    def append(self, *part: NDArray[Any]) -> None:
        self.parts.append([*part])
        while len(self.parts) > 1 and len(self.parts[-2][0]) <= len(self.parts[-1][0]):
            self._join(2)

    def _join(self, count: int) -> None:
        self.parts[-count:] = [[np.concatenate(column) for column in zip(*self.parts[-count:], strict=True)]]

    def arrays(self) -> list[NDArray[Any]]:
        if len(self.parts) > 1:
            self._join(len(self.parts))
        return self.parts[0]


class MetricsTable:
    """All rows read so far, as columns."""

    def __init__(self) -> None:
        # Line number, step and attempt; and of each name the numbers of the rows that hold it, and its values.
        self._heads = _Growing(np.int64, np.int64, np.int64)
        self._found: dict[str, _Growing] = {}
        self._count = 0
        # Per name and names beside it: how many rows are in its columns; and these, steps and attempts first.
        self._columns: dict[tuple[str, ...], tuple[int, list[NDArray[Any]]]] = {}
        self._starts: dict[int, int] = {}
        self.lines = 0
        self.garbage = 0

    def __len__(self) -> int:
        return self._count

    def add(self, data: bytes) -> None:
        """Take in whole lines."""
        (line, step, attempt), columns, lines, garbage = parse_block(data, self.lines)
        self.append(line, step, attempt, columns)
        self.lines += lines
        self.garbage += garbage

    def append(self, line: Ints, step: Ints, attempt: Ints, columns: Columns) -> None:
        """Take in rows, which come after all others; `columns` counts from the first of them."""
        for name, (rows, values) in columns.items():
            if name in self._found or len(self._found) < MAX_NAMES:
                self._found.setdefault(name, _Growing(np.int64, np.float64)).append(rows + self._count, values)
        for number, at in zip(*(found.tolist() for found in np.unique(attempt, return_index=True)), strict=True):
            self._starts.setdefault(number, int(step[at]))
        self._heads.append(line, step, attempt)
        self._count += len(step)

    def _column(self, name: str, first: int) -> tuple[Ints, Floats]:
        """The rows from number `first` on that hold `name`, and its values there."""
        rows, values = self._found[name].arrays() if name in self._found else (np.empty(0, np.int64), np.empty(0))
        at = int(np.searchsorted(rows, first))
        return rows[at:], values[at:]

    def rows(self, first: int = 0) -> list[tuple[int, int, dict[str, float]]]:
        """Step, attempt and values (epoch and time too) of the lines from number `first` on, in their order."""
        line, step, attempt = self._heads.arrays()
        begin = int(np.searchsorted(line, first))
        heads = zip(step[begin:].tolist(), attempt[begin:].tolist(), strict=True)
        found = [(step, attempt, dict[str, float]()) for step, attempt in heads]
        for name in self._found:
            for row, value in zip(*(column.tolist() for column in self._column(name, begin)), strict=True):
                found[row - begin][2][name] = value
        return found

    def newest(self) -> tuple[dict[str, float], int]:
        """The last value of each metric, and the highest step."""
        series = {name: self.series(name) for name in self.names}
        found = {name: float(values[-1]) for name, (step, values) in series.items() if step.size}
        return found, max((int(step[-1]) for step, _ in series.values() if step.size), default=0)

    @property
    def names(self) -> list[str]:
        """Metric names, in the order in which they first appeared (epoch and time are axes, not metrics)."""
        return [name for name in self._found if name not in _AXES]

    @property
    def without_epochs(self) -> bool:
        """Whether there are rows and none has an epoch: other tools log by step alone."""
        return len(self) > 0 and "epoch" not in self._found

    def columns(self, name: str, *beside: str) -> tuple[Ints, tuple[Floats, ...]]:
        """Steps in rising order, and at each the values of `name` and `beside` (NaN where absent); of a repeated step
        the latest attempt's last line. The arrays never change; a later call orders only what was added since."""
        nothing: list[NDArray[Any]] = [*np.empty((2, 0), np.int64), *np.empty((1 + len(beside), 0))]
        done, known = self._columns.get((name, *beside), (0, nothing))
        rows, values = self._column(name, done)
        if len(rows):
            _, step, attempt = (head[rows] for head in self._heads.arrays())
            others = np.full((len(beside), len(self) - done), np.nan)
            for column, other in zip(others, beside, strict=True):
                at, numbers = self._column(other, done)
                column[at - done] = numbers
            fresh = ordered([step, attempt, values, *others[:, rows - done]])
            kept = int(np.searchsorted(known[0], fresh[0][0]))
            mixed = ordered([np.concatenate([old[kept:], new]) for old, new in zip(known, fresh, strict=True)])
            known = [np.concatenate([old[:kept], new]) for old, new in zip(known, mixed, strict=True)]
        self._columns[name, *beside] = len(self), known
        return known[0], tuple(known[2:])

    def series(self, name: str) -> tuple[Ints, Floats]:
        step, (values,) = self.columns(name)
        return step, values

    def attempt_starts(self) -> list[int]:
        """The first step logged by each attempt, in order of attempts: from the second on, where the run resumed."""
        return [self._starts[number] for number in sorted(self._starts)]


class MetricsTail:
    """Follows a metrics file; one that shrank or was replaced is read from its beginning (`generation` rises)."""

    table_type: type[MetricsTable] = MetricsTable

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.problem: str | None = None
        self._reset()

    def _reset(self) -> None:
        self.table = self.table_type()
        self._inode: tuple[int, int] | None = None
        self._offset = 0
        # What was read last.
        self._signature = b""
        self._in_long_line = False
        self.behind = False
        self.waiting = 0

    def poll(self, budget: int = MAX_METRICS) -> int:
        """Read about `budget` new bytes at most; the number of new rows. `behind`, `waiting`: whether and how many
        bytes are left. Never raises: `problem` is a sentence if the file cannot be read."""
        try:
            with opened(self.path) as descriptor:
                info = os.fstat(descriptor)
                start = self._offset - len(self._signature)
                same = self._inode in (None, (info.st_dev, info.st_ino))
                if not same or os.pread(descriptor, len(self._signature), start) != self._signature:
                    self._reset()
                    self.generation += 1
                self._inode = (info.st_dev, info.st_ino)
                before = len(self.table)
                self._read(descriptor, budget)
        except UnreadableError as error:
            self.problem = str(error)
            return 0
        self.problem = None
        return len(self.table) - before

    def _read(self, descriptor: int, budget: int) -> None:
        size = min(os.fstat(descriptor).st_size, MAX_METRICS)
        end = min(size, self._offset + max(budget, MAX_LINE))
        while self._offset < end:
            data = os.pread(descriptor, min(_READ, end - self._offset), self._offset)
            whole = data[: data.rfind(b"\n") + 1]
            if not whole and len(data) < MAX_LINE:
                # A last line without newline counts if it is whole (a JSON object cut short never is).
                if end < size or self._in_long_line or not data.endswith(b"}") or parse_line(data) is None:
                    break
                self.table.add(data + b"\n")
                whole = data
            elif self._in_long_line and whole:
                self.table.garbage += 1
                self.table.add(whole[whole.find(b"\n") + 1 :])
            elif whole:
                self.table.add(whole)
            # A line longer than any of ours is left behind.
            self._in_long_line = not whole
            taken = whole or data
            self._offset += len(taken)
            self._signature = (self._signature + taken[-_SIGNATURE:])[-_SIGNATURE:]
        self.behind, self.waiting = end < size, max(0, size - end)


def read_last(path: Path, size: int = 16 << 10) -> dict[str, float]:
    """The newest values in the last `size` bytes, for lists of many runs. UnreadableError."""
    found: dict[str, float] = {}
    idle = 0
    for line in reversed(read_tail(path, size).split(b"\n")):
        if idle > _ENOUGH_LINES:
            break
        if line.strip() and (row := parse_line(line)) is not None:
            known = len(found)
            found |= {name: value for name, value in row[2].items() if name not in found and name not in _AXES}
            idle = idle + 1 if len(found) == known else 0
    return found
