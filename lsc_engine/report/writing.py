"""`lsc-engine report`: the page of one study with its figures and tables, and an index of all studies.

Pages hold nothing of today: the same runs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsc_engine.analysis.claims import Findings, Judged, judge
from lsc_engine.analysis.saved_views import SavedView
from lsc_engine.analysis.values import VALUES, StudyValues
from lsc_engine.config import Preset
from lsc_engine.config.reporting import Claim
from lsc_engine.errors import LscError, UsageError
from lsc_engine.report import figures, layers, results, settings
from lsc_engine.report.check import INDEX, MARK, PAGE
from lsc_engine.report.material import Material, found_in, gather, values_of
from lsc_engine.report.text import bullets, md, section, table
from lsc_engine.report.viewing import view_figure, view_material, view_title, views_of
from lsc_engine.runs.files import replace_file
from lsc_engine.runs.read.embeddings import list_snapshots
from lsc_engine.runs.read.studies import Study


@dataclass
class Written:
    """What a report came to: its page, all its files, the verdicts, and what was missing."""

    study: str
    title: str
    source: str
    kind: str
    page: Path
    files: list[Path] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    data: str = ""
    seeds: int = 0

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """Every claim with its verdict in few words."""
        return [(one.text, one.short) for one in self.judged]

    def document(self) -> dict[str, Any]:
        """As JSON tells it."""
        return {
            "study": self.study,
            "kind": self.kind,
            "page": str(self.page),
            "files": [str(path) for path in self.files],
            "verdicts": [{"claim": claim, "verdict": verdict} for claim, verdict in self.verdicts],
            "missing": self.missing,
        }


def default_folder(study: Study) -> Path:
    """Where a report goes when no folder is named."""
    return study.path / "report"


def write_report(study: Study, folder: Path, data_dir: Path | None = None) -> Written:
    """The report of a study into `folder`: report.md, CSV and figures. LscError where it cannot be written."""
    material = gather(study, data_dir)
    saved: list[figures.Figure] = []
    if material.preset is not None and material.preset.kind != "train":
        return _write_untrained(material, material.preset, folder)
    for view in views_of(study):
        shown = view_figure(view, view_material(study.root, view, data_dir))
        saved += [shown] if shown is not None else []
    return _write_trained(material, folder, saved)


def write_view(root: Path, view: SavedView, folder: Path, data_dir: Path | None = None) -> Written:
    """The report of a saved view: its runs, compared and drawn as it says. LscError where it cannot be written."""
    material = view_material(root, view, data_dir)
    shown = view_figure(view, material)
    return _write_trained(material, folder, [shown] if shown is not None else [], title=view_title(view))


def _write_trained(
    material: Material, folder: Path, saved: Sequence[figures.Figure], title: str | None = None
) -> Written:
    """The page, tables and figures of runs; `saved`: figures of saved views."""
    study = material.study
    sure = settings.sure_levels(material)
    apart = layers.layer_figures(material)
    drawn = [*saved, *figures.curve_figures(material, sure)]
    words = material.words()
    if title is not None:
        words = {"title": title, "source": "", "claim": ""}
    data = dict.fromkeys(config.data.dataset for config in material.configs.values())
    made = Written(
        study.name, words["title"] or study.name, words["source"],
        material.preset.kind if material.preset is not None else "train", folder / PAGE,
        missing=list(material.missing), data=", ".join(data),
        seeds=max((len(row.runs) for row in material.rows), default=0),
    )  # fmt: skip
    open_folder(folder)
    spaces, made.files = _spaces(material, folder)
    measured = _analyses(material, folder, made.missing)
    made.files += measured.files
    found, values = found_in(values_of(material, measured.values, measured.claims))
    made.judged = judge(found)
    text = study_page(material, found, made.judged, drawn, spaces, measured.parts, apart, words)
    save(folder / PAGE, text, made)
    save(folder / VALUES, values, made)
    if material.rows:
        save(folder / "runs.csv", results.runs_csv(material), made)
    made.files += write_all(figures.write_figures, [*drawn, *apart], folder)
    return made


def _write_untrained(material: Material, preset: Preset, folder: Path) -> Written:
    """The report of a kind that does not train."""
    from lsc_engine.report.benches import bench_sections
    from lsc_engine.report.datasets import data_sections
    from lsc_engine.report.vectors import paper_section, vector_sections

    words, asked = material.words(), preset.reporting
    tables: list[tuple[str, list[dict[str, Any]]]] = []
    made = Written(material.study.name, words["title"], words["source"], preset.kind, folder / PAGE)
    open_folder(folder)
    paper = asked.paper
    parts: list[str] = []
    try:
        if asked.vectors is not None:
            parts, made.files, tables = vector_sections(asked.vectors, folder, made.missing)
        if asked.datasets is not None:
            made.data = ", ".join(asked.datasets.names)
            printed_values = paper.values if paper is not None else {}
            parts, tables = data_sections(asked.datasets, printed_values, material.data_dir, made.missing)
        if asked.bench is not None:
            parts, made.files, tables = bench_sections(material.study, asked.bench, folder, made.missing)
    except OSError as error:
        raise LscError(f"{folder} cannot be written: {error.strerror or error}") from None
    values = paper.values if paper is not None and asked.datasets is None else {}
    printed = paper_section(values, paper.note, paper.metric) if paper is not None and (values or paper.note) else ""
    lacking = section("Missing", bullets(md(sentence) for sentence in made.missing))
    bounds = list(asked.bench.claims) if asked.bench is not None else []
    found, kept = found_in(StudyValues(material.study.name, preset.kind, tables=tables, bounds=bounds))
    made.judged = judge(found)
    verdict = section("Verdict", results.checked_sections(found, made.judged)["Verdict"])
    page = "\n\n".join(part for part in (head(words, material.study.name), verdict, *parts, printed, lacking) if part)
    save(folder / PAGE, page + "\n", made)
    save(folder / VALUES, kept, made)
    return made


def write_all(draw: Callable[[Any, Path], list[Path]], what: Any, folder: Path) -> list[Path]:
    """Draw into `folder`; LscError where it cannot be written."""
    try:
        return draw(what, folder)
    except OSError as error:
        raise LscError(f"{folder}: figures cannot be written: {error.strerror or error}") from None


def open_folder(folder: Path) -> None:
    """Make the folder of a report. UsageError where a page of another hand lies in it."""
    page = folder / PAGE
    try:
        if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace")[:400]:
            raise UsageError(f"{page} is not a report of lsc-engine and is not overwritten: give another --out")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LscError(f"{folder} cannot be written: {error.strerror or error}; give another --out") from None


def save(path: Path, text: str, made: Written) -> None:
    """Write one file of a report."""
    try:
        replace_file(path, text.encode(), durable=False)
    except OSError as error:
        raise LscError(f"{path} cannot be written: {error.strerror or error}") from None
    made.files.append(path)


def _spaces(material: Material, folder: Path) -> tuple[list[str], list[Path]]:
    """Figures of embeddings, where runs kept any."""
    if not any(list_snapshots(row.runs[0].path) for row in material.rows):
        return [], []
    from lsc_engine.report.spaces import space_figures

    try:
        return space_figures(material, folder)
    except OSError as error:
        raise LscError(f"{folder}: figures cannot be written: {error.strerror or error}") from None


@dataclass
class _Measured:
    """What [analysis] adds to a report: sections, files, values by run id, and the claims on them."""

    parts: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    def add(self, values: dict[str, dict[str, float]], claims: list[Claim]) -> None:
        self.claims += claims
        for run, found in values.items():
            self.values.setdefault(run, {}).update(found)


def _analyses(material: Material, folder: Path, missing: list[str]) -> _Measured:
    """The sections that [analysis] asks for, measured on the trained networks."""
    asked = material.preset.reporting.analysis if material.preset is not None else None
    made = _Measured()
    if asked is None or not material.rows:
        return made
    try:
        if "database" in asked.names:
            from lsc_engine.report.database import database_section

            text, values, claims, absent = database_section(material)
            made.add(values, claims)
            made.parts.append(section("Database of embeddings", text))
            missing += absent
        if "novelty" in asked.names:
            from lsc_engine.report.novelty import novelty_section

            told = novelty_section(material, folder)
            made.add(told.values, told.claims)
            made.parts.append(section("New classes", *told.texts))
            made.files += told.files
            missing += told.missing
    except OSError as error:
        raise LscError(f"{folder}: figures cannot be written: {error.strerror or error}") from None
    material.missing += [sentence for sentence in missing if sentence not in material.missing]
    return made


def study_page(
    material: Material,
    found: Findings,
    judged: Sequence[Judged],
    drawn: Sequence[figures.Figure],
    spaces: Sequence[str],
    analyses: Sequence[str],
    apart: Sequence[figures.Figure],
    words: dict[str, str],
) -> str:
    """The page of a study that trained, as Markdown."""
    checked = results.checked_sections(found, judged)
    known = settings.sizes(material)
    parts = [
        head(words, material.study.name),
        section("Verdict", checked["Verdict"]),
        section("Results", results.final_table(material)) if material.rows else "",
        section("Levels", checked["Levels"]),
        section("Curves", *(picture(figure.name, figure.title) for figure in drawn)),
        section("Layers", *layers.layer_tables(material, known), *(picture(f.name, f.title) for f in apart)),
        section("Embeddings", *spaces),
        *analyses,
        section("Vectors", settings.vector_table(material)),
        section("Cost", results.cost_table(material, known)) if material.rows else "",
        section("Data", settings.data_text(material)),
        section("Learning rates", checked["Learning rates"]),
        section("Settings", settings.setting_table(material)) if material.rows else "",
        section("Missing", bullets(md(sentence) for sentence in material.missing)),
        section("Made with", settings.made_with(material)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def head(words: dict[str, str], study: str) -> str:
    """Title, source, claim and whose claim it is."""
    lines = [MARK, f"# {md(words['title'] or study)}"]
    facts = [("Study", study), ("Source", words["source"]), ("Claim", words["claim"]), ("Whose", words.get("whose"))]
    return "\n\n".join([*lines, bullets(f"{key}: {md(value)}" for key, value in facts if value)])


def picture(name: str, title: str) -> str:
    """A figure in a page; the SVG is shown, the PNG lies beside it."""
    return f"![{md(title)}]({name}.svg)\n\n{md(title)}."


def write_index(written: Sequence[Written], folder: Path) -> Path:
    """The index page of several reports: study, verdicts, link. `folder` is above the reports."""
    rows = []
    for one in sorted(written, key=lambda w: w.study):
        link = one.page.relative_to(folder).as_posix()
        name = f"[{md(one.study)}]({link.replace(' ', '%20')})"
        listed = one.verdicts or [("", "")]
        for number, (claim, verdict) in enumerate(listed):
            first = number == 0
            notes = str(len(one.missing)) if first and one.missing else ""
            rows.append([
                name if first else "", md(one.title) if first else "", md(one.source) if first else "",
                md(one.data) if first else "", str(one.seeds or "") if first else "", md(claim), md(verdict), notes,
            ])  # fmt: skip
    columns = ("study", "title", "source", "data", "seeds", "claim", "verdict", "missing")
    text = table(columns, rows, "lllll")
    page = "\n\n".join([MARK, "# Reports", text or "No study has been run yet."]) + "\n"
    made = Written("", "", "", "", folder / INDEX)
    save(folder / INDEX, page, made)
    return folder / INDEX
