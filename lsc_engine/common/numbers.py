"""Numbers as TOML, Python and this program write them: 1e-4, .001, 1., 1_000, +3, 10 240."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from lsc_engine.errors import UsageError

_NUMBER = re.compile(r"[+-]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?")
# Thousands apart, by a plain, a fixed or a narrow space.
_GROUPED = re.compile("[+-]?[0-9]{1,3}(?:[ \u00a0\u202f][0-9]{3})+")
_UNITS = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12}
_COUNT = r"\+?((?:[0-9]{1,3}(?:[ ,][0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]+)?(?:[eE]\+?[0-9]{1,2})?)\s*([kKMGT]?)"


def number(text: str) -> int | float | None:
    """The number that a text is, infinite where it is too large for one; None for anything else."""
    text = text.strip().replace("−", "-")
    if _GROUPED.fullmatch(text):
        text = re.sub(r"\s", "", text)
    if not _NUMBER.fullmatch(text):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def parse_count(text: str, what: str = "classes") -> int:
    """A whole number of 1 or more: 300000, 300_000, 300 000, 300k, 1.28M. Raises UsageError.

    >>> parse_count("1.28M")
    1280000
    """
    match = re.fullmatch(_COUNT, text.strip())
    try:
        value = Decimal(re.sub("[_ ,]", "", match[1])).scaleb(_UNITS[match[2]]) if match else None
    except InvalidOperation:
        value = None
    if value is None:
        raise UsageError(f'{what}: "{text}" is not a number (300000, 300_000, 300k and 1.28M are)')
    if value != value.to_integral_value():
        raise UsageError(f"{what}: {text} is not a whole number")
    if value < 1:
        raise UsageError(f"{what}: {text} is too few, 1 or more")
    return int(value)
