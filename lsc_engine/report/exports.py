"""`lsc-engine export`: metrics, weights, curves and comparisons of runs in the formats of other tools."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsc_engine.analysis.compare import Comparison, compare, spread_text
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import whole_file, write_whole
from lsc_engine.report.page import tabular
from lsc_engine.runs.folder import checkpoints
from lsc_engine.runs.read.run import Run, metric_lines, no_checkpoint, write_csv

FORMATS = ("csv", "parquet", "tensorboard", "safetensors", "png", "svg", "pdf", "latex")
FIGURES = ("png", "svg", "pdf")
MODEL = "model.safetensors"
# What a figure is made of if no metric is named: the first that was logged of each.
USUAL = (("val/accuracy", "train/accuracy"), ("train/loss",))


def default_name(runs: Sequence[Run]) -> str:
    """A file name without ending: the run's, the study's, or `runs`."""
    studies = {run.study for run in runs}
    name = runs[0].id if len(runs) == 1 else next(iter(studies)) if len(studies) == 1 else "runs"
    return name.replace("/", "-")


def targets(names: Sequence[str], ending: str, out: Path | None, force: bool, what: str = "runs") -> list[Path]:
    """The files to write, `out` or in the folder `out`, which is made. UsageError if one is there without `force`."""
    if len(names) == 1 and out is not None and not out.is_dir():
        if not out.parent.is_dir():
            raise UsageError(f"{out.parent} is not there; make the folder first")
        paths = [out]
    else:
        folder = out or Path()
        if not folder.is_dir() and (folder.exists() or folder.suffix == ending):
            raise UsageError(f"{folder} is a file; {len(names)} {what} need a folder as --out")
        paths = [folder / f"{name}{ending}" for name in names]
    for path in paths:
        if path.exists() and not force:
            do = "give another --out, or --force to replace it"
            raise UsageError(f"{path} exists already and is not overwritten: {do}")
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give a file as --out")
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    return paths


def export(
    runs: Sequence[Run],
    to: str,
    out: Path | None,
    *,
    force: bool,
    metrics: Sequence[str] | None = None,
    baseline: str | None = None,
    at: int | None = None,
) -> list[Path]:
    """Write `runs` in the format `to`; the files. UsageError before anything is written; `at`: the checkpoint."""
    try:
        if to in FIGURES:
            return _figures(runs, to, out, force, metrics or (), baseline)
        if to == "safetensors":
            chosen = [_checkpoint(run, at) for run in runs]
            paths = targets([default_name([run]) for run in runs], ".safetensors", out, force)
            for found, path in zip(chosen, paths, strict=True):
                with whole_file(path) as part:
                    _copy_weights(found.path / MODEL, part)
            return paths
        if to == "tensorboard":
            return _tensorboard(runs, out or Path("tensorboard"), force)
        arrow = _extra("pyarrow", to) if to == "parquet" else None
        (path,) = targets([default_name(runs)], ".tex" if to == "latex" else f".{to}", out, force)
        if to == "csv":
            write_csv(runs, path)
        elif to == "latex":
            write_whole(path, comparison_tabular(compare(runs, baseline)))
        else:
            _write_parquet(runs, path, arrow)
        return [path]
    except OSError as error:
        raise LscError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from None


def _extra(package: str, to: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        install = f"pip install 'lsc[{to}]', or pip install {package}"
        raise UsageError(f"--to {to} needs {package}, which is not installed: {install}") from None


def _write_parquet(runs: Sequence[Run], path: Path, arrow: Any) -> None:
    head, rows = metric_lines(runs)
    columns = list(zip(*rows, strict=True)) or [()] * len(head)
    types = {"run": arrow.string(), "step": arrow.int64()}
    arrays = [arrow.array(column, types.get(name, arrow.float64())) for name, column in zip(head, columns, strict=True)]
    with whole_file(path) as part:
        importlib.import_module("pyarrow.parquet").write_table(arrow.table(dict(zip(head, arrays, strict=True))), part)


def _tensorboard(runs: Sequence[Run], top: Path, force: bool) -> list[Path]:
    _extra("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    folders = [top / run.id for run in runs]
    for folder in folders:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            if not force or not folder.is_dir():
                raise UsageError(f"{folder} holds files already: give another --out, or --force to replace them")
            shutil.rmtree(folder)
    for run, folder in zip(runs, folders, strict=True):
        started = run.status().started or 0.0
        with SummaryWriter(log_dir=str(folder)) as writer:
            for name in run.metric_names():
                step, values, _, seconds = run.axes(name)
                for one, value, after in zip(step.tolist(), values.tolist(), seconds.tolist(), strict=True):
                    # A time that was not logged is no number.
                    writer.add_scalar(name, value, one, walltime=started + (after if after == after else 0.0))
    return folders


def _copy_weights(file: Path, path: Path) -> None:
    """The weights of a checkpoint; those of layers that are stored as their seed are written out."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as held:
        names = list(held.keys())
    if not any(name.endswith(".spec") for name in names):
        shutil.copyfile(file, path)
        return
    from safetensors.torch import load_file, save_file

    from lsc_engine.models.etf import dense

    save_file(dense(load_file(file)), path)


def _checkpoint(run: Run, at: int | None) -> checkpoints.Checkpoint:
    """The checkpoint of step `at`, else the best one that is whole, else the newest."""
    listed = run.checkpoints()
    found = None
    if at is None:
        best = best_step(run)
        found = next((one for one in listed if one.step == best and checkpoints.verify(one) is None), None)
    found = found or checkpoints.newest_good(run.path, at)[0]
    if found is None:
        raise UsageError(no_checkpoint(run, at))
    return found


def best_step(run: Run) -> int | None:
    """The kept checkpoint with the best val/accuracy, else train/accuracy, at the evaluation before it."""
    known = run.metric_names()
    name = next((name for name in USUAL[0] if name in known), None)
    if name is None:
        return None
    steps, values = run.history(name)
    scores = {}
    for one in run.checkpoints():
        before = steps.searchsorted(one.step, "right") - 1
        if before >= 0 and values[before] == values[before]:
            scores[one.step] = float(values[before])
    return max(scores, key=lambda step: (scores[step], step)) if scores else None


def _figures(
    runs: Sequence[Run], to: str, out: Path | None, force: bool, metrics: Sequence[str], baseline: str | None
) -> list[Path]:
    from lsc_engine.report.figures import curve_figures, draw_curves

    rows = compare(runs, baseline).rows
    known = {name for row in rows for name in row.last}
    for name in metrics:
        if name not in known:
            raise UsageError(f"no run has a metric {name!r}. There are: {', '.join(sorted(known)) or 'none yet'}")
    usual = [name for choices in USUAL if (name := next((c for c in choices if c in known), "")) in known]
    figures = curve_figures(rows, metrics or usual)
    if not figures:
        raise UsageError("nothing was logged that could be drawn")
    names = [f"{default_name(runs)}-{figure.name}" for figure in figures]
    paths = targets(names, f".{to}", out, force, "figures")
    if paths[0].suffix != f".{to}":
        raise UsageError(f"--out {out}: --to {to} writes a .{to} file")
    for figure, path in zip(figures, paths, strict=True):
        draw_curves(figure.document, path)
    return paths


def comparison_tabular(found: Comparison) -> str:
    """Final values over seeds, and steps to each level with the speed-up against the baseline, as a tabular."""
    names = sorted({name for row in found.rows for name in row.last if "accuracy" in name})
    head = ["variant", "seeds", *(f"{name} (%)" for name in names), "train/loss"]
    for level in found.baseline.levels:
        head += [f"steps to {level.metric} {level.level:g}", "faster"]
    rows = []
    for row in found.rows:
        loss = spread_text(row.last.get("train/loss"), kind=row.kind)
        cells = [row.label, str(len(row.runs)), *(spread_text(row.last.get(name), 100) for name in names), loss]
        rows.append([*cells, *(cell for one in row.levels for cell in (one.text("steps"), str(one.faster["steps"])))])
    return tabular(head, rows, "l" + "r" * (len(head) - 1))
