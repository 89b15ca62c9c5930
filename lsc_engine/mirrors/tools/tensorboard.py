"""TensorBoard: one event file. A crash leaves at most a tail, which is cut off: what was whole is known by its size.
Where a run goes back, a SessionLog.START drops the steps from there on in every reader, as `purge_step` of a
SummaryWriter does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from lsc_engine.mirrors.base import Facts, Mirror, Row
from lsc_engine.runs.settings import settings_of


class Tool(Mirror):
    """The event file of a run."""

    def __init__(self, run: Facts, folder: Path, state: Mapping[str, Any]) -> None:
        super().__init__(run, folder, state)
        path = folder / f"events.out.tfevents.{run.began:.0f}.lsc"
        self._file = path.open("r+b" if path.exists() else "w+b")
        size = int(state.get("size", 0))
        self.goes_on = 0 < size <= path.stat().st_size
        self._file.seek(self._file.truncate(size if self.goes_on else 0))
        self._records = RecordWriter(self._file)
        if not self.goes_on:
            self._put(Event(wall_time=run.began, file_version="brain.Event:2"))
            plain = {
                key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
                for key, value in {**settings_of(run.settings), "run": run.id}.items()
            }
            self._put(Event(wall_time=run.began, summary=hparams_pb(plain, run.id, run.began)))
            self._file.flush()

    def _put(self, event: Event) -> None:
        self._records.write(event.SerializeToString())

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in row.metrics.items()]
            self._put(Event(wall_time=self.run.began + row.seconds, step=row.step, summary=Summary(value=values)))
        self._file.flush()

    def go_back(self, step: int) -> int:
        """Rows of that very step that stay have to be written again."""
        start = SessionLog(status=SessionLog.START)
        self._put(Event(wall_time=self.run.began, step=step, session_log=start))
        return step

    def end(self, state: str, exit_code: int) -> None:
        self._file.flush()

    def state(self) -> dict[str, Any]:
        return {"size": self._file.tell()}
