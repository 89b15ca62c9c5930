"""The loop on real digits: it learns, stops, resumes bit by bit, diverges, and records what it did."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import tiny

from .stages import After, train_one, weights

PRESET = tiny(
    {
        "data.classes": 96,
        "model.width": 0.1,
        "train.duration": "12 epochs",
        "eval.every": "3 epochs",
        "log.every": "4 steps",
    }
)


def run(root: Path, *sets: str, preset: str = PRESET, **options: Any) -> Any:
    return train_one(root, preset, *sets, **options)


def series(found: Any, name: str) -> list[tuple[int, float]]:
    steps, values = found.history(name)
    return list(zip(steps.tolist(), values.tolist(), strict=True))


def test_it_learns_and_leaves_a_whole_run_folder(tmp_path: Path) -> None:
    found = run(tmp_path)
    status = found.status()
    assert (status.state, status.exit_code, status.step, status.total_steps) == ("finished", 0, 72, 72)
    loss, accuracy = series(found, "train/loss"), series(found, "train/accuracy")
    assert [s for s, _ in loss] == list(range(4, 73, 4))
    assert [s for s, _ in accuracy] == [18, 36, 54, 72]
    assert loss[-1][1] < 0.5 * loss[0][1]
    assert accuracy[-1][1] > 10 / 96
    assert {"lr", "speed/images_per_second", "train/loss_eval", "train/inside"} <= set(found.metric_names())
    order = json.loads((found.path / "source.json").read_text())["head"]["order"]
    assert order["kind"] == "shuffled"
    assert len(order["sha256"]) == 64


def test_a_stopped_run_goes_on_bit_by_bit(tmp_path: Path) -> None:
    straight = run(tmp_path, name="straight")
    stopped = run(tmp_path, name="stopped", signals=After(26))
    assert (stopped.status().state, stopped.status().exit_code) == ("stopped", 143)
    assert 26 <= stopped.status().step < 40
    resumed = run(tmp_path, name="stopped", again=True)
    assert (resumed.status().state, resumed.status().attempt) == ("finished", 2)
    a, b = weights(straight), weights(resumed)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    for name in ("train/loss", "train/accuracy", "lr"):
        assert series(straight, name) == series(resumed, name)


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    every = 'checkpoint.every="20 steps"'
    straight = run(tmp_path, every, name="straight")
    stopped = run(tmp_path, every, name="stopped", signals=After(26))
    newest = sorted((stopped.path / "checkpoints").iterdir())[-1] / "model.safetensors"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    resumed = run(tmp_path, every, name="stopped", again=True)
    assert "sha256 differs" in resumed.log_path.read_text()
    assert "resumed at step 20 of 72" in resumed.log_path.read_text()
    a, b = weights(straight), weights(resumed)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_checkpoint_of_other_vectors_is_refused(tmp_path: Path) -> None:
    run(tmp_path, signals=After(20))
    found = run(tmp_path, 'target.order="sequential"', again=True)
    assert found.status().state == "failed"
    assert "target.order was 'shuffled' and is 'sequential'" in found.status().message


def test_a_loss_that_is_not_finite_ends_as_diverged(tmp_path: Path) -> None:
    found = run(tmp_path, "optimizer.lr=1000.0", 'target.loss="distance"', "target.radius=5.0")
    status = found.status()
    assert (status.state, status.exit_code) == ("diverged", 3)
    assert "there is no checkpoint yet" in status.message
    assert any(not math.isfinite(v) for _, v in series(found, "train/loss"))


def test_cross_entropy_with_a_bottleneck_trains_and_resumes_with_its_class_layer(tmp_path: Path) -> None:
    ce = PRESET.replace('method = "lsc"\nsystem = "V21"', 'method = "ce"\nbottleneck = "min:V21"')
    straight = run(tmp_path, preset=ce, name="straight")
    run(tmp_path, preset=ce, name="stopped", signals=After(30))
    resumed = run(tmp_path, preset=ce, name="stopped", again=True)
    a, b = weights(straight), weights(resumed)
    # 96 classes need n = 7 in V21: 105 vectors.
    assert a["head.narrow.weight"].shape == (7, 384)
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("target", [
    'method = "lsc"\nsystem = "V21"\nloss = "softmax"',
    'method = "lsc"\nsystem = "V21"\nloss = "batch-softmax"',
    'method = "ce"\nloss = "arcface"\nshare = 0.3',
    'method = "ce"\nsystem = "running-means"\nmomentum = 0.5\nloss = "cosface"',
    'method = "ce"\ncenter_weight = 0.01',
])  # fmt: skip
def test_other_losses_go_on_bit_by_bit(tmp_path: Path, target: str) -> None:
    preset = PRESET.replace('method = "lsc"\nsystem = "V21"', target).replace("12 epochs", "6 epochs")
    straight = run(tmp_path, preset=preset, name="straight")
    stopped = run(tmp_path, preset=preset, name="stopped", signals=After(14))
    assert stopped.status().state == "stopped"
    resumed = run(tmp_path, preset=preset, name="stopped", again=True)
    a, b = weights(straight), weights(resumed)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    loss = series(straight, "train/loss")
    assert loss == series(resumed, "train/loss")
    assert loss[-1][1] < loss[0][1]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_classes_that_a_step_does_not_sample_stay(tmp_path: Path, optimizer: str) -> None:
    preset = PRESET.replace('method = "lsc"\nsystem = "V21"', 'method = "ce"\nshare = 0.3')
    sets = (f"optimizer.name={optimizer}", "optimizer.weight_decay=0.1", "optimizer.warmup=0 steps", "optimizer.lr=0.1")
    ended = [run(tmp_path, f"train.duration={n} steps", *sets, preset=preset, name=f"r{n}") for n in (1, 2)]
    one, two = (weights(each) for each in ended)
    for name in ("head.layer.weight", "head.layer.bias"):
        # 29 of 96 classes.
        assert (one[name] != two[name]).reshape(96, -1).any(1).sum() == 29


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    a, b = (series(run(tmp_path, 'train.duration="2 epochs"', name=n), "train/loss") for n in ("a", "b"))
    c = series(run(tmp_path, 'train.duration="2 epochs"', "seed=1", name="c"), "train/loss")
    assert a == b
    assert a != c


def test_classes_with_validation_images_report_them(tmp_path: Path) -> None:
    preset = PRESET.replace('labels = "unique"\nclasses = 96', 'labels = "class"')
    found = run(tmp_path, 'train.duration="6 epochs"', "train.batch_size=64", preset=preset)
    assert found.last()["val/accuracy"] > 0.5
    assert 0 < found.last()["val/loss"] < 1


def test_class_means_are_stored_where_asked_for(tmp_path: Path) -> None:
    found = run(tmp_path, 'train.duration="1 epochs"', "eval.class_means=true")
    means = load_file(found.path / "class_means.safetensors")["class_means"]
    assert means.shape == (96, 7)
    assert torch.isfinite(means).all()


def test_a_request_file_stops_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    class Asks(After):
        def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
            if step >= 8:
                (tmp_path / "runs" / name / "stop.request").touch()

    found = run(tmp_path, 'train.duration="4000 epochs"', signals=Asks(8))
    assert (found.status().state, found.status().exit_code) == ("stopped", 143)
    assert found.checkpoints()


def test_light1_trains_and_reports_accuracy_on_augmented_views(tmp_path: Path) -> None:
    found = run(tmp_path, 'train.duration="3 epochs"', 'data.augment="light1"')
    assert 0 <= found.last()["train/accuracy_augmented"] <= 1


def test_missing_class_means_of_another_run_are_named(tmp_path: Path) -> None:
    run(tmp_path, 'train.duration="1 epochs"', name="teacher")
    found = run(tmp_path, 'target.system="embeddings:teacher/default/seed-0"', "model.dim=7", name="student")
    assert found.status().state == "failed"
    assert "train it with eval.class_means = true" in found.status().message


def test_the_best_of_the_checkpoints_is_kept_though_a_better_moment_was_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter([0.9, 0.5, 0.2, 0.7, 0.1, 0.3])
    monkeypatch.setattr(
        "lsc_engine.training.evaluator.evaluate", lambda *given, **more: {"accuracy": next(accuracies), "loss": 0.5}
    )
    found = run(tmp_path, 'train.duration="6 epochs"', 'eval.every="1 epochs"', 'checkpoint.every="2 epochs"',
                "checkpoint.keep=1")  # fmt: skip
    assert [c.step for c in found.checkpoints()] == [4 * 6, 6 * 6]


def test_others_may_read_what_a_run_leaves(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        found = run(tmp_path, 'train.duration="1 epochs"', "eval.class_means=true")
    finally:
        os.umask(before)
    written = [path for path in found.path.rglob("*") if path.is_file()]
    assert {"model.safetensors", "state.pt", "class_means.safetensors"} <= {path.name for path in written}
    assert [path.name for path in written if not path.stat().st_mode & 0o044] == []
