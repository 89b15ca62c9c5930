"""`lsc-engine export`: metrics, weights, curves and comparisons of runs in the formats of other tools."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lsc_engine.analysis.compare import Comparison, Row, compare, is_loss
from lsc_engine.errors import LscError, UsageError
from lsc_engine.report.latex import tabular
from lsc_engine.runs.files import whole_file, write_whole
from lsc_engine.runs.folder import checkpoints
from lsc_engine.runs.metrics.table import lines, write_csv
from lsc_engine.runs.read.run import Run

FORMATS = ("csv", "parquet", "tensorboard", "safetensors", "png", "svg", "pdf", "latex")
FIGURES = ("png", "svg", "pdf")
MODEL = "model.safetensors"
# What a figure is made of where no metric is named: the first that was logged of each.
USUAL = (("val/accuracy", "train/accuracy"), ("train/loss",))


def default_name(runs: Sequence[Run], ending: str) -> str:
    """A file name: the run's, the study's, or `runs`."""
    studies = {run.study for run in runs}
    name = runs[0].id if len(runs) == 1 else next(iter(studies)) if len(studies) == 1 else "runs"
    return f"{name.replace('/', '-')}{ending}"


def free(path: Path, force: bool) -> Path:
    """`path` if nothing lies there, or `force` allows to replace it. UsageError otherwise."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists already and is not overwritten: give another --out, or --force to replace it")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a file as --out")
    return path


def export(runs: Sequence[Run], to: str, out: Path | None, *, force: bool, **options: Any) -> list[Path]:
    """Write `runs` in the format `to`; the files written. UsageError for what cannot be, before anything is written.

    `options`: metrics (figures), baseline (figures, latex), at (safetensors: the step, None for the best checkpoint).
    """
    writers: dict[str, Callable[..., list[Path]]] = {
        "csv": _csv, "parquet": _parquet, "tensorboard": _tensorboard, "safetensors": _safetensors, "latex": _latex,
    }  # fmt: skip
    try:
        if to in FIGURES:
            return _figures(runs, to, out, force, options)
        return writers[to](runs, out, force, options)
    except OSError as error:
        raise LscError(f"{error.filename or out}: cannot be written: {error.strerror or error}") from None


def _extra(module: str, extra: str, to: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(
            f"--to {to} needs {extra}, which is not installed: pip install 'lsc[{to}]', or pip install {extra}"
        ) from None


def _file(runs: Sequence[Run], out: Path | None, ending: str, force: bool) -> Path:
    """The one file to write: `out`, or a name of its own in `out` where that is a folder, else here."""
    if out is None or out.is_dir():
        return free((out or Path()) / default_name(runs, ending), force)
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent} is not there; make the folder first")
    return free(out, force)


# --- metrics ----------------------------------------------------------------------------------------------------------


def _csv(runs: Sequence[Run], out: Path | None, force: bool, _options: Any) -> list[Path]:
    path = _file(runs, out, ".csv", force)
    write_csv(runs, path)
    return [path]


def _parquet(runs: Sequence[Run], out: Path | None, force: bool, _options: Any) -> list[Path]:
    arrow = _extra("pyarrow", "pyarrow", "parquet")
    path = _file(runs, out, ".parquet", force)
    head, rows = lines(runs)
    listed = list(rows)
    columns = {name: [line[place] for line in listed] for place, name in enumerate(head)}
    types = {"run": arrow.string(), "step": arrow.int64()}
    table = arrow.table({name: arrow.array(v, types.get(name, arrow.float64())) for name, v in columns.items()})
    with whole_file(path) as part:
        importlib.import_module("pyarrow.parquet").write_table(table, part)
    return [path]


def _tensorboard(runs: Sequence[Run], out: Path | None, force: bool, _options: Any) -> list[Path]:
    """One folder of events for each run, at the wall times of its training."""
    _extra("tensorboard", "tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    top = out or Path("tensorboard")
    folders = [free_folder(top / run.id, force) for run in runs]
    for run, folder in zip(runs, folders, strict=True):
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


def _safetensors(runs: Sequence[Run], out: Path | None, force: bool, options: dict[str, Any]) -> list[Path]:
    chosen = [_checkpoint(run, options.get("at")) for run in runs]
    if len(runs) == 1 and (out is None or not out.is_dir()):
        paths = [_file(runs, out, ".safetensors", force)]
    else:
        folder = out or Path()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; {len(runs)} runs need a folder as --out")
        folder.mkdir(parents=True, exist_ok=True)
        paths = [free(folder / default_name([run], ".safetensors"), force) for run in runs]
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
    if at is None:
        best = best_step(run)
        found = next((one for one in listed if one.step == best and checkpoints.verify(one) is None), None)
        found = found or checkpoints.newest_good(run.path)[0]
    else:
        found = checkpoints.newest_good(run.path, at)[0]
    if found is None or MODEL not in found.files:
        has = ", ".join(str(one.step) for one in listed) or "none"
        which = "" if at is None else f" of step {at}"
        raise UsageError(f"{run.id} has no good checkpoint{which}; it has: {has}")
    return found


def best_step(run: Run) -> int | None:
    """The kept checkpoint with the best val/accuracy, else train/accuracy, at the evaluation before it."""
    known = run.metric_names()
    name = next((name for name in ("val/accuracy", "train/accuracy") if name in known), None)
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


def _figures(runs: Sequence[Run], to: str, out: Path | None, force: bool, options: dict[str, Any]) -> list[Path]:
    from lsc_engine.report.curves import draw
    from lsc_engine.report.figures import figures_of

    found = compare(runs, options.get("baseline"))
    wanted = list(options.get("metrics") or ())
    known = {name for row in found.rows for name in row.last}
    for name in wanted:
        if name not in known:
            raise UsageError(f"no run has a metric {name!r}. There are: {', '.join(sorted(known)) or 'none yet'}")
    if not wanted:
        wanted = [name for choices in USUAL if (name := next((c for c in choices if c in known), "")) in known]
    figures = figures_of(found.rows, wanted)
    if not figures:
        raise UsageError("nothing was logged that could be drawn")
    if len(figures) == 1 and out is not None and not out.is_dir():
        paths = [_file(runs, out, f".{to}", force)]
        if paths[0].suffix != f".{to}":
            raise UsageError(f"--out {out}: --to {to} writes a .{to} file")
    else:
        folder = out or Path()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; {len(figures)} figures need a folder as --out")
        stem = default_name(runs, "")
        paths = [free(folder / f"{stem}-{figure.name}.{to}", force) for figure in figures]
        folder.mkdir(parents=True, exist_ok=True)
    for figure, path in zip(figures, paths, strict=True):
        draw(figure.document, path)
    return paths


def _latex(runs: Sequence[Run], out: Path | None, force: bool, options: dict[str, Any]) -> list[Path]:
    path = _file(runs, out, ".tex", force)
    write_whole(path, comparison_tabular(compare(runs, options.get("baseline"))))
    return [path]


def comparison_tabular(found: Comparison) -> str:
    """Final values over seeds, and steps to each level with the speed-up against the baseline, as a tabular."""
    names = sorted({name for row in found.rows for name in row.last if "accuracy" in name})
    levels = found.baseline.levels
    head = ["variant", "seeds", *(f"{name} (%)" for name in names), "train/loss"]
    for level in levels:
        goal = f"{level.metric} {level.level:g}"
        head += [f"steps to {goal}", "faster"]
    rows = [[*_final_cells(row, names), *_level_cells(row)] for row in found.rows]
    return tabular(head, rows, "l" + "r" * (len(head) - 1))


def _final_cells(row: Row, names: Sequence[str]) -> list[str]:
    cells = [row.label, str(len(row.runs))]
    for name in (*names, "train/loss"):
        last = row.last.get(name)
        scale, form = (1.0, ".4g") if is_loss(name) else (100.0, ".1f")
        spread = f" ± {last[1] * scale:{form}}" if last is not None and last[2] > 1 else ""
        kind = f" {row.kind}" if is_loss(name) else ""
        cells.append("-" if last is None else f"{last[0] * scale:{form}}{spread}{kind}")
    return cells


def _level_cells(row: Row) -> list[str]:
    return [cell for level in row.levels for cell in (level.text("steps"), str(level.faster["steps"]))]
