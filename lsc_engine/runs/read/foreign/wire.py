"""Protocol buffers without their schema: the fields of a message, one after another."""

from __future__ import annotations

from collections.abc import Iterator


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field: a varint as an integer, all else as its bytes. ValueError."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        width = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            width, at = _varint(message, at)
        elif not width:
            raise ValueError("an unknown kind of field")
        if at + width > len(message):
            raise ValueError("a field is cut short")
        yield key >> 3, message[at : at + width]
        at += width


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
