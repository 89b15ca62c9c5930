"""The log of a run: follows its end until scrolled; any length, since only the lines in sight are read."""

from __future__ import annotations

import re

from lsc_tui.data.run_cache import LogIndex
from lsc_tui.lines import Line, clean, fit, frame, rule
from lsc_tui.widgets.panel import Panel

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")
_ALARM = re.compile(r"error|traceback|failed|nan|out of memory|not saved|no space", re.IGNORECASE)
_FOUND_AT_MOST = 200_000


def plain(text: str) -> str:
    """A log line without colours and control characters."""
    return clean(_ESCAPES.sub("", text).replace("\t", "    "))


class LogPane(Panel):
    """Give it the index of a log; `redraw` after news."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.log_index: LogIndex | None = None
        self.follow = True
        self.top = 0
        self.framed = False
        self.words = ""

    @property
    def page(self) -> int:
        """Lines in sight."""
        return max(1, self.size.height - (2 if self.framed else 1))

    @property
    def count(self) -> int:
        """Lines there are."""
        return self.log_index.count if self.log_index is not None else 0

    def scroll(self, by: int) -> None:
        """Up and down by lines; reaching the end follows again."""
        end = max(0, self.count - self.page)
        here = end if self.follow else self.top
        self.top = max(0, min(end, here + by))
        self.follow = self.top >= end
        self.redraw()

    def find(self, words: str) -> bool:
        """Go to the nearest line above that holds the words; whether there is one."""
        self.words = words
        if self.log_index is None or not words:
            self.redraw()
            return not words
        stop = self.count if self.follow else self.top
        last = max(0, stop - _FOUND_AT_MOST)
        wanted = words.lower()
        while stop > last:
            start = max(last, stop - 512)
            lines = self.log_index.lines(start, stop - start)
            for i in range(len(lines) - 1, -1, -1):
                if wanted in plain(lines[i]).lower():
                    self.follow, self.top = False, start + i
                    self.redraw()
                    return True
            stop = start
        return False

    def draw(self, width: int, height: int) -> list[Line]:
        """The lines in sight below their rule or in their frame."""
        page, inner = self.page, width - (4 if self.framed else 0)
        end = max(0, self.count - page)
        if self.follow:
            self.top = end
        self.top = max(0, min(self.top, end))
        raw = self.log_index.lines(self.top, page) if self.log_index is not None else []
        body: list[Line] = []
        for text in raw:
            line = plain(text)
            stamp, rest = (line[:8], line[8:]) if re.match(r"\d\d:\d\d:\d\d ", line) else ("", line)
            style = "error" if _ALARM.search(rest) else ""
            if self.words and self.words.lower() in line.lower():
                style = "accent"
            piece: Line = [(" ", "")] if self.framed else []
            body.append([*piece, (stamp, "dim"), (fit(rest, max(0, inner - len(stamp))), style)])
        state = "following" if self.follow else f"line {self.top + 1} of {self.count}, G end"
        if self.framed:
            return frame(body, width, height, "log · log.txt", f"f {state} · / search · g top")
        return [rule(width, "log", f"f {state}"), *body]
