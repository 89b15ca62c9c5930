"""One writer per run: who it is, whether it still lives, and how another process takes a run over. A writer holds a
lock on `.lock` (`flock`, dropped by the kernel when its process ends), writes its identity and a token into it, and
touches it every `PULSE` seconds. An attempt that left no exit record is over for sure where the lock was held on this
kernel in this very file and is free; where its process is gone, as this process can see; or, on another machine or
start of it, where no sign of life came for `SILENCE` seconds and while it is watched for `WATCH` seconds. Who takes a
run over writes its own record: a writer that was suspended meanwhile finds it before it writes, and ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import secrets
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.formatting import duration
from lsc_engine.common.safe_io import UnreadableError, read_bytes, read_json, writing
from lsc_engine.runs.folder import process
from lsc_engine.runs.folder.layout import LOCK
from lsc_engine.runs.folder.status import PATIENCE_IN_BEATS, Status, clock_offset, read_status, signed_at

PULSE = 2.0
SILENCE = 30.0
WATCH = 10.0
WATCH_IN_BEATS = 5.0
# A lock held for longer than this by a process that does not write the run is not a change of its status.
CHANGE_SECONDS = 8.0
_LOOK_SECONDS = 0.5
# Two that take a run over at once, where there are no locks: the later record stands, and the earlier one is off.
_AGREE_SECONDS = 1.0
_RECORD_BYTES = 512
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
Sleep = Callable[[float], None]
_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


class TakenError(UsageError):
    """Another process writes this run."""


class LostRunError(LscError):
    """Another process has taken the run over from this one: nothing more may be written."""


# What this process can find out about a run's writer without watching it: there is none; it is gone for sure; its
# process is there; its lock is held; it gave a sign of life lately; it gave none for long.
_Claim = Literal["none", "over", "lives", "locked", "beats", "silent"]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes a run: its status, seconds since its last sign of life, and until it may be taken over."""

    status: Status
    silence: float | None
    free_in: float | None

    @property
    def name(self) -> str:
        return self.status.writer or "a process that gives no name"

    @property
    def at_work(self) -> bool:
        """Whether it gave a sign of life lately and its run goes on: waiting for it comes to an end."""
        going = self.status.active and self.status.shown_state != "stalled"
        return going and self.silence is not None and self.silence <= SILENCE

    def sentence(self, waits: bool = False) -> str:
        """Who writes the run, how far it is, its last sign of life, and, unless one `waits`, what to do."""
        status = self.status
        total = f" of {status.total_steps}" if status.total_steps else ""
        done = f"{status.state} at step {status.step}{total}" if status.active else "starting"
        text = f"{self.name} trains it: {done}, last sign of life {duration(self.silence, 0)} ago"
        advice = ". --wait waits for its end; lsc-engine stop ends it with a checkpoint"
        if self.free_in is not None:
            text += f". It can be taken over when there is none for another {duration(math.ceil(self.free_in), 0)}"
            advice = ": try again then, or give --wait"
        elif status.shown_state == "stalled":
            advice = ", and its training stands still. On its host, lsc-engine stop --now ends it"
        return text if waits else text + advice


def holder(folder: Path) -> Holder | None:
    """Who writes the run in `folder`; None where nobody does. One that gave no sign of life for long, and about which
    nothing more can be found out from here, counts as nobody: whoever takes the run over watches it first."""
    until = time.monotonic() + CHANGE_SECONDS
    while True:
        status, locked = read_status(folder), is_locked(folder)
        # A lock without an active status is one that is being changed, or just begins.
        if not locked or status.active or time.monotonic() > until:
            break
        time.sleep(0.02)
    claim = "locked" if locked else _claim(folder, status)
    return _holder(folder, status, claim) if claim in ("locked", "lives", "beats") else None


def gone(folder: Path, status: Status) -> bool:
    """Whether the writer of an active run is gone for sure: its lock, held on this kernel, is free."""
    who = status.identity
    unseen = who is not None and who.boot_id == process.boot_id() and who.pid_namespace != process.pid_namespace()
    return unseen and _held_here(folder, status) and not is_locked(folder)


def _holder(folder: Path, status: Status, claim: _Claim) -> Holder:
    silence = silent_for(folder, status)
    free_in = max(_patience(folder, status, SILENCE) - (silence or 0.0), 0.0) + WATCH if claim == "beats" else None
    return Holder(status.judged(lambda: clock_offset(folder.parent)), silence, free_in)


def silent_for(folder: Path, status: Status) -> float | None:
    """Seconds since the writer of the run gave any sign of life, by one clock; None if there was none."""
    return replace(status, signed=signed_at(folder)).silence(clock_offset(folder.parent))


def _claim(folder: Path, status: Status) -> _Claim:
    """What is known about the writer while the lock is free, or without locks."""
    who = status.identity
    if not status.active or who == process.this_process():
        return "none"
    if who is not None and who.boot_id == process.boot_id():
        alive = process.is_alive(who)
        if alive:
            return "lives"
        if alive is False or _held_here(folder, status):
            return "over"
    silence = silent_for(folder, status)
    return "silent" if silence is None or silence > _patience(folder, status, SILENCE) else "beats"


def _patience(folder: Path, status: Status, least: float, beats: float = PATIENCE_IN_BEATS) -> float:
    """Seconds without a sign of life after which a writer is watched; those of earlier versions only had heartbeats."""
    return least if "token" in _record(folder) else max(least, beats * (status.pace or 0.0))


def _record(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(UnreadableError):
        return read_json(folder / LOCK, 4096)
    return {}


def _held_here(folder: Path, status: Status) -> bool:
    """Whether the writer named by `status` held the lock on this kernel, in the very file that lies here now."""
    record, who = _record(folder), status.identity
    if who is None or who.boot_id != process.boot_id() or not asdict(who).items() <= record.items():
        return False
    with contextlib.suppress(OSError):
        found = os.stat(folder / LOCK, follow_symlinks=False)
        return record.get("file") == [found.st_dev, found.st_ino]
    return False


class RunLock:
    """The right to write into a run folder. `earlier`: how an attempt without an exit record is known to be over."""

    def __init__(
        self, folder: Path, *, wait: float = CHANGE_SECONDS, watch: Sleep | None = None, over: bool = False
    ) -> None:
        """TakenError if another live process has the lock, LscError if the folder cannot be written. `wait`: seconds
        for one that only changes the status, and for helpers of one that is gone; `watch(seconds)` sleeps while a
        silent writer is watched (without it that one counts as alive); `over`: the writer is over unless it holds the
        lock."""
        self._folder, self._mine = folder, b""
        self._descriptor: int | None = None
        self._locks = True
        self.earlier = ""
        until = time.monotonic() + wait
        while (descriptor := self._locked()) is None:
            status = read_status(folder)
            if (status.active and status.alive() is not False) or time.monotonic() > until:
                raise TakenError(f"{folder}: {_holder(folder, status, 'locked').sentence()}")
            time.sleep(0.05)
        try:
            self._take_over(descriptor, watch, over)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)

    def _locked(self) -> int | None:
        """The lock file, opened and locked where the file system has locks; None while another process holds it."""
        with writing(self._folder):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._folder / LOCK, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                self._locks = False
                return descriptor
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return None
            raise LscError(f"{self._folder}: cannot be locked: {error.strerror}") from None
        return descriptor

    def _take_over(self, descriptor: int, watch: Sleep | None, over: bool) -> None:
        """Make sure that nobody writes the run, and put the record of this process into the lock file."""
        folder, status = self._folder, read_status(self._folder)
        claim = "over" if over else _claim(folder, status)
        silent = watch if claim == "silent" else None
        if claim in ("lives", "beats") or (claim == "silent" and watch is None):
            raise TakenError(f"{folder}: {_holder(folder, status, claim).sentence()}")
        seen = signs(folder)
        if silent is not None:
            # Looks are counted, not seconds: this process may be suspended too.
            for _ in range(math.ceil(_patience(folder, status, WATCH, WATCH_IN_BEATS) / _LOOK_SECONDS)):
                silent(_LOOK_SECONDS)
                if signs(folder) != seen:
                    raise TakenError(f"{folder}: {_holder(folder, read_status(folder), 'beats').sentence()}")
        who, place = process.this_process(), os.fstat(descriptor)
        file = [place.st_dev, place.st_ino] if self._locks else None
        record = {**asdict(who), "token": secrets.token_hex(8), "file": file}
        self._mine = json.dumps(record).encode().ljust(_RECORD_BYTES)
        try:
            os.pwrite(descriptor, self._mine, 0)
            os.ftruncate(descriptor, len(self._mine))
        except OSError as error:
            # A full disk must not keep a run from going on: the lock itself holds without the record.
            if silent is not None:
                raise LscError(f"{folder}: cannot be taken over: {error.strerror}") from None
            self._mine = os.pread(descriptor, 4096, 0)
        if silent is not None:
            silent(_AGREE_SECONDS)
            if not self._owned() or signs(folder)[1:] != seen[1:]:
                raise TakenError(f"{folder}: another process has taken it over at the same moment")
        if status.active and who != status.identity:
            how = "gave no sign of life, also while it was watched" if silent else "is gone"
            self.earlier = (
                f"attempt {status.attempt} ended without a record in state {status.state}: "
                f"{status.writer or 'its process'} {how}; "
                f"its last sign of life came {duration(silent_for(folder, status), 0)} ago"
            )

    def check(self) -> None:
        """LostRunError if another process has taken the run over."""
        if self._descriptor is not None and not self._owned():
            now = read_status(self._folder)
            by = (now.writer if now.identity != process.this_process() else "") or "another one"
            why = f"this process was suspended for so long that {by} has taken the run over"
            raise LostRunError(f"{why}: it ends here and writes nothing more")

    def _owned(self) -> bool:
        # Opened anew each time: network file systems look at the server then.
        try:
            return read_bytes(self._folder / LOCK, 4096) == self._mine
        except UnreadableError:
            # The folder is gone or cannot be reached: what is written to it fails by itself.
            return True

    def touch(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.utime(self._descriptor)

    def release(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def signs(folder: Path) -> tuple[Any, ...]:
    """What changes when a writer gives a sign of life: the touched lock file, then its status."""
    status = read_status(folder)
    return signed_at(folder), status.changed, status.heartbeat, status.step, status.state, status.attempt


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


def _release_in_child() -> None:
    """A forked child (a data worker) leaves the locks to its parent alone, or they would outlive it."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)
