"""CSV and JSON lines with a column that counts: Lightning's and Keras' CSVLogger, YOLO's results.csv, timm's
summary.csv, DeiT's log.txt, OpenMMLab's scalars.json."""

from __future__ import annotations

import csv
import json
import math
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

from lsc_engine.common.safe_io import UnreadableError, opened
from lsc_engine.runs.metrics.parsing import MAX_STEP
from lsc_engine.runs.read.foreign.log import Column, Damaged, Decoder, FileLog, Names, NewRows, Replaced

_STEPS = ("step", "global_step", "trainer/global_step", "_step", "iter", "iteration", "iterations", "epoch", "epochs")
_EPOCHS = ("epoch", "epochs")
_TIMES = ("time", "_runtime", "elapsed", "time_elapsed", "elapsed_time")
# Loggers write these, with the counting column anywhere; in other files it comes first.
_KNOWN_CSV = ("metrics.csv", "results.csv", "summary.csv", "progress.csv")
_JSON_NAMES = ("log.txt", "scalars.json")
_FIRST = 1 << 16
_MOST_CANDIDATES = 30


def number(value: Any) -> float | None:
    """A value of a table as a number; None for empty cells, words and yes or no."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        # float() takes "1_000" too, and a number of any length.
        return float(value) if not isinstance(value, str) or "_" not in value else None
    except (ValueError, OverflowError):
        return None


@lru_cache(1000)
def _plain(name: str) -> str:
    return name.strip().lower()


def counting(names: Sequence[str]) -> str:
    """Which of the columns counts: steps before epochs; "" if none does."""
    plain = {_plain(name): name for name in names}
    return next((plain[name] for name in _STEPS if name in plain), "")


def add(row: Mapping[str, Any], rows: NewRows) -> bool:
    """Add one row of a table; whether it has a whole number in its counting column and others beside it."""
    values = {name: found for name, cell in row.items() if (found := number(cell)) is not None}
    counter = counting(list(values))
    step = values.get(counter, math.nan)
    if not step.is_integer():
        return False
    epoch = next((values[name] for name in values if _plain(name) in _EPOCHS), None)
    time = next((values[name] for name in values if _plain(name) in _TIMES), None)
    known = (*_STEPS, *_TIMES)
    rest = {name: value for name, value in values.items() if _plain(name) not in known}
    if rest:
        rows.add(int(step), rest, time, epoch)
    return bool(rest)


def add_columns(columns: dict[str, Column], count: int, rows: NewRows) -> bool:
    """Add `count` rows of a table at once, per column its rows and values; False, and nothing is added, unless each has
    a step in the counting column."""
    at, numbers = columns.get(counting(list(columns)), ((), ()))
    try:
        steps = list(map(int, numbers))
    except (ValueError, OverflowError):
        return False
    if len(at) < count or steps != list(numbers) or min(steps, default=0) < 0 or max(steps, default=0) >= MAX_STEP:
        return False
    axes = {}
    for axis, known in (("epoch", _EPOCHS), ("time", _TIMES)):
        axes[axis] = next((columns[name] for name in columns if _plain(name) in known), ((), ()))
    rest = {name: column for name, column in columns.items() if _plain(name) not in (*_STEPS, *_TIMES)}
    rows.add_columns(steps, rest, **axes)
    return True


def columns_of(table: Sequence[Any]) -> dict[str, Column] | None:
    """Per name its rows and values; None unless `table` holds flat objects of equal names only."""
    names = table[0].keys() if table and type(table[0]) is dict else ()
    if not names or any(type(row) is not dict or row.keys() != names for row in table):
        return None
    columns: dict[str, Column] = {}
    for name in names:
        column = [row[name] for row in table]
        kinds = set(map(type, column))
        if dict in kinds:
            return None
        if kinds <= {int, float}:
            with suppress(OverflowError):
                columns[name] = (range(len(column)), list(map(float, column)))
                continue
        numbers = [(row, found) for row, cell in enumerate(column) if (found := number(cell)) is not None]
        columns[name] = ([row for row, _ in numbers], [found for _, found in numbers])
    return columns


class Lines(Decoder):
    """A file of lines."""

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        end = data.rfind(b"\n") + 1
        if not self.block(data[:end], rows):
            for line in data[:end].split(b"\n"):
                if line.strip():
                    self.line(line.decode("utf-8-sig", "replace").strip("\r"), rows)
        return end

    def block(self, data: bytes, rows: NewRows) -> bool:
        """Take many lines at once if they are as plain as most files are; whether they were taken."""
        return False

    def resume(self, data: bytes) -> int:
        return data.find(b"\n") + 1 or len(data)

    @abstractmethod
    def line(self, line: str, rows: NewRows) -> None:
        """Take one line. Raises Damaged if no row of this file can be understood."""


class CsvLines(Lines):
    """Rows under a head; a line that repeats or changes the head begins a new one."""

    def __init__(self) -> None:
        self.head: list[str] = []

    def block(self, data: bytes, rows: NewRows) -> bool:
        """Lines of numbers and empty cells only, as many as there are names, each with a step."""
        if not self.head:
            first, _, data = data.partition(b"\n")
            self.line(first.decode("utf-8-sig", "replace").strip("\r"), rows)
        width = len(self.head)
        lines = data.count(b"\n")
        cells = data.decode("latin-1").replace("\n", ",").split(",")
        if width < 2 or len(set(self.head)) < width or len(cells) != lines * width + 1 or b"_" in data or b'"' in data:
            return False
        columns: dict[str, Column] = {}
        try:
            for place, name in enumerate(self.head):
                column = cells[place:-1:width]
                present = [row for row, cell in enumerate(column) if cell and not cell.isspace()]
                columns[name] = (present, [float(column[row]) for row in present])
        except ValueError:
            return False
        return add_columns(columns, lines, rows)

    def line(self, line: str, rows: NewRows) -> None:
        try:
            cells = next(csv.reader([line]), [])
        except csv.Error:
            return
        if counting(cells):
            self.head = cells
        elif not self.head:
            raise Damaged("no column counts steps or epochs")
        else:
            add(dict(zip(self.head, cells, strict=False)), rows)


class JsonLines(Lines):
    """An object a line."""

    def block(self, data: bytes, rows: NewRows) -> bool:
        """Lines that each hold one value of JSON."""
        from pydantic_core import from_json

        lines = [line for line in data.split(b"\n") if line.strip()]
        try:
            table = from_json(b"[" + b",".join(lines) + b"]")
        except ValueError:
            return False
        if len(table) != len(lines):
            return False
        columns = columns_of(table)
        if columns is None or not add_columns(columns, len(table), rows):
            for row in table:
                if isinstance(row, dict):
                    add(flat(row), rows)
        return True

    def line(self, line: str, rows: NewRows) -> None:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return
        if isinstance(row, dict):
            add(flat(row), rows)


def flat(table: Mapping[str, Any], before: str = "", depth: int = 4) -> dict[str, Any]:
    """Nested tables as one, with names joined by slashes."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict) and depth:
            found |= flat(value, f"{before}{name}/", depth - 1)
        else:
            found[f"{before}{name}"] = value
    return found


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
        try:
            head = next(csv.reader(_first(path)[:1]), [])
        except csv.Error:
            return False
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
        rows = NewRows(Names())
        try:
            for line in _first(path)[:3]:
                JsonLines().line(line, rows)
        except Replaced:
            return True
        return bool(rows.steps)
