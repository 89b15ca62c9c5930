"""All runs of a study: one after another in this process, or spread over GPUs with a process each.

A run that fails or diverges does not stop the others; a run that needs it is marked failed and says so. A signal stops
the study: the run in progress writes its checkpoint, what waits stays queued, and the same command goes on from there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from lsc_engine.runs import control, open_run
from lsc_engine.runs.launch import python_command
from lsc_engine.runs.layout import LOG
from lsc_engine.runs.lock import is_locked
from lsc_engine.runs.status import ENDED, read_status
from lsc_engine.training.signals import DETACHED, Signals

# What a study says of a run that another process trains; the run's folder says more.
ELSEWHERE = "elsewhere"
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Job:
    """A run to train: its id, its folder, and the ids it needs finished first. `place`: where its images are, where the
    run's preset names another place; `like`: the folder of a run that has the same images."""

    id: str
    folder: Path
    needs: tuple[str, ...] = ()
    place: str | None = None
    like: Path | None = None


@dataclass(frozen=True)
class Slot:
    """A place where one run at a time trains: what --device says there, and the environment that makes it so."""

    label: str
    device: str
    environment: dict[str, str] = field(default_factory=dict)


class Watcher(Protocol):
    """Who is told of workers."""

    def begin(self, job: Job, place: str) -> None:
        """The run starts on the slot of that label."""

    def look(self, job: Job) -> None:
        """Called every moment while the run goes on."""

    def end(self, job: Job, state: str) -> None:
        """The run ended, or was never started."""


Execute = Callable[[Job], str]


def run_in_turn(
    jobs: Iterable[Job], execute: Execute, signals: Signals, runs_dir: Path, untrained: Callable[[Job, str], None]
) -> dict[str, str]:
    """Train `jobs` one after another with `execute`; the state of each that was reached, by id. `untrained` hears of
    those that were not to be trained when their turn came."""
    states: dict[str, str] = {}
    for job in jobs:
        if signals.stop is not None:
            break
        settled = _settled(job, states, runs_dir)
        states[job.id] = settled or execute(job)
        if settled:
            untrained(job, settled)
    return states


def run_spread(
    jobs: Iterable[Job], slots: list[Slot], arguments: list[str], signals: Signals, runs_dir: Path, watcher: Watcher
) -> dict[str, str]:
    """Train `jobs` with a worker process per slot; the others wait as queued. The state of each reached, by id."""
    waiting, states = list(jobs), dict[str, str]()
    busy: dict[str, tuple[Job, subprocess.Popen[bytes]]] = {}
    asked_to_stop = False
    while busy or (waiting and signals.stop is None):
        for label, (job, process) in list(busy.items()):
            watcher.look(job)
            if process.poll() is not None:
                del busy[label]
                states[job.id] = _ended(job, process.returncode)
                watcher.end(job, states[job.id])
        if signals.stop is not None and not asked_to_stop:
            asked_to_stop = True
            for _, process in busy.values():
                process.send_signal(signal.SIGTERM)
        for slot in [slot for slot in slots if slot.label not in busy]:
            while signals.stop is None and slot.label not in busy:
                ready = _next_ready(waiting, {j.id for j, _ in busy.values()})
                if ready is None:
                    break
                waiting.remove(ready)
                if (settled := _settled(ready, states, runs_dir)) is not None:
                    states[ready.id] = settled
                    watcher.end(ready, settled)
                    continue
                watcher.begin(ready, slot.label)
                busy[slot.label] = (ready, _start(ready, slot, arguments, runs_dir))
        if busy:
            time.sleep(_LOOK_SECONDS)
    return states


def _next_ready(waiting: list[Job], running: set[str]) -> Job | None:
    """The first waiting job whose needs neither wait nor run."""
    pending = {job.id for job in waiting} | running
    return next((job for job in waiting if not pending.intersection(job.needs)), None)


def _settled(job: Job, states: dict[str, str], runs_dir: Path) -> str | None:
    """The state of a run that is not to be trained now, though its turn has come; None where it is."""
    status = read_status(job.folder).judged()
    if status.state == "finished":
        return "finished"
    if is_locked(job.folder) or (status.active and status.shown_state != "lost"):
        return ELSEWHERE
    if "stop" in control.pending(job.folder):
        return control.settle(job.folder, "stopped", 143, "stopped while it waited for its turn").state
    for need in job.needs:
        state = states.get(need) or open_run(need, [runs_dir]).status().state
        if state == ELSEWHERE:
            return ELSEWHERE
        if state != "finished":
            return control.settle(job.folder, "failed", 1, f"needs {need}, which is {state}").state
    return None


def _ended(job: Job, code: int) -> str:
    """The state of a run whose worker has ended; one that left no exit record is given one."""
    if not job.folder.is_dir():
        return "failed"
    status = read_status(job.folder)
    if status.state not in ENDED:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        status = control.settle(job.folder, "failed", 1, f"its process {how} and left no record; see {LOG}")
    return status.state if status.state in ENDED else "failed"


def _start(job: Job, slot: Slot, arguments: list[str], runs_dir: Path) -> subprocess.Popen[bytes]:
    """A worker in its own session, so that a Ctrl-C in this terminal reaches it once, from here."""
    command = python_command("-m", "lsc_engine.training.worker", str(job.folder), "--runs-dir", str(runs_dir))
    command += ["--data-path", job.place] if job.place is not None else []
    command += ["--like", str(job.like)] if job.like is not None else []
    environment = {**os.environ, **slot.environment, DETACHED: "1"}
    with _log_of(job) as log:
        return subprocess.Popen(
            [*command, "--device", slot.device, *arguments],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def _log_of(job: Job) -> IO[bytes]:
    """log.txt to append to: what libraries print goes there too. Nowhere, where it cannot be written."""
    try:
        # Not through a link, which a folder from others may hold.
        return open(job.folder / LOG, "ab", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o666))
    except OSError:
        return open(os.devnull, "ab")


def exit_code(states: Iterable[str], signals: Signals) -> int:
    """One code for a study: 128 + signal when stopped by one, else 1 for a failure or a run that another process
    trains, 3 for a divergence, 143 for a run stopped by request, else 0.

    A signal that found its run failing or diverging did not stop it.
    """
    found = set(states)
    if signals.stop is not None and ("stopped" in found or found <= {"finished", ELSEWHERE}):
        return 128 + signals.stop
    if found & {"failed", ELSEWHERE}:
        return 1
    if "diverged" in found:
        return 3
    return 143 if "stopped" in found else 0
