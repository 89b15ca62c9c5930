"""trackio: its SQLite file, without its server. A row has its place in metrics.jsonl as its id: written again it is the
same row."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lsc_engine.mirrors.base import Facts, Mirror, Row


class Tool(Mirror):
    """A run of a trackio project that holds no other."""

    def __init__(self, run: Facts, folder: Path, state: Mapping[str, Any]) -> None:
        super().__init__(run, folder, state)
        # Read when the package is imported.
        os.environ["TRACKIO_DIR"] = str(folder)
        from trackio.sqlite_storage import SQLiteStorage

        self._storage = SQLiteStorage
        self.goes_on = SQLiteStorage.get_log_count(run.project, run.name) > 0

    def write(self, rows: Sequence[Row]) -> None:
        self._storage.bulk_log(
            self.run.project,
            self.run.name,
            [row.metrics for row in rows],
            steps=[row.step for row in rows],
            timestamps=[datetime.fromtimestamp(self.run.began + row.seconds, UTC).isoformat() for row in rows],
            config={**self.run.settings, "run": {"id": self.run.id}},
            log_ids=[f"{self.run.unique}-{row.offset}" for row in rows],
        )

    def go_back(self, step: int) -> int:
        self._storage.delete_run(self.run.project, self.run.name)
        return 0

    def end(self, state: str, exit_code: int) -> None:
        """Nothing is left to write."""
