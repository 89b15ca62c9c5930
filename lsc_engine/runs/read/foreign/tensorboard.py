"""TensorBoard event files (`*tfevents*`): records of a length, its masked crc32c, an Event message and its crc32c.
Scalars are read, also those of TensorFlow 2, which writes them as tensors; all else is passed over."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lsc_engine.runs.read.foreign.log import Damaged, Decoder, FileLog, NewRows
from lsc_engine.runs.read.foreign.wire import fields, text

# A longer record holds pictures, sound or a graph.
_MOST = 1 << 18
_BAD_LENGTH = "the length of a record has a wrong checksum"
# TensorProto.dtype -> numpy's name: float, double, int32, int64.
_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}


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


def _right(data: NDArray[np.uint8], begins: Sequence[int], length: int) -> NDArray[np.bool_]:
    """Whether behind the `length` bytes from each of `begins` stands their checksum, which is stored rotated by 15 bits
    and with a constant added."""
    at = np.array(begins)[:, None]
    crc = crc32c(data[at + np.arange(length)])
    stored = data[at + length + np.arange(4)].view("<u4")[:, 0]
    return ((crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)) == stored


class Events(Decoder):
    """One event file."""

    def __init__(self) -> None:
        self._began = math.nan

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        """Whole events, up to the first with a wrong checksum. All are found by their lengths first, so that checksums
        are those of many at once."""
        found, at = dict[int, list[int]](), 0
        lengths: list[int] = []
        while at + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            if length <= _MOST and at + length + 16 > len(data):
                break
            lengths.append(at)
            if length > _MOST:
                break
            found.setdefault(length, []).append(at)
            at += length + 16
        if not lengths:
            return 0 if len(data) < 12 or self._is_length(data) else _stop(0, _BAD_LENGTH)
        raw = np.frombuffer(data, np.uint8)
        bad = min((lengths[i] for i in np.flatnonzero(~_right(raw, lengths, 8)).tolist()), default=len(data))
        spoiled = len(data)
        for length, begins in found.items():
            wrong = np.flatnonzero(~_right(raw, [begin + 12 for begin in begins], length))
            spoiled = min([spoiled, *(begins[i] for i in wrong[:1].tolist())])
        for begin in lengths:
            if begin >= min(bad, spoiled):
                return _stop(begin, _BAD_LENGTH if bad <= spoiled else "a record has a wrong checksum")
            (length,) = struct.unpack_from("<Q", data, begin)
            if length > _MOST:
                return begin or 16 + length
            self._take(data[begin + 12 : begin + 12 + length], rows)
        return at

    @staticmethod
    def _is_length(data: bytes) -> bool:
        return bool(_right(np.frombuffer(data[:12], np.uint8), [0], 8)[0])

    def resume(self, data: bytes) -> int:
        """Where the checksum of a length is right."""
        likely = [at for at in range(len(data) - 12) if data[at + 3 : at + 8] == bytes(5)]
        right = _right(np.frombuffer(data, np.uint8), likely, 8).tolist() if likely else []
        return next((at for at, is_right in zip(likely, right, strict=True) if is_right), len(data))

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
