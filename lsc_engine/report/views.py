"""Saved views of Compare, drawn again without a terminal: a page of its own, or a figure in the report of its study."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lsc_engine.analysis.compare import compare
from lsc_engine.analysis.saved_views import SavedView, list_views
from lsc_engine.analysis.seed_curves import AXES
from lsc_engine.common.ids import NAME
from lsc_engine.report.figures import Figure, curve_figures, is_share
from lsc_engine.report.study_data import StudyData
from lsc_engine.runs.folder.layout import runs_dirs
from lsc_engine.runs.read.run import list_runs
from lsc_engine.runs.read.studies import Study


def find_view(name: str, dirs: Iterable[str | Path] | None = None) -> tuple[Path, SavedView] | None:
    """The saved view of that name and the runs folder it lies in; None if there is none."""
    if not NAME.fullmatch(name):
        return None
    found = ((root, view) for root in runs_dirs(dirs) for view in list_views(root) if view.name == name)
    return next(found, None)


def collect_view(root: Path, view: SavedView, data_dir: Path | None = None) -> StudyData:
    """The runs of a view, compared with its options; runs that are gone are sentences in `missing`."""
    known = {run.id: run for run in list_runs([root])}
    runs = [known[name] for name in view.runs if name in known]
    if view.study:
        runs += [run for run in known.values() if run.study == view.study and run not in runs]
    data = StudyData(Study(view.name, root, tuple(runs)), None, data_dir=data_dir)
    data.missing = [f"{name} is not there" for name in view.runs if name not in known]
    if runs := [run for run in runs if run.metric_names()]:
        names = {run.variant for run in runs} | {f"{run.study}/{run.variant}" for run in runs}
        data.comparison = compare(runs, view.baseline if view.baseline in names else None, view.levels or None)
        data.describe_rows()
    return data


def view_figure(view: SavedView, data: StudyData) -> Figure | None:
    """The curves of a view, on its axes and with its levels."""
    found = curve_figures(data.rows, [view.metric], axis=view.axis if view.axis in AXES else "epoch")
    if not found:
        return None
    figure = found[0]
    scale = 100.0 if is_share(view.metric) else 1.0
    levels = [{"y": level * scale, "label": ""} for level in view.levels.get(view.metric, [])]
    log_y = view.log_y and bool(figure.document["log_y"])
    document = figure.document | {"log_x": view.log_x, "log_y": log_y, "levels": levels}
    return replace(figure, name=f"view-{view.name}", title=f"Saved view {view.name}: {figure.title}", document=document)


def views_of(study: Study) -> list[SavedView]:
    """The saved views that show runs of this study alone."""
    own = {run.id for run in study.runs}
    return [v for v in list_views(study.root) if v.study == study.name or (v.runs and own.issuperset(v.runs))]
