"""The standard streams as a program needs them: open, and able to take any text, whatever the locale's encoding."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def open_streams() -> None:
    """Called first. Closed streams lead to /dev/null: what is opened next would otherwise take their place. A character
    that the encoding of stdout or stderr lacks, or a file name that is not UTF-8, is shown by its number."""
    with contextlib.suppress(OSError):
        while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(lowest, True)
        os.close(lowest)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_terminal(stream: object) -> bool:
    """Whether a stream is a terminal that takes escape codes."""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty()) and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def shows_unicode(stream: object) -> bool:
    """Whether any character can be written to a stream; one without an encoding keeps text as it is."""
    encoding = getattr(stream, "encoding", None)
    return not encoding or str(encoding).lower().replace("-", "").startswith("utf")
