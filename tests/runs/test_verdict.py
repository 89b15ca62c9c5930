"""Curves over seeds, verdicts by accuracy and loss, saved views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsc_engine.analysis.compare import Tried, compare
from lsc_engine.analysis.saved_views import VIEWS, SavedView, list_views, read_view, save_view
from lsc_engine.analysis.seed_curves import over_seeds
from lsc_engine.analysis.verdict import choose, verdicts
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.config.tuning import Purpose
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.runs.read.run import list_runs

from .conftest import MakeRun


def train(
    folder: Path, accuracy: float, loss: float, *, until: int = 100, state: str = "finished", every: int = 2
) -> None:
    """A run of 100 steps (10 a epoch) whose accuracy and loss move with speeds of their own."""
    writer = RunWriter.open(folder, device="cpu", total_steps=100, echo=False)
    for step in range(0, until + 1, every):
        values = {"train/loss": 1 - min(loss * step / 100, 0.9), "train/accuracy": min(accuracy * step / 100, 1.0)}
        writer.metrics(step, step / 10, step * 0.5, values)
    if state != "running":
        writer.finish(state, 0)
    writer.close()


@pytest.mark.filterwarnings("error")
def test_the_mean_goes_as_far_as_some_seed_and_never_beyond_a_seed(make_run: MakeRun, tmp_path: Path) -> None:
    train(make_run(variant="a", seed=0), 1.0, 0.9)
    train(make_run(variant="a", seed=1), 0.5, 0.9, until=50, state="diverged", every=5)
    runs = list_runs([tmp_path / "runs"])
    mean = over_seeds(runs, "train/accuracy", "epoch")
    assert mean.x[-1] == 10.0
    at_four = int(np.searchsorted(mean.x, 4.0))
    assert mean.mean[at_four] == pytest.approx((0.4 + 0.2) / 2)
    assert (mean.low[at_four], mean.high[at_four]) == (pytest.approx(0.2), pytest.approx(0.4))
    assert set(mean.count[mean.x <= 5]) == {2.0}
    assert set(mean.count[mean.x > 5]) == {1.0}
    value, spread, count = mean.at(4.0)
    assert (value, spread, count) == (pytest.approx(0.3), pytest.approx(np.std([0.4, 0.2], ddof=1)), 2)
    assert mean.at(9.0)[2] == 1
    runs[0].config["train"] = {"batch_size": 128}
    steps = over_seeds(runs[:1], "train/accuracy", "step").x
    assert np.array_equal(over_seeds(runs[:1], "train/accuracy", "images").x, steps * 128)
    assert over_seeds(runs, "no/such").x.size == 0
    runs[0].config["train"]["batch_size"] = 9e307
    assert over_seeds(runs[:1], "train/accuracy", "images").x.size < steps.size


def test_accuracy_and_loss_may_tell_different_things(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in range(3):
        train(make_run(variant="a", seed=seed), 1.0, 0.6)
        train(make_run(variant="b", seed=seed, dim=12), 0.8, 0.9)
    found = compare(list_runs([tmp_path / "runs"]), levels={"train/accuracy": [0.2, 0.5], "train/loss": [0.8, 0.5]})
    by_accuracy, by_loss = verdicts(found)
    assert (by_accuracy.kind, by_accuracy.result, str(by_accuracy)) == ("accuracy", "fails", "fails, 3 of 3 seeds")
    assert (by_loss.kind, by_loss.result, str(by_loss)) == ("loss", "holds", "holds, 3 of 3 seeds")
    assert by_loss.levels == (("train/loss", 0.8), ("train/loss", 0.5))
    assert by_accuracy.levels == (("train/accuracy", 0.2), ("train/accuracy", 0.5))
    assert by_loss.speeds[-1].ratio == pytest.approx(84 / 56)
    assert by_loss.open == 0


def test_equal_at_the_hardest_level_is_not_resolved_though_an_easier_one_is_reached_first(
    make_run: MakeRun, tmp_path: Path
) -> None:
    for variant, dim, easy in (("a", 4, 20), ("b", 12, 10), ("c", 16, 20)):
        hard = 40 if variant == "c" else 50
        with RunWriter.open(make_run(variant=variant, dim=dim), device="cpu", total_steps=60, echo=False) as writer:
            for step in range(0, 61, 10):
                loss = 1.0 if step < easy else 0.7 if step < hard else 0.4
                writer.metrics(step, step / 10, step * 0.5, {"train/loss": loss})
            writer.finish("finished", 0)
    found = verdicts(compare(list_runs([tmp_path / "runs"]), levels={"train/loss": [0.8, 0.5]}))
    assert [(one.row, str(one)) for one in found] == [("b", "not resolved"), ("c", "holds, 1 of 1 seed")]


def test_a_best_try_that_reached_no_level_is_best_by_its_final_value(make_run: MakeRun, tmp_path: Path) -> None:
    for variant, accuracy in (("a", 0.3), ("b", 0.4)):
        train(make_run(variant=variant), accuracy, 0.5)
    tries = [Tried({"lr": number}, run) for number, run in enumerate(list_runs([tmp_path / "runs"]))]
    by = {}
    for level in (0.35, 0.9):
        (best,) = choose(tries, [Purpose("train/accuracy", (("train/accuracy", level),))]).values()
        assert best.values == {"lr": 1}
        by[level] = best.by
    assert by == {
        0.35: "the time to train/accuracy 0.35",
        0.9: "the final train/accuracy, as no try reached a level",
    }


def test_a_run_under_way_decides_only_what_is_decided(make_run: MakeRun, tmp_path: Path) -> None:
    train(make_run(variant="a"), 1.0, 0.6)
    train(make_run(variant="b"), 2.0, 0.6, until=20, state="running")
    runs = list_runs([tmp_path / "runs"])
    (early,) = verdicts(compare(runs, levels={"train/accuracy": [0.3]}))
    assert (early.result, early.so_far, str(early)) == ("open", "holds", "open, so far: holds, 1 of 1 seed")
    (open_,) = verdicts(compare(runs, levels={"train/accuracy": [0.9]}))
    assert (open_.result, open_.decided, str(open_)) == ("open", 0, "open")
    (late,) = verdicts(compare(runs, levels={"train/accuracy": [0.1, 0.15, 0.9]}))
    assert late.decided == 1


def test_seeds_and_levels_that_disagree_have_their_own_verdicts(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, speed in enumerate((2.0, 0.5)):
        train(make_run(variant="a", seed=seed), 1.0, 0.6)
        train(make_run(variant="b", seed=seed), speed, 0.6)
    (split,) = verdicts(compare(list_runs([tmp_path / "runs"]), levels={"train/accuracy": [0.4]}))
    assert str(split) == "differs by seed, 1 of 2 seeds"


def test_the_last_value_of_a_run_under_way_is_none_where_others_finished(make_run: MakeRun, tmp_path: Path) -> None:
    train(make_run(variant="a", seed=0), 1.0, 0.6)
    train(make_run(variant="a", seed=1), 1.0, 0.6, until=20, state="running")
    (row,) = compare(list_runs([tmp_path / "runs"])).rows
    assert row.last["train/accuracy"] == (1.0, 0.0, 1)


def test_a_view_is_written_and_read_again(tmp_path: Path) -> None:
    view = SavedView(
        "fig1a", "s/fig1a", ("s/fig1a/a/seed-0",), "s/fig1a/a", {"train/loss": [0.4]}, axis="step", band=False
    )
    path = save_view(tmp_path, view)
    assert path == tmp_path / VIEWS / "fig1a.toml"
    assert read_view(path) == view
    assert list_views(tmp_path) == [view]
    (tmp_path / VIEWS / "bad.toml").write_text("runs = [")
    (tmp_path / VIEWS / "odd.toml").write_text(
        f'runs = [1, "x"]\nlevels = {{a = "b", c = [nan, 1, {9**400}]}}\nband = 3\n'
    )
    odd = read_view(tmp_path / VIEWS / "odd.toml")
    assert (odd.runs, odd.levels, odd.band) == (("x",), {"c": [1.0]}, True)
    assert [v.name for v in list_views(tmp_path)] == ["fig1a", "odd"]


def test_a_view_stays_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        save_view(tmp_path, SavedView("../x"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / VIEWS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LscError, match="is a link"):
        save_view(tmp_path, SavedView("x"))
    assert not list((tmp_path / "elsewhere").iterdir())
