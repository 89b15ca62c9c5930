"""What a command prints and how it ends: JSON or tables on stdout, messages on stderr, one exit code.

Exit codes: 0 done · 1 failed · 2 bad usage or preset · 3 diverged · 143 SIGTERM · 130 Ctrl-C · 129 SIGHUP.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lsc_engine.errors import LscError
from lsc_engine.streams import is_terminal, shows_unicode

if TYPE_CHECKING:
    from rich.console import Console


# What writing to a full disk, a lost connection, or a stdout that is open for reading only or never waits fails with.
_UNWRITABLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE, errno.ECONNRESET, errno.EAGAIN,
)  # fmt: skip


def printable(text: str) -> str:
    """`text` without control characters, so that no file can send an escape sequence to the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def say(text: str) -> None:
    """A message for the user, on stderr; one that is closed or on a full disk ends no training."""
    _to_stderr(f"{printable(text)}\n")


def _to_stderr(text: str) -> None:
    """Write as far as it goes."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


@contextlib.contextmanager
def results() -> Iterator[None]:
    """For what a training tells on stdout at its end: a full disk or closed pipe does not change its exit code."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        give_up_stdout(error)


def give_up_stdout(error: OSError) -> None:
    """Say that stdout cannot be written, and write nothing more to it."""
    say(f"the results cannot be printed: {error.strerror or error}")
    # What is still buffered would fail again when Python ends.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def of_stdout(error: OSError) -> bool:
    """Does `error` come from writing to stdout? Of what concerns a file, the error knows the name."""
    return error.filename is None and error.errno in _UNWRITABLE


class Screen:
    """stderr for bars that are redrawn: writing to a terminal that is gone does nothing."""

    def write(self, text: str) -> int:
        """Write as far as it goes."""
        _to_stderr(text)
        return len(text)

    def flush(self) -> None:
        """Flush as far as it goes."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def fail(error: LscError) -> None:
    """The sentences of `error`, one a line, on stderr, in red on a terminal."""
    colour = is_terminal(sys.stderr) and not os.environ.get("NO_COLOR")
    for line in str(error).splitlines():
        text = printable(line)
        _to_stderr(f"\x1b[31m{text}\x1b[0m\n" if colour else f"{text}\n")


def emit_json(document: Any) -> None:
    """One JSON document on stdout; numbers that are not finite become null, control characters are escaped."""
    text = json.dumps(_finite(document), ensure_ascii=not shows_unicode(sys.stdout), indent=2, default=str)
    sys.stdout.write(re.sub("[^\n -~]", _escaped, text) + "\n")


def _escaped(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]


def console(stderr: bool = False) -> Console:
    """A rich console: escape codes only on a terminal that takes them, colour never with NO_COLOR."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, highlight=False, force_terminal=is_terminal(stream), soft_wrap=not stream.isatty(),
    )  # fmt: skip


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
