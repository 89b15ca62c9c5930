"""Commands that only look: list, show, compare, log."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lsc_engine.cli.options import Json, ManyRuns, OneRun, RunsDirs
from lsc_engine.cli.output import emit_json, printable, say
from lsc_engine.cli.tables import count, percent, table, value
from lsc_engine.errors import LscError, UsageError
from lsc_engine.streams import shows_unicode

if TYPE_CHECKING:
    from lsc_engine.charts.series import Mark
    from lsc_engine.runs.folder.status import Status
    from lsc_engine.runs.read.run import Run

_FOLLOW_SECONDS = 0.3
_MOST_PASSED = 20


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command("list")(list_)
    app.command("show")(show)
    app.command("compare")(compare)
    app.command("log")(log)


def summary(run: Run, status: Status, short: str) -> dict[str, Any]:
    """A run as `list --json` tells it."""
    return {
        "id": run.id,
        "short": short,
        "study": run.study,
        "variant": run.variant,
        "seed": run.seed,
        "state": status.shown_state,
        "step": status.step,
        "total_steps": status.total_steps,
        "metrics": run.last(status),
        "host": status.host,
        "device": status.device,
        "owner": status.owner,
        "tags": run.tags,
        "started": status.started,
        "seconds": status.seconds,
        "eta": status.eta,
        "attempt": status.attempt,
        "exit_code": status.exit_code,
        "message": status.news,
        "path": str(run.path),
    }


def list_(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="Only runs with all words in id, state, owner or tags."),
    ] = None,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """List runs with their state, progress and last values.

    Example: lsc-engine list fig9 running --runs-dir runs --runs-dir /shared/anna/runs
    """
    from lsc_engine.runs.folder.layout import runs_dirs
    from lsc_engine.runs.read.run import list_runs, short_ids

    passed: list[str] = []
    runs = list_runs(runs_dir, passed)
    short = short_ids(runs)
    for sentence in passed[:_MOST_PASSED]:
        say(f"not listed: {sentence}")
    if len(passed) > _MOST_PASSED:
        say(f"not listed: {len(passed) - _MOST_PASSED} more")
    found = [summary(run, run.status(), short[run.id]) for run in runs]
    for word in words or ():
        found = [one for one in found if _holds(one, word)]
    if as_json:
        emit_json(found)
        return
    for root in runs_dirs(runs_dir):
        if not root.is_dir():
            say(f"{root} is not there")
    if not found:
        where = ", ".join(str(root) for root in runs_dirs(runs_dir))
        said = f"no run matches {' '.join(words)!r}" if words and runs else f"no runs in {where}"
        say(f"{said}; lsc-engine presets lists what can be trained")
        return
    kinds = {run.id: run.loss_kind for run in runs}
    rows = [_list_row(one, kinds[one["id"]]) for one in found]
    print(table(("SHORT", "STATE", "RUN", "STEP", "OF", "LOSS", "ACC%", "VAL%", "WHERE", "TAGS"), rows, "   rrrrr"))


def _holds(one: dict[str, Any], word: str) -> bool:
    return any(word in text for text in (one["id"], one["state"], one["owner"], *one["tags"]))


def _list_row(one: dict[str, Any], kind: str) -> list[str]:
    metrics = one["metrics"]
    loss = metrics.get("train/loss")
    return [
        one["short"], one["state"], one["id"], count(one["step"]), count(one["total_steps"]),
        "-" if loss is None else f"{loss:.4g}{kind}",
        percent(metrics.get("train/accuracy")), percent(metrics.get("val/accuracy")),
        " ".join(part for part in (one["host"], one["device"]) if part), " ".join(one["tags"]),
    ]  # fmt: skip


def show(
    run: OneRun,
    plot: Annotated[bool, typer.Option("--plot", help="Draw loss, accuracy and the last embeddings.")] = False,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME", help="Draw this metric instead; repeatable.")
    ] = None,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Show one run: state, last values, settings, notes, checkpoints.

    Example: lsc-engine show n_min/seed-0 --plot
    """
    from lsc_engine.runs.read.run import list_runs, open_run, short_ids

    found = open_run(run, runs_dir)
    short = short_ids([*list_runs(runs_dir), found])[found.id]
    if as_json:
        emit_json(run_document(found, short))
        return
    status = found.status()
    print(printable(_describe(found, status, summary(found, status, short))))
    if plot or metric:
        for text in [*_charts(found, metric), *([] if metric else _embeddings(found))]:
            print("\n" + text)


def run_document(run: Run, short: str | None = None) -> dict[str, Any]:
    """A run as `show --json` tells it: as `list` does, and its preset, source, whole history, notes, checkpoints."""
    from lsc_engine.runs.read.run import list_runs, short_ids

    if short is None:
        known = list_runs([run.root]) if run.root else []
        short = short_ids([*known, run])[run.id]
    history = {name: [list(pair) for pair in zip(*_lists(run, name), strict=True)] for name in run.metric_names()}
    return {
        **summary(run, run.status(), short),
        "preset": run.config,
        "source": run.source,
        "history": history,
        "notes": [{"time": note.time, "author": note.author, "text": note.text} for note in run.notes],
        "checkpoints": [{"step": c.step, "bytes": c.size, "problem": c.problem} for c in run.checkpoints()],
    }


def _lists(run: Run, name: str) -> tuple[list[int], list[float]]:
    steps, values = run.history(name)
    return steps.tolist(), values.tolist()


def _describe(run: Run, status: Status, facts: dict[str, Any]) -> str:
    """The facts of a run as lines."""
    from lsc_engine.runs.folder.status import format_seconds
    from lsc_engine.runs.settings import settings_of

    done = f"step {count(status.step)} of {count(status.total_steps)}"
    lines = [f"{run.id}   {facts['short']}", f"  state       {status.shown_state}, {done}, attempt {status.attempt}"]
    told = {
        "message": status.news,
        "earlier": status.earlier,
        "exit code": "" if status.exit_code is None else str(status.exit_code),
        "where": " ".join(part for part in (status.host, status.device, status.owner) if part),
        "forked from": _lineage(run.source.get("parent")),
        "took": format_seconds(status.seconds) if status.seconds else "",
        "left": format_seconds(status.eta) if status.eta is not None and status.active else "",
        "folder": str(run.path),
        "tags": " ".join(facts["tags"]),
        "settings": run.config_problem or "",
    }
    lines += [f"  {key:<11} {text}" for key, text in told.items() if text]
    lines += [f"  note        {note.text}" for note in run.notes]
    kept = [f"step {c.step}" + (" (unfinished)" if c.problem else "") for c in run.checkpoints()]
    lines += [f"  checkpoints {', '.join(kept)}"] if kept else []
    lines += ["", *(f"  {name:<28} {value(number, 6)}" for name, number in facts["metrics"].items())]
    lines += ["", *(f"  {key:<28} {setting!r}" for key, setting in settings_of(run.config).items())]
    return "\n".join(lines)


def _lineage(parent: Any) -> str:
    """The run and step that a fork began with, as its source.json names them."""
    return f"{parent.get('id')}, step {parent.get('step')}" if isinstance(parent, dict) else ""


def _charts(run: Run, metrics: Sequence[str] | None) -> list[str]:
    """Charts of the metrics (default: losses together, accuracies together) as text for this terminal."""
    from lsc_engine.charts.chart import to_text
    from lsc_engine.charts.series import Series, View

    known = run.metric_names()
    if metrics:
        for name in metrics:
            if name not in known:
                raise UsageError(f"{run.id} has no metric {name!r}. It has: {', '.join(known) or 'none yet'}")
        groups = [[name] for name in metrics]
    else:
        groups = [[n for n in known if n in names] for names in _PLOTTED]
    wide, high = shutil.get_terminal_size((80, 24))
    mode: Literal["braille", "ascii"] = "braille" if shows_unicode(sys.stdout) else "ascii"
    marks = _marks(run)
    drawn: list[str] = []
    for names in groups:
        series = [
            Series(*run.history(name), letter="abcdef"[i % 6], colour=i, name=name, marks=marks)
            for i, name in enumerate(names)
        ]
        if series:
            is_loss = "loss" in names[0]
            kind = f" · {run.loss_kind} · log y" if is_loss else ""
            view = View(mode=mode, log_y=is_loss)
            text = to_text(series, wide, min(16, high - 4), view, title=f"{names[0]}{kind} · step")
            drawn.append(printable(text))
    if not drawn:
        say(f"{run.id} has logged nothing yet")
    return drawn


def _marks(run: Run) -> tuple[Mark, ...]:
    """`R` where the run was resumed, `|` where layers were fixed."""
    from lsc_engine.charts.series import Mark
    from lsc_engine.runs.metrics.columns import FIXED, layers_fixed

    resumed = tuple(Mark(float(step), "R") for step in run.table.attempt_starts()[1:])
    if FIXED not in run.metric_names():
        return resumed
    steps, counts = run.history(FIXED)
    return (*resumed, *(Mark(float(steps[place]), "|") for place in layers_fixed(counts)))


def _embeddings(run: Run) -> list[str]:
    """The last snapshot of embeddings, where the run keeps any: plane, sphere or angles."""
    from lsc_engine.cli.results import terminal_mode
    from lsc_engine.runs.files import UnreadableError
    from lsc_engine.runs.read.embeddings import list_snapshots, read_snapshot
    from lsc_engine.runs.read.embeddings_chart import kind_of, snapshot_rows

    listed = list_snapshots(run.path)
    if not listed:
        return []
    try:
        shot = read_snapshot(listed[-1][1])
    except UnreadableError as error:
        say(f"{run.id}: {error}")
        return []
    wide, high = shutil.get_terminal_size((80, 24))
    mode = terminal_mode()
    rows = snapshot_rows(shot, wide, max(8, min(24, high - 4)), mode=mode)
    dash = "-" if mode == "ascii" else "─"
    title = f"{dash} embeddings {kind_of(shot)}, epoch {shot.epoch:.1f} ".ljust(wide, dash)[:wide]
    return [printable("\n".join([title, *("".join(cell.text for cell in row).rstrip() for row in rows)]))]


_PLOTTED = (("train/loss", "val/loss"), ("train/accuracy", "val/accuracy"))


def compare(
    runs: ManyRuns,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="VARIANT", help="Variant to compare with.")
    ] = None,
    level: Annotated[
        list[str] | None,
        typer.Option(
            "--level", metavar="METRIC=VALUE", help="metric=value instead of the preset's levels; repeatable."
        ),
    ] = None,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Compare runs: differing settings, final values, and how soon each reaches a level.

    Example: lsc-engine compare fig9 --baseline n=384 --level train/accuracy=0.9
    """
    from lsc_engine.analysis.compare import compare as compared
    from lsc_engine.runs.read.studies import tries_beside

    chosen = _find_all(runs, runs_dir)
    if len(chosen) < 2:
        raise UsageError(f"one run only, {chosen[0].id}: name a second run, or a study")
    found = compared(chosen, baseline, _levels(level) if level else None, tries_beside(chosen))
    if as_json:
        from lsc_engine.analysis.verdict import to_json

        emit_json(to_json(found))
        return
    from lsc_engine.cli.comparison import comparison_text

    print(comparison_text(found))


def _find_all(refs: Sequence[str], runs_dir: Sequence[Path] | None) -> list[Run]:
    """The runs that `refs` name; a study or study/variant names all of its runs, in the order of its preset."""
    from lsc_engine.runs.read.run import list_runs, open_run
    from lsc_engine.runs.read.studies import Study, in_order

    known = list_runs(runs_dir)
    chosen: list[Run] = []
    for ref in refs:
        named = ref.rstrip("/")
        group = [r for r in known if named in (r.study, r.study.rpartition("/")[2], f"{r.study}/{r.variant}")]
        studies = dict.fromkeys((run.study, run.root) for run in group)
        for study, root in studies:
            own = [run for run in group if (run.study, run.root) == (study, root)]
            chosen += in_order(own, None if root is None else Study(study, root, ()).preset())
        if not group:
            chosen.append(open_run(ref, runs_dir))
    return list({(str(run.root), run.id): run for run in chosen}.values())


def _levels(texts: Sequence[str]) -> dict[str, list[float]]:
    import math

    levels: dict[str, list[float]] = {}
    for text in texts:
        metric, _, number = text.rpartition("=")
        try:
            levels.setdefault(metric, []).append(float(number))
            if not metric or not math.isfinite(float(number)):
                raise ValueError
        except ValueError:
            raise UsageError(f"--level {text!r} is not metric=number, as in train/accuracy=0.9") from None
    return levels


def log(
    run: OneRun,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing until the run ends.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, help="Last lines only; 0 for all.")] = 0,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Print what a run's process printed.

    Example: lsc-engine log 7c1e --follow
    """
    from lsc_engine.runs.read.logs import LogTail
    from lsc_engine.runs.read.run import open_run

    found = open_run(run, runs_dir)
    if follow and as_json:
        raise UsageError("--follow has no end, --json is one document: choose one")
    tail = LogTail(found.log_path)
    if lines:
        tail.skip_to_last(lines)
    if as_json:
        emit_json({"id": found.id, "lines": "".join(tail.chunks()).splitlines()})
        return
    _print_new(tail)
    while follow and (found.status().active or found.status().state == "queued"):
        if found.status().shown_state == "lost":
            break
        time.sleep(_FOLLOW_SECONDS)
        _print_new(tail)
    _print_new(tail)
    status = found.status()
    if follow:
        say(f"{found.id} {status.shown_state}" + (f": {status.news}" if status.news else ""))
    elif tail.problem:
        raise LscError(f"{found.id}: {tail.problem}")


def _print_new(tail: Any) -> None:
    for text in tail.chunks():
        sys.stdout.write(printable(text))
    sys.stdout.flush()
