"""TensorBoard event files (`*tfevents*`): records of a length, its masked crc32c, an Event message and its crc32c.
Scalars are read, also those of TensorFlow 2, which writes them as tensors; all else is passed over."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lsc_engine.runs.read.foreign.log import Decoder, FileLog, NewRows, stop_at
from lsc_engine.runs.read.foreign.wire import fields, text

# A longer record holds pictures, sound or a graph.
_MOST = 1 << 18
_BAD_LENGTH = "the length of a record has a wrong checksum"
# TensorProto.dtype -> struct's letter: float, double, int32, int64.
_TYPES = {1: "<f", 2: "<d", 3: "<i", 9: "<q"}
# An event with one short-named float, as most are: time, step, the lengths of three nested messages and the float.
_SCALAR = re.compile(
    rb"\x09(.{8})(?:\x10([\x80-\xff]{0,7}[\x00-\x7f]))?\x2a([\x00-\x7f])\x0a([\x00-\x7f])\x0a([\x00-\x7f])(.*)\x15(.{4})",
    re.DOTALL,
)


def _table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    return table


_TABLE = _table()


def crc32c(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The checksums of the rows of `data` [N, bytes]: [N]."""
    crc = np.full(len(data), 0xFFFFFFFF, np.uint32)
    for column in data.T:
        crc = _TABLE[(crc ^ column) & 255] ^ crc >> 8
    return crc ^ np.uint32(0xFFFFFFFF)


def _wrong(data: NDArray[np.uint8], begins: Sequence[int], length: int) -> list[int]:
    """Those of `begins` behind whose `length` bytes their checksum does not stand, which is stored rotated by 15 bits
    and with a constant added."""
    at = np.array(begins, np.int64)[:, None]
    crc = crc32c(data[at + np.arange(length)])
    stored = data[at + length + np.arange(4)].view("<u4")[:, 0]
    return at[((crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)) != stored, 0].tolist()


class Events(Decoder):
    """One event file."""

    def __init__(self) -> None:
        super().__init__()
        self._began = math.nan

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        """Whole events, up to the first with a wrong checksum; checksums are those of many at once."""
        begins, by_length, at = list[tuple[int, int]](), dict[int, list[int]](), 0
        while at + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            if length <= _MOST and at + length + 16 > len(data):
                break
            begins.append((at, length))
            if length > _MOST:
                break
            by_length.setdefault(length, []).append(at + 12)
            at += length + 16
        raw = np.frombuffer(data, np.uint8)
        if not begins:
            return stop_at(0, _BAD_LENGTH) if len(data) >= 12 and _wrong(raw, [0], 8) else 0
        bad = min(_wrong(raw, [begin for begin, _ in begins], 8), default=len(data))
        wrong = (begin - 12 for length, places in by_length.items() for begin in _wrong(raw, places, length)[:1])
        spoiled = min(wrong, default=len(data))
        for begin, length in begins:
            if begin < min(bad, spoiled) and length <= _MOST:
                self._take(data[begin + 12 : begin + 12 + length], rows)
        if min(bad, spoiled) < len(data):
            return stop_at(min(bad, spoiled), _BAD_LENGTH if bad <= spoiled else "a record has a wrong checksum")
        return at or 16 + length

    def resume(self, data: bytes) -> int:
        likely = [at for at in range(len(data) - 12) if data[at + 3 : at + 8] == bytes(5)]
        wrong = _wrong(np.frombuffer(data, np.uint8), likely, 8) if likely else []
        return next((at for at in likely if at not in wrong), len(data))

    def _take(self, event: bytes, rows: NewRows) -> None:
        step, wall, values = 0, math.nan, dict[str, float]()
        found = _SCALAR.fullmatch(event)
        if found is not None and [len(found[6]) + more for more in (9, 7, 0)] == [found[at][0] for at in (3, 4, 5)]:
            (wall,), (value,) = struct.unpack("<d", found[1]), struct.unpack("<f", found[7])
            for byte in reversed(found[2] or b""):
                step = step << 7 | byte & 127
            values = {text(found[6]): value}
        else:
            try:
                for number, part in fields(event):
                    if number == 1 and isinstance(part, bytes) and len(part) == 8:
                        (wall,) = struct.unpack("<d", part)
                    elif number == 2 and isinstance(part, int):
                        step = part
                    elif number == 5 and isinstance(part, bytes):
                        for key, summary in fields(part):
                            tag, scalar = _scalar(summary) if key == 1 and isinstance(summary, bytes) else ("", None)
                            if tag and scalar is not None:
                                values[tag] = scalar
            except ValueError:
                return
        if math.isfinite(wall) and not math.isfinite(self._began):
            self._began = wall
        if values:
            seconds = wall - self._began
            rows.add(step, values, seconds if math.isfinite(seconds) else None)


def _scalar(message: bytes) -> tuple[str, float | None]:
    """Tag and number of a Summary.Value."""
    tag, found = "", None
    for number, value in fields(message):
        if number == 1:
            tag = text(value)
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            (found,) = struct.unpack("<f", value)
        elif number == 8 and isinstance(value, bytes):
            found = _tensor(value)
    return tag, found


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
    form = _TYPES.get(kind, "")
    return float(struct.unpack(form, content)[0]) if content and struct.calcsize(form) == len(content) else None


class TensorBoard(FileLog):
    """A folder of event files, which are attempts in the order of their names (these hold the time)."""

    origin, decoder = "tensorboard", Events

    @classmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        return [cls(folder)] if any("tfevents" in name for name in names) else []

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*tfevents*") if path.is_file())
