"""Malformed presets: each is refused with sentences that name file and key, and nothing but UsageError is raised."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lsc_engine.common.errors import UsageError
from lsc_engine.config.load import check_text, load_preset
from lsc_engine.studies.plan import plan_study
from tests.config.mutations import Table, base, put, spoilt, without, write


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_preset(path)
    assert caught.value.faults
    for sentence in caught.value.faults:
        assert sentence.startswith(f"{path}:")
        assert sentence.isprintable()
    return "\n".join(caught.value.faults)


def test_the_unspoilt_preset_is_accepted(tmp_path: Path) -> None:
    assert len(load_preset(write(base(), tmp_path)).variants) == 2


@settings(max_examples=300)
@given(spoilt())
def test_300_spoilt_presets_are_refused(case: tuple[Table, str]) -> None:
    table, key = case
    with tempfile.TemporaryDirectory() as folder:
        path = write(table, Path(folder))
        assert key in refused(path)
        assert [p.name for p in Path(folder).iterdir()] == ["spoilt.toml"]


@settings(max_examples=200)
@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"x = " + b"[" * 5000)
@example(b"x = " + b"9" * 10_000)
@example(b"[train]\nbatch_size = " + b"9" * 400)
@example(b"[optimizer]\nlr = " + b"9" * 400)
def test_any_bytes_are_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bytes.toml"
        path.write_bytes(content)
        refused(path)


@settings(max_examples=200)
@given(st.data())
def test_a_torn_preset_is_accepted_or_refused(data: st.DataObject) -> None:
    import tomli_w

    text = tomli_w.dumps(base())
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    preset, faults, _ = check_text(text[:start] + text[stop:])
    assert (preset is None) == bool(faults)


# What is spoilt, and what the sentence must hold.
CORPUS: list[tuple[str, Any, tuple[str, ...]]] = [
    ("data.dataset", "digts", ('did you mean "digits"', "fashion-mnist")),
    ("data.dataset", 3, ("is not allowed",)),
    ("data.labels", "uniqe", ('did you mean "unique"',)),
    ("data.classes", 1, ("at least 2",)),
    ("data.classes", 0, ("at least 2",)),
    ("data.classes", -5, ("at least 2",)),
    ("data.classes", 500.0, ("a whole number",)),
    ("data.classes", "500", ("a whole number", 'the text "500"')),
    ("data.classes", True, ("a whole number",)),
    ("data.classes", 1798, ("1 797 training images", "1 798 are requested")),
    ("data.classes", 2**63, ("at most",)),
    ("data.image_size", 3, ("at least 4",)),
    ("data.image_size", 100_000, ("at most 1024",)),
    ("data.augment", "light2", ("none, light1",)),
    ("data.augment_per", "epoch", ("image, batch",)),
    ("data.path", "/somewhere", ("needs no files",)),
    ("data.path", "", ("at least one character",)),
    ("data.mixup", 0.2, ("mixup", "vector of its own")),
    ("data.cutmix", 0.2, ("vector of its own",)),
    ("model.name", "encodr", ('did you mean "encoder"', "vit-s")),
    ("model.name", "timm:", ("is not a model",)),
    ("model.name", "timm:a b", ("is not a model",)),
    ("model.dim", 0, ("1 to 65536",)),
    ("model.dim", "max", ('"min"',)),
    ("model.dim", 384.0, ("1 to 65536",)),
    ("model.dim", True, ("1 to 65536",)),
    ("model.dim", 5, ("V21 at n = 5 has 30 vectors, 500 are needed", "Take n >= ")),
    ("model.dim", 1, ("too small",)),
    ("model.width", 0, ("above 0",)),
    ("model.width", -1.0, ("above 0",)),
    ("model.width", float("inf"), ("finite",)),
    ("model.width", float("nan"), ("width",)),
    ("model.args", [1], ("a table",)),
    ("model.args", {"depth": 4}, ("encoder does not take it",)),
    ("target.method", "lcs", ('did you mean "lsc"',)),
    ("target.system", "V2l", ("is not a vector system", 'did you mean "V21"')),
    ("target.system", "V20", ("is not a vector system",)),
    ("target.system", "v21", ("is not a vector system", 'did you mean "V21"')),
    ("target.system", "V22pm", ("itself",)),
    ("target.system", "W3", ("even",)),
    ("target.system", "W18", ("its vectors are not made", "W16")),
    ("target.system", "W9998", ("at most 998",)),
    ("target.system", "A-intrep", ('did you mean "A-interp"',)),
    ("target.system", "", ("is not a vector system",)),
    ("target.system", 21, ("a text",)),
    ("target.system", "planar", ("n = 2, not 384",)),
    ("target.system", "simplex", ("n >= 499, not 384",)),
    ("target.system", "file:/nowhere/x.npy", ("cannot be read",)),
    ("target.system", "file:/nowhere/x.txt", (".npy",)),
    ("target.system", "embeddings:@c", ("no variant",)),
    ("target.order", "random", ("shuffled, sequential, lexicographic",)),
    ("target.order", "nearest:@ssl", ("no variant",)),
    ("target.loss", "euclid", ("cosine, distance, dot, softmax, batch-softmax, squared, cosine+distance",)),
    ("target.radius", 0, ("above 0",)),
    ("target.radius", "own", ('"native"',)),
    ("target.cluster_radius", -1, ("at least 0",)),
    ("target.weights", [1.0], ("weights",)),
    ("target.weights", [1, 2, 3], ("weights",)),
    ("target.weights", [-1, 1], ("two numbers from 0",)),
    ("target.weights", [0, 0], ("above 0",)),
    ("target.bottleneck", 10, ("belongs to ce",)),
    ("target.bottleneck", "max:V21", ('"min:SYSTEM"',)),
    ("target.method", "ce", ("belongs to lsc", "target.system", "target.order", "target.loss")),
    ("optimizer.name", "adam", ('did you mean "adamw"',)),
    ("optimizer.lr", "1e-3", ("a number", 'the text "1e-3"')),
    ("optimizer.lr", 0, ("above 0",)),
    ("optimizer.lr", -1e-3, ("above 0",)),
    ("optimizer.lr", float("nan"), ("lr",)),
    ("optimizer.lr", float("inf"), ("finite",)),
    ("optimizer.lr", [1e-3], ("a number",)),
    ("optimizer.weight_decay", -1, ("at least 0",)),
    ("optimizer.momentum", 0.9, ("belongs to sgd",)),
    ("optimizer.schedule", "linear", ("constant, cosine, steps",)),
    ("optimizer.schedule", "steps", ("milestones", "is required")),
    ("optimizer.gamma", 0.1, ("belongs to schedule",)),
    ("optimizer.milestones", ["1 epochs"], ("belongs to schedule",)),
    ("optimizer.milestones", "1 epochs", ("a list",)),
    ("optimizer.warmup", "10 minutes", ("minutes do not go here",)),
    ("optimizer.warmup", "5 epochs", ("not shorter than the training",)),
    ("optimizer.learning_rate", 1, ("unknown key",)),
    ("train.duration", "5", ("is not a duration",)),
    ("train.duration", "-5 epochs", ("is not a duration",)),
    ("train.duration", "0 epochs", ("more than 0",)),
    ("train.duration", "1.5 steps", ("whole numbers",)),
    ("train.duration", "1e99 epochs", ("too long",)),
    ("train.duration", "10 minutes", ("minutes do not go here",)),
    ("train.duration", 5, ("a text",)),
    ("train.epochs", 5, ("unknown key", "duration")),
    ("train.batch_size", 0, ("at least 1",)),
    ("train.batch_size", 501, ("more than the 500 training images",)),
    ("train.precision", "fp16", ("auto, bf16, float32",)),
    ("train.compile", True, ("auto, on, off",)),
    ("eval.every", "10 minutes", ("minutes do not go here",)),
    ("eval.images", 0, ("at least 1",)),
    ("eval.dataset", "cifar10", ("unique labels have no validation",)),
    ("eval.class_means", 1, ("true or false",)),
    ("eval.embeddings", "yes", ("auto, on, off",)),
    ("log.every", "often", ("is not a duration",)),
    ("checkpoint.every", "0 minutes", ("more than 0",)),
    ("checkpoint.keep", 0, ("at least 1",)),
    ("checkpoint.keep", 1.5, ("a whole number",)),
    ("checkpoint.also_at", ["1 epochs", "x"], ("is not a duration",)),
    ("checkpoint.also_at", ["10 minutes"], ("minutes do not go here",)),
    ("compare.baseline", "c", ('no variant "c"', "a, b")),
    ("compare.levels", {"train/acc": [0.5]}, ('did you mean "train/accuracy"',)),
    ("compare.levels", {"train/accuracy": [1.5]}, ("at most 1",)),
    ("compare.levels", {"train/accuracy": []}, ("at least one level",)),
    ("compare.levels", {"train/accuracy": 0.5}, ("a list",)),
    ("compare.levels", {"train/loss": [-1]}, ("above 0",)),
    ("compare.level", 1, ("unknown key",)),
    ("provenance", {"optimizer.lrate": "paper"}, ('did you mean "optimizer.lr"',)),
    ("provenance", {"optimizer.lr": "guess"}, ("paper | inferred: why | ours",)),
    ("provenance", {"optimizer.lr": "inferred"}, ("inferred: why",)),
    ("provenance", {"optimizer.lr": 1}, ("is not allowed",)),
    ("tune", {}, ("needs a setting to try",)),
    ("tune", {"optimizer.lr": []}, ("a list of values",)),
    ("tune", {"optimizer.lr": 1e-3}, ("a list of values",)),
    ("tune", {"optimizer.lr": [1e-3, "x"]}, ("optimizer.lr", "a number")),
    ("tune", {"optimizer.lr": [1e-3, 1e-3]}, ("given twice",)),
    ("tune", {"optimizer.lrate": [1e-3]}, ('did you mean "optimizer.lr"',)),
    ("tune", {"seed": [1]}, ("seed",)),
    ("tune.by", "accuracy", ("train/accuracy",)),
    ("tune.by", "val/accuracy", ("no validation",)),
    ("tune.duration", "10 minutes", ("minutes do not go here",)),
    ("seed", 1, ("stands for seed",)),
    ("seeds", [], ("at least one seed",)),
    ("seeds", [0, 0], ("given twice",)),
    ("seeds", [-1], ("at least 0",)),
    ("seeds", [0.5], ("a whole number",)),
    ("seeds", 3, ("a list",)),
    ("kind", "training", ('did you mean "train"',)),
    ("title", 3, ("a text",)),
    ("title", "a\x1b[2Jb", ("control character",)),
    ("claim", "a\x07", ("control character",)),
    ("titel", "x", ("unknown key", 'did you mean "title"')),
    ("optimiser", {"lr": 1}, ("unknown key", 'did you mean "optimizer"')),
    ("variants", {"name": "a"}, ("[[variants]]",)),
    ("variants", [1], ("[[variants]]",)),
    ("variants", [{"label": "x"}], ("name", "is required")),
    ("variants", [{"name": "a"}, {"name": "a"}], ("two variants have this name",)),
    ("variants", [{"name": "a"}, {"name": "b"}], ('exactly what variant "a" does',)),
    ("variants", [{"name": "a"}, {"name": "b", "model": {"dim": 384}}], ('exactly what variant "a" does',)),
    ("variants", [{"name": "a"}, {"name": "../b", "model": {"dim": 30}}], ("is not a name", '"b" would do')),
    ("variants", [{"name": "a", "label": "x\x00"}], ("control character",)),
    ("variants", [{"name": "a", "label": 1}], ("label", "a text")),
    ("variants", [{"name": "a", "needs": "z"}], ('no variant "z"',)),
    ("variants", [{"name": "a", "needs": 3}], ("needs", "name of a variant")),
    ("variants", [{"name": "a", "needs": "a"}], ("cannot need itself",)),
    (
        "variants",
        [{"name": "a", "needs": "b"}, {"name": "b", "needs": "a", "model": {"dim": 30}}],
        ("wait for each other", "a, b"),
    ),
    ("variants", [{"name": "a", "start_from": "@z"}], ('no variant "z"',)),
    ("variants", [{"name": "a", "start_from": ""}], ("start_from", "at least one character")),
    ("variants", [{"name": "a", "model.dim": 5}], ("unknown key",)),
    ("variants", [{"name": "a", "seed": 5}], ("unknown key",)),
    ("variants", [{"name": "a", "model": 5}], ("a table is needed",)),
    ("run", {"study": "x"}, ("run.variant", "is required")),
    ("run", {"study": "../x", "variant": "a", "label": "a"}, ("is not a name",)),
    ("label", "x", ("belongs into a [[variants]]",)),
    ("start_from", "@z", ('no variant "z"',)),
    ("claims", [{"text": "x", "variant": "a", "is": "best"}], ("claims.is: in entry 1: ", 'did you mean "better"')),
    (
        "claims",
        [{"text": "x", "variant": "a", "is": "works", "threshold": -1}],
        ("claims.threshold: in entry 1: ", "at least 0"),
    ),
]


@pytest.mark.parametrize(("key", "value", "words"), CORPUS, ids=[f"{k}-{i}" for i, (k, _, _) in enumerate(CORPUS)])
def test_corpus(tmp_path: Path, key: str, value: Any, words: tuple[str, ...]) -> None:
    sentence = refused(write(put(base(), key, value), tmp_path))
    assert key.split(".")[-1] in sentence or key.split(".")[0] in sentence
    for word in words:
        assert word in sentence, sentence


@pytest.mark.parametrize("key", ["data.dataset", "model.name", "target.method", "target.system", "train.duration"])
def test_required_keys(tmp_path: Path, key: str) -> None:
    table = without(base() | {"variants": [{"name": "a"}]}, key)
    assert f"{key}: is required" in refused(write(table, tmp_path))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"dataset": "imagenet"}, ("data.image_size: is required for imagenet",)),
        ({"dataset": "folder", "image_size": 32}, ("data.path: is required for folder",)),
        ({"dataset": "folder"}, ("data.path", "data.image_size")),
        ({"dataset": "spectrum", "labels": "unique"}, ("data.classes: is required for spectrum",)),
        ({"dataset": "spectrum"}, ("data.classes: is required for spectrum",)),
        ({"dataset": "digits", "classes": 11}, ("digits has 10 classes; 11 are requested",)),
        ({"dataset": "cifar10", "labels": "unique", "classes": 60_000}, ("50 000 training images",)),
    ],
)
def test_data_sets(tmp_path: Path, data: Table, words: tuple[str, ...]) -> None:
    table = base() | {"data": data, "variants": [{"name": "a"}]}
    for word in words:
        assert word in refused(write(table, tmp_path))


@pytest.mark.parametrize(
    "options",
    [
        {"sets": ["optimizer.lr"]},
        {"sets": ["=3"]},
        {"sets": ["optimizer.rl=3"]},
        {"sets": ["variants=3"]},
        {"sets": ["optimizer.lr=fast"]},
        {"sets": ["model.args.=3"]},
        {"sweeps": ["seed=1,2"]},
        {"sweeps": ["optimizer.lr="]},
        {"sweeps": ["optimizer.lr=1,1"]},
        {"sweeps": ["optimizer.lr=1e-3", "optimizer.lr=1e-4"]},
        {"variants": ["c"]},
        {"seeds": []},
        {"seeds": [-1]},
        {"seeds": [1, 1]},
        {"name": "../x"},
        {"name": "/etc/x"},
        {"name": "a/b/c"},
        {"name": ""},
        {"name": "a\x1bb"},
    ],
)
def test_options(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(base(), tmp_path)
    with pytest.raises(UsageError) as caught:
        plan_study(path, **options)
    assert all(sentence.isprintable() for sentence in caught.value.faults)
    assert [p.name for p in tmp_path.iterdir()] == ["spoilt.toml"]


def test_a_latent_dimension_beyond_all_models_is_refused(tmp_path: Path) -> None:
    table = base() | {"variants": [{"name": "a"}], "model": {"name": "encoder"}}
    table["data"] = {"dataset": "spectrum", "labels": "unique", "classes": 10**9}
    table["target"]["system"] = "simplex"
    sentence = refused(write(table, tmp_path))
    assert "simplex needs n = 999 999 999 for 1 000 000 000 classes" in sentence
    assert "V22 does with n = 253" in sentence
    table["target"]["system"] = "kerdock"
    assert "model.dim: kerdock: no n up to 4096 holds 1 000 000 000 classes" in refused(write(table, tmp_path))
    table["target"] = {"method": "ce", "bottleneck": "min:kerdock"}
    assert "target.bottleneck: kerdock: no n up to 4096 holds" in refused(write(table, tmp_path))
    table["target"] = {"method": "lsc", "system": "bch"}
    table["model"]["dim"] = 100
    assert "bch: n = 100 is not a power of two from 16 to 1024; take 64 or 128" in refused(write(table, tmp_path))


@pytest.mark.parametrize("alike", [{"data": {"augment_per": "batch"}}, {"model": {"dim": 15}}])
def test_variants_that_differ_in_nothing_that_counts_are_refused(tmp_path: Path, alike: dict[str, Any]) -> None:
    table = base()
    table["model"]["dim"] = "min"
    table["variants"] = [{"name": "a"}, {"name": "b", **alike}]
    table.pop("compare", None)
    n = load_preset(write({**table, "variants": [{"name": "a"}]}, tmp_path)).variants[0].settings.model.dim
    if "model" in alike:
        alike["model"]["dim"] = n
    assert 'does exactly what variant "a" does' in refused(write(table, tmp_path))
