"""Adaptive-ETF on real digits: layers are fixed when they are due, once, and a resumed run does the same bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lsc_engine.report.exports import export

from .stages import After, train_one, weights

PRESET = """
[data]
dataset = "digits"
[model]
name = "mlp"
width = 0.12
args = { layers = 4, class_layer = true }
etf_layers = "adaptive"
etf_threshold = 0.98
etf_patience = 2
[target]
method = "ce"
[optimizer]
name = "sgd"
lr = 0.03
weight_decay = 5e-4
[train]
duration = "10 epochs"
batch_size = 64
[eval]
every = "1 epochs"
[log]
every = "5 steps"
"""


def run(root: Path, *sets: str, **options: Any) -> Any:
    return train_one(root, PRESET, *sets, **options)


def series(found: Any, name: str) -> list[tuple[int, float]]:
    steps, values = found.history(name)
    return list(zip(steps.tolist(), values.tolist(), strict=True))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of 10 epochs that nobody disturbed."""
    return run(tmp_path_factory.mktemp("straight"))


def test_layers_above_the_threshold_are_fixed_with_all_after_them(straight: Any) -> None:
    layers = [dict(series(straight, f"train/ncc_{number}")) for number in (1, 2, 3, 4)]
    fixed = series(straight, "model/fixed_layers")
    trained = dict(series(straight, "model/parameters"))
    first = None
    for (step, count), (before, _) in zip(fixed[1:], fixed[:-1], strict=True):
        due = [i for i, layer in enumerate(layers) if layer[step] > 0.98 and layer[before] > 0.98]
        first = min([*due, first if first is not None else 4])
        assert count == 4 - first, step
    assert fixed[0][1] == 0
    assert 1 <= fixed[-1][1] <= 3, "the rule must fire, and not for the first layer"
    assert trained[fixed[-1][0]] < trained[fixed[0][0]]
    assert "fixed to a simplex ETF from here on" in straight.log_path.read_text()
    stored = weights(straight)
    assert sum(name.endswith(".spec") for name in stored) == fixed[-1][1]
    assert "head.layer.weight" not in stored
    assert "head.layer.bias" in stored
    assert series(straight, "train/accuracy")[-1][1] > 0.7


@pytest.mark.parametrize("after", [2, 6, 8])
def test_a_stopped_run_goes_on_bit_by_bit(tmp_path: Path, straight: Any, after: int) -> None:
    fires = next(step for step, count in series(straight, "model/fixed_layers") if count)
    epoch = straight.status().total_steps // 10
    stop = after * epoch + 3
    stopped = run(tmp_path, signals=After(stop))
    assert stopped.status().state == "stopped"
    resumed = run(tmp_path, again=True)
    assert (resumed.status().state, resumed.status().attempt) == ("finished", 2)
    a, b = weights(straight), weights(resumed)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    for name in ("train/loss", "train/accuracy", "train/ncc_2", "model/fixed_layers", "model/parameters"):
        assert series(straight, name) == series(resumed, name)
    assert 2 * epoch < fires < 8 * epoch, "stops come before and after the layers are fixed"


def test_the_event_is_kept_by_adamw_and_random_frames_too(tmp_path: Path) -> None:
    sets = ('optimizer.name="adamw"', "optimizer.lr=0.002", 'model.etf_frame="random"', 'train.duration="6 epochs"')
    whole = run(tmp_path, *sets, name="whole")
    assert series(whole, "model/fixed_layers")[-1][1] >= 1
    run(tmp_path, *sets, name="halved", signals=After(5 * whole.status().total_steps // 6 + 1))
    halved = run(tmp_path, *sets, name="halved", again=True)
    a, b = weights(whole), weights(halved)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_layers_fixed_from_the_start_are_no_parameters(tmp_path: Path) -> None:
    sets = ("model.etf_layers=2", "eval.ncc=true", 'train.duration="2 epochs"')
    found = run(tmp_path, *sets)
    assert "model/fixed_layers" not in found.metric_names()
    assert "val/ncc_4" in found.metric_names()
    names = set(weights(found))
    # Two hidden layers 48 wide on 64 pixels and batch norm everywhere; of the two fixed layers their biases.
    trained = (64 * 48 + 48) + (48 * 48 + 48) + 3 * 96 + 48
    assert found.source["parameters"] == {"model": trained, "head": 10}
    assert {"model.blocks.2.0.spec", "head.layer.spec"} <= names
    assert not {"model.blocks.2.0.weight", "head.layer.weight"} & names
    assert series(found, "train/accuracy")[-1][1] > 0.5
    (file,) = export([found], "safetensors", tmp_path / "weights.safetensors", force=False)
    written = load_file(file)
    assert not [name for name in written if name.endswith(".spec")]
    corners = written["head.layer.weight"]
    assert corners.shape == (10, 48)
    assert torch.allclose(corners @ corners.T, 10 / 9 * torch.eye(10) - 1 / 9, atol=1e-6)
