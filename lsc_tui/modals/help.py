"""Help: every key of the screen below, grouped; made from the command table, so it cannot be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsc_tui.keymap import GROUPS, shown
from lsc_tui.lines import Line, fit, pad
from lsc_tui.modals.overlay import ScrolledText

if TYPE_CHECKING:
    from lsc_tui.screens.base import LscScreen

BESIDE = (
    ("mouse", "left to the terminal: select and copy text as anywhere"),
    ("other keys", "lsc-tui --keys prints them as a file to change"),
)


class HelpScreen(ScrolledText):
    """Any key closes it; up and down scroll."""

    def __init__(self, below: LscScreen) -> None:
        super().__init__(f"keys of {below.TAB.removesuffix('_tab')}")
        self.below = below

    def _entries(self) -> list[Line]:
        out: list[Line] = []
        for group in GROUPS:
            found = [c for c in self.below.app.keymap.commands.values() if c.group == group and self.below.can_do(c)]
            out += [[(group, "title")]] if found else []
            for command in found:
                keys = " ".join(shown(key) for key in command.keys)
                reason = self.below.why_not(command)
                line: Line = [(fit(f"  {keys}", 14), "key"), (self.below.help_of(command), "dim" if reason else "")]
                out.append([*line, (f"  ({reason})", "dim")] if reason else line)
        out.append([("beside the keys", "title")])
        return out + [[(fit(f"  {what}", 14), "dim"), (words, "dim")] for what, words in BESIDE]

    def lines(self, width: int) -> list[Line]:
        entries = self._entries()
        if width < 110:
            return [pad(entry, width) for entry in entries]
        half = -(-len(entries) // 2)
        right = [*entries[half:], *([[]] * (2 * half - len(entries)))]
        return [[*pad(one, width // 2), *pad(two, width // 2)] for one, two in zip(entries[:half], right, strict=True)]
