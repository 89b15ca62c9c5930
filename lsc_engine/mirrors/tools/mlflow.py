"""MLflow: a SQLite store. A metric that is written again with its time and step is one there; where a run goes back it
is deleted, as MLflow calls it, and written anew as another run of the store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

from lsc_engine.mirrors.base import Facts, Mirror, Row
from lsc_engine.runs.settings import settings_of

_TAG = "lsc.run"
_ENDS = {"finished": "FINISHED", "stopped": "KILLED"}


class Tool(Mirror):
    """A run of an MLflow store that holds no other."""

    def __init__(self, run: Facts, folder: Path, state: Mapping[str, Any]) -> None:
        super().__init__(run, folder, state)
        self._client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        found = self._client.get_experiment_by_name(run.project)
        place = (folder / "artifacts").as_uri()
        self._experiment = found.experiment_id if found else self._client.create_experiment(run.project, place)
        known = self._client.search_runs([self._experiment])
        self.goes_on = bool(known)
        self._id = known[0].info.run_id if known else self._create()
        self._client.update_run(self._id, status="RUNNING")

    def _create(self) -> str:
        name, began = self.run.name, round(1000 * self.run.began)
        created = self._client.create_run(self._experiment, start_time=began, run_name=name)
        number = str(created.info.run_id)
        settings = {**settings_of(self.run.settings), "run": self.run.id, "seed": self.run.settings.get("seed", 0)}
        params = [Param(_key(key), str(value)[:MAX_PARAM_VAL_LENGTH]) for key, value in settings.items()]
        for at in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(number, params=params[at : at + MAX_PARAMS_TAGS_PER_BATCH])
        self._client.log_batch(number, tags=[RunTag(_TAG, self.run.id)])
        return number

    def write(self, rows: Sequence[Row]) -> None:
        """Each value with the time in ms."""
        found = [
            Metric(_key(name), value, round(1000 * (self.run.began + row.seconds)), row.step)
            for row in rows
            for name, value in row.metrics.items()
        ]
        for at in range(0, len(found), MAX_METRICS_PER_BATCH):
            self._client.log_batch(self._id, metrics=found[at : at + MAX_METRICS_PER_BATCH])

    def go_back(self, step: int) -> int:
        self._client.delete_run(self._id)
        self._id = self._create()
        return 0

    def end(self, state: str, exit_code: int) -> None:
        self._client.set_terminated(self._id, _ENDS.get(state, "FAILED"))


def _key(name: str) -> str:
    """`name` with an underscore for every character that MLflow does not take."""
    return re.sub(r"[^\w\-. :/]", "_", name)
