"""Protocol buffers without their schema: the fields of a message, one after another."""

from __future__ import annotations

from collections.abc import Iterator

_WIDTHS = {1: 8, 5: 4}


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field: a varint as an integer, all else as its bytes. ValueError."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if key & 7 == 2:
            width, at = _varint(message, at)
        elif (width := _WIDTHS.get(key & 7, 0)) == 0:
            raise ValueError("an unknown kind of field")
        if (at := at + width) > len(message):
            raise ValueError("a field is cut short")
        yield key >> 3, message[at - width : at]


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
