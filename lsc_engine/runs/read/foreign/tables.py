"""CSV and JSON lines with a column that counts: Lightning's and Keras' CSVLogger, YOLO's results.csv, timm's
summary.csv, DeiT's log.txt, OpenMMLab's scalars.json."""

from __future__ import annotations

import csv
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from lsc_engine.common.safe_io import UnreadableError, opened
from lsc_engine.runs.metrics.parsing import columns_of
from lsc_engine.runs.metrics.reader import MetricsTable
from lsc_engine.runs.read.foreign.log import (
    Column,
    Damaged,
    Decoder,
    FileLog,
    Names,
    NewRows,
    Replaced,
    flat,
    numbers,
    whole,
)

_STEPS = ("step", "global_step", "trainer/global_step", "_step", "iter", "iteration", "iterations", "epoch", "epochs")
_EPOCHS = ("epoch", "epochs")
_TIMES = ("time", "_runtime", "elapsed", "time_elapsed", "elapsed_time")
# Loggers write these, with the counting column anywhere; in other files it comes first.
_KNOWN_CSV = ("metrics.csv", "results.csv", "summary.csv", "progress.csv")
_JSON_NAMES = ("log.txt", "scalars.json")
_FIRST = 1 << 16
_MOST_CANDIDATES = 30


@lru_cache(1000)
def _plain(name: str) -> str:
    return name.strip().lower()


def counting(names: Sequence[str]) -> str:
    """Which of the columns counts: steps before epochs; "" if none does."""
    plain = {_plain(name): name for name in names}
    return next((plain[name] for name in _STEPS if name in plain), "")


def add(columns: Mapping[str, Column], count: int, rows: NewRows) -> None:
    """Add the `count` rows of a table, by their steps, else epochs."""
    plain = {name: _plain(name) for name in columns}
    steps = np.full(count, np.nan)
    for known in reversed(_STEPS):
        for name in (name for name in columns if plain[name] == known):
            at, values = numbers(*columns[name])
            steps[at] = values
    axes: dict[str, Column] = {}
    for axis, names in (("epoch", _EPOCHS), ("time", _TIMES)):
        axes[axis] = next((columns[name] for name in columns if plain[name] in names), ((), ()))
    rest = {name: column for name, column in columns.items() if plain[name] not in (*_STEPS, *_TIMES)}
    rows.add(steps, rest, **axes)


def parsed(raw: object) -> dict[str, Any]:
    """The JSON object in a text; an empty one for anything else."""
    from pydantic_core import from_json

    try:
        found = from_json(raw) if isinstance(raw, (str, bytes)) else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class Lines(Decoder):
    """A file of lines."""

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        end = data.rfind(b"\n") + 1
        lines = data[:end].decode("utf-8-sig", "replace").split("\n")
        self.take([line.rstrip("\r") for line in lines if line and not line.isspace()], rows)
        return end

    def resume(self, data: bytes) -> int:
        return data.find(b"\n") + 1 or len(data)

    @abstractmethod
    def take(self, lines: list[str], rows: NewRows) -> None:
        """Add the rows in lines. Raises Damaged if no row of this file can be understood."""


class CsvLines(Lines):
    """Rows under a head; a line that repeats or changes the head begins a new one."""

    def __init__(self) -> None:
        self.head: list[str] = []

    def take(self, lines: list[str], rows: NewRows) -> None:
        heads = [place for place, line in enumerate(lines) if not line[0].isdigit() and counting(_cells(line))]
        if lines and not self.head and heads[:1] != [0]:
            raise Damaged("no column counts steps or epochs")
        for first, last in pairwise([-1, *heads, len(lines)]):
            if first >= 0:
                self.head = _cells(lines[first])
            table = [_cells(line) for line in lines[first + 1 : last]]
            columns = {
                name: whole([cells[place] if place < len(cells) else "" for cells in table])
                for place, name in enumerate(self.head)
            }
            add(columns, len(table), rows)


def _cells(line: str) -> list[str]:
    """The cells of one line; none if it cannot be read."""
    with suppress(csv.Error):
        return next(csv.reader([line]), []) if '"' in line else line.split(",")
    return []


class JsonLines(Lines):
    """An object a line."""

    def take(self, lines: list[str], rows: NewRows) -> None:
        add(columns_of([dict(flat(parsed(line))) for line in lines]), len(lines), rows)


class TableLog(FileLog):
    """One file, which is the run of its folder, or one of several."""

    @classmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        chosen = sorted(name for name in names if cls.may_be(name))[:_MOST_CANDIDATES]
        chosen = [name for name in chosen if cls.counts(folder / name)]
        return [cls(folder, name) for name in chosen]

    @classmethod
    @abstractmethod
    def may_be(cls, name: str) -> bool:
        """Whether a file of this name is worth a look."""

    @classmethod
    @abstractmethod
    def counts(cls, path: Path) -> bool:
        """Whether its first lines have a counting column."""

    def files(self) -> list[Path]:
        return [self.folder / self.name]

    @property
    def printed(self) -> Path:
        return self.folder / self.name


def _first(path: Path) -> list[str]:
    """The first whole lines of a file; none if it cannot be read."""
    try:
        with opened(path) as descriptor:
            data = os.pread(descriptor, _FIRST, 0)
    except UnreadableError:
        return []
    return data.decode("utf-8-sig", "replace").split("\n")[:-1]


class Csv(TableLog):
    """A CSV file."""

    origin: ClassVar[str] = "csv"
    decoder = CsvLines

    @classmethod
    def may_be(cls, name: str) -> bool:
        return name.lower().endswith(".csv")

    @classmethod
    def counts(cls, path: Path) -> bool:
        """A known name with a counting column, or one whose first column counts."""
        head = _cells("".join(_first(path)[:1]).rstrip("\r"))
        return len(head) > 1 and bool(counting(head if path.name in _KNOWN_CSV else head[:1]))


class Jsonl(TableLog):
    """A file of JSON objects, one a line."""

    origin: ClassVar[str] = "jsonl"
    decoder = JsonLines

    @classmethod
    def may_be(cls, name: str) -> bool:
        return name.lower().endswith((".jsonl", ".log.json")) or name in _JSON_NAMES

    @classmethod
    def counts(cls, path: Path) -> bool:
        """One of the first lines is an object that counts and holds another number."""
        table = MetricsTable()
        try:
            JsonLines().take(_first(path)[:3], NewRows(Names(), table))
        except Replaced:
            return True
        return len(table) > 0
