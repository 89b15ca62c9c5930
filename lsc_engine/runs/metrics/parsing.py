"""Lines of metrics.jsonl, and many of them as columns. Line: {"step", "epoch", "time", "attempt", "<name>": value, …};
`time` is training seconds so far over all attempts. A value that is not finite is null, and "nonfinite" holds which:
{"nonfinite": {"train/loss": "nan"}}."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MAX_LINE = 1 << 20
MAX_NAMES = 2000
MAX_KEY = 200
MAX_STEP = 2**53
RESERVED = frozenset({"step", "attempt", "nonfinite"})
_NONFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _whole(value: object) -> int | None:
    if type(value) is int:
        return value if 0 <= value < MAX_STEP else None
    return _whole(int(value)) if isinstance(value, float) and value.is_integer() else None


def _row(line: bytes, loads: Callable[[bytes], object]) -> dict[str, Any] | None:
    """The object of a line, with whole numbers as step and attempt; None for garbage."""
    try:
        row = loads(line) if len(line) <= MAX_LINE else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or (step := _whole(row.get("step"))) is None:
        return None
    row["step"], row["attempt"] = step, _whole(row.get("attempt")) or 1
    return row


def _value(row: Mapping[str, Any], name: str) -> float | None:
    """A value of a row as a number; None if it is none."""
    value = row[name]
    if value is None:
        flags = row.get("nonfinite")
        return _NONFINITE.get(str(flags.get(name)), math.nan) if isinstance(flags, dict) else math.nan
    try:
        return float(value) if type(value) is float or type(value) is int else None
    except OverflowError:
        return None


def parse_line(line: bytes) -> tuple[int, int, dict[str, float]] | None:
    """Step, attempt and values of one line; None for garbage. Values of wrong types are left out."""
    if (row := _row(line, json.loads)) is None:
        return None
    names = (name for name in row if name not in RESERVED and len(name) <= MAX_KEY)
    values = {name: value for name in names if (value := _value(row, name)) is not None}
    return row["step"], row["attempt"], values


def format_line(step: int, epoch: float, time: float, attempt: int, values: Mapping[str, float]) -> bytes:
    """One line with its newline. Raises ValueError for a name that is not a metric name."""
    row: dict[str, object] = {"step": int(step), "epoch": float(epoch), "time": float(time), "attempt": int(attempt)}
    nonfinite: dict[str, str] = {}
    for name, value in values.items():
        if name in RESERVED or name in row or not name.isprintable() or not 0 < len(name) <= MAX_KEY:
            raise ValueError(f"{name!r} is not a metric name")
        number = float(value)
        row[name] = number if math.isfinite(number) else None
        if row[name] is None:
            nonfinite[name] = str(number)
    if nonfinite:
        row["nonfinite"] = nonfinite
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"


@dataclass(frozen=True)
class Rows:
    """Line number, step and attempt of rows [N]; per name the places of those that hold it, rising, and its values."""

    line: Ints
    step: Ints
    attempt: Ints
    columns: dict[str, tuple[Ints, Floats]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.line)

    @classmethod
    def of(
        cls, lines: Sequence[int], steps: Sequence[int], attempts: Sequence[int], table: Sequence[Mapping[str, Any]]
    ) -> Rows:
        """The rows of `table`, name -> value, as columns; values that are no numbers are left out."""
        forms: dict[tuple[str, ...], list[int]] = {}
        for place, row in enumerate(table):
            forms.setdefault(tuple(row), []).append(place)
        found: dict[str, tuple[list[int], list[Any]]] = {}
        # Rows with the same names become columns at once.
        for names, places in forms.items():
            for name, column in zip(names, zip(*(table[place].values() for place in places), strict=True), strict=True):
                if name in found or len(found) < MAX_NAMES:
                    rows, values = found.setdefault(name, ([], []))
                    rows.extend(places)
                    values.extend(column)
        columns = {}
        for name, (rows, values) in found.items():
            if name in RESERVED or len(name) > MAX_KEY:
                continue
            if not set(map(type, values)) <= {float}:
                numeric = [(row, value) for row in rows if (value := _value(table[row], name)) is not None]
                rows, values = [row for row, _ in numeric], [value for _, value in numeric]
            if rows:
                at = np.array(rows, np.int64)
                order = np.argsort(at, kind="stable")
                columns[name] = at[order], np.array(values, np.float64)[order]
        line, step, attempt = (np.array(head, np.int64) for head in (lines, steps, attempts))
        return cls(line, step, attempt, columns)

    def column(self, name: str) -> tuple[Ints, Floats]:
        return self.columns.get(name) or (np.empty(0, np.int64), np.empty(0, np.float64))

    def full(self, name: str) -> Floats:
        """The values of `name` in all rows [N], NaN where it is absent."""
        values = np.full(len(self), np.nan)
        at, found = self.column(name)
        values[at] = found
        return values

    def joined(self, other: Rows) -> Rows:
        """These rows, then those of `other`."""
        pairs = (self.line, other.line), (self.step, other.step), (self.attempt, other.attempt)
        columns = {}
        for name in {**self.columns, **other.columns}:
            (rows, values), (more, others) = self.column(name), other.column(name)
            columns[name] = np.concatenate([rows, more + len(self)]), np.concatenate([values, others])
        line, step, attempt = map(np.concatenate, pairs)
        return Rows(line, step, attempt, columns)


def parse_block(data: bytes, first: int) -> tuple[Rows, int, int]:
    """The rows of whole lines, the first of number `first`; how many lines there are, and how many are garbage."""
    from pydantic_core import from_json

    lines = data.split(b"\n")[:-1]
    table, numbers, garbage = list[dict[str, Any]](), list[int](), 0
    for number, line in enumerate(lines, first):
        if (row := _row(line, from_json)) is not None:
            numbers.append(number)
            table.append(row)
        else:
            garbage += bool(line.strip())
    steps, attempts = ([row[name] for row in table] for name in ("step", "attempt"))
    return Rows.of(numbers, steps, attempts, table), len(lines), garbage
