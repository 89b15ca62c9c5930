"""Run folders: written by one process, read by any. `open_run` is published; inside the project import the modules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsc_engine.runs.read.run import Run

__all__ = ["open_run"]


def open_run(ref: str | Path, dirs: Iterable[str | Path] | None = None, *, foreign: bool = False) -> Run:
    """The run that `ref` names: a path, an id, a short id or a part that only one id holds. UsageError otherwise.
    `dirs`: the runs folders to look in; default `$LSC_RUNS`, else ./runs. Loads no torch."""
    from lsc_engine.runs.read.run import open_run as open_by_name

    return open_by_name(ref, dirs, foreign=foreign)
