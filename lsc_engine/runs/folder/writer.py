"""The one writer of a run folder: metrics, status, log and requests. Also how a run folder is created. Nothing here
raises into training because a disk is full: what could not be written is kept, tried again, and shown in the status
message. Before anything is written the writer checks that the run is still its own (LostRunError)."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.formatting import duration
from lsc_engine.common.safe_io import UnreadableError, fsync_folder, read_json, read_tail, replace_file, replace_json
from lsc_engine.common.userpaths import user_name
from lsc_engine.runs.folder import checkpoints, process, requests, slurm
from lsc_engine.runs.folder.layout import LOG, METRICS, PRESET, SOURCE, run_id
from lsc_engine.runs.folder.lock import PULSE, LostRunError, RunLock, Sleep
from lsc_engine.runs.folder.status import ENDED, STATUS_FIELDS, Status, read_status, write_status
from lsc_engine.runs.metrics.parsing import format_line, parse_line

if TYPE_CHECKING:
    from lsc_engine.config.schema import RunConfig

_RESERVE = ".reserve"
_RESERVE_BYTES = 16 << 10
_BEAT_SECONDS = 1.0
# A heartbeat may take this share of the run's time at most, also where the disk is slow.
_BEAT_SHARE = 0.002
_REQUEST_SECONDS = 0.5
_FORGET = 0.9


class FinishedError(UsageError):
    """Another process has finished this run meanwhile."""


def create_run(folder: Path, config: RunConfig, source: Mapping[str, Any]) -> Path:
    """Create the run folder in state `queued`, whole or not at all. UsageError if it exists and is not empty or is not
    the place of the run id; LscError if it cannot be written."""
    folder = Path(folder)
    identifier = run_id(config.study, config.variant, config.seed)
    if folder.parts[-len(Path(identifier).parts) :] != Path(identifier).parts:
        raise UsageError(f"{folder} is not the place of run {identifier}")
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UsageError(f"{folder} exists and is not empty: choose another --name or move it away")
    names = {"id": identifier, "study": config.study, "variant": config.variant, "seed": config.seed}
    fresh = folder.with_name(f".new-{folder.name}-{secrets.token_hex(4)}")
    try:
        fresh.mkdir(parents=True)
        try:
            replace_file(fresh / PRESET, config.to_toml().encode())
            replace_json(fresh / SOURCE, {**source, **names, "created": time.time()})
            write_status(fresh, Status(state="queued", owner=user_name(), host=process.host_name()))
            os.rename(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        fsync_folder(folder.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UsageError(f"{folder} exists and is not empty: another process has just made it") from None
        raise LscError(f"{folder} cannot be created: {error.strerror}") from None
    return folder


class MetricsLog:
    """The one writer of a metrics file, a write for each line. What cannot be written (disk full) is kept and written
    with a later line; no method raises OSError, `error` is the current problem."""

    def __init__(self, path: Path, most_pending: int = 100_000) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._pending: deque[bytes] = deque(maxlen=most_pending)
        self.error: str | None = None

    def append(self, line: bytes) -> bool:
        self._pending.append(line)
        return self.flush()

    def flush(self) -> bool:
        try:
            if self._descriptor is None:
                flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o666)
                size = os.fstat(self._descriptor).st_size
                # A line torn by a crash must not swallow the first line of this attempt.
                if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                    self._pending.appendleft(b"\n")
            while self._pending:
                size = os.fstat(self._descriptor).st_size
                try:
                    if os.write(self._descriptor, self._pending[0]) < len(self._pending[0]):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.ftruncate(self._descriptor, size)
                    raise
                self._pending.popleft()
            self.error = None
        except OSError as error:
            self.error = f"{self._path.name}: {error.strerror}"
        return self.error is None

    def sync(self) -> None:
        """Flush to the disk: lines up to a checkpoint should survive what the checkpoint survives."""
        if self.flush() and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._descriptor)

    def close(self) -> None:
        self.flush()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class RunWriter:
    """Writes one run folder while this process trains the run. Use `RunWriter.open`."""

    def __init__(self, folder: Path, lock: RunLock, status: Status, *, echo: bool) -> None:
        self.folder, self._lock, self._status, self._echo = folder, lock, status, echo
        self._text = status.message
        self._began, self._seconds_before = time.monotonic(), status.seconds
        self._log = MetricsLog(folder / METRICS)
        # What could not be saved, and since when.
        self.troubles: dict[str, str] = {}
        self._last_beat, self._beat_cost = -math.inf, 0.0
        self._last_call: tuple[float, int] | None = None
        # In the status when it is written or read: making one takes longer than the rest of a heartbeat.
        self._step_seconds = status.step_seconds
        self._last_request_look = -math.inf
        self._closed = False
        self._ended = threading.Event()
        threading.Thread(target=self._touch_lock, name="signs of life", daemon=True).start()

    @classmethod
    def open(
        cls, path: Path, *, device: str, total_steps: int, owner: str = "", echo: bool = True, watch: Sleep = time.sleep
    ) -> RunWriter:
        """Attach to a run folder as its one writer and begin attempt N + 1 in state `starting`. `echo` repeats messages
        on stderr, `watch` as for RunLock. TakenError if another live process writes the run, FinishedError if it is
        finished, UsageError if the folder is no run, LscError if it cannot be written."""
        path = Path(path)
        if not (path / PRESET).is_file():
            raise UsageError(f"{path} is not a run folder: {PRESET} is not there")
        lock = RunLock(path, watch=watch)
        before = read_status(path)
        if before.state == "finished":
            lock.release()
            raise FinishedError(f"{path} is finished")
        checkpoints.sweep(path)
        if before.state != "queued" and before.message != requests.UNSTARTED:
            # Requests that were meant for an attempt that is over.
            requests.take(path)
        attempt = before.attempt
        with contextlib.suppress(UnreadableError):
            rows = map(parse_line, reversed(read_tail(path / METRICS, 64 << 10).split(b"\n")))
            attempt = max(attempt, next((row[1] for row in rows if row is not None), 0))
        status = replace(
            Status(**asdict(process.this_process()), device=device, owner=owner or user_name(), earlier=lock.earlier),
            **{name: getattr(before, name) for name in ("step", "seconds", "metrics", "best")},
            state="starting",
            scheduler=slurm.this_task(),
            total_steps=total_steps,
            heartbeat=time.time(),
            started=before.started or time.time(),
            attempt=attempt + 1,
        )
        writer = cls(path, lock, status, echo=echo)
        writer._make_reserve()
        if not writer._write_status(durable=True) and not os.access(path, os.W_OK):
            lock.release()
            writer._ended.set()
            raise LscError(f"{path} cannot be written: {writer.troubles.get('status', '')}")
        if lock.earlier:
            writer.message(lock.earlier)
        return writer

    def _touch_lock(self) -> None:
        """Signs of life also while data is read and a model compiled, which take long without a heartbeat; and the end
        at once of a process that another host cannot signal."""
        with contextlib.suppress(LostRunError):
            while not self._ended.wait(PULSE):
                self.check()
                self._lock.touch()
                self._obey(requests.pending(self.folder))

    def _obey(self, found: set[str]) -> None:
        if "kill" in found:
            requests.take(self.folder)
            self.status(state="stopped", exit_code=137, eta=None, message=f"{requests.STOPPED}: killed")
            os._exit(137)

    def check(self) -> None:
        self._lock.check()

    @property
    def attempt(self) -> int:
        return self._status.attempt

    @property
    def step(self) -> int:
        return self._last_call[1] if self._last_call is not None else self._status.step

    @property
    def current(self) -> Status:
        return replace(self._status, step_seconds=self._step_seconds)

    @property
    def stalled(self) -> str:
        """A sentence while no heartbeat has come for many of the usual ones; else "", and before the first step."""
        status = self.current
        if self._last_call is None or status.state != "running" or not status.trained:
            return ""
        age = time.monotonic() - self._last_call[0]
        return f"no step for {duration(age, 0)} at step {self.step}" if age > status.patience else ""

    @property
    def state(self) -> str:
        return self._status.state

    def metrics(self, step: int, epoch: float, time: float, values: Mapping[str, float]) -> None:
        """Append a line; `time`: training seconds over all attempts. ValueError for a bad name, never OSError."""
        self.check()
        self._log.append(format_line(step, epoch, time, self.attempt, values))
        self._note_trouble("metrics", self._log.error)
        last, best = dict(self._status.metrics), dict(self._status.best)
        for name, value in values.items():
            last[name] = number = float(value)
            if math.isfinite(number):
                best[name] = (min if "loss" in name else max)(best.get(name, number), number)
        step = max(step, self._status.step)
        self._status = replace(self._status, metrics=last, best=best, step=step, epoch=float(epoch))

    def sync(self) -> None:
        """Flush metrics to the disk (before a checkpoint that builds on them)."""
        self.check()
        self._log.sync()
        self._note_trouble("metrics", self._log.error)

    def message(self, text: str, *, echo: bool = True) -> None:
        """A line for log.txt with the time of day, and on stderr unless `echo` is False."""
        self.check()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        for line in text.splitlines() or [""]:
            with self._noting_trouble("log", LOG):
                descriptor = os.open(self.folder / LOG, flags, 0o666)
                try:
                    os.write(descriptor, f"{time.strftime('%H:%M:%S')} {line}\n".encode("utf-8", "backslashreplace"))
                finally:
                    os.close(descriptor)
            if self._echo and echo:
                # A closed terminal must not end the run.
                with contextlib.suppress(OSError, ValueError):
                    print(line, file=sys.stderr, flush=True)

    def record(self, **facts: Any) -> None:
        """Put facts known only now (order of classes, threads, versions) into source.json."""
        self.check()
        with self._noting_trouble("source", SOURCE):
            replace_json(self.folder / SOURCE, {**self.source(), **facts})

    def source(self) -> dict[str, Any]:
        with contextlib.suppress(UnreadableError):
            return read_json(self.folder / SOURCE)
        return {}

    def status(self, **changes: Any) -> None:
        """Change fields of the status (`state=`, `message=`, `total_steps=`, …) and write it to the disk."""
        if unknown := set(changes) - STATUS_FIELDS:
            raise TypeError(f"no such status field: {', '.join(sorted(unknown))}")
        self._text = str(changes.pop("message", self._text))
        self._status = replace(self._status, **changes)
        self._write_status(durable=True)

    def heartbeat(self, step: int, eta: float | None = None, **changes: Any) -> None:
        """Record that the run goes on, at every step and while it evaluates and saves. `eta`: seconds to the end."""
        now, status, usual = time.monotonic(), self._status, self._step_seconds
        if self._last_call is not None and step > self._last_call[1]:
            latest = (now - self._last_call[0]) / (step - self._last_call[1])
            self._step_seconds = latest if usual is None else _FORGET * usual + (1 - _FORGET) * latest
        self._last_call = (now, step)
        gap = now - self._last_beat
        if gap < max(_BEAT_SECONDS, self._beat_cost / _BEAT_SHARE) and not changes:
            return
        pace = status.pace or 0.0
        pace = max(gap, _FORGET * pace) if math.isfinite(gap) else pace
        self._status = replace(status, **{"step": step, "eta": eta, "pace": pace, **changes})
        self._write_status(durable=False)
        self._log.flush()
        self._note_trouble("metrics", self._log.error)
        self._last_beat = now
        self._beat_cost = time.monotonic() - now

    def alive(self) -> None:
        """`heartbeat` while the run waits, at the step it has reached."""
        self.heartbeat(self._status.step, self._status.eta)

    def trouble(self, kind: str, sentence: str | None) -> None:
        """Show in the status what could not be saved (`kind`, e.g. "checkpoint"); None once it can again."""
        self._note_trouble(kind, sentence)
        self._write_status(durable=True)

    def requests(self) -> set[str]:
        """Requests since the last call ("stop", "checkpoint"); looks about twice a second at most."""
        now = time.monotonic()
        if now - self._last_request_look < _REQUEST_SECONDS:
            return set()
        self._last_request_look = now
        self.check()
        found = requests.take(self.folder)
        self._obey(found)
        if "stop" in found:
            self.status(state="stopping")
        return found

    def finish(self, state: str, exit_code: int, message: str = "") -> None:
        """Leave the exit record and give the run up. `state`: stopped, finished, failed or diverged."""
        if state not in ENDED:
            raise ValueError(f"{state!r} is not an end state: {', '.join(ENDED)}")
        if self._closed:
            return
        self.check()
        self._log.close()
        self._note_trouble("metrics", self._log.error)
        self.status(state=state, exit_code=exit_code, eta=None, message=message)
        with contextlib.suppress(OSError):
            os.unlink(self.folder / _RESERVE)
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._ended.set()
            with contextlib.suppress(LostRunError):
                self.check()
                self._log.close()
            self._lock.release()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, LostRunError):
            self.finish("failed", 1, f"{type(error).__name__}: {error}")
        self.close()

    def _note_trouble(self, kind: str, sentence: str | None) -> None:
        if sentence is None:
            self.troubles.pop(kind, None)
        elif kind not in self.troubles:
            self.troubles[kind] = f"not saved since {time.strftime('%H:%M')}: {sentence}"

    @contextlib.contextmanager
    def _noting_trouble(self, kind: str, file: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._note_trouble(kind, f"{file}: {error.strerror}")
        else:
            self._note_trouble(kind, None)

    def _write_status(self, *, durable: bool) -> bool:
        if self._closed:
            return False
        self.check()
        elapsed = self._seconds_before + time.monotonic() - self._began
        text = "; ".join(filter(None, (self._text, *self.troubles.values())))
        self._status = replace(self.current, heartbeat=time.time(), seconds=elapsed, message=text)
        with self._noting_trouble("status", "status.json"):
            try:
                write_status(self.folder, self._status, durable=durable)
            except OSError:
                # On a full disk the reserve makes room, so that viewers learn of it; the old file's room is the next.
                os.unlink(self.folder / _RESERVE)
                write_status(self.folder, self._status, durable=durable)
                self._make_reserve()
        return "status" not in self.troubles

    def _make_reserve(self) -> None:
        with contextlib.suppress(OSError):
            replace_file(self.folder / _RESERVE, os.urandom(_RESERVE_BYTES), durable=False)
