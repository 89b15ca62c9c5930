"""Plain tables for a terminal or a pipe: aligned columns, no escape sequences, cells from files made printable."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from lsc_engine.cli.output import printable


def width(text: str) -> int:
    """Terminal cells of `text`."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Lines of aligned columns under a head. `right`: one letter per column, `r` aligns it to the right."""
    cells = [[printable(cell).replace("\n", " ").replace("\t", " ") for cell in row] for row in (head, *rows)]
    wide = [max(width(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        parts = []
        for i, cell in enumerate(row):
            pad = " " * (wide[i] - width(cell))
            parts.append(pad + cell if right[i : i + 1] == "r" else cell + pad)
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def value(number: float | None, digits: int = 4) -> str:
    """A metric's value in few characters; `-` for none."""
    return "-" if number is None else f"{number:.{digits}g}"


def percent(number: float | None) -> str:
    """A share as per cent with one decimal; `-` for none."""
    return "-" if number is None else f"{100 * number:.1f}"


def count(number: float | None) -> str:
    """A whole number with thin groups of three: 149 888."""
    return "-" if number is None else f"{number:,.0f}".replace(",", " ")
