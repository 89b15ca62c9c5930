"""Logs that the packages of other trackers wrote, read here: every step, value, time and name."""

import json
from datetime import datetime

import numpy as np
import pytest

from lsc_engine.runs.read.run import list_runs

pytestmark = pytest.mark.slow
STEPS = 30


def read(root):
    """Id -> name -> [steps, values, seconds], and the origins."""
    runs = list_runs([root], foreign=True)
    found = {}
    for run in runs:
        axes = {name: run.axes(name) for name in run.metric_names() if name not in ("time", "epoch")}
        found[run.id] = {name: [axis.tolist() for axis in (a[0], a[1], a[3])] for name, a in axes.items()}
        assert run.tail.problem is None
    return found, {run.id: run.origin for run in runs}


LOSS = [2.0 / (step + 1) for step in range(STEPS)]


def test_events_of_both_writers(tmp_path, trackers):
    for package, module in (("tensorboardX", "tensorboardX"), ("tensorboardX", "torch.utils.tensorboard")):
        code = f"""
import sys
from {module} import SummaryWriter
with SummaryWriter(sys.argv[1]) as writer:
    for step in range({STEPS}):
        writer.add_scalar("Loss/train", 2.0 / (step + 1), step, walltime=1000.25 + step)
        writer.add_scalar("val/acc", step / 100, step, walltime=1000.25 + step)
        writer.add_scalar("nan", float("nan"), step, walltime=1000.25 + step)
    writer.add_text("note", "hello", 3)
"""
        trackers.run(package, code, tmp_path, module)
        judged = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
tags = events.Tags()["scalars"]
print(json.dumps({tag: [[e.step, e.value, e.wall_time] for e in events.Scalars(tag)] for tag in tags}))
"""
        oracle = json.loads(trackers.run(package, judged, tmp_path, module))
        found, origins = read(tmp_path)
        ours = {"Loss/train": "train/loss", "val/acc": "val/accuracy", "nan": "nan"}
        assert origins[module] == "tensorboard"
        for tag, rows in oracle.items():
            steps, values, seconds = found[module][ours[tag]]
            np.testing.assert_array_equal(values, [row[1] for row in rows])
            assert steps == [row[0] for row in rows]
            # Seconds count from the first event of the file, which bears the time of its making.
            assert np.diff(seconds).tolist() == np.diff([row[2] for row in rows]).tolist()
        assert set(found[module]) == {ours[tag] for tag in oracle}


def test_lightning_tables(tmp_path, trackers):
    code = f"""
import sys
from lightning.pytorch.loggers import CSVLogger
logger = CSVLogger(".", name="exp")
for step in range({STEPS}):
    logger.log_metrics({{"train_loss": 2.0 / (step + 1), "epoch": step // 10}}, step)
    if step % 10 == 9:
        logger.log_metrics({{"val_acc": step / 100, "epoch": step // 10}}, step)
logger.save()
"""
    trackers.run("lightning", code, tmp_path)
    found, origins = read(tmp_path)
    assert origins == {"exp/version_0": "csv"}
    run = found["exp/version_0"]
    assert set(run) == {"train/loss", "val/accuracy"}
    assert run["train/loss"][:2] == [list(range(STEPS)), LOSS]
    assert run["val/accuracy"][:2] == [[9, 19, 29], [0.09, 0.19, 0.29]]


def test_wandb_offline(tmp_path, trackers):
    code = f"""
import json, wandb
run = wandb.init(project="p", name="bob", config={{"lr": 0.1, "target": {{"n": 3}}}}, dir=".", mode="offline")
for step in range({STEPS}):
    wandb.log({{"train/loss": 2.0 / (step + 1), "nested": {{"x": step}}, "nan": float("nan"), "words": "a" * 40000}})
wandb.log({{"val_acc": 0.5}}, step=1000)
wandb.finish()
"""
    trackers.run("wandb", code, tmp_path)
    found, origins = read(tmp_path)
    assert list(origins.values()) == ["wandb"]
    (run,) = found.values()
    assert set(run) == {"train/loss", "nested/x", "nan", "val/accuracy"}
    assert run["train/loss"][:2] == [list(range(STEPS)), LOSS]
    assert run["nested/x"][:2] == [list(range(STEPS)), list(range(STEPS))]
    assert np.isnan(run["nan"][1]).all()
    assert len(run["nan"][0]) == STEPS
    assert run["val/accuracy"][:2] == [[1000], [0.5]]
    assert np.all(np.diff(run["train/loss"][2]) >= 0)


def test_trackio(tmp_path, trackers):
    code = f"""
import json, trackio
for name in ("bob", "eve"):
    trackio.init(project="my proj", name=name, config={{"lr": 0.1, "target": {{"n": 3}}}})
    for step in range({STEPS}):
        trackio.log({{"train_loss": 2.0 / (step + 1), "nested": {{"x": step}}, "nan": float("nan"), "words": "a"}})
    trackio.log({{"val_acc": 0.5, "inf": float("inf")}}, step=1000)
    trackio.finish()
from trackio.sqlite_storage import SQLiteStorage
print("READ" + json.dumps([SQLiteStorage.get_logs("my proj", name) for name in ("bob", "eve")]))
"""
    printed = trackers.run("trackio", code, tmp_path, environment=[f"TRACKIO_DIR={tmp_path / 'trackio'}"])
    oracle = json.loads(printed.split("READ")[1])
    found, origins = read(tmp_path)
    assert origins == {f"trackio/myproj/{name}": "trackio" for name in ("bob", "eve")}
    for name, logged in zip(("bob", "eve"), oracle, strict=True):
        run = found[f"trackio/myproj/{name}"]
        begin = datetime.fromisoformat(logged[0]["timestamp"]).timestamp()
        for theirs, ours in {"train_loss": "train/loss", "val_acc": "val/accuracy", "nan": "nan", "inf": "inf"}.items():
            rows = [row for row in logged if theirs in row]
            assert run[ours][0] == [row["step"] for row in rows]
            np.testing.assert_array_equal(run[ours][1], [float(row[theirs]) for row in rows])
            assert run[ours][2] == [datetime.fromisoformat(row["timestamp"]).timestamp() - begin for row in rows]
        assert run["train/loss"][:2] == [list(range(STEPS)), LOSS]
        assert run["nested/x"][1] == list(range(STEPS))
        assert set(run) == {"train/loss", "val/accuracy", "nan", "inf", "nested/x"}
    assert {json.dumps(run.config) for run in list_runs([tmp_path], foreign=True)} == {
        '{"lr": 0.1, "target": {"n": 3}}'
    }


@pytest.mark.parametrize("store", ["file", "sqlite"])
def test_mlflow(tmp_path, trackers, store):
    code = f"""
import json, sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("my exp")
with mlflow.start_run(run_name="bob") as run:
    mlflow.log_params({{"lr": 0.1, "depth": 3, "name": "x"}})
    for step in range({STEPS}):
        mlflow.log_metrics({{"train_loss": 2.0 / (step + 1), "val/acc": step / 100}}, step=step)
    mlflow.log_metric("other", float("nan"), step=1)
    mlflow.log_metric("other", float("inf"), step=2)
    mlflow.log_metric("other", -float("inf"), step=3)
client = mlflow.MlflowClient()
logged = {{n: [[m.step, m.value, m.timestamp] for m in client.get_metric_history(run.info.run_id, n)]
          for n in ("train_loss", "val/acc", "other")}}
print("READ" + json.dumps([run.info.run_id, client.get_run(run.info.run_id).info.start_time, logged]))
try:
    with mlflow.start_run(run_name="eve"):
        raise KeyError
except KeyError:
    pass
"""
    address = f"file://{tmp_path}/mlruns" if store == "file" else f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    (tmp_path / "mlruns").mkdir()
    printed = trackers.run("mlflow", code, tmp_path, address)
    identifier, began, logged = json.loads(printed.split("READ")[1])
    found, origins = read(tmp_path)
    assert set(origins.values()) == {"mlflow"}
    states = {run.variant[:3]: run.status().shown_state for run in list_runs([tmp_path], foreign=True)}
    assert states == {"bob": "finished", "eve": "failed"}
    run = found[f"mlruns/my exp/bob-{identifier[:8]}"]
    for theirs, ours in {"train_loss": "train/loss", "val/acc": "val/accuracy", "other": "other"}.items():
        rows = sorted(logged[theirs])
        assert run[ours][0] == [row[0] for row in rows]
        np.testing.assert_array_equal(run[ours][1], [row[1] for row in rows])
        assert run[ours][2] == [(row[2] - began) / 1000 for row in rows]
    settings = [run.config for run in list_runs([tmp_path], foreign=True) if run.variant.startswith("bob")]
    assert settings == [{"lr": 0.1, "depth": 3, "name": "x"}]
