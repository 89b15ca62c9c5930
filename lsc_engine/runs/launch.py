"""Starting a training process that outlives the terminal and the viewer that started it.

It runs in its own session, so no terminal can hang it up; reads nothing; ignores SIGHUP; and prints into a file.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lsc_engine.errors import LscError

# The shell sets SIGHUP to be ignored, which the program inherits, and SIGUSR1, which would end it until it listens.
# Code between fork and exec is unsafe in a threaded viewer.
_IGNORE_HANGUP = 'trap "" HUP USR1; exec "$@"'
# Tells the program that no terminal is meant to end it.
DETACHED = "LSC_DETACHED"
_children: list[subprocess.Popen[bytes]] = []


def detach(
    argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: str | Path | None = None
) -> int:
    """Start `argv` detached, its output appended to `log`; returns its pid. LscError when it cannot be started.

    `env` is added to this process's environment, and `DETACHED` = 1.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        output = os.open(log, flags, 0o644)
    except OSError as error:
        raise LscError(f"{log} cannot be written: {error.strerror}") from None
    try:
        child = subprocess.Popen(
            ["/bin/sh", "-c", _IGNORE_HANGUP, "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={**os.environ, DETACHED: "1", **(env or {})},
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        raise LscError(f"{argv[0]} cannot be started: {error.strerror}") from None
    finally:
        os.close(output)
    reap()
    _children.append(child)
    return child.pid


def reap() -> None:
    """Collect detached processes that have ended, so that none stays a zombie of a long-lived viewer."""
    _children[:] = [child for child in _children if child.poll() is None]
