"""Monitor: one run, its curves, its machine, its settings, its log."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Horizontal

from lsc_tui.data.run_view import ACCURACY, LOSS, RunView
from lsc_tui.lines import Line, clean, fit, rule
from lsc_tui.screens.base import LscScreen
from lsc_tui.screens.chart_screen import ChartCommands
from lsc_tui.screens.monitor import panels as parts
from lsc_tui.screens.monitor.charts import CHARTS, MonitorCharts
from lsc_tui.screens.monitor.embedding_commands import EmbeddingCommands
from lsc_tui.screens.monitor.log import LogCommands
from lsc_tui.services.actions import RunCommands
from lsc_tui.widgets.chart import Chart
from lsc_tui.widgets.log import LogPane, plain
from lsc_tui.widgets.panel import Panel
from lsc_tui.widgets.series import parent_key

EVENT_LINES = 400
PANELS = ("#head", "#readout", "#machine", "#settings", "#events", "#log", "#everything", "#picture", "#classes")


class MonitorScreen(EmbeddingCommands, LogCommands, MonitorCharts, ChartCommands, RunCommands, LscScreen):
    """Follows `store.watched`; the keys act on that run."""

    CSS_PATH = "screen.tcss"
    TAB = "monitor"
    LOOK = "monitor_look"
    FOOTER: ClassVar = ("stop", "checkpoint", "fork", "metric", "axis", "log_y", "smooth", "full")
    FOOTER_WIDE: ClassVar = (
        "stop", "checkpoint", "resume", "fork", "copy", "note", "tag", "cursor_right", "zoom_in", "pan_right", "metric",
        "axis", "log_y", "smooth", "clip", "full",
    )  # fmt: skip
    WORDS: ClassVar = {"full": "zoom"}

    def __init__(self) -> None:
        super().__init__()
        self.load_look()
        self.view_number = 0
        self.pane = 0
        self.everything = False
        self.top = 0
        self._log_lines: list[str] = []
        self._shown_key = ""
        self.start_embeddings()

    def body(self) -> ComposeResult:
        yield Panel(self._draw_head, id="head")
        with Horizontal(id="charts"):
            yield Chart(id="loss")
            yield Chart(id="accuracy")
        with Horizontal(id="more"):
            yield Chart(id="third")
            yield Chart(id="fourth")
        with Horizontal(id="embeddings"):
            yield Panel(self.draw_embeddings, id="picture")
            yield Panel(self.draw_classes, id="classes")
        yield Panel(self._draw_everything, id="everything")
        yield Panel(self._draw_readout, id="readout")
        with Container(id="panels"):
            yield Panel(self._draw_machine, id="machine")
            yield Panel(self._draw_settings, id="settings")
            yield Panel(self._draw_events, id="events")
        yield LogPane(id="log")

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self._set_log_height(event.size.height)

    def _set_log_height(self, height: int) -> None:
        few = max(8, height // 4) if self.wide else max(4, height // 6)
        self.set_height("#log", None if self.has_class("-full-log") else few)

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

    # --- what is shown ------------------------------------------------------------------------------------------

    def show(self) -> None:
        view = self.watched
        log = self.query_one("#log", LogPane)
        if view is None and self._shown_key and self._shown_key not in self.app.store.deleted:
            self.say(self.no_run(), "warn")
        self._shown_key = self._shown_key if view is not None else ""
        if view is not None:
            if view.key != self._shown_key:
                self._shown_key = view.key
                self.look.whole()
                self.look.cursor = None
                self.view_number = 0
                self.start_embeddings()
                log.follow, log.words = True, ""
                self._log_lines = []
            self.show_embeddings(view)
            parent = parent_key(self.app.store, view)
            wanted = {view.key: self.wished(view)}
            if parent:
                wanted[parent] = frozenset((LOSS, ACCURACY))
            self.app.subscribe(wanted, log=view.key, embeddings=view.key)
        index = self.app.poller.log
        current = index if view is not None and index is not None and index.path == view.run.log_path else None
        log.log_index, log.framed = current, self.wide
        if current is not None:
            first = max(0, current.count - EVENT_LINES)
            self._log_lines = [plain(text) for text in current.lines(first, EVENT_LINES)]
        self.show_charts(view)
        self.set_height("#head", max(2, len(self._draw_head(self.size.width, 0))))
        for name in PANELS:
            panel = self.query_one(name, Panel)
            if panel.display:
                panel.redraw()

    def _draw_head(self, width: int, height: int) -> list[Line]:
        view = self.watched
        if view is None:
            return [[(fit(f" {self.no_run()}: 1 shows the runs, 4 starts one", width), "dim")]]
        ahead = [v for v in self.app.store.runs.values() if v.state == "queued" and v.place == view.place - 1]
        return parts.head(view, width, wide=self.wide, ahead=ahead, most=max(2, self.size.height // 2))

    def _draw_machine(self, width: int, height: int) -> list[Line]:
        view = self.watched
        if view is None:
            return []
        event = parts.last_event(view, self._log_lines, width)
        return parts.machine(
            self.app.store, view, width, height, framed=self.wide, last_event=event, now=self.app.clock()
        )

    def _draw_settings(self, width: int, height: int) -> list[Line]:
        view = self.watched
        if view is None:
            return []
        if self.wide:
            return parts.settings_panel(view, width, height, everything=False)
        title, line = parts.difference_line(self.app.store, view, width)
        return [rule(width, title, "d all settings"), line]

    def _draw_events(self, width: int, height: int) -> list[Line]:
        view = self.watched
        if view is None:
            return []
        curves = self.app.store.curves.get(view.key)
        return parts.events_panel(view, curves, self._log_lines, width, height, framed=self.wide)

    def _draw_everything(self, width: int, height: int) -> list[Line]:
        view = self.watched
        return parts.settings_panel(view, width, height, everything=True, top=self.top) if view is not None else []

    def _draw_readout(self, width: int, height: int) -> list[Line]:
        """The readout of both charts at 80 columns."""
        view = self.watched
        return [self.readout_line(view, width)] if view is not None else []

    # --- commands -----------------------------------------------------------------------------------------------

    def do_up(self) -> None:
        self._scroll(-1)

    def do_down(self) -> None:
        self._scroll(1)

    def _scroll(self, by: int) -> None:
        """The log, or the settings while all of them are shown."""
        if self.everything:
            self.top = max(0, min(self.top + by, 60))
            self.query_one("#everything", Panel).redraw()
        else:
            self.log_pane.scroll(by)

    def do_metric(self) -> None:
        view = self.watched
        if view is not None:
            self.view_number = (self.view_number + 1) % len(self.pages(view))
            self.show()

    def do_settings(self) -> None:
        self.everything = not self.everything
        self.set_class(self.everything, "-all-settings")
        self.call_after_refresh(self.show)

    def do_next_pane(self) -> None:
        self.pane = (self.pane % len(self.panes) + 1) % len(self.panes)
        name = self.panes[self.pane]
        words = {"third": "third chart", "fourth": "fourth chart"}.get(name, name)
        self.say(f"z shows the {words} alone")
        self._set_full(self.has_class("-full-charts") or self.has_class("-full-log"))

    def do_full(self) -> None:
        self._set_full(not (self.has_class("-full-charts") or self.has_class("-full-log")))

    @property
    def panes(self) -> tuple[str, ...]:
        """What z shows alone, in the order of Tab."""
        if self.showing_embeddings:
            return ("embeddings", "log")
        return (*(CHARTS if self.has_class("-four") else CHARTS[:2]), "log")

    def _set_full(self, on: bool) -> None:
        pane = self.panes[self.pane % len(self.panes)]
        self.set_class(on and pane != "log", "-full-charts")
        self.set_class(on and pane == "log", "-full-log")
        for name in CHARTS:
            self.set_class(on and pane == name, f"-only-{name}")
        self._set_log_height(self.size.height)
        self.call_after_refresh(self.redraw_all)

    def do_pin(self) -> None:
        view = self.watched
        if view is not None:
            self.app.store.pinned = "" if self.app.store.pinned == view.key else view.key
            self.say(
                f"{view.label} s{view.seed} is {'the baseline' if self.app.store.pinned else 'no baseline any more'}"
            )

    def do_mark(self) -> None:
        view = self.watched
        if view is not None:
            self.app.store.mark(view.key)
            letter = self.app.store.letter(view.key)
            self.say(f"marked {letter}" if letter else "not marked any more")

    def do_compare(self) -> None:
        self.app.compare_runs(list(self.app.store.marked) or [view.key for view in self.targets()])

    def do_copy(self) -> None:
        self.app.copy_run(self.targets()[0])

    def do_fork(self) -> None:
        self.app.fork_run(self.targets()[0])

    def why_not_copy(self) -> str:
        return "" if self.watched is not None else self.no_run()

    def no_run(self) -> str:
        if self.app.store.watched:
            return f"run {clean(self.app.store.watched.partition(':')[2])} is no longer there"
        return "no run is shown" if self.app.store.loaded else "reading the runs"

    why_not_mark = why_not_pin = why_not_metric = why_not_copy

    def leave_layer(self) -> None:
        if self.has_class("-full-charts") or self.has_class("-full-log"):
            self._set_full(False)
        elif self.everything:
            self.do_settings()
        elif self.look.cursor is not None or self.look.x0 is not None:
            self.do_zoom_whole()
        else:
            super().leave_layer()
