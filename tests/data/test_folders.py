"""Which folders are splits and classes, what is noted about the rest, and what is refused."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lsc_engine.common.errors import UsageError
from lsc_engine.config.derived import bad_notes, data_notes, known_shortfall
from lsc_engine.config.schema import Data
from lsc_engine.data.class_folders import FolderError, layout_notes, read_layout
from lsc_engine.data.dataset import Selection, data_set, open_source
from lsc_engine.data.datasets.image_folders import Cinic10
from lsc_engine.data.listing import list_files

Make = Callable[..., Path]
TWO = {"a": ["0.png", "1.png"], "b": ["0.png"]}


def notes(root: Path, **more: bool) -> str:
    return "\n".join(
        layout_notes("folder", root, unique=more.get("unique", False), skip_bad=more.get("skip_bad", False))
    )


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Valid", "VAL", "Validation"])
@pytest.mark.parametrize("train", ["train", "Train", "training", "."])
def test_validation_folders_of_every_name(image_folder: Make, settings: type, name: str, train: str) -> None:
    root = image_folder("d", {train: TWO, name: {"a": ["0.png"]}})
    layout = read_layout("folder", root)
    assert (list(layout.classes), layout.val) == (["a", "b"], root / name)
    data = settings("folder", image_size=80, path=str(root))
    images, val = open_source(data, split="train"), open_source(data, split="val")
    assert val is not None
    assert (images.images, images.classes, val.images) == (3, 2, 1)
    counts = data_set("folder").count(Selection(path=root))
    assert (counts.images, counts.classes, counts.val_images) == (3, 2, 1)
    assert data_set("folder").count(Selection(unique=True, path=root)).images == 3


def test_of_two_validation_folders_one_is_used_and_the_other_is_noted(image_folder: Make) -> None:
    root = image_folder("d", {"train": TWO, "val": TWO, "valid": TWO})
    assert read_layout("folder", root).val == root / "val"
    assert "valid: not used; the validation images are those of val/" in notes(root)


@pytest.mark.parametrize(("train", "name"), [("train", "test"), ("train", "Testing"), (".", "test")])
def test_a_test_split_is_noted_and_no_class(image_folder: Make, train: str, name: str) -> None:
    root = image_folder("d", {train: TWO, name: TWO})
    assert list(read_layout("folder", root).classes) == ["a", "b"]
    assert f"{name}: not used: neither trained nor validated on" in notes(root)


def test_a_folder_of_images_named_test_beside_classes_is_a_class(image_folder: Make) -> None:
    root = image_folder("d", {".": {**TWO, "test": ["0.png"]}})
    assert list(read_layout("folder", root).classes) == ["a", "b", "test"]


def test_classes_without_images_and_images_too_deep_are_noted(image_folder: Make) -> None:
    root = image_folder("d", {"train": TWO, "train/animals": {"cat": ["0.png"]}, "val": {"a": ["0.png"]}})
    (root / "train/empty").mkdir()
    outcome = notes(root)
    assert "2 of 4 classes have no images: animals, empty" in outcome
    assert "one level too deep are not read: animals/cat" in outcome
    assert "val: 3 of 4 classes are missing: animals, b, empty" in outcome


@pytest.mark.parametrize(
    "name", ["__MACOSX", "lost+found", "@eaDir", ".git", "$RECYCLE.BIN", "System Volume Information", "__pycache__"]
)
def test_foreign_folders_are_no_classes_and_noted(image_folder: Make, name: str) -> None:
    root = image_folder("d", {".": {**TWO, name: ["0.png"]}})
    assert list(read_layout("folder", root).classes) == ["a", "b"]
    assert f"hidden or foreign folders are not classes: {name}" in notes(root)


def test_files_that_are_passed_over_are_noted(image_folder: Make) -> None:
    root = image_folder("d", {"train": {**TWO, ".": ["loose.png"]}, "extra": {"c": ["0.png"]}})
    (root / "labels.csv").write_text("a,b")
    (root / "train/a/photo.HEIC").write_bytes(b"x")
    (root / "train/b/notes").write_bytes(b"x")
    outcome = notes(root)
    assert "files that are not read: labels.csv" in outcome
    assert "not images by their names: 1 .heic, 1 without suffix" in outcome
    assert "folders beside train/ are not used: extra" in outcome
    assert "1 image beside the class folders is not used" in outcome
    assert "beside the class folders" not in notes(root, unique=True)


def test_nothing_is_noted_about_a_plain_data_set(image_folder: Make) -> None:
    assert notes(image_folder("d", {"train": TWO, "val": TWO})) == ""
    assert notes(image_folder("e", {".": TWO})) == ""


@pytest.mark.parametrize("target", ["/mnt/disk7/c", "c"])
def test_a_class_folder_that_is_a_link_to_nothing_is_refused(image_folder: Make, target: str) -> None:
    root = image_folder("d", {"train": TWO, "val": {"a": ["0.png"]}})
    (root / "train/c").symlink_to(target)
    with pytest.raises(FolderError, match="train/c"):
        list_files("folder", root, "train", unique=False, count=None)
    with pytest.raises(FolderError, match="train/c"):
        data_set("folder").count(Selection(path=root))
    # With skip_bad it keeps its number and has no images.
    files = list_files("folder", root, "train", unique=False, count=None, skip_bad=True)
    assert files is not None
    assert (files.classes, files.labels.tolist()) == (("a", "b", "c"), [0, 0, 1])
    assert "train/c" in notes(root, skip_bad=True)


def test_several_blocked_entries_are_told_together(image_folder: Make) -> None:
    root = image_folder("d", {"train": TWO, "val": TWO})
    (root / "train/x").symlink_to("/nowhere/x")
    (root / "val/b2").symlink_to("/nowhere/b")
    with pytest.raises(FolderError) as caught:
        read_layout("folder", root)
    assert [name for name in ("train/x", "val/b2") if name in str(caught.value)] == ["train/x", "val/b2"]
    assert len(caught.value.faults) == 2


def test_a_link_to_a_folder_elsewhere_is_a_class(image_folder: Make, tmp_path: Path) -> None:
    root, other = image_folder("d", {"train": TWO}), image_folder("o", {".": {"c": ["0.png"]}})
    (root / "train/c").symlink_to(other / "c")
    assert data_set("folder").count(Selection(path=root)).images == 4


FORMS = ("NFC", "NFD")


@pytest.mark.parametrize("word", ["café", "Ünïcödé", "が"])
def test_names_are_compared_in_one_unicode_form(image_folder: Make, settings: type, word: str) -> None:
    there, here = (unicodedata.normalize(form, word) for form in FORMS)
    assert there != here
    root = image_folder("d", {"train": {there: ["0.png"], "zebra": ["0.png"]}, "val": {here: ["0.png", "1.png"]}})
    val = open_source(settings("folder", image_size=80, path=str(root)), split="val")
    assert val is not None
    own = read_layout("folder", root).classes
    assert val.labels(torch.arange(2)).tolist() == [list(own).index(unicodedata.normalize("NFC", word))] * 2
    assert "written in another Unicode form" in notes(root)


def test_the_order_of_classes_does_not_depend_on_their_unicode_form(image_folder: Make) -> None:
    orders = []
    for number, form in enumerate(FORMS):
        names = [unicodedata.normalize(form, word) for word in ("cafz", "café", "cafa")]
        root = image_folder(f"d{number}", {"train": {name: ["0.png"] for name in names}})
        orders.append(list(read_layout("folder", root).classes))
    assert orders[0] == orders[1]


def test_one_name_in_both_forms_is_refused(image_folder: Make) -> None:
    both = {unicodedata.normalize(form, "é"): ["0.png"] for form in FORMS}
    root = image_folder("d", {"train": both})
    with pytest.raises(FolderError, match="two folders are named é, in two Unicode forms"):
        read_layout("folder", root)


def test_a_folder_one_level_too_high_is_told(image_folder: Make, settings: type) -> None:
    root = image_folder("d", {"archive/train": TWO})
    with pytest.raises(UsageError, match=r"no images in .*d; .*archive/train/a: is data.path a folder too high"):
        open_source(settings("folder", image_size=80, path=str(root)), split="train")


# ------------------------------------------------------------------------------------------------- Entries
def entries(root: Path) -> dict[str, str]:
    """Each kind of entry that cannot be an image, and what is said of it."""
    folder = root / "train/a"
    (folder / "empty.png").write_bytes(b"")
    (folder / "dangling.png").symlink_to("/nowhere/x.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    return {
        "empty.png": "is empty",
        "dangling.png": "is a link to /nowhere/x.png, which is not there",
        "loop.png": "is a link that leads to itself",
        "folder.png": "is a folder, not an image",
        "pipe.png": "is not a regular file",
    }


def test_entries_that_cannot_be_images_are_found_without_decoding(image_folder: Make) -> None:
    root = image_folder("d", {"train": TWO})
    kinds = entries(root)
    files = list_files("folder", root, "train", unique=False, count=None)
    assert files is not None
    assert len(files) == 3
    assert {Path(bad.path).name: bad.why for bad in files.bad} == kinds
    outcome = bad_notes(Data(dataset="folder", image_size=16, path=str(root)), root)
    assert len(outcome) == 1
    assert outcome[0].startswith("5 of 8 images cannot be used: ")
    assert all(name in outcome[0] and why in outcome[0] for name, why in kinds.items())


def test_files_and_folders_without_permission(image_folder: Make) -> None:
    root = image_folder("d", {"train": TWO})
    (root / "train/a/0.png").chmod(0)
    (root / "train/b").chmod(0)
    try:
        if os.access(root / "train/b", os.R_OK):
            pytest.skip("rights do not bind this user; tests/cli/test_data_cli.py gives them up")
        with pytest.raises(FolderError, match="train/b: Permission denied"):
            list_files("folder", root, "train", unique=False, count=None)
        files = list_files("folder", root, "train", unique=False, count=None, skip_bad=True)
        assert files is not None
        assert [Path(bad.path).name for bad in files.bad] == ["0.png", "b"]
    finally:
        (root / "train/b").chmod(0o755)


# --------------------------------------------------------------------------------------- Data sets of known size
@pytest.fixture
def cinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CINIC-10 as if it had 7 images a class and split."""
    monkeypatch.setattr(Cinic10, "facts", replace(Cinic10.facts, images=70, val_images=70))
    for split in ("train", "valid"):
        for name in ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"):
            folder = tmp_path / "cinic10" / split / name
            folder.mkdir(parents=True)
            for number in range(7):
                (folder / f"{number}.png").touch()
            (folder / "cifar10-train-1.png").touch()
    return tmp_path / "cinic10"


def test_one_missing_image_is_told_with_its_class_and_what_to_do(cinic: Path) -> None:
    assert Cinic10().shortfall(Selection(path=cinic)) is None
    gone = cinic / "train/horse/6.png"
    gone.unlink()
    outcome = Cinic10().shortfall(Selection(path=cinic))
    assert outcome is not None
    assert "1 of 70 training images is missing" in outcome
    assert "in horse (6 of 7)" in outcome
    assert "data.skip_bad = true" in outcome
    unique = Cinic10().shortfall(Selection(unique=True, path=cinic))
    assert unique is not None
    assert "data.classes = 69" in unique
    assert Cinic10().shortfall(Selection(unique=True, classes=69, path=cinic)) is None
    # The first classes are whole.
    assert Cinic10().shortfall(Selection(classes=5, path=cinic)) is None


def test_missing_validation_images_and_one_too_many_are_told(cinic: Path) -> None:
    away, more = cinic / "valid/cat/5.png", cinic / "train/dog/more.png"
    away.unlink()
    outcome = Cinic10().shortfall(Selection(path=cinic))
    assert outcome is not None
    assert "1 of 70 validation images is missing" in outcome
    assert "in cat (6 of 7)" in outcome
    away.touch()
    more.touch()
    outcome = Cinic10().shortfall(Selection(path=cinic))
    more.unlink()
    assert outcome is not None
    assert "1 more training images than 70" in outcome


def test_missing_class_folders_of_imagenet_are_told_before_anything_is_packed(image_folder: Make) -> None:
    root = image_folder("imagenet", {"train": {"n01440764": ["a.JPEG"]}})
    data = Data(dataset="imagenet", image_size=32, path=str(root))
    outcome = known_shortfall(data)
    assert outcome is not None
    assert "1,281,166 of 1,281,167 training images are missing" in outcome
    assert "999 of 1,000 class folders are missing" in outcome
    assert known_shortfall(data.model_copy(update={"skip_bad": True})) is None
    assert known_shortfall(data.model_copy(update={"labels": "unique", "classes": 1})) is None


def test_a_folder_that_cannot_be_looked_at_names_the_key(image_folder: Make) -> None:
    root = image_folder("d", {"train": TWO})
    (root / "train/c").symlink_to("/nowhere/c")
    with pytest.raises(FolderError, match=r"^data\.path: .*train/c"):
        data_notes(Data(dataset="folder", image_size=16, path=str(root)))
