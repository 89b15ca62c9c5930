"""Loading presets: defaults, variants, faults as sentences, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsc_engine.common.errors import UsageError
from lsc_engine.config.load import check_text, load_preset
from lsc_engine.config.validation_errors import PresetError
from lsc_engine.studies.plan import plan_study

SMALL = """
[data]
dataset = "digits"
labels = "unique"
[model]
name = "encoder"
[target]
method = "lsc"
system = "V21"
[train]
duration = "3 epochs"
"""


def faults_of(text: str) -> dict[str, str]:
    """Key -> message of every fault in a preset's text."""
    return {fault.key: fault.message for fault in check_text(text)[1]}


def settings_of(text: str, variant: str = "default") -> dict[str, object]:
    preset, faults, _ = check_text(text)
    assert preset is not None, faults
    return preset.variant(variant).settings.flat()


def test_defaults_are_those_of_the_interface() -> None:
    flat = settings_of(SMALL)
    expected = {
        "data.classes": 1797,
        "data.image_size": 8,
        "data.augment": "none",
        "model.dim": 17,
        "model.width": 1.0,
        "model.args": {},
        "target.order": "shuffled",
        "target.loss": "cosine",
        "target.radius": 1.0,
        "target.cluster_radius": 0.0,
        "target.weights": (1.0, 1.0),
        "optimizer.name": "adamw",
        "optimizer.lr": 1e-4,
        "optimizer.weight_decay": 1e-5,
        "optimizer.schedule": "constant",
        "optimizer.warmup": "0 steps",
        "train.batch_size": 256,
        "train.precision": "auto",
        "eval.every": "1 epochs",
        "eval.images": 1797,
        "log.every": "50 steps",
        "checkpoint.every": "10 minutes",
        "checkpoint.keep": 2,
    }
    assert {key: flat[key] for key in expected} == expected


def test_cross_entropy_defaults() -> None:
    flat = settings_of(SMALL.replace('method = "lsc"\nsystem = "V21"', 'method = "ce"'))
    assert flat["model.dim"] == 384
    assert "target.bottleneck" not in flat
    assert "target.system" not in flat


def test_planar_defaults() -> None:
    text = SMALL.replace('labels = "unique"', "").replace('"V21"', '"planar"\nloss = "distance"')
    flat = settings_of(text)
    assert (flat["model.dim"], flat["target.radius"], flat["target.cluster_radius"]) == (2, 5.0, 4 / 16)


def test_title_and_name_default_to_the_stem(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(SMALL)
    preset = load_preset(file)
    assert (preset.name, preset.title, [v.name for v in preset.variants]) == ("mine", "mine", ["default"])


def test_variants_lay_over_the_file() -> None:
    text = SMALL + '[[variants]]\nname = "a"\nmodel.dim = 384\nlabel = "A n=384 °"\n[[variants]]\nname = "b"\n'
    preset, _, _ = check_text(text)
    assert preset is not None
    assert [(v.name, v.label, v.settings.model.dim) for v in preset.variants] == [
        ("a", "A n=384 °", 384),
        ("b", "b", 17),
    ]


def test_a_variant_with_another_method_leaves_the_vectors_behind() -> None:
    text = SMALL + '[[variants]]\nname = "v"\n[[variants]]\nname = "ce"\ntarget.method = "ce"\n'
    flat = settings_of(text, "ce")
    assert flat["target.method"] == "ce"
    assert "target.system" not in flat


def test_too_many_classes_says_what_would_do() -> None:
    text = (
        SMALL.replace('"digits"', '"spectrum"\nclasses = 300_000')
        .replace('"V21"', '"A"')
        .replace('name = "encoder"', 'name = "encoder"\ndim = 384')
    )
    assert faults_of(text)["model.dim"] == (
        "A at n = 384 has 147 840 vectors, 300 000 are needed. Take n >= 548, or A-interp from n = 67"
    )


def test_all_faults_of_all_variants_at_once(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(
        SMALL.replace("3 epochs", "3 parsecs")
        + '[optimizer]\nlearning_rate = 1\nlr = "fast"\n'
        + '[[variants]]\nname = "a"\ndata.dataset = "digts"\n[[variants]]\nname = "b"\ntrain.batch_size = 0\n'
    )
    with pytest.raises(PresetError) as caught:
        load_preset(file)
    sentences = caught.value.faults
    assert all(sentence.startswith(f"{file}:") for sentence in sentences)
    text = "\n".join(sentences)
    assert len(sentences) == 5
    for part in (
        'train.duration: "parsecs" is not a unit',
        "optimizer.learning_rate: unknown key",
        "optimizer.lr: a number is needed",
        'variant "a": data.dataset: "digts" is not allowed; did you mean "digits"?',
        'variant "b": train.batch_size: must be at least 1',
    ):
        assert part in text


def test_syntax_error_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "torn.toml"
    file.write_text('[data]\ndataset = "digits"\nlabels = \n')
    with pytest.raises(UsageError, match=r"torn\.toml: not TOML: .*line 3"):
        load_preset(file)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='did you mean "demo"'):
        load_preset("dmeo")


def test_a_folder_is_no_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match='PRESET "mine": is a folder, not a file'):
        load_preset("mine")


def test_a_duration_names_the_units_that_its_setting_takes() -> None:
    assert faults_of(SMALL + '[log]\nevery = "5"\n')["log.every"].endswith("(epochs, steps, examples)")
    assert faults_of(SMALL + '[checkpoint]\nevery = "5"\n')["checkpoint.every"].endswith("examples, minutes)")


def test_mirrors_are_no_setting_of_what_a_run_computes(tmp_path: Path) -> None:
    configs = []
    for number, also in enumerate(("", "[log]\nalso = []\n", '[log]\nalso = ["wandb", "mlflow"]\n')):
        file = tmp_path / str(number) / "small.toml"
        file.parent.mkdir()
        file.write_text(SMALL + also)
        (run,) = plan_study(file).runs
        configs.append(run.config)
    tables = [config.to_table()["log"] for config in configs]
    assert tables == [{"every": "50 steps"}, {"every": "50 steps"}, {"every": "50 steps", "also": ["wandb", "mlflow"]}]
    assert configs[0].settings() == configs[1].settings() == configs[2].settings()
    assert faults_of(SMALL + '[log]\nalso = ["mlflow", "mlflow"]\n') == {"log.also": "names a tool twice"}
    ((key, sentence),) = faults_of(SMALL + '[log]\nalso = ["wandbb"]\n').items()
    assert key.startswith("log.also")
    assert 'did you mean "wandb"' in sentence
