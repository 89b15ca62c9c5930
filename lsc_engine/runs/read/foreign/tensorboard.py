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

from lsc_engine.runs.metrics.parsing import MAX_STEP
from lsc_engine.runs.read.foreign.log import Decoder, FileLog, NewRows, stop_at
from lsc_engine.runs.read.foreign.wire import fields, spans, text

# A longer record holds pictures, sound or a graph.
_MOST = 1 << 18
# Of events of one length in a portion; those of further forms are read one by one.
_MOST_FORMS = 16
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
        """Whole events, up to the first with a wrong checksum; checksums are those of many at once."""
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
            is_length = len(data) >= 12 and _right(np.frombuffer(data[:12], np.uint8), [0], 8)[0]
            return 0 if len(data) < 12 or is_length else stop_at(0, _BAD_LENGTH)
        raw = np.frombuffer(data, np.uint8)
        bad = min((lengths[i] for i in np.flatnonzero(~_right(raw, lengths, 8)).tolist()), default=len(data))
        spoiled = len(data)
        for length, begins in found.items():
            wrong = np.flatnonzero(~_right(raw, [begin + 12 for begin in begins], length))
            spoiled = min([spoiled, *(begins[i] for i in wrong[:1].tolist())])
        stop = min(bad, spoiled)
        self._take(raw, {n: kept for n, begins in found.items() if (kept := [b for b in begins if b < stop])}, rows)
        if stop < len(data):
            return stop_at(stop, _BAD_LENGTH if bad <= spoiled else "a record has a wrong checksum")
        return at or 16 + length

    def resume(self, data: bytes) -> int:
        likely = [at for at in range(len(data) - 12) if data[at + 3 : at + 8] == bytes(5)]
        right = _right(np.frombuffer(data, np.uint8), likely, 8).tolist() if likely else []
        return next((at for at, is_right in zip(likely, right, strict=True) if is_right), len(data))

    def _take(self, raw: NDArray[np.uint8], found: dict[int, list[int]], rows: NewRows) -> None:
        """Add the events whose records begin at the places `found`, by their length, in `raw`."""
        order = np.sort(np.array([begin for begins in found.values() for begin in begins], np.int64))
        steps, walls = np.zeros(len(order), np.int64), np.full(len(order), np.nan)
        columns = dict[str, tuple[list[int], list[float]]]()

        def put(tag: str, rows: Sequence[int], values: Sequence[float]) -> None:
            known = columns.setdefault(tag, ([], []))
            known[0].extend(rows)
            known[1].extend(values)

        for length, begins in found.items():
            at = np.searchsorted(order, begins)
            events = raw[np.array(begins)[:, None] + 12 + np.arange(length)]
            for form in range(_MOST_FORMS + 1):
                if not len(at):
                    break
                known = _form(events[0].tobytes()) if form < _MOST_FORMS else None
                if known is None:
                    for row, event in zip(at.tolist(), events, strict=True):
                        steps[row], walls[row], values = _event(event.tobytes())
                        for tag, value in values.items():
                            put(tag, [row], [value])
                    break
                mask, wall, step, places = known
                same = ((events ^ events[0]) & mask == 0).all(1)
                alike, rows_of = events[same], at[same]
                events, at = events[~same], at[~same]
                if wall is not None:
                    walls[rows_of] = _numbers(alike, wall, "<f8")
                for place in range(*step):
                    steps[rows_of] |= (alike[:, place] & 127).astype(np.int64) << 7 * (place - step[0])
                for tag, place in places.items():
                    put(tag, rows_of.tolist(), _numbers(alike, place, "<f4").tolist())
        if not math.isfinite(self._began):
            self._began = next(iter(walls[np.isfinite(walls)].tolist()), math.nan)
        timed = np.flatnonzero(np.isfinite(walls))
        epoch = columns.pop("epoch", ([], []))
        rows.add(steps, columns, time=(timed, walls[timed] - self._began), epoch=epoch)


def _numbers(events: NDArray[np.uint8], place: int, kind: str) -> NDArray[np.float64]:
    """The number of type `kind` at one place of every event."""
    part = np.ascontiguousarray(events[:, place : place + np.dtype(kind).itemsize])
    return part.view(kind)[:, 0].astype(np.float64)


def _form(event: bytes) -> tuple[NDArray[np.uint8], int | None, tuple[int, int], dict[str, int]] | None:
    """What events of one form share: a mask of the bits that are equal, the place of the time, begin and end of the
    step, the place of each tag's float. None for events with other values, which are read one by one."""
    mask = np.full(len(event), 255, np.uint8)
    wall, step, places = None, (0, 0), dict[str, int]()
    try:
        for number, whole, begin, end in spans(event):
            if number == 1 and whole is None and end - begin == 8:
                wall, mask[begin:end] = begin, 0
            elif number == 2 and whole is not None:
                step, mask[begin:end] = (begin, end), 128
            elif number == 5 and whole is None:
                for key, _, first, last in spans(event, begin, end):
                    parts = list(spans(event, first, last)) if key == 1 else []
                    tag = "".join([text(event[a:b]) for n, value, a, b in parts if n == 1 and value is None][-1:])
                    floats = [a for n, value, a, b in parts if n == 2 and value is None and b - a == 4]
                    if len(floats) > 1 or tag in places or any(n == 8 for n, *_ in parts):
                        return None
                    if tag and floats:
                        places[tag] = floats[0]
                        mask[floats[0] : floats[0] + 4] = 0
    except ValueError:
        return None
    return (mask, wall, step, places) if step[1] - step[0] < 8 else None


def _event(event: bytes) -> tuple[int, float, dict[str, float]]:
    """Step (-1 if it is none), time and values of one event."""
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
