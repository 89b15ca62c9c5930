"""Example runs that travel with the program: finished ones of real training, kept as one archive."""

from __future__ import annotations

import atexit
import shutil
import tarfile
import tempfile
from pathlib import Path

ARCHIVE = Path(__file__).parent / "demo_runs.tar.xz"


def demo_folder() -> Path | None:
    """A fresh temporary copy of the example runs, removed at the end; None where this build carries none."""
    if not ARCHIVE.is_file():
        return None
    folder = Path(tempfile.mkdtemp(prefix="lsc-demo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "runs"
