"""Saved views of Compare, drawn again without a terminal: a page of its own, or a figure in the report of its study."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lsc_engine.analysis.compare import compare
from lsc_engine.analysis.saved_views import SavedView, list_views
from lsc_engine.report import figures
from lsc_engine.report.material import Material, describe
from lsc_engine.report.text import md
from lsc_engine.runs.folder.layout import NAME, runs_dirs
from lsc_engine.runs.read.run import Run, list_runs
from lsc_engine.runs.read.studies import Study

AXES = ("epoch", "step", "time", "images")


def find_view(name: str, dirs: Iterable[str | Path] | None = None) -> tuple[Path, SavedView] | None:
    """The saved view of that name and the runs folder it lies in; None where there is none."""
    if not NAME.fullmatch(name):
        return None
    found = [(root, view) for root in runs_dirs(dirs) for view in list_views(root) if view.name == name]
    return found[0] if found else None


def view_material(root: Path, view: SavedView, data_dir: Path | None = None) -> Material:
    """The runs of a view, compared as it says; runs that are gone are sentences in `missing`."""
    known = {run.id: run for run in list_runs([root])}
    runs: list[Run] = [known[name] for name in view.runs if name in known]
    if view.study:
        runs += [run for run in known.values() if run.study == view.study and run not in runs]
    made = Material(Study(view.name, root, tuple(runs)), None, data_dir=data_dir)
    made.missing = [f"{name} is not there" for name in view.runs if name not in known]
    runs = [run for run in runs if run.metric_names()]
    if runs:
        names = {run.variant for run in runs} | {f"{run.study}/{run.variant}" for run in runs}
        baseline = view.baseline if view.baseline in names else None
        made.comparison = compare(runs, baseline, view.levels or None)
        for row in made.comparison.rows:
            describe(made, row)
    return made


def view_figure(view: SavedView, material: Material) -> figures.Figure | None:
    """The curves of a view, on its axes and with its levels."""
    axis = view.axis if view.axis in AXES else "epoch"
    found = figures.figures_of(material.rows, [view.metric], axis=axis)
    if not found:
        return None
    figure = found[0]
    scale = 100.0 if figures.is_share(view.metric) else 1.0
    levels = [{"y": level * scale, "label": ""} for level in view.levels.get(view.metric, [])]
    log_y = view.log_y and bool(figure.document["log_y"])
    document = figure.document | {"log_x": view.log_x, "log_y": log_y, "levels": levels}
    return replace(figure, name=f"view-{view.name}", title=f"Saved view {view.name}: {figure.title}", document=document)


def views_of(study: Study) -> list[SavedView]:
    """The saved views that show runs of this study alone."""
    own = {run.id for run in study.runs}
    return [v for v in list_views(study.root) if v.study == study.name or (v.runs and own.issuperset(v.runs))]


def view_title(view: SavedView) -> str:
    """What the page of a view is called."""
    return f"View {md(view.name)}"
