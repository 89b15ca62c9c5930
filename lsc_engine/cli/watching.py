"""Runs that train in worker processes, shown as those of this process are: by what they write into their folders."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lsc_engine.cli.output import say
from lsc_engine.cli.progress import Bars, Lines
from lsc_engine.runs.folder.status import read_status
from lsc_engine.runs.read.logs import LogTail

if TYPE_CHECKING:
    from lsc_engine.studies.runner import Job

_STATUS_SECONDS = 1.0


class Watch:
    """Log lines of every run with its name before them, or a bar for each, as `shown` has it."""

    def __init__(self, shown: Lines | Bars) -> None:
        self._shown = shown
        self._tails: dict[str, LogTail] = {}
        self._looked: dict[str, float] = {}

    def begin(self, job: Job, place: str) -> None:
        """The run starts at `place`."""
        self._shown.begin(job.id)
        if isinstance(self._shown, Lines):
            say(f"{job.id}: on {place}")
            self._tails[job.id] = tail = LogTail(job.folder / "log.txt")
            # What earlier attempts printed has been seen.
            for _ in tail.chunks():
                pass

    def look(self, job: Job) -> None:
        """Tell what is new."""
        if isinstance(self._shown, Lines):
            for chunk in self._tails[job.id].chunks():
                for line in chunk.splitlines():
                    say(f"{job.id}: {line}")
        elif time.monotonic() - self._looked.get(job.id, 0.0) > _STATUS_SECONDS:
            self._looked[job.id] = time.monotonic()
            status = read_status(job.folder)
            if status.total_steps:
                self._shown.update(job.id, status.step, status.total_steps, status.metrics, status.eta)

    def end(self, job: Job, state: str, why: str = "") -> None:
        """The run ended, or was never started; `why` it is left to another process."""
        if why:
            self._shown.note(f"{job.id}: {why}")
            return
        if job.id not in self._tails and job.id not in self._looked:
            self._shown.begin(job.id)
        else:
            self._looked.pop(job.id, None)
            self.look(job)
        self._shown.end(job.id, state, read_status(job.folder).message)
