"""Lines of metrics.jsonl, and many of them as columns. Line: {"step", "epoch", "time", "attempt", "<name>": value, …};
`time` is training seconds so far over all attempts. A value that is not finite is null, and "nonfinite" holds which:
{"nonfinite": {"train/loss": "nan"}}."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# Per name the rows that hold it, rising, and its values there.
Columns = dict[str, tuple[Ints, Floats]]

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


def columns_of(table: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[int], list[Any]]]:
    """Per name in `table`, a mapping a row, the rows that hold it and its values there; rows with the same names become
    columns at once, so their order is lost where names change."""
    forms: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(table):
        forms.setdefault(tuple(row), []).append(place)
    found: dict[str, tuple[list[int], list[Any]]] = {}
    for names, places in forms.items():
        for name, column in zip(names, zip(*(table[place].values() for place in places), strict=True), strict=True):
            rows, values = found.setdefault(name, ([], []))
            rows.extend(places)
            values.extend(column)
    return found


def _numbers(table: Sequence[Mapping[str, Any]]) -> Columns:
    """The columns of rows of ours, without values that are no numbers."""
    columns = {}
    for name, (rows, values) in islice(columns_of(table).items(), MAX_NAMES):
        if name in RESERVED or len(name) > MAX_KEY:
            continue
        if not set(map(type, values)) <= {float}:
            numeric = [(row, value) for row in rows if (value := _value(table[row], name)) is not None]
            rows, values = [row for row, _ in numeric], [value for _, value in numeric]
        if rows:
            at = np.array(rows, np.int64)
            order = np.argsort(at, kind="stable")
            columns[name] = at[order], np.array(values, np.float64)[order]
    return columns


def parse_block(data: bytes, first: int) -> tuple[list[Ints], Columns, int, int]:
    """Line numbers, steps and attempts of the rows in whole lines, the first of number `first`, and their columns; how
    many lines there are, and how many are garbage."""
    from pydantic_core import from_json

    lines = data.split(b"\n")[:-1]
    table, numbers, garbage = list[dict[str, Any]](), list[int](), 0
    for number, line in enumerate(lines, first):
        if (row := _row(line, from_json)) is not None:
            numbers.append(number)
            table.append(row)
        else:
            garbage += bool(line.strip())
    heads = numbers, *([row[name] for row in table] for name in ("step", "attempt"))
    return [np.array(head, np.int64) for head in heads], _numbers(table), len(lines), garbage
