"""Help: every key of the screen below, grouped; made from the command table, so it cannot be wrong."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult

from lsc_tui.keymap import GROUPS, shown
from lsc_tui.lines import Line, fit, frame, pad
from lsc_tui.modals.overlay import Overlay
from lsc_tui.screens.base import LscScreen
from lsc_tui.widgets.panel import Panel

BESIDE = (
    ("mouse", "left to the terminal: select and copy text as anywhere"),
    ("other keys", "lsc-tui --keys prints them as a file to change"),
)


class HelpScreen(Overlay):
    """Any key closes it; up and down scroll."""

    CSS: ClassVar[str] = "HelpScreen Panel { width: 100%; height: 100%; }"

    def __init__(self, below: LscScreen) -> None:
        super().__init__()
        self.below = below
        self.top = 0

    def compose(self) -> ComposeResult:
        yield Panel(self._draw, id="help")

    def _entries(self) -> list[Line]:
        out: list[Line] = []
        for group in GROUPS:
            found = [c for c in self.below.app.keymap.commands.values() if c.group == group and self.below.can_do(c)]
            if found:
                out.append([(group, "title")])
            for command in found:
                keys = " ".join(shown(key) for key in command.keys)
                reason = self.below.why_not(command)
                line: Line = [(fit(f"  {keys}", 14), "key"), (self.below.help_of(command), "dim" if reason else "")]
                out.append([*line, (f"  ({reason})", "dim")] if reason else line)
        out.append([("beside the keys", "title")])
        return out + [[(fit(f"  {what}", 14), "dim"), (words, "dim")] for what, words in BESIDE]

    def _draw(self, width: int, height: int) -> list[Line]:
        entries = self._entries()
        inner, page = width - 4, max(1, height - 2)
        columns = 2 if inner >= 110 else 1
        per_column = -(-len(entries) // columns)
        each = inner // columns
        lines = [
            [piece for c in range(columns) for piece in pad(self._at(entries, c * per_column + i), each)]
            for i in range(per_column)
        ]
        self.top = max(0, min(self.top, len(lines) - page))
        body: list[Line] = [[(" ", ""), *line] for line in lines[self.top : self.top + page]]
        more = f"↓ {len(lines) - self.top - page} more" if len(lines) > self.top + page else ""
        return frame(body, width, height, f"keys of {self.below.TAB.removesuffix('_tab')}", more or "Esc closes")

    @staticmethod
    def _at(entries: list[Line], i: int) -> Line:
        return entries[i] if i < len(entries) else []

    async def take_key(self, event: events.Key) -> None:
        by = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": 10, "pageup": -10}.get(event.key)
        if by is None:
            self.close_overlay()
            return
        self.top += by
        self.query_one("#help", Panel).redraw()
