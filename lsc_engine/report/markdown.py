"""Markdown and CSV as the reports write them. Text from files is made harmless."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any


def plain(text: object) -> str:
    """`text` on one line without control characters."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()


def md(text: object) -> str:
    """`text` as it stands in a Markdown sentence or table cell: nothing in it is markup."""
    safe = plain(text)
    for mark in ("\\", "|", "<", "*", "_", "`", "[", "]", "#"):
        safe = safe.replace(mark, f"\\{mark}" if mark != "<" else "&lt;")
    return safe


def cell(text: object) -> str:
    """`text` inside a table of Markdown that is written by hand elsewhere: one line, no bars."""
    return " ".join(str(text).replace("|", "\\|").split())


def code(text: object) -> str:
    """`text` in a code span, which a table cell can hold."""
    return f"`{plain(text).replace('`', chr(39)).replace('|', '¦')}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> str:
    """A Markdown table of cells that are Markdown already. `right`: one letter per column, `r` to the right."""
    listed = [list(row) for row in rows]
    if not listed:
        return ""
    rule = ["---:" if right[i : i + 1] == "r" else "---" for i in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *listed))


def section(title: str, *parts: str) -> str:
    """A heading and its paragraphs; nothing where all of them are empty."""
    full = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *full]) if full else ""


def bullets(sentences: Iterable[str]) -> str:
    """A list; "" if there is nothing to list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def image(name: str, title: str, more: str = "") -> str:
    """A figure, NAME.svg, and what it shows; `more` ends its sentence."""
    return f"![{md(title)}]({name}.svg)\n\n{md(title)}{more}."


def csv_text(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV with `\\n` ends; None and numbers that are not finite are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.8g}" if isinstance(value, float) else plain(value)
