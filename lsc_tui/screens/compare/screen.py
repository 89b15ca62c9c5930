"""Compare: marked runs or a whole study on one chart and in one table, with levels, speed-ups and the verdict.

What is compared is read in a worker thread and comes back as one `Compared`; here it is only shown. The view (baseline,
levels, axes) can be saved with the runs and opened again; tables and figures are written where lsc-tui runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.containers import Horizontal

from lsc_engine.analysis.compare import Row
from lsc_engine.analysis.levels import is_loss
from lsc_engine.analysis.saved_views import VIEWS, SavedView, save_view
from lsc_engine.analysis.seed_curves import AXES
from lsc_engine.charts.chart import Level, Mark, Series
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import counted, number
from lsc_engine.common.userpaths import home_path
from lsc_engine.runs.folder.layout import PRESET, check_name
from lsc_engine.runs.metrics.machine import PREFIX
from lsc_engine.runs.read.run import Run
from lsc_tui.data.reports import PAGE
from lsc_tui.data.run_view import ACCURACIES, ACCURACY, LOSS, RunView, colour_of
from lsc_tui.lines import Line, clean, wrap
from lsc_tui.screens.base import Answers
from lsc_tui.screens.compare import comparison, panels
from lsc_tui.screens.compare.comparison import Compared, Reader, Request, group_of, level_name
from lsc_tui.screens.compare.panels import csv_text, latex_text, write_figure
from lsc_tui.screens.run_screen import ON_CURVES, ChartScreen
from lsc_tui.services.actions import engine
from lsc_tui.services.verdicts import Claims
from lsc_tui.widgets.chart import UNITS, Chart, is_share, loss_word, scale_of
from lsc_tui.widgets.list_box import ListBox
from lsc_tui.widgets.panel import Box, Panel, Sheet

EMPTY = "Nothing marked. 1 Runs: space marks runs, Enter on a study takes all of it."
_EXPORTS = {"c": ("csv", "CSV"), "l": ("tex", "LaTeX"), "s": ("svg", "SVG"), "f": ("pdf", "PDF"), "n": ("png", "PNG")}
# Inches: one column and the whole width of a page.
_WIDTHS = {"1": 3.3, "2": 6.9}
PANES = ("rows", "verdict", "settings")
LEAST_CHART = 14 / 48  # of the rows of the screen
# What changes the charts alone; what acts on a comparison, and so on none while there is none.
_ON_CHARTS = ("metric", "metric_back", "fold", "full", *ON_CURVES)
_ON_COMPARED = (
    *("pin", "open", "next_pane", "previous_pane", "settings", "export", "external", "save", "level", *_ON_CHARTS),
)


class CompareScreen(ChartScreen):
    """Overlay, table and verdict of the compared runs."""

    CSS_PATH = "screen.tcss"
    TAB = "compare_tab"
    LOOK = "look_compare"
    FOOTER: ClassVar = (
        "pin level metric axis log_y fold settings export open save smooth cursor_right zoom_in zoom_out full log_x "
        "clip"
    )
    WORDS: ClassVar = {"fold": "seeds", "save": "save view", "open": "run"}

    def __init__(self) -> None:
        super().__init__()
        # Which runs: their keys, whole studies (root, study) whose new runs join, and whether the marks chose them.
        self.keys, self.studies, self.by_marks = list[str](), set[tuple[int, str]](), False
        self.found: Compared | None = None
        self.problem = self.metric = ""
        self.table = ListBox[Row](self._rows, "rows", bare=True)
        self.group = ""  # of losses that the loss chart shows, "" for the baseline's
        self.accuracy = ""  # the metric in the column of accuracies, changed by `m` alone
        self.pane, self.tops = 0, [0, 0]  # of PANES: the rows, then what ↑ and ↓ scroll, and how far they are
        self.band = self.app.ui.get("compare_band", True)
        self.levels: dict[str, list[float]] | None = None
        self.report: Path | None = None  # the page written last
        self._busy = False
        self._reader = Reader()
        self._requested: Request | None = None
        self._seen: tuple[list[str], list[str]] = ([], [])

    def body(self) -> ComposeResult:
        yield Panel(self._draw_head, id="head")
        with Horizontal(id="charts"):
            yield Chart(id="main")
            yield Chart(id="other")
        yield self.table
        with Horizontal(id="below"):
            yield Box(partial(self._scrolled, 1), "verdict")
            yield Box(partial(self._scrolled, 2), "settings")

    def on_screen_resume(self) -> None:
        """Take what another tab left: the runs handed over, else the marks, the newer of the two."""
        store = self.app.store
        handed, marked = list(store.compared), list(store.marked)
        (was_handed, was_marked), self._seen = self._seen, (handed, marked)
        if handed != was_handed and handed:
            self.take(handed, by_marks=set(handed) == set(marked))
        elif marked and (marked != was_marked or not self.keys):
            self.take(marked, by_marks=True)
        super().on_screen_resume()

    def take(self, keys: list[str], *, by_marks: bool) -> None:
        runs, picked = self.app.store.runs, set(keys)
        studies = {(v.root, v.study) for k in keys if (v := runs.get(k)) is not None}
        whole = {s for s in studies if all(v.key in picked for v in runs.values() if (v.root, v.study) == s)}
        self.keys, self.studies, self.by_marks = list(keys), whole, by_marks
        self.levels = self.found = self._requested = None
        self.table.clear()
        self.group = self.accuracy = ""
        self.report = None
        self.pane, self.tops = 0, [0, 0]
        self.look.whole()

    def views(self) -> list[RunView]:
        """The runs to compare, as the store has them now; new runs of a study taken whole are among them."""
        runs = self.app.store.runs
        found = {key: runs[key] for key in self.keys if key in runs}
        joined = {key: view for key, view in runs.items() if (view.root, view.study) in self.studies}
        return list({**found, **joined}.values())

    @property
    def one_study(self) -> bool:
        """Whether all compared runs are of one study."""
        return len({(view.root, view.study) for view in self.views()}) == 1

    @property
    def settled(self) -> bool:
        """Whether what is shown is what the store has."""
        return not self._busy and (self._requested is None or self._requested == self._request())

    def _request(self) -> Request | None:
        views, store, levels = self.views(), self.app.store, self.levels
        if not views:
            return None
        pinned, machine = store.runs.get(store.pinned), self.metric if self.metric.startswith(PREFIX) else ""
        chosen = None if levels is None else tuple((metric, tuple(values)) for metric, values in levels.items())
        letters = tuple(store.marked.get(view.key, "") for view in views) if self.by_marks else ()
        base = f"{pinned.study}/{pinned.variant}" if pinned is not None else ""
        return Request(tuple(views), base, chosen, self.look.axis, letters, machine)

    def _read(self) -> None:
        """Have the poller's thread compare what it has read, unless it is at it or nothing changed; say which of the
        compared runs have gone."""
        store = self.app.store
        gone = [key for key in self.keys if key not in store.runs] if store.loaded else []
        if gone:
            self.keys = [key for key in self.keys if key in store.runs]
            if names := [clean(key.partition(":")[2]) for key in gone if key not in store.deleted]:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                self.say(f"run {names[0]}{more} is no longer there", "warn")
            if not self.views():
                self.found = self._requested = None
                self.table.clear()
        # Their metrics are read and kept as long as they are compared.
        self.app.subscribe({view.key: frozenset() for view in self.views()})
        request = self._request()
        if request is None or self._busy or request == self._requested:
            return
        self._busy, self._requested = True, request

        def work(runs: Mapping[str, Run]) -> None:
            try:
                found: Compared | str = self._reader.read(request, runs)
            except Exception as error:  # a damaged run folder must not end the viewer
                found = clean(str(error).partition("\n")[0]) or type(error).__name__
            self.app.call_soon(done, found)

        def done(found: Compared | str) -> None:
            self._busy, self.problem = False, found if isinstance(found, str) else ""
            if not isinstance(found, str) and self._requested is not None:
                self.found = found
                self.table.put(found.rows, by_user=False)
                if self.metric not in found.metrics:
                    # The metric of the first level, else the accuracy.
                    fixed = [level.metric for level in found.base.levels if level.metric in found.metrics]
                    self.metric = (fixed or [m for m in found.metrics if not is_loss(m)] or list(found.metrics))[0]
                if self.accuracy not in found.metrics:
                    self.accuracy = next((m for m in (self.metric, *found.metrics) if m in ACCURACIES), ACCURACY)
            self.redraw_all()

        self.app.poller.do(work)

    @property
    def claims(self) -> Claims:
        """The claims of the study that is compared whole, with their verdicts, once they are known."""
        return self.app.verdicts.claims(self.views()) if len(self.studies) == 1 and self.one_study else ()

    def show(self) -> None:
        if self.app.store.view is not None and self.app.store.loaded:
            saved, self.app.store.view = self.app.store.view, None
            self._open_saved(*saved)
        self._read()
        found = self.found
        self.set_class(found is None, "-nothing")
        if found is not None:
            if len(self.studies) == 1 and self.one_study:
                self.app.verdicts.request([self.views()], self.app.call_soon, self.show)
            self._set_heights(found)
            self._show_chart("#main", found, self.metric, main=True)
            if self.wide:
                # The loss beside an accuracy, the accuracy beside a loss.
                other = ACCURACY if is_loss(self.metric) else LOSS
                if other not in found.metrics:
                    other = next((m for m in found.metrics if m != self.metric), self.metric)
                self._show_chart("#other", found, other, main=False)
        self.redraw("#head", "#rows", "#verdict", "#settings")

    def _set_heights(self, found: Compared) -> None:
        """The rows and what is below take what they need, as long as the chart keeps its share of the screen."""
        rows, (width, height) = len(found.rows), self.size
        if self.wide:
            room = max(10, width // 2 - 2)
            below = max(len(self._verdict(found, room)), len(panels.settings_table(found, room))) + 2
            rows, least, lines = rows + 3 + len(_seconds_note(found)), 8, 6
        else:
            below, least, lines = min(len(self._verdict(found, width)), height // 4) + 1, 4, 4
            rows += 1
        free = height - lines - math.ceil(LEAST_CHART * height)
        rows = min(rows, max(free - below, free // 2, 4))
        self.set_height("#rows", rows)
        self.set_height("#below", max(least, min(below, free - rows)))

    def _verdict(self, found: Compared, width: int) -> list[Line]:
        return [[(" " * self.wide, ""), *line] for line in panels.verdict_lines(found, width - self.wide, self.claims)]

    def _draw_head(self, width: int, height: int) -> list[Line]:
        if self.found is not None:
            return panels.heading(self.found, width, self.wide)
        if self.problem:
            return [[], [(f" {self.problem}", "error")]]
        if self.views():
            return [[], [(" reading …", "dim")]]
        text = EMPTY + " W opens saved views." * self._views_saved if self.app.store.loaded else "reading …"
        return [[], *([(f" {line}", "")] for line in wrap(text, max(10, width - 2)))]

    def _rows(self, width: int, height: int) -> Sheet | None:
        found = self.found
        if found is None:
            return None
        notes = _seconds_note(found) if self.wide and height > min(len(found.rows), 8) + 2 else []
        body = panels.table(found, width, self.wide, self.table, height - len(notes), self.accuracy) + notes
        whose = "levels set here" if found.set_here else "levels fixed in the preset"
        hidden = len(found.rows) + 1 + len(notes) - height
        more = f"{hidden} more · " * (self.wide and hidden > 0)
        return "runs", f"{more}* baseline · ranges over seeds · > not reached · {whose}", body

    def _scrolled(self, pane: int, width: int, height: int) -> Sheet | None:
        """The verdict or the settings, from the line on that it is scrolled to."""
        found = self.found
        if found is None:
            return None
        if pane == 1:
            body, (title, right) = self._verdict(found, width), panels.verdict_title(found)
        else:
            body = panels.settings_table(found, width)
            title, right = "settings: only those that differ", "d all"
        top = self.tops[pane - 1] = max(0, min(self.tops[pane - 1], len(body) - height))
        if (more := len(body) - top - height) > 0:
            right = f"{right} · {'↑ ↓' if self.pane == pane else 'Tab'} {more} more"
        self.query_one(f"#{PANES[pane]}", Box).edge = "accent" if self.pane == pane else "rule"
        return title, right, body[top : top + height]

    def drawn_rows(self, found: Compared, metric: str) -> list[Row]:
        """The rows that may share the axis of a metric: for a loss those of one kind; the highlighted last, so that it
        lies on top."""
        group = self._group(found)
        rows = [row for row in found.rows if not is_loss(metric) or row.group == group]
        return sorted(rows, key=lambda row: row.key == self.highlighted)

    def _group(self, found: Compared) -> str:
        """The group of losses that is drawn: the chosen one, else the baseline's."""
        return self.group if self.group in {row.group for row in found.rows} else group_of(found)

    def _show_chart(self, selector: str, found: Compared, metric: str, *, main: bool) -> None:
        scale, look, wide = scale_of(metric), self.look, self.wide
        rows = self.drawn_rows(found, metric) if metric in found.curves else []
        levels = comparison.drawn_levels(found, metric)
        words = [f"{metric} %" if is_share(metric) else metric, "eval mode" if "accuracy" in metric else ""]
        if is_loss(metric):
            words = [metric, loss_word(self._group(found))]
        mean = f"mean of seeds{' · band min to max' * wide}" if self.band else "every seed"
        words += [look.y_words(metric), mean * main, found.request.axis * (not wide), "log x" * look.log_x]
        right = f"{UNITS[found.request.axis]} · " * wide + look.smoothing_words if main else "m swaps the two"
        named = [(found.letters[row.key], row) for row in rows if main and self.has_class("-full")]
        self.query_one(selector, Chart).put(
            [series for row in rows for series in self._series(found, row, metric, scale)],
            look.view(metric),
            key=(id(found), metric, self.group, self.band, self.highlighted, wide),
            title=clean(" · ".join(word for word in words if word)),
            right=[(right, "dim")],
            levels=[Level(y * scale, f"level {level_name(metric, y)}" if wide else "") for y in levels],
            legend=[[(f"{letter} {clean(row.label)}", panels.style_of(letter))] for letter, row in named],
            foot=self._foot(found, metric, [row.key for row in found.rows if row in rows], main),
            empty=panels.no_curve(found, metric, [row.key for row in rows]) if metric in found.curves else "reading …",
        )

    def _series(self, found: Compared, row: Row, metric: str, scale: float) -> list[Series]:
        letter, mean = found.letters[row.key], found.curves[metric][row.key]
        fallen = (c for c in mean.seeds if row.states.get(c.seed) == "diverged" and c.x.size)
        marks = tuple(Mark(float(curve.x[-1]), "×") for curve in fallen)
        alone, own = self.band or len(mean.seeds) < 2, (letter, colour_of(letter))
        with np.errstate(over="ignore"):
            curves = [(mean.x, mean.mean * scale)] if alone else [(curve.x, curve.y * scale) for curve in mean.seeds]
            ends = (mean.low * scale, mean.high * scale) if alone and len(mean.seeds) > 1 else (None, None)
        first, *others = (Series(x, y, *own, low=ends[0], high=ends[1], name=row.label) for x, y in curves)
        return [replace(first, marks=marks), *others]

    def _foot(self, found: Compared, metric: str, keys: list[str], main: bool) -> Line:
        left_out = [row for row in found.rows if row.key not in keys]
        letters = ", ".join(found.letters[row.key] for row in left_out)
        if not main and left_out:
            kinds = " and ".join(sorted({loss_word(row.group) or "another loss" for row in left_out}))
            verb = "is" if len(left_out) == 1 else "are"
            return [(clean(f" {letters} {verb} {kinds}: another unit, m draws it"), "dim")]
        line = panels.readout(found, metric, keys, self.look.cursor, self.wide)
        return [*line, (f"{letters} other loss", "dim")] if left_out else line

    def why_not(self, name: str) -> str:
        if name in _ON_COMPARED and self.found is None:
            return "nothing is compared yet"
        if name == "level" and self.metric.startswith(PREFIX):
            return "levels are of loss and accuracy"  # a machine has none to reach
        if name in ("pin", "open", "external") and self.table.current is None:
            return "no row is highlighted"
        if name == "save" and self._writable() is None:
            return "no runs folder here can be written"
        return super().why_not(name)

    def footer(self) -> tuple[Sequence[str], dict[str, str]]:
        return super().footer() if self.found is not None else (("runs", *["views"] * self._views_saved), self.WORDS)

    @property
    def _views_saved(self) -> bool:
        return any(folder.views for folder in self.app.store.folders)

    @property
    def highlighted(self) -> str:
        return self.table.current.key if self.table.current is not None else ""

    def action_move(self, rows: int) -> None:
        if self.found is None:
            return
        if self.pane:
            self.tops[self.pane - 1] = max(0, self.tops[self.pane - 1] + rows)
            self.redraw(f"#{PANES[self.pane]}")
            return
        self.table.move(rows)
        self.show()

    def action_open(self) -> None:
        """The run of the highlighted row in Monitor: one that is at work, else its first seed."""
        row = self.table.current
        if self.found is not None and row is not None and (views := self.found.views.get(row.key, [])):
            self.app.watch_run(next((v for v in views if v.status.active), views[0]).key)

    def action_pin(self) -> None:
        row, found, store = self.table.current, self.found, self.app.store
        if row is None or found is None:
            return
        keys = [view.key for view in found.views.get(row.key, [])]
        if store.pinned in keys:
            store.pinned = ""
            self.say("baseline of the preset again")
        elif keys:
            store.pinned = keys[0]
            self.say(f"baseline: {clean(row.label)}")
        self.show()

    def action_level(self) -> None:
        """Type a level of the metric; proposed is the height of the highlighted curve under the cursor."""
        found, row, metric, near = self.found, self.table.current, self.metric, ""
        if found is None:
            return
        if row is not None and self.look.cursor is not None:
            value, _, count = found.curves[metric][row.key].at(self.look.cursor)
            near = f"{value if is_loss(metric) else 100 * value:.3g}" if count else ""

        def done(text: str) -> None:
            text = text.strip()
            if not text:
                self.levels = None
                self.say("levels of the preset again")
                self.show()
                return
            value = number(text.rstrip(" %").replace(",", ".")) or 0.0
            value /= 100 if not is_loss(metric) and (value > 1 or text.endswith("%")) else 1
            if not 0 < value < (math.inf if is_loss(metric) else 1.001):
                raise UsageError(f'v: "{text}" is no level; write 90 or 0.9 for an accuracy, 0.25 for a loss')
            kept: dict[str, list[float]] = {}
            for level in found.base.levels:
                if is_loss(level.metric) != is_loss(metric):
                    kept.setdefault(level.metric, []).append(level.level)
            self.levels = {**kept, metric: [value]}
            self.say(f"level {level_name(metric, value)} set here; v and an empty line bring the preset's back")
            self.show()

        unit = "" if is_loss(metric) else ", such as 90 or .9"
        self.prompt(f"level of {metric}{unit}; empty: those of the preset", done, value=near, replace=True)

    def action_next_metric(self, by: int) -> None:
        """The metrics in turn, a loss once for each kind that the rows have; the column of accuracies follows."""
        found = self.found
        if found is None:
            return
        kinds = dict.fromkeys([group_of(found), *(row.group for row in found.rows)])
        turns = [(metric, kind) for metric in found.metrics for kind in (kinds if is_loss(metric) else [""])]
        here = (self.metric, self._group(found) if is_loss(self.metric) else "")
        self.metric, self.group = turns[(turns.index(here) + by) % len(turns)]
        if "accuracy" in self.metric and self.metric != self.accuracy:
            self.accuracy = self.metric
            self.say(f"accuracy: {self.metric}, in the column too")
        self.show()

    def action_next_pane(self, by: int) -> None:
        """The pane that ↑ and ↓ act on, out of those that are shown."""
        shown = [i for i, name in enumerate(PANES) if self.query_one(f"#{name}").display]
        self.pane = shown[(shown.index(self.pane) + by) % len(shown)] if self.pane in shown else shown[0]
        self.show()

    def action_fold(self) -> None:
        self.band = not self.band
        self.app.ui.set(compare_band=self.band)
        self.say("mean and band" if self.band else "every seed")
        self.show()

    def action_settings(self) -> None:
        """Those that differ, then all others."""
        if (found := self.found) is not None:
            table = panels.settings_table(found, self.size.width - 4)
            self.read("settings of what is compared", [*table, [], *panels.other_settings(found)])

    def action_full(self) -> None:
        self.toggle("-full")

    def leave_layer(self) -> None:
        if self.has_class("-full"):
            self.action_full()
        elif self.look.changed:
            self.action_look("whole", 0)
        elif self.pane:
            self.pane = 0
            self.show()
        else:
            super().leave_layer()

    def view_name(self) -> str:
        """A file name for what is compared: the study's, else one of several."""
        studies = list(dict.fromkeys(view.study.rpartition("/")[2] for view in self.views()))
        name = studies[0] if len(studies) == 1 else f"{studies[0]}-and-{len(studies) - 1}-more" if studies else "view"
        return re.sub(r"[^A-Za-z0-9=._+-]", "-", name).lstrip("=._+-") or "view"

    def _writable(self) -> Path | None:
        return next((f.path for f in self.app.store.folders if not f.read_only and not f.problem), None)

    def action_save(self) -> None:
        root, found, views, look = self._writable(), self.found, self.views(), self.look
        if root is None or found is None:
            return
        whole = [study for _, study in self.studies]
        study = whole[0] if len(whole) == 1 and len({v.study for v in views}) == 1 else ""
        runs, levels, metric = tuple(v.id for v in views), self.levels or {}, self.metric
        axes = (look.axis, look.log_x, look.log_y, look.smoothing, self.band)
        view = SavedView("", study, runs, found.base.key, levels, metric, *axes)

        def save(name: str) -> None:
            named = replace(view, name=name)

            def saved(path: Path) -> None:
                self.say(f"saved view {home_path(path)}")
                self.app.poller.rescan()

            self.in_thread(lambda: save_view(root, named), saved)

        def chosen(text: str) -> None:
            name = check_name(text.strip(), "view")
            if (root / VIEWS / f"{name}.toml").exists():
                self.ask(f"the view {name} is there already.", {"y": ("replace it", partial(save, name))})
            else:
                save(name)

        self.prompt("name of the view", chosen, value=self.view_name())

    def _open_saved(self, root: Path, view: SavedView) -> None:
        store, look = self.app.store, self.look
        number = next((i for i, f in enumerate(store.folders) if f.path == root), 0)
        there = {key: run for key, run in store.runs.items() if run.root == number}
        keys = [k for k, run in there.items() if run.id in view.runs or (view.study and run.study == view.study)]
        if not keys:
            self.say(f"none of {counted(len(view.runs), 'run')} of {clean(view.name)} is here", "warn")
            return
        self.take(keys, by_marks=False)
        store.pinned = next((k for k in keys if f"{there[k].study}/{there[k].variant}" == view.baseline), "")
        self.levels = dict(view.levels) or None
        self.metric, self.band = view.metric, view.band
        look.axis = view.axis if view.axis in AXES else look.axis
        look.log_x, look.log_y = view.log_x, view.log_y
        self.redraw_all()

    def action_export(self) -> None:
        name, found, metric, look, band = self.view_name(), self.found, self.metric, self.look, self.band
        if found is None:
            return
        rows = [row.key for row in self.drawn_rows(found, metric)]
        texts = {"csv": partial(csv_text, found), "tex": partial(latex_text, found, self.accuracy)}

        def export(ending: str, width: float = 3.3) -> None:
            def write(path: Path) -> None:
                if ending in texts:
                    path.write_text(texts[ending](), encoding="utf-8")
                else:
                    write_figure(path, found, metric, rows, look, band, width)

            self.save_as(f"{name}.{ending}", write)

        def ask_width(ending: str) -> None:
            widths: Answers = {key: (f"{w:g} in", partial(export, ending, w)) for key, w in _WIDTHS.items()}
            self.ask(f"width of {name}.{ending}:", widths)

        def report(folder: Path) -> None:
            root = str(self.app.store.folders[view.root].path)
            engine("report", view.study, "--runs-dir", root, "--out", str(folder))
            self.report = folder / PAGE

        answers: Answers = {
            key: (words, partial(export if ending in texts else ask_width, ending))
            for key, (ending, words) in _EXPORTS.items()
        }
        if self.one_study:
            view = self.views()[0]
            answers["r"] = ("report", lambda: self.save_as(f"{name}-report", report, f"/{PAGE}; E opens it"))
        self.ask(f"write {name} as", answers)

    def action_external(self) -> None:
        """The report written last, log and TOML of the first run of the highlighted row."""
        row = self.table.current
        views = self.found.views.get(row.key, []) if self.found is not None and row is not None else []
        files = {"r": ("report", self.report)} if self.report is not None else {}
        for view in views[:1]:
            files |= {"l": ("log", view.run.log_path), "t": ("TOML", view.run.path / PRESET)}
        self.ask_outside(self.view_name(), files)


def _seconds_note(found: Compared) -> list[Line]:
    """What the column of seconds counts, below the rows in the wide layout."""
    devices = {row.device for row in found.rows}
    where = f"; all on {clean(devices.pop())}" if len(devices) == 1 and "" not in devices else ""
    seconds = f"seconds are training only, without compile, evaluation and saving{where}"
    return [[], [(f" {seconds}", "dim")]] if found.base.levels else []
