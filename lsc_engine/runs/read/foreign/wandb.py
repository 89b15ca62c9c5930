"""W&B's `.wandb` files, written online and offline: blocks of 32 768 bytes as in LevelDB's log, each fragment with its
crc32, joined to Record messages. Only rows of history are read."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from zlib import crc32

from lsc_engine.runs.metrics.parsing import columns_of
from lsc_engine.runs.read.foreign.log import (
    MAX_RECORD,
    Damaged,
    Decoder,
    FileLog,
    NewRows,
    flat,
    number,
    stop_at,
)
from lsc_engine.runs.read.foreign.wire import fields, text

_BLOCK, _HEAD = 32768, 7
_MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
# A row as most are: names of their own and numbers, then its step and other fields of the record.
_ITEM = r"\x0a[\x00-\x7f][\x0a\x12][\x00-\x7f]([\x20-\x7e]+)\x82\x01[\x00-\x7f]([-+.0-9eE]++|NaN|-?Infinity)"
_VARINT = r"[\x80-\xff]*[\x00-\x7f]"
_ITEMS = re.compile(_ITEM)
_USUAL = re.compile(
    rf"(?:\x08{_VARINT})?\x12{_VARINT}((?:{_ITEM})+)(?:\x12[\x00-\x7f]\x08{_VARINT})?(?![\x0a\x12])".encode()
)


class Records(Decoder):
    """One file."""

    aligned = _BLOCK

    def __init__(self) -> None:
        self._open: bytearray | None = None
        self._found: list[Mapping[str, float | str]] = []

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        """Whole fragments, up to the first with a wrong checksum."""
        self._found = []
        try:
            return self._decode(data, offset)
        finally:
            columns = columns_of(self._found)
            steps = [values["_step"] for values in self._found]
            axes = {axis: columns.pop(name, ([], [])) for axis, name in (("time", "_runtime"), ("epoch", "epoch"))}
            rows.add(steps, {name: column for name, column in columns.items() if not name.startswith("_")}, **axes)

    def _decode(self, data: bytes, offset: int) -> int:
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
            self._join(kind, data[at + _HEAD : end])
            at = end

    def resume(self, data: bytes) -> int:
        self._open = None
        return 0

    def _join(self, kind: int, part: bytes) -> None:
        if kind in (_FULL, _FIRST):
            self._open = bytearray()
        if self._open is None:
            return
        self._open += part
        if len(self._open) > MAX_RECORD:
            self._open = None
        elif kind in (_FULL, _LAST):
            record, self._open = bytes(self._open), None
            with suppress(ValueError):
                self._found += _rows(record)


def _rows(record: bytes) -> list[Mapping[str, float | str]]:
    """The numbers of the row of history in a record, if there is one. ValueError."""
    if usual := _USUAL.match(record):
        values = dict(_ITEMS.findall(usual[1].decode("latin-1")))
        if "_step" in values:
            return [values]
    return [_history(value) for key, value in fields(record) if key == 2 and isinstance(value, bytes)]


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
