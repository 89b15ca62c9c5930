"""Slurm: which task this process is, and every call of Slurm's programs. A program that is missing, forbidden or too
slow raises LscError; what only looks at jobs returns None instead."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsc_engine.common.errors import LscError

KEEP_SECONDS = 30.0
_PROGRAM_SECONDS = 30.0
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Scheduler:
    """The job of a run, "123_4" for task 4 of array 123; `state`, `reason`, `node` as Slurm has them now, else ""."""

    job: str
    restarts: int = 0
    kind: str = "slurm"
    state: str = ""
    reason: str = ""
    node: str = ""

    @property
    def waits(self) -> bool:
        return self.state in ("PENDING", "CONFIGURING", "REQUEUED")

    def __str__(self) -> str:
        return f"Slurm {self.job}" + (f": {self.reason or self.state.capitalize()}" if self.state else "")


@dataclass(frozen=True)
class Jobs:
    """The jobs that Slurm has not ended, by id, at `time` (Unix seconds)."""

    time: float
    known: dict[str, Scheduler] = field(default_factory=dict)


def this_task() -> Scheduler | None:
    """The task of an array that this process belongs to; None elsewhere."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if not array or not task:
        return None
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    return Scheduler(f"{array}_{task}", int(restarts) if restarts.isdigit() else 0)


def under_launcher() -> bool:
    """Whether Slurm or torchrun has started this process: both may repeat a signal."""
    return "SLURM_JOB_ID" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ


def installed() -> bool:
    """Whether jobs can be submitted from here."""
    return shutil.which("sbatch") is not None


def query() -> Jobs | None:
    """The jobs that Slurm has now; None if it does not answer."""
    now = time.time()
    try:
        # The text form: `--json` changed between versions of Slurm.
        lines = _run("squeue", "-h", "-r", "-o", "%i|%T|%r|%N|%S").splitlines()
    except LscError:
        return None
    rows = [line.split("|") for line in lines if line.count("|") >= 4]
    # Slurm writes "None" where a job waits for nothing.
    found = {row[0]: Scheduler(row[0], state=row[1], reason=row[2].replace("None", ""), node=row[3]) for row in rows}
    return Jobs(now, found)


# When `jobs` looked, and what it found.
_latest: tuple[float, Jobs | None] = (-math.inf, None)


def jobs() -> Jobs | None:
    """`query`, at most once in `KEEP_SECONDS` for the whole process."""
    global _latest
    with _lock:
        if time.monotonic() - _latest[0] > KEEP_SECONDS:
            _latest = time.monotonic(), query()
        return _latest[1]


def forget() -> None:
    """Let the next `jobs` look again."""
    global _latest
    _latest = -math.inf, None


def max_array_size() -> int:
    """How many tasks an array can have here; Slurm's own default where that cannot be learned."""
    with contextlib.suppress(LscError):
        if found := re.search(r"^MaxArraySize\s*=\s*(\d+)", _run("scontrol", "show", "config"), re.MULTILINE):
            return max(1, int(found[1]))
    return 1001


def state_of(job: str) -> str:
    """The state of one job, as in RUNNING; "" if Slurm has it no more."""
    return _run("squeue", "-h", "-r", "-j", job, "-o", "%T").strip()


def requeue(job: str) -> None:
    """End this job and let it wait for its turn again; `job` names one task, since the number of an array names all."""
    _run("scontrol", "requeue", job)


def cancel(names: Collection[str], *, pending_only: bool = False) -> None:
    """Cancel jobs or whole arrays; with `pending_only` what has begun goes on."""
    if names:
        _run("scancel", *(["--state=PENDING"] if pending_only else []), *names)
        forget()


def submit(script: Path, after: Sequence[str]) -> str:
    """Submit a script, to begin when the jobs `after` have ended in whatever way. The number of its job."""
    dependency = [f"--dependency=afterany:{':'.join(after)}"] if after else []
    forget()
    return _run("sbatch", "--parsable", *dependency, str(script)).strip().partition(";")[0]


def _run(program: str, *words: str) -> str:
    options: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace", "timeout": _PROGRAM_SECONDS}
    try:
        done = subprocess.run([program, *words], stdin=subprocess.DEVNULL, **options)
    except OSError as error:
        raise LscError(f"{program} cannot be started here: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise LscError(f"{program} did not answer within {_PROGRAM_SECONDS:.0f} s") from None
    if done.returncode:
        lines = (re.sub(rf"^({program}: )*(error: )?", "", line).strip() for line in done.stderr.splitlines())
        raise LscError(f"{program}: {'; '.join(filter(None, lines)) or f'exit code {done.returncode}'}")
    return done.stdout
