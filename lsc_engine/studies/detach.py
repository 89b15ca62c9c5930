"""Training processes that outlive the terminal and the viewer that started them: in a session of their own, without
input, ignoring SIGHUP, with a file for what they print."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Sequence
from dataclasses import replace
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


def detach_study(
    words: Sequence[str], study: str, runs: Sequence[StudyRun], runs_dir: Path
) -> tuple[subprocess.Popen[bytes], Path]:
    """Start `lsc-engine` with `words` in the background to train `runs`, which are queued for it. Returns when it
    has begun to train (`report_begun`) or has ended already, and its log. LscError with its last words if it failed."""
    log = launch_log(runs_dir, study)
    before = log.stat().st_size if log.is_file() else 0
    ours, theirs = os.pipe()
    try:
        child = detach(python_command("-m", "lsc_engine", *words), log, begun=theirs)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        who = replace(this_process(), pid=child.pid, pid_start=process_start(child.pid) or 0.0)
        for run in runs:
            if run.action != "done":
                control.enqueue(run.folder, run.attempts, who)
        ready, _, _ = select.select([ours], [], [], BEGIN_SECONDS)
        # Nothing to read means that every copy of the other end is closed: the process has ended, or soon has.
        silent = bool(ready) and not os.read(ours, 1)
    finally:
        os.close(ours)
    if silent:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(BEGIN_SECONDS)
    if code := child.poll():
        how = f"ended at once with exit code {code}" if code > 0 else f"was killed by signal {-code}"
        text = f"the detached process {how}: {last_line(log, before) or 'it printed nothing'}. Its log: {log}"
        raise UsageError(text) if code == 2 else LscError(text)
    return child, log


def report_begun() -> None:
    """Let the process that launched this one know that the work has begun; nothing if none waits for it."""
    number = os.environ.pop(_BEGUN, "")
    if number.isdigit():
        with contextlib.suppress(OSError):
            os.write(int(number), b".")
            os.close(int(number))


def detach(argv: Sequence[str], log: Path, *, begun: int | None = None) -> subprocess.Popen[bytes]:
    """Start `argv` detached, its output appended to `log`, with `DETACHED` = 1 added to this environment; `begun`: the
    descriptor into which it reports that its work has begun. LscError if it cannot be started."""
    env = {**os.environ, DETACHED: "1"} | ({} if begun is None else {_BEGUN: str(begun)})
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _IGNORE_HANGUP, "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
            pass_fds=() if begun is None else (begun,),
        )
    except OSError as error:
        raise LscError(f"{argv[0]} cannot be started: {error.strerror}") from None
    finally:
        os.close(output)
