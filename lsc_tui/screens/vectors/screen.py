"""Vectors: which system holds how many classes at which n, how far apart they are, what that costs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.suggester import SuggestFromList

from lsc_engine.charts.canvas import Mode
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import grouped
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.registry import suggested
from lsc_tui.lines import Line, clean, fit, pad, rule, wrap
from lsc_tui.screens.base import LscScreen
from lsc_tui.screens.vectors import systems
from lsc_tui.screens.vectors.systems import BYTES, COLUMNS, FIELDS, LOSSES, SCALE, Limits, Row
from lsc_tui.widgets.list_box import ListBox
from lsc_tui.widgets.panel import Box, Panel, Sheet

NOTES = (
    "near in use: classes at the smallest angle from one class. sure below: an image whose own loss is under this has "
    "the right label, whatever the others do.",
    f"crowding: the mean of exp({SCALE:g} cos) over pairs of vectors. …: counted once it is highlighted.",
)
NICE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)


class VectorsScreen(LscScreen):
    """The table of systems. Enter takes the highlighted one into New run."""

    CSS_PATH = "screen.tcss"
    TAB = "vectors"
    FOOTER: ClassVar = "next_pane up open filter export sort_left sort_right invert cursor_left cursor_right log_y"
    WORDS: ClassVar = {"next_pane": "field", "up": "↓ system", "open": "use in New run", "export": "CSV"}
    WORDS |= {"cursor_left": "fewer", "cursor_right": "more classes", "sort_left": "left", "sort_right": "sort"}

    def __init__(self) -> None:
        super().__init__()
        kept = self.app.ui.get("vectors", {})
        self.limits = Limits()
        for field in FIELDS:
            with suppress(UsageError, KeyError):
                self.limits = self.limits.typed(field, str(kept[field]))
        column, inverted, log = kept.get("sort"), kept.get("inverted"), kept.get("log")
        self.column, self.inverted, self.log_n = (
            column if column in COLUMNS else "n",
            inverted is True,
            log is not False,
        )
        self.words = self.fault = ""
        self.editing = ""  # the limit that is being typed
        self.table = ListBox[Row](self._sheet, "table", bare=True)
        self._read: dict[str, VectorSystem | str | None] = {}
        self._counting: set[tuple[str, int, int]] = set()
        self._count()
        self.table.go("V21")

    def body(self) -> ComposeResult:
        yield Panel(lambda width, _: [pad([(text, style) for text, style, _ in self._limits()], width)], id="fields")
        yield self.table
        mode: Mode = "ascii" if self.app.ascii else "braille"
        with Horizontal(id="below"):
            with Vertical(id="left"):
                yield self._of_row("cosines", lambda row, w, h: systems.cosines(row, w, h, self.wide))
                yield self._of_row("examples", systems.examples)
            yield self._of_row("chart", lambda row, *size: systems.chart(row, self.log_n, mode, *size))

    def _of_row(self, name: str, draw: Callable[[Row, int, int], Sheet]) -> Box:
        """A box on the highlighted system."""

        def sheet(width: int, height: int) -> Sheet | None:
            row = self.table.current
            return draw(row, width, height) if row is not None else ("", "", []) if self.wide else None

        return Box(sheet, name)

    def on_screen_resume(self) -> None:
        kind, what = self.app.store.form
        if kind == "classes":
            self.app.store.form = ("", "")
            self.limits = self.limits.typed("classes", what)
            self._count()
        super().on_screen_resume()

    def _limits(self) -> list[tuple[str, str, str]]:
        """The line of limits in pieces: text, style, and the limit that a click on it edits."""
        wide, limits, angle = self.wide, self.limits, self.limits.angle
        labels = ["classes", "  cosine at most", f" = {angle:<6} n at most"]
        if wide:
            labels = [" classes", "    cosine at most", f" = angle at least {angle:<6}   n at most"]
            labels += ["    bytes per number", "    loss"]
        out: list[tuple[str, str, str]] = []
        for label, name, room in zip(labels, FIELDS, (12, 7, 7, 7, 16) if wide else (10, 5, 6), strict=False):
            text = fit(limits.shown(name), room)
            style = "cursor" if name == self.editing else ""
            out += [(f"{label} [", "dim", name), (text, style, name), ("]", "dim", name)]
        return out if wide else [*out, (f" {BYTES[str(limits.bytes)]}", "dim", "most")]

    def clicked(self, panel: Panel, x: int, y: int) -> None:
        start = 0
        for text, _, name in self._limits() if panel.id == "fields" else ():
            start += len(text)
            if x < start:
                self._edit(name)
                return

    def _count(self) -> None:
        """The rows for the limits; keeps what is highlighted."""
        words = self.words.split()
        names = [word for word in words if word.startswith("file:") and word != "file:"]
        rest = [word for word in words if word not in names]
        shown, limits = systems.wanted(" ".join(rest)) if rest or not names else (), self.limits
        rows = systems.rows_of(limits, shown)
        faults = (str(systems.facts_at_n_min(name, limits.classes, limits.cosine)) for name in shown)
        self.fault = "" if rows else next(faults, "")

        def have(name: str, found: VectorSystem | str) -> None:
            self._read[name] = found
            self._again()

        for name in names:
            found = self._read.setdefault(name, None)
            if found is None:
                self._read[name] = f"reading {clean(name)} …"
                self.in_thread(partial(systems.read_file, name), partial(have, name))
            if isinstance(found, VectorSystem):
                rows.append(systems.row_of(found, self.limits))
            else:
                self.fault = str(self._read[name])
        self.table.put(systems.ordered(rows, self.column, self.inverted))

    def show(self) -> None:
        row = self.table.current
        key = (row.system, row.n, row.classes) if row is not None else None
        if row is not None and key is not None and key not in self._counting and not systems.counted(row):
            self._counting.add(key)
            self.in_thread(partial(systems.count_elsewhere, *key), lambda _: self._again())
        for panel in self.query(Panel):
            if panel.display:
                panel.redraw()

    def _again(self) -> None:
        self._count()
        kept = {field: self.limits.shown(field) for field in FIELDS}
        self.app.ui.set(vectors={**kept, "sort": self.column, "inverted": self.inverted, "log": self.log_n})
        self.show()

    def take_limits(self, limits: Limits) -> None:
        self.limits = limits
        self._again()

    def _sheet(self, width: int, height: int) -> Sheet:
        wide, limits, rows = self.wide, self.limits, self.table.rows
        words = f"closer than {limits.angle}, or n above {limits.most}" if wide else "outside the limits"
        first = next((row for row in rows if row.outside), None)

        def lines(row: Row, here: bool) -> list[Line]:
            line = systems.row_line(row, wide, here, width)
            return [rule(width, words), line] if row is first else [line]

        empty = self.fault or systems.none_within(rows, limits)
        empty = empty if empty or rows else f'no system matches "{clean(self.words)}"  Esc clears'
        notes: list[Line] = [[], *([(f"  {text}", "dim")] for text in NOTES)] if wide else []
        arrow = "↓" if self.inverted else "↑"
        head = [systems.header(wide, self.column, arrow), *([(f"  {line}", "warn")] for line in wrap(empty, width - 3))]
        body = [*head, *self.table.body(height - len(head) - len(notes), lines)]
        right = " · ".join(filter(None, (self.table.more, f"sort {COLUMNS[self.column].wide[0].lower()} {arrow}")))
        body += [[] for _ in range(height - len(body) - len(notes))] + notes
        return f"systems that hold {limits.shown('classes')} classes", right, body

    def _draw_message(self, width: int, height: int) -> list[Line]:
        if self._label or self.message[0]:
            return super()._draw_message(width, height)
        limits = self.limits
        words = f"lsc-engine nmin {limits.classes} --max-cosine {limits.cosine:g} prints this table"
        return [pad([(f" {words}", "dim")], width)]

    def action_move(self, rows: int) -> None:
        self.table.move(rows)
        self.show()

    def action_sort(self, by: int) -> None:
        shown = [name for name, column in COLUMNS.items() if self.wide or column.narrow[0]]
        place = shown.index(self.column) if self.column in shown else 0
        self.column = shown[(place + by) % len(shown)]
        self._again()

    def action_invert(self) -> None:
        self.inverted = not self.inverted
        self._again()

    def action_log_y(self) -> None:
        self.log_n = not self.log_n
        self._again()

    def action_move_cursor(self, by: int) -> None:
        """The next rounder number of classes, fewer or more."""
        steps = sorted({round(x * 10**e) for e in range(12) for x in NICE if x * 10**e % 1 == 0} | {10**12})
        now = self.limits.classes
        found = [x for x in steps if x > now] if by > 0 else [x for x in reversed(steps) if x < now]
        if found:
            self.take_limits(replace(self.limits, classes=found[0]))

    def why_not(self, name: str) -> str:
        row = self.table.current
        if row is None and name in ("open", "log_y"):
            return "no system is highlighted"
        if not self.table.rows and name in ("up", "down", "sort_left", "sort_right", "invert", "export"):
            return "the list is empty"
        if row is None or name != "open":
            return super().why_not(name)
        short = row.known.count < row.classes
        return f"{row.system} has {grouped(row.known.count)} vectors only" if short else ""

    def action_open(self) -> None:
        row = self.table.current
        if row is not None:
            self.app.store.form = ("vectors", f"{row.system} {row.n}")
            self.app.go("new")

    def action_export(self) -> None:
        text = systems.table_csv(self.table.rows, self.limits)
        self.save_as(f"vectors-{self.limits.classes}.csv", lambda path: path.write_text(text))

    def leave_layer(self) -> None:
        if self.words:
            self._filter("")
        else:
            super().leave_layer()

    def action_next_pane(self, by: int) -> None:
        """Tab: the first limit, then the next one, then back to the table."""
        names, editing = ["", *list(FIELDS)[: 5 if self.wide else 3]], self.editing
        if self.field is not None and not self.submit():
            return
        name = names[(names.index(editing) + by) % len(names)] if editing in names else ""
        if name:
            self._edit(name)
        self.show()

    def _edit(self, name: str) -> None:
        """Type a limit; what it would give is shown meanwhile."""
        words = {"bytes": BYTES.values(), "loss": LOSSES}.get(name)
        hints = SuggestFromList(list(words)) if words else None
        keys = {"tab": partial(self.action_next_pane, 1), "shift+tab": partial(self.action_next_pane, -1)}
        keys |= {"up": partial(self.action_move, -1), "down": partial(self.action_move, 1)}
        now, done = self.limits.shown(name), partial(self._accept, name)

        def typed(text: str) -> None:
            with suppress(UsageError):  # "1.2" on the way to "1.28M" is no fault yet
                done(text)

        label = f"{FIELDS[name]}; Tab: the next limit"
        self.prompt(label, done, value=now, changed=typed, suggester=hints, replace=True, keys=keys)
        self.editing = name
        self.redraw("#fields")

    def close_field(self) -> None:
        super().close_field()
        self.editing = ""
        self.redraw("#fields")

    def _accept(self, name: str, text: str) -> None:
        limits = self.limits.typed(name, text)
        if limits != self.limits:
            self.take_limits(limits)

    def action_filter(self) -> None:
        def typed(text: str) -> None:
            # A path is read when it is whole.
            self._filter(" ".join(word for word in text.split() if not word.startswith("file:")))

        hints = SuggestFromList([*suggested(), "file:"], case_sensitive=False)
        label = "part of a name, any other system such as V41, or file:PATH"
        self.prompt(label, self._filter, value=self.words, changed=typed, suggester=hints)

    def _filter(self, text: str) -> None:
        self.words = text.strip()
        self._again()
