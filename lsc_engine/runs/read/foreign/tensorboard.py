"""TensorBoard event files (`*tfevents*`): records of a length, its masked crc32c, an Event message and its crc32c.
Scalars are read, also those of TensorFlow 2, which writes them as tensors; all else is passed over."""

from __future__ import annotations

import importlib
import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from lsc_engine.runs.read.foreign.log import Damaged, Decoder, FileLog, NewRows
from lsc_engine.runs.read.foreign.wire import fields, text

# A longer record holds pictures, sound or a graph.
_MOST = 1 << 18
# TensorProto.dtype -> numpy's name: float, double, int32, int64.
_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def _by_table(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _checksum() -> Callable[[bytes], int]:
    """crc32c, of google-crc32c if it is installed."""
    try:
        found: Callable[[bytes], int] = importlib.import_module("google_crc32c").value
        return found
    except ImportError:
        return _by_table


crc32c = _checksum()


def masked(data: bytes) -> int:
    """The checksum as it is stored: crc32c rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF


class Events(Decoder):
    """One event file."""

    def __init__(self) -> None:
        self._began = math.nan

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        """Whole events, up to the first with a wrong checksum."""
        at = 0
        while at + 12 <= len(data):
            length, check = struct.unpack_from("<QI", data, at)
            body = at + 12
            if masked(data[at : at + 8]) != check:
                return _stop(at, "the length of a record has a wrong checksum")
            if length > _MOST:
                return at or 16 + length
            if body + length + 4 > len(data):
                break
            event = data[body : body + length]
            if masked(event) != struct.unpack_from("<I", data, body + length)[0]:
                return _stop(at, "a record has a wrong checksum")
            self._take(event, rows)
            at = body + length + 4
        return at

    def _take(self, event: bytes, rows: NewRows) -> None:
        step, wall, values = 0, math.nan, dict[str, float]()
        try:
            for number, value in fields(event):
                if number == 1 and isinstance(value, bytes) and len(value) == 8:
                    (wall,) = struct.unpack("<d", value)
                elif number == 2 and isinstance(value, int):
                    step = value
                elif number == 5 and isinstance(value, bytes):
                    values.update(filter(None, (_scalar(part) for key, part in fields(value) if key == 1)))
        except ValueError:
            return
        if not math.isfinite(self._began):
            self._began = wall
        if values:
            rows.add(step, values, wall - self._began if math.isfinite(wall) else None, values.pop("epoch", None))


def _stop(at: int, why: str) -> int:
    """Keep what came before; at the first record there is nothing to keep."""
    if at == 0:
        raise Damaged(why)
    return at


def _scalar(message: int | bytes) -> tuple[str, float] | None:
    tag, found = "", None
    if isinstance(message, int):
        return None
    for number, value in fields(message):
        if isinstance(value, int):
            continue
        if number == 1:
            tag = text(value)
        elif number == 2 and len(value) == 4:
            (found,) = struct.unpack("<f", value)
        elif number == 8:
            found = _tensor(value)
    return None if found is None or not tag else (tag, float(found))


def _tensor(message: bytes) -> float | None:
    """The number in a TensorProto without dimensions; None for any other."""
    kind, content = 0, b""
    for number, value in fields(message):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and value != b"":
            return None
        elif number in (4, 5, 6, 7, 10):
            # Integers outside tensor_content are varints, alone or packed into bytes.
            if isinstance(value, int):
                return float(value - (value >> 63 << 64))
            content = value
    if kind not in _TYPES or len(content) != np.dtype(_TYPES[kind]).itemsize:
        return None
    return float(np.frombuffer(content, _TYPES[kind])[0])


class TensorBoard(FileLog):
    """A folder of event files, which are attempts in the order of their names (these hold the time)."""

    origin, decoder = "tensorboard", Events

    @classmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        """The folder is one run if event files lie in it."""
        return [cls(folder)] if any("tfevents" in name for name in names) else []

    def files(self) -> list[Path]:
        """The event files."""
        return sorted(path for path in self.folder.glob("*tfevents*") if path.is_file())
