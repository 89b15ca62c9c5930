"""Commands that write what runs have shown: report, also for kinds that do not train; export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import lsc_engine.cli.options as cli
from lsc_engine.cli.output import answer, message, printable
from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import counted
from lsc_engine.common.userpaths import user_path

if TYPE_CHECKING:
    from lsc_engine.report.report import WrittenReport
    from lsc_engine.runs.read.run import Run
    from lsc_engine.runs.read.studies import Study
    from lsc_engine.studies.plan import StudyPlan


# Where the reports of the shipped presets are kept.
RESULTS = "docs/results"
_FORMATS = (
    "csv, parquet, tensorboard, safetensors, png, svg, pdf or latex; with --codes faiss, pgvector, usearch, parquet or "
    "npy."
)
_CODES = "Write the embeddings of one run, as float32, int8, sign, ternary or rank."


@cli.command("report")
def report(
    study: Annotated[str | None, cli.arg("STUDY", "A study, also without its folder, or a saved view.")] = None,
    check: Annotated[bool, cli.opt("--check", None, "Compute the verdicts in the folder STUDY again.")] = False,
    all_: Annotated[bool, cli.opt("--all", None, "Every study of the runs folder, and an index page.")] = False,
    out: Annotated[Path | None, cli.opt("--out", "DIR", "Default: the study's folder, or the runs folder.")] = None,
    html: Annotated[bool, cli.opt("--html", None, "Also report.html, self-contained, with tables to sort.")] = False,
    runs_dir: cli.RunsDirs = None,
    data_dir: cli.DataDir = None,
    as_json: cli.Json = False,
) -> None:
    """Write the report of a study or saved view: claim, verdict, our figures beside the paper's, curves, settings.

    Example: lsc-engine report lsc-2025/fig9-mini --out docs/results/fig9

    With --check [DIR] (default docs/results) every verdict of the reports in a folder is computed again from the
    values.csv beside each; the exit code is 1 where one differs.
    """
    if check:
        if all_ or html or out is not None:
            raise UsageError("--check looks at the reports of one folder and goes without --all, --html and --out")
        from lsc_engine.report.check import check_reports

        reports, verdicts, faults = check_reports(user_path(study or RESULTS))
        text = f"reports: {reports}, verdicts computed again: {verdicts}, differences: {len(faults)}"
        document = {"reports": reports, "verdicts": verdicts, "faults": faults}
        answer(as_json, document, "\n".join([*map(printable, faults), text]))
        if faults:
            raise typer.Exit(1)
        return
    if all_ == (study is not None):
        raise UsageError("name a study, or give --all for every one of the runs folder, not both")
    folder = user_path(out) if out is not None else None
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--out: {folder} is a file, not a folder")
    if study is None:
        _report_all(folder, runs_dir, data_dir, as_json, html)
        return
    from lsc_engine.analysis.saved_views import VIEWS
    from lsc_engine.report.report import default_folder, find_view, write_report, write_view
    from lsc_engine.runs.read.studies import find_study

    try:
        found = find_study(study, runs_dir)
        written = write_report(found, folder or default_folder(found), data_dir)
    except UsageError:
        if (saved := find_view(study, runs_dir)) is None:
            raise
        root, view = saved
        written = write_view(root, view, folder or root / VIEWS / view.name, data_dir)
    if html:
        from lsc_engine.report.html import write_html

        written.page = write_html(written.page)
        written.files.append(written.page)
    _print_report(written, as_json)


def _print_report(written: WrittenReport, as_json: bool) -> None:
    note = "\n".join(f"missing: {sentence}" for sentence in written.missing)
    answer(as_json, written.document, str(written.page), note=note)


def _report_all(out: Path | None, dirs: list[Path] | None, data_dir: Path | None, as_json: bool, html: bool) -> None:
    from lsc_engine.report.report import write_index, write_report
    from lsc_engine.runs.folder.layout import runs_dirs
    from lsc_engine.runs.read.studies import list_studies

    folder = out or user_path(runs_dirs(dirs)[0])
    studies: dict[str, Study] = {}
    for one in list_studies(dirs):
        preset = None if one.runs else one.preset()
        if not one.runs and (preset is None or preset.kind == "train"):
            continue
        if one.name in studies:
            message(f"{one.name} is reported from {studies[one.name].root}; the one in {one.root} is left out")
        studies.setdefault(one.name, one)
    if not studies:
        raise UsageError(f"there is no study in {', '.join(str(root) for root in runs_dirs(dirs))}")
    written = []
    for name, one in studies.items():
        below = folder / name if out is not None else folder / name / "report"
        written.append(write_report(one, below, data_dir))
        if not as_json:
            message(f"{name}: {written[-1].page}")
    page = write_index(written, folder)
    if html:
        from lsc_engine.report.html import write_html

        page = write_html(page, [one.page for one in written])
        for each in written:
            each.page = write_html(each.page)
            each.files.append(each.page)
    answer(as_json, lambda: {"index": str(page), "reports": [one.document() for one in written]}, str(page))


def report_without_training(plan: StudyPlan, runs_dir: Path, data_dir: Path | None, *, as_json: bool) -> None:
    """The report of a preset whose kind does not train; benchmarks run that have no result yet."""
    from lsc_engine.report.report import default_folder, write_report
    from lsc_engine.report.sections.untrained import measure
    from lsc_engine.runs.read.studies import Study
    from lsc_engine.studies.prepare import write_study

    study = Study(plan.study, runs_dir, ())
    bench = plan.preset.reporting.bench
    if bench is not None:
        from lsc_engine.bench import NAMES

        for name in bench.names:
            if name not in NAMES:
                near = did_you_mean(name, NAMES)
                raise UsageError(f'{plan.preset.path}: bench.names: there is no benchmark "{name}"; {near}')
    write_study(runs_dir, plan.study, plan.to_toml())
    if bench is not None:
        for name in measure(study, bench):
            message(f"{name}: measured")
    _print_report(write_report(study, default_folder(study), data_dir), as_json)


@cli.command("export")
def export(
    runs: cli.ManyRuns,
    to: Annotated[str, cli.opt("--to", "FORMAT", _FORMATS)],
    use: cli.UseOptions,
    out: Annotated[Path | None, cli.opt("--out", "PATH", "File, or folder for several. Default: a new name.")] = None,
    metric: cli.Metrics = None,
    baseline: cli.Baseline = None,
    codes: Annotated[str | None, cli.opt("--codes", "CODE", _CODES)] = None,
    split: Annotated[str, cli.opt("--split", "SPLIT", "train or val, of what is embedded (--codes).")] = "train",
    dataset: Annotated[str | None, cli.opt("--dataset", "NAME", "Another data set to embed (--codes).")] = None,
    limit: Annotated[int | None, cli.num("--limit", "K", "Embed only the first K images (--codes).", min=1)] = None,
    force: cli.Force = False,
    as_json: cli.Json = False,
) -> None:
    """Write runs for other tools: metrics, the weights of the best checkpoint, curves, or a table of a comparison; with
    --codes the embeddings of a data set, for a vector database.

    Example: lsc-engine export fig9 --to svg --metric train/loss --out loss.svg
    """
    from lsc_engine.cli.commands.runs import find_runs
    from lsc_engine.report.embedding_codes import FORMATS as DATABASES
    from lsc_engine.report.exports import FIGURES, FORMATS
    from lsc_engine.report.exports import export as write
    from lsc_engine.runs.read.run import only_read

    if codes is not None:
        (run, *others) = find_runs(runs, use.runs_dir)
        if others:
            raise UsageError(f"--codes takes the embeddings of one run; {len(others) + 1} are named")
        if metric or baseline:
            raise UsageError(f"{'--metric' if metric else '--baseline'} does not go with --codes")
        if run.origin != "lsc":
            raise UsageError(only_read(run))
        _export_codes(run, to, codes, out, (dataset, split), use, limit, force, as_json)
        return
    for option, given in (("--split", split != "train"), ("--dataset", dataset), ("--limit", limit)):
        if given:
            raise UsageError(f"{option} chooses what is embedded, and goes only with --codes")
    if to in DATABASES and to not in FORMATS:
        raise UsageError(f"--to {to} takes embeddings: name their form, as in --codes float32")
    if to not in FORMATS:
        raise UsageError(
            f"--to {to}: there is no such format; {did_you_mean(to, dict.fromkeys((*FORMATS, *DATABASES)))}"
        )
    for option, argument, fits in (
        ("--metric", metric, FIGURES),
        ("--at", use.at, ("safetensors",)),
        ("--baseline", baseline, ("latex", *FIGURES)),
    ):
        if argument and to not in fits:
            raise UsageError(f"{option} does not go with --to {to}, but with {', '.join(fits)}")
    chosen = find_runs(runs, use.runs_dir)
    place = user_path(out) if out is not None else None
    written = write(chosen, to, place, force=force, metrics=metric, baseline=baseline, at=use.at)
    files = [str(file) for file in written]
    answer(as_json, {"to": to, "runs": [run.id for run in chosen], "files": files}, "\n".join(files))


def _export_codes(
    run: Run,
    to: str,
    code: str,
    out: Path | None,
    data: tuple[str | None, str],
    use: cli.UseOptions,
    limit: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Embed a data set (its name and split) with a run, and write its codes with their sizes and their recall."""
    from lsc_engine.report import embedding_codes
    from lsc_engine.report.exports import targets

    for option, word, known in (("--to", to, embedding_codes.FORMATS), ("--codes", code, embedding_codes.CODES)):
        if word not in known:
            raise UsageError(f"{option} {word}: there is no such form of embeddings; {did_you_mean(word, known)}")
    embedding_codes.check_format(to, code)
    stem = f"{run.id.replace('/', '-')}-{data[1]}-{code}"
    (path,) = targets([stem], embedding_codes.ENDINGS[to], None if out is None else user_path(out), force)
    if (beside := embedding_codes.labels_file(to, path)) is not None:
        targets([stem], "", beside, force)
    from lsc_engine.cli.commands.predict import open_for_use
    from lsc_engine.training.trained_run import DataSelection, embed_all, open_images

    trained = open_for_use(run, use)
    source, notes = open_images(trained, DataSelection(*data), use.data_dir)
    for note in notes:
        message(f"note: {note}")
    z, labels = embed_all(trained, source, limit)
    exact = embedding_codes.encode(z, "float32", None)
    codes = embedding_codes.encode(z, code, trained.system)
    files = embedding_codes.write(codes, labels, to, path)
    found = embedding_codes.recall(codes, exact)
    recall = {f"recall@{k}": share for k, share in zip(embedding_codes.NEIGHBOURS, found, strict=True)}
    facts = {"to": to, "codes": code, "runs": [run.id], "images": len(z), "n": z.shape[1], "bits": codes.bits}
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in recall.items())
    each = f"{counted(codes.bytes, 'byte')} each, {4 * z.shape[1]} as float32"
    note = f"{counted(len(z), 'embedding')} of {each}; {shares}"
    names = [str(file) for file in files]
    answer(as_json, {**facts, "bytes": codes.bytes, **recall, "files": names}, "\n".join(names), note=note)
