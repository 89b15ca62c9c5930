"""A panel: lines of styled text in a box, of which only the rows that changed are sent to the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from lsc_tui.lines import STATES, Line, ascii_twin, pad
from lsc_tui.themes import SERIES

# Names that a line may use; app.tcss gives each one its colour as `.panel--NAME`.
STYLES = (
    "dim", "rule", "title", "bold", "tab", "tab-on", "key", "warn", "error", "good", "accent", "cursor", "mark",
    "bar", "axis", "level", "thread", "label",
    *(f"state-{name}" for name in STATES),
    *(f"series-{i}" for i in range(SERIES)),
    *(f"series-{i}-dim" for i in range(SERIES)),
)  # fmt: skip


class Panel(Widget):
    """Shows what `draw(width, height)` returns. Call `redraw` when its matter may have changed."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"panel--{name}" for name in STYLES}

    def __init__(
        self, draw: Callable[[int, int], list[Line]] | None = None, *, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._draw = draw
        self._lines: list[Line] = []
        self._styles: dict[str, Style] = {}
        self._drawn_width = 0

    def draw(self, width: int, height: int) -> list[Line]:
        """The lines for this size; at most `height` are shown."""
        return self._draw(width, height) if self._draw else []

    def redraw(self) -> None:
        """Compute the lines again and repaint those rows that are different now."""
        width, height = self.size
        if width <= 0 or height <= 0 or not self.is_mounted:
            return
        lines = self.draw(width, height)[:height]
        if width != self._drawn_width or len(lines) != len(self._lines):
            self._lines, self._drawn_width = lines, width
            self.refresh()
            return
        old, self._lines = self._lines, lines
        changed = [y for y, line in enumerate(lines) if line != old[y]]
        if len(changed) > height * 2 // 3:
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def on_resize(self) -> None:
        self.redraw()

    def on_show(self) -> None:
        self.redraw()

    def notify_style_update(self) -> None:
        """Colours changed (theme): forget those that were looked up."""
        self._styles.clear()
        super().notify_style_update()

    def style_of(self, name: str) -> Style:
        """The colours of a style name; `a+b` is b over a, an unknown name is plain."""
        found = self._styles.get(name)
        if found is None:
            found = self.rich_style
            for part in name.split("+"):
                if part in STYLES:
                    found += self.get_component_rich_style(f"panel--{part}", partial=True)
            self._styles[name] = found
        return found

    def render_line(self, y: int) -> Strip:
        """One row as a strip; a run of cells of one style is one segment."""
        width = self.size.width
        line = self._lines[y] if y < len(self._lines) else []
        twin = ascii_twin if getattr(self.app, "ascii", False) else None
        segments = [
            Segment(twin(text) if twin else text, self.style_of(style)) for text, style in pad(line, width) if text
        ]
        return Strip(segments, width)

    def text(self) -> str:
        """What is shown, as plain text: for tests and `--once`."""
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self._lines)
