"""Logs that the packages of other trackers wrote, read here: every step, value, time and name."""

import json

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
