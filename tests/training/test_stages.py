"""Runs that build on runs: class means as centres, classes added, teachers, self-supervision, losses within classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lsc_engine.common.errors import UsageError
from lsc_engine.config.load import load_run_config

from .stages import BASE, After, first, go_on, trained, variant, weights

CE = variant("ce", 'target.method = "ce"', "model.dim = 4", "optimizer.lr = 1e-2")


@pytest.fixture(scope="module")
def ce(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a class layer on digits, trained for three epochs, its class means stored."""
    root = tmp_path_factory.mktemp("ce")
    trained(root, CE, variant("means", 'target.system = "embeddings:@ce"', 'target.order = "sequential"'))
    return root


def copy(ce: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ce, tmp_path / "t"))


def test_class_means_of_another_run_are_centres_as_they_are_or_mixed(ce: Path, tmp_path: Path) -> None:
    root = copy(ce, tmp_path)
    runs = trained(
        root, CE, variant("means", 'target.system = "embeddings:@ce"', 'target.order = "sequential"'),
        variant("mixed", 'target.system = "embeddings:@ce"', 'target.order = "shuffled"'),
    )  # fmt: skip
    means = load_file(runs["ce"].path / "class_means.safetensors")["class_means"]
    assert means.shape == (10, 4)
    for name in ("means", "mixed"):
        assert runs[name].last()["train/accuracy"] > 0.5
    order = {name: runs[name].source["head"]["order"]["kind"] for name in ("means", "mixed")}
    assert order == {"means": "sequential", "mixed": "shuffled"}


# ------------------------------------------------------------------------------------------------- Classes added
STAGES = [
    variant("first", "data.classes = 5"),
    variant("old+new", "data.classes = 9", 'start_from = "@first"', "train.duration = '9 epochs'"),
    variant("new", "data.classes = 9", "data.first_class = 5", 'start_from = "@first"', "train.duration = '9 epochs'"),
]


def test_classes_are_added_to_the_same_model_and_curves_go_on_where_they_ended(tmp_path: Path) -> None:
    runs = trained(tmp_path, *STAGES, sets=("eval.images=2000",))
    shapes = {name: {k: t.shape for k, t in weights(run).items()} for name, run in runs.items()}
    assert shapes["first"] == shapes["old+new"] == shapes["new"]
    end = runs["first"].last()
    assert end["train/accuracy"] > 0.9
    for name in ("old+new", "new"):
        # Of nine classes instead of five a few images may go to one of the four that are not learnt yet.
        step, old = first(runs[name], "train/accuracy_old")
        assert step == 0
        assert end["val/accuracy"] - 0.1 < first(runs[name], "val/accuracy_old")[1] <= end["val/accuracy"]
        assert 0.9 * end["train/accuracy"] < old <= end["train/accuracy"]
        assert first(runs[name], "train/accuracy_new")[1] < 0.5
        assert runs[name].last()["train/accuracy_new"] > 0.9
    assert runs["old+new"].last()["train/accuracy_old"] > 0.9
    assert runs["new"].last()["train/accuracy_old"] < 0.7


def test_only_images_of_the_new_classes_are_trained_on(tmp_path: Path) -> None:
    from lsc_engine.data.batches import Batches, images_from_class
    from lsc_engine.data.dataset import open_source

    file = tmp_path / "s.toml"
    file.write_text(BASE + "[[variants]]\nname = 'x'\nstart_from = 'y'\ndata.first_class = 5\n")
    from lsc_engine.studies.plan import plan_study

    source = open_source(plan_study(file).runs[0].config.data, split="train")
    batches = Batches(source, 64, 0, subset=images_from_class(source, 5))
    stream = batches.from_step(0)
    epoch = [next(stream) for _ in range(batches.steps_per_epoch)]
    seen = torch.cat([b.index for b in epoch])
    assert torch.cat([b.labels for b in epoch]).min() == 5
    assert len(seen.unique()) == len(seen) == 742 // 64 * 64
    again = batches.from_step(3)
    assert all(torch.equal(next(again).index, batch.index) for batch in epoch[3:])


def test_a_class_layer_grows_by_rows_and_keeps_the_old_ones(tmp_path: Path) -> None:
    lines = ('target.method = "ce"', "model.dim = 4", "optimizer.lr = 1e-2")
    runs = trained(
        tmp_path, variant("first", *lines, "data.classes = 5"),
        variant("grown", *lines, "data.classes = 9", 'start_from = "@first"'), sets=('train.duration="1 epochs"',),
    )  # fmt: skip
    assert weights(runs["grown"])["head.layer.weight"].shape == (9, 4)
    assert "layer.weight (5 of 9 rows)" in runs["grown"].log_path.read_text()
    # Before the first step the old classes lose only what the new random rows win over.
    assert first(runs["grown"], "train/accuracy_old")[0] == 0
    start = json.loads((runs["grown"].path / "source.json").read_text())["start"]
    assert (start["id"], start["step"], start["classes"]) == ("s/first/seed-0", 11, 5)


def test_the_rows_of_a_grown_layer_are_those_that_were_learnt() -> None:
    from lsc_engine.heads.cross_entropy import CrossEntropyHead

    small, large = CrossEntropyHead(6, 5, None, 0), CrossEntropyHead(6, 9, None, 1)
    drawn = large.layer.weight.detach().clone()
    assert large.start_from(small.state_dict()) == ["layer.weight (5 of 9 rows)", "layer.bias (5 of 9 rows)"]
    assert torch.equal(large.layer.weight[:5], small.layer.weight)
    assert torch.equal(large.layer.weight[5:], drawn[5:])
    # Behind another bottleneck the rows mean something else.
    assert CrossEntropyHead(6, 9, 3, 0).start_from(small.state_dict()) == []


# ------------------------------------------------------------------------------------------------------- Teachers
STUDENT = ('target.method = "ce"', "model.dim = 8", "model.width = 0.05", 'target.teacher = "@ce"')


def test_a_teacher_of_another_width_teaches_by_its_logits(ce: Path, tmp_path: Path) -> None:
    taught = variant("taught", *STUDENT, "target.teacher_weight = 1.0")
    runs = trained(copy(ce, tmp_path), CE, variant("means", 'target.system = "embeddings:@ce"'), taught)
    # It never saw a label; by chance one image in ten is right. How far it gets depends on the processor's rounding.
    assert runs["taught"].last()["train/accuracy"] > 0.25
    record = runs["taught"].source["head"]
    assert record["teacher"] == "s/ce/seed-0 step 69"
    assert not any("teacher" in name for name in weights(runs["taught"]))


# ----------------------------------------------------------------------------------------------- Self-supervision
SSL = variant("ssl", 'target.method = "ssl"', "train.duration = '8 epochs'")
CHOSEN = [
    variant("chosen", 'target.order = "nearest:@ssl"', 'start_from = "@ssl"'),
    variant("random", 'start_from = "@ssl"'),
]


@pytest.mark.slow
def test_self_supervision_finds_classes_and_its_means_choose_the_vectors(tmp_path: Path) -> None:
    runs = trained(tmp_path, SSL, *CHOSEN)
    ssl, chosen = runs["ssl"], runs["chosen"]
    assert ssl.last()["train/accuracy_means"] > 0.5
    assert ssl.last()["val/accuracy_means"] > 0.5
    assert "train/accuracy" not in ssl.metric_names()
    _, losses = ssl.history("train/loss")
    assert losses[-1] < 0.8 * losses[0]
    assert chosen.source["head"]["order"]["kind"] == "nearest"
    # The vectors nearest to where the classes lie: right before the first step, which random ones are not.
    assert first(chosen, "train/accuracy")[0] == 0
    assert first(chosen, "train/accuracy")[1] > 0.5
    assert first(runs["random"], "train/accuracy")[1] < 0.4


def test_a_fork_changes_the_temperature_or_adds_a_loss_within_classes(ce: Path, tmp_path: Path) -> None:
    from lsc_engine.config.derived import derive
    from lsc_engine.studies.fork import create_fork, fork_config

    root = copy(ce, tmp_path)
    levels = '[compare]\nlevels = { "train/accuracy" = [0.5] }\n'
    runs = trained(root, SSL, CE, CHOSEN[0], base=BASE + levels, name="f", sets=('train.duration="1 epochs"',))
    for name, change in (("ssl", "target.temperature=0.2"), ("chosen", 'target.within="kld"')):
        config = fork_config(runs[name], [change, 'train.duration="2 epochs"'], None)
        folder = create_fork(runs[name], config, None, derive(config).total_steps, root / "runs", {})
        assert go_on(root, folder, config).status().state == "finished"
    with pytest.raises(UsageError, match=r"target.loss: is None in .* cannot change in a fork"):
        fork_config(runs["ce"], ['target.loss="cosface"'], None)


def test_unique_labels_are_found_again_by_a_view_of_each_image(tmp_path: Path) -> None:
    lines = ("data.labels = 'unique'", "data.classes = 96", "model.dim = 7", "train.batch_size = 32")
    runs = trained(
        tmp_path, variant("ssl", 'target.method = "ssl"', *lines, "train.duration = '60 epochs'"),
        variant("chosen", 'target.order = "nearest:@ssl"', *lines),
    )  # fmt: skip
    # Ten times chance: a view of a 4 is also much like other 4s.
    assert runs["ssl"].last()["train/accuracy_means"] > 10 / 96
    assert load_file(runs["ssl"].path / "class_means.safetensors")["class_means"].shape == (96, 7)
    assert runs["chosen"].source["head"]["order"]["count"] == 105


# ------------------------------------------------------------------------------------------- Loss within classes
@pytest.mark.parametrize("kind", ["kld", "gaussian"])
def test_a_loss_within_classes_brings_their_spread_to_the_target(tmp_path: Path, kind: str) -> None:
    strong = (f'target.within = "{kind}"', "target.within_weight = 10.0", "train.duration = '8 epochs'")
    run = trained(tmp_path, variant("w", *strong))["w"]
    assert run.last()["train/accuracy"] > 0.5
    assert 0 < run.last()["train/loss"] < run.history("train/loss")[1][0]


# --------------------------------------------------------------------------------------------------------- Shifts
@pytest.mark.parametrize("kind", ["moved", "turned", "noise", "contrast"])
def test_shifted_validation_images_are_harder(ce: Path, tmp_path: Path, kind: str) -> None:
    run = trained(copy(ce, tmp_path), CE.replace('"ce"', '"shift"', 1), sets=(f'eval.shift="{kind}"',))["shift"]
    last = run.last()
    assert 0.1 < last["val/accuracy_shifted"] <= last["val/accuracy"] + 0.02
    assert last["val/loss_shifted"] > last["val/loss"]


def test_what_is_learnt_on_handwritten_digits_is_tested_on_printed_ones(ce: Path, tmp_path: Path) -> None:
    printed = CE.replace('"ce"', '"printed"', 1)
    run = trained(copy(ce, tmp_path), printed, sets=('eval.dataset="printed-digits"',))["printed"]
    own = trained(copy(ce, tmp_path / "own"), CE, variant("means", 'target.system = "embeddings:@ce"'))["ce"].last()
    last = run.last()
    assert last["train/accuracy"] == own["train/accuracy"]
    assert 0.2 < last["val/accuracy"] < own["val/accuracy"] - 0.05


# ------------------------------------------------------------------------------------------------------- Going on
RESUMED: dict[str, tuple[str, ...]] = {
    "ssl": ('target.method = "ssl"',),
    "taught": STUDENT,
    "within": ('target.within = "kld"',),
    "new": ("data.first_class = 5", 'start_from = "@ce"'),
    "grown": ('target.method = "ce"', "model.dim = 4", 'start_from = "@ce"'),
    "chosen": ('target.order = "nearest:@ce"',),
}


@pytest.mark.parametrize("name", RESUMED)
def test_each_goes_on_bit_by_bit(ce: Path, tmp_path: Path, name: str) -> None:
    lines = (*RESUMED[name], "log.every = '4 steps'", "train.duration = '20 steps'", "eval.every = '5 steps'")
    root = copy(ce, tmp_path)
    again = copy(ce, tmp_path / "again")
    straight = trained(root, CE, variant(name, *lines))[name]
    stopped = started(again, CE, variant(name, *lines), name=name)
    config = load_run_config(stopped / "preset.toml")
    run = go_on(again, stopped, config, After(8))
    assert run.status().state == "stopped"
    assert run.status().step < 20
    run = go_on(again, stopped, config)
    assert run.status().state == "finished"
    assert all(torch.equal(a, b) for a, b in zip(weights(straight).values(), weights(run).values(), strict=True))
    for metric in straight.metric_names():
        if not metric.startswith("speed"):
            assert [v.tolist() for v in straight.history(metric)] == [v.tolist() for v in run.history(metric)], metric


def started(root: Path, *variants: str, name: str) -> Path:
    """The folder of a run that is created and not trained."""
    from lsc_engine.runs.folder.writer import create_run
    from lsc_engine.studies.plan import plan_study

    file = root / "s.toml"
    file.write_text(BASE + "".join(variants))
    run = next(run for run in plan_study(file).runs if run.config.variant == name)
    return create_run(root / "runs" / run.id, run.config, {})


def test_a_run_goes_on_though_the_one_it_started_from_is_gone(ce: Path, tmp_path: Path) -> None:
    root = copy(ce, tmp_path)
    folder = started(root, CE, variant("new", "data.first_class = 5", 'start_from = "@ce"'), name="new")
    config: Any = load_run_config(folder / "preset.toml")
    assert go_on(root, folder, config, After(8)).status().state == "stopped"
    shutil.rmtree(root / "runs" / "s" / "ce")
    assert go_on(root, folder, config).status().state == "finished"
