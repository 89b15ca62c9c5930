"""Training processes that outlive the terminal and the viewer that started them: in a session of their own, without
input, ignoring SIGHUP, with a file for what they print."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import last_line, writing
from lsc_engine.runs.folder.layout import launch_log
from lsc_engine.runs.folder.process import DETACHED, process_start, python_command, this_process
from lsc_engine.studies import control
from lsc_engine.studies.prepare import StudyRun

# The shell sets SIGHUP to be ignored, which the program inherits, and SIGUSR1, which would end it until it listens.
# Code between fork and exec is unsafe in a threaded viewer.
_IGNORE_HANGUP = 'trap "" HUP USR1; exec "$@"'
# The descriptor into which a started process writes once its work has begun.
_BEGUN = "LSC_SIGN_OF_LIFE"
BEGIN_SECONDS = 90.0
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class Launched:
    """A detached process after its first moments: `code` if it has ended already, and its last line."""

    pid: int
    code: int | None
    last: str


def detach_study(words: Sequence[str], study: str, runs: Sequence[StudyRun], runs_dir: Path) -> tuple[Launched, Path]:
    """Start `lsc-engine` with `words` in the background to train `runs`, which are queued for it. Returns when it
    has begun to train, and its log. LscError with its last words if it ended before."""
    log = launch_log(runs_dir, study)

    def started(pid: int) -> None:
        who = replace(this_process(), pid=pid, pid_start=process_start(pid) or 0.0)
        for run in runs:
            if run.action != "done":
                control.enqueue(run.folder, run.attempts, who)

    first = launch(python_command("-m", "lsc_engine", *words), log, started)
    if first.code:
        how = f"ended at once with exit code {first.code}" if first.code > 0 else f"was killed by signal {-first.code}"
        text = f"the detached process {how}: {first.last or 'it printed nothing'}. Its log: {log}"
        raise UsageError(text) if first.code == 2 else LscError(text)
    return first, log


def detach(argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Start `argv` detached, its output appended to `log`, with `env` and `DETACHED` = 1 added to this environment. Its
    pid; LscError if it cannot be started."""
    return _start(argv, log, env or {}, cwd, ()).pid


def launch(
    argv: Sequence[str], log: Path, started: Callable[[int], None] = lambda pid: None, *, seconds: float = BEGIN_SECONDS
) -> Launched:
    """`detach`, call `started` with the pid, then wait until the process reports by `report_begun` that its work has
    begun, or ends, or `seconds` are over."""
    before = log.stat().st_size if log.is_file() else 0
    ours, theirs = os.pipe()
    try:
        child = _start(argv, log, {_BEGUN: str(theirs)}, None, (theirs,))
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        started(child.pid)
        ready, _, _ = select.select([ours], [], [], seconds)
        # Nothing to read means that every copy of the other end is closed: the process has ended, or soon has.
        silent = bool(ready) and not os.read(ours, 1)
    finally:
        os.close(ours)
    if silent:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
    return Launched(child.pid, child.poll(), last_line(log, before))


def report_begun() -> None:
    """Let the process that launched this one know that the work has begun; nothing if none waits for it."""
    number = os.environ.pop(_BEGUN, "")
    if number.isdigit():
        with contextlib.suppress(OSError):
            os.write(int(number), b".")
            os.close(int(number))


def _start(
    argv: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path | None, keep: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        child = subprocess.Popen(
            ["/bin/sh", "-c", _IGNORE_HANGUP, "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={**os.environ, DETACHED: "1", **env},
            start_new_session=True,
            pass_fds=keep,
        )
    except OSError as error:
        raise LscError(f"{argv[0]} cannot be started: {error.strerror}") from None
    finally:
        os.close(output)
    reap()
    _children.append(child)
    return child


def reap() -> None:
    """Collect detached processes that have ended, so that none stays a zombie of a long-lived viewer."""
    _children[:] = [child for child in _children if child.poll() is None]
