"""MLflow: its file store (`EXPERIMENT/RUN/metrics/NAME`, lines of milliseconds, value and step) and its SQLite
database. Ids are experiment, name of the run and the first eight digits of its MLflow id."""

from __future__ import annotations

import math
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from lsc_engine.common.safe_io import UnreadableError, read_bytes
from lsc_engine.runs.metrics.parsing import columns_of
from lsc_engine.runs.read.foreign.log import Decoder, FileLog, NewRows, changed, number, numbers, whole
from lsc_engine.runs.read.foreign.sqlite import Database, columns, printable
from lsc_engine.runs.read.foreign.tables import Lines

META = "meta.yaml"
_ENDS = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "failed", "3": "finished", "4": "failed", "5": "failed"}
_FIELD = re.compile(r"(?m)^(\w+): *(.*?) *\r?$")
_MOST_NAMES = 1000


def _name(experiment: str, run: str, identifier: str) -> str:
    return f"{printable(experiment)}/{printable(run)}-{printable(identifier)[:8]}"


def _setting(text: str) -> Any:
    """A parameter, which MLflow keeps as text, as the number it is."""
    found = number(text)
    return text if found is None else int(found) if text.lstrip("+-").isdecimal() and len(text) < 16 else found


class MetricLines(Lines):
    """The file of one metric."""

    def __init__(self, name: str, began: float) -> None:
        self.name, self.began = name, began

    def take(self, lines: list[str], rows: NewRows) -> None:
        """Lines of milliseconds, value and step, which those of old versions lack."""
        parts = [[*part, "0"][:3] for line in lines if len(part := line.split(" ")) in (2, 3)]
        if parts:
            times, values, steps = zip(*parts, strict=True)
            at, seconds = numbers(*whole(times))
            rows.add(steps, {self.name: whole(values)}, time=(at, (seconds - self.began) / 1000))


def _meta(folder: Path) -> dict[str, str]:
    """meta.yaml as MLflow writes it, one `name: value` a line; an empty one where it is not there."""
    try:
        text = read_bytes(folder / META, 1 << 16).decode("utf-8", "replace")
    except UnreadableError:
        return {}
    return {name: value.strip("'\"") for name, value in _FIELD.findall(text)}


class MlflowFiles(FileLog):
    """A run of the file store."""

    origin, decoder, attempts = "mlflow", MetricLines, False
    own_folders: ClassVar[frozenset[str]] = frozenset({"metrics", "params", "tags", "inputs", "outputs"})

    @classmethod
    def find(cls, folder: Path, names: Sequence[str]) -> list[Self]:
        """A folder whose meta.yaml names a run that was not deleted."""
        meta = _meta(folder) if META in names else {}
        if not meta.keys() & {"run_id", "run_uuid"} or meta.get("lifecycle_stage") == "deleted":
            return []
        experiment = _meta(folder.parent).get("name") or folder.parent.name
        return [cls(folder, _name(experiment, meta.get("run_name") or "run", folder.name))]

    def identifier(self, folder: str, several: bool) -> str:
        return f"{folder.rpartition('/')[0].rpartition('/')[0]}/{self.name}".lstrip("/")

    def files(self) -> list[Path]:
        return sorted(_below(self.folder / "metrics"))

    def decoder_of(self, path: Path) -> Decoder:
        began = number(_meta(self.folder).get("start_time"))
        return MetricLines(path.relative_to(self.folder / "metrics").as_posix(), began or 0.0)

    def written(self) -> float:
        return max(super().written(), changed(self.folder / META))

    def state(self) -> str | None:
        return _ENDS.get(_meta(self.folder).get("status", ""))

    def settings(self) -> dict[str, Any]:
        found = {}
        for path in _below(self.folder / "params"):
            try:
                text = read_bytes(path, 1 << 16).decode("utf-8", "replace")
            except UnreadableError:
                continue
            found[path.relative_to(self.folder / "params").as_posix()] = _setting(text)
        return found


def _below(folder: Path) -> Iterator[Path]:
    """The files below `folder`, links passed over."""
    count = 0
    for above, _, names in os.walk(folder):
        for name in names:
            count += 1
            if count > _MOST_NAMES:
                return
            yield Path(above) / name


class MlflowDatabase(Database):
    """A run of the database."""

    origin, content = "mlflow", "timestamp, key, value, step, is_nan"

    @classmethod
    def runs_of(cls, found: sqlite3.Connection, folder: Path, file: str) -> list[Self]:
        if not {"key", "value", "timestamp", "run_uuid", "step", "is_nan"} <= columns(found, "metrics"):
            return []
        runs = found.execute(
            "select run_uuid, runs.name, experiments.name from runs left join experiments using (experiment_id)"
            " where runs.lifecycle_stage = 'active' order by start_time limit 10000"
        ).fetchall()
        return [
            cls(folder, _name(experiment or "Default", name or "run", run), file, str(run), "run_uuid")
            for run, name, experiment in runs
        ]

    def __init__(self, folder: Path, name: str, file: str, run: str, key: str) -> None:
        super().__init__(folder, name, file, run, key)
        self._began: float | None = None
        self._state: str | None = None

    def add(self, part: Sequence[Sequence[Any]], rows: NewRows) -> int:
        times, keys, values, steps, nan = zip(*part, strict=True)
        at, when = numbers(*whole(times))
        if when.size:
            self._began = when[0] if self._began is None else self._began
            self.newest = max(self.newest, when.max() / 1000)
        cells = [{str(key): math.nan if no else n} for key, n, no in zip(keys, values, nan, strict=True)]
        rows.add(steps, columns_of(cells), time=(at, (when - (self._began or 0.0)) / 1000))
        return sum(len(row[1]) for row in part if isinstance(row[1], str))

    def refresh(self, found: sqlite3.Connection) -> None:
        row = found.execute("select status, start_time from runs where run_uuid = ?", (self.run,)).fetchone()
        if row is not None:
            self._state, began = _ENDS.get(str(row[0])), number(row[1])
            self._began = self._began if began is None else began

    def state(self) -> str | None:
        return self._state

    def settings_in(self, found: sqlite3.Connection) -> dict[str, Any]:
        chosen = found.execute("select key, value from params where run_uuid = ? limit 10000", (self.run,))
        return {str(key): _setting(str(value)) for key, value in chosen}
