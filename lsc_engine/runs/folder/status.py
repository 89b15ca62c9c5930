"""status.json: the state of a run as its process wrote it, and as other processes show it. The state shown adds what
the process could not write: `lost` (it is gone and left no exit record; found out only on its own host) and `stalled`
(no heartbeat for many of its usual ones). A queued run names the process that is to train it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lsc_engine.common.formatting import duration
from lsc_engine.common.safe_io import UnreadableError, number_of, opened, parse_json, read_dated, replace_file
from lsc_engine.runs.folder import process
from lsc_engine.runs.folder.layout import LOCK, STATUS
from lsc_engine.runs.folder.process import Identity
from lsc_engine.runs.folder.slurm import Jobs, Scheduler

ACTIVE = ("starting", "running", "stopping")
ENDED = ("stopped", "finished", "failed", "diverged")
STATES = ("queued", *ACTIVE, *ENDED, "lost")
UNREADABLE = "unreadable"
# The state that a study reports of a run that another process trains; its folder holds more.
ELSEWHERE = "elsewhere"

MIN_PATIENCE = 30.0
PATIENCE_IN_BEATS = 20.0
MAX_STATUS = 1 << 20
_MAX_TEXT = 4000
_MAX_METRICS = 500
_CLOCK_SECONDS = 60.0
# Without a sign of life for so long a run whose job has ended is lost; one that Slurm of another cluster trains is not.
_SILENT_SECONDS = 15.0
# Folder -> when its clock was measured, and the offset.
_offsets: dict[Path, tuple[float, float]] = {}


@dataclass(frozen=True, slots=True)
class Status:
    """The content of status.json. Times are Unix seconds; `seconds` is wall time over all attempts. `pace` is the usual
    (and lately longest) time between two heartbeats, `step_seconds` that of a training step. `metrics` and `best` hold
    the last and the best value per metric. `earlier` is a sentence on the attempt before, where that left no exit
    record. `changed` is the file's own change time; `signed` that of the lock file, which the process touches while it
    lives (read if nothing has been trained yet). `scheduler`: the job that trains a run, or is to train it."""

    state: str = UNREADABLE
    host: str = ""
    device: str = ""
    owner: str = ""
    pid: int | None = None
    pid_start: float = 0.0
    boot_id: str = ""
    machine: str = ""
    pid_namespace: str = ""
    step: int = 0
    total_steps: int | None = None
    epoch: float | None = None
    heartbeat: float | None = None
    pace: float | None = None
    step_seconds: float | None = None
    eta: float | None = None
    exit_code: int | None = None
    message: str = ""
    earlier: str = ""
    seconds: float = 0.0
    started: float | None = None
    attempt: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    scheduler: Scheduler | None = None
    changed: float | None = None
    signed: float | None = None
    shown_state: str = UNREADABLE

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def trained(self) -> bool:
        """Whether this attempt has trained a step already, according to the file."""
        return self.state != "starting" and self.step_seconds is not None

    @property
    def identity(self) -> Identity | None:
        if not self.pid or not self.host:
            return None
        return Identity(self.host, self.machine, self.boot_id, self.pid_namespace, self.pid, self.pid_start)

    @property
    def writer(self) -> str:
        """`pid 17 on gpu-a`; "" if the file does not name a process."""
        return f"pid {self.pid} on {self.host}" if self.identity is not None else ""

    def alive(self) -> bool | None:
        return None if self.identity is None else process.is_alive(self.identity)

    def age(self, clock_offset: float = 0.0) -> float | None:
        """Seconds since the last heartbeat, by this machine's clock for its own runs, else by the file server's."""
        if process.same_machine(self.host, self.machine) and self.heartbeat is not None:
            return max(time.time() - self.heartbeat, 0.0)
        return None if self.changed is None else max(time.time() + clock_offset - self.changed, 0.0)

    def silence(self, clock_offset: float = 0.0) -> float | None:
        """Seconds since the process last gave any sign of life: a heartbeat, or the touched lock file."""
        signed = None if self.signed is None else max(time.time() + clock_offset - self.signed, 0.0)
        return min((age for age in (self.age(clock_offset), signed) if age is not None), default=None)

    @property
    def patience(self) -> float:
        return max(MIN_PATIENCE, PATIENCE_IN_BEATS * (self.pace or 0.0))

    def judged(self, clock_offset: Callable[[], float] = lambda: 0.0) -> Status:
        """This status with `shown_state` as far as this process can find out."""
        shown = self.state
        if (self.active or self.state == "queued") and self.alive() is False:
            shown = "lost"
        elif self.active:
            # Reading data and compiling take long, without a step: the process is then looked for, not the training.
            own = process.same_machine(self.host, self.machine)
            age = self.age(0.0 if own else clock_offset()) if self.trained else self.silence(clock_offset())
            shown = "stalled" if age is None or age > self.patience else shown
        return replace(self, shown_state=shown)

    def scheduled(self, jobs: Jobs | None, silence: float | None) -> Status:
        """This status with what Slurm knows of its job, if it answered. `silence`: seconds since a sign of life."""
        if jobs is None or self.scheduler is None:
            return self
        shown, silent = self.shown_state, not self.active or silence is None or silence > _SILENT_SECONDS
        found = jobs.known.get(self.scheduler.job)
        if found is not None:
            found = replace(found, restarts=self.scheduler.restarts)
            return replace(self, scheduler=found, shown_state="queued" if found.waits and silent else shown)
        # What was written after the question is not judged by the answer.
        ended = silent and self.state != "stopped" and (self.changed or 0.0) < jobs.time
        return replace(self, shown_state="lost") if ended else self

    @property
    def news(self) -> str:
        """A sentence on a run that is lost, stalled or waits for Slurm, or its message."""
        if self.shown_state == "queued" and self.scheduler is not None:
            return str(self.scheduler)
        if self.shown_state == "lost" and self.scheduler and not self.scheduler.state and self.alive() is None:
            return f"Slurm no longer has job {self.scheduler.job}, which left no exit record"
        if self.shown_state == "lost" and self.state == "queued":
            ends = f"; its log ends: {self.message}" if self.message else ""
            return f"the process that was to train it (pid {self.pid}) is gone{ends}"
        if self.shown_state == "lost":
            return "the process is gone and left no exit record" + (f"; {self.message}" if self.message else "")
        if self.shown_state != "stalled":
            return self.message
        age, took = self.age(), f", its steps take {self.step_seconds:.2g} s" if self.step_seconds else ""
        unseen = f". Cannot see host {self.host or 'unknown'} from here" if self.alive() is None else ""
        return "no news" + (f" for {duration(age, 0)}" if age is not None else "") + took + unseen


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


def _numbers(value: Any) -> dict[str, float]:
    items = list(value.items())[:_MAX_METRICS] if isinstance(value, dict) else []
    found = {name: math.nan if item is None else number_of(item) for name, item in items if len(name) <= 200}
    return {name: number for name, number in found.items() if number is not None}


def _scheduler(value: Any) -> Scheduler | None:
    if not isinstance(value, dict) or not isinstance(job := value.get("job"), str):
        return None
    return Scheduler(job[:100], _count(value.get("restarts")) or 0, str(value.get("kind"))[:100])


_TEXTS = ("host", "device", "owner", "boot_id", "machine", "pid_namespace", "message", "earlier")
# How each field is read from a file that may hold anything; what has a wrong type is as in a new status.
_PARSERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_TEXTS, lambda value: value[:_MAX_TEXT] if isinstance(value, str) else ""),
    **dict.fromkeys(("epoch", "heartbeat", "pace", "step_seconds", "eta", "started"), number_of),
    **dict.fromkeys(("pid", "total_steps"), _count),
    **dict.fromkeys(("step", "attempt"), lambda value: _count(value) or 0),
    **dict.fromkeys(("seconds", "pid_start"), lambda value: number_of(value) or 0.0),
    **dict.fromkeys(("metrics", "best"), _numbers),
    "scheduler": _scheduler,
    "exit_code": lambda value: value if type(value) is int and abs(value) < 2**31 else None,
}


def read_status(folder: Path) -> Status:
    """The status of the run in `folder`, as written; never raises: state `unreadable` with a sentence."""
    try:
        # Both from one open file: it may be replaced at any moment.
        raw, changed = read_dated(folder / STATUS, MAX_STATUS)
        document = parse_json(raw, STATUS)
    except UnreadableError as error:
        return Status(message=str(error))
    except OSError as error:
        return Status(message=f"{STATUS} cannot be read: {error.strerror}")
    values = {name: parse(document.get(name)) for name, parse in _PARSERS.items()}
    state = document.get("state")
    if state not in STATES:
        state, values["message"] = UNREADABLE, f"{STATUS}: state {str(state)[:40]!r} is unknown"
    status = Status(state=state, changed=changed, **values)
    return replace(status, signed=signed_at(folder)) if status.active and not status.trained else status


def signed_at(folder: Path) -> float | None:
    """When the lock file was last touched; None if there is none, or one that nobody has held yet."""
    try:
        with opened(folder / LOCK) as descriptor:
            found = os.fstat(descriptor)
    except UnreadableError:
        return None
    return found.st_mtime if found.st_size else None


def write_status(folder: Path, status: Status, *, durable: bool = True) -> None:
    """Replace status.json in one step. Raises OSError."""

    def finite(value: Any) -> Any:
        if isinstance(value, Scheduler):
            return {"kind": value.kind, "job": value.job, "restarts": value.restarts}
        if isinstance(value, dict):
            return {name: finite(item) for name, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    # One line a field: json indents by Python, ten times as slowly, and a small run writes this every second.
    lines = [
        f" {json.dumps(name)}: {json.dumps(finite(getattr(status, name)), ensure_ascii=False, allow_nan=False)}"
        for name in _WRITTEN
    ]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    replace_file(folder / STATUS, text.encode("utf-8", "backslashreplace"), durable=durable)


def clock_offset(root: Path) -> float:
    """Seconds from this machine's clock to that of the file system under `root`, measured each minute, else 0."""
    measured, offset = _offsets.get(root, (-math.inf, 0.0))
    if time.monotonic() - measured > _CLOCK_SECONDS:
        reference, offset = root / f".clock-{process.host_name()}-{os.getpid()}", 0.0
        with contextlib.suppress(OSError), open(reference, "xb", buffering=0) as file:
            try:
                before = time.time()
                file.write(b".")
                os.fsync(file.fileno())
                offset = os.fstat(file.fileno()).st_mtime - (before + time.time()) / 2
            finally:
                os.unlink(reference)
        # Within a clock tick of the file system the two clocks are one.
        offset = offset if abs(offset) > 0.05 else 0.0
        _offsets[root] = time.monotonic(), offset
    return offset


_WRITTEN = tuple(f.name for f in fields(Status) if f.name not in ("changed", "signed", "shown_state"))
STATUS_FIELDS = frozenset(_WRITTEN)
