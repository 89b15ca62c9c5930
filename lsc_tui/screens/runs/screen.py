"""Runs: studies, their runs, the queue, the machine; curves of what is highlighted and marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial, partialmethod
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.suggester import SuggestFromList

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import counted
from lsc_engine.common.userpaths import home_path
from lsc_tui.data.filters import FIELDS, Filter, completions, settings_in
from lsc_tui.data.reports import Report
from lsc_tui.data.run_view import ACCURACIES, ACCURACY, LETTERS, LOSS, RunView, colour_of
from lsc_tui.lines import Line, clean, ends, fit, pad, width_of
from lsc_tui.screens.run_screen import RunScreen
from lsc_tui.screens.runs.details import details, gpu_lines, report_details
from lsc_tui.services.actions import named
from lsc_tui.widgets.chart import UNITS, Chart, curve_series, loss_word, missing_words, shown_axis
from lsc_tui.widgets.field import LastWord
from lsc_tui.widgets.panel import Box, Panel, Sheet
from lsc_tui.widgets.runs_table import COLUMNS, PIN, Order, Row, RunsTable, build_rows, heading_key, layout

NO_REPORT = "no report yet: lsc-engine run on its preset makes it, here 4 New run does"
MOST_CURVES = 12
Charted = tuple[RunView, str, int]  # a run with its letter and colour


ORDER = ("sort", "inverted", "folded", "closed", "accuracy", "flat", "group", "columns")  # what is kept of it


def _stored(value: object) -> object:
    return sorted(value) if isinstance(value, set) else list(value) if isinstance(value, tuple) else value


class RunsScreen(RunScreen):
    """The list. Enter on a run opens Monitor, on a study Compare with all its runs."""

    CSS_PATH = "screen.tcss"
    TAB = "runs"
    FOOTER: ClassVar = (
        "new open restore mark compare stop resume fork filter earlier later hold checkpoint copy delete note tag "
        "mark_all mark_none fold sort_right pin export clipboard"
    )

    def __init__(self) -> None:
        super().__init__()
        ui, order = self.app.ui, Order()
        for name in ORDER:
            setattr(order, name, type(getattr(order, name))(ui.get(name, _stored(getattr(order, name)))))
        order.closed, order.columns = set(map(str, order.closed)), tuple(map(str, order.columns))
        order.accuracy = order.accuracy if order.accuracy in ACCURACIES else ACCURACY
        order.sort = order.sort if order.sort in order.sorts else "started"
        self.order = order
        self.hidden = {str(key) for key in ui.get("hidden", [])}
        self.with_hidden = False
        self.kind = ""  # the group of losses that the chart shows, while some run in it has that; else the last run's
        self._settings: list[str] = []
        self.filter = Filter(ui.get("filter", ""), order.accuracy)
        self.table = RunsTable(self.app.verdicts.word, id="table")
        self._row_before = ""  # what was highlighted when a filter was begun, and is again where it is dropped
        self._wanted: tuple[object, ...] = ()
        self._version: tuple[object, ...] = ()
        self._found = 0  # runs that match the filter

    def body(self) -> ComposeResult:
        yield Panel(self._draw_where, id="where")
        with Horizontal(id="middle"):
            yield self.table
            with Vertical(id="side"):
                yield Box(lambda width, _: gpu_lines(self.app.store, width), "gpus")
                yield Box(self._details, "details")
        with Horizontal(id="charts"):
            yield Chart(id="loss")
            yield Chart(id="accuracy")

    @property
    def report(self) -> Report | None:
        """The highlighted study, where it has a report and no runs."""
        return row.report if (row := self.table.current) is not None else None

    def _set_heights(self) -> None:
        height = self.size.height
        few = 5 if height < 30 else max(8, round(height * (0.37 if self.wide else 0.3)))
        # The list needs its head, and in its frame two lines more.
        free = height - 4 - 4 * self.wide - max(len(self.table.rows), len(self.table.empty)) - bool(self.table.below)
        few = max(few, min(free, height // 2 if self.wide else free))
        if self.app.store.loaded and not any(view.status.step for view in self.app.store.runs.values()):
            few = 1  # nothing has a curve yet
        self.set_height("#charts", None if self.has_class("-full") else few)

    def show(self) -> None:
        store, table, order = self.app.store, self.table, self.order
        wanted = (self.filter.text, replace(order, closed=set(order.closed)), frozenset(self.hidden), self.with_hidden)
        if (store.version, wanted) != self._version:
            self._show_rows(by_user=wanted != self._wanted)
            self._version, self._wanted = (store.version, wanted), wanted
        table.pinned, table.making = store.pinned, [*store.making]
        table.order, table.hidden = order, self.hidden
        self.show_charts()
        if self.wide:
            self.app.verdicts.request(self._studies_in_sight(), self.app.call_soon, self.show)
        self.redraw("#where")
        self._set_heights()
        self.set_class(self.size.width >= 140 and self.wide and bool(table.rows), "-side")
        if self.has_class("-side"):
            gpus = gpu_lines(store, 44)
            self.set_height("#gpus", len(gpus[2]) + 2 if gpus is not None else 0)
            self.redraw("#gpus", "#details")

    def _show_rows(self, *, by_user: bool) -> None:
        """Filter, sort and fold: only when a run has changed, or what the user asked for (`by_user`)."""
        store, table = self.app.store, self.table
        kept = [v for v in store.runs.values() if self.with_hidden or v.key not in self.hidden]
        views = [view for view in kept if self.filter(view)]
        # Not before the runs, so that the cursor starts on one of them.
        reports = [report for report in store.reports if store.loaded and self.filter(report)]
        table.dimmed = any(f.problem for f in store.folders)
        older = [f"{store.older} older not shown, / finds them"] if store.older else []
        table.below = "   ".join([*older, *self._passed()])
        before, names = table.gone, dict(enumerate(folder.name for folder in store.folders))
        rows = build_rows(views, self.order, lambda root: names.get(root, ""), store.runs.values(), reports)
        table.empty, self._found = [] if rows else self._empty(), len(views)
        row = table.current
        deleted = row is not None and bool(row.views) and all(view.key in store.deleted for view in row.views)
        table.put(rows, by_user=by_user or deleted)
        if table.gone is not None and before is None and not (by_user or deleted):
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
        return not self.wide or self.app.verdicts.whole(self._studies_in_sight())

    def _studies_in_sight(self) -> list[list[RunView]]:
        """All runs of each study whose heading is in sight, also those that a filter hides."""
        table = self.table
        in_sight = [row for row in table.rows[table.top : table.top + table.page] if row.kind == "study"]
        wanted = {(row.views[0].root, row.views[0].study): list[RunView]() for row in in_sight}
        for view in self.app.store.runs.values() if wanted else ():
            if (view.root, view.study) in wanted:
                wanted[view.root, view.study].append(view)
        return [views for views in wanted.values() if views]

    def _empty(self) -> list[str]:
        store = self.app.store
        where = home_path(self.app.folders[0])
        if not store.loaded:
            return [f"reading {where} …"]
        problems = [f.problem for f in store.folders if f.problem]
        if problems:
            return [*problems, "", "4 choose a preset   lsc-tui --demo shows finished runs"]
        if (store.runs or store.reports) and not self.filter.text:
            return ["all runs are hidden. A lists them, H on one shows it again"]
        if store.runs or store.reports:
            fault = f"filter: {self.filter.fault}" if self.filter.fault else f'no run matches "{self.filter.text}"'
            return [f"{fault}  Esc clears"]
        return [
            f"No runs in {where}.",
            *self._passed(),
            "",
            "4  choose a preset and launch it",
            "lsc-tui --demo  shows finished runs",
            "lsc-engine presets  lists what runs here",
        ]

    def _passed(self) -> list[str]:
        """What may hold runs and is not listed, and why: the first, and how many more."""
        passed = [clean(sentence) for folder in self.app.store.folders for sentence in folder.passed]
        more = f" (and {len(passed) - 1} more, lsc-engine list names them)" if len(passed) > 1 else ""
        return [f"not listed: {passed[0]}{more}"] if passed else []

    def _draw_where(self, width: int, height: int) -> list[Line]:
        store, order, wide = self.app.store, self.order, self.wide
        problem = next((f.problem for f in store.folders if f.problem), "")
        if problem:
            return [[(fit(f" {clean(problem)}" if wide else clean(problem), width), "warn")]]
        first = home_path(self.app.folders[0])
        if self.app.demo:
            first = f"{first}: recorded runs, a copy" if wide else "recorded runs"
        others = [
            f"{f.name}={home_path(f.path)}{' (read only)' if f.read_only else ''}" if wide else f.name or str(f.path)
            for f in store.folders[1:]
        ]
        where = clean(" dirs " + "   ".join([first, *others]) if wide else " + ".join([first, *others]))
        chosen = self.filter.text or ("no filter" if wide else "(no filter)")
        parts = [words for words in ("flat" * order.flat, f"by {order.group}" * bool(order.group)) if words]
        away = sum(key in self.hidden for key in store.runs)
        parts += [f"{order.sort.rpartition('.')[2]} {order.arrow}", *([f"{away} hidden"] if away else [])]
        order_words = " · ".join(parts)
        studies = len({(v.root, v.study) for v in store.runs.values()}) + len(store.reports)
        of = f"{self._found} of " if self.filter.text else ""
        runs, groups = of + counted(len(store.runs), "run"), counted(studies, "study", "studies")
        hidden = len(self.table.rows) - self.table.top - self.table.page
        count = f"{runs}, {groups} · {order_words}" + (f" · {hidden} below" if hidden > 0 else "")
        if wide:
            fold = "seeds folded (b unfolds)" if order.folded else "seeds shown one by one (b folds)"
            count = f"{runs} in {groups} · sort {order_words} · {fold}"
        room = max(8, width - len(count) - len(chosen) - 7)
        where = where if len(where) <= room else "…" + where[1 - room :]
        left: Line = [(where, ""), ("    / ", "dim"), (clean(chosen), "accent" if self.filter.text else "dim")]
        return [pad(ends(left, [(count, "dim")], width), width)]

    def _details(self, width: int, height: int) -> Sheet:
        row, app = self.table.current, self.app
        if self.report is not None:
            return report_details(self.report, width, height)
        views, kind = (row.views, row.kind) if row is not None else ((), "")
        return details(app.store, views, kind, width, height, app.clock())

    def _charted(self) -> list[Charted]:
        """Runs with letter and colour: the marked ones and what is highlighted, that last, so it lies on top."""
        store, row = self.app.store, self.table.current
        chosen = {key: store.runs[key] for key in store.marked if key in store.runs}
        out = [(view, store.marked[key], colour_of(store.marked[key])) for key, view in chosen.items()]
        if row is not None and row.views:
            fresh = [view for view in row.views if view.key not in chosen]
            if len(row.views) > 1 or row.kind == "study":
                free = [letter for letter in LETTERS if letter not in store.marked.values()]
                letters = [free[i % len(free)] for i in range(len(fresh))]
                out += [(view, letter, colour_of(letter)) for view, letter in zip(fresh, letters, strict=True)]
            else:
                free_colour = next(i for i in range(60) if i not in [colour for _, _, colour in out])
                out += [(view, "+" if chosen else "", free_colour) for view in fresh]
            if row.kind == "run":
                out.sort(key=lambda item: item[0].key == row.key)
        return out[-MOST_CURVES:]

    def show_charts(self) -> None:
        """Put the curves of the marked and highlighted runs into the charts, letters first."""
        look, chosen, store, wide = self.look, self._charted(), self.app.store, self.wide
        self.app.subscribe({view.key: frozenset((LOSS, *ACCURACIES)) for view, _, _ in chosen})
        self.table.letters = {view.key: letter for view, letter, _ in chosen} | store.marked
        self.table.marked = store.marked
        self.table.redraw()
        lead = next((view for view, _, _ in reversed(chosen) if view.loss_group == self.kind), None)
        lead = lead or (chosen[-1][0] if chosen else None)
        same = [item for item in chosen if lead is not None and item[0].loss_group == lead.loss_group]
        legend: list[Line] = [
            [(f"{letter} {clean(view.label)} s{view.seed}".strip(), f"series-{colour % 8}")]
            for view, letter, colour in sorted(same, key=lambda item: item[1])
        ]
        study = lead.study.rpartition("/")[2] if lead else ""
        axis = shown_axis(look.axis, [store.curves.get(view.key) for view, _, _ in chosen])
        words = [study, LOSS, loss_word(lead.loss_group) if lead else "", look.y_words(LOSS), axis]
        words += [look.smoothing_words] if look.smoothing else []
        # The letters tell more than the words: these give way.
        room = self.size.width // (2 if wide else 1) - 8 - sum(width_of(piece) + 2 for piece in legend)
        for word in (axis, study, look.y_words(LOSS)) if room > 20 else ():
            if len(" · ".join(w for w in words if w)) > room and word in words:
                words.remove(word)
        self._put("#loss", same, LOSS, axis, lead, words, legend=legend)
        if wide:
            name, others = self.order.accuracy, len(chosen) - len(same)
            words = [f"{name} %", "eval mode", look.y_words(name), f"{others} with another loss" if others else ""]
            self._put("#accuracy", chosen, name, axis, lead, words, right=[(UNITS[axis], "dim")])

    def _put(
        self,
        chart: str,
        chosen: list[Charted],
        name: str,
        axis: str,
        lead: RunView | None,
        words: list[str],
        *,
        right: Line | None = None,
        legend: list[Line] | None = None,
    ) -> None:
        curves = self.app.store.curves
        scale = 1.0 if name == LOSS else 100.0
        found = [curve_series(v, curves.get(v.key), name, axis, letter, col, scale) for v, letter, col in chosen]
        # Of several without a curve the one at work has the first.
        first = next((view for view, _, _ in chosen if view.status.active), lead)
        empty = missing_words(first, curves.get(first.key), name) if first is not None else ""
        if lead is None and self.report is not None:
            empty = "a report has no curves; Enter reads it"
        self.query_one(chart, Chart).put(
            [series for series in found if series is not None],
            self.look.view(name),
            # What stands for the data in the curves.
            key=(tuple((v.key, id(curves.get(v.key)), letter, colour) for v, letter, colour in chosen), name, axis),
            title=clean(" · ".join(word for word in words if word)),
            right=right,
            legend=legend,
            empty=empty,
        )

    def why_not(self, name: str) -> str:
        row, report = self.table.current, self.report
        if name == "open" and report is not None and report.made is None:
            return "its report is being made" if report.key in self.app.store.making else NO_REPORT
        store, rows = self.app.store, self.table.rows
        if name in ("mark_all", "fold", "sort_left", "sort_right", "invert") and store.loaded and not rows:
            return "the list is empty"
        if name == "mark_all" and all(view.key in store.marked for view in self._to_mark()):
            return "all are marked"
        if name == "mark_none" and not store.marked:
            return "none is marked"
        if name.startswith("cursor") and row is not None and row.kind == "study":
            return ""
        if name == "full" and self.has_class("-full"):
            return ""
        if name in ("open", "toml", "external"):
            return "" if row is not None else "no run is highlighted"
        if name == "pin":
            return "" if row is not None and row.kind == "run" else "highlight one run"
        if name in ("mark", "hide", "compare"):
            return "" if self.targets() or (name == "compare" and store.marked) else self.no_run()
        return super().why_not(name)

    def targets(self) -> list[RunView]:
        row = self.table.current
        return list(row.views) if row is not None else []

    def no_run(self) -> str:
        if self.table.gone is not None and self.table.rows:
            return f"{self._gone_words(self.table.gone)}; ↑ ↓ choose another"
        return "this study is a report, it has no runs" if self.report is not None else super().no_run()

    @property
    def page(self) -> int:
        return self.table.page

    def action_move(self, rows: int) -> None:
        self.app.store.launched = ""
        self.table.move(rows)
        self.show_charts()
        self.redraw("#where")
        if self.has_class("-side"):
            self.redraw("#details")

    def action_move_cursor(self, columns: int) -> None:
        """← and → close and open a study; on a run they move the chart cursor."""
        row = self.table.current
        if row is None or row.kind != "study":
            super().action_move_cursor(columns)
        elif row.closed == (columns > 0) and row.views and not self.order.flat:
            self.order.closed ^= {heading_key(row.views[0], self.order)}
            self._order_changed()

    def clicked(self, panel: Panel, x: int, y: int) -> None:
        """A row is highlighted; a second click on it opens it."""
        row = self.table.top + y - (2 if self.wide else 1)
        if panel is not self.table:
            super().clicked(panel, x, y)
        elif row == self.table.cursor and self.table.current is not None and not self.why_not("open"):
            self.action_open()
        elif self.table.top <= row < len(self.table.rows):
            self.action_move(row - self.table.cursor)

    def action_go(self, tab: str) -> None:
        """Monitor shows the highlighted run."""
        row = self.table.current
        if tab == "monitor" and row is not None and row.kind == "run":
            self.app.store.watched = row.key
        super().action_go(tab)

    def action_open(self) -> None:
        row = self.table.current
        if row is None:
            return
        if row.report is not None:
            self.show_file(row.report.page, f"{row.study} · {row.report.page.name}")
        elif row.kind == "run":
            self.app.watch_run(row.views[0].key)
        else:
            self.app.store.compared = [view.key for view in row.views]
            self.app.go("compare_tab")

    def action_toml(self) -> None:
        if (report := self.report) is not None:
            self.show_file(report.preset, f"{report.study} · {report.preset.name}")
        else:
            super().action_toml()

    def action_external(self) -> None:
        if (report := self.report) is not None:
            self.ask_outside(clean(report.study), {"r": ("report", report.page), "t": ("TOML", report.preset)})
        else:
            super().action_external()

    def action_mark(self) -> None:
        row = self.table.current
        if row is not None:
            for view in row.views:
                self.app.store.mark(view.key)
            if row.kind == "run":
                self.table.move(1)
            self.show()

    def _to_mark(self) -> list[RunView]:
        """The runs in the list, also those of folded rows."""
        return [view for row in self.table.rows if row.kind != "study" or row.closed for view in row.views]

    def action_mark_all(self) -> None:
        for view in self._to_mark():
            if view.key not in self.app.store.marked:
                self.app.store.mark(view.key)
        self.show()

    def action_mark_none(self) -> None:
        self.app.store.marked.clear()
        self.show()

    def action_pin(self) -> None:
        key = self.targets()[0].key
        self.app.store.pinned = "" if self.app.store.pinned == key else key
        self.show()

    def _switch(self, what: str) -> None:
        """Seeds folded or not, the order inverted or not, one list over all studies or a list by study."""
        on = not getattr(self.order, what)
        setattr(self.order, what, on)
        flat = "one list over all studies" if on else "a list by study"
        self._order_changed(flat if what == "flat" else "")

    action_fold = partialmethod(_switch, "folded")
    action_invert = partialmethod(_switch, "inverted")
    action_flat = partialmethod(_switch, "flat")

    def action_sort(self, by: int) -> None:
        sorts = self.order.sorts
        self.order.sort = sorts[(sorts.index(self.order.sort) + by) % len(sorts)]
        self._order_changed(f"sorted by {self.order.sort}")

    def _names(self) -> list[str]:
        """What a run can be grouped by or shown in a column."""
        return [*FIELDS, *settings_in(self.app.store.runs.values())]

    def action_group(self) -> None:
        def done(text: str) -> None:
            name, names = text.strip(), self._names()
            if name and name not in names:
                raise UsageError(f'B: no run has "{name}"; {did_you_mean(name, names)}')
            self.order.group, self.order.flat = name, False
            self._order_changed(f"grouped by {name}" if name else "grouped by study")

        words = SuggestFromList(self._names(), case_sensitive=False)
        label = "group by, such as n, state or optimizer.lr; empty: by study"
        self.prompt(label, done, value=self.order.group, suggester=words, replace=True)

    def action_columns(self) -> None:
        """The columns as a line of names, in their order; `|` after those that stay in sight."""

        def done(text: str) -> None:
            names, known = text.split(), [*COLUMNS, *self._names()]
            if wrong := next((name for name in names if name not in known and name != PIN), ""):
                raise UsageError(f'O: no column "{wrong}"; {did_you_mean(wrong, known)}')
            self.order.columns, self.order.shift = tuple(dict.fromkeys(names)), 0
            if self.order.sort not in self.order.sorts:
                self.order.sort = "started"
            self._order_changed("columns as chosen" if names else "the usual columns")

        shown = " ".join(name for name, _ in layout(self.order, self.table.size.width))
        words = LastWord([*COLUMNS, *self._names()])
        self.prompt(
            "columns; empty: the usual ones", done, value=" ".join(self.order.columns) or shown, suggester=words
        )

    def action_shift_columns(self, by: int) -> None:
        if not self.order.columns:
            self.say("O chooses columns; those that do not fit are reached with ( and )")
            return
        moved = self.order.columns[self.order.columns.index(PIN) + 1 if PIN in self.order.columns else 0 :]
        self.order.shift = max(0, min(len(moved) - 1, self.order.shift + by))
        self.show()

    def action_hide(self) -> None:
        """Hide the runs of the row, or show them again where all are hidden."""
        views = self.targets()
        keys = {view.key for view in views}
        shown = keys <= self.hidden
        self.hidden = self.hidden - keys if shown else self.hidden | keys
        self.app.ui.set(hidden=sorted(self.hidden))
        self.show()
        self.say(f"shown again: {named(views)}" if shown else f"hidden: {named(views)}. A lists what is hidden")

    def action_hidden(self) -> None:
        self.with_hidden = not self.with_hidden
        self.show()
        self.say("with what is hidden, dim; H on it shows it again" if self.with_hidden else "without what is hidden")

    def _order_changed(self, words: str = "") -> None:
        self.app.ui.set(**{name: _stored(getattr(self.order, name)) for name in ORDER})
        self.show()
        if words:
            self.say(words)

    def action_full(self) -> None:
        self.toggle("-full")
        self._set_heights()

    def action_next_metric(self, by: int) -> None:
        """The kinds of loss of the runs in the charts, then the other accuracy: on the fixed training images, or on the
        validation set."""
        names, charted = list(ACCURACIES), [view.loss_group for view, _, _ in self._charted()]
        kinds = list(dict.fromkeys(charted)) or [""]
        shown = self.kind if self.kind in kinds else charted[-1] if charted else ""
        turn = names.index(self.order.accuracy) * len(kinds) + kinds.index(shown) + by
        self.kind = kinds[turn % len(kinds)]
        accuracy = names[turn // len(kinds) % len(names)]
        if accuracy == self.order.accuracy:
            self.say(f"loss: {loss_word(self.kind)}")
            self.show_charts()
            return
        self.order.accuracy = accuracy
        self._filter_typed(self.filter.text)
        self._order_changed(f"accuracy: {accuracy}")

    def action_filter(self) -> None:
        earlier = [str(text) for text in self.app.ui.get("filters", [])]
        self._row_before = self.table.current.key if self.table.current is not None else ""
        self._settings = settings_in(self.app.store.runs.values())  # once: a key has no time to look at every run
        words = LastWord(completions(list(self.app.store.runs.values())))
        self.prompt(
            "words, state:failed|lost lr>1e-4 !tag:old /reg.*ex/; PgUp: earlier ones",
            self._filter_done,
            value=self.filter.text,
            changed=self._filter_typed,
            suggester=words,
            replace=True,
            earlier=[text for text in earlier if text != self.filter.text],
            keys={"up": partial(self.action_move, -1), "down": partial(self.action_move, 1)},
        )

    def _filter_typed(self, text: str) -> None:
        self.filter = Filter(text, self.order.accuracy, self._settings)
        self.show()
        if not text and self._row_before and self.table.go(self._row_before):
            self.show()

    def _filter_done(self, text: str) -> None:
        self._filter_typed(text)
        if self.filter.fault:
            raise UsageError(f"filter: {self.filter.fault}")
        self._row_before = ""
        earlier = [text, *(one for one in self.app.ui.get("filters", []) if one != text)]
        self.app.ui.set(filter=text, filters=earlier[:50] if text.strip() else earlier[1:])

    def footer(self) -> tuple[Sequence[str], dict[str, str]]:
        names, words = super().footer()
        left_out = {"new"} if self.table.rows else set()
        left_out |= set() if self.app.store.deleted else {"restore"}
        return [name for name in names if name not in left_out], words

    def leave_layer(self) -> None:
        if self.has_class("-full"):
            self.action_full()
        elif self.filter.text:
            self._filter_done("")
