"""Logs of other tools in tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lsc_engine.runs.read.run import Run, list_runs
from tests import processes


def only(root: Path) -> Run:
    """The one run below a folder."""
    (run,) = list_runs([root], foreign=True)
    return run


def values(run: Run, name: str) -> dict[int, float]:
    """The values of a metric by step."""
    step, found = run.history(name)
    return dict(zip(step.tolist(), found.tolist(), strict=True))


def engine(root: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """What lsc-engine answers on a runs folder."""
    return processes.call(*words, "--runs-dir", root)
