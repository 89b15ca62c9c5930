"""Compare: marked runs or a whole study on one chart and in one table, with levels, speed-ups and the verdict.

What is compared is read in a worker thread and comes back as one `Compared`; here it is only shown. The view (baseline,
levels, axes) can be saved with the runs and opened again.
"""

from __future__ import annotations

import contextlib
import math
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal

from lsc_engine.analysis.compare import Row
from lsc_engine.analysis.levels import is_loss
from lsc_tui.data.run_view import RunView
from lsc_tui.lines import Line, clean, frame, pad, rule, wrap
from lsc_tui.screens.base import LscScreen
from lsc_tui.screens.chart_screen import ChartCommands
from lsc_tui.screens.compare import table as parts
from lsc_tui.screens.compare import verdict
from lsc_tui.screens.compare.charts import OverlayCharts
from lsc_tui.screens.compare.comparison import (
    Chosen,
    Compared,
    Reader,
    Request,
    level_name,
    request_of,
    seconds_text,
    unequal,
)
from lsc_tui.screens.compare.files import FileCommands
from lsc_tui.services.verdicts import Claims
from lsc_tui.widgets.chart import Chart
from lsc_tui.widgets.panel import Panel

EMPTY = "Nothing marked. 1 Runs: space marks runs, Enter on a study takes all of it."


class CompareScreen(OverlayCharts, FileCommands, ChartCommands, LscScreen):
    """Overlay, table and verdict of the compared runs."""

    CSS_PATH = "screen.tcss"
    TAB = "compare_tab"
    LOOK = "look_compare"
    FOOTER: ClassVar = ("pin", "level", "metric", "axis", "log_y", "fold", "settings", "export")
    FOOTER_WIDE: ClassVar = (
        "pin", "level", "metric", "axis", "log_x", "log_y", "smooth", "fold", "settings", "save", "export", "open",
        "cursor_right", "zoom_in", "zoom_out", "full",
    )  # fmt: skip
    WORDS: ClassVar = {"fold": "seeds", "save": "save view", "open": "run"}

    def __init__(self) -> None:
        super().__init__()
        self.chosen = Chosen()
        self.found: Compared | None = None
        self.problem = ""
        self.metric = ""
        self.band = self.app.ui.get("compare_band", True)
        self.levels: dict[str, list[float]] | None = None
        self.highlighted = ""
        self.everything = False
        self._reader = Reader()
        self._asked: Request | None = None
        self._busy = False
        self._seen: tuple[list[str], list[str]] = ([], [])
        self.load_look()

    def body(self) -> ComposeResult:
        yield Panel(self._draw_head, id="head")
        with Horizontal(id="charts"):
            yield Chart(id="main")
            yield Chart(id="other")
        yield Panel(self._draw_rows, id="rows")
        with Horizontal(id="below"):
            yield Panel(self._draw_verdict, id="verdict")
            yield Panel(self._draw_settings, id="settings")

    # --- which runs ---------------------------------------------------------------------------------------------

    def on_screen_resume(self) -> None:
        self._choose()
        super().on_screen_resume()

    def _choose(self) -> None:
        """What another tab left: the runs handed over, else the marks, the newer of the two."""
        store = self.app.store
        handed, marked = list(store.compared), list(store.marked)
        was_handed, was_marked = self._seen
        self._seen = (handed, marked)
        if handed != was_handed and handed:
            self.take(handed, by_marks=set(handed) == set(marked))
        elif marked and (marked != was_marked or not self.chosen.keys):
            self.take(marked, by_marks=True)

    def take(self, keys: list[str], *, by_marks: bool) -> None:
        store = self.app.store
        picked = set(keys)
        studies = {(v.root, v.study) for k in keys if (v := store.runs.get(k)) is not None}
        whole = {
            s for s in studies if all(v.key in picked for v in store.runs.values() if (v.root, v.study) == s)
        }  # fmt: skip
        self.chosen = Chosen(list(keys), whole, by_marks)
        self.levels, self.found, self.highlighted, self._asked = None, None, "", None
        self.look.whole()
        self.look.cursor = None

    def views(self) -> list[RunView]:
        """The runs to compare, as the store has them now; new runs of a study taken whole are among them."""
        store = self.app.store
        found = {key: store.runs[key] for key in self.chosen.keys if key in store.runs}
        for key, view in store.runs.items():
            if (view.root, view.study) in self.chosen.studies:
                found.setdefault(key, view)
        return list(found.values())

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether what is shown is what the store has."""
        return not self._busy and (self._asked is None or self._asked == self._request())

    def _request(self) -> Request | None:
        views = self.views()
        if not views:
            return None
        return request_of(self.app.store, views, self.levels, self.look.axis, self.chosen.by_marks)

    def _read(self) -> None:
        """Have a worker compare, unless it is at it or nothing changed."""
        self._drop_gone()
        request = self._request()
        if request is None or self._busy or request == self._asked:
            return
        self._busy, self._asked = True, request

        def job() -> None:
            found, problem = None, ""
            try:
                found = self._reader.read(request)
            except Exception as error:  # a damaged run folder must not end the viewer
                problem = clean(str(error).partition("\n")[0]) or type(error).__name__
            self.app.call_soon(self._have, found, problem)

        self.run_worker(job, thread=True, group="compare", exit_on_error=False)

    def _drop_gone(self) -> None:
        """Say which of the compared runs have gone."""
        store = self.app.store
        gone = [key for key in self.chosen.keys if key not in store.runs] if store.loaded else []
        if not gone:
            return
        self.chosen.keys = [key for key in self.chosen.keys if key in store.runs]
        names = [clean(key.partition(":")[2]) for key in gone if key not in store.deleted]
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            self.say(f"run {names[0]}{more} is no longer there", "warn")
        if not self.views():
            self.found = self._asked = None

    def _have(self, found: Compared | None, problem: str) -> None:
        self._busy = False
        self.problem = problem
        if found is not None and self._asked is not None:
            self.found = found
            keys = [row.key for row in found.rows]
            # Once chosen, a row whose runs have gone gives its place to no other.
            self.highlighted = self.highlighted or keys[0]
            if self.metric not in found.metrics:
                self.metric = self._first_metric(found)
        self.redraw_all()

    @staticmethod
    def _first_metric(found: Compared) -> str:
        """The metric of the first level, else the accuracy."""
        fixed = [level.metric for level in found.base.levels if level.metric in found.metrics]
        return (fixed or [m for m in found.metrics if not is_loss(m)] or list(found.metrics))[0]

    # --- what is shown ------------------------------------------------------------------------------------------

    @property
    def claims(self) -> Claims:
        """The claims of the study that is compared whole, with their verdicts, once they are told."""
        return self.app.verdicts.claims(self.views()) if len(self.chosen.studies) == 1 and self._whole() else ()

    def _whole(self) -> bool:
        return len({(view.root, view.study) for view in self.views()}) == 1

    def show(self) -> None:
        self._read()
        if self.found is not None and len(self.chosen.studies) == 1 and self._whole():
            self.app.request_verdicts([self.views()], self.show)
        nothing = self.found is None
        self.set_class(nothing, "-nothing")
        if self.found is not None:
            self._set_heights(self.found)
            self.show_charts(self.found)
        for name in ("#head", "#rows", "#verdict", "#settings"):
            self.query_one(name, Panel).redraw()

    def _set_heights(self, found: Compared) -> None:
        rows = len(found.rows)
        if self.wide:
            height = min(rows, 12) + 4 + len(self._notes(found))
        else:
            height = 1 + min(rows, max(5, self.size.height // 4))
        self.set_height("#rows", height)
        width = self.size.width
        if self.wide:
            room = max(10, width // 2 - 2)
            needed = max(
                len(verdict.verdict_wide(found, room, 99, self.claims)),
                len(verdict.settings_table(found, room, 99, self.everything)),
            )
            self.set_height("#below", max(8, min(needed + 2, self.size.height // 3)))
        elif not self.has_class("-settings"):
            needed = len(verdict.verdict_narrow(found, width, 99, self.claims))
            self.set_height("#below", 1 + max(3, min(needed, self.size.height // 4)))
        else:
            self.set_height("#below", None)

    def _draw_head(self, width: int, height: int) -> list[Line]:
        if self.found is not None:
            return parts.heading(self.found, width, self.wide)
        if self.problem:
            return [[], [(f" {self.problem}", "error")]]
        if self.views():
            return [[], [(" reading …", "dim")]]
        text = EMPTY if self.app.store.loaded else "reading …"
        return [[], *([(f" {line}", "")] for line in _folded(text, width - 2)), *self.saved_lines(width)]

    def _draw_rows(self, width: int, height: int) -> list[Line]:
        found = self.found
        if found is None:
            return []
        if not self.wide:
            return parts.table(found, width, False, self.highlighted, height)
        notes = self._notes(found)
        body = parts.table(found, width - 2, True, self.highlighted, height - 2 - (len(notes) + 1 if notes else 0))
        if notes:
            body += [[], *([(f" {note}", "dim")] for note in notes)]
        whose = "levels set here" if found.set_here else "levels fixed in the preset"
        return frame(body, width, height, "runs", f"* baseline · ranges over seeds · > not reached · {whose}")

    @staticmethod
    def _notes(found: Compared) -> list[str]:
        """What has to be said below the wide table."""
        seconds = [seconds_text(found)] if found.base.levels else []
        return [*unequal(found)[:2], *seconds]

    def _draw_verdict(self, width: int, height: int) -> list[Line]:
        if self.found is None:
            return []
        title, right = verdict.verdict_title(self.found)
        if self.wide:
            return frame(
                verdict.verdict_wide(self.found, width - 2, height - 2, self.claims), width, height, title, right
            )
        return [rule(width, title, right), *verdict.verdict_narrow(self.found, width, height - 1, self.claims)]

    def _draw_settings(self, width: int, height: int) -> list[Line]:
        if self.found is None:
            return []
        title = "settings: all" if self.everything else "settings: only those that differ"
        right = "d only those that differ" if self.everything else "d all"
        if self.wide:
            body = verdict.settings_table(self.found, width - 2, height - 2, self.everything)
            return frame(body, width, height, title, right)
        right = "d back to the chart" if self.everything else "d all"
        body = verdict.settings_table(self.found, width, height - 1, self.everything)
        return [rule(width, title, right), *(pad(line, width) for line in body)]

    # --- commands -----------------------------------------------------------------------------------------------

    def why_nothing(self) -> str:
        """Why a command on what is compared cannot act."""
        return "" if self.found is not None else "nothing is compared yet"

    def why_not_pin(self) -> str:
        return self.why_nothing() or ("" if self.current() is not None else "no row is highlighted")

    def why_not_open(self) -> str:
        return self.why_not_pin() if self.found is not None else ""

    why_not_metric = why_not_fold = why_not_settings = why_not_full = why_not_level = why_nothing

    def current(self) -> Row | None:
        """The highlighted row."""
        found = self.found
        return next((row for row in found.rows if row.key == self.highlighted), None) if found else None

    def do_up(self) -> None:
        self._to(-1)

    def do_down(self) -> None:
        self._to(1)

    def do_first(self) -> None:
        self._to(-1000)

    def do_last(self) -> None:
        self._to(1000)

    def _to(self, by: int) -> None:
        if self.found is None:
            self.move_saved(by)
            return
        keys = [row.key for row in self.found.rows]
        here = keys.index(self.highlighted) if self.highlighted in keys else -(by > 0)
        self.highlighted = keys[min(len(keys) - 1, max(0, here + by))]
        self.show()

    def do_open(self) -> None:
        """The run of the highlighted row in Monitor: one that is at work, else its first seed."""
        row = self.current()
        if self.found is None:
            self.open_saved()
        if row is None or self.found is None:
            return
        views = self.found.views.get(row.key, [])
        chosen = next((v for v in views if v.status.active), views[0] if views else None)
        if chosen is not None:
            self.app.watch_run(chosen.key)

    def do_pin(self) -> None:
        row, found = self.current(), self.found
        if row is None or found is None:
            return
        store = self.app.store
        keys = [view.key for view in found.views.get(row.key, [])]
        if store.pinned in keys:
            store.pinned = ""
            self.say("baseline of the preset again")
        elif keys:
            store.pinned = keys[0]
            self.say(f"baseline: {clean(row.label)}")
        self.show()

    def do_level(self) -> None:
        """Type a level of the metric; proposed is the height of the highlighted curve under the cursor."""
        found, row = self.found, self.current()
        if found is None:
            return
        near = ""
        if row is not None and self.look.cursor is not None:
            value, _, count = found.curves[self.metric][row.key].at(self.look.cursor)
            near = f"{value if is_loss(self.metric) else 100 * value:.3g}" if count else ""
        unit = "" if is_loss(self.metric) else " in %"
        self.prompt(f"level of {self.metric}{unit}; empty: those of the preset", self._level, value=near, replace=True)

    def _level(self, text: str) -> None:
        found, text = self.found, text.strip()
        if found is None:
            return
        if not text:
            self.levels = None
            self.say("levels of the preset again")
            self.show()
            return
        value = 0.0
        with contextlib.suppress(ValueError):
            value = float(text.rstrip(" %").replace(",", "."))
        if not 0 < value < math.inf:
            self.say(f'v: "{text}" is no level; write 90 or 0.9 for an accuracy, 0.25 for a loss', "error")
            return
        if not is_loss(self.metric) and (value > 1 or text.endswith("%")):
            value /= 100
        kept: dict[str, list[float]] = {}
        for level in found.base.levels:
            if is_loss(level.metric) != is_loss(self.metric):
                kept.setdefault(level.metric, []).append(level.level)
        self.levels = {**kept, self.metric: [value]}
        self.say(f"level {level_name(self.metric, value)} set here; v and an empty line bring the preset's back")
        self.show()

    def do_metric(self) -> None:
        found = self.found
        if found is not None:
            metrics = list(found.metrics)
            self.metric = metrics[(metrics.index(self.metric) + 1) % len(metrics)]
            self.show()

    def do_fold(self) -> None:
        self.band = not self.band
        self.app.ui.set(compare_band=self.band)
        self.say("mean and band" if self.band else "every seed")
        self.show()

    def do_settings(self) -> None:
        """Wide: differing or all. At 80 columns they stand in place of the chart: differing, all, away."""
        if self.wide:
            self.everything = not self.everything
        elif not self.has_class("-settings"):
            self.add_class("-settings")
            self.everything = False
        elif not self.everything:
            self.everything = True
        else:
            self.remove_class("-settings")
            self.everything = False
        self.call_after_refresh(self.redraw_all)

    def do_full(self) -> None:
        self.toggle_class("-full")
        self.call_after_refresh(self.redraw_all)

    def leave_layer(self) -> None:
        for name in ("-settings", "-full"):
            if self.has_class(name):
                self.remove_class(name)
                self.call_after_refresh(self.redraw_all)
                return
        super().leave_layer()


def _folded(text: str, width: int) -> list[str]:
    return wrap(text, max(10, width))
