"""Monitor: one run, its curves or embeddings, its machine, its settings, its log."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Container, Horizontal

from lsc_engine.charts.chart import Series, readout
from lsc_engine.charts.scales import short
from lsc_engine.common.errors import UsageError
from lsc_engine.common.settings import lookup
from lsc_engine.runs.metrics.reader import FIXED
from lsc_engine.runs.read.embeddings import Snapshot, kind_of
from lsc_tui.data.run_cache import NO_LOG
from lsc_tui.data.run_view import ACCURACY, LOSS, Curves, EmbeddingHistory, RunView
from lsc_tui.lines import Line, clean, fit, loss_text
from lsc_tui.screens.monitor import embeddings, panels
from lsc_tui.screens.monitor.panels import GRIDS, LETTER_WORDS, SMALLEST_CHART, Family, families, letter_of, title_words
from lsc_tui.screens.run_screen import RunScreen
from lsc_tui.widgets.chart import (
    UNITS,
    Chart,
    curve_series,
    is_share,
    missing_words,
    parent_key,
    scale_of,
    shown_axis,
    whole_x,
)
from lsc_tui.widgets.log import LogPane, plain
from lsc_tui.widgets.panel import Box, Panel, Sheet

EVENT_LINES = 400
PANELS = ("#head", "#readout", "#machine", "#settings", "#events", "#log", "#picture", "#classes")
EMBEDDINGS: tuple[Family, ...] = ()  # the page of `m` that has no charts
_LOG_FOOTER = "resume filter note copy cursor_right full follow fork stop checkpoint clipboard external delete"
_EMBEDDINGS_FOOTER = (
    "metric cursor_left cursor_right pan_left pan_right tilt_up tilt_down zoom_in zoom_out zoom_whole "
    "full stop checkpoint resume fork copy note tag"
)
_EMBEDDINGS_HELP = {
    "cursor_left": "the epoch before",
    "cursor_right": "the epoch after; after the last one the newest is followed",
    "pan_left": "turn the sphere, or move, to the left",
    "pan_right": "turn the sphere, or move, to the right",
    "zoom_in": "nearer",
    "zoom_out": "farther",
    "zoom_whole": "as at first, the newest epoch",
    "full": "the embeddings alone",
}


class MonitorScreen(RunScreen):
    """Follows `store.watched`; the keys act on that run."""

    CSS_PATH = "screen.tcss"
    TAB = "monitor"
    LOOK = "monitor_look"
    FOOTER: ClassVar = (
        "stop checkpoint resume fork metric axis log_y smooth full copy note tag earlier later hold cursor_right "
        "zoom_in grid settings export delete compare clip pan_right"
    )

    def __init__(self) -> None:
        super().__init__()
        self.view_number = 0  # of the page of `m`
        self.grid = 0  # which of GRIDS
        self.metric_words = ""  # only metrics whose name holds them are in the grid
        self.pane = 0
        self.pane_chosen = False
        self.showing_embeddings = self._have_embeddings = False
        self.embedding_look = embeddings.EmbeddingLook()
        self._log_lines: list[str] = []
        self._shown_key = ""
        self._error_wanted = False  # the log is to open at its first error, once it is read
        self._on_error = False  # the log was opened large by a run that failed

    def body(self) -> ComposeResult:
        def box(name: str, draw: Callable[[RunView, int, int], Sheet], *, divided: bool = False) -> Box:
            """A box of the run that is shown, empty without one."""
            return Box(lambda w, h: draw(view, w, h) if (view := self.watched) else None, name, divided=divided)

        yield Panel(self._draw_head, id="head")
        with Container(id="charts"):
            yield Chart(id="loss")
            yield Chart(id="accuracy")
        with Horizontal(id="embeddings"):
            yield box(
                "picture",
                lambda view, *size: embeddings.picture(
                    view, self.history, self.embedding_look, *size, mode=self.look.mode
                ),
            )
            yield box(
                "classes",
                lambda view, *size: embeddings.table(view, self.history, self.embedding_look, *size),
                divided=True,
            )
        yield Panel(self._draw_readout, id="readout")
        with Container(id="panels"):
            yield box("machine", self._machine)
            yield box("settings", self._settings)
            yield box("events", self._events)
        yield LogPane(id="log")

    def _set_log_height(self) -> None:
        height = self.size.height
        few = max(8, height // 4) if self.wide else max(4, height // 6)
        self.set_height("#log", None if self.has_class("-full-log") or self.has_class("-no-curve") else few)

    @property
    def watched(self) -> RunView | None:
        """The run that is shown: the one opened, at first the newest active one, else the newest. None once it has
        gone: no other takes its place."""
        store = self.app.store
        if not store.watched and store.loaded and store.runs:
            store.watched = max(store.runs.values(), key=lambda v: (v.status.active, v.status.started or 0.0)).key
        return store.runs.get(store.watched)

    def targets(self) -> list[RunView]:
        view = self.watched
        return [view] if view is not None else []

    def no_run(self) -> str:
        if self.app.store.watched:
            return f"run {clean(self.app.store.watched.partition(':')[2])} is no longer there"
        return "no run is shown" if self.app.store.loaded else "reading the runs"

    @property
    def log_pane(self) -> LogPane:
        return self.query_one("#log", LogPane)

    def show(self) -> None:
        if not self.query("#log"):
            return  # a key came before the panels
        view = self.watched
        if view is None and self._shown_key and self._shown_key not in self.app.store.deleted:
            self.say(self.no_run(), "warn")
        self._shown_key = self._shown_key if view is not None else ""
        self.set_class(view is None, "-nothing")
        if view is not None:
            self._show_run(view)
        self.set_height("#head", max(2, len(self._draw_head(self.size.width, 0))))
        self.redraw(*PANELS)

    def _show_run(self, view: RunView) -> None:
        log, width = self.log_pane, self.size.width
        if view.key != self._shown_key:
            self._show_another(view)
        self._choose_layout(view)
        wanted = {view.key: frozenset(name for family in self.shown(view) for name in family) | {LOSS, FIXED}}
        if parent := parent_key(self.app.store, view):
            wanted[parent] = frozenset((LOSS, ACCURACY))
        self.app.subscribe(wanted, watched=view.key)
        index = self.app.poller.log
        log.log_index = index if index.path == view.run.log_path else NO_LOG
        log.large = self.has_class("-full-log")
        if self._error_wanted and log.count:
            self._error_wanted = False
            self.call_after_refresh(log.go_to_first_error)
        found = log.log_index.lines(max(0, log.count - EVENT_LINES), EVENT_LINES)
        self._log_lines = [plain(text) for text in found]
        self._show_charts(view)
        drawn = any(chart.has_curve for chart in self.query(Chart) if chart.display)
        self.set_class(not drawn and not self.showing_embeddings, "-no-curve")
        self._set_log_height()
        # At 80 columns a line without words is not kept.
        lines = 1 + sum(any(text.strip() for text, _ in line) for line in self._machine(view, width, 3)[2])
        narrow, count = not self.wide, 1 + len(self._events(view, width, 2)[2])
        self.set_height("#machine", lines if narrow and not self.showing_embeddings else None)
        self.set_height("#panels", (count if self.showing_embeddings else lines + 2) if narrow else None)

    def _show_another(self, view: RunView) -> None:
        """Begin anew with another run; one that failed opens on its log."""
        log = self.log_pane
        self._shown_key, self.view_number = view.key, 0
        self.look.whole()
        self.embedding_look, self._have_embeddings = embeddings.EmbeddingLook(), False
        log.follow, log.words, log.hit, log.left = True, "", None, None
        self._log_lines, self.pane_chosen, self.metric_words = [], False, ""
        failed = self._error_wanted = view.state in ("failed", "lost")
        if failed != self._on_error:
            self._on_error, self.pane = failed, self.panes.index("log") if failed else 0
            self._set_full(failed)

    def _draw_head(self, width: int, height: int) -> list[Line]:
        view = self.watched
        if view is None:
            return [[(fit(f" {self.no_run()}: 1 shows the runs, 4 starts one", width), "dim")]]
        runs = self.app.store.runs.values()
        ahead = [v for v in runs if v.state == "queued" and v.queue == view.queue and v.place == view.place - 1]
        return panels.head(view, width, wide=self.wide, ahead=ahead, most=max(2, self.size.height // 2))

    def _machine(self, view: RunView, width: int, _: int) -> Sheet:
        event = panels.last_event(view, self._log_lines, width)
        now = self.app.clock()
        return panels.machine(self.app.store, view, width, framed=self.wide, last_event=event, now=now)

    def _settings(self, view: RunView, width: int, height: int) -> Sheet:
        if self.wide:
            return panels.settings_panel(view, width, height)
        return panels.difference_line(self.app.store, view, width)

    def _events(self, view: RunView, width: int, height: int) -> Sheet:
        return panels.events_panel(view, self._curves(view), self._log_lines, width, height, framed=self.wide)

    def _draw_readout(self, width: int, height: int) -> list[Line]:
        if (view := self.watched) is None:
            return []
        feet = [self.foot(view, family, self._family_series(view, family)) for family in self.shown(view)[:2]]
        texts = ["".join(t for t, _ in foot).strip().replace("   ", "  ") for foot in feet]
        if len(texts) < 2:
            return [[(text, "")] for text in texts]
        right = texts[1].partition("  ")[2].strip().replace("val none: labels unique", "val none")
        return [[(fit(texts[0], max(width // 2, width - len(right) - 3)), ""), (f" ┃ {right}", "")]]

    def _curves(self, view: RunView) -> Curves | None:
        return self.app.store.curves.get(view.key)

    def pages(self, view: RunView) -> list[tuple[Family, ...]]:
        """The pages of `m`, each the families of its charts: two by two, or as many as the grid holds. Embeddings come
        second, or last where there are none; they are no page of a grid."""
        curves = self._curves(view)
        found = families(curves.names if curves is not None else (), self.metric_words)
        each = math.prod(GRIDS[self.grid])
        pages = [tuple(found[i : i + each]) for i in range(0, len(found), each)]
        if self.grid:
            return pages
        return [pages[0], EMBEDDINGS, *pages[1:]] if self._have_embeddings else [*pages, EMBEDDINGS]

    def shown(self, view: RunView) -> tuple[Family, ...]:
        pages = self.pages(view)
        return pages[self.view_number % len(pages)]

    def _show_charts(self, view: RunView) -> None:
        store, look = self.app.store, self.look
        charts = list(self.query_one("#charts").query(Chart))
        pages, page, curves = self.pages(view), self.shown(view), self._curves(view)
        self._arrange(len(page))
        key = (view.key, id(curves), id(store.curves.get(parent_key(store, view))), look.axis)
        several = len(pages) > 1 and (self.wide or self.grid > 0)
        number = f"{self.view_number % len(pages) + 1} of {len(pages)}: m next" if several else ""
        number = f"/ {clean(self.metric_words)}  {number}" if self.metric_words else number
        number = "a sample, reading on" if curves is not None and curves.sampled else number
        end = whole_x(view, look.axis)
        for place, chart in enumerate(charts):
            family = page[place] if place < len(page) else ()
            name = family[0] if family else ""
            series = self._family_series(view, family)
            lettered = [s for s in series if s.letter in LETTER_WORDS]
            with_foot = self.wide or (self.grid and look.cursor is not None)
            chart.put(
                series,
                look.view(name, end),
                key=(key, family),
                title=title_words(view, family, look, wide=self.wide) if name else "",
                right=[(number if place == 0 else "", "dim")],
                legend=[[(f"{s.letter} {LETTER_WORDS[s.letter]}", f"series-{s.colour}")] for s in lettered],
                foot=self.foot(view, family, series) if with_foot else None,
                chosen=self.pane_chosen and self.panes[self.pane] == name,
                empty=missing_words(view, curves, name) if name else "",
            )

    def _family_series(self, view: RunView, family: Family) -> list[Series]:
        """The curves of one chart, the fork's parent dim below."""
        store, axis, curves = self.app.store, self.look.axis, self._curves(view)
        if not family:
            return []
        first, scale, out = family[0], scale_of(family[0]), list[Series | None]()
        parent = store.runs.get(parent_key(store, view))
        if parent is not None and first in (LOSS, ACCURACY) and parent.loss_group == view.loss_group:
            out.append(curve_series(parent, self._curves(parent), first, axis, "", 7, scale, dim=True))
        there = tuple(name for name in family if curves is not None and name in curves.curves)
        for i, name in enumerate(family):
            out.append(curve_series(view, curves, name, axis, letter_of(name, there), i, scale))
        return [series for series in out if series is not None]

    def _arrange(self, count: int) -> None:
        """Lay out the charts of a page as nearly in a square as the grid allows, or the chosen one alone."""
        alone = self.pane if self.has_class("-full-charts") and not self.showing_embeddings else -1
        columns = 1 if alone >= 0 or count < 2 else min(GRIDS[self.grid][0], math.ceil(math.sqrt(count)))
        box = self.query_one("#charts")
        box.styles.grid_size_columns = columns
        box.styles.grid_size_rows = 1 if alone >= 0 else max(1, -(-count // columns))
        charts = list(box.query(Chart))
        if (missing := count - len(charts)) > 0:
            added = [Chart() for _ in range(missing)]
            box.mount_all(added)
            charts += added
            self.call_after_refresh(self.redraw_all)
        for place, chart in enumerate(charts):
            chart.display = place == alone if alone >= 0 else place < count

    def foot(self, view: RunView, family: Family, series: list[Series]) -> Line:
        lead = next((s for s in series if not s.dim), None)
        if lead is None or not lead.ys.size:
            return [("", "")]
        look, name, cursor = self.look, family[0], self.look.cursor
        x, value, smoothed = readout(lead, cursor if cursor is not None else float("inf"), smoothing=look.smoothing)
        if cursor is None:
            x, value = float(lead.xs[-1]), float(lead.ys[-1])
        axis = shown_axis(look.axis, [self._curves(view)])
        written = "{:.1f}".format if axis == "epoch" else short
        place = f" {'┃' if cursor is not None else ' '} {UNITS[axis]} {written(x)}"
        if name == LOSS:
            both = bool(look.smoothing) and cursor is not None
            words = [f"smooth {loss_text(smoothed)}  raw {loss_text(value)}" if both else f"loss {loss_text(value)}"]
            if lead.lowest is not None:
                words.append(f"min {loss_text(float(lead.ys[lead.lowest]))} at {written(float(lead.xs[lead.lowest]))}")
        elif name == ACCURACY:
            words = [f"train {value:.1f}", f"best {lead.ys[lead.highest]:.1f}" if lead.highest is not None else ""]
            validation = curve_series(view, self._curves(view), "val/accuracy", look.axis, scale=100.0)
            if validation is not None:
                words.append(f"val {_at(validation, cursor)}")
            elif lookup(view.config, "data.labels") == "unique":
                words.append("val none: labels unique")
        elif len(series) > 1:
            words = [f"{s.letter} {_at(s, cursor)}" for s in series if s.letter]
        else:
            words = [f"{value:.1f}" if is_share(name) else short(value)]
        return [(place, "accent" if cursor is not None else "dim"), ("   " + "   ".join(w for w in words if w), "")]

    @property
    def history(self) -> EmbeddingHistory | None:
        """The snapshots of the run that is shown, None until they are read."""
        return self.app.store.embeddings.get(self.app.store.watched)

    @property
    def snapshot(self) -> Snapshot | None:
        return self.embedding_look.shot(self.history)

    def _choose_layout(self, view: RunView) -> None:
        """Lay out for the page that is shown; when the first embeddings come, it stays the same page."""
        page = self.shown(view)
        self._have_embeddings = self.history is not None and bool(self.history.shots)
        self.view_number = self.pages(view).index(page)
        if self.showing_embeddings != (page == EMBEDDINGS):
            self.showing_embeddings = page == EMBEDDINGS
            self.set_class(self.showing_embeddings, "-embeddings")
            self.call_after_refresh(self.redraw_all)

    def footer(self) -> tuple[Sequence[str], dict[str, str]]:
        names, words = super().footer()
        if self.watched is None:
            return ("runs", "new"), words
        if self.searching:
            words = {**words, "note": "next hit", "copy": "previous hit"}
        if self.has_class("-full-log"):
            right = "unwrap" if self.log_pane.left is None else "sideways"
            return _LOG_FOOTER.split(), {**words, "filter": "search", "cursor_right": right}
        if not self.showing_embeddings:
            return names, words
        kind = kind_of(self.snapshot)
        turn, tilt = ("turn", "tilt") if kind == "sphere" else ("move", "move")
        words = words | dict.fromkeys(("cursor_left", "cursor_right"), "epoch") | {"zoom_whole": "whole"}
        words |= dict.fromkeys(("pan_left", "pan_right"), turn) | dict.fromkeys(("tilt_up", "tilt_down"), tilt)
        return _EMBEDDINGS_FOOTER.split(), words

    def help_of(self, name: str) -> str:
        if self.has_class("-full-log") and name in ("cursor_left", "cursor_right"):
            return "the log sideways; back at the left its lines are wrapped"
        if self.searching and name in ("note", "copy"):
            return f"the {'next' if name == 'note' else 'previous'} line of the log that holds the words"
        return (_EMBEDDINGS_HELP.get(name) if self.showing_embeddings else None) or super().help_of(name)

    def action_move_cursor(self, columns: int) -> None:
        if self.has_class("-full-log"):
            self.log_pane.sideways(columns)
        else:
            super().action_move_cursor(columns)

    def action_look(self, what: str, by: float) -> None:
        look, history = self.embedding_look, self.history
        if not self.showing_embeddings:
            super().action_look(what, by)
            return
        if what == "move" and history is not None:
            look.move(history, int(by))
        elif what == "zoom":
            look.zoom(embeddings.NEARER if by < 1 else 1 / embeddings.NEARER)
        elif what == "whole":
            self.embedding_look = embeddings.EmbeddingLook()
        elif what in ("pan", "tilt"):
            right, up = (math.copysign(1, by), 0) if what == "pan" else (0, by)
            look.turn(right, up, flat=kind_of(self.snapshot) != "sphere")
        self.show()

    def why_not(self, name: str) -> str:
        """As for any run; over embeddings, keys of the axes of curves cannot act."""
        if name.startswith(("metric", "mark", "pin", "grid", "settings")) and self.watched is None:
            return self.no_run()
        if name in ("note", "copy") and self.searching:
            return ""
        if name.startswith("cursor") and self.has_class("-full-log"):
            return ""
        if name == "full" and (self.full or self.panes[self.pane % len(self.panes)] == "log"):
            return ""
        if not self.showing_embeddings:
            return super().why_not(name)
        if name.startswith(("cursor", "pan", "tilt", "zoom")) and not name.startswith("zoom_y"):
            return self.embedding_look.why_not(name, self.history)
        if name == "grid":
            return "embeddings are one picture; m shows the curves"
        if name in ("axis", "log_x", "log_y", "smooth", "clip", "zoom_y_in", "zoom_y_out"):
            return "embeddings have no such axis; m shows the curves"
        return "" if name == "full" else super().why_not(name)

    @property
    def page(self) -> int:
        return self.log_pane.page

    def action_move(self, rows: int) -> None:
        self.log_pane.scroll(rows)

    def action_follow(self) -> None:
        if self.log_pane.follow:
            self.log_pane.follow = False
            self.log_pane.redraw()
        else:
            self.log_pane.scroll(self.log_pane.count)

    def action_filter(self) -> None:
        if self.grid and not self.has_class("-full-log"):
            label, filtered = "metrics whose name holds; a regular expression; empty: all", self._filter_metrics
            self.prompt(label, filtered, value=self.metric_words, changed=filtered, replace=True)
            return

        def search(words: str) -> None:
            """The nearest hit above, else the nearest below."""
            if not self.log_pane.find(words) and not self.log_pane.find(words, down=True):
                self.log_pane.find("")
                raise UsageError(f'the log holds no "{words}"')

        self.prompt("search the log, upwards first", search, value=self.log_pane.words)

    def _filter_metrics(self, words: str) -> None:
        view = self.watched
        curves = self._curves(view) if view is not None else None
        if words and (curves is None or not families(curves.names, words)):
            raise UsageError(f'no metric of this run holds "{words}"')
        self.metric_words, self.view_number, self.pane = words, 0, 0
        self.show()

    def _find(self, *, down: bool) -> None:
        words = self.log_pane.words
        if not self.log_pane.find(words, down=down):
            where = "below here, N goes up" if down else "above here, n goes down"
            self.say(f'the log holds no "{words}" {where}', "warn")

    @property
    def searching(self) -> bool:
        """Whether a search of the log is open: then n and N go to its next and previous hit."""
        return bool(self.log_pane.words)

    def action_note(self) -> None:
        if self.searching:
            self._find(down=True)
        else:
            super().action_note()

    def action_copy(self) -> None:
        if self.searching:
            self._find(down=False)
        else:
            super().action_copy()

    def action_settings(self) -> None:
        view = self.targets()[0]
        self.read(f"settings of {view.id}", panels.all_settings(view))

    def action_next_metric(self, by: int) -> None:
        if (view := self.watched) is not None:
            self.view_number = (self.view_number + by) % len(self.pages(view))
            self.pane = min(self.pane, len(self.panes) - 1)
            self.show()

    def action_grid(self) -> None:
        """The next larger grid whose charts can be read, after the largest the two again."""
        room = (self.size.width // SMALLEST_CHART[0], (self.size.height - 4) // SMALLEST_CHART[1])
        fitting = [i for i, (columns, rows) in enumerate(GRIDS) if columns <= room[0] and rows <= room[1]]
        self._set_grid(next((i for i in fitting if i > self.grid), 0))

    def _set_grid(self, grid: int) -> None:
        """Show a grid at the page with what the page before began with."""
        view = self.watched
        if view is None:
            return
        first, self.grid = self.shown(view)[:1], grid
        pages = self.pages(view)
        self.view_number = next((i for i, page in enumerate(pages) if first and first[0] in page), 0)
        self.pane = 0
        self.set_class(self.grid > 0, "-grid")
        self.show()
        columns, rows = GRIDS[self.grid]
        self.say(f"{columns}×{rows} charts; / filters by name, m M turn pages" if self.grid else "two charts")

    @property
    def panes(self) -> tuple[str, ...]:
        """What z shows alone, in the order of Tab: each chart by its first metric, and the log."""
        if self.showing_embeddings:
            return ("embeddings", "log")
        view = self.watched
        return (*(family[0] for family in (self.shown(view) if view is not None else ())), "log")

    @property
    def full(self) -> bool:
        return self.has_class("-full-charts") or self.has_class("-full-log")

    def action_next_pane(self, by: int) -> None:
        self.pane = (self.pane % len(self.panes) + by) % len(self.panes)
        self.pane_chosen = True
        self.say(f"z shows {clean(self.panes[self.pane])} alone")
        self._set_full(self.full)

    def action_full(self) -> None:
        self._set_full(not self.full)

    def _set_full(self, on: bool) -> None:
        pane = self.panes[self.pane % len(self.panes)]
        self.set_class(on and pane != "log", "-full-charts")
        self.set_class(on and pane == "log", "-full-log")
        self._set_log_height()
        self.call_after_refresh(self.redraw_all)

    def action_pin(self) -> None:
        view, store = self.targets()[0], self.app.store
        store.pinned = "" if store.pinned == view.key else view.key
        self.say(f"{view.label} s{view.seed} is {'the baseline' if store.pinned else 'no baseline any more'}")

    def action_mark(self) -> None:
        store = self.app.store
        store.mark(store.watched)
        letter = store.marked.get(store.watched, "")
        self.say(f"marked {letter}" if letter else "not marked any more")

    def leave_layer(self) -> None:
        if self.searching:
            self.log_pane.find("")
        elif self.full:
            self._set_full(False)
        elif self.look.changed:
            self.action_look("whole", 0)
        elif self.metric_words:
            self._filter_metrics("")
        elif self.grid:
            self._set_grid(0)
        else:
            super().leave_layer()


def _at(series: Series, cursor: float | None) -> str:
    value = readout(series, cursor, smoothing=0.0)[1] if cursor is not None else float(series.ys[-1])
    return f"{value:.1f}" if abs(value) < 1e4 else short(value)
