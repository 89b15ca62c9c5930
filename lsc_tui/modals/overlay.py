"""What lies over a screen for a moment: help, a text, the palette."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.screen import ModalScreen


class Overlay(ModalScreen[None]):
    """Gets every key while it lies on top."""

    AUTO_FOCUS: ClassVar[str | None] = ""

    async def take_key(self, event: events.Key) -> None:
        """A key for this screen."""

    def take_paste(self, text: str) -> None:
        """Pasted text for this screen."""

    def close_overlay(self) -> None:
        """Go back to the screen below."""
        if self.app.screen is self:
            self.dismiss()
