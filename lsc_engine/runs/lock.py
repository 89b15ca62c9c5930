"""One writer per run: a lock that dies with its process, and the record of who holds it.

`flock` is dropped by the kernel when the process ends, however it ends. The pid, start time and boot id in the file
name the holder for the sentence that refuses a second one, and stand in where a network file system has no locks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
import weakref
from dataclasses import asdict
from pathlib import Path

from lsc_engine.errors import LscError, UsageError
from lsc_engine.runs import host
from lsc_engine.runs.files import UnreadableError, read_json
from lsc_engine.runs.layout import LOCK
from lsc_engine.runs.status import read_status

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


class RunLock:
    """The right to write into one run folder, until `release` or the end of the process."""

    def __init__(self, folder: Path, *, wait: float = 8.0) -> None:
        """Take the lock; UsageError naming the holder when another live process has it, LscError when the folder
        cannot be written. `wait`: seconds to wait for helpers of a process that is gone already."""
        self._folder = folder
        self._descriptor: int | None = None
        deadline = time.monotonic() + wait
        while not self._try():
            holder = self._holder()
            if holder is None or host.is_alive(holder) is not False or time.monotonic() > deadline:
                raise UsageError(_refusal(folder, holder))
            time.sleep(0.1)
        _held.add(self)

    def _try(self) -> bool:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._folder / LOCK, flags, 0o666)
        except OSError as error:
            raise LscError(f"{self._folder}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return False
                raise LscError(f"{self._folder}: cannot be locked: {error.strerror}") from None
        try:
            self._refuse_unseen_writer()
        except UsageError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        # A full disk must not keep a run from going on: the lock itself holds without the record.
        with contextlib.suppress(OSError):
            record = json.dumps(asdict(host.this_process())).encode()
            os.pwrite(descriptor, record, 0)
            os.ftruncate(descriptor, len(record))
        return True

    def _refuse_unseen_writer(self) -> None:
        """Locks may not reach other machines: a run that they still write is refused by its heartbeat."""
        status = read_status(self._folder).judged()
        who = status.identity
        if who is None or who.pid == os.getpid() or not status.active or status.shown_state in ("lost", "stalled"):
            return
        if host.is_alive(who) is None:
            raise UsageError(_refusal(self._folder, who))

    def _holder(self) -> host.Identity | None:
        try:
            record = read_json(self._folder / LOCK, 4096)
            return host.Identity(**{name: record[name] for name in host.Identity.__slots__})
        except (UnreadableError, KeyError, TypeError):
            return None

    def release(self) -> None:
        """Give the lock up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def forget_in_child(self) -> None:
        """In a forked child (a data worker): leave the lock to the parent alone, or it would outlive it."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def _refusal(folder: Path, holder: host.Identity | None) -> str:
    by = f"pid {holder.pid} on {holder.host}" if holder else "another process"
    return f"{folder}: {by} is writing this run; a run has one writer. Stop it first: lsc-engine stop"


def is_locked(folder: Path) -> bool:
    """Whether a process of this machine holds the lock now."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget_in_child()


os.register_at_fork(after_in_child=_forget_all)
