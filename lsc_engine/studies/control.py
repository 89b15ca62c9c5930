"""Ending the process of a run, and changing the state of runs that no process writes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import psutil

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.runs.folder import process, requests
from lsc_engine.runs.folder.lock import RunLock
from lsc_engine.runs.folder.status import Status, read_status, write_status


def kill(folder: Path, *, grace: float = 5.0) -> Status:
    """End the process of the run now: SIGTERM, after `grace` seconds SIGKILL; leaves an exit record.

    Only on the run's own host and only if pid, start time and boot id are those of the run; LscError otherwise.
    """
    status = read_status(folder)
    who = status.identity
    if not status.active or who is None:
        raise UsageError(f"{folder} is {status.state}: there is no process to end")
    alive = process.is_alive(who)
    if alive is None:
        raise LscError(
            f"pid {who.pid} is on {who.host}: only there can it be ended; stop without --now works from here"
        )
    if alive:
        _signal(who, signal.SIGTERM)
        if not _gone(who, grace):
            _signal(who, signal.SIGKILL)
            if not _gone(who, 10.0):
                raise LscError(f"pid {who.pid} does not end: it waits for a device or disk")
    if read_status(folder).active:
        return record_exit(folder, "stopped", 137, f"{requests.STOPPED}: killed")
    requests.take(folder)
    return read_status(folder)


def _signal(who: process.Identity, number: int) -> None:
    """Send a signal to exactly this process, if it is still there."""
    handle = None
    with contextlib.suppress(OSError, AttributeError):
        handle = os.pidfd_open(who.pid)
    try:
        # With the handle open the pid cannot pass to another process between this look and the signal.
        if process.is_alive(who):
            if handle is not None:
                signal.pidfd_send_signal(handle, number)
            else:
                os.kill(who.pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise LscError(f"pid {who.pid} belongs to another user: it cannot be ended from here") from None
    finally:
        if handle is not None:
            os.close(handle)


def _gone(who: process.Identity, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.is_alive(who):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def trains_other_runs(status: Status) -> bool:
    """Whether the run's process, on this host, trains the runs of a study one after another, rather than being a worker
    that trains this one alone. False if that cannot be found out."""
    who = status.identity
    if who is None or not process.is_alive(who):
        return False
    try:
        return not any("lsc_engine.training.run_worker" in word for word in psutil.Process(who.pid).cmdline())
    except psutil.Error:
        return False


def record_exit(folder: Path, state: str, exit_code: int, message: str) -> Status:
    """Record how a run ended whose process did not, or that was never started; its progress is kept.

    A folder that another process writes, or that cannot be written, stays as it is. Returns its status afterwards.
    """

    def ended(status: Status) -> Status:
        requests.take(folder)
        return replace(status, state=state, exit_code=exit_code, eta=None, message=message)

    return _change(folder, ended, lambda status: status.state != "finished")


def enqueue(folder: Path, attempt: int, who: process.Identity) -> Status:
    """Mark the run as queued, after `attempt` attempts, to be trained by the process `who`; earlier requests are
    dropped.

    A run that waits for another live process, or that was trained meanwhile, stays as it is; so does one that cannot be
    changed (`record_exit`)."""

    def is_free(status: Status) -> bool:
        waits = status.state == "queued" and status.identity not in (None, who) and status.alive() is not False
        return not waits and status.state != "finished" and status.attempt == attempt

    def queued(status: Status) -> Status:
        requests.take(folder)
        return replace(status, state="queued", exit_code=None, eta=None, message="", **asdict(who))

    return _change(folder, queued, is_free)


def dequeue(folder: Path) -> Status:
    """This process will not train the queued run after all: it waits for whoever continues its study."""
    who, nobody = process.this_process(), process.Identity("", "", "", "", 0, 0.0)

    def left(status: Status) -> Status:
        return replace(status, **{**asdict(nobody), "pid": None, "host": who.host})

    return _change(folder, left, lambda status: status.state == "queued" and status.identity == who)


def _change(folder: Path, change: Callable[[Status], Status], wanted: Callable[[Status], bool]) -> Status:
    """Change the status while nobody writes the run, if it is still `wanted` then."""
    if wanted(read_status(folder)):
        with contextlib.suppress(LscError, OSError):
            lock = RunLock(folder)
            try:
                if wanted(status := read_status(folder)):
                    write_status(folder, change(status))
            finally:
                lock.release()
    return read_status(folder)
