"""metrics.jsonl: one JSON object per line, appended by one writer, read by many at once.

Line: {"step", "epoch", "time", "attempt", "<name>": value, ...}. `time` is training seconds so far over all attempts.
A value that is not finite is null, and "nonfinite" holds which: {"nonfinite": {"train/loss": "nan"}}.
After a resume steps repeat: the latest attempt wins. A torn last line is left alone until it is whole.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from lsc_engine.common.safe_io import UnreadableError, opened, read_tail
from lsc_engine.runs.metrics.columns import GrowingColumns
from lsc_engine.runs.metrics.parsing import (
    MAX_LINE,
    MAX_NAMES,
    Floats,
    Ints,
    Rows,
    parse_block,
    parse_line,
)

MAX_METRICS = 4 << 30
_READ = 4 << 20
_SIGNATURE = 256
_AXES = ("epoch", "time")
# So many lines without a new name end the search for last values.
_ENOUGH_LINES = 32


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
        """Parse whole lines and add their rows."""
        lines, garbage = parse_block(data, self.lines, self._groups)
        self.lines += lines
        self.garbage += garbage

    @property
    def names(self) -> list[str]:
        """Metric names, in the order in which they first appeared (epoch and time are axes, not metrics)."""
        seen: dict[str, None] = {}
        for group in self._groups:
            seen.update(dict.fromkeys(group.names))
            if len(seen) > MAX_NAMES:
                break
        return [name for name in list(seen)[:MAX_NAMES] if name not in _AXES]

    def columns(self, name: str, *beside: str) -> tuple[Ints, tuple[Floats, ...]]:
        """Steps in rising order, and at each the values of `name` and of the columns `beside` (NaN where absent).

        Only rows that hold `name`; where a step repeats, the latest attempt, and in it the last line. The arrays stay
        as they are when rows are added later; asking again costs what was added since.
        """
        return self._growing(name, beside).update(self._groups)

    def parse(self, name: str, *beside: str) -> None:
        """Do the slow part of `columns` for the rows added since, so that many small portions replace a long wait."""
        self._growing(name, beside).parse(self._groups)

    def _growing(self, name: str, beside: tuple[str, ...]) -> GrowingColumns:
        key = (name, *beside)
        if key not in self._grown:
            self._grown[key] = GrowingColumns(name, beside)
        return self._grown[key]

    def attempt_starts(self) -> list[int]:
        """The first step logged by each attempt, in order of attempts: from the second on, where the run resumed."""
        for group in self._groups[self._attempts_of :]:
            if not len(group):
                continue
            line, step, attempt = group.heads
            numbers, at = np.unique(attempt, return_index=True)
            for number, index in zip(numbers.tolist(), at.tolist(), strict=True):
                found = (int(line[index]), int(step[index]))
                self._attempts[number] = min(self._attempts.get(number, found), found)
        # Only the last group can still grow.
        self._attempts_of = max(0, len(self._groups) - 1)
        return [self._attempts[number][1] for number in sorted(self._attempts)]

    def series(self, name: str) -> tuple[Ints, Floats]:
        """Steps in rising order and the values of `name`."""
        step, (values,) = self.columns(name)
        return step, values

    def last(self) -> dict[str, float]:
        """The value of every metric at its highest step."""
        return {name: float(self.series(name)[1][-1]) for name in self.names}


class MetricsTail:
    """Follows a metrics file: each `poll` reads what is new.

    A file that shrank, was replaced or was rewritten in place is read again from its beginning (`generation` rises).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.problem: str | None = None
        self._reset()

    def _reset(self) -> None:
        self.table = MetricsTable()
        self._inode: tuple[int, int] | None = None
        self._offset = 0
        self._signature = b""
        self._in_long_line = False
        self._ended_without_newline: bytes | None = None
        self.behind = False
        self.waiting = 0

    def poll(self, budget: int = MAX_METRICS) -> int:
        """Read at most about `budget` new bytes into `table`; returns the number of new rows.

        `behind`: whether more is left to read, `waiting`: how many bytes. Never raises: `problem` is a sentence if
        the file cannot be read.
        """
        try:
            with opened(self.path) as descriptor:
                before = self._rewind_if_replaced(descriptor)
                self._read(descriptor, budget)
        except UnreadableError as error:
            self.problem = str(error)
            return 0
        self.problem = None
        return len(self.table) - before

    def _rewind_if_replaced(self, descriptor: int) -> int:
        """Start again if this is not the file read before; returns the rows there are."""
        info = os.fstat(descriptor)
        inode = (info.st_dev, info.st_ino)
        # What was read last, and a last line that was counted before its newline came.
        known = self._signature + (self._ended_without_newline or b"")
        start = self._offset - len(self._signature)
        same = self._inode in (None, inode) and os.pread(descriptor, len(known), start) == known
        if not same:
            self._reset()
            self.generation += 1
        self._inode = inode
        return len(self.table)

    def _read(self, descriptor: int, budget: int) -> None:
        size = min(os.fstat(descriptor).st_size, MAX_METRICS)
        end = min(size, self._offset + max(budget, MAX_LINE))
        while self._offset < end:
            data = os.pread(descriptor, min(_READ, end - self._offset), self._offset)
            cut = data.rfind(b"\n") + 1
            if not data or not (cut or self._skip_long_line(data)):
                break
            if cut:
                self._take(data[:cut])
        self.behind, self.waiting = end < size, max(0, size - end)
        if not self.behind and self._offset < size:
            self._take_unended(os.pread(descriptor, min(MAX_LINE, size - self._offset), self._offset))

    def _skip_long_line(self, data: bytes) -> bool:
        """Leave a line behind that is longer than any line of ours; False for a short one that may still grow."""
        if len(data) < MAX_LINE:
            return False
        self._in_long_line = True
        self._advance(data)
        return True

    def _take(self, data: bytes) -> None:
        self._advance(data)
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

    def _take_unended(self, data: bytes) -> None:
        """A last line without newline counts if it is whole (a JSON object cut short never is)."""
        if self._in_long_line or self._ended_without_newline is not None or not data.endswith(b"}"):
            return
        if b"\n" not in data and parse_line(data) is not None:
            self._ended_without_newline = data
            self.table.add(data + b"\n")

    def _advance(self, data: bytes) -> None:
        self._offset += len(data)
        self._signature = (self._signature + data[-_SIGNATURE:])[-_SIGNATURE:]


def read_metrics(path: Path) -> MetricsTable:
    """The whole file as columns. Raises UnreadableError when it cannot be read."""
    tail = MetricsTail(path)
    tail.poll()
    if tail.problem is not None:
        raise UnreadableError(tail.problem)
    return tail.table


def read_last(path: Path, size: int = 16 << 10) -> dict[str, float]:
    """The newest values found in the last `size` bytes: cheap enough for a list of a thousand runs.

    Raises UnreadableError when the file cannot be read.
    """
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
