"""What can be done to runs: through the run folder (requests, notes) or by the command that the command line starts, in
a session of its own, so that nothing here ends with the viewer."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from lsc_engine.common.errors import LscError
from lsc_engine.runs.folder import requests
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.read.run import Run, write_csv
from lsc_tui.data.run_view import RunView
from lsc_tui.lines import clean

MOVING = ("starting", "running", "stopping", "stalled")
# What `resume` goes on with; of a stalled one it makes sure first that its process is gone.
ENDED = ("stopped", "failed", "diverged", "lost", "stalled")
_MOVING_IN_QUEUE = threading.Lock()
DEMO = "the demo replays recorded runs and trains nothing"
# Key -> format of `lsc-engine export` and the word for it; the CSV is written here, it needs nothing else.
EXPORTS = {
    "c": ("csv", "CSV"),
    "p": ("parquet", "Parquet"),
    "s": ("svg", "SVG"),
    "f": ("pdf", "PDF"),
    "n": ("png", "PNG"),
}


def named(views: Sequence[RunView]) -> str:
    """`fig9 n_min s2`, `6 runs of fig9` or `6 runs of 2 studies`."""
    first, studies = views[0], len({(view.root, view.study) for view in views})
    study = first.study.rpartition("/")[2]
    if len(views) == 1:
        return f"{study} {first.label} s{first.seed}"
    return f"{len(views)} runs of {study if studies == 1 else f'{studies} studies'}"


def python(name: str, *words: str, text: str = "", seconds: float | None = None) -> str:
    """Run this Python with these words to its end, `text` as its input; its standard output. LscError with the error
    that it printed if it fails, or if it takes longer; `name` is what it is called then."""
    argv = python_command(*words)
    try:
        done = subprocess.run(
            argv, capture_output=True, encoding="utf-8", errors="replace", input=text, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise LscError(f"{name} did not answer within {seconds:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{name} ended with {done.returncode}"]
        error = next((line for line in lines if line.startswith("error: ")), lines[-1])
        raise LscError(clean(error).removeprefix("error: "))
    return done.stdout


def engine(*words: str, seconds: float | None = None) -> str:
    """Run `lsc-engine` with these words as `python` does."""
    return python(f"lsc-engine {words[0]}", "-m", "lsc_engine", *words, seconds=seconds)


def resume(view: RunView, plugin_words: Sequence[str]) -> None:
    """Go on with a run that has ended, or start one that waits, also one that was held."""
    requests.withdraw(view.run.path, "hold")
    engine("resume", view.id, "--runs-dir", str(view.run.root), "--detach", *plugin_words)


def move_in_queue(queue: Sequence[RunView], view: RunView, by: int) -> str:
    """Let a run change places with the one of its queue that starts before or after it; a sentence on it. The order is
    that of the folders, which the list follows only after a while."""
    with _MOVING_IN_QUEUE:
        order = sorted(queue, key=lambda other: (requests.turn(other.run.path), other.place))
        place, who = order.index(view), named([view])
        if not 0 <= place + by < len(order):
            return f"{who} is {'first' if by < 0 else 'last'} in its queue already"
        order[place], order[place + by] = order[place + by], order[place]
        # All up to the two get their turn anew; those behind keep the one they have, which comes later.
        for number, other in enumerate(order[: max(place, place + by) + 1]):
            requests.set_turn(other.run.path, number - len(order))
    return f"{who} starts {'before' if by < 0 else 'after'} {named([order[place]])}"


def export_runs(runs: Sequence[Run], ending: str, path: Path) -> None:
    """Metrics (csv, parquet; a file) or curves (svg, pdf, png; a file per metric in a folder) of runs, as `lsc-engine
    export` writes them. LscError with its words if that fails."""
    if ending == "csv":
        write_csv([run.again() for run in runs], path)
    else:
        if ending != "parquet":
            path.mkdir(exist_ok=True)
        engine("export", *(str(run.path) for run in runs), "--to", ending, "--out", str(path), "--force")
