"""W&B's `.wandb` files, written online and offline: blocks of 32 768 bytes as in LevelDB's log, each fragment with its
crc32, joined to Record messages. Only rows of history are read."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from zlib import crc32

from lsc_engine.runs.read.foreign.log import (
    MAX_RECORD,
    Damaged,
    Decoder,
    FileLog,
    NewRows,
    flat,
    number,
    stop_at,
    whole,
)
from lsc_engine.runs.read.foreign.wire import fields, text

_BLOCK, _HEAD = 32768, 7
_MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
# Sets of names whose rows are read many at once; those of further ones are read one by one.
_MOST_FORMS = 8


class Records(Decoder):
    """One file."""

    aligned = _BLOCK

    def __init__(self) -> None:
        self._open: bytearray | None = None
        self._forms: list[tuple[re.Pattern[bytes], tuple[str, ...]]] = []
        # Values of the first of the forms that are not in rows yet.
        self._waiting: list[tuple[bytes, ...]] = []

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        """Whole fragments, up to the first with a wrong checksum."""
        try:
            return self._decode(data, offset, rows)
        finally:
            self._add_waiting(rows)

    def _decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        at = 0
        if offset == 0:
            if data[:_HEAD] != _MAGIC[: len(data)]:
                raise Damaged("it does not begin like a file of W&B")
            if len(data) < _HEAD:
                return 0
            at = _HEAD
        while True:
            room = _BLOCK - (offset + at) % _BLOCK
            if room < _HEAD:
                # The end of a block is filled with zeros.
                if at + room > len(data):
                    return at
                at += room
                continue
            if at + _HEAD > len(data):
                return at
            check, length, kind = struct.unpack_from("<IHB", data, at)
            end = at + _HEAD + length
            if length + _HEAD > room or not _FULL <= kind <= _LAST:
                return stop_at(at, "a record of no known kind or beyond its block")
            if end > len(data):
                return at
            if crc32(data[at + 6 : end]) != check:
                return stop_at(at, "a record has a wrong checksum")
            self._join(kind, data[at + _HEAD : end], rows)
            at = end

    def resume(self, data: bytes) -> int:
        self._open = None
        return 0

    def _join(self, kind: int, part: bytes, rows: NewRows) -> None:
        if kind == _FULL:
            self._open = None
            self._take(part, rows)
            return
        if kind == _FIRST:
            self._open = bytearray()
        if self._open is None:
            return
        self._open += part
        if len(self._open) > MAX_RECORD:
            self._open = None
        elif kind == _LAST:
            record, self._open = bytes(self._open), None
            self._take(record, rows)

    def _take(self, record: bytes, rows: NewRows) -> None:
        """Rows of history most often have the names of one of the rows before, and numbers."""
        for place, (form, _) in enumerate(self._forms):
            if found := form.match(record):
                if place:
                    self._add_waiting(rows)
                    self._forms.insert(0, self._forms.pop(place))
                self._waiting.append(found.groups())
                return
        self._add_waiting(rows)
        with suppress(ValueError):
            for key, value in fields(record):
                if key == 2 and isinstance(value, bytes):
                    values = _history(value)
                    _add({name: [n] for name, n in values.items()}, rows)
                    names = tuple(values)
                    if len(self._forms) < _MOST_FORMS and not any(names == known for _, known in self._forms):
                        self._forms.append((_form(names), names))

    def _add_waiting(self, rows: NewRows) -> None:
        if not self._waiting:
            return
        table, self._waiting = self._waiting, []
        names = self._forms[0][1]
        _add(
            {name: list(map(float, column)) for name, column in zip(names, zip(*table, strict=True), strict=True)}, rows
        )


def _form(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """A record of history with these names, short values and a step: its groups are the numbers."""
    number = rb"([-+.0-9eE]++|NaN|-?Infinity)"
    items = (rb"\x0a[\x00-\x7f][\x0a\x12][\x00-\x7f]" + re.escape(n.encode()) + rb"\x82\x01." + number for n in names)
    varint = rb"[\x80-\xff]*[\x00-\x7f]"
    begin, step = rb"(?:\x08" + varint + rb")?\x12" + varint, rb"(?:\x12[\x00-\x7f]\x08" + varint + rb")?"
    # What follows are fields of the record behind its history.
    return re.compile(begin + b"".join(items) + step + rb"(?![\x0a\x12])", re.DOTALL)


def _item(message: bytes) -> tuple[str, bytes]:
    """Name (parts of a nested one joined by slashes) and JSON of an item."""
    parts = list(fields(message))
    raw = next((value for key, value in parts if key == 16 and isinstance(value, bytes)), b"")
    return "/".join(text(value) for key, value in parts if key in (1, 2) and value), raw


def _history(message: bytes) -> dict[str, float]:
    """The numbers of a HistoryRecord: items (1), and its step (2, its field 1) as _step if no item has it."""
    from pydantic_core import from_json

    found: dict[str, Any] = {}
    step = None
    for key, part in fields(message):
        if isinstance(part, int):
            continue
        if key == 2 and step is None:
            step = next((n for k, n in fields(part) if k == 1 and isinstance(n, int)), None)
        elif key == 1:
            name, raw = _item(part)
            with suppress(ValueError):
                found[name] = from_json(raw)
    values = {name: n for name, value in flat(found) if (n := number(value)) is not None}
    if not values.get("_step", math.nan).is_integer():
        values["_step"] = float(step or 0)
    return values


def _add(columns: dict[str, list[float]], rows: NewRows) -> None:
    """Add rows that each hold a number in all columns."""
    kept = {name: whole(values) for name, values in columns.items() if not name.startswith("_") and name != "epoch"}
    axes = {"time": whole(columns.get("_runtime", [])), "epoch": whole(columns.get("epoch", []))}
    rows.add(columns["_step"], kept, **axes)


class Wandb(FileLog):
    """A folder of a run of W&B, with its one `.wandb` file."""

    origin, decoder = "wandb", Records

    @classmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        return [cls(folder, name) for name in sorted(names) if name.endswith(".wandb")]

    def files(self) -> list[Path]:
        return [self.folder / self.name]

    @property
    def printed(self) -> Path:
        return self.folder / "files" / "output.log"
