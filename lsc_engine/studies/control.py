"""Asking a run for something: request files that work from any host on a shared disk, and signals on its own host.

A request is an empty file in the run folder, `stop.request` or `checkpoint.request`; the run's writer takes it away.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from lsc_engine.errors import LscError, UsageError
from lsc_engine.runs.folder import process, requests
from lsc_engine.runs.folder.lock import RunLock
from lsc_engine.runs.folder.status import Status, read_status, write_status


def _signal(who: process.Identity, number: int) -> bool:
    """Send a signal to exactly this process; False when it is gone."""
    try:
        handle = os.pidfd_open(who.pid) if hasattr(os, "pidfd_open") else None
    except ProcessLookupError:
        return False
    except OSError:
        handle = None
    try:
        # With the handle open the pid cannot pass to another process between this look and the signal.
        if not process.is_alive(who):
            return False
        if handle is not None:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(who.pid, number)
        return True
    except ProcessLookupError:
        return False
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
    return _record_end(folder)


def trains_in_turn(status: Status) -> bool:
    """Is the run's process, on this host, one that trains the runs of a study one after another, not a worker that
    trains this one alone? False where that cannot be told."""
    import psutil

    who = status.identity
    if who is None or not process.is_alive(who):
        return False
    try:
        return not any("lsc_engine.training.run_worker" in word for word in psutil.Process(who.pid).cmdline())
    except psutil.Error:
        return False


def _record_end(folder: Path) -> Status:
    """Say how the run ended if it could not say so itself."""
    if read_status(folder).active:
        return settle(folder, "stopped", 137, f"{requests.STOPPED}: killed")
    requests.clear(folder)
    return read_status(folder)


def settle(folder: Path, state: str, exit_code: int, message: str) -> Status:
    """Record how a run ended whose process did not say so, or that was never started; its progress is kept.

    A folder that another process writes, or that cannot be written, stays as it is. Returns what the folder then says.
    """

    def ended(status: Status) -> Status:
        requests.clear(folder)
        return replace(status, state=state, exit_code=exit_code, eta=None, message=message)

    return _change(folder, ended, lambda status: status.state != "finished")


def enqueue(folder: Path, attempt: int, who: process.Identity) -> Status:
    """Say that the run waits for its turn, after `attempt` attempts, and that the process `who` is to train it; earlier
    requests are dropped.

    A run that waits for another live process, or that was trained meanwhile, stays as it is; so does one that cannot be
    changed (`settle`)."""

    def free(status: Status) -> bool:
        waits = status.state == "queued" and status.identity not in (None, who) and status.alive() is not False
        return not waits and status.state != "finished" and status.attempt == attempt

    def waiting(status: Status) -> Status:
        requests.clear(folder)
        return replace(status, state="queued", exit_code=None, eta=None, message="", **asdict(who))

    return _change(folder, waiting, free)


def dequeue(folder: Path) -> Status:
    """Say that this process will not train the queued run after all: it waits for whoever goes on with its study."""
    who, nobody = process.this_process(), process.Identity("", "", "", "", 0, 0.0)

    def left(status: Status) -> Status:
        return replace(status, **{**asdict(nobody), "pid": None, "host": who.host})

    return _change(folder, left, lambda status: status.state == "queued" and status.identity == who)


def _change(folder: Path, change: Callable[[Status], Status], wanted: Callable[[Status], bool]) -> Status:
    """Change the status while nobody writes the run, if it is still `wanted` then."""
    if not wanted(read_status(folder)):
        return read_status(folder)
    with contextlib.suppress(LscError, OSError):
        lock = RunLock(folder)
        try:
            if wanted(status := read_status(folder)):
                write_status(folder, change(status))
        finally:
            lock.release()
    return read_status(folder)
