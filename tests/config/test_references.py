"""What variants take from each other, and the settings that go with it: names followed, combinations refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsc_engine.common.errors import UsageError
from lsc_engine.config.derived import derive
from lsc_engine.config.expand import combinations
from lsc_engine.config.load import load_run_config
from lsc_engine.studies.plan import StudyPlan, plan_study

BASE = """
[data]
dataset = "digits"
[model]
name = "encoder"
dim = 5
[target]
method = "lsc"
system = "V21"
[train]
duration = "2 epochs"
batch_size = 32
"""


def planned(root: Path, variants: str, *sets: str, base: str = BASE) -> StudyPlan:
    file = root / "s.toml"
    file.write_text(base + variants)
    return plan_study(file, sets=sets)


def faults(root: Path, variants: str, *sets: str, base: str = BASE) -> str:
    with pytest.raises(UsageError) as caught:
        planned(root, variants, *sets, base=base)
    return "\n".join(caught.value.faults)


FAMILY = """
[[variants]]
name = "student"
target.method = "ce"
target.teacher = "@ce"
[[variants]]
name = "chosen"
target.order = "nearest:@ssl"
start_from = "@ssl"
[[variants]]
name = "means"
target.system = "embeddings:@ce"
target.order = "sequential"
[[variants]]
name = "ssl"
target.method = "ssl"
[[variants]]
name = "ce"
target.method = "ce"
model.dim = 5
"""


def test_references_become_run_ids_and_needs_and_ask_for_class_means(tmp_path: Path) -> None:
    runs = {run.config.variant: run for run in planned(tmp_path, FAMILY).runs}
    assert runs["student"].config.target.teacher == "s/ce/seed-0"
    assert runs["chosen"].config.target.order == "nearest:s/ssl/seed-0"
    assert runs["chosen"].config.start_from == "s/ssl/seed-0"
    assert runs["means"].config.target.system == "embeddings:s/ce/seed-0"
    assert runs["student"].needs == ("s/ce/seed-0",)
    assert runs["chosen"].needs == ("s/ssl/seed-0",)
    assert [name for name, run in runs.items() if run.config.eval.class_means] == ["ssl", "ce"]
    assert list(runs).index("ssl") < list(runs).index("chosen")


def test_the_name_of_a_try_keeps_the_minus() -> None:
    axes = {"a.x": [1, -1, "-b", [1, -1]]}
    assert [suffix for suffix, _ in combinations(axes)] == ["+x=1", "+x=-1", "+x=b", "+x=1--1"]


def test_references_follow_a_sweep(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(BASE + FAMILY)
    runs = {run.config.variant: run.config for run in plan_study(file, sweeps=["optimizer.lr=1e-3,1e-4"]).runs}
    assert runs["student+lr=0.001"].target.teacher == "s/ce+lr=0.001/seed-0"
    assert runs["chosen+lr=0.0001"].target.order == "nearest:s/ssl+lr=0.0001/seed-0"


def test_defaults_of_a_teacher_of_views_and_of_a_loss_within_classes(tmp_path: Path) -> None:
    within = '[[variants]]\nname = "within"\ntarget.within = "kld"\n'
    runs = {run.config.variant: run.config.target for run in planned(tmp_path, FAMILY + within).runs}
    assert (runs["student"].teacher_weight, runs["student"].temperature) == (0.5, 4.0)
    assert runs["ssl"].temperature == 0.5
    assert (runs["within"].within, runs["within"].within_weight) == ("kld", 0.1)
    assert (runs["ce"].temperature, runs["means"].within, runs["means"].within_weight) == (None, None, None)


def test_the_new_settings_come_back_from_a_run(tmp_path: Path) -> None:
    within = '[[variants]]\nname = "w"\ntarget.within = "gaussian"\ndata.first_class = 5\neval.shift = "moved"\n'
    for run in planned(tmp_path, FAMILY + within).runs:
        file = tmp_path / "preset.toml"
        file.write_text(run.config.to_toml())
        assert load_run_config(file).settings() == run.config.settings()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ('target.teacher = "@ce"', "target.teacher: belongs to ce"),
        ('target.method = "ce"\ntarget.within = "kld"', "target.within: belongs to lsc"),
        ('target.method = "ce"\ntarget.temperature = 2.0', "target.temperature: needs target.teacher"),
        ('target.within_weight = 1.0', 'needs target.within = "kld" or "gaussian"'),
        ('target.method = "ssl"\ntarget.bottleneck = 3', "target.bottleneck: belongs to ce; self-supervision"),
        ('target.method = "ssl"\ndata.augment = "light1"', "two views of each image by itself"),
        ('target.method = "ssl"\ntrain.batch_size = 1', "needs at least 2"),
        ("data.first_class = 10", "leaves no class to train on; the last of 10 classes is 9"),
        ('data.labels = "unique"\nmodel.dim = "min"\neval.shift = "noise"', "no validation images to change"),
        ('target.order = "nearest:@ce"\nmodel.dim = 6', "the class means of \"@ce\" have n = 5, the vectors n = 6"),
        ('target.order = "nearest:@few"', '"@few" has 4 class means, 10 classes need one each'),
        ('target.method = "ce"\ntarget.teacher = "@lsc"', '"@lsc" is trained with lsc and has no logits'),
        ('target.method = "ce"\ntarget.teacher = "@few"', '"@few" tells 4 classes apart, 10 are needed'),
        ('target.method = "ce"\ntarget.teacher = "@ce"\ndata.image_size = 16', "images of 8 px, here they have 16"),
        ('start_from = "@ce"\nmodel.name = "mlp"', 'the weights of "@ce", which is encoder, do not fit mlp'),
    ],
)  # fmt: skip
def test_impossible_combinations_are_refused(tmp_path: Path, change: str, sentence: str) -> None:
    others = (
        '[[variants]]\nname = "lsc"\n'
        '[[variants]]\nname = "ce"\ntarget.method = "ce"\nmodel.dim = 5\n'
        '[[variants]]\nname = "few"\ntarget.method = "ce"\nmodel.dim = 5\ndata.classes = 4\n'
    )
    assert sentence in faults(tmp_path, f'{others}[[variants]]\nname = "x"\n{change}\n')


def test_levels_without_labels_are_refused(tmp_path: Path) -> None:
    levels = '[compare]\nlevels = { "train/accuracy" = [0.5] }\n'
    ssl = '[[variants]]\nname = "ssl"\ntarget.method = "ssl"\n'
    assert "learns no labels and reaches no level" in faults(tmp_path, levels + ssl)
    runs = planned(tmp_path, f'{levels}{ssl}[[variants]]\nname = "lsc"\n').runs
    # The record of the one run keeps the levels of its study.
    file = tmp_path / "preset.toml"
    file.write_text(runs[0].config.to_toml())
    assert load_run_config(file).target.method == "ssl"
    tune = '[tune]\n"optimizer.lr" = [1e-3]\nby = "val/loss"\n'
    assert "no loss on validation images" in faults(tmp_path, f'{tune}{ssl}[[variants]]\nname = "lsc"\n')


def test_centres_that_move_between_stages_are_warned_about(tmp_path: Path) -> None:
    stages = """
[[variants]]
name = "stage1"
data.classes = 5
[[variants]]
name = "stage2"
start_from = "@stage1"
"""
    assert not planned(tmp_path, stages).preset.warnings
    smaller = stages.replace("data.classes = 5", "data.classes = 5\nmodel.dim = 4")
    assert "model.dim was 4 and is 5" in planned(tmp_path, smaller).preset.warnings[0]
    planar = BASE.replace("dim = 5", "dim = 2").replace('"V21"', '"planar"\nloss = "distance"')
    assert "depends on the number of its vectors" in planned(tmp_path, stages, base=planar).preset.warnings[0]
    assert not planned(tmp_path, stages, 'target.order="sequential"', base=planar).preset.warnings


def test_only_the_images_of_the_later_classes_are_counted_as_trained(tmp_path: Path) -> None:
    stage = '[[variants]]\nname = "s"\nstart_from = "x"\ndata.first_class = 5\n'
    derived = derive(planned(tmp_path, stage).runs[0].config)
    # Digits 5 to 9 of the training split.
    assert derived.images == 151 + 150 + 146 + 146 + 149
    assert derived.steps_per_epoch == derived.images // 32
    assert derived.eval_images == 1497
