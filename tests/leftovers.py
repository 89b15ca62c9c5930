"""Processes that a test leaves behind when it fails half way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def processes_in(folder: Path) -> Iterator[int]:
    """Processes other than this one that work in `folder` or name it in their command."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            if int(entry.name) != os.getpid() and (str(folder).encode() in words or _inside(entry / "cwd", folder)):
                yield int(entry.name)


def _inside(link: Path, folder: Path) -> bool:
    where = os.readlink(link)
    return where == str(folder) or where.startswith(f"{folder}{os.sep}")


def end_processes_in(folder: Path) -> None:
    """End what still works in the folder of a test, detached or not."""
    for pid in processes_in(folder):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
