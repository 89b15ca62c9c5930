"""Protocol buffers without their schema: the fields of a message, one after another."""

from __future__ import annotations

from collections.abc import Iterator

_WIDTHS = {1: 8, 5: 4}


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field: a varint as an integer, all else as its bytes. ValueError."""
    for number, value, begin, end in spans(message):
        yield number, message[begin:end] if value is None else value


def spans(message: bytes, at: int = 0, stop: int | None = None) -> Iterator[tuple[int, int | None, int, int]]:
    """Number of every field in message[at:stop], its value if it is a varint, and where it begins and ends."""
    stop = len(message) if stop is None else stop
    while at < stop:
        key, at = _varint(message, at)
        kind, value = key & 7, None
        if kind == 0:
            value, end = _varint(message, at)
        elif kind == 2:
            width, at = _varint(message, at)
            end = at + width
        elif kind in _WIDTHS:
            end = at + _WIDTHS[kind]
        else:
            raise ValueError("an unknown kind of field")
        if end > stop:
            raise ValueError("a field is cut short")
        yield key >> 3, value, at, end
        at = end


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at
    raise ValueError("a number is cut short")


def text(value: int | bytes) -> str:
    """A field as text; "" for a number."""
    return "" if isinstance(value, int) else value.decode("utf-8", "replace")
