"""Durations, data sets, and the numbers that follow from settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lsc_engine.common.duration import Duration
from lsc_engine.common.errors import UsageError
from lsc_engine.config.derived import derive, summary
from lsc_engine.config.schema import fields
from lsc_engine.data.dataset import Selection, built_in_data_sets, data_set
from lsc_engine.studies.plan import plan_study
from tests.config.mutations import Table, base, write


@pytest.mark.parametrize(
    ("text", "steps", "shown"),
    [
        ("200 epochs", 1400, "200 epochs"),
        ("1 epoch", 7, "1 epochs"),
        ("0.5 epochs", 4, "0.5 epochs"),
        ("0.3 epochs", 3, "0.3 epochs"),
        ("50 steps", 50, "50 steps"),
        ("1_000 examples", 16, "1000 examples"),
        ("64 examples", 1, "64 examples"),
    ],
)
def test_durations(text: str, steps: int, shown: str) -> None:
    duration = Duration.parse(text)
    assert duration.steps(steps_per_epoch=7, batch_size=64) == steps
    assert str(duration) == shown
    assert Duration.parse(shown) == duration


def test_minutes_are_seconds() -> None:
    assert Duration.parse("10 minutes").seconds == 600
    with pytest.raises(ValueError, match="no number of steps"):
        Duration.parse("10 minutes").steps(7, 64)


@pytest.mark.parametrize(
    ("dataset", "labels", "classes", "images", "val"),
    [
        ("digits", "unique", None, 1797, 0),
        ("digits", "unique", 1000, 1000, 0),
        ("digits", "class", None, 1497, 300),
        ("fashion-mnist", "class", None, 60_000, 10_000),
        ("fashion-mnist", "class", 3, 18_000, 3000),
        ("cifar10", "unique", None, 50_000, 0),
        ("cinic10", "class", None, 70_000, 70_000),
        ("imagenet", "class", None, 1_281_167, 50_000),
        ("imagenet", "unique", 300_000, 300_000, 0),
        ("printed-digits", "class", None, 420, 210),
        ("printed-digits", "class", 5, 210, 105),
        ("printed-digits", "unique", None, 420, 0),
        ("spectrum", "unique", 300_000, 300_000, 0),
        ("spectrum", "class", 10, 1000, 200),
    ],
)
def test_counts(dataset: str, labels: str, classes: int | None, images: int, val: int) -> None:
    counts = data_set(dataset).count(Selection(labels == "unique", classes))
    assert (counts.images, counts.val_images, counts.exact) == (images, val, True)


def test_digits_split_is_every_sixth_image() -> None:
    from sklearn.datasets import load_digits

    target = load_digits().target
    for k in (3, 10):
        train = sum(1 for i, y in enumerate(target) if i % 6 and y < k)
        val = sum(1 for i, y in enumerate(target) if not i % 6 and y < k)
        counts = data_set("digits").count(Selection(classes=k))
        assert (counts.images, counts.val_images) == (train, val)


def folder_of_images(root: Path, *, train: bool) -> Path:
    for split, each in (("train", 5), ("val", 2)) if train else (("", 5),):
        for name in ("cat", "ant", "bee"):
            (root / split / name).mkdir(parents=True)
            for i in range(each):
                (root / split / name / f"{i}.png").touch()
            (root / split / name / "notes.txt").touch()
    return root


@pytest.mark.parametrize("train", [True, False])
def test_folders_are_counted(tmp_path: Path, train: bool) -> None:
    root = folder_of_images(tmp_path / "images", train=train)
    table = base() | {
        "data": {"dataset": "folder", "path": str(root), "image_size": 32},
        "model": {"name": "encoder"},
        "train": {"duration": "2 epochs", "batch_size": 4},
        "eval": {},
    }
    table["variants"] = [{"name": "a"}, {"name": "unique", "data": {"labels": "unique"}}]
    plan = plan_study(write(table, tmp_path), seeds=[0])
    by_class, unique = (derive(run.config) for run in plan.runs)
    assert (by_class.images, by_class.classes, by_class.val_images) == (15, 3, 6 if train else 0)
    assert (unique.images, unique.classes, unique.val_images) == (15, 15, 0)
    assert plan.runs[0].config.model.dim == 3


def test_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    data = {"dataset": "folder", "path": str(tmp_path / "none"), "image_size": 32}
    table = base() | {"data": data, "model": {"name": "encoder"}, "eval": {}}
    run = plan_study(write(table, tmp_path), variants=["a"]).runs[0]
    assert run.config.model.dim == "min"
    with pytest.raises(UsageError, match=r"folder is not in .*none: data\.path names a folder"):
        derive(run.config)
    document = summary(run.config)
    assert not document["data_found"]
    assert len(document["missing"]) == 1


def test_data_is_looked_for_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imagenet" / "train" / "n01440764").mkdir(parents=True)
    monkeypatch.setenv("LSC_DATA", str(tmp_path))
    assert data_set("imagenet").locate() == tmp_path / "imagenet"
    assert data_set("imagenet").locate(tmp_path / "elsewhere") is None
    assert data_set("imagenet").locate(None, tmp_path / "imagenet") == tmp_path / "imagenet"
    assert data_set("cifar10").locate() is None
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").touch()
    assert data_set("cifar10").locate() == tmp_path / "cifar-10-batches-py"
    assert data_set("digits").locate() is not None
    assert data_set("spectrum").locate() is not None


@pytest.mark.parametrize("name", [n for n, each in built_in_data_sets().items() if each.facts.places])
def test_missing_sentences_say_where_and_how(name: str, tmp_path: Path) -> None:
    sentence = data_set(name).missing(tmp_path)
    assert str(tmp_path) in sentence
    assert data_set(name).facts.how in sentence


def numbers(folder: Path, **sections: Table) -> object:
    table = base()
    for name, changes in sections.items():
        table[name] = table.get(name, {}) | changes
    return derive(plan_study(write(table, folder), variants=["a"]).runs[0].config)


def test_derived_steps(tmp_path: Path) -> None:
    made = derive(plan_study(write(base(), tmp_path), variants=["a"]).runs[0].config)
    assert (made.images, made.classes, made.steps_per_epoch, made.total_steps) == (500, 500, 7, 35)
    assert (made.warmup_steps, made.eval_every, made.log_every) == (7, 7, 7)
    assert (made.checkpoint_every.steps, made.checkpoint_every.seconds) == (None, 600)
    assert made.checkpoint_also_at == (7,)
    assert (made.channels, made.image_size, made.val_images, made.loss_kind) == (1, 8, 0, "c")
    assert made.system is not None
    assert made.system.count == 384 * 383 * 382 // 2


def test_derived_schedule_and_kinds(tmp_path: Path) -> None:
    made = numbers(
        tmp_path,
        optimizer={"schedule": "steps", "milestones": ["2 epochs", "20 steps"], "gamma": 0.5},
        target={"loss": "cosine+distance"},
        checkpoint={"every": "3 epochs"},
        log={"every": "50 steps"},
        tune={"duration": "4 epochs"},
    )
    assert (made.milestones, made.loss_kind, made.log_every) == ((14, 20), "b", 7)  # type: ignore[attr-defined]
    assert made.checkpoint_every.steps == 21  # type: ignore[attr-defined]


def test_radius_within_the_cluster_is_a_warning(tmp_path: Path) -> None:
    table = base()
    table["target"] |= {"loss": "distance", "radius": 1, "cluster_radius": 1.0}
    plan = plan_study(write(table, tmp_path))
    assert any("every output within 1 of a centre has loss 0" in w for w in plan.preset.warnings)


def test_bottleneck_of_the_smallest_n(tmp_path: Path) -> None:
    table = base()
    table["target"] = {"method": "ce", "bottleneck": "min:V21"}
    table["variants"] = [{"name": "a"}]
    (run, *_) = plan_study(write(table, tmp_path)).runs
    assert run.config.target.bottleneck == 12
    assert derive(run.config).loss_kind == "e"


def test_vector_files(tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(600, 20)))
    table = base()
    table["target"]["system"] = f"file:{tmp_path}/rows.npy"
    del table["model"]["dim"]
    table["variants"] = [{"name": "a"}]
    (run, *_) = plan_study(write(table, tmp_path)).runs
    made = derive(run.config)
    assert (made.n, made.table_bytes) == (20, 4 * 500 * 20)
    with pytest.raises(UsageError, match="has n = 20, not 21"):
        plan_study(write(table, tmp_path), sets=["model.dim=21"])
    with pytest.raises(UsageError, match="has 600 rows, 601 classes"):
        plan_study(write(table, tmp_path), sets=["data.classes=601"])


def test_every_field_has_help_and_a_kind() -> None:
    kinds = {"choice", "open", "system", "integer", "number", "text", "flag", "duration", "durations", "list", "names"}
    kinds |= {"table"}
    for setting in fields():
        assert setting.help.endswith("."), setting.key
        assert setting.kind in kinds, setting.key
        assert setting.shown, setting.key
        assert setting.kind != "choice" or setting.choices, setting.key
    by_key = {s.key: s for s in fields()}
    assert by_key["data.dataset"].shown == "required"
    assert by_key["optimizer.lr"].default == 1e-4
    assert by_key["target.order"].choices[:3] == ("shuffled", "sequential", "lexicographic")


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from lsc_engine.config.load import list_presets\n"
        "from lsc_engine.studies.plan import plan_study\n"
        "from lsc_engine.config.derived import summary\n"
        "import lsc_engine.cli.commands.presets\n"
        "for info in list_presets():\n"
        "    for run in plan_study(info.path).runs:\n"
        "        summary(run.config)\n"
        "bad = {'torch', 'timm', 'torchvision', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
