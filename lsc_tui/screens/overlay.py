"""What lies over a screen for a moment: help, a text, the palette."""

from __future__ import annotations

from typing import ClassVar

from textual.screen import ModalScreen


class Overlay(ModalScreen[None]):
    """Closes once: keys struck behind the one that closed it may still arrive, and must not close what lies below."""

    AUTO_FOCUS: ClassVar[str | None] = ""

    def close_overlay(self) -> None:
        """Go back to the screen below."""
        if self.app.screen is self:
            self.dismiss()
