"""Monitor: one run, its curves, its machine, its settings, its log (screens.md, 4)."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Horizontal

from lsc_engine.charts import Series, readout, short
from lsc_tui.actions import RunCommands
from lsc_tui.charting import ChartCommands
from lsc_tui.frame import LscScreen
from lsc_tui.lines import Line, clean, fit, loss_text, rule, thousands
from lsc_tui.model import ACCURACY, LOSS, RunView, setting
from lsc_tui.plots import KINDS, curve_series, parent_key, whole_x
from lsc_tui.screens import monitor_parts as parts
from lsc_tui.widgets.chart import UNITS, Chart
from lsc_tui.widgets.log_pane import LogPane, plain
from lsc_tui.widgets.panel import Panel

PANES = ("loss", "accuracy", "log")
# The names that belong on one chart, by the first of them.
FAMILIES = {LOSS: ("val/loss",), ACCURACY: ("val/accuracy", "train/accuracy_augmented")}
EVENT_LINES = 400


class MonitorScreen(ChartCommands, RunCommands, LscScreen):
    """Follows `store.watched`; the keys act on that run."""

    CSS_PATH = "monitor.tcss"
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
        self._log_lines: list[str] = []
        self._shown_key = ""

    def body(self) -> ComposeResult:
        yield Panel(self._draw_head, id="head")
        with Horizontal(id="charts"):
            yield Chart(id="loss")
            yield Chart(id="accuracy")
        yield Panel(self._draw_everything, id="everything")
        yield Panel(self._draw_readout, id="readout")
        with Container(id="panels"):
            yield Panel(self._draw_machine, id="machine")
            yield Panel(self._draw_settings, id="settings")
            yield Panel(self._draw_events, id="events")
        yield LogPane(id="log")

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        if not self.wide:
            self.query_one("#log", LogPane).styles.height = max(4, event.size.height // 6)
        else:
            self.query_one("#log", LogPane).styles.height = max(8, event.size.height // 4)

    @property
    def watched(self) -> RunView | None:
        """The run that is shown: the one opened, else the newest active one, else the newest."""
        store = self.app.store
        if store.watched in store.runs:
            return store.runs[store.watched]
        views = sorted(store.runs.values(), key=lambda v: (v.status.active, v.status.started or 0.0))
        return views[-1] if views else None

    def targets(self) -> list[RunView]:
        view = self.watched
        return [view] if view is not None else []

    # --- what is shown ------------------------------------------------------------------------------------------

    def show(self) -> None:
        view = self.watched
        log = self.query_one("#log", LogPane)
        if view is not None:
            if view.key != self._shown_key:
                self._shown_key = view.key
                self.look.whole()
                self.look.cursor = None
                self.view_number = 0
                log.follow, log.words = True, ""
                self._log_lines = []
            parent = parent_key(self.app.store, view)
            wanted = {view.key: frozenset(self._names(view))}
            if parent:
                wanted[parent] = frozenset((LOSS, ACCURACY, view.accuracy_name))
            self.app.wish(wanted, log=view.key)
        index = self.app.collector.log
        current = index if view is not None and index is not None and index.path == view.run.log_path else None
        log.log_index, log.framed = current, self.wide
        if current is not None:
            first = max(0, current.count - EVENT_LINES)
            self._log_lines = [plain(text) for text in current.lines(first, EVENT_LINES)]
        self._show_charts(view)
        for name in ("#head", "#readout", "#machine", "#settings", "#events", "#log", "#everything"):
            panel = self.query_one(name, Panel)
            if panel.display:
                panel.redraw()

    def _draw_head(self, width: int, height: int) -> list[Line]:
        view = self.watched
        if view is None:
            return [[(fit("no run: 1 shows the runs, 4 starts one", width), "dim")]]
        ahead = [v for v in self.app.store.runs.values() if v.state == "queued" and v.place == view.place - 1]
        return parts.head(view, width, wide=self.wide, ahead=ahead)

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
        return parts.events_panel(view, self.app.store.curves.get(view.key), self._log_lines, width, height)

    def _draw_everything(self, width: int, height: int) -> list[Line]:
        view = self.watched
        return parts.settings_panel(view, width, height, everything=True) if view is not None else []

    # --- curves -------------------------------------------------------------------------------------------------

    def _names(self, view: RunView) -> list[str]:
        """The metrics asked for: those of the view that is shown."""
        pair = self._pair(view)
        return [name for first in pair for name in (first, *FAMILIES.get(first, ()))] + [LOSS]

    def _pairs(self, view: RunView) -> list[tuple[str, str]]:
        """The views of `m`: loss and accuracy first, then what else was logged, two by two."""
        curves = self.app.store.curves.get(view.key)
        taken = {LOSS, ACCURACY, *(name for family in FAMILIES.values() for name in family)}
        others = sorted(name for name in (curves.names if curves is not None else ()) if name not in taken)
        rest = [(others[i], others[i + 1] if i + 1 < len(others) else "") for i in range(0, len(others), 2)]
        return [(LOSS, ACCURACY), *rest]

    def _pair(self, view: RunView) -> tuple[str, str]:
        pairs = self._pairs(view)
        return pairs[self.view_number % len(pairs)]

    def _family(self, view: RunView, first: str) -> list[Series]:
        """Train and validation values of one kind on one chart, the fork's parent dim below."""
        store, look = self.app.store, self.look
        names = [first, *FAMILIES.get(first, ())]
        scale = 100.0 if "accuracy" in first or first.endswith("inside") else 1.0
        several = sum(1 for name in names if self._has(view, name)) > 1
        letters = {"train": "t", "val": "v"}
        out: list[Series] = []
        parent = store.runs.get(parent_key(store, view))
        if parent is not None and first in (LOSS, ACCURACY) and parent.loss_group == view.loss_group:
            below = curve_series(parent, store.curves.get(parent.key), first, look.axis, "", 7, scale, dim=True)
            out += [below] if below is not None else []
        for i, name in enumerate(names):
            letter = letters.get(name.partition("/")[0], "") if several and not name.endswith("augmented") else ""
            found = curve_series(view, store.curves.get(view.key), name, look.axis, letter, i, scale)
            out += [found] if found is not None else []
        return out

    def _has(self, view: RunView, name: str) -> bool:
        curves = self.app.store.curves.get(view.key)
        return curves is not None and name in curves.curves

    def _show_charts(self, view: RunView | None) -> None:
        store, look = self.app.store, self.look
        left, right = self.query_one("#loss", Chart), self.query_one("#accuracy", Chart)
        if view is None:
            for chart in (left, right):
                chart.put([], look.view(), key="none", title="", framed=self.wide)
            return
        pairs = self._pairs(view)
        first, second = self._pair(view)
        key = (view.key, id(store.curves.get(view.key)), id(store.curves.get(parent_key(store, view))), look.axis)
        number = f"{self.view_number % len(pairs) + 1} of {len(pairs)}: m next" if len(pairs) > 1 and self.wide else ""
        curves = store.curves.get(view.key)
        if curves is not None and curves.sampled:
            number = "a sample, reading on"
        end = whole_x(view, look.axis)
        for chart, name, note in ((left, first, number), (right, second, "")):
            series = self._family(view, name) if name else []
            options = look.view() if name == LOSS else look.view(log_y=False, smooth=name != ACCURACY)
            if name == ACCURACY:
                options = look.view(log_y=False, y0=0, y1=100, smooth=False)
            if look.x1 is None and end is not None and not look.log_x:
                options = look.until(options, end)
            chart.put(
                series, options, key=(key, name), title=self._title(view, name) if name else "", framed=self.wide,
                right=[(note, "dim")], foot=self._foot(view, name, series) if self.wide else None,
                empty="no value yet" if name else "",
            )  # fmt: skip

    def _title(self, view: RunView, name: str) -> str:
        look = self.look
        if name == LOSS:
            words = [name, KINDS.get(view.loss_kind, ""), "log y" if look.log_y else ""]
            if look.smoothing:
                words.append(f"smooth {look.smoothing:g}".replace("0.", ".") + (", raw dim" if self.wide else ""))
        elif name == ACCURACY:
            count = setting(view.config, "eval.images")
            images = f", {thousands(count)} fixed images" if isinstance(count, int) else ""
            words = [f"{name} %", f"eval mode{images}"] if self.wide else ["accuracy %"]
        else:
            words = [clean(name)]
        words.append(look.axis if look.axis != "epoch" else "")
        return " · ".join(word for word in words if word)

    def _foot(self, view: RunView, name: str, series: list[Series]) -> Line:
        """The readout under a chart of the wide layout."""
        lead = next((s for s in series if not s.dim), None)
        if lead is None or not lead.ys.size:
            return [("", "")]
        look = self.look
        cursor = look.cursor
        x, value, smoothed = readout(lead, cursor if cursor is not None else float("inf"), smoothing=look.smoothing)
        if cursor is None:
            x, value = float(lead.xs[-1]), float(lead.ys[-1])
        at = f"{x:.1f}" if look.axis == "epoch" else short(x)
        place = f" {'┃' if cursor is not None else ' '} {UNITS[look.axis]} {at}"
        if name == LOSS:
            both = bool(look.smoothing) and cursor is not None
            words = [f"smooth {loss_text(smoothed)}  raw {loss_text(value)}" if both else f"loss {loss_text(value)}"]
            best = lead.lowest
            if best is not None:
                words.append(f"min {loss_text(float(lead.ys[best]))} at {lead.xs[best]:.1f}")
        elif name == ACCURACY:
            words = [f"train {value:.1f}", f"best {lead.ys[lead.highest]:.1f}" if lead.highest is not None else ""]
            words.append(self._validation(view, cursor))
        else:
            words = [short(value)]
        return [(place, "accent" if cursor is not None else "dim"), ("   " + "   ".join(w for w in words if w), "")]

    def _validation(self, view: RunView, cursor: float | None) -> str:
        if self._has(view, "val/accuracy"):
            series = curve_series(
                view, self.app.store.curves.get(view.key), "val/accuracy", self.look.axis, scale=100.0
            )
            if series is not None:
                value = readout(series, cursor, smoothing=0.0)[1] if cursor is not None else float(series.ys[-1])
                return f"val {value:.1f}"
        return "val none: labels unique" if setting(view.config, "data.labels") == "unique" else ""

    def _draw_readout(self, width: int, height: int) -> list[Line]:
        """The readout of both charts at 80 columns."""
        view = self.watched
        if view is None:
            return []
        first, second = self._pair(view)
        feet = [self._foot(view, name, self._family(view, name)) for name in (first, second) if name]
        texts = ["".join(t for t, _ in foot).strip().replace("   ", "  ") for foot in feet]
        if len(texts) < 2:
            return [[(texts[0] if texts else "", "")]]
        right = texts[1].partition("  ")[2].strip().replace("val none: labels unique", "val none")
        room = width - len(right) - 3
        return [[(fit(texts[0], max(width // 2, room)), ""), (f" ┃ {right}", "")]]

    # --- commands -----------------------------------------------------------------------------------------------

    def do_up(self) -> None:
        self.query_one("#log", LogPane).scroll(-1)

    def do_down(self) -> None:
        self.query_one("#log", LogPane).scroll(1)

    def do_page_up(self) -> None:
        log = self.query_one("#log", LogPane)
        log.scroll(-log.page)

    def do_page_down(self) -> None:
        log = self.query_one("#log", LogPane)
        log.scroll(log.page)

    def do_first(self) -> None:
        log = self.query_one("#log", LogPane)
        log.scroll(-log.count)

    def do_last(self) -> None:
        log = self.query_one("#log", LogPane)
        log.scroll(log.count)

    def do_follow(self) -> None:
        log = self.query_one("#log", LogPane)
        if log.follow:
            log.follow = False
            log.redraw()
        else:
            self.do_last()

    def do_filter(self) -> None:
        def done(text: str) -> None:
            if not self.query_one("#log", LogPane).find(text):
                self.say(f'the log holds no "{text}" above here', "warn")

        self.prompt("search the log upwards", done, value=self.query_one("#log", LogPane).words)

    def do_metric(self) -> None:
        view = self.watched
        if view is not None:
            self.view_number = (self.view_number + 1) % len(self._pairs(view))
            self.show()

    def do_settings(self) -> None:
        self.everything = not self.everything
        self.set_class(self.everything, "-all-settings")
        self.call_after_refresh(self.show)

    def do_next_pane(self) -> None:
        self.pane = (self.pane + 1) % len(PANES)
        self.say(f"z shows the {PANES[self.pane]} alone")
        self._set_full(self.has_class("-full-charts") or self.has_class("-full-log"))

    def do_full(self) -> None:
        self._set_full(not (self.has_class("-full-charts") or self.has_class("-full-log")))

    def _set_full(self, on: bool) -> None:
        pane = PANES[self.pane]
        self.set_class(on and pane != "log", "-full-charts")
        self.set_class(on and pane == "log", "-full-log")
        self.set_class(on and pane == "loss", "-only-loss")
        self.set_class(on and pane == "accuracy", "-only-accuracy")
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
        return "" if self.watched is not None else "no run is shown"

    why_not_fork = why_not_mark = why_not_pin = why_not_metric = why_not_copy

    def leave_layer(self) -> None:
        if self.has_class("-full-charts") or self.has_class("-full-log"):
            self._set_full(False)
        elif self.everything:
            self.do_settings()
        elif self.look.cursor is not None or self.look.x0 is not None:
            self.do_zoom_whole()
        else:
            super().leave_layer()
