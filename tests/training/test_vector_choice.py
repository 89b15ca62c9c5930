"""Order nearest:init: the output standardised exactly, the vectors chosen once, kept by checkpoints and forks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from lsc_engine.common.formatting import duration
from lsc_engine.config.schema import Data, Model
from lsc_engine.data.dataset import open_source
from lsc_engine.data.source import normalise
from lsc_engine.models.build import build_model
from lsc_engine.runs.read.run import open_run
from lsc_engine.training.schedule import derive_seed
from lsc_engine.training.trained_run import open_trained
from lsc_engine.vectors import system
from tests.tiny import tiny

from .folders import call
from .stages import After, train_one, weights

PRESET = tiny(
    {
        "data.classes": 96,
        "model.width": 0.1,
        "target.order": "nearest:init",
        "optimizer.lr": 0.001,
        "train.duration": "6 epochs",
    }
)
REASSIGNED = 'target.reassign=["3 epochs"]'


class Kills(After):
    """Ends the process as kill -9 would, without a last checkpoint, but here by an exception that nobody handles."""

    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
        if step >= self._at:
            raise KeyboardInterrupt


def whole_digits() -> torch.Tensor:
    data = Data(dataset="digits", labels="unique", classes=96, image_size=8)
    source = open_source(data, split="train", device=torch.device("cpu"))
    return normalise(source.fetch(torch.arange(96)))


def reference_start(images: torch.Tensor, dim: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """The untrained network, and its embeddings where batch norm has the statistics of all images, in one batch."""
    model = build_model(Model(name="encoder", width=0.1), channels=1, size=8, dim=dim, seed=derive_seed(0, "model"))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()(images)
        z = model.eval()(images).double()
    return model, z


def test_the_output_is_standardised_and_vectors_are_those_of_the_optimal_assignment(tmp_path: Path) -> None:
    rate = "optimizer.lr=1e-30"
    found = train_one(tmp_path, PRESET, "train.duration='1 steps'", rate, "optimizer.weight_decay=0.0")
    model, z = reference_start(whole_digits(), dim=7)
    mean, deviation = z.mean(0), z.std(0, correction=0)
    kept, layer = weights(found), model.get_submodule("linear_b")
    assert isinstance(layer, torch.nn.Linear)
    weight, bias = layer.weight / deviation[:, None], (layer.bias - mean) / deviation
    torch.testing.assert_close(kept["model.linear_b.weight"].double(), weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(kept["model.linear_b.bias"].double(), bias, rtol=1e-4, atol=1e-5)
    for name, value in model.named_parameters():
        if not name.startswith("linear_b"):
            torch.testing.assert_close(kept[f"model.{name}"], value.detach(), rtol=0, atol=1e-29, msg=name)
    # One step of momentum 0.1 on the untrained statistics, not on those of the pass.
    assert kept["model.levels.0.1.num_batches_tracked"] == 1
    assert kept["model.levels.0.1.running_var"].min() > 0.85

    s = system("V21", 7)
    unit = torch.nn.functional.normalize((z - mean) / deviation, dim=1)
    dense = unit.float() @ s.vectors(torch.arange(s.count)).T
    best = linear_sum_assignment(dense.numpy(), maximize=True)
    chosen = kept["head.chosen"]
    assert len(chosen.unique()) == 96
    assert float(dense[torch.arange(96), chosen].sum()) == pytest.approx(float(dense[best].sum()), rel=1e-5)
    (choice,) = found.source["choices"]
    assert choice["mean_cosine"] == pytest.approx(float(dense[best].mean()), rel=1e-4)
    assert choice["pass_seconds"] > 0
    assert choice["assign_seconds"] > 0
    order = found.source["head"]["order"]
    assert (order["kind"], order["version"]) == ("nearest:init", 1)
    assert "vectors chosen" in found.log_path.read_text()
    trained = open_trained(found, device=torch.device("cpu"))
    assert torch.equal(trained.head.target(torch.arange(96)), chosen)


def test_the_control_has_the_same_output_and_other_vectors(tmp_path: Path) -> None:
    sets = ("train.duration='1 steps'", "optimizer.lr=1e-30", "optimizer.weight_decay=0.0")
    one = train_one(tmp_path, PRESET, *sets)
    control = (*sets, "target.order=shuffled", "model.standardize_output=true")
    other = train_one(tmp_path, PRESET, *control, name="control")
    for name, value in weights(other).items():
        torch.testing.assert_close(weights(one)[name], value, rtol=0, atol=1e-29, msg=name)
    assert "head.chosen" not in weights(other)
    assert other.source["head"]["order"]["kind"] == "shuffled"


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train_one(tmp_path_factory.mktemp("straight"), PRESET, REASSIGNED, "checkpoint.also_at=['18 steps']")


def test_vectors_are_chosen_again_at_the_given_moment(straight: Any) -> None:
    first, second = straight.source["choices"]
    assert (first["step"], second["step"]) == (0, 18)
    assert second["mean_cosine"] > first["mean_cosine"]


@pytest.mark.parametrize("stop", [After(10), After(18), After(26), Kills(26)])
def test_a_run_that_was_stopped_or_killed_goes_on_bit_by_bit(straight: Any, tmp_path: Path, stop: After) -> None:
    sets = (REASSIGNED, "log.every='1 steps'", "checkpoint.every='9 steps'")
    try:
        train_one(tmp_path, PRESET, *sets, signals=stop)
    except KeyboardInterrupt:
        assert isinstance(stop, Kills)
    found = train_one(tmp_path, PRESET, *sets, again=True)
    assert found.status().state == "finished"
    log = found.log_path.read_text()
    assert "resumed at step" in log
    assert log.count("step 0: vectors chosen") == 1
    for name, value in weights(straight).items():
        assert torch.equal(weights(found)[name], value), name
    assert found.source["head"] == straight.source["head"]
    assert [c["mean_cosine"] for c in found.source["choices"]] == [c["mean_cosine"] for c in straight.source["choices"]]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('model.name="vit-s"', "the last layer of this backbone is not a trained linear one with a bias"),
        ("model.etf_layers=1", "the last layer of this backbone is not a trained linear one with a bias"),
        ('target.system="V22"', 'target.reassign: needs target.order = "nearest:init"'),
        ('target.reassign=["9 epochs"]', "target.reassign: the last is not before the end of the training, 6 epochs"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_created(tmp_path: Path, line: str, sentence: str) -> None:
    order = "shuffled" if "V22" in line else "nearest:init"
    text = PRESET.replace('name = "encoder"\nwidth = 0.1', 'name = "mlp"')
    text = text.replace('order = "nearest:init"', f'order = "{order}"\n{REASSIGNED.partition(".")[2]}')
    (tmp_path / "t.toml").write_text(text)
    said = call(tmp_path, "run", "t.toml", "--set", line, code=2)
    assert sentence in " ".join(said.err.split())
    assert not (tmp_path / "runs").exists()


def test_a_fork_keeps_the_vectors(straight: Any) -> None:
    root = straight.path.parents[3]
    call(root, "fork", straight.id, "--name", "slow", "--set", "optimizer.lr=1e-5", "--at", "18", "--device", "cpu")
    forked = open_run("t/slow/seed-0", [root / "runs"])
    assert torch.equal(weights(forked)["head.chosen"], weights(straight)["head.chosen"])
    assert forked.source["head"] == straight.source["head"]
    assert "step 0: vectors chosen" not in forked.log_path.read_text()


def test_labels_by_class_and_check_with_time_and_memory(tmp_path: Path) -> None:
    sets = ('data.labels="class"', "data.classes=10", "train.batch_size=64", "train.duration='3 epochs'")
    found = train_one(tmp_path, PRESET, *sets)
    assert len(weights(found)["head.chosen"].unique()) == 10
    assert found.last()["val/accuracy"] > 0.5
    (row,) = json.loads(call(tmp_path, "check", "t.toml", "--json").out)["variants"].values()
    assert row["choice_bytes"] > 0


def test_the_report_has_the_seconds_of_the_choice_beside_the_run(tmp_path: Path) -> None:
    found = train_one(tmp_path, PRESET, "train.duration='1 epochs'")
    call(tmp_path, "report", "t", "--out", "r")
    (report,) = (tmp_path / "r").rglob("report.md")
    lines = [line.split(" | ") for line in report.read_text().splitlines()]
    head = next(line for line in lines if "choice of vectors" in line)
    row = lines[lines.index(head) + 2]
    (choice,) = found.source["choices"]
    seconds = choice["pass_seconds"] + choice["assign_seconds"]
    assert row[head.index("choice of vectors")] == duration(seconds)
