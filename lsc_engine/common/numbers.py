"""Numbers as TOML, Python and this program write them: 1e-4, .001, 1., 1_000, +3, 10 240."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[+-]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?")
# Thousands apart, by a plain, a fixed or a narrow space.
_GROUPED = re.compile("[+-]?[0-9]{1,3}(?:[ \u00a0\u202f][0-9]{3})+")


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
