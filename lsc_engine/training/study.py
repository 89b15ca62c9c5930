"""All runs of a study: one after another in this process, or spread over GPUs with a process each.

A run that fails or diverges does not stop the others; a run that needs it is marked failed and says so. A signal stops
the study: the run in progress writes its checkpoint, what waits stays queued, and the same command goes on from there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lsc_engine.runs import RunWriter, open_run
from lsc_engine.training.signals import DETACHED, Signals


@dataclass(frozen=True)
class Job:
    """A run to train: its id, its folder, and the ids it needs finished first."""

    id: str
    folder: Path
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A place where one run at a time trains: what --device says there, and the environment that makes it so."""

    label: str
    device: str
    environment: dict[str, str] = field(default_factory=dict)


Execute = Callable[[Job], str]


def run_in_turn(jobs: Iterable[Job], execute: Execute, signals: Signals, runs_dir: Path) -> dict[str, str]:
    """Train `jobs` one after another with `execute`; the state of each that was reached, by id."""
    states: dict[str, str] = {}
    for job in jobs:
        if signals.stop is not None:
            break
        blocked = _missing(job, states, runs_dir)
        states[job.id] = _refuse(job, blocked) if blocked else execute(job)
    return states


def run_spread(
    jobs: Iterable[Job],
    slots: list[Slot],
    arguments: list[str],
    signals: Signals,
    runs_dir: Path,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Train `jobs` with a worker process per slot; the others wait as queued. The state of each reached, by id."""
    waiting, states = list(jobs), dict[str, str]()
    busy: dict[str, tuple[Job, subprocess.Popen[bytes]]] = {}
    forwarded = False
    while busy or (waiting and signals.stop is None):
        for label, (job, process) in list(busy.items()):
            if process.poll() is not None:
                del busy[label]
                states[job.id] = open_run(job.folder).status().state
                say(f"{job.id}: {states[job.id]}")
        if signals.stop is not None and not forwarded:
            forwarded = True
            for _, process in busy.values():
                process.send_signal(signal.SIGTERM)
        free = [slot for slot in slots if slot.label not in busy]
        while free and waiting and signals.stop is None:
            ready = _next_ready(waiting, {j.id for j, _ in busy.values()})
            if ready is None:
                break
            waiting.remove(ready)
            blocked = _missing(ready, states, runs_dir)
            if blocked:
                states[ready.id] = _refuse(ready, blocked)
                continue
            slot = free.pop(0)
            say(f"{ready.id}: on {slot.label}")
            busy[slot.label] = (ready, _start(ready, slot, arguments, runs_dir))
        time.sleep(0.2)
    return states


def _next_ready(waiting: list[Job], running: set[str]) -> Job | None:
    """The first waiting job whose needs neither wait nor run."""
    pending = {job.id for job in waiting} | running
    return next((job for job in waiting if not pending.intersection(job.needs)), None)


def _missing(job: Job, states: dict[str, str], runs_dir: Path) -> str | None:
    """The id of a needed run that is not finished, or None."""
    for need in job.needs:
        state = states.get(need) or open_run(need, [runs_dir]).status().state
        if state != "finished":
            return f"{need}, which is {state}"
    return None


def _refuse(job: Job, why: str) -> str:
    writer = RunWriter.open(job.folder, device="none", total_steps=0)
    writer.finish("failed", 1, f"needs {why}")
    return "failed"


def _start(job: Job, slot: Slot, arguments: list[str], runs_dir: Path) -> subprocess.Popen[bytes]:
    """A worker in its own session, so that a Ctrl-C in this terminal reaches it once, from here."""
    command = [sys.executable, "-m", "lsc_engine.training.worker", str(job.folder), "--runs-dir", str(runs_dir)]
    environment = {**os.environ, **slot.environment, DETACHED: "1"}
    return subprocess.Popen(
        [*command, "--device", slot.device, *arguments],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


def exit_code(states: Iterable[str], signals: Signals) -> int:
    """One code for a study: 128 + signal when stopped by one, else 1 for a failure, 3 for a divergence, else 0."""
    found = set(states)
    if signals.stop is not None:
        return 128 + signals.stop
    if "failed" in found:
        return 1
    if "diverged" in found:
        return 3
    return 143 if "stopped" in found else 0
