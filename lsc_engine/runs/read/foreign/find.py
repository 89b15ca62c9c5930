"""Following a log of another tool, and where such logs lie below a runs folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.runs.folder.layout import PRESET, SEED, STATUS
from lsc_engine.runs.metrics.reader import MAX_METRICS, MetricsTable, MetricsTail
from lsc_engine.runs.read.foreign.log import Log, Names, NewRows, Replaced
from lsc_engine.runs.read.foreign.mlflow import MlflowDatabase, MlflowFiles
from lsc_engine.runs.read.foreign.tables import Csv, Jsonl
from lsc_engine.runs.read.foreign.tensorboard import TensorBoard
from lsc_engine.runs.read.foreign.trackio import Trackio
from lsc_engine.runs.read.foreign.wandb import Wandb

# Where a folder holds logs of several formats, the first is read.
FORMATS: tuple[type[Log], ...] = (TensorBoard, Wandb, MlflowFiles, Trackio, MlflowDatabase, Csv, Jsonl)
GROWING_SECONDS = 600.0
_MOST_AGAIN = 50
# Bytes whose rows are held as lists before they become arrays.
_PORTION = 8 << 20
_DEPTH = 8
_MOST_FOLDERS = 20_000
_PASSED = frozenset({"node_modules", "site-packages", "__pycache__", "checkpoints", "report"})


class ForeignTail(MetricsTail):
    """Follows a log as `MetricsTail` follows metrics.jsonl."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._names = Names(log.default_split)
        super().__init__(log.folder)

    def poll(self, budget: int = MAX_METRICS) -> int:
        """Read at most about `budget` new bytes into `table`; returns the number of new rows, never raises."""
        count = 0
        while budget > 0:
            before = self.waiting
            count += self._portion(min(budget, _PORTION))
            budget -= _PORTION
            if not self.behind or self.waiting == before:
                break
        return count

    def _portion(self, budget: int) -> int:
        for _ in range(_MOST_AGAIN):
            before = len(self.table)
            try:
                self.waiting = self.log.read(budget, NewRows(self._names, self.table))
                self.problem = self.log.problem
            except Replaced:
                # A new file, or an accuracy that turned out to be in per cent.
                percent = self._names.percent
                self.log, self._names = self.log.again(), Names(self.log.default_split)
                self._names.percent |= percent
                self._reset()
                self.generation += 1
                continue
            except UnreadableError as error:
                self.problem = str(error)
            else:
                self.behind = self.waiting > 0
            return len(self.table) - before
        return 0

    def sample(self, places: int) -> MetricsTable:
        """Rows at about `places` places all over the log, as far as it can be read."""
        names = Names(self.log.default_split)
        names.percent |= self._names.percent
        for _ in range(_MOST_AGAIN):
            table = MetricsTable()
            with suppress(UnreadableError):
                try:
                    self.log.again().sample(places, NewRows(names, table))
                except Replaced:
                    continue
            return table
        return MetricsTable()


def logs_in(folder: Path, names: list[str]) -> list[Log]:
    """The logs in `folder` itself, whose files are `names`: all of the first format that has any."""
    if PRESET in names or STATUS in names:
        return []
    return next((found for kind in FORMATS if (found := kind.find(folder, names))), [])


def runs_in(folder: Path, identifier: str, root: Path, names: list[str] | None = None) -> list[tuple[Log, str, Path]]:
    """Logs in one folder, called `identifier`, each with its id and `root`; of several each by its file or name."""
    if names is None:
        try:
            names = [entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
        except OSError:
            return []
    found: list[Log] = logs_in(folder, names)
    return [(log, log.identifier(identifier, len(found) > 1), root) for log in found]


def foreign_runs(root: Path) -> Iterator[tuple[Log, str, Path]]:
    """All logs of other tools below `root`, each with its id and root, in order of their folders. Our run folders,
    hidden folders and links are passed over; a search ends after 20 000 folders."""
    waiting, seen = [""], 0
    while waiting and seen < _MOST_FOLDERS:
        relative, seen = waiting.pop(), seen + 1
        depth = relative.count("/") + 1 if relative else 0
        names, below = list[str](), list[str]()
        try:
            with os.scandir(root / relative) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        # What lies where our runs lie is found with them.
                        ours = depth in (2, 3) and SEED.fullmatch(entry.name)
                        if not (ours or entry.name.startswith(".") or entry.name in _PASSED):
                            below.append(f"{relative}/{entry.name}".lstrip("/"))
                    elif entry.is_file(follow_symlinks=False):
                        names.append(entry.name)
        except OSError:
            continue
        found = runs_in(root / relative, relative, root, names)
        yield from found
        parts = {f"{relative}/{name}".lstrip("/") for log, *_ in found for name in log.own_folders}
        if depth < _DEPTH and not (PRESET in names or STATUS in names):
            waiting += sorted(set(below) - parts, reverse=True)
