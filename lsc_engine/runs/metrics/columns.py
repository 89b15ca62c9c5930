"""One metric with its axes, kept in order while the file grows: a look costs what is new, not what is there.

Rows that go on behind the last step are appended to arrays with room to spare. Rows that go back (a resume) are
merged from their first step on; where a step repeats, the latest attempt wins, and in it the last line. Arrays once
handed out never change: what is appended lies behind their end, and a merge makes new ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsc_engine.runs.metrics.parsing import Floats, Ints, Rows

_FIRST_ROOM = 1024


class GrowingColumns:
    """Steps in rising order, and at each the values of `name` and of the columns `beside` (NaN where absent)."""

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
            whole = len(rows) == len(group)
            heads = group.heads if whole else tuple(head[rows] for head in group.heads)
            more = []
            for other in self._beside if len(rows) else ():
                at, numbers = group.column(other)
                if len(at) < len(group):
                    full = np.full(len(group), np.nan)
                    full[at] = numbers
                    numbers = full
                more.append(numbers if whole else numbers[rows])
            parts.append((*heads, values, *more))
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
            self._arrays = [_with_room(array[:count], room) for array in self._arrays]
        for array, new in zip(self._arrays, fresh, strict=True):
            array[count:end] = new
        self._count = end


def _with_room(array: NDArray[Any], room: int) -> NDArray[Any]:
    larger = np.empty(room, array.dtype)
    larger[: len(array)] = array
    return larger


def _ordered(columns: list[NDArray[Any]], line: Ints) -> list[NDArray[Any]]:
    """`columns` (steps, attempts, values) by rising step, of each step the latest attempt and in it the last line."""
    step, attempt = columns[0], columns[1]
    if len(step) < 2 or bool((step[1:] > step[:-1]).all()):
        return columns
    order = np.lexsort((line, attempt, step))
    step = step[order]
    order = order[np.append(step[1:] != step[:-1], True)]
    return [column[order] for column in columns]


# How many layers are fixed; only runs that fix layers as they go on have it.
FIXED = "model/fixed_layers"


def layers_fixed(counts: Floats) -> Ints:
    """The places in `counts` [N], the values of FIXED, at which there were more than before; 0 before the first."""
    known = np.where(np.isfinite(counts), counts, 0.0)
    highest = np.concatenate([[0.0], np.maximum.accumulate(known)])
    return np.flatnonzero(known > highest[:-1])
