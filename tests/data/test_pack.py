"""Packing: whole or resumable, hashed, and the same images as unpacked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from lsc_engine.common.errors import LscError
from lsc_engine.data.dataset import open_source
from lsc_engine.data.imagefiles import FileReader
from lsc_engine.data.listing import list_files
from lsc_engine.data.pack import Manifest, PackedReader, pack, packed_path, read_manifest, verify
from lsc_engine.data.source import StreamedSource, TensorSource


def reader_of(root: Path, size: int = 16) -> FileReader:
    files = list_files("imagenet", root, "train", unique=False, count=None)
    assert files is not None
    return FileReader(files, size)


@pytest.fixture
def root(image_folder: Callable[..., Path]) -> Path:
    names = [f"{i:03d}.png" for i in range(40)]
    return image_folder("imagenet", {"train": {"a": names, "b": names[:30], "c": names[:30]}}, (20, 16))


def packed(reader: FileReader, path: Path, **more: Any) -> Manifest:
    return pack(reader, path, dataset="imagenet", split="train", say=lambda _: None, workers=0, **more)


def test_packed_images_and_labels(root: Path, tmp_path: Path) -> None:
    reader = reader_of(root)
    path = tmp_path / "packed" / "x.u8"
    manifest = packed(reader, path)
    assert manifest.classes == (("a", 40), ("b", 30), ("c", 30))
    assert path.stat().st_size == 100 * 3 * 16 * 16
    assert hashlib.sha256(path.read_bytes()).hexdigest() == manifest.sha256
    assert verify(path, manifest)
    index = torch.tensor([99, 0, 40])
    assert torch.equal(PackedReader(path, manifest).read(index), reader.read(index))
    assert manifest.labels().tolist() == [0] * 40 + [1] * 30 + [2] * 30
    assert sorted(p.name for p in path.parent.iterdir()) == ["x.json", "x.lock", "x.u8"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from lsc_engine.data import listing
from lsc_engine.data import imagefiles, pack, stream
class Mortal(imagefiles.FileReader):
    def read_usable(self, index):
        if int(index[-1]) >= int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read_usable(index)
files = listing.list_files("imagenet", Path(sys.argv[1]), "train", unique=False, count=None)
stream.BLOCK = 8
pack.SYNC_BYTES = 1
pack.pack(Mortal(files, 16), Path(sys.argv[2]), dataset="imagenet", split="train", say=lambda _: None, workers=0)
"""


def test_killed_half_way_and_resumed(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "packed" / "x.u8"
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(root), str(path), "50"], timeout=240)
    assert killed.returncode == -signal.SIGKILL
    assert read_manifest(path) is None
    assert not path.exists()
    record = json.loads(path.with_suffix(".part.json").read_text())
    assert record["images"] == 48
    # A torn tail beyond what was recorded is thrown away.
    with path.with_suffix(".u8.part").open("ab") as file:
        file.write(b"\x01" * 1000)
    requested: list[int] = []

    class Counting(FileReader):
        def read_usable(self, index: torch.Tensor) -> tuple[torch.Tensor, list[tuple[int, str]]]:
            requested.extend(index.tolist())
            return super().read_usable(index)

    manifest = packed(Counting(reader_of(root).files, 16), path)
    assert requested == list(range(48, 100))
    whole = packed(reader_of(root), tmp_path / "packed" / "y.u8")
    assert manifest.sha256 == whole.sha256
    assert path.read_bytes() == (tmp_path / "packed" / "y.u8").read_bytes()


def test_killed_before_the_manifest(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.u8"
    manifest = packed(reader_of(root), path)
    path.with_suffix(".json").unlink()
    path.with_suffix(".part.json").write_text(json.dumps(asdict(manifest) | {"sha256": ""}))

    class Idle(FileReader):
        def read_usable(self, index: torch.Tensor) -> tuple[torch.Tensor, list[tuple[int, str]]]:
            raise AssertionError("nothing is left to read")

    assert packed(Idle(reader_of(root).files, 16), path) == manifest


def test_a_part_is_not_used_after_a_change_that_kept_size_and_time(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.u8"
    manifest = packed(reader_of(root), path)
    (root / "train" / "a" / "000.png").chmod(0o600)
    path.with_suffix(".json").unlink()
    path.with_suffix(".part.json").write_text(json.dumps(asdict(manifest) | {"sha256": ""}))
    read: list[int] = []

    class Counting(FileReader):
        def read_usable(self, index: torch.Tensor) -> tuple[torch.Tensor, list[tuple[int, str]]]:
            read.extend(index.tolist())
            return super().read_usable(index)

    packed(Counting(reader_of(root).files, 16), path)
    assert read == list(range(100))


def test_packing_again_does_nothing_until_the_files_change(
    root: Path, tmp_path: Path, image_folder: Callable[..., Path]
) -> None:
    path = tmp_path / "x.u8"
    manifest = packed(reader_of(root), path)
    stamp = path.stat().st_mtime_ns
    assert packed(reader_of(root), path) == manifest
    assert path.stat().st_mtime_ns == stamp
    (root / "train" / "a" / "000.png").unlink()
    assert packed(reader_of(root), path).images == 99


@pytest.mark.parametrize("damage", ["short", "no json", "bad json", "format", "counts"])
def test_damaged_packed_file_is_not_used(root: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.u8"
    packed(reader_of(root), path)
    note = path.with_suffix(".json")
    fields = json.loads(note.read_text())
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "no json":
        note.unlink()
    elif damage == "bad json":
        note.write_text("{")
    elif damage == "format":
        note.write_text(json.dumps({**fields, "format": 99}))
    else:
        note.write_text(json.dumps({**fields, "classes": [["a", 5]]}))
    assert read_manifest(path) is None


_WITHOUT_RIGHTS = """
import sys
from pathlib import Path
from lsc_engine.data import listing
from lsc_engine.data import imagefiles, pack
files = listing.list_files("imagenet", Path(sys.argv[1]), "train", unique=False, count=None)
try:
    reader = imagefiles.FileReader(files, 16)
    print(pack.pack(reader, Path(sys.argv[2]), dataset="imagenet", split="train", say=print, workers=0).sha256)
except pack.LscError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write everywhere")
def test_a_copy_in_a_folder_of_others_is_used_while_it_matches_and_refused_then(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "packed" / "x.u8"
    manifest = packed(reader_of(root), path)
    for entry in path.parent.iterdir():
        entry.chmod(0o444)
    path.parent.chmod(0o555)
    before = path.read_bytes()
    # Root without the right to pass over rights.
    anyone = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()

    def outcome() -> str:
        words = [*anyone, sys.executable, "-c", _WITHOUT_RIGHTS, str(root), str(path)]
        return subprocess.run(words, capture_output=True, text=True, timeout=240, check=True).stdout

    try:
        assert outcome() == f"{manifest.sha256}\n"
        (root / "train/a/000.png").unlink()
        assert "Permission denied; name another data folder" in outcome()
        assert path.read_bytes() == before
    finally:
        path.parent.chmod(0o755)


def test_one_flipped_bit_is_found_by_the_hash(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.u8"
    manifest = packed(reader_of(root), path)
    content = bytearray(path.read_bytes())
    content[777] ^= 4
    path.write_bytes(bytes(content))
    assert read_manifest(path) == manifest
    assert not verify(path, manifest)


def test_images_that_cannot_be_read_are_left_out_and_named_in_the_manifest(root: Path, tmp_path: Path) -> None:
    bad = root / "train" / "b" / "005.png"
    good = bad.read_bytes()
    bad.write_bytes(b"no image")
    path = tmp_path / "x.u8"
    manifest = packed(reader_of(root), path)
    assert (manifest.images, manifest.classes) == (99, (("a", 40), ("b", 29), ("c", 30)))
    assert manifest.bad == ((45, "cannot be read as an image: it is not an image of a known format"),)
    bad.write_bytes(good)
    assert packed(reader_of(root), path).images == 100


def test_disk_too_small(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(LscError, match="GB free and packing needs"):
        packed(reader_of(root), tmp_path / "x.u8")
    assert not (tmp_path / "x.u8").exists()


@pytest.mark.slow
def test_two_processes_pack_once(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "packed" / "x.u8"
    command = [sys.executable, "-c", _KILLED, str(root), str(path), "1000"]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    manifest = read_manifest(path)
    assert manifest is not None
    assert verify(path, manifest)


@pytest.mark.parametrize("size", [16, 80])
def test_training_uses_the_packed_file_without_the_images(root: Path, tmp_path: Path, settings: Any, size: int) -> None:
    """Up to 64 px it is made where images are first read, above that by the command alone."""
    data = settings("imagenet", image_size=size)
    first = open_source(data, split="train", data_dir=tmp_path).fetch(torch.arange(100))
    path = packed_path(tmp_path, "imagenet", "train", size)
    assert (read_manifest(path) is not None) == (size == 16)
    packed(reader_of(root, size), path)
    root.rename(tmp_path / "elsewhere")
    again = open_source(data, split="train", data_dir=tmp_path)
    assert isinstance(again, TensorSource)
    assert torch.equal(first, again.fetch(torch.arange(100)))
    two = open_source(settings("imagenet", classes=2, image_size=size), split="train", data_dir=tmp_path)
    assert (two.images, two.classes) == (70, 2)
    seven = open_source(settings("imagenet", "unique", 7, size), split="train", data_dir=tmp_path)
    assert (seven.images, seven.classes) == (7, 7)


def test_packed_file_too_large_for_the_gpu_is_streamed(
    root: Path, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = settings("imagenet", image_size=16)
    open_source(data, split="train", data_dir=tmp_path)
    monkeypatch.setattr("lsc_engine.data.source.device_memory", lambda _: 0)
    # A "meta" device stands for a GPU that holds nothing: its memory is never queried.
    source = open_source(data, split="train", data_dir=tmp_path, device="meta")
    assert isinstance(source, StreamedSource)
    assert source.reader.read(torch.arange(3)).shape == (3, 3, 16, 16)


def test_folders_of_one_name_are_packed_apart(tmp_path: Path) -> None:
    one = packed_path(tmp_path, "folder", "train", 32, tmp_path / "a" / "data")
    other = packed_path(tmp_path, "folder", "train", 32, tmp_path / "b" / "data")
    assert one != other
    assert one.parent == tmp_path / "packed"
