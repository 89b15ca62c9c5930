"""All runs of a study: one after another in this process, or spread over GPUs with a process each.

A run that fails or diverges does not stop the others; a run that needs it is marked failed and says so. A signal stops
the study: the run in progress writes its checkpoint, what waits stays queued, and the same command goes on from there.

Several processes may train one study. Each takes the runs that nobody trains; a run that needs one which another
process trains waits for that; what a process leaves behind, however it ended, another one goes on with.
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

from lsc_engine.runs.files import last_line
from lsc_engine.runs.folder import process, requests
from lsc_engine.runs.folder.layout import LOG
from lsc_engine.runs.folder.lock import Holder, holder
from lsc_engine.runs.folder.process import DETACHED, python_command
from lsc_engine.runs.folder.status import ELSEWHERE, ENDED, Status, read_status
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies import control
from lsc_engine.training.signals import Signals

_LOOK_SECONDS = 0.2
_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """A run to train: its id, its folder, and the ids it needs finished first. `place`: where its images are, where the
    run's preset names another place ("": the data folder); `like`: the folder of a run that has the same images;
    `attempt`: the attempts made before."""

    id: str
    folder: Path
    needs: tuple[str, ...] = ()
    place: str | None = None
    like: Path | None = None
    attempt: int = 0


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

    def end(self, job: Job, state: str, why: str = "") -> None:
        """The run ended, or was never started; `why` it is left to another process."""


Execute = Callable[[Job], str]


@dataclass(frozen=True)
class Waiting:
    """For which runs of other processes a study waits once nothing else is left to train.

    For those that its own runs need, always; with `for_all` (tries, of which a rate is chosen) for every run: as long
    as those processes are at work. With `patient` (--wait) for every run until it is free or finished. `tell` hears of
    each run waited for.
    """

    for_all: bool = False
    patient: bool = False
    tell: Callable[[str], None] = lambda text: None


class Queue:
    """The runs that are left, and the states of those that were reached. `why` tells, by id, of those that wait for
    other processes."""

    def __init__(self, jobs: Iterable[Job], runs_dir: Path, waiting: Waiting) -> None:
        self.left = list(jobs)
        self.states: dict[str, str] = {}
        self.why: dict[str, str] = {}
        self._mine = {job.id for job in self.left}
        self._runs_dir, self._waiting = runs_dir, waiting
        self._holders: dict[str, Holder] = {}
        self._told: set[tuple[str, str]] = set()

    def next(self, running: Iterable[str] = ()) -> tuple[Job, str | None] | None:
        """The next run, taken from what is left, and the state it has without being trained; None for one that is to be
        trained. None where all that is left waits for runs in `running`, or of other processes."""
        self._holders, self.why = {}, {}
        for job in self.left:
            ready, state = self._look(job, set(running))
            if ready:
                self.left.remove(job)
                self._keep_places()
                return job, state
        return None

    def worth_waiting(self) -> bool:
        """Whether to look again in a moment for what is left; tells of it."""
        needed = {need for job in self.left for need in job.needs}
        wanted = {
            name: held
            for name, held in self._holders.items()
            if self._waiting.patient or ((self._waiting.for_all or name in needed) and held.at_work)
        }
        for name, held in wanted.items():
            if (name, held.name) not in self._told:
                self._told.add((name, held.name))
                self._waiting.tell(f"{name}: {held.sentence(waits=True)}; waiting for it")
        return bool(wanted)

    def put_back(self, job: Job) -> None:
        """Another process was quicker."""
        self.left.append(job)

    def _look(self, job: Job, running: set[str]) -> tuple[bool, str | None]:
        """Whether the turn of a run has come, and its state where it is not to be trained."""
        status = read_status(job.folder)
        if status.state == "finished" or _ended_elsewhere(job, status):
            return True, status.state
        if (held := holder(job.folder)) is not None:
            self._holders[job.id], self.why[job.id] = held, held.sentence()
            return False, None
        if "stop" in requests.pending(job.folder):
            message = f"{requests.STOPPED} while it waited for its turn"
            return True, control.settle(job.folder, "stopped", 143, message).state
        waits = False
        for need in job.needs:
            if need in running or any(other.id == need for other in self.left):
                self.why[job.id] = f"needs {need}, which is not finished"
                waits = True
                continue
            run = open_run(need, [self._runs_dir])
            state = self.states.get(need) or run.status().state
            if state == "finished":
                continue
            if need not in self._mine and (held := holder(run.path)) is not None:
                self._holders[need], self.why[job.id] = held, f"needs {need}: {held.sentence()}"
                waits = True
                continue
            return True, control.settle(job.folder, "failed", 1, f"needs {need}, which is {state}").state
        return not waits, None

    def _keep_places(self) -> None:
        """What waited for a process that is gone waits for this one."""
        for job in self.left:
            status = read_status(job.folder)
            if status.state == "queued" and status.alive() is False:
                control.enqueue(job.folder, status.attempt, process.this_process())


def _ended_elsewhere(job: Job, status: Status) -> bool:
    """Whether another process ended the run since this one looked at it, so that it is not tried again."""
    if status.state in ("failed", "diverged"):
        return status.attempt > job.attempt
    return status.state == "stopped" and status.message.startswith(requests.STOPPED)


def run_in_turn(
    jobs: Iterable[Job],
    execute: Execute,
    signals: Signals,
    runs_dir: Path,
    untrained: Callable[[Job, str, str], None],
    waiting: Waiting = Waiting(),
) -> dict[str, str]:
    """Train `jobs` one after another with `execute`; the state of each that was reached, by id. `untrained` hears of
    those that were not to be trained when their turn came, with the state and, for ELSEWHERE, why."""
    queue = Queue(jobs, runs_dir, waiting)
    while queue.left and signals.stop is None:
        found = queue.next()
        if found is None:
            if not queue.worth_waiting():
                break
            time.sleep(_WAIT_SECONDS)
            continue
        job, state = found
        if state is not None:
            untrained(job, state, "")
        elif (state := execute(job)) == ELSEWHERE:
            queue.put_back(job)
            continue
        queue.states[job.id] = state
    if signals.stop is None:
        for job in queue.left:
            queue.states[job.id] = ELSEWHERE
            untrained(job, ELSEWHERE, queue.why.get(job.id, ""))
    return queue.states


def run_spread(
    jobs: Iterable[Job],
    slots: list[Slot],
    arguments: list[str],
    signals: Signals,
    runs_dir: Path,
    watcher: Watcher,
    waiting: Waiting = Waiting(),
) -> dict[str, str]:
    """Train `jobs` with a worker process per slot; the others wait as queued. The state of each reached, by id."""
    queue = Queue(jobs, runs_dir, waiting)
    busy: dict[str, tuple[Job, subprocess.Popen[bytes]]] = {}
    asked_to_stop = False
    while busy or (queue.left and signals.stop is None):
        for label, (job, child) in list(busy.items()):
            watcher.look(job)
            if child.poll() is None:
                continue
            del busy[label]
            if (state := _ended(job, child.returncode)) == ELSEWHERE:
                queue.put_back(job)
                continue
            queue.states[job.id] = state
            watcher.end(job, state)
        if signals.stop is not None and not asked_to_stop:
            asked_to_stop = True
            for _, child in busy.values():
                child.send_signal(signal.SIGTERM)
        for slot in [slot for slot in slots if slot.label not in busy]:
            while signals.stop is None and slot.label not in busy:
                found = queue.next(job.id for job, _ in busy.values())
                if found is None:
                    break
                job, settled = found
                if settled is not None:
                    queue.states[job.id] = settled
                    watcher.end(job, settled)
                    continue
                watcher.begin(job, slot.label)
                busy[slot.label] = (job, _start(job, slot, arguments, runs_dir))
        if busy:
            time.sleep(_LOOK_SECONDS)
        elif queue.left and signals.stop is None:
            if not queue.worth_waiting():
                break
            time.sleep(_WAIT_SECONDS)
    if signals.stop is None:
        for job in queue.left:
            queue.states[job.id] = ELSEWHERE
            watcher.end(job, ELSEWHERE, queue.why.get(job.id, ""))
    return queue.states


def _ended(job: Job, code: int) -> str:
    """The state of a run whose worker has ended; one that left no exit record is given one."""
    if not job.folder.is_dir():
        return "failed"
    status = read_status(job.folder)
    if status.state not in ENDED:
        if holder(job.folder) is not None:
            return ELSEWHERE
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        said = last_line(job.folder / LOG)
        message = f"its process {how} and left no record" + (f"; {LOG} ends: {said}" if said else "")
        status = control.settle(job.folder, "failed", 1, message)
    return status.state if status.state in ENDED else "failed"


def _start(job: Job, slot: Slot, arguments: list[str], runs_dir: Path) -> subprocess.Popen[bytes]:
    """A worker in its own session, so that a Ctrl-C in this terminal reaches it once, from here."""
    command = python_command("-m", "lsc_engine.training.run_worker", str(job.folder), "--runs-dir", str(runs_dir))
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
