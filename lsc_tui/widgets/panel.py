"""A panel: lines of styled text in a box, of which only the rows that changed are sent to the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from lsc_tui.lines import STATES, Line, ascii_twin, box, clean, pad, rule
from lsc_tui.theme import SERIES

# Style names that a line may use, each with the theme variable of its colour and what else is on. Colours are looked
# up here and not through CSS, whose component classes would be matched anew for every panel.
STYLES: dict[str, tuple[str, str]] = {
    "dim": ("dim", ""),
    "rule": ("rule", ""),
    "title": ("primary", ""),
    "bold": ("foreground", "bold"),
    "tab": ("dim", ""),
    "tab-on": ("foreground", "bold reverse"),
    "key": ("accent", ""),
    "warn": ("warning", ""),
    "error": ("error", ""),
    "good": ("success", ""),
    "accent": ("accent", "bold"),
    "cursor": ("cursor-row", "background"),
    "mark": ("accent", "bold"),
    "bar": ("primary", ""),
    "axis": ("rule", ""),
    "level": ("dim", ""),
    "thread": ("dim", ""),
    "label": ("dim", ""),
    **{f"state-{name}": (f"state-{name}", "") for name in STATES},
    **{f"series-{i}": (f"series-{i}", "") for i in range(SERIES)},
    **{f"series-{i}-dim": (f"series-{i}", "faded") for i in range(SERIES)},
}


def style_table(variables: dict[str, str], *, no_colour: bool = False) -> dict[str, Style]:
    """The styles of all names in the colours of a theme; without colour the highlighted row is reversed."""
    ground = Color.parse(variables["background"])
    strength = 0.74 if ground.brightness > 0.5 else 0.6
    out: dict[str, Style] = {
        "": Style(color=Color.parse(variables["foreground"]).rich_color, bgcolor=ground.rich_color)
    }
    for name, (variable, extra) in STYLES.items():
        colour = Color.parse(variables.get(variable, variables["foreground"]))
        if extra == "background":
            text = variables.get("cursor-text")
            above = Color.parse(text).rich_color if text else None
            out[name] = Style(reverse=True) if no_colour else Style(bgcolor=colour.rich_color, color=above)
        elif extra == "faded":
            # Sixteen colours have no weaker ones: what is faded is grey there.
            faded = Color.parse(variables["rule"]) if colour.ansi is not None else ground.blend(colour, strength, 1)
            out[name] = Style(color=faded.rich_color)
        else:
            out[name] = Style(color=colour.rich_color, bold="bold" in extra, reverse="reverse" in extra)
    # On the background of the highlighted row dim text would be lost.
    for name, (variable, _) in STYLES.items():
        if variables.get(variable) == variables["dim"]:
            out[f"={name}+cursor"] = out[""] + out["cursor"]
    return out


class Ascii(LineFilter):
    """Writes everything in ASCII."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(ascii_twin(text), style, control) for text, style, control in segments]


class Panel(Widget):
    """Shows what `draw(width, height)` returns. Call `redraw` when its matter may have changed."""

    def __init__(self, draw: Callable[[int, int], list[Line]] | None = None, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._draw = draw
        self._lines: list[Line] = []
        self._drawn_size = Size(0, 0)

    @property
    def drawn(self) -> bool:
        """Whether what is shown was drawn for the size that the panel has now."""
        return self.size.area == 0 or self.size == self._drawn_size

    def draw(self, width: int, height: int) -> list[Line]:
        return self._draw(width, height) if self._draw else []

    def redraw(self) -> None:
        """Compute the lines again and repaint those rows that are different now."""
        width, height = self.size
        if width <= 0 or height <= 0 or not self.is_mounted:
            return
        # The last gate before the terminal: text from files is cleaned where it is read, and what was missed, here.
        drawn = self.draw(width, height)[:height]
        lines = [[(text if text.isprintable() else clean(text), style) for text, style in line] for line in drawn]
        if self.size != self._drawn_size or len(lines) != len(self._lines):
            self._lines, self._drawn_size = lines, self.size
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

    def style_of(self, name: str) -> Style:
        """The colours of a style name; `a+b` is b over a, an unknown name is plain."""
        table: dict[str, Style] = self.app.styles_of_theme  # type: ignore[attr-defined]
        key = f"={name}"
        found = table.get(key)
        if found is None:
            found = table[""]
            for part in name.split("+"):
                found += table[part] if part in STYLES else Style.null()
            table[key] = found
        return found

    def render_line(self, y: int) -> Strip:
        """One row as a strip; a run of cells of one style is one segment."""
        width = self.size.width
        line = self._lines[y] if y < len(self._lines) else []
        return Strip([Segment(text, self.style_of(style)) for text, style in pad(line, width) if text], width)

    def text(self) -> str:
        """What is shown, as plain text: for tests and `--once`."""
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self._lines)


Sheet = tuple[str, str | Line, list[Line]]  # title, what stands at its right, the lines below


class Box(Panel):
    """A panel with a title: in the wide layout in a frame, else below a rule. `sheet` gets the size inside. At 80
    columns there may be no title (`bare`), or a line at the left as well, since another panel is there (`divided`)."""

    def __init__(
        self,
        sheet: Callable[[int, int], Sheet | None] | None = None,
        id: str = "",
        *,
        bare: bool = False,
        divided: bool = False,
    ) -> None:
        super().__init__(id=id or None)
        self._sheet, self.bare, self.divided = sheet, bare, divided
        self.edge = "rule"

    @property
    def framed(self) -> bool:
        return bool(getattr(self.screen, "wide", True))

    def sheet(self, width: int, height: int) -> Sheet | None:
        """What is shown, None for nothing; its size without frame or rule."""
        return self._sheet(width, height) if self._sheet is not None else None

    def draw(self, width: int, height: int) -> list[Line]:
        framed = self.framed
        left = 2 if framed else int(self.divided)
        found = self.sheet(max(1, width - left), max(1, height - (2 if framed else 1 - self.bare)))
        if found is None:
            return []
        title, right, body = found
        if self.bare and not framed:
            return body
        if not left or framed:
            return box(body, width, height, title, right, framed=framed, style=self.edge)
        body += [[] for _ in range(height - 1 - len(body))]
        return [[("┬", "rule"), *rule(width - 1, title, right)], *([("│", "rule"), *line] for line in body)]
