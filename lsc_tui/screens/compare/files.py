"""Compare's files: views saved beside the runs and opened again, tables and figures written where lsc-tui runs."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lsc_engine.analysis.saved_views import SavedView, list_views, save_view
from lsc_engine.errors import LscError
from lsc_engine.userpaths import home_path
from lsc_tui.lines import Line, clean, fit
from lsc_tui.screens.base import Answers
from lsc_tui.services.actions import engine
from lsc_tui.services.export import csv_text, latex_text, write_figure

if TYPE_CHECKING:
    from lsc_engine.analysis.compare import Row
    from lsc_tui.data.run_view import RunView
    from lsc_tui.screens.base import LscScreen
    from lsc_tui.screens.compare.comparison import Chosen, Compared
    from lsc_tui.widgets.chart import Look

    _Base = LscScreen
else:
    _Base = object

_FORMATS = {"c": ("csv", "CSV"), "l": ("tex", "LaTeX"), "s": ("svg", "SVG"), "f": ("pdf", "PDF"),
            "n": ("png", "PNG")}  # fmt: skip
# Inches: one column and the whole width of a page.
_WIDTHS = {"1": 3.3, "2": 6.9}


class FileCommands(_Base):
    """Mixed into the screen, which has what is compared and how it is looked at."""

    found: Compared | None
    chosen: Chosen
    levels: dict[str, list[float]] | None
    metric: str
    band: bool
    look: Look

    def views(self) -> list[RunView]:
        """The runs that are compared."""
        return []

    def drawn_rows(self, found: Compared, metric: str) -> list[Row]:
        """The rows that the chart of a metric shows."""
        return found.rows

    def take(self, keys: list[str], *, by_marks: bool) -> None:
        """Compare these runs from now on."""

    _saved: list[tuple[Path, SavedView]] | None = None
    _saved_at = 0

    # --- saved views --------------------------------------------------------------------------------------------

    def view_name(self) -> str:
        """A file name for what is compared: the study's, else one of several."""
        studies = list(dict.fromkeys(view.study.rpartition("/")[2] for view in self.views()))
        name = studies[0] if len(studies) == 1 else f"{studies[0]}-and-{len(studies) - 1}-more" if studies else "view"
        return re.sub(r"[^A-Za-z0-9=._+-]", "-", name).lstrip("=._+-") or "view"

    def why_not_save(self) -> str:
        if self.found is None:
            return "nothing is compared yet"
        return "" if self._writable() is not None else "no runs folder here can be written"

    def _writable(self) -> Path | None:
        return next((f.path for f in self.app.store.folders if not f.read_only and not f.problem), None)

    def do_save(self) -> None:
        root, found = self._writable(), self.found
        if root is None or found is None:
            return
        views, look = self.views(), self.look
        whole = [study for _, study in self.chosen.studies]
        view = SavedView(
            self.view_name(), whole[0] if len(whole) == 1 and len({v.study for v in views}) == 1 else "",
            tuple(v.id for v in views), found.base.key, self.levels or {}, self.metric, look.axis, look.log_x,
            look.log_y, look.smoothing, self.band,
        )  # fmt: skip

        def work() -> None:
            try:
                path = save_view(root, view)
            except LscError as error:
                self.app.call_soon(self.say, str(error), "error")
                return
            self.app.call_soon(self.say, f"saved view {home_path(path)}")

        self.run_worker(work, thread=True, group="files", exit_on_error=False)

    def _load_saved(self) -> list[tuple[Path, SavedView]]:
        if self._saved is None:
            folders = [f.path for f in self.app.store.folders if not f.problem]
            self._saved = [(path, view) for path in folders for view in list_views(path)]
        return self._saved

    def saved_lines(self, width: int) -> list[Line]:
        """The saved views to choose from, under the empty screen."""
        if not self.app.store.loaded:
            return []
        saved = self._load_saved()
        if not saved:
            return []
        out: list[Line] = [[], [(" saved views: ↑ ↓ choose, Enter opens", "dim")]]
        for number, (_, view) in enumerate(saved[:30]):
            here = number == self._saved_at
            text = f"{clean(view.name):<30} {len(view.runs)} runs"
            out.append([("▌" if here else " ", "accent"), (fit(f" {text}", width - 1), "cursor" if here else "")])
        return out

    def move_saved(self, by: int) -> None:
        """Another saved view."""
        saved = self._load_saved()
        self._saved_at = min(max(0, len(saved) - 1), max(0, self._saved_at + by))
        self.redraw_all()

    def open_saved(self) -> None:
        """Show the chosen saved view: its runs, baseline, levels and axes."""
        saved = self._load_saved()
        if not saved:
            return
        root, view = saved[min(self._saved_at, len(saved) - 1)]
        store = self.app.store
        number = next((i for i, f in enumerate(store.folders) if f.path == root), 0)
        keys = [
            key for key, run in store.runs.items()
            if run.root == number and (run.id in view.runs or (view.study and run.study == view.study))
        ]  # fmt: skip
        if not keys:
            self.say(f"none of the {len(view.runs)} runs of {clean(view.name)} is here", "warn")
            return
        self.take(keys, by_marks=False)
        store.pinned = next((k for k in keys if f"{store.runs[k].study}/{store.runs[k].variant}" == view.baseline), "")
        self.levels = dict(view.levels) or None
        self.metric, self.band = view.metric, view.band
        look = self.look
        look.axis = view.axis if view.axis in ("epoch", "step", "time", "images") else look.axis
        look.log_x, look.log_y = view.log_x, view.log_y
        self.redraw_all()

    # --- export -------------------------------------------------------------------------------------------------

    def why_not_export(self) -> str:
        return "" if self.found is not None else "nothing is compared yet"

    def do_export(self) -> None:
        answers: Answers = {
            key: (words, partial(self._export if ending in ("csv", "tex") else self._ask_width, ending))
            for key, (ending, words) in _FORMATS.items()
        }
        if len({(view.root, view.study) for view in self.views()}) == 1:
            answers["r"] = ("report", self._report)
        self.ask(f"write {self.view_name()} here as", answers)

    def _report(self) -> None:
        """The report of the compared study into a folder here, by a process that loads what draws."""
        view = self.views()[0]
        folder = Path.cwd() / f"{self.view_name()}-report"
        runs_dir = str(self.app.store.folders[view.root].path)

        def work() -> None:
            try:
                engine("report", view.study, "--runs-dir", runs_dir, "--out", str(folder))
            except LscError as error:
                self.app.call_soon(self.say, str(error), "error")
                return
            self.app.call_soon(self.say, f"wrote {home_path(folder / 'report.md')}")

        self.say(f"writing the report of {clean(view.study)} …")
        self.run_worker(work, thread=True, group="files", exit_on_error=False)

    def _ask_width(self, ending: str) -> None:
        answers: Answers = {
            key: (f"{width:g} in", partial(self._export, ending, width)) for key, width in _WIDTHS.items()
        }
        self.ask(f"width of {self.view_name()}.{ending}:", answers)

    def _export(self, ending: str, width: float = 3.3) -> None:
        found, metric, look, band = self.found, self.metric, self.look, self.band
        if found is None:
            return
        path = Path.cwd() / f"{self.view_name()}.{ending}"
        rows = [row.key for row in self.drawn_rows(found, metric)]

        def work() -> None:
            try:
                if ending in ("csv", "tex"):
                    path.write_text(csv_text(found) if ending == "csv" else latex_text(found), encoding="utf-8")
                else:
                    write_figure(path, found, metric, rows, look, band, width)
            except (OSError, LscError) as error:
                words = error.strerror if isinstance(error, OSError) else str(error)
                self.app.call_soon(self.say, f"{path.name}: {words}", "error")
                return
            self.app.call_soon(self.say, f"wrote {home_path(path)}")

        self.say(f"writing {path.name} …")
        self.run_worker(work, thread=True, group="files", exit_on_error=False)
