"""The form shows what will run: after any edits its rows are the settings of the run folders that the launch makes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lsc_engine.config.load import load_preset, load_run_config
from lsc_engine.config.schema import RunConfig
from lsc_engine.studies.plan import plan_study
from lsc_engine.studies.prepare import create_study
from lsc_tui.data.preset_form import Form, field_text, shown_value, typed, value_words
from lsc_tui.data.run_view import Store
from lsc_tui.services.form_check import examine
from lsc_tui.services.launch import keep_toml, launch_argv
from lsc_tui.widgets.form import rows

# Variants that set the same things for themselves, one that needs another, one of another method.
FOUR = """\
title = "four"
seeds = [0, 1]
[data]
dataset = "digits"
labels = "unique"
classes = 120
[model]
name = "mlp"
[target]
method = "lsc"
system = "V21"
[optimizer]
lr = 1e-3
[train]
duration = "3 epochs"
batch_size = 32
[compare]
baseline = "a"
[[variants]]
name = "a"
model.dim = 24
[[variants]]
name = "b"
model.dim = "min"
optimizer.lr = 1e-4
[[variants]]
name = "c"
target.method = "ce"
optimizer.lr = 3e-4
train.batch_size = 40
[[variants]]
name = "d"
target.system = "embeddings:@c"
"""
ONE = "\n".join(line for line in FOUR.split("[compare]")[0].splitlines())
VALUES = {
    "optimizer.lr": ("1e3", "0.00012345678", "1e-5", ".002", "3", ""), "model.dim": ("min", "30", "48", ""),
    "train.batch_size": ("16", "1_0", "60", ""), "train.duration": ("2 epochs", "77 steps", "1_000 examples"),
    "target.system": ("V22", "A", "V21"), "target.order": ("sequential", "shuffled", ""),
    "target.loss": ("distance", "cosine", "cosine+distance", ""), "target.radius": ("2.5", "native", ""),
    "target.method": ("lsc", "ce"), "data.classes": ("100", "1.1k", "120"), "model.width": ("0.5", "2", ""),
    "optimizer.schedule": ("cosine", "steps", "constant", ""), "optimizer.warmup": ("5 steps", "1 epochs", ""),
    "optimizer.weight_decay": ("0", "1e-2", ""), "checkpoint.also_at": ("1 epochs", '["1 epochs", "2 epochs"]', ""),
    "eval.every": ("1 epochs", "10 steps", ""), "train.precision": ("float32", "auto", ""),
    "model.args": ("{ layers = 2 }", "{}", ""), "target.weights": ("[1, 0.25]", ""),
}  # fmt: skip
KEYS = st.sampled_from(sorted(VALUES))
EDITS = st.one_of(
    st.tuples(st.just("toggle"), st.integers(0, 3), st.none()),
    st.tuples(st.just("highlight"), st.integers(0, 3), st.none()),
    KEYS.flatmap(lambda key: st.tuples(st.just("set"), st.just(key), st.sampled_from(VALUES[key]))),
    KEYS.flatmap(lambda key: st.tuples(st.just("set"), st.just(key), st.sampled_from(VALUES[key]))),
    st.tuples(st.just("for all"), KEYS, st.none()),
    st.tuples(st.just("reset"), KEYS, st.none()),
    st.tuples(st.just("tune"), st.none(), st.none()),
    st.tuples(st.just("seeds"), st.sampled_from(("0", "3 1", "0-2", "7")), st.none()),
    st.tuples(st.just("study"), st.sampled_from(("mine", "four", "x.y")), st.none()),
)


def edit(form: Form, what: str, where: object, text: object) -> None:
    """What a key of the form does."""
    if what == "toggle":
        form.on ^= {form.names[int(str(where)) % len(form.names)]}
    elif what == "highlight":
        form.highlighted = int(str(where)) % len(form.names)
    elif what == "set":
        form.set(str(where), str(text))
    elif what == "for all":
        form.put(str(where), form.given(str(where), form.variant), form.names)
    elif what == "reset":
        form.reset(str(where))
    elif what == "tune":
        form.toggle_tune()
    elif what == "seeds":
        form.set_seeds(str(where))
    else:
        form.study, form.wanted = str(where), ""


def launched(form: Form, root: Path) -> list[RunConfig]:
    """The settings in the run folders that the command of the launch makes; nothing is trained."""
    argv = launch_argv(form, keep_toml(form))
    options = {name: [argv[i + 1] for i, word in enumerate(argv) if word == name] for name in ("--name", "--variant")}
    plan = plan_study(
        Path(argv[argv.index("run") + 1]), name=options["--name"][0], variants=tuple(options["--variant"])
    )
    made = create_study(plan, root, {})
    return [load_run_config(run.folder / "preset.toml") for run in made]


def compare(form: Form) -> bool:
    """Compare rows and run folders, for every variant that runs; whether the form could be launched at all."""
    with tempfile.TemporaryDirectory() as folder:
        form.runs_dir = Path(folder)
        outcome = examine(form)
        if outcome.faults:
            return False
        made = launched(form, form.runs_dir)
        assert sorted(config.run_id for config in made) == sorted(outcome.runs)
        assert {config.variant for config in made} == set(form.running)
        saved = {v.name: v.settings.flat() for v in load_preset(keep_toml(form)).variants}
    for config in made:
        form.highlighted = form.names.index(config.variant)
        assert form.variant == config.variant
        shown = {row.key: row.value for row in rows(form, outcome, Store("here"), every=True, wide=True)}
        assert str(config.seed) in shown["seeds"].split()
        assert shown["study"] == config.study
        own = config.flat()
        for key in form.keys(True):
            tried = key in (form.grid or {})
            if shown[key] != "-" and not tried:
                value, _ = shown_value(key, None, own)
                here = shown[key].replace("@c", f"{config.study}/c/seed-{config.seed}")
                assert here in (value, f"min: {value}", f"native: {value}"), (key, config.variant)
                if "@" not in shown[key]:
                    assert saved[config.variant].get(key) == own.get(key), key
            elif not tried:
                assert not form.acts_in(key, config.variant), key
    return True


reached = {"launched": 0, "edits": 0}


def edited(text: str, edits: list[tuple[str, object, object]]) -> None:
    """Compare after each edit."""
    form = Form.of(text, "four", "four", Path("/nonexistent"))
    for one in edits:
        edit(form, *one)
        reached["edits"] += 1
        reached["launched"] += compare(form)


FUZZED = {"phases": (Phase.explicit, Phase.reuse, Phase.generate)}
SEVERAL = st.lists(EDITS, min_size=8, max_size=8)


@pytest.mark.parametrize("text", [FOUR, ONE], ids=["four variants", "one"])
@settings(max_examples=5, **FUZZED)
@given(edits=SEVERAL)
def test_rows_are_the_settings_of_the_run_folders(text: str, edits: list[tuple[str, object, object]]) -> None:
    edited(text, edits)


@pytest.mark.slow
@pytest.mark.parametrize("text", [FOUR, ONE], ids=["four variants", "one"])
@settings(max_examples=60, **FUZZED)
@given(edits=SEVERAL)
def test_rows_are_the_settings_of_the_run_folders_after_many_edits(
    text: str, edits: list[tuple[str, object, object]]
) -> None:
    edited(text, edits)


def test_most_of_these_forms_could_be_launched() -> None:
    """Otherwise the tests above would say little."""
    if reached["edits"]:
        assert reached["edits"] >= 80
        assert reached["launched"] > reached["edits"] // 4


def test_an_edit_goes_to_a_variant_that_runs() -> None:
    form = Form.of(FOUR, "four", "four", Path("/nonexistent"))
    for number in (1, 2, 3):
        form.highlighted = number
        form.on ^= {form.names[number]}
    form.set("optimizer.lr", "1e3")
    assert (form.variant, form.given("optimizer.lr", "a")) == ("a", 1000.0)
    assert [form.given("optimizer.lr", name) for name in "bcd"] == [1e-4, 3e-4, 1e-3]
    form.on ^= {"d"}
    form.on ^= {"a"}
    form.highlighted = 0
    assert form.running == ["c", "d"], "d needs c"
    form.set("optimizer.lr", "2")
    assert (form.variant, form.given("optimizer.lr", "c"), form.given("optimizer.lr", "a")) == ("c", 2.0, 1000.0)
    form.step(1)
    assert form.variant == "d"
    form.step(1)
    assert form.variant == "c"


def test_the_file_of_a_preset_that_changes_meanwhile_is_not_what_is_launched(tmp_path: Path) -> None:
    path = tmp_path / "four.toml"
    path.write_text(FOUR)
    form = Form.of(FOUR, "four", "four", tmp_path / "runs", path=path)
    path.write_text(FOUR.replace("lr = 1e-3", "lr = 0.5").replace("batch_size = 40", "batch_size = 1"))
    assert {config.optimizer.lr for config in launched(form, form.runs_dir) if config.variant == "a"} == {1e-3}


@settings(max_examples=200)
@given(
    st.one_of(
        st.tuples(st.just("optimizer.lr"), st.floats(1e-300, 1e300)),
        st.tuples(st.just("data.classes"), st.integers(1, 10**12)),
        st.tuples(st.just("optimizer.milestones"), st.lists(st.sampled_from(("10 epochs", "5 steps")), min_size=1)),
        st.tuples(st.just("target.weights"), st.lists(st.floats(0, 1e9), min_size=2, max_size=2)),
        st.tuples(st.just("model.args"), st.dictionaries(st.text(min_size=1), st.lists(st.integers()) | st.text())),
        st.tuples(st.just("model.name"), st.text("ab 1.e-3\"'", min_size=1).filter(lambda s: s == s.strip())),
    )
)
def test_what_stands_in_a_field_means_the_value_it_came_from(pair: tuple[str, object]) -> None:
    key, value = pair
    assert typed(key, field_text(key, value)) == value
    if isinstance(value, float):
        assert float(value_words(value).replace(" ", "")) == value
