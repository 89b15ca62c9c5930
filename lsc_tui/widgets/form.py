"""The form as a panel: rows with a cursor, and the list of choices that Enter opens under a row."""

from __future__ import annotations

from lsc_tui.lines import Line, fit, frame, over, pad, rule
from lsc_tui.widgets.form_rows import Row, problem_block, row_lines
from lsc_tui.widgets.panel import Panel


class FormPanel(Panel):
    """Rows in sight; `choices` are shown under the row at the cursor while they are open."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: list[Row] = []
        self.cursor = 0
        self.top = 0
        self.choices: list[tuple[str, str]] = []
        self.choice = 0
        self.title = ""
        self.right = ""
        self.empty: list[str] = []
        self.framed = False
        self.active = True

    @property
    def current(self) -> Row | None:
        """The row at the cursor."""
        return self.rows[self.cursor] if 0 <= self.cursor < len(self.rows) else None

    def put(self, rows: list[Row]) -> None:
        """New rows; the cursor stays on its row."""
        before = self.current
        self.rows = rows
        if before is not None:
            self.go(before.key)
        self.cursor = max(0, min(self.cursor, len(rows) - 1))
        self.redraw()

    def go(self, key: str) -> bool:
        """The cursor to a row by its key."""
        found = next((i for i, row in enumerate(self.rows) if row.key == key), None)
        if found is not None:
            self.cursor = found
        return found is not None

    def move(self, by: int) -> None:
        """The cursor by rows that it can stand on; in an open list by choices."""
        if self.choices:
            self.choice = max(0, min(len(self.choices) - 1, self.choice + by))
            self.redraw()
            return
        places = [i for i, row in enumerate(self.rows) if row.stands]
        if not places:
            return
        now = min(range(len(places)), key=lambda k: abs(places[k] - self.cursor))
        self.cursor = places[max(0, min(len(places) - 1, now + by))]
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """Title, then the rows around the cursor."""
        inner = width - 2 if self.framed else width
        room = height - (2 if self.framed else 1)
        lines: list[Line] = []
        first = last = 0
        for i, row in enumerate(self.rows):
            here = i == self.cursor and self.active
            if i == self.cursor:
                first = len(lines)
            many = row.kind == "problem" and self.framed
            lines += problem_block(row, inner, here) if many else [row_lines(row, inner, self.framed, here)]
            if i == self.cursor:
                lines += self._choice_lines(inner, max(3, room - 4))
                last = len(lines) - 1
        self.top = max(0, min(self.top, len(lines) - room, first), last - room + 1)
        shown = lines[self.top : self.top + room]
        if not self.rows:
            shown = [[(fit(f" {text}", inner), "dim")] for text in self.empty]
        hidden = len(lines) - self.top - room
        right = self.right if not (hidden > 0 and self.rows) else f"{hidden} more below"
        if self.framed:
            return frame(shown, width, height, self.title, right)
        return [rule(width, self.title, right if hidden > 0 else ""), *shown]

    def _choice_lines(self, width: int, room: int) -> list[Line]:
        if not self.choices:
            return []
        top = max(0, min(self.choice - room // 2, len(self.choices) - room))
        out: list[Line] = []
        for i, (value, words) in enumerate(self.choices[top : top + room], top):
            text = f"     {'▸' if i == self.choice else ' '} {value}{'  ' if value and words else ''}{words}"
            line = pad([(fit(text, width), "" if i == self.choice else "dim")], width)
            out.append(over(line, "cursor") if i == self.choice else line)
        return out
