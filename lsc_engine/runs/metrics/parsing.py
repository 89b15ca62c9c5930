"""Lines of metrics.jsonl as columns. Few or irregular lines go through the JSON parser one by one. Large blocks whose
lines share one form (the same keys in the same order, plain numbers) are cut by array operations, and a column becomes
numbers only when it is requested: a file of 10^6 lines opens without parsing columns that nobody reads."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
_NUMBER_BYTES = b"0123456789+-."
_TEMPLATE_FROM = 1 << 18
_MAX_TEMPLATES = 32
_MIN_TEMPLATE = 64
_MAX_WIDTH = 32
_EXACT_DIGITS = 15


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < MAX_STEP else None


def parse_line(line: bytes) -> tuple[int, int, dict[str, float]] | None:
    """Step, attempt and values of one line; None for garbage. Values of wrong types are left out."""
    if len(line) > MAX_LINE:
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or (step := _whole(row.get("step"))) is None:
        return None
    flags = row.get("nonfinite")
    flags = flags if isinstance(flags, dict) else {}
    values: dict[str, float] = {}
    for key, value in row.items():
        if key in RESERVED or len(key) > MAX_KEY:
            continue
        if value is None:
            values[key] = _NONFINITE.get(str(flags.get(key)), math.nan)
        elif type(value) is float or type(value) is int:
            try:
                values[key] = float(value)
            except OverflowError:
                continue
    return step, _whole(row.get("attempt")) or 1, values


def format_line(step: int, epoch: float, time: float, attempt: int, values: Mapping[str, float]) -> bytes:
    """One line with its newline. Raises ValueError for a name that is not a metric name."""
    row: dict[str, object] = {"step": int(step), "epoch": float(epoch), "time": float(time), "attempt": int(attempt)}
    nonfinite: dict[str, str] = {}
    for name, value in values.items():
        if name in RESERVED or name in row or not name.isprintable() or not 0 < len(name) <= MAX_KEY:
            raise ValueError(f"{name!r} is not a metric name")
        number = float(value)
        if math.isfinite(number):
            row[name] = number
        else:
            row[name] = None
            nonfinite[name] = str(number)
    if nonfinite:
        row["nonfinite"] = nonfinite
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"


class ListRows:
    """Rows parsed one by one; grows until it is full."""

    FULL = 1 << 16

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int]] = []
        self._heads: tuple[Ints, Ints, Ints] | None = None
        self._columns: dict[str, tuple[list[int], list[float]]] = {}
        self._arrays: dict[str, tuple[Ints, Floats]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, line: int, step: int, attempt: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            if name in self._columns or len(self._columns) < MAX_NAMES:
                rows, numbers = self._columns.setdefault(name, ([], []))
                rows.append(len(self._rows))
                numbers.append(value)
                self._arrays.pop(name, None)
        self._rows.append((line, step, attempt))
        self._heads = None

    @property
    def names(self) -> list[str]:
        return list(self._columns)

    @property
    def heads(self) -> tuple[Ints, Ints, Ints]:
        if self._heads is None:
            line, step, attempt = np.array(self._rows, np.int64).reshape(-1, 3).T
            self._heads = line, step, attempt
        return self._heads

    def column(self, name: str) -> tuple[Ints, Floats]:
        if name not in self._arrays:
            rows, numbers = self._columns.get(name, ([], []))
            self._arrays[name] = np.array(rows, np.int64), np.array(numbers, np.float64)
        return self._arrays[name]


def decimals(text: NDArray[np.uint8], lengths: NDArray[np.int32]) -> Floats:
    """The numbers in `text` [rows, width] of these lengths, exactly as by float(). ValueError if one is none."""
    width = text.shape[1]
    padded = np.where(np.arange(width, dtype=np.int32) < lengths[:, None], text, np.uint8(0))
    return padded.view(f"S{width}").ravel().astype(np.float64)


class TemplateRows:
    """Rows of one form, kept as text until a column is requested."""

    def __init__(self, data: bytes, lines: Ints, keys: list[str]) -> None:
        """`data`: whole lines; `lines`: their numbers in the file. ValueError unless all are of one form."""
        self._keys = keys
        self.names = [key for key in keys if key not in RESERVED]
        # Room behind the last value, so that values can be cut out at one width.
        self._data = data + bytes(_MAX_WIDTH)
        self._array = np.frombuffer(self._data, np.uint8)
        self._columns: dict[str, tuple[Ints, Floats]] = {}
        self._cut(len(lines))
        heads = [lines]
        for name in ("step", "attempt"):
            text, lengths = self._text(name) if name in keys else (np.full((len(lines), 1), ord("1"), np.uint8), 1)
            values = decimals(text, np.broadcast_to(lengths, len(lines)))
            if text.shape[1] > _EXACT_DIGITS or (values < 0).any() or (values % 1 != 0).any():
                raise ValueError("not a whole number")
            heads.append(values.astype(np.int64))
        self.heads = heads[0], heads[1], np.maximum(heads[2], 1)

    def __len__(self) -> int:
        return len(self.heads[0])

    def _cut(self, count: int) -> None:
        """Find where each value begins and ends, and that nothing but values differs between the lines."""
        array = self._array
        colons = np.flatnonzero(array == ord(":"))
        ends = np.flatnonzero(array == ord("\n"))
        keys = [json.dumps(key, ensure_ascii=False).encode() for key in self._keys]
        if len(ends) != count or len(colons) != count * len(keys):
            raise ValueError("not of one form")
        starts = colons.reshape(count, len(keys)) + 1
        stops = np.empty_like(starts)
        for column, key in enumerate(keys[1:]):
            stops[:, column] = starts[:, column + 1] - len(key) - 2
        stops[:, -1] = ends - 1
        first = starts[:, 0] - len(keys[0]) - 2
        begins = np.concatenate([[0], ends[:-1] + 1])
        sound = (
            (first == begins).all()
            and (array[begins] == ord("{")).all()
            and (array[stops[:, -1]] == ord("}")).all()
            and (array[stops[:, :-1]] == ord(",")).all()
            and (stops > starts).all()
        )
        # Digits inside a key are not part of the form, so such keys are compared one by one.
        numbered = [key for key in keys if any(byte in _NUMBER_BYTES for byte in key)]
        if not sound or any(self._data.count(key + b":") != count for key in numbered):
            raise ValueError("not of one form")
        self._starts = starts.astype(np.int32)
        self._stops = stops.astype(np.int32)

    def _text(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """The characters of column `name`, [rows, width], commas behind the value; and the lengths."""
        column = self._keys.index(name)
        starts = self._starts[:, column]
        lengths = self._stops[:, column] - starts
        width = int(lengths.max())
        if width > _MAX_WIDTH:
            raise ValueError("a number too long")
        return self._array[starts[:, None] + np.arange(width, dtype=np.int32)], lengths

    def column(self, name: str) -> tuple[Ints, Floats]:
        if name not in self.names:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        if name not in self._columns:
            try:
                self._columns[name] = np.arange(len(self), dtype=np.int64), decimals(*self._text(name))
            except ValueError:
                found: list[tuple[int, float]] = []
                column = self._keys.index(name)
                for row, (start, stop) in enumerate(zip(self._starts[:, column], self._stops[:, column], strict=True)):
                    with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError):
                        found.append((row, float(json.loads(self._data[start:stop]))))
                rows, numbers = zip(*found, strict=True) if found else ((), ())
                self._columns[name] = np.array(rows, np.int64), np.array(numbers, np.float64)
            if len(self._columns) == len(self.names):
                self._data, self._array = b"", np.empty(0, np.uint8)
                self._starts = self._stops = np.empty((0, 0), np.int32)
        return self._columns[name]


@dataclass(frozen=True)
class ColumnRows:
    """Rows that are there as arrays: line number, step and attempt; per name the rows that hold it, and its values."""

    heads: tuple[Ints, Ints, Ints]
    columns: dict[str, tuple[Ints, Floats]]

    def __len__(self) -> int:
        return len(self.heads[0])

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    def column(self, name: str) -> tuple[Ints, Floats]:
        return self.columns.get(name) or (np.empty(0, np.int64), np.empty(0, np.float64))


Rows = ListRows | TemplateRows | ColumnRows


def _template_keys(line: bytes) -> list[str] | None:
    """The keys of a line that may stand for a form: compact JSON, numbers only, no escapes; None otherwise."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or "step" not in row or not len(row) < MAX_NAMES:
        return None
    if any(type(value) is not float and type(value) is not int for value in row.values()):
        return None
    if any(len(key) > MAX_KEY or ":" in key or "\\" in key or '"' in key or not key.isprintable() for key in row):
        return None
    # Exponents are of the values, not of the form; keys must differ in more than digits, or they could change places.
    loose = _NUMBER_BYTES + b"eE"
    keys = [b'"' + key.encode() + b'":' for key in row]
    distinct = len({key.translate(None, loose) for key in keys}) == len(keys)
    form = b"{" + b",".join(keys) + b"}"
    return list(row) if distinct and line.translate(None, loose) == form.translate(None, loose) else None


def parse_block(data: bytes, first: int, groups: list[Rows]) -> tuple[int, int]:
    """Append the rows of whole lines, the first of number `first`, to `groups`; counts of lines and of garbage."""
    count = data.count(b"\n")
    if len(data) < _TEMPLATE_FROM:
        rest: Iterator[tuple[int, bytes]] = enumerate(data.split(b"\n")[:-1], first)
    else:
        form = data.translate(None, _NUMBER_BYTES)
        if form == form[: form.find(b"\n") + 1] * count and (keys := _template_keys(data[: data.find(b"\n")])):
            with contextlib.suppress(ValueError):
                groups.append(TemplateRows(data, np.arange(first, first + count, dtype=np.int64), keys))
                return count, 0
        rest = _parse_forms(data, form.split(b"\n")[:-1], first, groups)
    garbage = 0
    for number, line in rest:
        row = parse_line(line)
        if row is None:
            garbage += bool(line.strip())
            continue
        last = groups[-1] if groups else None
        if not isinstance(last, ListRows) or len(last) >= ListRows.FULL:
            last = ListRows()
            groups.append(last)
        last.append(number, *row)
    return count, garbage


def _parse_forms(data: bytes, forms: list[bytes], first: int, groups: list[Rows]) -> Iterator[tuple[int, bytes]]:
    """Lines of several forms: each common form by itself. Returns the numbers and the text of the others."""
    count = len(forms)
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    begins = np.concatenate([[0], ends[:-1]])
    rest = np.ones(count, np.bool_)
    common = [form for form, members in Counter(forms).most_common(_MAX_TEMPLATES) if members >= _MIN_TEMPLATE]
    numbers = {form: number for number, form in enumerate(common)}
    which = np.fromiter((numbers.get(form, -1) for form in forms), np.int64, count)
    for number in range(len(common)):
        chosen = which == number
        index = np.flatnonzero(chosen)
        keys = _template_keys(data[begins[index[0]] : ends[index[0]] - 1])
        if keys is None:
            continue
        # Neighbouring lines of the form are copied in one piece.
        edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
        pieces = [data[begins[a] : ends[b - 1]] for a, b in edges.tolist()]
        with contextlib.suppress(ValueError):
            groups.append(TemplateRows(b"".join(pieces), index + first, keys))
            rest &= ~chosen
    return ((first + i, data[begins[i] : ends[i] - 1]) for i in np.flatnonzero(rest).tolist())
