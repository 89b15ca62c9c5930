"""A run and where to train it, as it reaches the process that trains it: this one, or a worker as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Job:
    """The run that a process trains, and where; a job of Slurm is `slurm.Scheduler`. `like`: the folder of a run whose
    images it must have; `changes`: the settings, by dotted key, that differ from those in the run folder."""

    folder: Path
    runs_dir: Path
    device: str = "auto"
    data_dir: Path | None = None
    plugins: tuple[Path, ...] = ()
    like: Path | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The argument of a worker's command line."""
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(text: str) -> Job:
        """What `to_json` wrote."""
        return TypeAdapter(Job).validate_json(text)
