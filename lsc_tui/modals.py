"""What lies over a screen for a moment and gets every key while it is on top: help, palette, a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from inspect import isawaitable
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import ScrollableContainer
from textual.screen import ModalScreen
from textual.widgets import Static

from lsc_engine.common.formatting import counted
from lsc_tui.keymap import COMMANDS, GROUPS, shown
from lsc_tui.lines import Line, clean, fit, over, pad, rule, wrap
from lsc_tui.widgets.field import Field
from lsc_tui.widgets.list_box import ListBox
from lsc_tui.widgets.panel import Sheet

if TYPE_CHECKING:
    from lsc_tui.app import LscApp
    from lsc_tui.screens.base import LscScreen

_BESIDE = {
    "mouse": "left to the terminal: select and copy text as anywhere",
    "other keys": "lsc-tui --keys prints them as a file to change",
}
_HIDDEN = ("palette", "up", "down", "first", "last", "page_up", "page_down")
_CELL = re.compile(r"(?<!\\)\|")
_PICTURE = re.compile(r"!\[(.*?)\]\((.*?)\)")


class Overlay(ModalScreen[None]):
    """Gets every key and pasted text."""

    AUTO_FOCUS: ClassVar[str | None] = ""

    app: LscApp

    async def take_key(self, event: events.Key) -> None:
        """A key for this screen."""

    def take_paste(self, text: str) -> None:
        """Pasted text for this screen."""

    def close_overlay(self) -> None:
        if self.app.screen is self:
            self.dismiss()


class Pages(ScrollableContainer):
    """Scrolls by the letters that move in lists as well."""

    _LETTERS: ClassVar = {"k": "up", "j": "down", "h": "left", "l": "right", "g": "home", "G": "end"}
    BINDINGS: ClassVar[list[BindingType]] = [(letter, f"scroll_{where}") for letter, where in _LETTERS.items()]


class Reader(Overlay):
    """Lines in a frame, which scroll."""

    AUTO_FOCUS = "Pages"
    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,enter,question_mark,f1,r,d", "dismiss")]

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__()
        self.heading, self.lines = title, lines

    def compose(self) -> ComposeResult:
        styles = self.app.styles_of_theme
        with Pages() as pages:
            pages.border_title, pages.border_subtitle = Text(self.heading), Text("Esc closes")
            yield Static(Text("\n").join(Text.assemble(*((t, styles[s]) for t, s in line)) for line in self.lines))

    async def take_key(self, event: events.Key) -> None:
        await self.app._check_bindings(event.key)


class WrappedReader(Reader):
    """Lines that are made for the width of the window, and again for another one."""

    def __init__(self, title: str, make: Callable[[int], Sequence[Line]], width: int) -> None:
        super().__init__(title, make(width))
        self.make, self.width = make, width

    def on_resize(self, event: events.Resize) -> None:
        if event.size.width != self.width and self.app.screen is self:
            self.app.switch_screen(WrappedReader(self.heading, self.make, event.size.width))


def help_lines(below: LscScreen, width: int) -> list[Line]:
    """Every key of a screen, grouped; made from its active bindings."""
    width, entries = width - 4, list[Line]()
    half = width // 2 if width >= 110 else width
    active = {one.binding.id: one.enabled for one in below.active_bindings.values()}
    for group, names in GROUPS.items():
        found = [name for name in names if name in active]
        entries += [[(group, "title")]] if found else []
        said = ""
        for name in found:
            reason = "" if active[name] else below.why_not(name)
            keys = fit(f"  {' '.join(map(shown, below.app.keys[name]))}", 14)
            # A reason that several keys in turn share is given once.
            words = below.help_of(name) + (f" ({reason})" if reason and reason != said else "")
            said = reason
            for number, text in enumerate(wrap(words, half - 15)):
                entries.append([(" " * 14 if number else keys, "key"), (text, "dim" if reason else "")])
    entries.append([("beside the keys", "title")])
    entries += [[(fit(f"  {what}", 14), "dim"), (words, "dim")] for what, words in _BESIDE.items()]
    if half < width:
        count = -(-len(entries) // 2)
        right = [*entries[count:], []]
        entries = [[*pad(one, half), *two] for one, two in zip(entries[:count], right, strict=False)]
    return entries


def toml_lines(source: str) -> list[Line]:
    """TOML, its comments and table headers highlighted."""
    return [[(line, {"[": "title", "#": "dim"}.get(line[:1], ""))] for line in map(clean, source.splitlines())]


def report_lines(source: str, width: int) -> list[Line]:
    """Markdown in a window of this width: sentences broken into lines, tables as wide as they need to be, pictures by
    their file."""
    out, width = list[Line](), width - 4
    for tabular, found in groupby(map(clean, source.splitlines()), lambda line: line.startswith("|")):
        lines, columns = list(found), list[list[str]]()
        if tabular and len(lines) > 1 and set(lines[1]) <= set("|-: "):
            parts = [_CELL.split(line.strip().removeprefix("|").removesuffix("|")) for line in lines]
            rows = [[cell.strip().replace("\\|", "|") for cell in row] for row in parts]
            for head, mark, *cells in zip_longest(*rows, fillvalue=""):
                room, align = max(map(cell_len, (head, *cells))), ">" if mark.endswith(":") else "<"
                columns.append([fit(cell, room, align) for cell in (head, "─" * room, *cells)])
            out += [[("│ " + "  ".join(row), "")] for row in zip(*columns, strict=True)]
            continue
        for line in (_PICTURE.sub(r"picture \2: \1", line) for line in lines if line[:4] != "<!--"):
            style = "title" if line.startswith("#") else ""
            out += [[(part, style)] for part in (wrap(line, width) if len(line) > width else [line])]
    return out


class Choice(NamedTuple):
    """A line of a list to choose from, and what Enter does on it."""

    shortcut: str
    word: str
    text: str
    act: Callable[[], object]
    id: str = ""
    things: int = 1  # that the line stands for and no other line does

    @property
    def key(self) -> str:
        return self.id or self.word


class ChoiceScreen(Overlay):
    """A list to choose from: type words of it, or a key, choose, Enter. What begins with the words comes first."""

    AUTO_FOCUS = "#words"
    wide = False  # the list has no frame
    CSS: ClassVar[str] = """
    ChoiceScreen { align: center top; }
    ChoiceScreen #words { dock: top; height: 1; width: 100%; border: none; padding: 0; background: $panel; }
    ChoiceScreen Panel { width: 100%; height: 100%; }
    """

    def __init__(self, what: str, does: str, choices: Sequence[Choice]) -> None:
        super().__init__()
        self.what, self.does, self.choices = what, does, choices
        self.list = ListBox[Choice](self._sheet, "found", bare=True)
        self.list.rows = choices

    def compose(self) -> ComposeResult:
        yield Field(placeholder=f"{self.what}s", id="words", compact=True)
        yield self.list

    @property
    def field(self) -> Field:
        return self.query_one("#words", Field)

    def found(self) -> list[Choice]:
        """What holds all of the words."""
        parts = self.field.value.lower().split()
        texts = [(f"{c.id} {c.word} {c.text} {c.shortcut * (len(c.shortcut) > 1)}".lower(), c) for c in self.choices]
        found = [c for text, c in texts if all(part in text or part == c.shortcut.lower() for part in parts)]
        first = parts[0] if parts else ""
        return sorted(found, key=lambda c: not (c.word.lower().startswith(first) or c.id.startswith(first)))

    def _sheet(self, width: int, height: int) -> Sheet:
        found = self.list.rows
        keys = max((6, *(cell_len(choice.shortcut) + 1 for choice in found))) if any(c.shortcut for c in found) else 0
        words = min(max([11, *(cell_len(choice.word) + 1 for choice in found)]), width // 2)

        def lines(choice: Choice, here: bool) -> list[Line]:
            line: Line = [("▌ " if here else "  ", "accent"), (fit(choice.shortcut, keys), "key")]
            line += [(fit(choice.word, words), ""), (fit(choice.text, max(0, width - 2 - keys - words)), "dim")]
            return [over(line, "cursor") if here else line]

        head = rule(width, counted(sum(choice.things for choice in found), self.what), f"Enter {self.does}  Esc closes")
        if not found:
            return "", "", [head, [(f'  no {self.what} holds "{clean(self.field.value)}"', "dim")]]
        return "", "", [head, *self.list.body(height - 1, lines)]

    async def take_key(self, event: events.Key) -> None:
        chosen, before = self.list.current, self.field.value
        by = {"down": 1, "up": -1, "pagedown": 10, "pageup": -10}.get(event.key, 0)
        if event.key in ("escape", "enter"):
            self.close_overlay()
            if chosen is not None and event.key == "enter" and isawaitable(done := chosen.act()):
                await done
            return
        if not by:
            await self.field.take(event)
        self.list.move(by)
        self._typed(before)

    def take_paste(self, text: str) -> None:
        before = self.field.value
        self.field.paste(text)
        self._typed(before)

    def _typed(self, before: str) -> None:
        """Draw what is found now: from its top where other words stand there."""
        if self.field.value != before:
            self.list.rows, self.list.cursor = self.found(), 0
        self.list.redraw()


def palette(below: LscScreen) -> ChoiceScreen:
    """Every command of the screen below by name. Textual's own palette searches in the background: Enter typed in a
    burst behind the words would choose nothing."""
    choices: list[Choice] = []
    for name, binding in COMMANDS.items():
        if name not in _HIDDEN and below.acts(name) is not False:
            reason, keys = below.why_not(name), below.app.keys[name]
            text = f"{binding.tooltip}{f' ({reason})' if reason else ''}"
            key, act = shown(keys[0]) if keys else "", partial(below.perform, name)
            choices.append(Choice(key, binding.description, text, act, name))
    return ChoiceScreen("command", "does it", choices)
