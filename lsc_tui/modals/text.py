"""A text over the screen, such as the TOML behind a run: scrolls, any other key closes it. Of a report in Markdown the
sentences are broken into lines, and ← → move over tables that are wider than the screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult

from lsc_tui.lines import Line, clean, fit, frame, wrap
from lsc_tui.modals.overlay import Overlay
from lsc_tui.widgets.panel import Panel

_STEPS = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": 20, "pageup": -20, "home": -(10**9), "end": 10**9}


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
        if table:
            out += _columns(table)
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


class TextScreen(Overlay):
    """Title and lines; comments and table headers of a TOML stand out."""

    CSS: ClassVar[str] = "TextScreen Panel { width: 100%; height: 100%; }"

    def __init__(self, title: str, text: str, *, prose: bool = False) -> None:
        super().__init__()
        self.heading = title
        self.source = [clean(line) for line in text.splitlines()]
        self.source = readable(self.source) if prose else self.source
        self.prose = prose
        self.top = self.left = 0
        self.lines: list[str] = self.source
        self._broken_for = 0

    def _broken(self, width: int) -> list[str]:
        """The lines; sentences in as many as they need, tables and code as they are."""
        if not self.prose:
            return self.source
        if self._broken_for != width:
            self._broken_for = width
            kept = (_RULE, "```", "    ", "#")
            self.lines = [
                part for line in self.source
                for part in ([line] if line.startswith(kept) or len(line) <= width else wrap(line, width))
            ]  # fmt: skip
        return self.lines

    def compose(self) -> ComposeResult:
        yield Panel(self._draw, id="text")

    def _draw(self, width: int, height: int) -> list[Line]:
        page = max(1, height - 2)
        self._broken(max(20, width - 4))
        self.left = max(0, min(self.left, max((len(line) for line in self.lines), default=0) - width + 4))
        self.top = max(0, min(self.top, len(self.lines) - page))
        body: list[Line] = []
        for line in self.lines[self.top : self.top + page]:
            style = "title" if line.startswith("[") else "dim" if line.startswith("#") else ""
            if self.prose:
                style = "title" if line.startswith("#") else ""
            body.append([(" ", ""), (fit(line[self.left :], max(0, width - 4)), style)])
        left = len(self.lines) - self.top - page
        return frame(body, width, height, self.heading, f"↓ {left} more" if left > 0 else "Esc closes")

    async def take_key(self, event: events.Key) -> None:
        if event.key in ("left", "right", "h", "l"):
            self.left = max(0, self.left + (8 if event.key in ("right", "l") else -8))
            self.query_one("#text", Panel).redraw()
            return
        by = _STEPS.get(event.key)
        if by is None:
            self.close_overlay()
            return
        self.top = max(0, self.top + by)
        self.query_one("#text", Panel).redraw()
