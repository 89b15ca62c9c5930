"""Studies: options, order, references, tries, and the round trip of a run's preset."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsc_engine.common.errors import UsageError
from lsc_engine.config.derived import derive
from lsc_engine.config.load import PresetInfo, list_presets, load_preset, load_run_config
from lsc_engine.data.dataset import Counts
from lsc_engine.data.datasets.glyphs import Glyphs
from lsc_engine.runs.settings import differences
from lsc_engine.studies.plan import plan_study
from tests.config.mutations import Table, base, write

STAGES: Table = {
    "data": {"dataset": "fashion-mnist"},
    "model": {"name": "mlp", "dim": 32},
    "target": {"method": "lsc", "system": "V21"},
    "train": {"duration": "2 epochs"},
    "seeds": [0, 1],
    "variants": [
        {"name": "means", "target": {"system": "embeddings:@ce", "order": "sequential"}, "model": {"dim": "min"}},
        {"name": "tuned-on", "start_from": "@means", "needs": ["plain"]},
        {"name": "plain", "model": {"dim": 16}},
        {"name": "ce", "target": {"method": "ce"}},
    ],
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    table = base()
    del table["tune"]
    return write(table, tmp_path)


def test_runs_are_variants_times_seeds(study: Path) -> None:
    plan = plan_study(study)
    assert [r.id for r in plan.runs] == [f"spoilt/{v}/seed-{s}" for v in "ab" for s in (0, 1)]
    assert plan.preset.text == study.read_text()


def test_needs_come_first_and_references_become_run_ids(tmp_path: Path) -> None:
    plan = plan_study(write(STAGES, tmp_path), name="stages")
    ids = [r.id for r in plan.runs]
    for run in plan.runs:
        assert all(ids.index(need) < ids.index(run.id) for need in run.needs)
    runs = {r.id: r for r in plan.runs}
    means = runs["stages/means/seed-1"]
    assert means.config.target.system == "embeddings:stages/ce/seed-1"
    assert means.config.model.dim == 32
    assert means.needs == ("stages/ce/seed-1",)
    assert runs["stages/tuned-on/seed-0"].config.start_from == "stages/means/seed-0"
    assert set(runs["stages/tuned-on/seed-0"].needs) == {"stages/means/seed-0", "stages/plain/seed-0"}
    assert runs["stages/ce/seed-0"].config.eval.class_means
    assert not runs["stages/plain/seed-0"].config.eval.class_means


def test_named_variants_bring_what_they_need(tmp_path: Path) -> None:
    plan = plan_study(write(STAGES, tmp_path), variants=["means"], seeds=[3])
    assert [r.id for r in plan.runs] == ["spoilt/ce/seed-3", "spoilt/means/seed-3"]


def test_sweeps_keep_references_inside_one_combination(tmp_path: Path) -> None:
    plan = plan_study(write(STAGES, tmp_path), variants=["means"], seeds=[0], sweeps=["optimizer.lr=0.001,1e-05"])
    assert [r.id for r in plan.runs] == [
        f"spoilt/{v}+lr={lr}/seed-0" for lr in ("0.001", "1e-05") for v in ("ce", "means")
    ]
    assert plan.runs[1].config.target.system == "embeddings:spoilt/ce+lr=0.001/seed-0"
    assert plan.runs[3].needs == ("spoilt/ce+lr=1e-05/seed-0",)


def test_two_sweeps_multiply(study: Path) -> None:
    plan = plan_study(
        study, seeds=[0], variants=["a"], sweeps=["optimizer.lr=1e-3,1e-4", "train.duration=5 epochs,6 epochs"]
    )
    assert [r.config.variant for r in plan.runs] == [
        "a+lr=0.001+duration=5-epochs",
        "a+lr=0.001+duration=6-epochs",
        "a+lr=0.0001+duration=5-epochs",
        "a+lr=0.0001+duration=6-epochs",
    ]
    assert plan.preset.compare.baseline == "a+lr=0.001+duration=5-epochs"
    assert plan.runs[0].config.label == "a lr=0.001 duration=5-epochs"


def test_sets_win_over_variants_and_need_no_quotes(study: Path) -> None:
    plan = plan_study(study, sets=["target.system=V22", "model.dim=30", "optimizer.lr=5e-4"], variants=["a"])
    assert {(r.config.target.system, r.config.model.dim, r.config.optimizer.lr) for r in plan.runs} == {
        ("V22", 30, 5e-4)
    }


def test_a_set_may_make_variants_equal_which_is_refused(study: Path) -> None:
    with pytest.raises(UsageError, match='exactly what variant "a" does'):
        plan_study(study, sets=["target.system=V21"])


def test_set_of_another_method_drops_the_vectors(tmp_path: Path) -> None:
    table = base() | {"variants": [{"name": "a", "target": {"system": "A"}}]}
    (run, *_) = plan_study(write(table, tmp_path), sets=["target.method=ce", "seed=4"]).runs
    assert (run.config.target.method, run.config.system, run.config.seed) == ("ce", None, 4)


def test_set_reaches_the_whole_preset(study: Path) -> None:
    plan = plan_study(
        study, sets=["title=New words", "seeds=[7]", "compare.levels.train/loss=[0.5]", "model.width=0.5"]
    )
    assert plan.preset.title == "New words"
    assert plan.preset.seeds == (7,)
    assert plan.preset.compare.levels == {"train/accuracy": (0.5, 0.9), "train/loss": (0.5,)}


def test_all_faults_of_options_and_file_at_once(tmp_path: Path) -> None:
    table = base()
    table["data"]["dataset"] = "digts"
    with pytest.raises(UsageError) as caught:
        plan_study(write(table, tmp_path), sets=["optimizer.rl=1"], sweeps=["model.dmi=1"], name="../x", seeds=[-1])
    sentences = "\n".join(caught.value.faults)
    for part in ("--set optimizer.rl", "--sweep model.dmi", "--name", "--seeds", "data.dataset"):
        assert part in sentences


def test_tries_and_the_study_after_them(tmp_path: Path) -> None:
    plan = plan_study(write(base(), tmp_path))
    assert plan.tune is not None
    assert plan.tune.study == "spoilt.tune"
    assert [(t.id, t.of, dict(t.values)) for t in plan.tune.runs] == [
        (f"spoilt.tune/{v}+lr={lr}/seed-9", v, {"optimizer.lr": lr}) for lr in (0.0001, 0.001) for v in "ab"
    ]
    assert {r.config.train.duration for r in plan.tune.runs} == {"2 epochs"}
    tuned = plan.tuned({"a": [{"optimizer.lr": 3e-2}]})
    assert tuned.tune is None
    assert [(r.id, r.config.optimizer.lr) for r in tuned.runs] == [
        ("spoilt/a/seed-0", 3e-2),
        ("spoilt/a/seed-1", 3e-2),
        ("spoilt/b/seed-0", 1e-3),
        ("spoilt/b/seed-1", 1e-3),
    ]


def test_a_set_takes_its_key_out_of_the_tries(tmp_path: Path) -> None:
    path = write(base(), tmp_path)
    assert plan_study(path, sets=["optimizer.lr=1e-2"]).tune is None
    assert plan_study(path, sweeps=["optimizer.lr=1e-2,1e-3"]).tune is None
    assert plan_study(path, sets=["train.batch_size=32"]).tune is not None


def test_tries_of_stages_need_the_tries_before_them(tmp_path: Path) -> None:
    plan = plan_study(write(STAGES | {"tune": {"optimizer": {"lr": [1e-3, 1e-4]}}}, tmp_path), variants=["means"])
    assert plan.tune is not None
    needs = {t.id: t.needs for t in plan.tune.runs}
    # Of `ce` the try with the preset's own rate.
    assert needs["spoilt.tune/means+lr=0.001/seed-9"] == ("spoilt.tune/ce+lr=0.0001/seed-9",)
    assert needs["spoilt.tune/means+lr=0.0001/seed-9"] == ("spoilt.tune/ce+lr=0.0001/seed-9",)
    assert len(needs) == 4


@pytest.mark.parametrize("info", [i for i in list_presets() if not i.own], ids=lambda i: i.name)
def test_every_shipped_run_comes_back_from_its_own_preset(
    info: PresetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a machine with fonts of 20 000 characters.
    monkeypatch.setattr(Glyphs, "count", lambda self, chosen: Counts(60_000, chosen.classes, 20_000))
    plan = plan_study(info.path)
    assert plan.study == info.name
    for run in (plan.runs[0], plan.runs[-1]) if plan.runs else ():
        path = tmp_path / "preset.toml"
        path.write_text(run.config.to_toml())
        assert load_run_config(path) == run.config
        (again,) = plan_study(path).runs
        assert again.id == f"preset/default/seed-{run.config.seed}"
        assert differences(run.config.settings(), again.config.settings()) == {}
        # As text: what only a table could tell is NaN, which equals nothing.
        assert repr(derive(again.config)) == repr(derive(run.config))
        assert tomllib.loads(again.config.to_toml())["run"]["label"] == run.config.label


@settings(max_examples=100)
@given(
    lr=st.floats(1e-9, 999, allow_subnormal=False),
    width=st.floats(0.01, 16),
    classes=st.integers(100, 1797),
    seed=st.integers(0, 2**63 - 1),
    title=st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=30),
    duration=st.sampled_from(["1 epochs", "0.5 epochs", "1_000 examples", "7 steps", "1e2 steps"]),
    loss=st.sampled_from(["cosine", "distance", "cosine+distance"]),
)
def test_round_trip_of_any_values(tmp_path_factory: pytest.TempPathFactory, **values: object) -> None:
    table = base() | {"title": values["title"], "seeds": [values["seed"]]}
    del table["tune"]
    table["optimizer"] = {"lr": values["lr"]}
    table["model"]["width"] = values["width"]
    table["data"]["classes"] = values["classes"]
    table["train"]["duration"] = values["duration"]
    table["target"]["loss"] = values["loss"]
    folder = tmp_path_factory.mktemp("trip")
    for run in plan_study(write(table, folder)).runs:
        path = folder / "preset.toml"
        path.write_text(run.config.to_toml(), encoding="utf-8")
        assert load_run_config(path) == run.config


def test_a_runs_preset_takes_options(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "preset.toml"
    path.write_text(plan_study(study, variants=["b"]).runs[1].config.to_toml())
    (run,) = plan_study(path, sets=["optimizer.lr=0.5"]).runs
    assert (run.id, run.config.label, run.config.optimizer.lr) == ("preset/default/seed-1", "B", 0.5)
    assert len(plan_study(path, sweeps=["optimizer.lr=0.5,0.25"], seeds=[0, 1]).runs) == 4


def test_a_preset_is_no_record_of_a_run(study: Path) -> None:
    with pytest.raises(UsageError, match="not the record of a run"):
        load_run_config(study)
    study.write_text("")
    with pytest.raises(UsageError, match="run: is missing: the file is empty; delete this run"):
        load_run_config(study)


def test_differences_are_settings_only(study: Path) -> None:
    (a, *_) = plan_study(study, name="x", variants=["a"]).runs
    (b, *_) = plan_study(study, name="y", variants=["a"], sets=["optimizer.lr=0.5", "title=z"]).runs
    assert differences(a.config.settings(), b.config.settings()) == {"optimizer.lr": (1e-3, 0.5)}


def test_own_presets_are_found_by_stem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSC_PRESETS", str(tmp_path))
    table = base()
    write(table, tmp_path).rename(tmp_path / "demo.toml")
    assert load_preset("demo").path == str(tmp_path / "demo.toml")
    (tmp_path / "torn.toml").write_text("[")
    faults = {i.stem: i.fault for i in list_presets() if i.own}
    assert "not TOML" in faults["torn"]
    assert not faults["demo"]


def test_a_file_whose_stem_is_no_name_needs_one(tmp_path: Path) -> None:
    path = write(base(), tmp_path).rename(tmp_path / "my preset.toml")
    with pytest.raises(UsageError, match="--name my-preset"):
        plan_study(path)
    assert plan_study(path, name="mine").study == "mine"


# Of its four variants one has a fault of its own, and one is of a data set that the others' settings do not suit.
PICKED: Table = {
    "data": {"dataset": "digits"},
    "model": {"name": "mlp", "dim": 8},
    "target": {"method": "lsc", "system": "V21"},
    "train": {"duration": "4 steps", "batch_size": 8},
    "compare": {"baseline": "narrow"},
    "paper": {"metric": "train/accuracy", "values": {"plain": "1", "narrow": "2"}},
    "claims": [
        {"text": "one", "variant": "plain", "against": "narrow", "is": "faster"},
        {"text": "other", "variant": "plain", "is": "works"},
    ],
    "tune": {"optimizer.lr": [1e-3, 1e-2], "duration": "2 steps"},
    "variants": [
        {"name": "plain"},
        {"name": "ce", "target": {"method": "ce"}},
        {"name": "means", "target": {"system": "embeddings:@ce", "order": "sequential"}, "model": {"dim": "min"}},
        {"name": "narrow", "model": {"dim": 2}, "train": {"batch_size": 4000}},
        {"name": "far", "data": {"dataset": "imagenet", "classes": 1000, "image_size": 32}, "model": {"dim": 16}},
    ],
}


def test_faults_of_variants_that_are_not_chosen_do_not_count(tmp_path: Path) -> None:
    path = write(PICKED, tmp_path)
    plan = plan_study(path, variants=["plain"])
    assert [run.config.variant for run in plan.runs] == ["plain"]
    assert plan.tune is not None
    assert {attempt.of for attempt in plan.tune.runs} == {"plain"}
    with pytest.raises(UsageError, match="narrow") as caught:
        plan_study(path)
    assert all('variant "narrow"' in sentence for sentence in caught.value.faults)
    with pytest.raises(UsageError, match=r"model\.dim"):
        plan_study(path, variants=["narrow"])
    with pytest.raises(UsageError, match=r"no such variant; did you mean \"plain\""):
        plan_study(path, variants=["plane"])


def test_the_study_keeps_the_variants_without_faults(tmp_path: Path) -> None:
    plan = plan_study(write(PICKED, tmp_path), variants=["plain"])
    kept = tomllib.loads(plan.to_toml())
    assert [variant["name"] for variant in kept["variants"]] == ["plain", "ce", "means", "far"]
    assert [claim["text"] for claim in kept["claims"]] == ["other"]
    assert kept["paper"]["values"] == {"plain": "1"}
    assert "baseline" not in kept.get("compare", {})
    again = tmp_path / "kept.toml"
    again.write_text(plan.to_toml())
    assert [variant.name for variant in load_preset(again).variants] == ["plain", "ce", "means", "far"]


def test_what_a_chosen_variant_needs_is_checked_with_it(tmp_path: Path) -> None:
    table = {**PICKED, "variants": [*PICKED["variants"], {"name": "after", "needs": ["narrow"]}]}
    with pytest.raises(UsageError, match='variant "narrow"'):
        plan_study(write(table, tmp_path), variants=["after"])
    plan = plan_study(write(table, tmp_path), variants=["means"], sets=["train.batch_size=16"])
    assert {run.config.variant: run.config.train.batch_size for run in plan.runs} == {"ce": 16, "means": 16}


@pytest.mark.parametrize(
    ("variant", "sets"),
    [
        # 1000 classes of imagenet have no place in ten digits, ten digits no 1024 pixels.
        ("plain", ["data.dataset=digits", "data.classes=10"]),
        ("plain", ["model.dim=5"]),
        ("far", ["data.classes=300k", "data.labels=unique", "model.dim=512"]),
        ("far", ["train.batch_size=50_000"]),
    ],
)
def test_a_setting_changes_the_chosen_variants_alone(tmp_path: Path, variant: str, sets: list[str]) -> None:
    path = write(PICKED, tmp_path)
    plan = plan_study(path, variants=[variant], sets=sets)
    (run,) = plan.runs
    key, _, value = sets[-1].partition("=")
    section, _, name = key.partition(".")
    assert getattr(getattr(run.config, section), name) == int(value)
    others = {v["name"]: v for v in tomllib.loads(plan.to_toml())["variants"]}
    whole = {v["name"]: v for v in PICKED["variants"]}
    for other in ("plain", "ce", "far"):
        changed = others[other].get(section, {}).get(name) == int(value)
        assert changed == (other == variant), whole[other]


def test_a_sweep_that_does_not_suit_another_variant(tmp_path: Path) -> None:
    plan = plan_study(write(PICKED, tmp_path), variants=["plain"], sweeps=["model.dim=4,5", "data.classes=5,9"])
    assert sorted(run.config.variant for run in plan.runs) == [f"plain+dim={d}+classes={c}" for d in "45" for c in "59"]
    assert plan.tune is not None


def test_figure_6_trains_ten_classes_without_the_data_of_84() -> None:
    plan = plan_study("fig6", variants=["10"], sets=["data.dataset=digits", "train.batch_size=1_400"], seeds=[0])
    (run,) = plan.runs
    assert (run.config.variant, run.config.data.dataset, run.config.train.batch_size) == ("10", "digits", 1400)
    with pytest.raises(UsageError, match='variant "84": data'):
        plan_study("fig6", sets=["data.dataset=digits"])
