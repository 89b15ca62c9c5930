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

from lsc_engine.runs.read.foreign.log import MAX_RECORD, Damaged, Decoder, FileLog, NewRows, stop_at
from lsc_engine.runs.read.foreign.tables import flat, number
from lsc_engine.runs.read.foreign.wire import fields, text

_BLOCK, _HEAD = 32768, 7
_MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
# Sets of names whose rows are recognised; those of further ones are taken apart field by field.
_MOST_FORMS = 8


class Records(Decoder):
    """One file."""

    aligned = _BLOCK

    def __init__(self) -> None:
        super().__init__()
        self._open: bytearray | None = None
        self._forms: list[tuple[re.Pattern[bytes], tuple[str, ...]]] = []

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        """Whole fragments, up to the first with a wrong checksum."""
        at = 0
        if offset == 0:
            if data[:_HEAD] != _MAGIC[: len(data)]:
                raise Damaged("it does not begin like a file of W&B")
            at = _HEAD if len(data) >= _HEAD else 0
        while at or offset:
            room = _BLOCK - (offset + at) % _BLOCK
            if room < _HEAD:
                # The end of a block is filled with zeros.
                if at + room > len(data):
                    break
                at += room
                continue
            if at + _HEAD > len(data):
                break
            check, length, kind = struct.unpack_from("<IHB", data, at)
            end = at + _HEAD + length
            if length + _HEAD > room or not _FULL <= kind <= _LAST:
                return stop_at(at, "a record of no known kind or beyond its block")
            if end > len(data):
                break
            if crc32(data[at + 6 : end]) != check:
                return stop_at(at, "a record has a wrong checksum")
            if kind in (_FULL, _FIRST):
                self._open = bytearray()
            if self._open is not None:
                self._open += data[at + _HEAD : end]
                if kind in (_FULL, _LAST):
                    self._take(bytes(self._open), rows)
                if kind in (_FULL, _LAST) or len(self._open) > MAX_RECORD:
                    self._open = None
            at = end
        return at

    def resume(self, data: bytes) -> int:
        self._open = None
        return 0

    def _take(self, record: bytes, rows: NewRows) -> None:
        """Rows of history most often have the names of one of the rows before, and numbers."""
        with suppress(ValueError):
            for place, (form, names) in enumerate(self._forms):
                if found := form.match(record):
                    self._forms.insert(0, self._forms.pop(place))
                    _add(dict(zip(names, map(float, found.groups()), strict=True)), rows)
                    return
            for key, value in fields(record):
                if key == 2 and isinstance(value, bytes):
                    values = _history(value)
                    _add(values, rows)
                    names = tuple(values)
                    if len(self._forms) < _MOST_FORMS and not any(names == known for _, known in self._forms):
                        self._forms.append((_form(names), names))


def _form(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """A record of history with these names, short values and a step: its groups are the numbers."""
    number = rb"([-+.0-9eE]++|NaN|-?Infinity)"
    items = (rb"\x0a[\x00-\x7f][\x0a\x12][\x00-\x7f]" + re.escape(n.encode()) + rb"\x82\x01." + number for n in names)
    varint = rb"[\x80-\xff]*[\x00-\x7f]"
    begin, step = rb"(?:\x08" + varint + rb")?\x12" + varint, rb"(?:\x12[\x00-\x7f]\x08" + varint + rb")?"
    # What follows are fields of the record behind its history.
    return re.compile(begin + b"".join(items) + step + rb"(?![\x0a\x12])", re.DOTALL)


def _history(message: bytes) -> dict[str, float]:
    """The numbers of a HistoryRecord: items (1) of name and JSON; its step (2, field 1) as _step if no item has it."""
    from pydantic_core import from_json

    found: dict[str, Any] = {}
    step = None
    for key, part in fields(message):
        if isinstance(part, int):
            continue
        if key == 2 and step is None:
            step = next((n for k, n in fields(part) if k == 1 and isinstance(n, int)), None)
        elif key == 1:
            item = list(fields(part))
            raw = next((value for k, value in item if k == 16 and isinstance(value, bytes)), b"")
            with suppress(ValueError):
                found["/".join(text(value) for k, value in item if k in (1, 2) and value)] = from_json(raw)
    values = {name: n for name, value in flat(found).items() if (n := number(value)) is not None}
    if not values.get("_step", math.nan).is_integer():
        values["_step"] = float(step or 0)
    return values


def _add(values: Mapping[str, float], rows: NewRows) -> None:
    time, step = values.get("_runtime", math.nan), values["_step"]
    kept = {name: n for name, n in values.items() if not name.startswith("_")}
    if kept.keys() - {"epoch"} and step.is_integer():
        rows.add(int(step), kept, time if math.isfinite(time) else None)


class Wandb(FileLog):
    """A folder of a run of W&B, with its one `.wandb` file."""

    origin, decoder = "wandb", Records

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.printed = folder / "files" / "output.log"

    @classmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        return [cls(folder, name) for name in sorted(names) if name.endswith(".wandb")]
