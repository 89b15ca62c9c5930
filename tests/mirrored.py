"""Logs of other tools, read with their own packages, beside what a run logged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lsc_engine.runs.metrics.parsing import format_line
from lsc_engine.runs.read.run import Run

# Each prints {name: [[step, value], …]} of the folder of a tool, in the order in which they are found.
_READERS = {
    "tensorboard": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
log = EventAccumulator(place, size_guidance={"scalars": 0})
log.Reload()
for name in log.Tags()["scalars"]:
    found[name] = [[event.step, event.value] for event in log.Scalars(name)]
""",
    # Blocks of 32 768 bytes, of records (crc 4, length 2, kind 1); wandb itself has no reader of its files.
    "wandb": """
import glob
from wandb.proto.wandb_internal_pb2 import Record
(file,) = glob.glob(place + "/offline-run-*/*.wandb")
data, at, whole = open(file, "rb").read(), 7, b""
while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:
        at += 32768 - at % 32768
        continue
    length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
    whole = data[at + 7 : at + 7 + length] if kind in (1, 2) else whole + data[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (1, 4):
        record = Record()
        record.ParseFromString(whole)
        if record.HasField("history"):
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name in row:
                if not name.startswith("_") and name != "time":
                    found.setdefault(name, []).append([row["_step"], float(row[name])])
""",
    "mlflow": """
from mlflow import MlflowClient
client = MlflowClient(tracking_uri="sqlite:///" + place + "/mlflow.db")
(run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
assert run.data.params["target.system"] == "V21"
for name in run.data.metrics:
    history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda one: one.step)
    found[name] = [[one.step, one.value] for one in history]
""",
    "trackio": """
import glob, os
os.environ["TRACKIO_DIR"] = place
import trackio
from trackio.sqlite_storage import SQLiteStorage
(project,) = {os.path.basename(path)[:-3] for path in glob.glob(place + "/*.db")}
(run,) = trackio.Api().runs(project)
for row in SQLiteStorage.get_logs(project, run.name):
    for name, value in row.items():
        if name not in ("step", "timestamp"):
            found.setdefault(name, []).append([row["step"], float(value)])
""",
}


def read_back(tool: str, place: Path, python: str = sys.executable) -> dict[str, list[list[float]]]:
    """{name: [[step, value], …]} as the package of the tool reads it."""
    code = "import json, sys\nplace, found = sys.argv[1], {}\n" + _READERS[tool] + "\nprint(json.dumps(found))"
    done = subprocess.run([python, "-W", "ignore", "-c", code, str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def logged(run: Run, tool: str) -> dict[str, list[list[float]]]:
    """What the run logged, as `read_back` has it where all is right."""
    found: dict[str, list[list[float]]] = {}
    for name in run.metric_names():
        step, values, epoch, _ = run.axes(name)
        found[name.replace("@", "_") if tool == "mlflow" else name] = _pairs(step, values)
        epochs = dict(_pairs(step, epoch)) | dict(found.get("epoch", []))
        found["epoch"] = [[one, epochs[one]] for one in sorted(epochs)]
    return found


def _pairs(step: Any, values: Any) -> list[list[float]]:
    return [list(pair) for pair in zip(step.tolist(), values.tolist(), strict=True)]


def assert_same(found: dict[str, list[list[float]]], wanted: dict[str, list[list[float]]], tool: str) -> None:
    """Each step once, and its value. TensorBoard keeps float32, MLflow no infinity."""
    assert found.keys() == wanted.keys()
    for name, pairs in wanted.items():
        steps = list(dict.fromkeys(step for step, _ in found[name])) if name == "epoch" else [s for s, _ in found[name]]
        assert steps == [step for step, _ in pairs], (name, steps)
        values = dict(map(tuple, found[name]))
        for step, value in pairs:
            other = values[step]
            assert math.isclose(other, value, rel_tol=1e-6) or (math.isnan(other) and math.isnan(value)), (name, step)


def metrics_lines() -> Iterator[bytes]:
    """The metrics of a run of four attempts: killed and resumed at an earlier step; stopped with an evaluation that was
    owed, and done first by the next; resumed far back. Of values that are not finite, too."""
    yield from _attempt(1, range(1, 51))
    yield from _attempt(2, range(41, 64), owed=True)
    yield from _attempt(3, range(64, 67), first=_evaluated(3, 63))
    yield from _attempt(4, range(15, 1301))


def _attempt(number: int, steps: range, first: Iterable[bytes] = (), owed: bool = False) -> Iterator[bytes]:
    yield from first
    for step in steps:
        if step % 3 == 0:
            loss = math.nan if step == 30 and number == 4 else 1 / step + number
            values = {"train/loss": loss, "lr": 1e-3, "speed/images_per_second": 100.0 * number + step}
            yield format_line(step, step / 9, 0.25 * step, number, values)
        if step % 7 == 0 and not (owed and step == steps[-1]):
            yield from _evaluated(number, step)


def _evaluated(number: int, step: int) -> list[bytes]:
    values = {"val/accuracy": 1 - 1 / step, "eval/recall@1": 0.1 * number}
    return [format_line(step, step / 9, 0.25 * step, number, values)]
