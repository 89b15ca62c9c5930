"""Layers fixed to simplex ETFs in presets: defaults, and a sentence for what does not fit."""

from __future__ import annotations

import pytest

from lsc_engine.config.load import check_text

MLP = """
[data]
dataset = "fashion-mnist"
[model]
name = "mlp"
args = { layers = 5, class_layer = true }
MODEL
[target]
method = "ce"
[train]
duration = "2 epochs"
"""


def faults_of(text: str) -> dict[str, str]:
    """Key -> message of every fault in a preset's text."""
    return {fault.key: fault.message for fault in check_text(text)[1]}


def settings_of(model: str) -> dict[str, object]:
    preset, faults, _ = check_text(MLP.replace("MODEL", model))
    assert preset is not None, faults
    return preset.variant("default").settings.flat()


def test_defaults_of_fixed_and_adaptive_layers() -> None:
    flat = settings_of("etf_layers = 3")
    assert (flat["model.etf_layers"], flat["model.etf_frame"], flat["model.dim"]) == (3, "canonical", 400)
    assert not {"model.etf_threshold", "model.etf_patience", "eval.ncc"} & flat.keys()
    flat = settings_of('etf_layers = "adaptive"\netf_frame = "random"')
    assert (flat["model.etf_threshold"], flat["model.etf_patience"], flat["eval.ncc"]) == (0.9, 6, True)
    assert flat["model.etf_frame"] == "random"


def test_none_takes_inherited_layers_back() -> None:
    text = MLP.replace("MODEL", 'etf_layers = 2\netf_frame = "random"')
    text += '[[variants]]\nname = "a"\nmodel.etf_layers = "none"\n[[variants]]\nname = "b"\n'
    preset, faults, warnings = check_text(text)
    assert preset is not None, faults
    assert not warnings
    assert not [key for key in preset.variant("a").settings.flat() if key.startswith("model.etf")]
    assert preset.variant("b").settings.model.etf_layers == 2


@pytest.mark.parametrize(
    ("model", "key", "part"),
    [
        ("etf_layers = 6", "model.etf_layers", "has 5 linear layers in a row up to the output, 6 are to be fixed"),
        ('etf_layers = "first:6"', "model.etf_layers", "take at most 5"),
        ("etf_layers = 0", "model.etf_layers", "0 names no layers. Allowed: a whole number k from 1"),
        ("etf_layers = true", "model.etf_layers", "names no layers"),
        ('etf_layers = "last"', "model.etf_layers", '"last" names no layers'),
        ('etf_layers = "feed-forward"', "model.etf_layers", "mlp has no transformer blocks"),
        ('etf_layers = "adaptive"\netf_threshold = 1.0', "model.etf_threshold", "must be below 1"),
        ('etf_layers = "adaptive"\netf_threshold = 0', "model.etf_threshold", "must be above 0"),
        ('etf_layers = "adaptive"\netf_threshold = -0.5', "model.etf_threshold", "must be above 0"),
        ('etf_layers = "adaptive"\netf_patience = 0', "model.etf_patience", "must be at least 1"),
        ('etf_layers = 1\netf_frame = "haar"', "model.etf_frame", '"haar" is not allowed'),
        ("dim = 300", "model.dim", "the embedding is then the last hidden layer's 400, not 300"),
        ("etf_layer = 1", "model.etf_layer", 'did you mean "etf_layers"'),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(model: str, key: str, part: str) -> None:
    found = faults_of(MLP.replace("MODEL", model))
    assert list(found) == [key]
    assert part in found[key]


@pytest.mark.parametrize(
    ("old", "new", "key", "part"),
    [
        ('"mlp"\nargs = { layers = 5, class_layer = true }', '"vit-s"', "model.etf_layers",
         'has 1 linear layer in a row up to the output, 3 are to be fixed; take at most 1, or "feed-forward"'),
        ("class_layer = true }", "class_layer = true }\ndim = 8\nwidth = 0.02", "model.etf_layers",
         "a simplex of 10 classes needs model.dim >= 9, not 8"),
        ('"ce"', '"ce"\nbottleneck = 5', "model.etf_layers", "needs target.bottleneck >= 9, not 5"),
        ('"ce"', '"lsc"\nsystem = "V21"', "model.args.class_layer", "belongs to ce"),
        ("class_layer = true", "class_layer = 1", "model.args.class_layer", "true or false is needed, not 1"),
        ("layers = 5", "layers = 1", "model.args.class_layer", "take model.args.layers from 2"),
    ],
)  # fmt: skip
def test_frames_and_backbones_that_do_not_fit(old: str, new: str, key: str, part: str) -> None:
    found = faults_of(MLP.replace("MODEL", "etf_layers = 3").replace(old, new))
    assert part in found[key]


def test_class_centres_need_classes() -> None:
    unique = MLP.replace("[model]", 'labels = "unique"\n[model]').replace("[train]", "[eval]\nncc = true\n[train]")
    assert "one image a class" in faults_of(unique.replace("MODEL", ""))["eval.ncc"]
    found = faults_of(unique.replace("MODEL", 'etf_layers = "adaptive"'))
    assert "one image a class" in found["model.etf_layers"]
    off = MLP.replace("MODEL", 'etf_layers = "adaptive"').replace("[train]", "[eval]\nncc = false\n[train]")
    assert "adaptive layers go by it" in faults_of(off)["eval.ncc"]


def test_keys_without_effect_are_told() -> None:
    _, faults, warnings = check_text(MLP.replace("MODEL", "etf_layers = 2\netf_patience = 3"))
    assert not faults
    assert [w.key for w in warnings] == ["model.etf_patience"]
    _, _, warnings = check_text(MLP.replace("MODEL", 'etf_frame = "random"'))
    assert [w.key for w in warnings] == ["model.etf_frame"]
