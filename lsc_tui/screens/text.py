"""A text over the screen, such as the TOML behind a run: scrolls, any other key closes it."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult

from lsc_tui.lines import Line, clean, fit, frame
from lsc_tui.screens.overlay import Overlay
from lsc_tui.widgets.panel import Panel

_STEPS = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": 20, "pageup": -20, "home": -(10**9), "end": 10**9}


class TextScreen(Overlay):
    """Title and lines; comments and table headers of a TOML stand out."""

    CSS: ClassVar[str] = "TextScreen Panel { width: 100%; height: 100%; }"

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.heading = title
        self.lines = text.splitlines()
        self.top = 0

    def compose(self) -> ComposeResult:
        yield Panel(self._draw, id="text")

    def _draw(self, width: int, height: int) -> list[Line]:
        page = max(1, height - 2)
        self.top = max(0, min(self.top, len(self.lines) - page))
        body: list[Line] = []
        for line in self.lines[self.top : self.top + page]:
            style = "title" if line.startswith("[") else "dim" if line.startswith("#") else ""
            body.append([(" ", ""), (fit(clean(line), max(0, width - 4)), style)])
        left = len(self.lines) - self.top - page
        return frame(body, width, height, self.heading, f"↓ {left} more" if left > 0 else "Esc closes")

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        by = _STEPS.get(event.key)
        if by is None:
            self.close_overlay()
            return
        self.top = max(0, self.top + by)
        self.query_one("#text", Panel).redraw()
