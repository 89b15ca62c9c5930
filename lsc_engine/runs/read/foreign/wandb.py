"""W&B's `.wandb` files, written online and offline: blocks of 32 768 bytes as in LevelDB's log, each fragment with its
crc32, joined to Record messages. Only rows of history are read."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from zlib import crc32

from lsc_engine.runs.read.foreign.log import MAX_RECORD, Damaged, Decoder, FileLog, NewRows
from lsc_engine.runs.read.foreign.tables import flat, number
from lsc_engine.runs.read.foreign.wire import fields, text

_BLOCK, _HEAD = 32768, 7
_MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class Records(Decoder):
    """One file."""

    aligned = _BLOCK

    def __init__(self) -> None:
        self._open: bytearray | None = None

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        """Whole fragments, up to the first with a wrong checksum."""
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
                return _stop(at, "a record of no known kind or beyond its block")
            if end > len(data):
                return at
            if crc32(data[at + 6 : end]) != check:
                return _stop(at, "a record has a wrong checksum")
            self._join(kind, data[at + _HEAD : end], rows)
            at = end

    def resume(self, data: bytes) -> int:
        """A block begins with a fragment."""
        self._open = None
        return 0

    def _join(self, kind: int, part: bytes, rows: NewRows) -> None:
        if kind in (_FULL, _FIRST):
            self._open = bytearray()
        if self._open is None:
            return
        self._open += part
        if len(self._open) > MAX_RECORD:
            self._open = None
        elif kind in (_FULL, _LAST):
            record, self._open = bytes(self._open), None
            try:
                for key, value in fields(record):
                    if key == 2 and isinstance(value, bytes):
                        _history(value, rows)
            except ValueError:
                return


def _stop(at: int, why: str) -> int:
    if at == 0:
        raise Damaged(why)
    return at


def _items(message: bytes, field: int) -> dict[str, Any]:
    """The items in a message: names (parts of a nested one joined by slashes) and what their JSON holds."""
    found: dict[str, Any] = {}
    for key, item in fields(message):
        if key != field or isinstance(item, int):
            continue
        parts = list(fields(item))
        name = "/".join(text(value) for key, value in parts if key in (1, 2) and value)
        raw = next((value for key, value in parts if key == 16 and isinstance(value, bytes)), b"")
        try:
            found[name] = json.loads(raw)
        except (ValueError, RecursionError):
            continue
    return found


def _history(message: bytes, rows: NewRows) -> None:
    """A HistoryRecord: items (1) and its step (2, whose field 1 is the number)."""
    values = flat(_items(message, 1))
    step = next((n for key, part in fields(message) if key == 2 and isinstance(part, bytes)
                 for k, n in fields(part) if k == 1 and isinstance(n, int)), None)  # fmt: skip
    counted = number(values.get("_step"))
    if counted is not None and counted.is_integer():
        step = int(counted)
    kept = {name: n for name, value in values.items() if not name.startswith("_") and (n := number(value)) is not None}
    epoch, time = kept.pop("epoch", None), number(values.get("_runtime"))
    if kept:
        rows.add(step or 0, kept, time if time is not None and math.isfinite(time) else None, epoch)


class Wandb(FileLog):
    """A folder of a run of W&B, with its one `.wandb` file."""

    origin, decoder = "wandb", Records

    @classmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        """Each `run-ID.wandb`."""
        return [cls(folder, name) for name in sorted(names) if name.endswith(".wandb")]

    def files(self) -> list[Path]:
        """The one file."""
        return [self.folder / self.name]

    @property
    def printed(self) -> Path:
        """What W&B caught of the output."""
        return self.folder / "files" / "output.log"
