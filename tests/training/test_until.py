"""A run that ends once its levels are reached, and the load of the machine that is kept with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsc_engine.runs.metrics.machine import MachineTail
from lsc_engine.runs.read.run import open_run
from tests import processes

PRESET = """
[data]
dataset = "digits"
[model]
name = "mlp"
width = 0.1
[target]
method = "ce"
[optimizer]
lr = 1e-2
[train]
duration = "30 epochs"
batch_size = 64
until = { "train/accuracy" = 0.8, "train/loss" = 0.9 }
"""


def run(tmp_path: Path, text: str) -> Path:
    (tmp_path / "short.toml").write_text(text)
    words = ["run", str(tmp_path / "short.toml"), "--runs-dir", str(tmp_path / "runs")]
    processes.call(*words, code=0)
    return tmp_path / "runs"


def test_a_run_ends_at_the_first_evaluation_with_every_level(tmp_path: Path) -> None:
    found = open_run("short/default/seed-0", [run(tmp_path, PRESET)])
    status = found.status()
    accuracy, loss = found.history("train/accuracy"), found.history("train/loss")
    assert status.state == "finished"
    assert status.step == status.total_steps == accuracy[0][-1] < 30 * 23
    assert accuracy[1][-1] >= 0.8
    assert loss[1][-1] <= 0.9
    at = dict(zip(loss[0].tolist(), loss[1].tolist(), strict=True))
    assert not any(a >= 0.8 and at[step] <= 0.9 for step, a in zip(*accuracy, strict=True) if step < status.step)


def test_levels_that_are_not_reached_leave_the_length_as_it_is(tmp_path: Path) -> None:
    text = PRESET.replace('"30 epochs"', '"2 epochs"').replace("0.8,", "0.9999,")
    found = open_run("short/default/seed-0", [run(tmp_path, text)])
    assert found.status().step == 2 * 23
    load = found.source["load"]
    assert load["processors"] >= 1
    assert load["peak"] is None or load["peak"] >= load["load"] >= 0
    # The last sample is of the end, and the record is theirs.
    tail = MachineTail(found.path / "machine.jsonl")
    tail.poll()
    assert tail.table.newest_sample is not None
    assert tail.table.newest_sample.step == 2 * 23
    assert max(tail.table.series("machine/load")[1]) * load["processors"] == pytest.approx(load["peak"], abs=0.01)
