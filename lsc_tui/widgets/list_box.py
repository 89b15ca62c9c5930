"""A list with a cursor: what the lists of runs, presets, settings, systems, compared rows and choices share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from lsc_tui.lines import Line
from lsc_tui.widgets.panel import Box


class Keyed(Protocol):
    """A row of a list; the cursor passes over one whose key is empty."""

    @property
    def key(self) -> str: ...


R = TypeVar("R", bound=Keyed)


class ListBox(Box, Generic[R]):
    """Rows, of which only those around the cursor are drawn. Redraw it when rows were put or the cursor has moved."""

    rows: Sequence[R] = ()
    cursor = top = 0
    gone: R | None = None  # what was highlighted and is no longer there; nothing takes its place
    more = ""  # how many rows are below those in sight

    @property
    def current(self) -> R | None:
        return self.rows[self.cursor] if self.rows and self.gone is None else None

    def start(self) -> int:
        """The row that the cursor is on at first."""
        return 0

    def near(self, before: R) -> int:
        """The row that the cursor goes to from one that is not in the list any more."""
        return self.cursor

    def clear(self) -> None:
        self.rows, self.gone = (), None

    def go(self, key: str) -> bool:
        """The cursor to the row with a key; False if there is no such row."""
        place = next((i for i, row in enumerate(self.rows) if row.key == key), None)
        if place is not None:
            self.cursor, self.gone = place, None
        return place is not None

    def put(self, rows: Sequence[R], *, by_user: bool = True) -> None:
        """New rows; the cursor stays on the key that it was on. If that is not among them, it goes near if the user
        wanted another list (a filter, folded seeds, a closed study), else nowhere until it is moved."""
        before, self.rows, self.gone = self.gone or self.current, rows, None
        if before is None:
            self.cursor = self.start()
        elif not self.go(before.key):
            self.gone = None if rows and by_user else before
            self.cursor = max(0, min(self.cursor if self.gone else self.near(before), len(rows) - 1))

    def move(self, by: int) -> None:
        """The cursor by rows; if what it was on has gone, on from the row that stands there now."""
        if self.gone is not None and self.rows:
            self.gone, by = None, by - (by > 0)
        self.cursor = max(0, min(len(self.rows) - 1, self.cursor + by))
        if self.rows and not self.rows[self.cursor].key:
            self.cursor += 1 if by > 0 else -1

    def body(self, height: int, lines: Callable[[R, bool], list[Line]], above: int = 0) -> list[Line]:
        """The rows around the cursor as `lines` draws them, given a row and whether the cursor is on it. `above`: rows
        before it that come into sight with it."""
        here, cursor, height = self.current, self.cursor, max(1, height)
        self.top = max(0, min(self.top, len(self.rows) - height, cursor - above), cursor - height + 1)
        shown = [lines(row, row is here) for row in self.rows[self.top : self.top + height]]
        out = [line for row in shown for line in row]
        # A row may have several lines: all of those at the cursor are in sight.
        end = max(height, sum(map(len, shown[: cursor - self.top + 1])))
        below = len(self.rows) - self.top - len(shown) + max(0, len(out) - end)
        self.more = f"{below} more below" if below else ""
        return out[end - height : end]
