"""`lsc-engine export`: metrics, weights, curves and comparisons of runs in the formats of other tools."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsc_engine.analysis.compare import Comparison, Row, compare
from lsc_engine.analysis.levels import is_loss
from lsc_engine.common.safe_io import whole_file, write_whole
from lsc_engine.errors import LscError, UsageError
from lsc_engine.report.latex import tabular
from lsc_engine.runs.folder import checkpoints
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.table import lines, write_csv

FORMATS = ("csv", "parquet", "tensorboard", "safetensors", "png", "svg", "pdf", "latex")
FIGURES = ("png", "svg", "pdf")
MODEL = "model.safetensors"
# What a figure is made of if no metric is named: the first that was logged of each.
USUAL = (("val/accuracy", "train/accuracy"), ("train/loss",))


def default_name(runs: Sequence[Run], ending: str) -> str:
    """A file name: the run's, the study's, or `runs`."""
    studies = {run.study for run in runs}
    name = runs[0].id if len(runs) == 1 else next(iter(studies)) if len(studies) == 1 else "runs"
    return f"{name.replace('/', '-')}{ending}"


@dataclass(frozen=True)
class Export:
    """Runs to be written to `out`; `force` replaces what lies there."""

    runs: Sequence[Run]
    out: Path | None = None
    force: bool = False

    def free(self, path: Path) -> Path:
        """`path` if nothing lies there, or may be replaced. UsageError otherwise."""
        if path.exists() and not self.force:
            raise UsageError(
                f"{path} exists already and is not overwritten: give another --out, or --force to replace it"
            )
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give a file as --out")
        return path

    def file(self, ending: str) -> Path:
        """The one file to write: `out`, or a name of its own in `out` if that is a folder, else here."""
        if self.out is None or self.out.is_dir():
            return self.free((self.out or Path()) / default_name(self.runs, ending))
        if not self.out.parent.is_dir():
            raise UsageError(f"{self.out.parent} is not there; make the folder first")
        return self.free(self.out)

    def files(self, names: Sequence[str], ending: str, what: str) -> list[Path]:
        """`out` for a single file, else files of these names in the folder `out`, which is made."""
        if len(names) == 1 and self.out is not None and not self.out.is_dir():
            return [self.file(ending)]
        folder = self.out or Path()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; {len(names)} {what} need a folder as --out")
        paths = [self.free(folder / f"{name}{ending}") for name in names]
        folder.mkdir(parents=True, exist_ok=True)
        return paths


def export(
    runs: Sequence[Run], to: str, out: Path | None, *, force: bool, metrics: Sequence[str] | None = None,
    baseline: str | None = None, at: int | None = None,
) -> list[Path]:  # fmt: skip
    """Write `runs` in the format `to`; the files written. UsageError for what cannot be, before anything is written.

    `metrics` and `baseline` of figures, `baseline` also of latex; `at`: the step of the checkpoint, None for the best.
    """
    job = Export(runs, out, force)
    try:
        if to in FIGURES:
            return _figures(job, to, metrics or (), baseline)
        if to == "safetensors":
            return _safetensors(job, at)
        if to == "latex":
            path = job.file(".tex")
            write_whole(path, comparison_tabular(compare(runs, baseline)))
            return [path]
        return {"csv": _csv, "parquet": _parquet, "tensorboard": _tensorboard}[to](job)
    except OSError as error:
        raise LscError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from None


def _extra(module: str, package: str, to: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(
            f"--to {to} needs {package}, which is not installed: pip install 'lsc[{to}]', or pip install {package}"
        ) from None


# --- metrics ----------------------------------------------------------------------------------------------------------


def _csv(job: Export) -> list[Path]:
    path = job.file(".csv")
    write_csv(job.runs, path)
    return [path]


def _parquet(job: Export) -> list[Path]:
    arrow = _extra("pyarrow", "pyarrow", "parquet")
    path = job.file(".parquet")
    head, rows = lines(job.runs)
    columns = dict(zip(head, zip(*rows, strict=True), strict=False)) or dict.fromkeys(head, ())
    types = {"run": arrow.string(), "step": arrow.int64()}
    table = arrow.table({
        name: arrow.array(columns.get(name, ()), types.get(name, arrow.float64())) for name in head
    })  # fmt: skip
    with whole_file(path) as part:
        importlib.import_module("pyarrow.parquet").write_table(table, part)
    return [path]


def _tensorboard(job: Export) -> list[Path]:
    """One folder of events for each run, at the wall times of its training."""
    _extra("tensorboard", "tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    top = job.out or Path("tensorboard")
    folders = [free_folder(top / run.id, job.force) for run in job.runs]
    for run, folder in zip(job.runs, folders, strict=True):
        started = run.status().started or 0.0
        with SummaryWriter(log_dir=str(folder)) as writer:
            for name in run.metric_names():
                step, values, _, seconds = run.axes(name)
                for one, value, after in zip(step.tolist(), values.tolist(), seconds.tolist(), strict=True):
                    # A time that was not logged is no number.
                    writer.add_scalar(name, value, one, walltime=started + (after if after == after else 0.0))
    return folders


def free_folder(folder: Path, force: bool) -> Path:
    """`folder` if it is empty or not there; with `force` what lies in it is removed first."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not force or not folder.is_dir():
            raise UsageError(f"{folder} holds files already: give another --out, or --force to replace them")
        shutil.rmtree(folder)
    return folder


# --- weights ----------------------------------------------------------------------------------------------------------


def _safetensors(job: Export, at: int | None) -> list[Path]:
    chosen = [_checkpoint(run, at) for run in job.runs]
    ending = ".safetensors"
    if len(job.runs) == 1 and job.out is None:
        paths = [job.file(ending)]
    else:
        paths = job.files([default_name([run], "") for run in job.runs], ending, "runs")
    for found, path in zip(chosen, paths, strict=True):
        with whole_file(path) as part:
            _copy_weights(found.path / MODEL, part)
    return paths


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
    if found is None or MODEL not in found.files:
        has = ", ".join(str(one.step) for one in listed) or "none"
        which = "" if at is None else f" of step {at}"
        raise UsageError(f"{run.id} has no good checkpoint{which}; it has: {has}")
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


# --- figures and tables -----------------------------------------------------------------------------------------------


def _figures(job: Export, to: str, metrics: Sequence[str], baseline: str | None) -> list[Path]:
    from lsc_engine.report.figures import curve_figures, draw_curves

    rows = compare(job.runs, baseline).rows
    known = {name for row in rows for name in row.last}
    for name in metrics:
        if name not in known:
            raise UsageError(f"no run has a metric {name!r}. There are: {', '.join(sorted(known)) or 'none yet'}")
    usual = [name for choices in USUAL if (name := next((c for c in choices if c in known), "")) in known]
    figures = curve_figures(rows, metrics or usual)
    if not figures:
        raise UsageError("nothing was logged that could be drawn")
    stem = default_name(job.runs, "")
    paths = job.files([f"{stem}-{figure.name}" for figure in figures], f".{to}", "figures")
    if any(path.suffix != f".{to}" for path in paths):
        raise UsageError(f"--out {job.out}: --to {to} writes a .{to} file")
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
        cells = [row.label, str(len(row.runs)), *(_final_cell(row, name) for name in (*names, "train/loss"))]
        rows.append([*cells, *(cell for one in row.levels for cell in (one.text("steps"), str(one.faster["steps"])))])
    return tabular(head, rows, "l" + "r" * (len(head) - 1))


def _final_cell(row: Row, name: str) -> str:
    if name not in row.last:
        return "-"
    mean, deviation, seeds = row.last[name]
    scale, form = (1.0, ".4g") if is_loss(name) else (100.0, ".1f")
    spread = f" ± {deviation * scale:{form}}" if seeds > 1 else ""
    return f"{mean * scale:{form}}{spread}" + (f" {row.kind}" if is_loss(name) else "")
