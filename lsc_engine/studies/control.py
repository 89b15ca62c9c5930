"""Ending the process of a run, and changing the state of runs that no process writes."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.runs.folder import process, requests, slurm
from lsc_engine.runs.folder.lock import RunLock
from lsc_engine.runs.folder.status import Status, read_status, write_status

# The process looks every two seconds; a job that is cancelled may write its checkpoint first.
REMOTE_SECONDS = 60.0
_NOBODY: dict[str, Any] = {**asdict(process.Identity("", "", "", "", 0, 0.0)), "pid": None}
_QUEUED: dict[str, Any] = {"state": "queued", "exit_code": None, "eta": None, "message": ""}


def stop(folder: Path, status: Status) -> None:
    """Request the run to stop with a checkpoint; one that waits is recorded as stopped, and cancelled in Slurm."""
    if status.scheduler is not None and status.scheduler.waits:
        slurm.cancel([status.scheduler.job])
        record_exit(folder, "stopped", 143, f"{requests.STOPPED} while it waited in Slurm")
        return
    # The request holds for one that begins at this moment; whoever continues a stopped run drops it.
    requests.request(folder, "stop")
    changes = {"state": "stopped", "exit_code": 143, "message": requests.UNSTARTED}
    _change(folder, lambda one: one.state == "queued", changes, take_requests=False)


def hand_over(folder: Path, scheduler: slurm.Scheduler, attempt: int) -> Status:
    """Mark the run as queued for a job of Slurm, unless it was trained meanwhile or is finished."""
    changes = {**_QUEUED, **_NOBODY, "scheduler": scheduler}
    return _change(folder, lambda status: status.state != "finished" and status.attempt == attempt, changes)


def kill(folder: Path, *, grace: float = 5.0) -> Status:
    """End the process of the run now: SIGTERM, after `grace` seconds SIGKILL; leaves an exit record. A job of Slurm is
    cancelled there; from another host it is a request. LscError if the process does not end."""
    status = read_status(folder)
    who = status.identity
    if not status.active or who is None:
        raise UsageError(f"{folder} is {status.state}: there is no process to end")
    alive = process.is_alive(who)
    job = status.scheduler.job if status.scheduler is not None and slurm.installed() else None
    # A task of Slurm that gets a signal from elsewhere lets itself be queued again.
    if alive is None or (alive and job is not None):
        if job is not None:
            slurm.cancel([job])
        else:
            requests.request(folder, "kill")
        if not _until(lambda: not read_status(folder).active, REMOTE_SECONDS):
            if job is None:
                raise LscError(f"pid {who.pid} on {who.host} does not answer; the request stays in {folder}")
            # Slurm kills what does not end in time, which leaves no record.
            if state := slurm.state_of(job):
                raise LscError(f"job {job} is cancelled, but still {state}: Slurm has not ended its processes yet")
    elif alive:
        # Beside the signal, so that nobody who waits for the run continues it.
        requests.request(folder, "stop")
        _signal(who, signal.SIGTERM)
        if not _until(lambda: not process.is_alive(who), grace):
            _signal(who, signal.SIGKILL)
            if not _until(lambda: not process.is_alive(who), 10.0):
                raise LscError(f"pid {who.pid} does not end: it waits for a device or disk")
    if read_status(folder).active:
        return record_exit(folder, "stopped", 137, f"{requests.STOPPED}: killed", over=True)
    message = f"{requests.STOPPED}: {read_status(folder).message}"
    _change(
        folder,
        lambda one: one.state == "stopped" and not one.message.startswith(requests.STOPPED),
        {"message": message},
    )
    requests.take(folder)
    return read_status(folder)


def _signal(who: process.Identity, number: int) -> None:
    """Send a signal to exactly this process, if it is still there."""
    try:
        # psutil sends nothing to another process that has got the pid meanwhile.
        found = psutil.Process(who.pid)
        if process.is_alive(who):
            found.send_signal(number)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        raise LscError(f"pid {who.pid} belongs to another user: it cannot be ended from here") from None


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def trains_other_runs(status: Status) -> bool:
    """Whether the run's process, on this host, trains the other runs of its study too."""
    who = status.identity
    if who is None or not process.is_alive(who):
        return False
    try:
        return not any("lsc_engine.training.run_worker" in word for word in psutil.Process(who.pid).cmdline())
    except psutil.Error:
        return False


def record_exit(folder: Path, state: str, exit_code: int, message: str, *, over: bool = False) -> Status:
    """Record how a run ended whose process did not (`over`: it is known to have ended), or that was never started; its
    status afterwards. A folder that another process writes, or that cannot be written, stays as it is."""
    changes = {"state": state, "exit_code": exit_code, "eta": None, "message": message}
    return _change(folder, lambda status: status.state != "finished", changes, over=over)


def end_silent(folder: Path, message: str) -> None:
    """Record the end of an attempt that left none; the caller holds the lock of the run."""
    requests.take(folder)
    write_status(folder, replace(read_status(folder), state="stopped", exit_code=None, eta=None, message=message))


def enqueue(folder: Path, attempt: int, who: process.Identity) -> Status:
    """Mark the run as queued, after `attempt` attempts, to be trained by the process `who`; earlier requests are
    dropped. A run that waits for another live process, or that was trained meanwhile, stays as it is."""

    def free(status: Status) -> bool:
        waits = status.state == "queued" and status.identity not in (None, who) and status.alive() is not False
        return not waits and status.state != "finished" and status.attempt == attempt

    return _change(folder, free, {**_QUEUED, **asdict(who), "scheduler": None})


def dequeue(folder: Path) -> Status:
    """This process will not train the queued run after all: it waits for whoever continues its study."""
    who = process.this_process()
    changes, queued = {**_NOBODY, "host": who.host}, ("queued", who)
    return _change(folder, lambda one: (one.state, one.identity) == queued, changes, take_requests=False)


def _change(
    folder: Path,
    wanted: Callable[[Status], bool],
    changes: Mapping[str, Any],
    *,
    take_requests: bool = True,
    over: bool = False,
) -> Status:
    """Change the status while nobody writes the run, if it is still `wanted` then."""
    if wanted(read_status(folder)):
        with contextlib.suppress(LscError, OSError):
            lock = RunLock(folder, over=over)
            try:
                if wanted(status := read_status(folder)):
                    if take_requests:
                        requests.take(folder)
                    write_status(folder, replace(status, **changes))
            finally:
                lock.release()
    return read_status(folder)
