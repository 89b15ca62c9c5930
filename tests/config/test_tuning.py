"""What [tune] chooses by: the claims; how a grid grows; and the variants that several best settings make."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsc_engine.common.errors import UsageError
from lsc_engine.config.tuning import MOST_GROWTH, Purpose, at_edge, next_value
from lsc_engine.studies.plan import plan_study

PRESET = """
seeds = [0, 1]
[data]
dataset = "digits"
labels = "unique"
[model]
name = "mlp"
dim = 48
[target]
method = "lsc"
system = "A"
[train]
duration = "4 epochs"
[compare]
baseline = "a"
levels = { "train/accuracy" = [0.5, 0.9], "train/loss" = [0.6] }
[tune]
"optimizer.lr" = [1e-4, 1e-3]
duration = "3 epochs"
[[claims]]
text = "b is faster"
variant = "b"
is = "faster"
[[claims]]
text = "ce works"
variant = "ce"
is = "works"
threshold = 0.9
[[claims]]
text = "ce is faster"
variant = "ce"
is = "faster"
metric = "train/accuracy"
[[variants]]
name = "a"
[[variants]]
name = "b"
target.system = "V21"
[[variants]]
name = "ce"
target.method = "ce"
model.dim = 48
"""
ACCURACY = Purpose("train/accuracy", (("train/accuracy", 0.9), ("train/accuracy", 0.5)))
LOSS = Purpose("train/loss", (("train/loss", 0.6),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "three.toml"
    file.write_text(PRESET)
    return file


def test_tries_are_chosen_by_what_the_claims_judge(path: Path) -> None:
    tune = plan_study(path).tune
    assert tune is not None
    assert tune.purposes == {
        "a": (ACCURACY, LOSS), "b": (ACCURACY, LOSS), "ce": (ACCURACY, Purpose("train/accuracy")),
    }  # fmt: skip
    until = {attempt.of: attempt.config.train.until for attempt in tune.runs}
    # A try that is judged by its end goes to its end.
    assert until == {
        "a": {"train/accuracy": 0.9, "train/loss": 0.6}, "b": {"train/accuracy": 0.9, "train/loss": 0.6}, "ce": None,
    }  # fmt: skip
    assert {run.config.train.duration for run in tune.runs} == {"3 epochs"}


def test_a_metric_that_is_named_decides_for_all(path: Path) -> None:
    path.write_text(PRESET.replace('duration = "3 epochs"', 'duration = "3 epochs"\nby = "train/loss"'))
    tune = plan_study(path).tune
    assert tune is not None
    assert set(tune.purposes.values()) == {(Purpose("train/loss"),)}


def test_several_best_settings_make_several_variants(path: Path) -> None:
    plan = plan_study(path).tuned(
        {"b": [{"optimizer.lr": 3e-3}, {"optimizer.lr": 1e-4}], "a": [{"optimizer.lr": 1e-3}]}
    )
    rates = {(run.config.variant, run.config.seed): run.config.optimizer.lr for run in plan.runs}
    assert rates["b", 1] == 3e-3
    assert rates["b+lr=0.0001", 0] == 1e-4
    assert rates["a", 0] == 1e-3
    assert len(plan.runs) == 2 * 4
    assert plan.preset.reporting.claims


def test_a_grid_grows_for_the_variant_that_needs_it_alone(path: Path) -> None:
    plan = plan_study(path)
    assert plan.tune is not None
    grown = plan.grown({"b": [{"optimizer.lr": 1e-2}]}).tune
    assert grown is not None
    new = {attempt.id for attempt in grown.runs} - {attempt.id for attempt in plan.tune.runs}
    assert new == {"three.tune/b+lr=0.01/seed-9"}


@pytest.mark.parametrize("own", ["3e-4", "2e-5"])
def test_tries_build_on_one_try_of_what_they_need(path: Path, own: str) -> None:
    """At a rate at which `ce` learns nothing, its class means are those of an untrained network, reached at once."""
    variant = 'name = "means"\ntarget.system = "embeddings:@ce"\ntarget.order = "sequential"\nmodel.dim = 48\n'
    text = f"{path.read_text()}optimizer.lr = {own}\n[[variants]]\n{variant}"
    path.write_text(text.replace("[1e-4, 1e-3]", "[1e-4, 3e-4, 1e-3]"))
    plan = plan_study(path)
    assert plan.tune is not None
    tries = [one for one in plan.tune.runs if one.of == "means"]
    assert [one.values["optimizer.lr"] for one in tries] == [1e-4, 3e-4, 1e-3]
    assert {one.needs for one in tries} == {(f"{plan.tune.study}/ce+lr=0.0003/seed-9",)}
    # What has to be the same for both follows.
    path.write_text(text.replace("[1e-4, 1e-3]", '[1e-4, 3e-4]\n"data.classes" = [500, 900]'))
    plan = plan_study(path)
    assert plan.tune is not None
    tries = [one for one in plan.tune.runs if one.of == "means"]
    assert len(tries) == 4
    for one in tries:
        assert one.needs == (f"{plan.tune.study}/ce+lr=0.0003+classes={one.values['data.classes']}/seed-9",)


def test_the_steps_of_a_grid_go_on_with_its_own_factor_twice() -> None:
    grid, values = [1e-4, 3e-4, 1e-3], [1e-4, 3e-4, 1e-3]
    assert next_value(values, grid, 3e-4) is None
    for expected in (3e-3, 1e-2):
        value = next_value(values, grid, max(values))
        assert value == pytest.approx(expected)
        values.append(value)
    assert len(values) == len(grid) + MOST_GROWTH
    assert next_value(values, grid, 1e-2) is None
    assert next_value(values, grid, 1e-4) == pytest.approx(3e-5)
    assert at_edge(values, 1e-2)
    assert not at_edge(values, 1e-3)
    assert next_value(["constant", "cosine"], ["constant", "cosine"], "cosine") is None


@pytest.mark.parametrize(
    ("grid", "best", "value"),
    [
        ([1e-6, 3e-3], 3e-3, 3e-2),
        ([1e-6, 3e-3], 1e-6, 1e-7),
        ([32, 64], 64, 128),
        ([24, 40], 24, 14),
        ([1, 2], 1, None),
    ],
)
def test_a_step_is_at_most_ten_fold_and_whole_for_whole_numbers(
    grid: list[float], best: float, value: float | None
) -> None:
    found = next_value(grid, grid, best)
    assert found == (value if value is None else pytest.approx(value))
    assert found is None or type(found) is type(grid[0])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('is = "works"\nthreshold = 0.9', 'is = "works"\nthreshold = -1', "threshold"),
        ('is = "works"\nthreshold = 0.9', 'is = "better"\nthreshold = 0.9', 'goes with is = "works" or "fails"'),
        ('[train]\nduration = "4 epochs"', '[train]\nduration = "4 epochs"\nuntil = { "train/acuracy" = 0.9 }',
         'did you mean "train/accuracy"'),
    ],
)  # fmt: skip
def test_bad_thresholds_and_levels_are_refused(path: Path, old: str, new: str, words: str) -> None:
    path.write_text(PRESET.replace(old, new))
    with pytest.raises(UsageError, match=words):
        plan_study(path)
