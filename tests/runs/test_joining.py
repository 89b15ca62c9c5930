"""The preset that is kept of a study, where several commands began parts of it, also at the same moment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.common.errors import UsageError
from lsc_engine.config.load import load_preset
from lsc_engine.runs.read.run import open_run
from lsc_engine.runs.read.studies import Study
from lsc_engine.studies.plan import StudyPlan, plan_study
from lsc_engine.studies.prepare import begin_study

PRESET = """
# What the study is about.
title = "Joined"
[data]
dataset = "digits"
[model]
name = "encoder"
width = 0.05
[target]
method = "lsc"
system = "V21"
[optimizer]
lr = 1e-3
[train]
duration = "1 epochs"
"""
VARIANTS = '[[variants]]\nname = "a"\nmodel.dim = 6\n[[variants]]\nname = "b"\nmodel.dim = 7\n'


def plan(root: Path, text: str = PRESET + VARIANTS, **options: Any) -> StudyPlan:
    (root / "s.toml").write_text(text)
    return plan_study(root / "s.toml", **options)


def begin(root: Path, text: str = PRESET + VARIANTS, **options: Any) -> None:
    begin_study(plan(root, text, **options), root / "runs", {})


def kept(root: Path) -> dict[str, Any]:
    """The tables of the preset that is kept; it is a valid one."""
    path = Study("s", root / "runs", ()).preset_path
    load_preset(path)
    return tomllib.loads(path.read_text())


def names(root: Path) -> list[str]:
    return [variant["name"] for variant in kept(root)["variants"]]


def test_no_try_is_begun_for_a_study_whose_runs_have_other_settings(tmp_path: Path) -> None:
    tune = "[tune]\nseed = 9\noptimizer.lr = [1e-4, 1e-3]\n"
    begin(tmp_path)
    before = kept(tmp_path)
    with pytest.raises(UsageError, match=r"with other settings: train[.]duration is '1 epochs' there"):
        begin(tmp_path, (PRESET + tune + VARIANTS).replace("1 epochs", "2 epochs"))
    assert kept(tmp_path) == before
    assert not (tmp_path / "runs" / "s.tune").exists()
    # The tries are there to change the rate.
    begin(tmp_path, (PRESET + tune + VARIANTS).replace("lr = 1e-3\n[train]", "lr = 3e-4\n[train]"))
    assert (tmp_path / "runs" / "s.tune").is_dir()


def test_the_same_preset_again_is_kept_as_it_is_written(tmp_path: Path) -> None:
    for variants in (("a",), ("b",), ()):
        begin(tmp_path, variants=variants)
    assert Study("s", tmp_path / "runs", ()).preset_path.read_text() == PRESET + VARIANTS


def test_seeds_of_several_commands_are_all_kept(tmp_path: Path) -> None:
    seeds: Sequence[tuple[int, ...]] = ((3,), (0, 1), (1, 7))
    for some in seeds:
        begin(tmp_path, seeds=some)
    assert kept(tmp_path)["seeds"] == [3, 0, 1, 7]
    assert "seed" not in kept(tmp_path)
    for seed in (0, 1, 3, 7):
        assert open_run(f"s/a/seed-{seed}", [tmp_path / "runs"]).status().state == "queued"


def test_variants_of_several_sweeps_are_all_kept_with_their_settings(tmp_path: Path) -> None:
    begin(tmp_path, sweeps=["optimizer.lr=1e-3,1e-2"], variants=["a"])
    begin(tmp_path, sweeps=["optimizer.lr=1e-4"], variants=["b"], seeds=[5])
    lrs = {variant["name"]: variant["optimizer"]["lr"] for variant in kept(tmp_path)["variants"]}
    assert lrs == {"a+lr=0.001": 1e-3, "a+lr=0.01": 1e-2, "a+lr=0.0001": 1e-4, "b+lr=0.0001": 1e-4}
    assert kept(tmp_path)["seeds"] == [0, 5]


def test_of_an_edited_preset_what_was_begun_keeps_its_settings(tmp_path: Path) -> None:
    begin(tmp_path, variants=["a"])
    edited = (PRESET + VARIANTS).replace("model.dim = 6", "model.dim = 9").replace('"b"', '"c"')
    begin(tmp_path, edited, variants=["c"])
    dims = {variant["name"]: variant["model"]["dim"] for variant in kept(tmp_path)["variants"]}
    # b was never begun, and is no longer in the preset.
    assert dims == {"a": 6, "c": 7}
    with pytest.raises(UsageError, match=r"other settings: model\.dim is 6 there, 9 here. Give --name s-2"):
        begin(tmp_path, edited, variants=["a"])
    assert {v["name"]: v["model"]["dim"] for v in kept(tmp_path)["variants"]} == dims


TUNE = '[tune]\n"optimizer.lr" = [1e-4, 1e-3]\nduration = "1 steps"\nby = "train/loss"\n'


def test_tries_of_another_grid_are_refused_with_the_difference(tmp_path: Path) -> None:
    begin(tmp_path, PRESET + TUNE + VARIANTS, variants=["a"])
    before = sorted((tmp_path / "runs").rglob("*"))
    for old, new, told in (
        ("[1e-4, 1e-3]", "[1e-4, 1e-2]", r"optimizer\.lr is \[0.0001, 0.001\] there, \[0.0001, 0.01\] here"),
        ('"1 steps"', '"2 steps"', "duration is '1 steps' there, '2 steps' here"),
    ):
        with pytest.raises(UsageError, match=f"{told}. Give --name s-2|train.duration"):
            begin(tmp_path, PRESET + TUNE.replace(old, new) + VARIANTS, variants=["b"])
    assert sorted((tmp_path / "runs").rglob("*")) == before
    # Where the command line decides the rate there is nothing to try, and the tries stay on record.
    begin(tmp_path, PRESET + TUNE + VARIANTS, variants=["b"], sets=["optimizer.lr=0.5"])
    assert kept(tmp_path)["tune"]["optimizer.lr"] == [1e-4, 1e-3]
    assert names(tmp_path) == ["a", "b"]


def test_processes_that_begin_one_study_at_once_lose_nothing(tmp_path: Path) -> None:
    plans = [plan(tmp_path, seeds=[seed, 9], variants=["ab"[seed % 2]]) for seed in range(5)]
    gate = os.pipe()
    children = []
    for made in plans:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(gate[1])
                os.read(gate[0], 1)
                begin_study(made, tmp_path / "runs", {})
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    os.close(gate[0])
    os.close(gate[1])
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 5
    assert sorted(kept(tmp_path)["seeds"]) == [0, 1, 2, 3, 4, 9]
    for made in plans:
        for run in made.runs:
            assert open_run(run.id, [tmp_path / "runs"]).status().state == "queued"
    assert not list((tmp_path / "runs/s").rglob(".new-*"))
