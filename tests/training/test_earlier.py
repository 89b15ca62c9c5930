"""Runs that an earlier version began go on here as they would have there.

The folders in `earlier` were written by version 0.1.0 (commit ed36906), stopped at steps 20 and 40; the JSON beside
each holds the metrics and the sha256 of the weights of the same run trained there without a stop.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lsc_engine.config.load import load_run_config
from lsc_engine.runs.read.run import open_run
from lsc_engine.training.execute import execute
from lsc_engine.training.job import Job
from lsc_engine.training.signals import Signals

from .test_curves import RELATIVE, machine

EARLIER = Path(__file__).with_name("earlier")


@pytest.mark.parametrize("name", ["lsc", "ce"])
def test_a_run_of_an_earlier_version_resumes_bit_by_bit(tmp_path: Path, name: str) -> None:
    """Augmentation, cosine schedule, AdamW and class means; adaptive ETF layers, SGD with momentum and train.until."""
    folder = tmp_path / "runs/earlier/default/seed-0"
    shutil.copytree(EARLIER / name, folder)
    config = load_run_config(folder / "preset.toml")
    with Signals() as signals:
        state = execute(Job(folder, tmp_path / "runs"), config, device=torch.device("cpu"), signals=signals, echo=False)
    run = open_run(folder)
    assert state == "finished", run.log_path.read_text()
    assert f"resumed at step {20 if name == 'lsc' else 40} of" in run.log_path.read_text()
    series = {
        metric: [column.tolist() for column in run.history(metric)]
        for metric in run.metric_names()
        if not metric.startswith("speed/")
    }
    expected = json.loads((EARLIER / f"{name}.json").read_text())
    if expected["machine"] != machine():
        assert series["train/loss"][0] == expected["series"]["train/loss"][0]
        assert series["train/loss"][1] == pytest.approx(expected["series"]["train/loss"][1], rel=RELATIVE)
        return
    assert series == expected["series"]
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    tensors = [tensor.numpy().tobytes() for _, tensor in sorted(load_file(newest / "model.safetensors").items())]
    assert hashlib.sha256(b"".join(tensors)).hexdigest() == expected["weights"]
