"""metrics.jsonl as columns, while it grows: one JSON object per line, appended by one writer, read by many at once.
Line: {"step", "epoch", "time", "attempt", "<name>": value, ...}. `time` is training seconds so far over all attempts. A
value that is not finite is null, and "nonfinite" holds which: {"nonfinite": {"train/loss": "nan"}}."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsc_engine.common.safe_io import UnreadableError, opened, read_tail
from lsc_engine.runs.metrics.parsing import MAX_LINE, MAX_NAMES, ColumnRows, Floats, Ints, Rows, parse_block, parse_line

MAX_METRICS = 4 << 30
# How many layers are fixed; only runs that fix layers as they go on have it.
FIXED = "model/fixed_layers"
_READ = 4 << 20
_SIGNATURE = 256
_AXES = ("epoch", "time")
# Lines without a new name after which the search for last values ends.
_ENOUGH_LINES = 32
_FIRST_ROOM = 1024


class GrowingColumns:
    """Steps in rising order, and at each the values of `name` and of the columns `beside` (NaN where absent). Rows that
    go on are appended to arrays with room to spare, rows that go back (a resume) are merged; arrays once handed out
    never change."""

    def __init__(self, name: str, beside: tuple[str, ...]) -> None:
        self._name = name
        self._beside = beside
        self._group = self._row = 0
        self._count = 0
        # Steps, attempts, then the values.
        self._arrays: list[NDArray[Any]] = [np.empty(0, np.int64), np.empty(0, np.int64)]
        self._arrays += [np.empty(0) for _ in (name, *beside)]

    def parse(self, groups: list[Rows]) -> None:
        """Turn the text of new rows into numbers, so that the next `update` has only to put them together."""
        for group in groups[self._group :]:
            for name in (self._name, *self._beside):
                group.column(name)

    def update(self, groups: list[Rows]) -> tuple[Ints, tuple[Floats, ...]]:
        """Take in the rows that `groups` (only ever longer than before) hold beyond the last call."""
        parts = [part for part in self._fresh(groups) if len(part[0])]
        if parts:
            line, *fresh = (np.concatenate(column) for column in zip(*parts, strict=True))
            self._put(_ordered(fresh, line))
        step, _, *values = (array[: self._count] for array in self._arrays)
        return step, tuple(values)

    def _fresh(self, groups: list[Rows]) -> list[tuple[NDArray[Any], ...]]:
        """Line, step, attempt and values of the new rows, group by group."""
        parts = []
        for index in range(self._group, len(groups)):
            group = groups[index]
            rows, values = group.column(self._name)
            if self._row and index == self._group:
                begin = int(np.searchsorted(rows, self._row))
                rows, values = rows[begin:], values[begin:]
            beside = []
            for at, numbers in (group.column(other) for other in self._beside):
                full = np.full(len(group), np.nan)
                full[at] = numbers
                beside.append(full[rows])
            parts.append((*(head[rows] for head in group.heads), values, *beside))
        if groups:
            # Only the last group can still grow.
            self._group, self._row = len(groups) - 1, len(groups[-1])
        return parts

    def _put(self, fresh: list[NDArray[Any]]) -> None:
        count, first = self._count, fresh[0][0]
        if count and first <= self._arrays[0][count - 1]:
            kept = int(np.searchsorted(self._arrays[0][:count], first))
            mixed = [np.concatenate([old[kept:count], new]) for old, new in zip(self._arrays, fresh, strict=True)]
            mixed = _ordered(mixed, np.arange(len(mixed[0])))
            self._arrays = [np.concatenate([old[:kept], new]) for old, new in zip(self._arrays, mixed, strict=True)]
            self._count = len(self._arrays[0])
            return
        end = count + len(fresh[0])
        if not count:
            # Most files are read once from end to end: no room, no copy.
            self._arrays, self._count = fresh, end
            return
        if end > len(self._arrays[0]):
            room = max(3 * end // 2, _FIRST_ROOM)
            self._arrays = [
                np.concatenate([array[:count], np.empty(room - count, array.dtype)]) for array in self._arrays
            ]
        for array, new in zip(self._arrays, fresh, strict=True):
            array[count:end] = new
        self._count = end


def _ordered(columns: list[NDArray[Any]], line: Ints) -> list[NDArray[Any]]:
    """`columns` (steps, attempts, values) by rising step, of each step the latest attempt and in it the last line."""
    step, attempt = columns[0], columns[1]
    if len(step) < 2 or bool((step[1:] > step[:-1]).all()):
        return columns
    order = np.lexsort((line, attempt, step))
    step = step[order]
    order = order[np.append(step[1:] != step[:-1], True)]
    return [column[order] for column in columns]


def layers_fixed(counts: Floats) -> Ints:
    """The places in `counts` [N], the values of FIXED, at which there were more than before; 0 before the first."""
    known = np.where(np.isfinite(counts), counts, 0.0)
    highest = np.concatenate([[0.0], np.maximum.accumulate(known)])
    return np.flatnonzero(known > highest[:-1])


class MetricsTable:
    """All rows read so far, as columns."""

    def __init__(self) -> None:
        self._groups: list[Rows] = []
        self._grown: dict[tuple[str, ...], GrowingColumns] = {}
        self._attempts: dict[int, tuple[int, int]] = {}
        self._attempts_of = 0
        self.lines = 0
        self.garbage = 0

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups)

    def add(self, data: bytes) -> None:
        lines, garbage = parse_block(data, self.lines, self._groups)
        self.lines += lines
        self.garbage += garbage

    def add_group(self, group: ColumnRows) -> None:
        self.lines += len(group)
        self._groups.append(group)

    def rows(self, first: int = 0) -> list[tuple[int, int, dict[str, float]]]:
        """Step, attempt and values (epoch and time too) of the lines from number `first` on, in their order."""
        found: dict[int, tuple[int, int, dict[str, float]]] = {}
        for group in self._groups:
            begin = int(np.searchsorted(group.heads[0], first))
            lines, steps, attempts = (head[begin:].tolist() for head in group.heads)
            if not lines:
                continue
            fresh = [(step, attempt, dict[str, float]()) for step, attempt in zip(steps, attempts, strict=True)]
            for name in group.names:
                rows, values = group.column(name)
                at = int(np.searchsorted(rows, begin))
                for row, value in zip(rows[at:].tolist(), values[at:].tolist(), strict=True):
                    fresh[row - begin][2][name] = value
            found.update(zip(lines, fresh, strict=True))
        return [found[line] for line in sorted(found)]

    def newest(self) -> tuple[dict[str, float], int]:
        series = {name: self.series(name) for name in self.names}
        found = {name: float(values[-1]) for name, (step, values) in series.items() if step.size}
        return found, max((int(step[-1]) for step, _ in series.values() if step.size), default=0)

    @property
    def names(self) -> list[str]:
        """Metric names, in the order in which they first appeared (epoch and time are axes, not metrics)."""
        seen: dict[str, None] = {}
        for group in self._groups:
            seen.update(dict.fromkeys(group.names))
            if len(seen) > MAX_NAMES:
                break
        return [name for name in list(seen)[:MAX_NAMES] if name not in _AXES]

    @property
    def without_epochs(self) -> bool:
        """Whether there are rows and none has an epoch: other tools log by step alone."""
        return bool(self._groups) and not any("epoch" in group.names for group in self._groups)

    def columns(self, name: str, *beside: str) -> tuple[Ints, tuple[Floats, ...]]:
        """Steps in rising order, and at each the values of `name` and `beside` (NaN where absent); of a repeated step
        the latest attempt's last line. The arrays never change; a later call costs what was added since."""
        return self._grown.setdefault((name, *beside), GrowingColumns(name, beside)).update(self._groups)

    def parse(self, name: str, *beside: str) -> None:
        """Do the slow part of `columns` for the rows added since, so that many small portions replace a long wait."""
        self._grown.setdefault((name, *beside), GrowingColumns(name, beside)).parse(self._groups)

    def attempt_starts(self) -> list[int]:
        """The first step logged by each attempt, in order of attempts: from the second on, where the run resumed."""
        for group in self._groups[self._attempts_of :]:
            line, step, attempt = group.heads
            numbers, at = np.unique(attempt, return_index=True)
            for number, index in zip(numbers.tolist(), at.tolist(), strict=True):
                found = (int(line[index]), int(step[index]))
                self._attempts[number] = min(self._attempts.get(number, found), found)
        # Only the last group can still grow.
        self._attempts_of = max(0, len(self._groups) - 1)
        return [self._attempts[number][1] for number in sorted(self._attempts)]

    def series(self, name: str) -> tuple[Ints, Floats]:
        step, (values,) = self.columns(name)
        return step, values


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
        self._signature = b""
        self._in_long_line = False
        self._ended_without_newline: bytes | None = None
        self.behind = False
        self.waiting = 0

    def poll(self, budget: int = MAX_METRICS) -> int:
        """Read about `budget` new bytes at most; the number of new rows. `behind`, `waiting`: whether and how many
        bytes are left. Never raises: `problem` is a sentence if the file cannot be read."""
        try:
            with opened(self.path) as descriptor:
                info = os.fstat(descriptor)
                # What was read last, and a last line that was counted before its newline came.
                known = self._signature + (self._ended_without_newline or b"")
                start = self._offset - len(self._signature)
                same = self._inode in (None, (info.st_dev, info.st_ino))
                if not same or os.pread(descriptor, len(known), start) != known:
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
            cut = data.rfind(b"\n") + 1
            if not cut and len(data) < MAX_LINE:
                # A short line may still grow; one longer than any line of ours is left behind.
                break
            self._take(data[:cut] or data)
        self.behind, self.waiting = end < size, max(0, size - end)
        if self.behind or self._in_long_line or self._ended_without_newline is not None:
            return
        # A last line without newline counts if it is whole (a JSON object cut short never is).
        data = os.pread(descriptor, min(MAX_LINE, max(0, size - self._offset)), self._offset)
        if data.endswith(b"}") and b"\n" not in data and parse_line(data) is not None:
            self._ended_without_newline = data
            self.table.add(data + b"\n")

    def _take(self, data: bytes) -> None:
        self._offset += len(data)
        self._signature = (self._signature + data[-_SIGNATURE:])[-_SIGNATURE:]
        if not data.endswith(b"\n"):
            self._in_long_line = True
            return
        if self._in_long_line:
            data = data[data.find(b"\n") + 1 :]
            self._in_long_line = False
            self.table.garbage += 1
        if self._ended_without_newline is not None:
            # This line was read already, before its newline came.
            line, newline, rest = data.partition(b"\n")
            data = rest if line == self._ended_without_newline else line + newline + rest
            self._ended_without_newline = None
        if data:
            self.table.add(data)


def read_last(path: Path, size: int = 16 << 10) -> dict[str, float]:
    """The newest values in the last `size` bytes, for lists of many runs. UnreadableError."""
    found: dict[str, float] = {}
    idle = 0
    for line in reversed(read_tail(path, size).split(b"\n")):
        if idle > _ENOUGH_LINES:
            break
        row = parse_line(line) if line.strip() else None
        if row is None:
            continue
        known = len(found)
        for name, value in row[2].items():
            if name not in _AXES:
                found.setdefault(name, value)
        idle = idle + 1 if len(found) == known else 0
    return found
