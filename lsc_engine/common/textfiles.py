"""Text and TOML files of users: UTF-8, with or without a byte order mark; other encodings are named in the error."""

from __future__ import annotations

import codecs
import tomllib
from pathlib import Path

from lsc_engine.common.errors import UsageError
from lsc_engine.common.settings import Table

# The marks of UTF-32 begin with those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_HEAD = 512


def decoded(raw: bytes) -> str:
    """The text of a file, without its byte order mark. ValueError, with what to do, where it is not UTF-8."""
    if (other := other_encoding(raw)) is not None:
        raise ValueError(f"is {other} text; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"is not UTF-8 text (byte 0x{raw[error.start]:02x} in line {line}), but Latin-1, Windows-1252 "
            "or another encoding; save it as UTF-8"
        ) from None


def other_encoding(raw: bytes) -> str | None:
    """UTF-16 or UTF-32 where the first bytes of a file say so by a mark, or by the zeros that fill up plain letters."""
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return name
    head = raw[:_HEAD]
    share = head.count(0) / max(1, len(head))
    return None if share < 0.3 else "UTF-16" if share < 0.6 else "UTF-32"


def parse_toml(text: str) -> Table:
    """The tables of a TOML text. ValueError with the line of a mistake."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not TOML: {error}") from error


def read_toml(path: Path) -> tuple[str, Table]:
    """Text and tables of a TOML file. UsageError where it cannot be read, with the line of a mistake."""
    try:
        text = decoded(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return text, parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
