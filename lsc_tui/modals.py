"""What lies over a screen for a moment and gets every key while it is on top: help, palette, a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen

from lsc_engine.common.formatting import counted
from lsc_tui.keymap import COMMANDS, GROUPS, shown
from lsc_tui.lines import Line, clean, fit, over, pad, rule, wrap
from lsc_tui.widgets.field import Field
from lsc_tui.widgets.list_box import ListBox
from lsc_tui.widgets.panel import Box, Panel, Sheet

if TYPE_CHECKING:
    from lsc_tui.screens.base import LscScreen

_STEPS = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": 20, "pageup": -20, "home": -(10**9), "end": 10**9}
_BESIDE = {
    "mouse": "left to the terminal: select and copy text as anywhere",
    "other keys": "lsc-tui --keys prints them as a file to change",
}
_HIDDEN = ("palette", "up", "down", "first", "last", "page_up", "page_down")
_RULE = "│ "
_CELL = re.compile(r"(?<!\\)\|")
_PICTURE = re.compile(r"!\[(.*?)\]\((.*?)\)")


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
        self.heading, self.top = heading, 0

    def compose(self) -> ComposeResult:
        yield Box(self._sheet, "text")

    def lines(self, width: int) -> list[Line]:
        """All lines for a frame of this width inside."""
        return []

    def _sheet(self, width: int, height: int) -> Sheet:
        lines = self.lines(max(20, width - 2))
        self.top = max(0, min(self.top, len(lines) - height))
        left = len(lines) - self.top - height
        body: list[Line] = [[(" ", ""), *line] for line in lines[self.top : self.top + height]]
        return self.heading, f"↓ {left} more" if left > 0 else "Esc closes", body

    async def take_key(self, event: events.Key) -> None:
        if event.key in _STEPS:
            self.top = max(0, self.top + _STEPS[event.key])
            self.query_one("#text", Panel).redraw()
        else:
            self.close_overlay()


class HelpScreen(ScrolledText):
    """Every key of the screen below, grouped; made from its active bindings."""

    def __init__(self, below: LscScreen) -> None:
        super().__init__(f"keys of {below.TAB.removesuffix('_tab')}")
        self.below = below

    def lines(self, width: int) -> list[Line]:
        below, entries, half = self.below, list[Line](), width // 2 if width >= 110 else width
        active = {one.binding.id: one.enabled for one in below.active_bindings.values()}
        for group, names in GROUPS.items():
            found = [name for name in names if name in active]
            entries += [[(group, "title")]] if found else []
            for name in found:
                reason = "" if active[name] else below.why_not(name)
                keys = fit(f"  {' '.join(map(shown, below.app.keys[name]))}", 14)
                words = below.help_of(name) + (f" ({reason})" if reason else "")
                for number, text in enumerate(wrap(words, half - 15)):
                    entries.append([(" " * 14 if number else keys, "key"), (text, "dim" if reason else "")])
        entries.append([("beside the keys", "title")])
        entries += [[(fit(f"  {what}", 14), "dim"), (words, "dim")] for what, words in _BESIDE.items()]
        if half == width:
            return entries
        count = -(-len(entries) // 2)
        right = [*entries[count:], []]
        return [[*pad(one, half), *two] for one, two in zip(entries[:count], right, strict=False)]


class Choice(NamedTuple):
    """A line of a list to choose from, and what Enter does on it."""

    shortcut: str
    word: str
    text: str
    act: Callable[[], object]
    id: str = ""

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

        head = rule(width, counted(len(found), self.what), f"Enter {self.does}  Esc closes")
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


def readable(lines: Sequence[str]) -> list[str]:
    """Markdown as it is read in a terminal: the columns of a table below each other, pictures by their file."""
    out: list[str] = []
    rows: list[list[str]] = []
    for line in (*lines, ""):
        if line.startswith("|"):
            rows.append([cell.strip().replace("\\|", "|") for cell in _CELL.split(line.strip().strip("|"))])
            continue
        if rows:
            columns = max(map(len, rows))
            rows = [[*row, *[""] * (columns - len(row))] for row in rows]
            marks = rows[1] if len(rows) > 1 and all(set(cell) <= set("-: ") for cell in rows[1]) else []
            aligns = [">" if mark.endswith(":") and mark[:1] != ":" else "<" for mark in marks] or ["<"] * columns
            body = [rows[0], *rows[2:]] if marks else rows
            widths = [max(cell_len(row[i]) for row in body) for i in range(columns)]
            table = ["  ".join(map(fit, row, widths, aligns)) for row in body]
            table[1:1] = ["  ".join("─" * w for w in widths)] if marks else []
            out += [_RULE + text for text in table]
        rows = []
        if not line.startswith("<!--"):
            out.append(_PICTURE.sub(r"picture \2: \1", line))
    return out[:-1]


class TextScreen(ScrolledText):
    """A text such as the TOML behind a run, its comments and table headers highlighted. `prose`: a report in Markdown,
    its sentences broken into lines. ← → move over tables that are wider than the screen."""

    def __init__(self, title: str, text: str, *, prose: bool = False) -> None:
        super().__init__(title)
        self.source = [clean(line) for line in text.splitlines()]
        self.source = readable(self.source) if prose else self.source
        self.prose, self.left = prose, 0
        self._broken: tuple[int, list[str]] = (0, self.source)

    def lines(self, width: int) -> list[Line]:
        if self.prose and self._broken[0] != width:
            kept = (_RULE, "```", "    ", "#")
            parts = ([x] if x.startswith(kept) or len(x) <= width else wrap(x, width) for x in self.source)
            self._broken = (width, [part for lines in parts for part in lines])
        lines = self._broken[1]
        self.left = max(0, min(self.left, max((len(line) for line in lines), default=0) - width))
        marks = {"#": "title"} if self.prose else {"[": "title", "#": "dim"}
        return [[(fit(line[self.left :], width), marks.get(line[:1], ""))] for line in lines]

    async def take_key(self, event: events.Key) -> None:
        if by := {"left": -8, "h": -8, "right": 8, "l": 8}.get(event.key):
            self.left = max(0, self.left + by)
            self.query_one("#text", Panel).redraw()
        else:
            await super().take_key(event)
