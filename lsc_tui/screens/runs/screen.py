"""Runs: studies, their runs, the queue, the machine; curves of what is highlighted and marked."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.suggester import SuggestFromList

from lsc_engine.userpaths import home_path
from lsc_tui.data.filters import Filter, completions
from lsc_tui.data.reports import Report
from lsc_tui.data.run_view import ACCURACIES, ACCURACY, RunView
from lsc_tui.lines import Line, clean, ends, fit, pad
from lsc_tui.screens.base import Field, LscScreen
from lsc_tui.screens.chart_screen import ChartCommands
from lsc_tui.screens.runs.charts import RunsCharts
from lsc_tui.screens.runs.details import details, gpu_lines, report_details
from lsc_tui.services.actions import RunCommands
from lsc_tui.widgets.chart import Chart
from lsc_tui.widgets.panel import Panel
from lsc_tui.widgets.runs_rows import SORTS, Order, Row, build_rows
from lsc_tui.widgets.runs_table import RunsTable

NO_REPORT = "no report yet: lsc-engine run on its preset makes it, here 4 New run does"


class RunsScreen(RunsCharts, ChartCommands, RunCommands, LscScreen):
    """The list. Enter on a run opens Monitor, on a study Compare with all its runs."""

    CSS_PATH = "screen.tcss"
    TAB = "runs"
    FOOTER: ClassVar = ("open", "mark", "compare", "stop", "resume", "fork", "filter")
    FOOTER_WIDE: ClassVar = (
        "open", "mark", "mark_all", "mark_none", "compare", "stop", "checkpoint", "resume", "fork", "copy", "delete",
        "note", "tag", "fold", "sort_right", "filter",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        ui = self.app.ui
        sort = ui.get("sort", "started")
        self.order = Order(sort if sort in SORTS else "started", ui.get("inverted", False), ui.get("folded", False))
        self.order.closed = {str(key) for key in ui.get("closed", [])}
        accuracy = ui.get("accuracy", ACCURACY)
        self.order.accuracy = accuracy if accuracy in ACCURACIES else ACCURACY
        self.filter = Filter(ui.get("filter", ""), self.order.accuracy)
        self._wanted: tuple[object, ...] = ()
        self._version: tuple[object, ...] = ()
        self.load_look()

    def body(self) -> ComposeResult:
        yield Panel(self._draw_where, id="where")
        with Horizontal(id="middle"):
            yield RunsTable(self.app.verdicts.word, id="table")
            with Vertical(id="side"):
                yield Panel(self._draw_gpus, id="gpus")
                yield Panel(self._draw_details, id="details")
        with Horizontal(id="charts"):
            yield Chart(id="loss")
            yield Chart(id="accuracy")

    @property
    def table(self) -> RunsTable:
        """The list."""
        return self.query_one("#table", RunsTable)

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self._set_heights(event.size.height)

    def _set_heights(self, height: int) -> None:
        few = 5 if height < 30 else max(8, round(height * (0.37 if self.wide else 0.3)))
        self.set_height("#charts", None if self.has_class("-full") else few)

    # --- what is shown ------------------------------------------------------------------------------------------

    def show(self) -> None:
        store, table = self.app.store, self.table
        order = self.order
        wanted = (self.filter.text, order.sort, order.inverted, order.folded, frozenset(order.closed), order.accuracy)
        if (store.version, wanted) != self._version:
            self._show_rows(asked=wanted != self._wanted)
            self._version, self._wanted = (store.version, wanted), wanted
        table.framed = self.wide
        table.letters, table.pinned, table.making = dict(store.marked), store.pinned, [*store.making]
        table.accuracy = order.accuracy
        if self.wide:
            self._ask_standing()
        table.redraw()
        self.query_one("#where", Panel).redraw()
        if self.has_class("-side"):
            gpus = self.query_one("#gpus", Panel)
            self.set_height("#gpus", len(gpu_lines(store, 46)))
            gpus.redraw()
            self.query_one("#details", Panel).redraw()
        self.show_charts()

    def _show_rows(self, *, asked: bool) -> None:
        """Filter, sort and fold: only when a run has changed, or what the user `asked` for."""
        store, table = self.app.store, self.table
        views = [view for view in store.runs.values() if self.filter(view)]
        # Not before the runs, so that the cursor starts on one of them.
        reports = [report for report in store.reports if store.loaded and self.filter.report(report)]
        if self.filter.fault:
            views, reports = [], []
        table.dimmed = any(f.problem for f in store.folders)
        older = [f"{store.older} older not shown, / finds them"] if store.older else []
        table.below = "   ".join([*older, *self._passed()])
        table.empty = self._empty()
        before = table.gone
        rows = build_rows(views, self.order, self._folder_name, store.runs.values(), reports)
        table.put(rows, asked=asked)
        if table.gone is not None and before is None and not asked and table.gone.key not in store.deleted:
            self.say(self._gone_words(table.gone), "warn")
        for study in (store.launched, f"{store.launched}.tune") if store.launched else ():
            if table.go_to_study(study):
                store.launched = ""
                break

    def _gone_words(self, row: Row) -> str:
        """That what was highlighted has gone, and whether it is still there for another filter or order."""
        name = row.views[0].id if row.kind == "run" else row.study
        there = row.views and all(view.key in self.app.store.runs for view in row.views)
        return f"{'run' if row.kind == 'run' else 'study'} {name} is no longer {'in this list' if there else 'there'}"

    @property
    def settled(self) -> bool:
        """Whether all studies in sight have their word."""
        return not self.wide or self.app.verdicts.whole(self._studies_in_sight())

    def _studies_in_sight(self) -> list[list[RunView]]:
        """All runs of each study whose heading is in sight, also those that a filter hides."""
        wanted = {
            (r.views[0].root, r.views[0].study): list[RunView]() for r in self.table.in_sight if r.kind == "study"
        }
        for view in self.app.store.runs.values() if wanted else ():
            if (view.root, view.study) in wanted:
                wanted[view.root, view.study].append(view)
        return [views for views in wanted.values() if views]

    def _ask_standing(self) -> None:
        """Have a worker say how the studies stand whose runs have begun or ended since."""
        self.app.request_verdicts(self._studies_in_sight(), self.show)

    def _folder_name(self, root: int) -> str:
        folders = self.app.store.folders
        return folders[root].name if root < len(folders) else ""

    def _empty(self) -> list[str]:
        store = self.app.store
        where = self.app.place(self.app.folders[0])
        if not store.loaded:
            return [f"reading {where} …"]
        problems = [f.problem for f in store.folders if f.problem]
        if problems:
            return [*problems, "", "4 choose a preset   lsc-tui --demo shows finished runs"]
        if self.filter.text and (store.runs or store.reports):
            return [self._no_match()]
        return [
            f"No runs in {where}.", *self._passed(), "",
            "4  choose a preset and launch it", "lsc-tui --demo  shows finished runs",
            "lsc-engine presets  lists what runs here",
        ]  # fmt: skip

    def _passed(self) -> list[str]:
        """What may hold runs and is not listed, and why: the first, and how many more."""
        passed = [clean(sentence) for folder in self.app.store.folders for sentence in folder.passed]
        more = f" (and {len(passed) - 1} more, lsc-engine list names them)" if len(passed) > 1 else ""
        return [f"not listed: {passed[0]}{more}"] if passed else []

    def _no_match(self) -> str:
        """That the filter shows nothing, and why; "" where it does."""
        if self.table.rows or not self.filter.text or not (self.app.store.runs or self.app.store.reports):
            return ""
        return f"no run matches {self.filter.fault or chr(34) + self.filter.text + chr(34)}  Esc clears"

    def _draw_where(self, width: int, height: int) -> list[Line]:
        store, order = self.app.store, self.order
        problem = self._no_match() or next((f.problem for f in store.folders if f.problem), "")
        if problem:
            return [[(fit(f" {clean(problem)}" if self.wide else clean(problem), width), "warn")]]
        names = [self._first_place()] + [
            f"{f.name}={home_path(f.path)}{' (read only)' if f.read_only else ''}"
            if self.wide
            else f.name or str(f.path)
            for f in store.folders[1:]
        ]
        where = (" dirs " if self.wide else "") + ("   " if self.wide else " + ").join(names)
        chosen = self.filter.text or ("no filter" if self.wide else "(no filter)")
        arrow = "↑" if (order.sort == "started") == order.inverted else "↓"
        studies = len({(v.root, v.study) for v in store.runs.values()}) + len(store.reports)
        things = _count(len(store.runs), "run", "runs"), _count(studies, "study", "studies")
        count = f"{things[0]}, {things[1]} · {order.sort} {arrow}"
        if self.wide:
            fold = "seeds folded (b unfolds)" if order.folded else "seeds shown one by one (b folds)"
            count = f"{things[0]} in {things[1]} · sort {order.sort} {arrow} · {fold}"
        room = max(8, width - len(count) - len(chosen) - 7)
        where = clean(where) if len(where) <= room else "…" + clean(where)[1 - room :]
        left: Line = [(where, ""), ("    / ", "dim"), (clean(chosen), "accent" if self.filter.text else "dim")]
        return [pad(ends(left, [(count, "dim")], width), width)]

    def _first_place(self) -> str:
        place = self.app.place(self.app.folders[0])
        return place if not self.app.demo else f"{place}: recorded runs, a copy" if self.wide else "recorded runs"

    def _draw_gpus(self, width: int, height: int) -> list[Line]:
        return gpu_lines(self.app.store, width)

    def _draw_details(self, width: int, height: int) -> list[Line]:
        row = self.table.current
        if row is not None and row.report is not None:
            return report_details(row.report, width, height, self.app.place)
        return details(
            self.app.store, row.views if row else (), row.kind if row else "", width, height, self.app.clock(),
            self.app.place,
        )  # fmt: skip

    # --- commands -----------------------------------------------------------------------------------------------

    def targets(self) -> list[RunView]:
        row = self.table.current
        return list(row.views) if row is not None else []

    def no_run(self) -> str:
        row = self.table.current
        if self.table.gone is not None and self.table.rows:
            return f"{self._gone_words(self.table.gone)}; ↑ ↓ choose another"
        return "this study is a report, it has no runs" if row is not None and row.report else super().no_run()

    def _move(self, columns: int) -> None:
        ChartCommands._move(self, columns)

    def do_up(self) -> None:
        self._to(-1)

    def do_down(self) -> None:
        self._to(1)

    def do_page_up(self) -> None:
        self._to(-self.table.page)

    def do_page_down(self) -> None:
        self._to(self.table.page)

    def do_first(self) -> None:
        self._to(-len(self.table.rows))

    def do_last(self) -> None:
        self._to(len(self.table.rows))

    def _to(self, by: int) -> None:
        self.app.store.launched = ""
        self.table.move(by)
        if self.has_class("-side"):
            self.query_one("#details", Panel).redraw()
        self.show_charts()

    def do_open(self) -> None:
        row = self.table.current
        if row is None:
            return
        if row.report is not None:
            self._read_report(row.report)
        elif row.kind == "run":
            self.app.watch_run(row.views[0].key)
        else:
            self.app.compare_runs([view.key for view in row.views])

    def why_not_open(self) -> str:
        row = self.table.current
        if row is None:
            return "no run is highlighted"
        if row.report is not None and row.report.made is None:
            return "its report is being made" if row.key in self.app.store.making else NO_REPORT
        return ""

    def _read_report(self, report: Report) -> None:
        """The page of a study without runs, over the screen."""
        self.show_file(report.page, f"{report.study} · {report.page.name}")

    def why_not_toml(self) -> str:
        return "" if self.table.current else "no run is highlighted"

    def do_toml(self) -> None:
        row = self.table.current
        if row is not None and row.report is not None:
            self.show_file(row.report.preset, f"{row.report.study} · {row.report.preset.name}")
        else:
            super().do_toml()

    def do_mark(self) -> None:
        row = self.table.current
        if row is not None:
            for view in row.views:
                self.app.store.mark(view.key)
            if row.kind == "run":
                self.table.move(1)
            self.show()

    def why_not_mark(self) -> str:
        return "" if self.targets() else self.no_run()

    def do_mark_all(self) -> None:
        for row in self.table.rows:
            for view in row.views if row.kind != "study" or row.closed else ():
                if view.key not in self.app.store.marked:
                    self.app.store.mark(view.key)
        self.show()

    def do_mark_none(self) -> None:
        self.app.store.marked.clear()
        self.show()

    def why_not_pin(self) -> str:
        row = self.table.current
        return "" if row is not None and row.kind == "run" else "highlight one run"

    def do_pin(self) -> None:
        row = self.table.current
        if row is not None:
            key = row.views[0].key
            self.app.store.pinned = "" if self.app.store.pinned == key else key
            self.show()

    def why_not_compare(self) -> str:
        return "" if self.targets() or self.app.store.marked else self.no_run()

    def do_compare(self) -> None:
        self.app.compare_runs(list(self.app.store.marked) or [view.key for view in self.targets()])

    def do_fold(self) -> None:
        self.order.folded = not self.order.folded
        self._keep()

    def do_sort_left(self) -> None:
        self._sort(-1)

    def do_sort_right(self) -> None:
        self._sort(1)

    def _sort(self, by: int) -> None:
        self.order.sort = SORTS[(SORTS.index(self.order.sort) + by) % len(SORTS)]
        self._keep()
        self.say(f"sorted by {self.order.sort}")

    def do_invert(self) -> None:
        self.order.inverted = not self.order.inverted
        self._keep()

    def _keep(self) -> None:
        order = self.order
        self.app.ui.set(sort=order.sort, inverted=order.inverted, folded=order.folded, closed=sorted(order.closed))
        self.app.ui.set(accuracy=order.accuracy)
        self.show()

    def do_next_pane(self) -> None:
        """Tab closes and opens the highlighted study."""
        row = self.table.current
        if row is not None and row.views:
            view = row.views[0]
            self.order.closed ^= {f"study:{view.root}:{view.study}"}
            self._keep()

    def do_full(self) -> None:
        self.toggle_class("-full")
        self._set_heights(self.size.height)
        self.call_after_refresh(self.redraw_all)

    def do_metric(self) -> None:
        """The column of accuracies: on the fixed training images, or on the validation set."""
        names = list(ACCURACIES)
        self.order.accuracy = names[(names.index(self.order.accuracy) + 1) % len(names)]
        self.filter = Filter(self.filter.text, self.order.accuracy)
        self._keep()
        self.say(f"accuracy: {self.order.accuracy}")

    def do_copy(self) -> None:
        self.app.copy_run(self.targets()[0])

    def do_fork(self) -> None:
        self.app.fork_run(self.targets()[0])

    def why_not_copy(self) -> str:
        return "highlight one run" if len(self.targets()) > 1 else "" if self.targets() else self.no_run()

    # --- filter -------------------------------------------------------------------------------------------------

    def do_filter(self) -> None:
        words = SuggestFromList(completions(list(self.app.store.runs.values())), case_sensitive=False)
        self.prompt(
            "words, state:running system:V21 loss<0.3 seed:0 owner:anna tag:keep", self._filter_done,
            value=self.filter.text, changed=self._filter_typed, suggester=words, replace=True,
        )  # fmt: skip

    def _filter_typed(self, text: str) -> None:
        self.filter = Filter(text, self.order.accuracy)
        self.show()

    def _filter_done(self, text: str) -> None:
        self._filter_typed(text)
        self.app.ui.set(filter=text)

    async def key_in_field(self, field: Field, key: str, event: events.Key) -> None:
        if key in ("up", "down") and self._prompt_changed is not None:
            self._to(1 if key == "down" else -1)
        else:
            await super().key_in_field(field, key, event)

    def leave_layer(self) -> None:
        if self.has_class("-full"):
            self.do_full()
        elif self.filter.text:
            self._filter_done("")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
