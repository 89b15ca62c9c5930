"""Reading the embeddings of one run off the UI thread: what is new is read once, what is gone is forgotten."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.runs.folder.layout import EMBEDDINGS
from lsc_engine.runs.read.embeddings import Snapshot, list_snapshots, read_snapshot
from lsc_engine.runs.read.run import Run

# A folder that has not changed is looked into this often before its own time is trusted: file systems keep it coarsely.
_LOOKS = 3


@dataclass(frozen=True, eq=False)
class EmbeddingHistory:
    """The snapshots of a run in rising steps, why one could not be read, and the last of the run it started from."""

    shots: tuple[Snapshot, ...] = ()
    problem: str = ""
    before: Snapshot | None = None


class SnapshotReader:
    """Follows the snapshots of `run`; `start` is the folder of the run whose weights it began with, if that is here."""

    def __init__(self, run: Run, start: Path | None = None) -> None:
        self.path = run.path
        self._start = start
        self._known: dict[Path, tuple[tuple[int, int, int], Snapshot | None, str]] = {}
        self._before: Snapshot | None = None
        self._first = True
        self._changed: int | None = None
        self._unchanged = 0

    def poll(self) -> EmbeddingHistory | None:
        """All snapshots as they are now; None where nothing has changed since the last call."""
        if not self._first and self._still():
            return None
        listed = list_snapshots(self.path)
        fresh: dict[Path, tuple[tuple[int, int, int], Snapshot | None, str]] = {}
        for _, path in listed:
            try:
                info = os.lstat(path)
            except OSError:
                continue
            sign = (info.st_mtime_ns, info.st_size, info.st_ino)
            known = self._known.get(path)
            fresh[path] = known if known is not None and known[0] == sign else (sign, *_read(path))
        same = {path: entry[0] for path, entry in fresh.items()} == {p: e[0] for p, e in self._known.items()}
        if same and not self._first:
            return None
        if self._first and self._start is not None:
            ends = list_snapshots(self._start)
            self._before = _read(ends[-1][1])[0] if ends else None
        self._known, self._first = fresh, False
        problem = next((entry[2] for entry in fresh.values() if entry[2]), "")
        shots = tuple(entry[1] for entry in fresh.values() if entry[1] is not None)
        return EmbeddingHistory(shots, problem, self._before)

    def _still(self) -> bool:
        """Whether nothing has come, gone or been replaced for some looks."""
        try:
            changed = os.stat(self.path / EMBEDDINGS).st_mtime_ns
        except OSError:
            changed = None
        self._unchanged = self._unchanged + 1 if changed == self._changed else 0
        self._changed = changed
        return self._unchanged > _LOOKS


def _read(path: Path) -> tuple[Snapshot | None, str]:
    try:
        return read_snapshot(path), ""
    except UnreadableError as error:
        return None, str(error)
