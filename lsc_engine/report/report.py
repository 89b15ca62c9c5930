"""`lsc-engine report`: the page of one study with its figures and tables, and an index of all studies. Pages hold
nothing of today: the same runs give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lsc_engine.analysis.claims import ClaimVerdict, judge
from lsc_engine.analysis.compare import compare
from lsc_engine.analysis.saved_views import SavedView, list_views
from lsc_engine.analysis.seed_curves import AXES
from lsc_engine.analysis.study_values import VALUES, StudyValues
from lsc_engine.common.ids import NAME
from lsc_engine.common.safe_io import writing
from lsc_engine.config.preset import Preset
from lsc_engine.report.figures import Figure, curve_figures, is_share
from lsc_engine.report.page import INDEX, MARK, PAGE, Page, bullets, md, open_folder, save, table
from lsc_engine.report.sections import results
from lsc_engine.report.sections.verdict import checked_sections
from lsc_engine.report.study_data import StudyData, collect, read_back, values_of
from lsc_engine.runs.folder.layout import runs_dirs
from lsc_engine.runs.read.run import list_runs
from lsc_engine.runs.read.studies import Study

_ORDER = (
    *("Verdict", "Results", "Evaluation", "Levels", "Curves", "Layers", "Embeddings", "Database of embeddings"),
    *("New classes", "Vectors", "Cost", "Data", "Learning rates", "Settings", "Missing", "Made with"),
)


@dataclass
class WrittenReport:
    """A report that was written: its page, all its files, the verdicts, and what was missing."""

    study: str
    title: str
    source: str
    kind: str
    page: Path
    files: list[Path]
    verdicts: list[ClaimVerdict]
    missing: list[str]
    data: str
    seeds: int

    def document(self) -> dict[str, Any]:
        verdicts = [{"claim": one.text, "verdict": one.short} for one in self.verdicts]
        files = [str(path) for path in self.files]
        about = {"study": self.study, "kind": self.kind, "page": str(self.page), "files": files}
        return {**about, "verdicts": verdicts, "missing": self.missing}


def default_folder(study: Study) -> Path:
    """Where a report goes when no folder is named."""
    return study.path / "report"


def write_report(study: Study, folder: Path, data_dir: Path | None = None) -> WrittenReport:
    """The report of a study into `folder`: report.md, CSV and figures. LscError if it cannot be written."""
    data = collect(study, data_dir)
    if data.preset is not None and data.preset.kind != "train":
        return _write_untrained(data, data.preset, folder)
    views = [view_figure(view, collect_view(study.root, view, data_dir)) for view in views_of(study)]
    return _write_trained(data, folder, [figure for figure in views if figure is not None])


def write_view(root: Path, view: SavedView, folder: Path, data_dir: Path | None = None) -> WrittenReport:
    """The report of a saved view: its runs, compared and drawn with its options. LscError if it cannot be written."""
    data = collect_view(root, view, data_dir)
    figure = view_figure(view, data)
    return _write_trained(data, folder, [figure] if figure is not None else [], f"View {view.name}")


def _write_trained(data: StudyData, folder: Path, views: Sequence[Figure], view: str = "") -> WrittenReport:
    open_folder(folder)
    page = Page(folder, data.missing)
    with writing(folder):
        results.add_embeddings(data, page)
        analysis = data.preset.reporting.analysis if data.preset is not None else None
        if analysis is not None and data.rows:
            from lsc_engine.report.sections import analyses

            for name in ("database", "novelty", "calibration"):
                if name in analysis.names:
                    getattr(analyses, f"add_{name}")(data, page)
        values, text = read_back(values_of(data, page.values, page.claims))
        verdicts = judge(values)
        for title, body in checked_sections(values, verdicts).items():
            page.add(title, body)
        _add_results(data, page, views)
        page.write(VALUES, text)
    return _finish(data, page, verdicts, _ORDER, view)


def _add_results(data: StudyData, page: Page, views: Sequence[Figure]) -> None:
    rows = data.rows
    metrics = [*results.accuracy_names(rows), "train/loss", "val/loss"]
    facts, sizes = results.vector_facts(data), results.sizes(data)
    below = {row.key: facts.get(row.key, {}).get("sure_below") for row in rows if row.kind == "c"}
    sure = {key: float(loss) for key, loss in below.items() if loss is not None and math.isfinite(loss)}
    page.add("Layers", *results.layer_tables(data, sizes))
    curves = [*views, *curve_figures(rows, metrics, sure)]
    for title, figures in (("Curves", curves), ("Layers", results.layer_figures(rows))):
        for figure in figures:
            page.add_figure(title, figure.title, figure.write(page.folder))
    page.add("Vectors", results.vector_table(data, facts))
    page.add("Data", results.data_text(data))
    page.add("Made with", results.made_with(data))
    if rows:
        page.add("Results", results.final_table(data))
        page.add("Cost", results.cost_table(data, sizes))
        page.add("Settings", results.setting_table(data))
        page.write("runs.csv", results.runs_csv(rows))


def _write_untrained(data: StudyData, preset: Preset, folder: Path) -> WrittenReport:
    from lsc_engine.report.sections.untrained import add_benches, add_datasets, add_systems

    open_folder(folder)
    page, report, paper = Page(folder), preset.reporting, data.paper
    with writing(folder):
        if report.vectors is not None:
            add_systems(report.vectors, page)
        if report.datasets is not None:
            add_datasets(report.datasets, paper.values, data.data_dir, page)
        if report.bench is not None:
            add_benches(data.study, report.bench, page)
        printed = paper.values if report.datasets is None else {}
        rows = [[md(key), md(value)] for key, value in printed.items()]
        page.add(
            "The paper's figures", table(("", md(paper.metric)), rows), bullets([md(paper.note)] if paper.note else [])
        )
        bounds = list(report.bench.claims) if report.bench is not None else []
        values, text = read_back(StudyValues(data.study.name, preset.kind, tables=page.tables, bounds=bounds))
        verdicts = judge(values)
        page.add("Verdict", checked_sections(values, verdicts)["Verdict"])
        page.write(VALUES, text)
    written = _finish(data, page, verdicts, ("Verdict",))
    written.data = ", ".join(report.datasets.names) if report.datasets is not None else ""
    return written


def _finish(
    data: StudyData, page: Page, verdicts: list[ClaimVerdict], order: Sequence[str], view: str = ""
) -> WrittenReport:
    page.missing = list(dict.fromkeys(page.missing))
    page.add("Missing", bullets(md(sentence) for sentence in page.missing))
    name, kind = data.study.name, data.preset.kind if data.preset is not None else "train"
    title, source, claim = (view, "", "") if view else map(data.about, ("title", "source", "claim"))
    whose = "" if view else data.provenance().get("claim", "")
    facts = {"Study": name, "Source": source, "Claim": claim, "Whose": whose}
    page.write(PAGE, page.text(title or name, facts, order))
    about = (name, title or name, source, kind, page.folder / PAGE)
    datasets = ", ".join(dict.fromkeys(config.data.dataset for config in data.configs.values()))
    seeds = max((len(row.runs) for row in data.rows), default=0)
    return WrittenReport(*about, page.files, verdicts, page.missing, datasets, seeds)


def write_index(written: Sequence[WrittenReport], folder: Path) -> Path:
    """The index page of several reports: study, verdicts, link. `folder` is above the reports."""
    rows = []
    for one in sorted(written, key=lambda report: report.study):
        link = one.page.relative_to(folder).as_posix().replace(" ", "%20")
        seeds, missing = str(one.seeds or ""), str(len(one.missing) or "")
        about = [f"[{md(one.study)}]({link})", md(one.title), md(one.source), md(one.data), seeds]
        for claim, verdict in [(found.text, found.short) for found in one.verdicts] or [("", "")]:
            rows.append([*about, md(claim), md(verdict), missing])
            about, missing = [""] * len(about), ""
    columns = ("study", "title", "source", "data", "seeds", "claim", "verdict", "missing")
    text = table(columns, rows, "lllll")
    save(folder / INDEX, "\n\n".join([MARK, "# Reports", text or "No study has been run yet."]) + "\n")
    return folder / INDEX


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
