"""When a checkpoint is due: by the preset's [checkpoint], again after the disk refused one, and never again where the
run folder is gone for good."""

from __future__ import annotations

import time
from pathlib import Path

from lsc_engine.config import Derived
from lsc_engine.errors import LscError

# A checkpoint that the disk refused is tried again after this time, whatever [checkpoint] says.
RETRY_SECONDS = 60.0
# Seconds that a run folder may be away, as while a network folder is mounted again.
GONE_PATIENCE = 30.0


class SaveTimes:
    """Keeps when the last checkpoint was begun, and since when none can be written."""

    def __init__(self, derived: Derived, folder: Path) -> None:
        self._every, self._also_at, self._folder = derived.checkpoint_every, derived.checkpoint_also_at, folder
        self._begun = time.monotonic()
        self._retry_at: float | None = None
        self._gone_since: float | None = None

    def due(self, step: int) -> bool:
        """Is a checkpoint to be written after `step`?"""
        now = time.monotonic()
        if self._retry_at is not None and now >= self._retry_at:
            return True
        if step in self._also_at or (self._every.steps and step % self._every.steps == 0):
            return True
        return self._every.seconds is not None and now - self._begun >= self._every.seconds

    def begin(self) -> float:
        """One is begun now; the time on the monotonic clock."""
        self._begun = time.monotonic()
        return self._begun

    def written(self) -> None:
        """It is there."""
        self._retry_at = self._gone_since = None

    def refused(self) -> None:
        """It could not be written. LscError when the run folder has been away for long: it was removed, and nothing
        learnt can be kept there."""
        now = time.monotonic()
        self._retry_at = now + RETRY_SECONDS
        if self._folder.is_dir():
            self._gone_since = None
            return
        self._gone_since = now if self._gone_since is None else self._gone_since
        if now - self._gone_since > GONE_PATIENCE:
            raise LscError(f"the run folder {self._folder} is gone, nothing can be kept there")
