"""The log of a run: follows its end until scrolled; any length, since only the lines in sight are read."""

from __future__ import annotations

import re

from rich.cells import chop_cells
from rich.text import Text

from lsc_tui.data.run_cache import NO_LOG
from lsc_tui.lines import Line, clean, fit
from lsc_tui.widgets.panel import Box, Sheet

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")
_ALARM = re.compile(r"error|traceback|failed|nan|out of memory|not saved|no space", re.IGNORECASE)
_ERROR = re.compile(r"error|traceback|failed|out of memory|no space", re.IGNORECASE)
_FOUND_AT_MOST = 200_000
_CHUNK = 512
_TAIL = 2000  # lines in which the first error is looked for


def plain(text: str) -> str:
    """A log line without colours and control characters."""
    return clean(_ESCAPES.sub("", text).replace("\t", "    "))


class LogPane(Box):
    """Give it the index of a log; `redraw` after news."""

    def __init__(self, *, id: str = "") -> None:
        super().__init__(id=id)
        self.log_index = NO_LOG
        self.follow = True
        self.top = 0
        self.large = False  # has the screen for itself: long lines go on in the next row, or are scrolled sideways
        self.left: int | None = None  # cells scrolled out of sight at the left; None where lines are wrapped
        self.words = ""  # what is searched for
        self.hit: int | None = None  # the line where it was found last

    @property
    def page(self) -> int:
        return max(1, self.size.height - (2 if self.framed else 1))

    @property
    def count(self) -> int:
        return self.log_index.count

    def scroll(self, by: int) -> None:
        """Up and down by lines; reaching the end follows again."""
        end = max(0, self.count - self.page)
        here = end if self.follow else self.top
        self.top = max(0, min(end, here + by))
        self.follow = self.top >= end
        self.redraw()

    def sideways(self, by: int) -> None:
        """To the right by `by` steps of 20 cells, unwrapped at first; back at the left, wrapped again."""
        left = (-20 if self.left is None else self.left) + 20 * by
        self.left = left if left >= 0 else None
        self.redraw()

    def find(self, words: str, *, down: bool = False) -> bool:
        """Go to the nearest line above, or below, that holds the words; whether there is one."""
        if words != self.words:
            self.words, self.hit = words, None
        if not words:
            self.redraw()
            return True
        start = self.hit if self.hit is not None else self.count if self.follow else self.top
        end = min(self.count, start + _FOUND_AT_MOST) if down else max(0, start - _FOUND_AT_MOST)
        for at in range(start + 1, end, _CHUNK) if down else range(start, end, -_CHUNK):
            first, stop = (at, at + _CHUNK) if down else (max(0, at - _CHUNK), at)
            lines = self.log_index.lines(first, stop - first)
            for i in range(len(lines)) if down else reversed(range(len(lines))):
                if words.lower() in plain(lines[i]).lower():
                    self.hit = first + i
                    self._go(self.hit)
                    return True
        return False

    def go_to_first_error(self) -> None:
        """The first line near the end that names an error at the top, with two lines before it."""
        begin = max(0, self.count - _TAIL)
        lines = self.log_index.lines(begin, _TAIL)
        found = next((i for i, line in enumerate(lines) if _ERROR.search(plain(line))), None)
        if found is not None:
            self._go(max(0, begin + found - 2))

    def _go(self, line: int) -> None:
        self.follow, self.top = False, line
        self.redraw()

    def sheet(self, width: int, height: int) -> Sheet:
        page, inner = self.page, width - (2 if self.framed else 0)
        end = max(0, self.count - page)
        self.top = end if self.follow else max(0, min(self.top, end))
        raw = self.log_index.lines(self.top, page)
        body = [piece for text in raw for piece in self._rows(plain(text), inner)]
        body = (body[-page:] if self.follow else body[:page]) or [[("log.txt is empty", "dim")]]
        state = "following" if self.follow else f"line {self.top + 1} of {self.count}, G end"
        if self.large:
            state += " · → unwraps" if self.left is None else f" · ← → from column {self.left + 1}"
        if not self.framed:
            return "log", f"f {state}", body
        right = f"n N next hit · {state}" if self.words else f"f {state} · / search · g top"
        return "log · log.txt", right, [[(" ", ""), *line] for line in body]

    def _rows(self, line: str, width: int) -> list[Line]:
        stamp, rest = (line[:8], line[8:]) if re.match(r"\d\d:\d\d:\d\d ", line) else ("", line)
        style = "error" if _ALARM.search(rest) else ""
        if self.words and self.words.lower() in line.lower():
            style = "accent"
        room = max(1, width - len(stamp))
        if self.large and self.left is not None:
            cells = chop_cells(rest, self.left) if self.left else ["", rest]
            return [[(stamp, "dim"), (fit("".join(cells[1:]), room), style)]]
        # Broken between words, with the blanks that a traceback begins its lines with.
        pieces = [str(line) for line in Text(rest).wrap(self.app.console, room)] if self.large else [rest]
        return [
            [(stamp if i == 0 else " " * len(stamp), "dim"), (fit(piece, room), style)]
            for i, piece in enumerate(pieces)
        ]
