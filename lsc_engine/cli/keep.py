"""Commands that act on runs without training: stop, note, tag, delete."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsc_engine.cli.options import Json, OneRun, RunsDirs
from lsc_engine.cli.output import emit_json, printable, say
from lsc_engine.errors import LscError, UsageError

if TYPE_CHECKING:
    from lsc_engine.runs.read.run import Run


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command("stop")(stop)
    app.command("note")(note)
    app.command("tag")(tag)
    app.command("delete")(delete)


def stop(
    run: OneRun,
    now: Annotated[bool, typer.Option("--now", help="End the process at once (on the run's own host).")] = False,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Ask a run to write a checkpoint and end; works from any host that sees its folder.

    Example: lsc-engine stop fig9/n_min/seed-2
    """
    from lsc_engine.runs.folder import requests
    from lsc_engine.runs.read.run import open_run
    from lsc_engine.studies import control

    found = open_run(run, runs_dir)
    status = found.status()
    if status.shown_state == "lost":
        raise LscError(
            f"{found.id} is lost: its process is gone already; lsc-engine resume goes on from its checkpoint"
        )
    if not status.active and status.state != "queued":
        raise LscError(f"{found.id} is {status.shown_state}: there is nothing to stop")
    left: list[str] = []
    if now and status.active:
        in_turn = control.trains_in_turn(status)
        state = control.kill(found.path).state
        left = _waiting_beside(found) if in_turn else []
    else:
        requests.request(found.path, "stop")
        state = status.shown_state
    if as_json:
        told = {"id": found.id, "state": state, "asked": not (now and status.active)}
        emit_json({**told, "left_waiting": left} if now else told)
    elif now and status.active:
        say(f"{found.id} {state}")
        if left:
            say(
                f"its process would have trained {len(left)} more of {found.study}, which wait now: the command that "
                f"began them goes on with them; stop without --now leaves the process to do so"
            )
    elif status.state == "queued":
        say(f"{found.id} is asked to stop: it will not be started when its turn comes")
    elif status.shown_state == "stalled":
        say(f"{found.id} is asked to stop, but may not live any more: {status.news}")
    else:
        say(f"{found.id} is asked to stop: it writes a checkpoint after the step it is in")


def _waiting_beside(run: Run) -> list[str]:
    """The queued runs of the same study."""
    from lsc_engine.runs.read.run import list_runs

    beside = list_runs([run.root]) if run.root is not None else []
    return [other.id for other in beside if other.study == run.study and other.status().state == "queued"]


def note(
    run: OneRun,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The note.")],
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Add a note to a run.

    Example: lsc-engine note 7c1e "rerun with lr 3e-5 if slow"
    """
    from lsc_engine.runs.read import notes
    from lsc_engine.runs.read.run import open_run

    found = open_run(run, runs_dir)
    notes.add_note(found.path, text)
    _told(found, f"note added to {found.id}", as_json)


def tag(
    run: OneRun,
    name: Annotated[str, typer.Argument(metavar="TAG", help="The tag.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag away.")] = False,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Add a tag to a run, or take it away.

    Example: lsc-engine tag 7c1e paper-scale
    """
    from lsc_engine.runs.read import notes
    from lsc_engine.runs.read.run import open_run

    found = open_run(run, runs_dir)
    (notes.remove_tag if remove else notes.add_tag)(found.path, name)
    _told(found, f"tags of {found.id}: {' '.join(found.tags) or 'none'}", as_json)


def _told(run: Run, text: str, as_json: bool) -> None:
    if as_json:
        emit_json({"id": run.id, "tags": run.tags, "notes": [note.text for note in run.notes]})
    else:
        say(text)


def delete(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Runs to move to the trash.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Move runs to .trash in their runs folder; a running run is refused.

    Example: lsc-engine delete fig9/n_min/seed-2 --yes
    """
    from lsc_engine.runs.folder import lock
    from lsc_engine.runs.read import notes
    from lsc_engine.runs.read.run import open_run

    chosen = list({run.path.resolve(): run for run in (open_run(ref, runs_dir) for ref in runs)}.values())
    faults = [fault for run in chosen if (fault := _why_not(run, lock.is_locked(run.path))) is not None]
    if faults:
        raise LscError("\n".join(faults))
    size = sum(notes.folder_size(run.path) for run in chosen)
    listed = ", ".join(run.id for run in chosen)
    what = f"move {len(chosen)} run{'s' if len(chosen) > 1 else ''} ({size / 1e6:.1f} MB) to the trash: {listed}"
    if not yes and not _agreed(what):
        say("nothing deleted")
        return
    places: dict[str, Path] = {}
    for run in chosen:
        root = run.root or run.path.parent
        places[run.id] = notes.move_to_trash(root, run.id, run.path)
        if not as_json:
            say(f"{run.id} lies in {places[run.id]}")
    if as_json:
        emit_json({"deleted": [{"id": name, "trash": str(place)} for name, place in places.items()]})


def _why_not(run: Run, locked: bool) -> str | None:
    status = run.status()
    if status.shown_state in ("starting", "running", "stopping") or locked:
        return f"{run.id} is {status.shown_state}: stop it first (lsc-engine stop {run.id})"
    if status.shown_state == "stalled":
        return f"{run.id} is stalled and may still live: {status.news}"
    return None


def _agreed(what: str) -> bool:
    """The user's yes on a terminal; UsageError where there is no one to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{what}: give --yes, there is no terminal to ask on")
    print(printable(f"{what}? [y/N] "), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
