"""CSV and JSON lines with a column that counts: Lightning's and Keras' CSVLogger, YOLO's results.csv, timm's
summary.csv, DeiT's log.txt, OpenMMLab's scalars.json."""

from __future__ import annotations

import csv
import json
import math
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

from lsc_engine.common.safe_io import UnreadableError, opened
from lsc_engine.runs.read.foreign.log import Damaged, Decoder, FileLog, NewRows

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
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        # float() takes "1_000" too, and a number of any length.
        return float(value) if not isinstance(value, str) or "_" not in value else None
    except (ValueError, OverflowError):
        return None


@lru_cache(1000)
def columns_of(names: tuple[str, ...]) -> tuple[str, str, str, tuple[str, ...]]:
    """The columns of step (an epoch if there is no other), epoch and time, "" for none; and all others."""
    plain = {name.strip().lower(): name for name in names}
    step, epoch, time = (next((plain[key] for key in keys if key in plain), "") for keys in (_STEPS, _EPOCHS, _TIMES))
    return step, epoch, time, tuple(name for name in names if name.strip().lower() not in (*_STEPS, *_TIMES))


def add(row: Mapping[str, Any], rows: NewRows) -> None:
    """Add one row of a table if it has a whole number in its counting column and others beside it."""
    values = {name: found for name, cell in row.items() if (found := number(cell)) is not None}
    step, epoch, time, others = columns_of(tuple(values))
    count = values.get(step, math.nan)
    if others and count.is_integer():
        kept = {name: values[name] for name in others}
        rows.add(int(count), {**kept, "epoch": values[epoch]} if epoch else kept, values.get(time))


class Lines(Decoder):
    """A file of lines."""

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        end = data.rfind(b"\n") + 1
        for line in data[:end].split(b"\n"):
            if line and not line.isspace():
                self.line(line.decode("utf-8-sig", "replace").strip("\r"), rows)
        return end

    def resume(self, data: bytes) -> int:
        return data.find(b"\n") + 1 or len(data)

    @abstractmethod
    def line(self, line: str, rows: NewRows) -> None:
        """Take one line. Raises Damaged if no row of this file can be understood."""


class CsvLines(Lines):
    """Rows under a head; a line that repeats or changes the head begins a new one."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def line(self, line: str, rows: NewRows) -> None:
        try:
            cells = next(csv.reader([line]), [])
        except csv.Error:
            return
        if not self.names or not line.lstrip()[:1].isdecimal():
            if columns_of(tuple(cells))[0]:
                self.names = cells
                return
            if not self.names:
                raise Damaged("no column counts steps or epochs")
        add(dict(zip(self.names, cells, strict=False)), rows)


class JsonLines(Lines):
    """An object a line."""

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

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.printed = folder / name

    @classmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        """Files of a likely name whose first lines, at most 64 KiB of them, have a counting column."""
        found = []
        for name in sorted(name for name in names if cls.may_be(name))[:_MOST_CANDIDATES]:
            try:
                with opened(folder / name) as descriptor:
                    text = os.pread(descriptor, _FIRST, 0).decode("utf-8-sig", "replace")
            except UnreadableError:
                continue
            if cls.counts(name, text.split("\n")[:-1]):
                found.append(cls(folder, name))
        return found

    @classmethod
    @abstractmethod
    def may_be(cls, name: str) -> bool:
        """Whether a file of this name is worth a look."""

    @classmethod
    @abstractmethod
    def counts(cls, name: str, lines: list[str]) -> bool:
        """Whether its first lines have a counting column."""


class Csv(TableLog):
    """A CSV file."""

    origin: ClassVar[str] = "csv"
    decoder = CsvLines

    @classmethod
    def may_be(cls, name: str) -> bool:
        return name.lower().endswith(".csv")

    @classmethod
    def counts(cls, name: str, lines: list[str]) -> bool:
        """A known name with a counting column, or one whose first column counts."""
        try:
            head = next(csv.reader(lines[:1]), [])
        except csv.Error:
            return False
        return len(head) > 1 and bool(columns_of(tuple(head if name in _KNOWN_CSV else head[:1]))[0])


class Jsonl(TableLog):
    """A file of JSON objects, one a line."""

    origin: ClassVar[str] = "jsonl"
    decoder = JsonLines

    @classmethod
    def may_be(cls, name: str) -> bool:
        return name.lower().endswith((".jsonl", ".log.json")) or name in _JSON_NAMES

    @classmethod
    def counts(cls, name: str, lines: list[str]) -> bool:
        """One of the first lines is an object that counts and holds another number."""
        rows = NewRows()
        for line in lines[:3]:
            JsonLines().line(line, rows)
        return bool(rows.steps)
