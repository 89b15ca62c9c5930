"""trackio: a folder with an SQLite database per project, whose rows hold a step's metrics as JSON."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from lsc_engine.runs.metrics.parsing import columns_of
from lsc_engine.runs.read.foreign.log import NewRows, flat, whole
from lsc_engine.runs.read.foreign.sqlite import Database, columns, printable
from lsc_engine.runs.read.foreign.tables import parsed

_MOST_RUNS = 10_000
# Every value of the column by one search in its index each, however many rows there are.
_RUNS = """with recursive run(value) as (
    select min({key}) from metrics
    union all select (select min({key}) from metrics where {key} > value) from run where value is not null
) select value from run where value is not null limit {most}"""


class Trackio(Database):
    """A run; its id ends with project and name."""

    origin, content = "trackio", "timestamp, step, metrics"

    @classmethod
    def runs_of(cls, found: sqlite3.Connection, folder: Path, file: str) -> list[Self]:
        """By run_id, in versions without it by run_name; a name that is taken gets the beginning of its run_id."""
        names = columns(found, "metrics")
        if not {"id", "timestamp", "run_name", "step", "metrics"} <= names:
            return []
        key = "run_id" if "run_id" in names else "run_name"
        first = f"select timestamp, run_name, {key} from metrics where {key} = ? order by timestamp limit 1"
        runs = [found.execute(first, run).fetchone() for run in found.execute(_RUNS.format(key=key, most=_MOST_RUNS))]
        logs: dict[str, Self] = {}
        for _, called, run in sorted(filter(None, runs), key=str):
            name = f"{Path(file).stem}/{printable(called)}"
            name = name if name not in logs else f"{name}-{printable(run)[:8]}"
            logs.setdefault(name, cls(folder, name, file, str(run), key))
        return list(logs.values())

    def __init__(self, folder: Path, name: str, file: str, run: str, key: str) -> None:
        super().__init__(folder, name, file, run, key)
        self._began: float | None = None

    def add(self, part: Sequence[Sequence[Any]], rows: NewRows) -> int:
        times, steps, cells = zip(*part, strict=True)
        when = [_seconds(time) for time in times]
        if known := [second for second in when if second is not None]:
            self._began = known[0] if self._began is None else self._began
            self.newest = max(self.newest, *known)
        seconds = [None if second is None or self._began is None else second - self._began for second in when]
        columns = columns_of([dict(flat(parsed(cell))) for cell in cells])
        rows.add(steps, columns, time=whole(seconds), epoch=columns.pop("epoch", ([], [])))
        return sum(len(cell) for cell in cells if isinstance(cell, (str, bytes)))

    def settings_in(self, found: sqlite3.Connection) -> dict[str, Any]:
        if self.key not in columns(found, "configs"):
            return {}
        row = found.execute(f"select config from configs where {self.key} = ? limit 1", (self.run,)).fetchone()
        return {name: value for name, value in parsed(row[0] if row else None).items() if not name.startswith("_")}


def _seconds(time: object) -> float | None:
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
