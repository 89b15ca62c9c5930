"""A text over the screen, such as the TOML behind a run. Of a report in Markdown the sentences are broken into lines,
and ← → move over tables that are wider than the screen."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len
from textual import events

from lsc_tui.lines import Line, clean, fit, wrap
from lsc_tui.modals.overlay import ScrolledText
from lsc_tui.widgets.panel import Panel

_RULE = "│ "
_CELL = re.compile(r"(?<!\\)\|")
_PICTURE = re.compile(r"!\[(.*?)\]\((.*?)\)")


def readable(lines: Sequence[str]) -> list[str]:
    """Markdown as it is read in a terminal: the columns of a table below each other, pictures by their file."""
    out: list[str] = []
    table: list[list[str]] = []
    for line in (*lines, ""):
        if line.startswith("|"):
            table.append([cell.strip().replace("\\|", "|") for cell in _CELL.split(line.strip().strip("|"))])
            continue
        out += _columns(table) if table else []
        table = []
        if not line.startswith("<!--"):
            out.append(_PICTURE.sub(r"picture \2: \1", line))
    return out[:-1]


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    many = max(len(row) for row in table)
    rows = [[*row, *[""] * (many - len(row))] for row in table]
    ruled = len(rows) > 1 and all(set(cell) <= set("-: ") for cell in rows[1])
    right = [ruled and cell.endswith(":") and not cell.startswith(":") for cell in rows[1]] if ruled else [False] * many
    body = [rows[0], *rows[2:]] if ruled else rows
    widths = [max(cell_len(row[i]) for row in body) for i in range(many)]
    out = [_RULE + "  ".join(fit(c, w, ">" if r else "<") for c, w, r in zip(row, widths, right, strict=True))
           for row in body]  # fmt: skip
    return [out[0], _RULE + "  ".join("─" * w for w in widths), *out[1:]] if ruled else out


class TextScreen(ScrolledText):
    """Title and lines; comments and table headers of a TOML stand out."""

    def __init__(self, title: str, text: str, *, prose: bool = False) -> None:
        super().__init__(title)
        self.source = [clean(line) for line in text.splitlines()]
        self.source = readable(self.source) if prose else self.source
        self.prose = prose
        self.left = 0
        self._broken: tuple[int, list[str]] = (0, self.source)

    def _lines(self, width: int) -> list[str]:
        """The lines; sentences in as many as they need, tables and code as they are."""
        if self.prose and self._broken[0] != width:
            kept = (_RULE, "```", "    ", "#")
            parts = ([x] if x.startswith(kept) or len(x) <= width else wrap(x, width) for x in self.source)
            self._broken = (width, [part for lines in parts for part in lines])
        return self._broken[1]

    def lines(self, width: int) -> list[Line]:
        lines = self._lines(width)
        self.left = max(0, min(self.left, max((len(line) for line in lines), default=0) - width))
        marks = {"#": "title"} if self.prose else {"[": "title", "#": "dim"}
        return [[(fit(line[self.left :], width), marks.get(line[:1], ""))] for line in lines]

    async def take_key(self, event: events.Key) -> None:
        if event.key not in ("left", "right", "h", "l"):
            await super().take_key(event)
            return
        self.left = max(0, self.left + (8 if event.key in ("right", "l") else -8))
        self.query_one("#text", Panel).redraw()
