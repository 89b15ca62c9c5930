"""Palette: every command of the screen below by name; type, choose, Enter."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult

from lsc_tui.keymap import Command, matching, shown
from lsc_tui.lines import Line, fit, over, rule
from lsc_tui.modals.overlay import Overlay
from lsc_tui.widgets.field import Field
from lsc_tui.widgets.panel import Panel

if TYPE_CHECKING:
    from lsc_tui.screens.base import LscScreen

_HIDDEN = ("palette", "up", "down", "first", "last", "page_up", "page_down")


class PaletteScreen(Overlay):
    """A line to type in and the commands that match."""

    AUTO_FOCUS = "#words"
    CSS: ClassVar[str] = """
    PaletteScreen { align: center top; }
    PaletteScreen #words { dock: top; height: 1; width: 100%; border: none; padding: 0; background: $panel; }
    PaletteScreen Panel { width: 100%; height: 100%; }
    """

    def __init__(self, below: LscScreen) -> None:
        super().__init__()
        self.below = below
        self.cursor = 0

    def compose(self) -> ComposeResult:
        yield Field(placeholder="command", id="words", compact=True)
        yield Panel(self._draw, id="found")

    def found(self) -> list[Command]:
        """The commands that match what is typed."""
        every = [c for c in self.below.app.keymap.commands.values() if c.id not in _HIDDEN and self.below.can_do(c)]
        return matching(every, self.query_one("#words", Field).value)

    def _draw(self, width: int, height: int) -> list[Line]:
        found = self.found()
        self.cursor = max(0, min(self.cursor, len(found) - 1))
        lines: list[Line] = [rule(width, f"{len(found)} commands", "Enter does it  Esc closes")]
        top = max(0, self.cursor - height + 3)
        for i, command in enumerate(found[top : top + height - 1], top):
            reason = self.below.why_not(command)
            text = f"{command.help}{f' ({reason})' if reason else ''}"
            line: Line = [
                ("▌ " if i == self.cursor else "  ", "accent"),
                (fit(shown(command.keys[0]) if command.keys else "", 6), "key"),
                (fit(command.word, 11), ""),
                (fit(text, max(0, width - 19)), "dim"),
            ]
            lines.append(over(line, "cursor") if i == self.cursor else line)
        return lines

    async def take_key(self, event: events.Key) -> None:
        field, found = self.query_one("#words", Field), self.found()
        by = {"down": 1, "up": -1, "pagedown": 10, "pageup": -10}.get(event.key, 0)
        if event.key in ("escape", "enter"):
            self.close_overlay()
            if found and event.key == "enter":
                self.below.perform(found[min(self.cursor, len(found) - 1)])
            return
        before = field.value
        if not by:
            await field.take(event)
        self._typed(before, by)

    def take_paste(self, text: str) -> None:
        field = self.query_one("#words", Field)
        before = field.value
        field.paste(text)
        self._typed(before)

    def _typed(self, before: str, by: int = 0) -> None:
        """Draw what is found now: from its top where other words stand there."""
        same = self.query_one("#words", Field).value == before
        self.cursor = max(0, min(self.cursor + by, len(self.found()) - 1)) if same else 0
        self.query_one("#found", Panel).redraw()
