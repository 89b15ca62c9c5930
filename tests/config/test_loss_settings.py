"""Settings of losses: defaults, and what does not go together."""

from __future__ import annotations

import pytest

from lsc_engine.config.schema import acts, choices_for

from .test_load import SMALL, faults_of, settings_of

CE = SMALL.replace('method = "lsc"\nsystem = "V21"', 'method = "ce"')


def of(method: str, lines: str) -> str:
    return (CE if method == "ce" else SMALL).replace(f'method = "{method}"', f'method = "{method}"\n{lines}')


@pytest.mark.parametrize(("method", "lines", "expected"), [
    ("lsc", 'loss = "softmax"', {"scale": 16.0}),
    ("lsc", 'loss = "softmax"\nscale = 30.0', {"scale": 30.0}),
    ("lsc", 'loss = "batch-softmax"', {"scale": 16.0, "batch_axis": "rows"}),
    ("lsc", 'loss = "dot"\nradius = 3.0', {"radius": 3.0}),
    ("lsc", "", {"scale": None, "batch_axis": None}),
    ("ce", "", {"loss": None, "scale": None, "margin": None, "share": None, "system": None, "momentum": None}),
    ("ce", 'loss = "softmax"', {"loss": None}),
    ("ce", 'loss = "normalized"', {"scale": 16.0, "margin": None}),
    ("ce", 'loss = "cosface"', {"scale": 64.0, "margin": 0.35}),
    ("ce", 'loss = "arcface"\nshare = 0.1', {"scale": 64.0, "margin": 0.5, "share": 0.1}),
    ("ce", 'system = "running-means"', {"loss": "normalized", "scale": 16.0, "momentum": 0.99}),
    ("ce", "center_weight = 0.1", {"loss": None, "center_weight": 0.1}),
])  # fmt: skip
def test_defaults(method: str, lines: str, expected: dict[str, object]) -> None:
    flat = settings_of(of(method, lines))
    assert {key: flat.get(f"target.{key}") for key in expected} == expected


@pytest.mark.parametrize(("method", "lines", "key", "words"), [
    ("lsc", "scale = 16.0", "scale", 'belongs to target.loss = "softmax" or "batch-softmax"'),
    ("lsc", 'loss = "softmax"\nbatch_axis = "rows"', "batch_axis", "belongs to"),
    ("lsc", 'loss = "arcface"', "loss", "is not allowed"),
    ("lsc", "margin = 0.3", "margin", "belongs to ce"),
    ("lsc", "share = 0.3", "share", "belongs to ce"),
    ("ce", 'loss = "cosine"', "loss", "Allowed: softmax, normalized, cosface, arcface"),
    ("ce", "scale = 64.0", "scale", 'belongs to target.loss = "normalized" or "cosface" or "arcface"'),
    ("ce", 'loss = "normalized"\nmargin = 0.3', "margin", 'belongs to target.loss = "cosface" or "arcface"'),
    ("ce", "momentum = 0.9", "momentum", 'belongs to target.system = "running-means"'),
    ("ce", 'system = "running-means"\nloss = "softmax"', "loss", "take normalized"),
    ("ce", 'system = "V21"', "system", "running-means"),
    ("ce", "share = 1.0", "share", "must be below 1"),
    ("ce", 'loss = "arcface"\nteacher = "x/y/seed-0"', "loss", "target.teacher"),
    ("ce", 'share = 0.5\nteacher = "x/y/seed-0"', "share", "target.teacher"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused_with_a_sentence(method: str, lines: str, key: str, words: str) -> None:
    assert words in faults_of(of(method, lines))[f"target.{key}"]


def test_a_softmax_over_a_system_without_a_formula_is_refused_before_anything_is_created() -> None:
    text = of("lsc", 'loss = "softmax"').replace('"V21"', '"W4"')
    assert "target.loss" not in faults_of(text.replace('labels = "unique"', 'labels = "class"'))
    wide = text.replace('name = "encoder"', 'name = "encoder"\ndim = 60')
    assert "vectors of W4 at n = 60 has no formula here; take batch-softmax" in faults_of(wide)["target.loss"]


def test_a_variant_with_another_method_leaves_the_losses_of_the_first_behind() -> None:
    text = of("lsc", 'loss = "softmax"\nscale = 30.0')
    text += '\n[[variants]]\nname = "a"\n[[variants]]\nname = "b"\ntarget.method = "ce"\n'
    text += '[[variants]]\nname = "c"\ntarget.method = "ce"\ntarget.loss = "cosface"\n'
    assert settings_of(text, "b").get("target.loss") is None
    assert settings_of(text, "c")["target.scale"] == 64.0


def test_which_settings_act_follows_from_method_and_loss() -> None:
    def acting(**given: object) -> set[str]:
        keys = ("scale", "margin", "batch_axis", "momentum", "share", "radius")
        return {key for key in keys if acts(f"target.{key}", {f"target.{k}": v for k, v in given.items()}.get)}

    assert acting(method="lsc", loss="cosine") == set()
    assert acting(method="lsc", loss="batch-softmax") == {"scale", "batch_axis"}
    assert acting(method="lsc", loss="dot") == {"radius"}
    assert acting(method="ce") == {"share"}
    assert acting(method="ce", loss="arcface") == {"scale", "margin", "share"}
    assert acting(method="ce", loss="normalized", system="running-means") == {"scale", "momentum", "share"}


def test_a_teacher_is_trained_with_softmax() -> None:
    text = CE + '[[variants]]\nname = "big"\ntarget.loss = "cosface"\n[[variants]]\nname = "small"\n'
    text += 'target.teacher = "@big"\n'
    assert "is trained with cosface" in faults_of(text)["target.teacher"]


def test_the_form_offers_the_losses_of_the_method() -> None:
    assert choices_for("target.loss", "ce") == ("softmax", "normalized", "cosface", "arcface")
    assert {"cosine", "batch-softmax"} <= set(choices_for("target.loss", "lsc"))
    assert "arcface" not in choices_for("target.loss", "lsc")
    assert set(choices_for("target.loss")) == {*choices_for("target.loss", "ce"), *choices_for("target.loss", "lsc")}
    assert choices_for("target.system", "ce") == ("none", "running-means")


VIT = SMALL.replace('"encoder"', '"vit-s"')


def test_a_residual_stream_in_bf16_belongs_to_transformers_in_bf16() -> None:
    def faults(text: str, lines: str) -> dict[str, str]:
        return faults_of(f"{text}{lines}\n")

    bf16 = 'residual = "bf16"'
    assert settings_of(f"{VIT}{bf16}\n")["train.residual"] == "bf16"
    assert settings_of(f'{VIT}residual = "fp32"\n') == settings_of(VIT)
    assert faults(VIT.replace("vit-s", "timm:deit_tiny_patch16_224"), bf16) == {}
    assert "belongs to vision transformers" in faults(SMALL, bf16)["train.residual"]
    assert "needs train.precision" in faults(VIT, f'{bf16}\nprecision = "float32"')["train.residual"]
    assert "fp32, bf16" in faults(VIT, 'residual = "bf32"')["train.residual"]
