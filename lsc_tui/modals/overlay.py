"""What lies over a screen for a moment: it gets every key while it is on top."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen

from lsc_tui.lines import Line, frame
from lsc_tui.widgets.panel import Panel

_STEPS = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": 20, "pageup": -20, "home": -(10**9), "end": 10**9}


class Overlay(ModalScreen[None]):
    """Gets every key and pasted text."""

    AUTO_FOCUS: ClassVar[str | None] = ""

    async def take_key(self, event: events.Key) -> None:
        """A key for this screen."""

    def take_paste(self, text: str) -> None:
        """Pasted text for this screen."""

    def close_overlay(self) -> None:
        if self.app.screen is self:
            self.dismiss()


class ScrolledText(Overlay):
    """Lines in a frame; up and down scroll, any other key closes it."""

    CSS: ClassVar[str] = "ScrolledText Panel { width: 100%; height: 100%; }"

    def __init__(self, heading: str) -> None:
        super().__init__()
        self.heading = heading
        self.top = 0

    def compose(self) -> ComposeResult:
        yield Panel(self._draw, id="text")

    def lines(self, width: int) -> list[Line]:
        """All lines for a frame of this width inside."""
        return []

    def _draw(self, width: int, height: int) -> list[Line]:
        page, lines = max(1, height - 2), self.lines(max(20, width - 4))
        self.top = max(0, min(self.top, len(lines) - page))
        left = len(lines) - self.top - page
        body: list[Line] = [[(" ", ""), *line] for line in lines[self.top : self.top + page]]
        return frame(body, width, height, self.heading, f"↓ {left} more" if left > 0 else "Esc closes")

    async def take_key(self, event: events.Key) -> None:
        by = _STEPS.get(event.key)
        if by is None:
            self.close_overlay()
            return
        self.top = max(0, self.top + by)
        self.query_one("#text", Panel).redraw()
