"""What is written of a run into the log of another tool, and what a tool has to offer for it (`Mirror`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Row:
    """A line of metrics.jsonl that begins at byte `offset`; `values` holds epoch and time too."""

    offset: int
    step: int
    attempt: int
    values: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """Training seconds so far; 0 where unknown."""
        time = self.values.get("time", 0.0)
        return time if time == time else 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """The values without `time`, which tools keep as the time of a row."""
        return {name: value for name, value in self.values.items() if name != "time"}


@dataclass(frozen=True)
class Facts:
    """The run: its id `study/variant/seed-0`, its preset as tables, when it began (Unix seconds), a word that no other
    run has; its study without a slash, and `variant/seed-0`."""

    id: str
    settings: Mapping[str, Any]
    began: float
    unique: str
    project: str
    name: str


class Mirror(ABC):
    """One run in the log of one tool, in a folder of its own. Rows come in order of steps and attempts; one that is
    written again after a crash must not count twice."""

    # Whether what was written before is all there, so that writing goes on; otherwise all rows are written again.
    goes_on: bool = False
    # Files of `folder` that are not the tool's.
    OURS: ClassVar[Sequence[str]] = ("mirror.json", "mirror.log", ".lock")

    def __init__(self, run: Facts, folder: Path, state: Mapping[str, Any]) -> None:
        """`state`: what `state` returned after the last write that is known to be whole."""
        self.run, self.folder = run, folder

    @abstractmethod
    def write(self, rows: Sequence[Row]) -> None:
        """Append rows; returns when they survive the end of this process."""

    @abstractmethod
    def go_back(self, step: int) -> int:
        """Drop all rows from `step` on, or more; the step from which the others have to be written again."""

    def state(self) -> dict[str, Any]:
        """What the next process needs to go on here, as JSON."""
        return {}

    @abstractmethod
    def end(self, state: str, exit_code: int) -> None:
        """All rows are written and the run has ended: finished, stopped, failed, diverged or lost."""
