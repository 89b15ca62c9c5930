"""TensorBoard event files (`*tfevents*`): records of a length, its masked crc32c, an Event message and its crc32c.
Scalars are read, also those of TensorFlow 2, which writes them as tensors; all else is passed over."""

from __future__ import annotations

import math
import re
import struct
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lsc_engine.runs.metrics.parsing import MAX_STEP
from lsc_engine.runs.read.foreign.log import Decoder, FileLog, NewRows, stop_at
from lsc_engine.runs.read.foreign.wire import fields, text

# A longer record holds pictures, sound or a graph.
_MOST = 1 << 18
_BAD_LENGTH = "the length of a record has a wrong checksum"
# TensorProto.dtype -> numpy's name: float, double, int32, int64.
_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}
# An event with one float: its time, its step (none for 0), the length of a tag, the tag and the float.
_USUAL = re.compile(rb"\x09(.{8})(?:\x10([\x80-\xff]{0,6}[\x00-\x7f]))?\x2a.\x0a.\x0a(.)(.+)\x15(.{4})", re.DOTALL)


def _table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    return table


_TABLE = _table()


def crc32c(data: bytes, begins: Sequence[int], lengths: Sequence[int]) -> NDArray[np.uint32]:
    """The checksums of many parts of `data`, byte by byte of all of them at once."""
    raw, length = np.frombuffer(data, np.uint8), np.array(lengths, np.int64)
    order = np.argsort(-length, kind="stable")
    at, left = np.array(begins, np.int64)[order], -np.sort(-length)
    crc = np.full(len(at), 0xFFFFFFFF, np.uint32)
    for place, count in enumerate(np.searchsorted(-left, -np.arange(left.max(initial=0))).tolist()):
        crc[:count] = _TABLE[(crc[:count] ^ raw[at[:count] + place]) & 255] ^ crc[:count] >> 8
    return (crc ^ np.uint32(0xFFFFFFFF))[np.argsort(order)]


def _wrong(data: bytes, begins: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Which of the parts are not followed by their checksum, which is stored rotated by 15 bits and with a constant
    added."""
    crc = crc32c(data, begins, lengths)
    ends = np.array(begins, np.int64)[:, None] + np.array(lengths, np.int64)[:, None] + np.arange(4)
    stored = np.frombuffer(data, np.uint8)[ends].view("<u4")[:, 0]
    return np.flatnonzero((crc >> 15 | crc << 17) + np.uint32(0xA282EAD8) != stored).tolist()


class Events(Decoder):
    """One event file."""

    def __init__(self) -> None:
        self._began = math.nan

    def decode(self, data: bytes, offset: int, rows: NewRows) -> int:
        """Whole events, up to the first with a wrong checksum; checksums are those of many at once."""
        begins, lengths, at, whole = list[int](), list[int](), 0, True
        while whole and at + 12 <= len(data):
            begins.append(at)
            lengths.append(struct.unpack_from("<Q", data, at)[0])
            whole = lengths[-1] <= _MOST and at + lengths[-1] + 16 <= len(data)
            at += lengths[-1] + 16 if whole else 0
        count = len(begins) - (not whole)
        bad = [*_wrong(data, begins, [8] * len(begins)), len(begins)][0]
        spoiled = [*_wrong(data, [begin + 12 for begin in begins[:count]], lengths[:count]), len(begins)][0]
        self._add(data, begins[: min(bad, spoiled, count)], lengths, rows)
        if min(bad, spoiled) < len(begins):
            return stop_at(
                begins[min(bad, spoiled)], _BAD_LENGTH if bad <= spoiled else "a record has a wrong checksum"
            )
        return 16 + lengths[0] if at == 0 and lengths and lengths[0] > _MOST else at

    def resume(self, data: bytes) -> int:
        likely = [at for at in range(len(data) - 12) if data[at + 3 : at + 8] == bytes(5)]
        wrong = set(_wrong(data, likely, [8] * len(likely)))
        return next((at for number, at in enumerate(likely) if number not in wrong), len(data))

    def _add(self, data: bytes, begins: Sequence[int], lengths: Sequence[int], rows: NewRows) -> None:
        steps, walls, columns = (
            list[int](),
            list[float](),
            defaultdict[str, tuple[list[int], list[Any]]](lambda: ([], [])),
        )
        for row, (begin, length) in enumerate(zip(begins, lengths, strict=False)):
            step, wall, values = _event(data[begin + 12 : begin + 12 + length])
            steps.append(step)
            walls.append(wall)
            for tag, value in values.items():
                columns[tag][0].append(row)
                columns[tag][1].append(value)
        timed = np.flatnonzero(np.isfinite(walls))
        if not math.isfinite(self._began) and timed.size:
            self._began = walls[timed[0]]
        epoch = columns.pop("epoch", ([], []))
        rows.add(steps, columns, time=(timed, np.array(walls)[timed] - self._began), epoch=epoch)


def _event(event: bytes) -> tuple[int, float, dict[str, float]]:
    """Step (-1 if it is none), time and values of one event."""
    if (usual := _USUAL.fullmatch(event)) and len(usual[4]) == usual[3][0]:
        step = sum((byte & 127) << 7 * place for place, byte in enumerate(usual[2] or b""))
        return step, *struct.unpack("<d", usual[1]), {text(usual[4]): struct.unpack("<f", usual[5])[0]}
    step, wall, values = 0, math.nan, dict[str, float]()
    try:
        for number, value in fields(event):
            if number == 1 and isinstance(value, bytes) and len(value) == 8:
                (wall,) = struct.unpack("<d", value)
            elif number == 2 and isinstance(value, int):
                step = value if value < MAX_STEP else -1
            elif number == 5 and isinstance(value, bytes):
                values.update(filter(None, (_scalar(part) for key, part in fields(value) if key == 1)))
    except ValueError:
        return -1, math.nan, {}
    return step, wall, values


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
        return [cls(folder)] if any("tfevents" in name for name in names) else []

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*tfevents*") if path.is_file())
