"""TOML files of users."""

from __future__ import annotations

import tomllib
from pathlib import Path

from lsc_engine.common.settings import Table
from lsc_engine.errors import UsageError
from lsc_engine.textfiles import decoded


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
