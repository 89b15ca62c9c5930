"""Commands on runs that do not train: list, show, compare, log, stop, note, tag, delete, mirror."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from lsc_engine.cli.options import (
    Baseline,
    Json,
    ManyRuns,
    Metrics,
    OneRun,
    RunOrStudy,
    RunsDirs,
    arg,
    command,
    num,
    opt,
)
from lsc_engine.cli.output import answer, chart_mode, message, print_json, printable, table
from lsc_engine.common.errors import LscError, UsageError, did_you_mean
from lsc_engine.common.formatting import counted, duration, grouped, loss_text, percent, significant
from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.common.settings import MIRRORED, lookup
from lsc_engine.runs import open_run
from lsc_engine.runs.folder.layout import runs_dirs
from lsc_engine.runs.settings import settings_of

if TYPE_CHECKING:
    from lsc_engine.runs.read.run import Run

_FOLLOW_SECONDS = 0.3
_MAX_SKIPPED = 20
_PLOTTED = (("train/loss", "val/loss"), ("train/accuracy", "val/accuracy"))


@command("list")
def list_(
    words: Annotated[list[str] | None, arg("WORD", "Only runs with all words in id, state, owner or tags.")] = None,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """List runs with their state, progress and last values.

    Example: lsc-engine list fig9 running --runs-dir runs --runs-dir /shared/anna/runs
    """
    from lsc_engine.cli.results import run_row
    from lsc_engine.runs.folder.requests import pending
    from lsc_engine.runs.read.run import list_runs, short_ids

    roots = runs_dirs(runs_dir)
    missing = [
        f"{root} is a file, not a folder" if root.exists() else f"{root} is not there"
        for root in roots
        if not root.is_dir()
    ]
    if runs_dir and missing:
        raise UsageError(*(f"--runs-dir: {fault}" for fault in missing))
    skipped: list[str] = []
    runs = list_runs(runs_dir, skipped, foreign=True)
    short, found = short_ids(runs), []
    more = [f"{len(skipped) - _MAX_SKIPPED} more"] if len(skipped) > _MAX_SKIPPED else []
    for sentence in [*skipped[:_MAX_SKIPPED], *more]:
        message(f"not listed: {sentence}")
    for run in runs:
        row = run_row(run, short[run.id])
        texts = [text or "" for text in (*map(row.get, ("id", "state", "owner", "origin")), *row["tags"])]
        if all(any(word in text for text in texts) for word in words or ()):
            found.append((run, row))
    if as_json:
        print_json([row for _, row in found])
        return
    for fault in missing:
        message(fault)
    if not found:
        where = ", ".join(str(root) for root in roots)
        none = f"no run matches {' '.join(words)!r}" if words and runs else f"no runs in {where}"
        message(f"{none}; lsc-engine presets lists what can be trained")
        return
    rows = []
    for run, row in found:
        loss, place = row["metrics"].get("train/loss"), [row["host"], row["device"]]
        if row["read_only"]:
            place = [row["origin"]]
        elif row["scheduler"] is not None and row["state"] == "queued":
            place = [row["message"]]
        if row["state"] == "queued" and "hold" in pending(run.path):
            place.append("held")
        cells = [row["short"], row["state"], row["id"], grouped(row["step"]), grouped(row["total_steps"])]
        cells += [loss_text(loss, run.loss_kind)]
        cells += [percent(row["metrics"].get(name)) for name in ("train/accuracy", "val/accuracy")]
        rows.append([*cells, " ".join(filter(None, place)), " ".join(row["tags"])])
    print(table(["SHORT", "STATE", "RUN", "STEP", "OF", "LOSS", "ACC%", "VAL%", "WHERE", "TAGS"], rows, "   rrrrr"))


@command("show")
def show(
    run: OneRun,
    plot: Annotated[bool, opt("--plot", None, "Draw loss, accuracy and the last embeddings.")] = False,
    metric: Metrics = None,
    follow: Annotated[bool, opt("--follow -f", None, "With --json: a line for each change until it ends.")] = False,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Show one run: state, last values, settings, notes, checkpoints.

    Example: lsc-engine show n_min/seed-0 --plot
    """
    from lsc_engine.cli.results import follow_lines, run_row
    from lsc_engine.mirrors.supervise import states
    from lsc_engine.runs.read.run import list_runs, short_ids

    found = open_run(run, runs_dir, foreign=True)
    if follow:
        if not as_json or plot or metric:
            raise UsageError("--follow prints JSON: give --json, without --plot and --metric; or lsc-engine log")
        follow_lines(found)
        return
    row = run_row(found, short_ids([*list_runs(runs_dir, foreign=True), found])[found.id])
    if as_json:
        history = {
            name: list(map(list, zip(*(axis.tolist() for axis in found.history(name)), strict=True)))
            for name in found.metric_names()
        }
        notes = [{"time": note.time, "author": note.author, "text": note.text} for note in found.notes]
        kept = [{"step": c.step, "bytes": c.size, "problem": c.problem} for c in found.checkpoints()]
        row |= {"preset": found.config, "source": found.source, "history": history, "notes": notes}
        print_json(row | {"checkpoints": kept, "mirrors": [asdict(state) for state in states(found.path)]})
        return
    drawn = [*_charts(found, metric), *([] if metric else _embeddings(found))] if plot or metric else []
    print(printable(_describe(found, row)))
    for text in drawn:
        print("\n" + text)


def _describe(run: Run, row: dict[str, Any]) -> str:
    from lsc_engine.mirrors.supervise import states

    status, parent = run.scheduled_status(), run.source.get("parent")
    done = f"step {grouped(status.step)} of {grouped(status.total_steps)}"
    lines = [f"{run.id}   {row['short']}", f"  state       {status.shown_state}, {done}, attempt {status.attempt}"]
    facts = {
        "message": status.news,
        "earlier": status.earlier,
        "exit code": "" if status.exit_code is None else str(status.exit_code),
        "where": " ".join(part for part in (status.host, status.device, status.owner) if part),
        "job": "" if str(status.scheduler) in ("None", status.news) else str(status.scheduler),
        "forked from": f"{parent.get('id')}, step {parent.get('step')}" if isinstance(parent, dict) else "",
        "took": duration(status.seconds, 0) if status.seconds else "",
        "left": duration(status.eta, 0) if status.eta is not None and status.active else "",
        "folder": str(run.path),
        "tags": " ".join(row["tags"]),
        "settings": run.config_problem or "",
    }
    lines += [f"  {key:<11} {text}" for key, text in facts.items() if text]
    lines += [f"  mirror      {state}" for state in states(run.path)]
    lines += [f"  note        {note.text}" for note in run.notes]
    kept = [f"step {c.step}" + (" (damaged)" if c.problem else "") for c in run.checkpoints()]
    lines += [f"  checkpoints {', '.join(kept)}"] if kept else []
    lines += ["", *(f"  {name:<28} {significant(number, 6)}" for name, number in row["metrics"].items())]
    lines += ["", *(f"  {key:<28} {setting!r}" for key, setting in settings_of(run.config).items())]
    return "\n".join(lines)


def _charts(run: Run, metrics: Sequence[str] | None) -> list[str]:
    from lsc_engine.charts.chart import Mark, Series, View, to_text
    from lsc_engine.runs.metrics.reader import FIXED, layers_fixed

    run.machine.poll()
    known = [*run.metric_names(), *run.machine.table.names]
    for name in metrics or ():
        if name not in known:
            raise UsageError(f"{run.id} has no metric {name!r}. It has: {', '.join(known) or 'none yet'}")
    groups = [[name] for name in metrics] if metrics else [[n for n in known if n in names] for names in _PLOTTED]
    columns, rows = shutil.get_terminal_size((80, 24))
    # R where the run was resumed, | where layers were fixed.
    marks = [Mark(float(step), "R") for step in run.table.attempt_starts()[1:]]
    if FIXED in known:
        steps, counts = run.history(FIXED)
        marks += [Mark(float(steps[place]), "|") for place in layers_fixed(counts)]
    drawn: list[str] = []
    for names in filter(None, groups):
        series = [
            Series(*run.history(name), letter="abcdef"[i % 6], colour=i, name=name, marks=tuple(marks))
            for i, name in enumerate(names)
        ]
        is_loss = "loss" in names[0]
        title = f"{names[0]}{f' · {run.loss_kind} · log y' if is_loss else ''} · step"
        view = View(mode=chart_mode(), log_y=is_loss)
        drawn.append(printable(to_text(series, columns, min(16, rows - 4), view, title=title)))
    if not drawn:
        message(f"{run.id} has logged nothing yet")
    return drawn


def _embeddings(run: Run) -> list[str]:
    from lsc_engine.runs.read.embeddings import kind_of, list_snapshots, read_snapshot, snapshot_rows

    listed = list_snapshots(run.path)
    if not listed:
        return []
    try:
        shot = read_snapshot(listed[-1][1])
    except UnreadableError as error:
        message(f"{run.id}: {error}")
        return []
    (columns, lines), mode = shutil.get_terminal_size((80, 24)), chart_mode()
    rows = snapshot_rows(shot, columns, max(8, min(24, lines - 4)), mode=mode)
    dash = "-" if mode == "ascii" else "─"
    title = f"{dash} embeddings {kind_of(shot)}, epoch {shot.epoch:.1f} ".ljust(columns, dash)[:columns]
    return [printable("\n".join([title, *("".join(cell.text for cell in row).rstrip() for row in rows)]))]


@command("compare")
def compare(
    runs: ManyRuns,
    baseline: Baseline = None,
    level: Annotated[list[str] | None, opt("--level", "METRIC=VALUE", "Instead of the preset's; repeatable.")] = None,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Compare runs: differing settings, final values, and how soon each reaches a level.

    Example: lsc-engine compare fig9 --baseline n=384 --level train/accuracy=0.9
    """
    from lsc_engine.analysis.compare import compare as compare_runs
    from lsc_engine.analysis.verdict import to_json
    from lsc_engine.cli.results import comparison_text
    from lsc_engine.config.preset import level_fault
    from lsc_engine.runs.read.studies import tries_beside

    chosen = find_runs(runs, runs_dir)
    if len(chosen) < 2:
        raise UsageError(f"one run only, {chosen[0].id}: name a second run, or a study")
    levels: dict[str, list[float]] = {}
    for text in level or ():
        metric, _, number = text.rpartition("=")
        try:
            levels.setdefault(metric, []).append(float(number))
            if not metric or not math.isfinite(float(number)):
                raise ValueError
        except ValueError:
            raise UsageError(f"--level {text!r} is not metric=number, as in train/accuracy=0.9") from None
        if fault := level_fault(metric, levels[metric]):
            raise UsageError(f"--level {text!r}: {fault}")
    found = compare_runs(chosen, baseline, levels or None, tries_beside(chosen))
    answer(as_json, lambda: to_json(found), lambda: comparison_text(found))


def find_runs(
    refs: Sequence[str], runs_dir: Sequence[Path] | None, *, tries: bool = False, foreign: bool = True
) -> list[Run]:
    """The runs that `refs` name; a study or study/variant names all of its runs, in the order of its preset, with
    `tries` also those of its [tune]. UsageError for a run of another tool unless `foreign`."""
    from lsc_engine.runs.read.run import list_runs, only_read
    from lsc_engine.runs.read.studies import Study, in_order

    known = list_runs(runs_dir, foreign=True)
    chosen: list[Run] = []
    for ref in refs:
        named = ref.rstrip("/")
        group = [r for r in known if named in (*_study_names(r, tries), f"{r.study}/{r.variant}")]
        for study, root in dict.fromkeys((run.study, run.root) for run in group):
            own = [run for run in group if (run.study, run.root) == (study, root)]
            chosen += in_order(own, None if root is None else Study(study, root, ()).preset())
        if not group:
            chosen.append(open_run(ref, runs_dir, foreign=True))
    if not foreign and (others := [run for run in chosen if run.origin != "lsc"]):
        raise UsageError(only_read(others[0]))
    return list({(run.path.resolve(), run.id): run for run in chosen}.values())


def _study_names(run: Run, tries: bool) -> tuple[str, str]:
    """How the study of a run may be given; with `tries` a try of [tune] belongs to the study that it is for."""
    from lsc_engine.runs.folder.layout import TRIES

    study = run.study.removesuffix(TRIES) if tries else run.study
    return study, study.rpartition("/")[2]


@command("log")
def log(
    run: OneRun,
    follow: Annotated[bool, opt("--follow -f", None, "Go on printing until the run ends.")] = False,
    lines: Annotated[int, num("--lines -n", "N", "Last lines only; 0 for all.", min=0)] = 0,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Print what a run's process printed.

    Example: lsc-engine log 7c1e --follow
    """
    from lsc_engine.runs.read.logs import LogTail

    found = open_run(run, runs_dir, foreign=True)
    if follow and as_json:
        raise UsageError("--follow has no end, --json is one document: choose one")
    if found.origin != "lsc" and not found.log_path.is_file():
        words = "without what its process printed; show and export have its metrics"
        raise UsageError(f"{found.id} is a {found.origin} log of another tool, {words}")
    tail = LogTail(found.log_path)
    if lines:
        tail.skip_to_last(lines)
    if as_json:
        print_json({"id": found.id, "lines": "".join(tail.chunks()).splitlines()})
        return
    ended = False
    while not ended:
        # In this order: what is printed before the end is read after it was seen.
        status = found.status()
        ended = not follow or not (status.active or status.state == "queued") or status.shown_state == "lost"
        for text in tail.chunks():
            sys.stdout.write(printable(text))
        sys.stdout.flush()
        if not ended:
            time.sleep(_FOLLOW_SECONDS)
    if follow:
        message(f"{found.id} {status.shown_state}" + (f": {status.news}" if status.news else ""))
    elif tail.problem and status.state == "queued":
        raise LscError(f"{found.id} has not started")
    elif tail.problem:
        raise LscError(f"{found.id}: {tail.problem}")


@command("stop")
def stop(
    run: RunOrStudy,
    now: Annotated[bool, opt("--now", None, "End the process at once.")] = False,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Let a run write a checkpoint and end; works from any host that sees its folder.

    Example: lsc-engine stop fig9/n_min/seed-2
    """
    from lsc_engine.runs.read.run import list_runs
    from lsc_engine.studies import control

    chosen = find_runs([run], runs_dir, tries=True, foreign=False)
    if len(chosen) > 1:
        _stop_study(chosen, all(run.rstrip("/") in _study_names(other, True) for other in chosen), now, as_json)
        return
    found = chosen[0]
    status = found.scheduled_status()
    state = status.shown_state
    kills = now and status.active and state != "queued"
    if state == "lost":
        raise LscError(f"{found.id} is lost: its process is gone; lsc-engine resume goes on from its checkpoint")
    if not status.active and state != "queued":
        raise LscError(f"{found.id} is {state}: there is nothing to stop")
    waiting: list[str] = []
    note = f"{found.id} will stop: it writes a checkpoint after the step it is in"
    if not kills:
        control.stop(found.path, status)
    if kills:
        trains_others = control.trains_other_runs(status)
        state = control.kill(found.path).state
        note = f"{found.id} {state}"
        if trains_others and found.root is not None:
            beside = [other for other in list_runs([found.root]) if other.study == found.study]
            waiting = [other.id for other in beside if other.status().state == "queued"]
        if waiting:
            note += (
                f"\nits process would have trained {len(waiting)} more of {found.study}, which wait now: the command "
            )
            note += "that began them goes on with them; stop without --now leaves the process to do so"
    elif status.scheduler is not None and status.scheduler.waits:
        note = f"{found.id}: its job {status.scheduler.job} is cancelled"
    elif status.state == "queued":
        state = found.status().state
        note = f"{found.id} is out of the queue; lsc-engine resume starts it"
    elif state == "stalled":
        note = f"{found.id}: a stop is requested, but its process may not live any more: {status.news}"
    document = {"id": found.id, "state": state, "asked": not kills}
    answer(as_json, document | ({"left_waiting": waiting} if now else {}), note=note)


def _stop_study(runs: Sequence[Run], whole: bool, now: bool, as_json: bool) -> None:
    """Stop those of the runs that wait or are trained; if they are the `whole` study, also cancel the tasks that Slurm
    is still to begin, whose runs may not exist yet."""
    from lsc_engine.runs.folder import slurm
    from lsc_engine.runs.folder.layout import TRIES
    from lsc_engine.studies import control
    from lsc_engine.studies.submit import waiting_arrays

    if now:
        raise UsageError(f"--now ends one run; {runs[0].study} has {len(runs)}")
    studies = {(r.study.removesuffix(TRIES), r.root) for r in runs if whole}
    arrays = [job for study, root in studies if root for job in waiting_arrays(root, study)]
    statuses = [(run, run.scheduled_status()) for run in runs]
    stopping = [(run, status) for run, status in statuses if status.active or status.shown_state == "queued"]
    slurm.cancel(arrays, pending_only=True)
    for run, status in stopping:
        control.stop(run.path, status)
    note = f"{counted(len(stopping), 'run')} will stop" + (f"; cancelled: jobs {', '.join(arrays)}" if arrays else "")
    answer(as_json, {"asked": [run.id for run, _ in stopping], "cancelled": arrays}, note=note)


@command("note")
def note(
    run: RunOrStudy, text: Annotated[str, arg("TEXT", "The note.")], runs_dir: RunsDirs = None, as_json: Json = False
) -> None:
    """Add a note to a run, or to each run of a study.

    Example: lsc-engine note 7c1e "rerun with lr 3e-5 if slow"
    """
    from lsc_engine.runs.read import notes

    chosen = find_runs([run], runs_dir, foreign=False)
    for found in chosen:
        notes.add_note(found.path, text)
    answer(as_json, _notes_document(chosen), note="\n".join(f"note added to {found.id}" for found in chosen))


@command("tag")
def tag(
    run: RunOrStudy,
    name: Annotated[str, arg("TAG", "The tag.")],
    remove: Annotated[bool, opt("--remove", None, "Take the tag away.")] = False,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Add a tag to a run, or to each run of a study; or take it away.

    Example: lsc-engine tag 7c1e paper-scale
    """
    from lsc_engine.runs.read import notes

    chosen = find_runs([run], runs_dir, foreign=False)
    # Of a study it is taken from the runs that have it.
    having = [found for found in chosen if name in found.tags] or chosen[:1]
    for found in having if remove else chosen:
        (notes.remove_tag if remove else notes.add_tag)(found.path, name)
    lines = (f"tags of {found.id}: {' '.join(found.tags) or 'none'}" for found in chosen)
    answer(as_json, _notes_document(chosen), note="\n".join(lines))


def _notes_document(runs: Sequence[Run]) -> Any:
    """For JSON: of one run an object, of several a list."""
    found = [{"id": run.id, "tags": run.tags, "notes": [note.text for note in run.notes]} for run in runs]
    return found if len(runs) > 1 else found[0]


@command("delete")
def delete(
    runs: ManyRuns,
    yes: Annotated[bool, opt("--yes -y", None, "Without confirmation.")] = False,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Move runs, or all runs of a study, to .trash in their runs folder; a running run is refused.

    Example: lsc-engine delete fig9/n_min/seed-2 --yes
    """
    from lsc_engine.runs.folder.lock import is_locked
    from lsc_engine.runs.read import notes

    chosen = find_runs(runs, runs_dir, foreign=False)
    problems = []
    for run in chosen:
        status = run.status()
        if status.shown_state in ("starting", "running", "stopping") or is_locked(run.path):
            problems.append(f"{run.id} is {status.shown_state}: stop it first (lsc-engine stop {run.id})")
        elif status.shown_state == "stalled":
            problems.append(f"{run.id} is stalled and may still live: {status.news}")
    if problems:
        raise LscError("\n".join(problems))
    size = sum(notes.folder_size(run.path) for run in chosen)
    listed = ", ".join(run.id for run in chosen)
    what = f"move {counted(len(chosen), 'run')} ({size / 1e6:.1f} MB) to the trash: {listed}"
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"{what}: give --yes, there is no terminal to confirm on")
        print(printable(f"{what}? [y/N] "), end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            message("nothing deleted")
            return
    deleted = []
    for run in chosen:
        place = notes.move_to_trash(run.root or run.path.parent, run.id, run.path)
        deleted.append({"id": run.id, "trash": str(place)})
        if not as_json:
            message(f"{run.id} lies in {place}")
    answer(as_json, {"deleted": deleted})


@command("mirror")
def mirror(
    run: OneRun,
    to: Annotated[list[str] | None, opt("--to", "TOOL", "Only this tool; repeatable. Default: log.also.")] = None,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Write a run for tensorboard, wandb, mlflow or trackio, until it has ended; goes on where it stopped.

    Example: lsc-engine mirror n_min/seed-0 --to tensorboard
    """
    from lsc_engine.config.schema import AlsoLogged
    from lsc_engine.mirrors.supervise import check_tools, supervise

    found = open_run(run, runs_dir)
    tools, known = to or lookup(found.config, MIRRORED) or [], get_args(AlsoLogged)
    for tool in tools:
        if tool not in known:
            raise UsageError(f'--to: "{tool}" is not a tool; {did_you_mean(str(tool), known)}')
    if not tools:
        raise UsageError(f"{found.id} has no log.also; give --to: {', '.join(known)}")
    check_tools(tools, "--to" if to else MIRRORED)
    states = supervise(found, list(dict.fromkeys(tools)))
    if as_json:
        print_json([asdict(state) for state in states])
    for state in states:
        message(f"{found.id}: {state}")
    sys.exit(1 if any(state.behind or state.error for state in states) else 0)
