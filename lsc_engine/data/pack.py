"""Packing a data set of image files into one memory-mapped uint8 file, resumable and hashed.

DATA/packed/imagenet-train-32px.u8      images one after another, each [3, 32, 32]
DATA/packed/imagenet-train-32px.json    manifest with classes, counts and sha256, written last

While it is being made the file is called .u8.part, with the number of images safely on disk in .part.json; after a
kill it goes on there. A packed file without its manifest is not used.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsc_engine.data.imagefiles import FileReader
from lsc_engine.data.stream import read_all
from lsc_engine.errors import LscError

FORMAT = 1
# Image sizes for which training packs by itself.
LARGEST_AUTOMATIC = 64
SYNC_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Manifest:
    """What a packed file holds. `classes`: (name, images) in label order; `listing`: sha256 of the files' names."""

    dataset: str
    split: str
    size: int
    channels: int
    images: int
    classes: tuple[tuple[str, int], ...]
    listing: str
    sha256: str
    format: int = FORMAT

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return self.channels * self.size * self.size

    def labels(self) -> np.ndarray:
        """int64 [images], the class of each image."""
        counts = [count for _, count in self.classes]
        return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def packed_path(data_dir: Path, dataset: str, split: str, size: int, root: Path | None = None) -> Path:
    """Where the packed file of a split lies. A `folder` data set is told from others by the hash of its `root`."""
    name = dataset
    if dataset == "folder":
        name += "-" + hashlib.sha256(os.fsencode(str((root or Path()).resolve()))).hexdigest()[:8]
    return data_dir / "packed" / f"{name}-{split}-{size}px.u8"


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of the packed file `path`, or None where it is missing, of another format or of another length."""
    try:
        fields: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        fields["classes"] = tuple((str(name), int(count)) for name, count in fields["classes"])
        manifest = Manifest(**fields)
        whole = manifest.format == FORMAT and path.stat().st_size == manifest.images * manifest.image_bytes
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return manifest if whole and sum(count for _, count in manifest.classes) == manifest.images else None


class PackedReader:
    """Reads images out of a packed file; opens it on first use, so that it can be sent to workers."""

    def __init__(self, path: Path, manifest: Manifest, images: int | None = None) -> None:
        self.path = path
        self.images = manifest.images if images is None else images
        self.channels = manifest.channels
        self.size = manifest.size
        self._pixels: Tensor | None = None

    def pixels(self) -> Tensor:
        """uint8 [images, C, S, S], mapped, not read."""
        if self._pixels is None:
            shape = (self.images, self.channels, self.size, self.size)
            # Mode "c" never writes to the file and spares torch's warning about read-only arrays.
            self._pixels = torch.from_numpy(np.memmap(self.path, dtype=np.uint8, mode="c", shape=shape))
        return self._pixels

    def read(self, index: Tensor) -> Tensor:
        """int64 [B] -> uint8 [B, C, S, S]."""
        return self.pixels().index_select(0, index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}


def pack(
    reader: FileReader,
    path: Path,
    *,
    dataset: str,
    split: str,
    say: Callable[[str], None],
    workers: int | None = None,
    sync_bytes: int = SYNC_BYTES,
) -> Manifest:
    """Write every image of `reader` to `path` and return the manifest; at once where that was done before.

    Two processes that pack the same wait for each other. LscError where the disk is too small, or an image bad.
    """
    wanted = _manifest(reader, dataset, split)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, say):
            found = read_manifest(path)
            if found is not None and found.listing == wanted.listing:
                return found
            kept = _images_on_disk(path, wanted)
            _require_space(path, (wanted.images - kept) * wanted.image_bytes)
            digest = _write(reader, path, wanted, kept, say, workers, sync_bytes)
            done = Manifest(**{**wanted.__dict__, "sha256": digest})
            _replace(path.with_suffix(".json"), json.dumps(asdict(done), indent=1))
            _part_record(path).unlink(missing_ok=True)
            return done
    except OSError as error:
        forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
        then = "name another data folder with --data-dir or $LSC_DATA" if forbidden else "repeat it to go on"
        raise LscError(f"packing into {path} stopped: {error.strerror or error}; {then}") from error


def verify(path: Path, manifest: Manifest) -> bool:
    """Whether the packed file still has the manifest's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == manifest.sha256


def _manifest(reader: FileReader, dataset: str, split: str) -> Manifest:
    files = reader.files
    counts = np.bincount(files.labels, minlength=len(files.classes)).tolist()
    classes = tuple(zip(files.classes, counts, strict=True))
    return Manifest(dataset, split, reader.size, reader.channels, len(files), classes, files.sha256(), "")


def _part(path: Path) -> Path:
    return path.with_suffix(".u8.part")


def _part_record(path: Path) -> Path:
    return path.with_suffix(".part.json")


def _write(
    reader: FileReader,
    path: Path,
    wanted: Manifest,
    done: int,
    say: Callable[[str], None],
    workers: int | None,
    sync_bytes: int,
) -> str:
    """Write the data file, of which `done` images are there; its sha256."""
    say(f"packing {wanted.images - done:,} of {wanted.images:,} images of {wanted.dataset}/{wanted.split} into {path}")
    part = _part(path)
    with part.open("r+b" if done else "wb") as file:
        file.truncate(done * wanted.image_bytes)
        digest = hashlib.sha256()
        for start in range(0, done * wanted.image_bytes, 2**23):
            digest.update(file.read(min(2**23, done * wanted.image_bytes - start)))
        pending, said = 0, done
        for images in read_all(reader, done, wanted.images, workers=workers):
            content = images.numpy().tobytes()
            file.write(content)
            digest.update(content)
            done, pending = done + len(images), pending + len(content)
            if pending >= sync_bytes or done == wanted.images:
                _sync(file.fileno(), file.flush)
                _replace(_part_record(path), json.dumps({"listing": wanted.listing, "images": done}))
                pending = 0
            if done - said >= wanted.images / 20:
                say(f"packed {done:,} of {wanted.images:,}")
                said = done
    os.replace(part, path)
    return digest.hexdigest()


def _images_on_disk(path: Path, wanted: Manifest) -> int:
    """How many images of an interrupted attempt can be kept."""
    try:
        record = json.loads(_part_record(path).read_text(encoding="utf-8"))
        if record["listing"] != wanted.listing:
            return 0
        # Killed between the last rename and the manifest: the data is whole under its final name.
        if not _part(path).exists() and path.exists():
            os.replace(path, _part(path))
        return min(int(record["images"]), _part(path).stat().st_size // wanted.image_bytes, wanted.images)
    except (OSError, ValueError, TypeError, KeyError):
        return 0


def _require_space(path: Path, need: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < need:
        raise LscError(
            f"{path.parent} has {free / 2**30:.1f} GB free and packing needs {need / 2**30:.1f} GB more; "
            "name another data folder with --data-dir or $LSC_DATA"
        )


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        _sync(file.fileno(), file.flush)
    os.replace(fresh, path)


def _sync(descriptor: int, flush: Callable[[], None]) -> None:
    flush()
    os.fsync(descriptor)


@contextmanager
def _alone(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that is packing {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
