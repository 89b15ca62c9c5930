"""Starting the processes that write mirrors, and ending those that hang. No package of another tool is loaded here, nor
in the training, which only starts this as a process of its own (`begin`)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lsc_engine
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import counted
from lsc_engine.common.safe_io import UnreadableError, last_line, read_tail
from lsc_engine.mirrors.follow import LEAST_FREE, Position, has_ended, place_of
from lsc_engine.runs.folder.layout import METRICS, MIRRORS
from lsc_engine.runs.folder.lock import is_locked
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.read.run import Run

# Another Python to write mirrors with, where the packages of the tools are.
PYTHON = "LSC_MIRROR_PYTHON"
# Without a sign of life for so long a process hangs.
HANG_SECONDS = 300.0
# After the end of the run, one that fails is tried again for so long.
LAST_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_LONGEST_REST = 60.0
# Only rows of our own are to be written, and only into the run folder.
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "WANDB_ERROR_REPORTING": "false",
}  # fmt: skip
_PREFIXES = ("WANDB_", "MLFLOW_", "TRACKIO_")
_FIND = "import importlib.util as u, sys; print(*(n for n in sys.argv[1:] if u.find_spec(n) is None))"


def _python() -> str:
    return os.environ.get(PYTHON) or sys.executable


def check_tools(tools: Iterable[str], key: str = "log.also") -> None:
    """UsageError with `key`, which named them, and the pip line for tools whose package is not installed."""
    if not (wanted := list(dict.fromkeys(tools))):
        return
    try:
        found = subprocess.run([_python(), "-P", "-c", _FIND, *wanted], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"{PYTHON}: {_python()} cannot be run: {error}") from None
    where = f" for {_python()}" if os.environ.get(PYTHON) else ""
    if missing := found.stdout.split():
        how = "is not installed{0}: pip install 'lsc[{1}]', or pip install {1}"
        raise UsageError(*(f"{key}: {tool} {how.format(where, tool)}" for tool in missing))


def begin(folder: Path, tools: Sequence[str]) -> None:
    """Start a process that writes the mirrors of a run and outlives this one. Raises OSError."""
    words = [word for tool in tools for word in ("--to", tool)]
    command = python_command("-m", "lsc_engine", "mirror", str(folder.absolute()), *words)
    # Put into the background by the shell, it is no child of this process. Linux weighs sessions against each other:
    # without the first line, a new one would get as much of the processors as the training.
    code = '(echo 10 > /proc/self/autogroup) 2> /dev/null; nice "$@" &'
    subprocess.run(
        ["/bin/sh", "-c", code, "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
    )


@dataclass(frozen=True)
class MirrorState:
    """How far a mirror is: the last step, how many lines it is behind, whether a process writes it, and the sentence of
    the last failure."""

    tool: str
    step: int
    behind: int
    active: bool
    error: str | None

    def __str__(self) -> str:
        lines = f"{counted(self.behind, 'line')} behind"
        failed = f"failed: {self.error}" if self.error else ""
        place = lines if self.behind or self.error else f"up to step {self.step}"
        idle = "not running" if self.behind and not self.active else ""
        return f"{self.tool} {', '.join(filter(None, (failed, place, idle)))}"


def states(folder: Path) -> list[MirrorState]:
    """The mirrors of a run."""
    found = []
    for file in sorted((folder / MIRRORS).glob("*/mirror.json")):
        position, behind = Position.read(folder, file.parent.name), 0
        with contextlib.suppress(UnreadableError):
            behind = read_tail(folder / METRICS, 16 << 20, position.offset).count(b"\n")
        found.append(MirrorState(file.parent.name, position.step, behind, is_locked(file.parent), position.error))
    return found


class _Supervised:
    """The process of one mirror, started again when it ends before its time."""

    def __init__(self, run: Run, tool: str, hang: float, last: float, least_free: int) -> None:
        self._run, self._tool, self._hang, self._last = run, tool, hang, last
        self._place = place_of(run.path, tool)
        root = str(Path(lsc_engine.__file__).parents[1])
        code = f"import sys; sys.path.append({root!r}); from lsc_engine.mirrors.follow import main; main()"
        self._command = [_python(), "-P", "-c", code, str(run.path.absolute()), tool, str(least_free)]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._failures, self._next = 0, 0.0
        # When mirror.json was last changed, and when that was seen.
        self._beat: tuple[float, float] = (0.0, 0.0)
        # The place reached at the last failure, and the time since when nothing was written after the end of the run.
        self._offset, self._since = -1, 0.0

    def look(self) -> bool:
        """Start or end the process as needed. Whether the mirror is over: complete, or given up."""
        now = time.monotonic()
        if not self._run.path.is_dir():
            return True
        if self._process is None:
            return now >= self._next and self._start(now)
        code = self._process.poll()
        if code is None:
            if (changed := self._changed()) != self._beat[0]:
                self._beat = (changed, now)
            if now - self._beat[1] <= self._hang:
                return False
        self.end()
        if code is None:
            given_up = self._failed(f"no sign of life for {self._hang:.0f} s", now)
            return given_up or has_ended(self._run.status())
        printed = last_line(self._place / "mirror.log") or f"exit code {code}"
        return code == 0 or self._failed(f"killed by signal {-code}" if code < 0 else printed, now)

    def _start(self, now: float) -> bool:
        try:
            if self._lock is None:
                self._place.mkdir(parents=True, exist_ok=True)
                lock = os.open(self._place / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    if isinstance(error, BlockingIOError):
                        # Another process writes it and will end: perhaps before it has seen the newest attempt.
                        os.close(lock)
                        self._next = now + 1.0
                        return False
                # Also on a file system without locks.
                self._lock = lock
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            log = os.open(self._place / "mirror.log", flags, 0o666)
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={k: v for k, v in os.environ.items() if not k.startswith(_PREFIXES)} | _ENVIRONMENT,
                    process_group=0,
                    # Held as long as one of the two lives.
                    pass_fds=(self._lock,),
                )
            finally:
                os.close(log)
            self._beat = (self._changed(), now)
        except OSError as error:
            return self._failed(f"it cannot be started: {error.strerror}", now)
        return False

    def _changed(self) -> float:
        with contextlib.suppress(OSError):
            return (self._place / "mirror.json").stat().st_mtime
        return 0.0

    def _failed(self, sentence: str, now: float) -> bool:
        """Keep what went wrong. Whether to give up: the run has ended, and nothing was written for long since."""
        position, ended = Position.read(self._run.path, self._tool), has_ended(self._run.status())
        moved, self._offset = position.offset != self._offset, position.offset
        self._since = now if moved or not ended else self._since
        self._failures = 1 if moved else self._failures + 1
        self._next = now + min(2.0**self._failures, self._last / 4 if ended else _LONGEST_REST)
        position.error = sentence
        with contextlib.suppress(OSError):
            # On a full disk `show` still sees that the mirror is behind.
            position.write(self._run.path, self._tool)
        return ended and now - self._since > self._last

    def end(self) -> None:
        """End the process and what it has started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    def close(self) -> None:
        """`end`, and leave the mirror to others."""
        self.end()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def supervise(
    run: Run, tools: Sequence[str], hang: float = HANG_SECONDS, last: float = LAST_SECONDS, least_free: int = LEAST_FREE
) -> list[MirrorState]:
    """Write the mirrors of a run until it has ended and all is written; how far they came. A process without a sign of
    life for `hang` seconds is ended; one that fails is started again, after the end of the run for `last` seconds."""
    every = left = [_Supervised(run, tool, hang, last, least_free) for tool in tools]
    try:
        while left := [one for one in left if not one.look()]:
            time.sleep(_LOOK_SECONDS)
    finally:
        for one in every:
            one.close()
    return [state for state in states(run.path) if state.tool in tools]
