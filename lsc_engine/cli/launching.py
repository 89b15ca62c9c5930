"""From a planned study to trained runs: what `run`, `resume` and `fork` share.

Nothing is created before everything that can be wrong has been looked at. torch is imported only by the process that
trains; `--detach` starts that process and returns.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lsc_engine.cli.output import emit_json, say
from lsc_engine.config import RunConfig, StudyPlan, TunePlan, missing_data
from lsc_engine.errors import LscError, UsageError
from lsc_engine.runs import Run, open_run


@dataclass(frozen=True)
class Place:
    """Where a study trains: runs folder, data folder, device or GPUs, and the user's plugin files."""

    runs_dir: Path
    data_dir: Path | None
    device: str
    gpus: str | None
    plugins: tuple[Path, ...] = ()

    def arguments(self) -> list[str]:
        """The same place as command-line arguments of a worker."""
        data = ["--data-dir", str(self.data_dir)] if self.data_dir else []
        return data + [part for file in self.plugins for part in ("--plugin", str(file))]


def run_preset(plan: StudyPlan, place: Place, *, detach: bool, as_json: bool) -> None:
    """Train what is left of a study, tries of [tune] first, then print its curves and table. Exits with its code."""
    for warning in plan.warnings:
        say(f"note: {warning}")
    if plan.preset.kind != "train":
        raise UsageError(f'{plan.preset.path}: kind = "{plan.preset.kind}" makes a report and has nothing to train')
    missing = {line for run in plan.runs for line in missing_data(run.config, place.data_dir)}
    if missing:
        raise UsageError(*sorted(missing))
