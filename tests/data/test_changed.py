"""Packed copies follow their files; images that cannot be used are listed together, or left out and counted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lsc_engine.common.errors import UsageError
from lsc_engine.data.dataset import Selection, data_set, look, open_source
from lsc_engine.data.datasets.image_folders import pack_dataset
from lsc_engine.data.listing import BadFilesError
from lsc_engine.data.pack import FORMAT, read_manifest
from lsc_engine.data.source import ImageSource

NAMES = [f"{number}.png" for number in range(6)]


class Folder:
    """A data set of two classes in `root`, packed at 16 px below `data`."""

    def __init__(self, root: Path, data: Path, settings: type) -> None:
        self.root, self.data, self.said = root, data, list[str]()
        self._settings = settings

    def settings(self, **changes: Any) -> Any:
        return self._settings("folder", **{"image_size": 16, "path": str(self.root), **changes})

    def open(self, split: str = "train", **changes: Any) -> ImageSource:
        self.said.clear()
        source = open_source(self.settings(**changes), split=split, data_dir=self.data, say=self.said.append)
        assert source is not None
        return source

    def manifests(self) -> list[Path]:
        return sorted(self.data.glob("packed/*px.json"))

    def agrees(self, **changes: Any) -> None:
        """Training images and labels are those of the files as they are now, and are counted as many."""
        source, copy = self.open(**changes), self.data / "fresh"
        fresh = open_source(self.settings(**changes), split="train", data_dir=copy)
        shutil.rmtree(copy)
        index = torch.arange(source.images)
        assert torch.equal(source.fetch(index), fresh.fetch(index))
        assert torch.equal(source.labels(index), fresh.labels(index))
        settings = self.settings(**changes)
        counts = data_set("folder").count(Selection.of(settings, self.data))
        assert (counts.images, counts.classes) == (source.images, source.classes)


@pytest.fixture
def folder(image_folder: Callable[..., Path], tmp_path: Path, settings: type) -> Folder:
    root = image_folder("d", {"train": {"a": NAMES, "b": NAMES}, "val": {"a": NAMES[:2], "b": NAMES[:2]}})
    return Folder(root, tmp_path / "data", settings)


def paint(path: Path, level: int, like: os.stat_result | None = None) -> None:
    """A picture of one grey level; with the time of `like`, if given."""
    Image.new("RGB", (20, 16), (level, level, level)).save(path)
    if like is not None:
        os.utime(path, ns=(like.st_atime_ns, like.st_mtime_ns))


def replace_all(folder: Folder) -> None:
    for path in folder.root.rglob("*.png"):
        paint(path, 0)


def swap_classes(folder: Folder) -> None:
    train = folder.root / "train"
    (train / "a").rename(train / "c")
    (train / "b").rename(train / "a")
    (train / "c").rename(train / "b")


def move_one(folder: Folder) -> None:
    (folder.root / "train/a/1.png").rename(folder.root / "train/b/9.png")


def rename_one(folder: Folder) -> None:
    (folder.root / "train/a/1.png").rename(folder.root / "train/a/z.png")


def add_one(folder: Folder) -> None:
    paint(folder.root / "train/a/new.png", 77)


def add_class(folder: Folder) -> None:
    (folder.root / "train/aa").mkdir()
    paint(folder.root / "train/aa/0.png", 77)


def remove_one(folder: Folder) -> None:
    (folder.root / "train/b/0.png").unlink()


def keep_time(folder: Folder) -> None:
    path = folder.root / "train/a/2.png"
    paint(path, 5, path.stat())


def restore_older(folder: Folder) -> None:
    path = folder.root / "train/b/2.png"
    paint(path, 9)
    os.utime(path, (1_000_000_000, 1_000_000_000))


def follow_link(folder: Folder) -> None:
    path = folder.root / "train/b/3.png"
    other = folder.root.parent / "other.png"
    paint(other, 200)
    path.unlink()
    path.symlink_to(other)


CHANGES = (
    replace_all, swap_classes, move_one, rename_one, add_one, add_class, remove_one, keep_time, restore_older,
    follow_link,
)  # fmt: skip


@pytest.mark.parametrize("labels", ["class", "unique"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_packed_copy_follows_its_files(folder: Folder, change: Callable[[Folder], None], labels: str) -> None:
    folder.open(labels=labels)
    change(folder)
    folder.agrees(labels=labels)
    folder.open(labels=labels)
    assert folder.said == []


def test_the_sentence_says_that_images_have_changed(folder: Folder) -> None:
    folder.open()
    add_one(folder)
    folder.open()
    assert sum("is made anew: images have changed" in text for text in folder.said) == 1


def test_validation_images_are_compared_too(folder: Folder) -> None:
    folder.open("val")
    paint(folder.root / "val/a/0.png", 3)
    assert folder.open("val").fetch(torch.tensor([0])).unique().tolist() == [3]


def test_content_of_the_same_size_and_time_is_noticed_by_the_later_change(
    image_folder: Callable[..., Path], tmp_path: Path, settings: type
) -> None:
    root = image_folder("d", {"train": {"a": ["0.bmp", "1.bmp"], "b": ["0.bmp"]}})
    folder = Folder(root, tmp_path / "data", settings)
    folder.open()
    path = root / "train/a/1.bmp"
    before = path.stat()
    pixels = np.asarray(Image.open(path)).copy()
    Image.fromarray(255 - pixels).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    folder.agrees()


def test_rights_changed_later_do_not_pack_again(folder: Folder) -> None:
    folder.open()
    manifest = read_manifest(folder.manifests()[0].with_suffix(".u8"))
    for path in folder.root.rglob("*.png"):
        path.chmod(0o600)
    folder.open()
    assert folder.said == []
    again = read_manifest(folder.manifests()[0].with_suffix(".u8"))
    assert manifest is not None
    assert again is not None
    assert again.changed > manifest.changed
    assert again.sha256 == manifest.sha256


def test_a_copy_of_an_earlier_version_is_made_anew_where_its_files_are_there(folder: Folder) -> None:
    folder.open()
    note = folder.manifests()[0]
    fields = json.loads(note.read_text())
    old = {key: fields[key] for key in ("dataset", "split", "size", "channels", "images", "classes", "sha256")}
    note.write_text(json.dumps({**old, "format": 1, "listing": "0" * 64}))
    folder.open()
    assert any("it is of an earlier version" in text for text in folder.said)
    assert json.loads(note.read_text())["format"] == FORMAT


def test_a_copy_that_is_in_use_while_it_is_packed_anew_is_not_mixed_with_the_new_one(folder: Folder) -> None:
    from lsc_engine.data.pack import PackedReader

    mapped = folder.open()
    before = mapped.fetch(torch.arange(12)).clone()
    path = folder.manifests()[0].with_suffix(".u8")
    manifest = read_manifest(path)
    assert manifest is not None
    late = PackedReader(path, manifest)
    replace_all(folder)
    folder.open()
    assert torch.equal(mapped.fetch(torch.arange(12)), before)
    assert torch.equal(late.read(torch.arange(2)), before[:2])


@pytest.mark.parametrize("size", [16, 72])
def test_what_identifies_the_images_is_of_those_in_use(folder: Folder, size: int) -> None:
    """A class behind those in use changes nothing; an image in use does, whatever its name and size."""
    used = {"classes": 1, "image_size": size}
    before = folder.open(**used).record
    paint(folder.root / "train/b/0.png", 4)
    (folder.root / "train/z").mkdir()
    paint(folder.root / "train/z/0.png", 5)
    assert folder.open(**used).record == before
    paint(folder.root / "train/a/0.png", 6)
    after = folder.open(**used).record
    assert after["files"] != before["files"]
    assert (after["pixels"] != before["pixels"]) == (size == 16)


def test_all_count_the_same(folder: Folder) -> None:
    packed = pack_dataset("folder", 16, data_dir=folder.data, path=str(folder.root), say=folder.said.append)
    counts = data_set("folder").count(Selection(path=folder.root))
    assert [manifest.images for _, manifest in packed] == [counts.images, counts.val_images] == [12, 4]
    add_class(folder)
    packed = pack_dataset("folder", 16, data_dir=folder.data, path=str(folder.root), say=folder.said.append)
    assert packed[0][1].images == data_set("folder").count(Selection(path=folder.root)).images == 13
    assert folder.open().classes == 3


# ------------------------------------------------------------------------------------------------------- Bad images
def spoil(folder: Folder) -> dict[str, str]:
    """Images of each kind that cannot be used, in both splits, and what is said of them."""
    train = folder.root / "train"
    content = (train / "a/1.png").read_bytes()
    (train / "a/1.png").write_bytes(content[: len(content) // 2])
    (train / "a/2.png").write_text("<html>404</html>")
    (train / "b/0.png").write_bytes(b"")
    (train / "b/4.png").unlink()
    (train / "b/4.png").symlink_to("/nowhere/4.png")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(train / "b/5.tif")
    (folder.root / "val/b/1.png").write_bytes(b"GIF89a")
    return {
        "a/1.png": "truncated",
        "a/2.png": "not an image of a known format",
        "b/0.png": "is empty",
        "b/4.png": "is a link to /nowhere/4.png, which is not there",
        "b/5.tif": "floating-point",
        "b/1.png": "not an image of a known format",
    }


@pytest.mark.parametrize("size", [16, 72])
def test_all_images_that_cannot_be_used_are_told_in_one_message(folder: Folder, size: int) -> None:
    bad = spoil(folder)
    with pytest.raises(BadFilesError) as caught:
        folder.open(image_size=size)
    assert "5 of 13 images cannot be used" in str(caught.value)
    outcome = look(folder.settings(image_size=size), data_dir=folder.data)
    assert outcome is not None
    assert all(f"{name} " in outcome and why in outcome for name, why in bad.items())
    assert "data.skip_bad = true" in outcome
    # The rest was packed meanwhile.
    if size == 16:
        assert [m.images for m in map(read_manifest, folder.data.glob("packed/*-train-*.u8")) if m] == [8]


def test_of_many_bad_images_the_first_are_named_and_all_are_listed(folder: Folder) -> None:
    for number in range(30):
        (folder.root / f"train/a/x{number:02d}.png").write_text("no")
    with pytest.raises(BadFilesError, match=r"30 of 42 images.* and 10 more, listed in (.*looked\.json)") as caught:
        folder.open()
    place = Path(str(caught.value).partition("listed in ")[2].partition(". Mend")[0])
    assert len(json.loads(place.read_text())["files"]) == 30


@pytest.mark.parametrize("size", [16, 72])
@pytest.mark.parametrize("labels", ["class", "unique"])
def test_skip_bad_leaves_them_out_and_keeps_the_classes(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, labels: str, size: int
) -> None:
    kept = {"labels": labels, "image_size": size, "skip_bad": True}
    spoil(folder)
    source = folder.open(**kept)
    assert source.images == 8
    assert source.record["left_out"] == 5
    assert source.classes == (8 if labels == "unique" else 2)
    expected = list(range(8)) if labels == "unique" else [0] * 4 + [1] * 4
    assert source.labels(torch.arange(8)).tolist() == expected
    assert sum("data.skip_bad: 5 of 13 images" in text for text in folder.said) == 1
    folder.agrees(**kept)
    # Streamed images are the same, read by the same numbers.
    pixels = source.fetch(torch.arange(8))
    monkeypatch.setattr("lsc_engine.data.source.device_memory", lambda _: 0)
    streamed = open_source(folder.settings(**kept), split="train", data_dir=folder.data, device="cpu")
    assert torch.equal(streamed.fetch(torch.arange(8)), pixels)
    if labels == "class":
        assert folder.open("val", **kept).images == 3


def test_a_class_whose_images_are_all_bad_keeps_its_number(folder: Folder) -> None:
    for path in (folder.root / "train/a").iterdir():
        path.write_text("no")
    source = folder.open(skip_bad=True)
    assert (source.images, source.classes) == (6, 2)
    assert source.labels(torch.arange(6)).tolist() == [1] * 6


@pytest.mark.parametrize("size", [16, 72])
def test_without_a_single_image_there_is_a_sentence(folder: Folder, size: int) -> None:
    for path in (folder.root / "train").rglob("*.png"):
        path.write_text("no")
    with pytest.raises(UsageError, match=r"no image in .*train can be read"):
        folder.open(skip_bad=True, image_size=size)


@pytest.mark.parametrize("size", [16, 72])
def test_only_images_in_use_matter(folder: Folder, size: int) -> None:
    (folder.root / "train/b/3.png").write_text("no")
    assert folder.open(classes=9, labels="unique", image_size=size).images == 9
    with pytest.raises(BadFilesError):
        folder.open(classes=10, labels="unique", image_size=size)
    kept = folder.open(classes=10, labels="unique", image_size=size, skip_bad=True)
    assert (kept.images, kept.classes) == (10, 10)


def test_how_many_are_left_is_known_once_all_were_decoded(folder: Folder) -> None:
    spoil(folder)
    place = {"path": folder.root, "data_dir": folder.data, "skip_bad": True}
    # Two of the five are seen without decoding.
    before = data_set("folder").count(Selection(**place))
    assert (before.images, before.exact) == (11, False)
    look(folder.settings(image_size=72), data_dir=folder.data)
    after = data_set("folder").count(Selection(**place))
    assert (after.images, after.val_images, after.exact) == (8, 3, True)
    paint(folder.root / "train/a/1.png", 9)
    assert not data_set("folder").count(Selection(**place)).exact


def test_images_that_were_mended_come_back(folder: Folder) -> None:
    spoil(folder)
    with pytest.raises(BadFilesError):
        folder.open()
    for path in [*folder.root.rglob("*.png"), *folder.root.rglob("*.tif")]:
        path.unlink()
        paint(path.with_suffix(".png"), 40)
    assert folder.open().images == 12


def test_a_disk_that_fails_is_not_taken_for_a_bad_image(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of reading that says nothing about the file must not leave images out."""
    import errno

    from lsc_engine.common.errors import LscError

    opened = Image.open

    def failing(path: Any, *words: Any, **more: Any) -> Any:
        if Path(path).name == "3.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *words, **more)

    monkeypatch.setattr(Image, "open", failing)
    with pytest.raises(LscError, match=r"3\.png: Input/output error"):
        folder.open(skip_bad=True)
