"""Opening imagenet, cinic10 and folder: packed where it pays, held on the device where it fits, else streamed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsc_engine.config.datasets import DATASETS, IMAGE_FILES, class_folders, data_folder, locate, missing_sentence
from lsc_engine.data.imagefiles import FileReader, ImageFiles, has_loose_images, list_files
from lsc_engine.data.pack import LARGEST_AUTOMATIC, Manifest, PackedReader, pack, packed_path, read_manifest, verify
from lsc_engine.data.source import ImageSource, Reader, StreamedSource, TensorSource, fits
from lsc_engine.data.stream import read_all
from lsc_engine.errors import UsageError, did_you_mean


def open_folder(
    dataset: str,
    split: str,
    *,
    unique: bool,
    count: int | None,
    size: int | None,
    data_dir: Path | None,
    path: str | None,
    device: torch.device,
    say: Callable[[str], None],
) -> ImageSource | None:
    """The source of a data set of image files; None without such a split. Errors as `open_source`."""
    if unique and split == "val":
        return None
    size = size or DATASETS[dataset].size
    if size is None:
        raise UsageError(f"data.image_size: {dataset} has images of many sizes; say to which they are brought")
    root = locate(dataset, data_dir, path)
    if root is None and dataset == "folder":
        raise UsageError(missing_sentence(dataset, data_dir, path))
    loose = unique and root is not None and has_loose_images(root)
    target = packed_path(data_folder(data_dir), dataset, "unique" if loose else split, size, root)
    manifest = read_manifest(target)
    if manifest is None:
        if root is None:
            raise UsageError(missing_sentence(dataset, data_dir, path))
        if size > LARGEST_AUTOMATIC:
            files = list_files(dataset, root, split, unique=unique, count=count)
            return None if files is None else _named(_unpacked(files, size, unique, device, say), files.classes, unique)
        files = list_files(dataset, root, split, unique=loose, count=None)
        if files is None:
            return None
        manifest = pack(FileReader(files, size), target, dataset=dataset, split=split, say=say)
    names = tuple(name for name, _ in manifest.classes)
    return _named(_packed(target, manifest, unique, count, device), names, unique)


def _named(source: ImageSource, names: tuple[str, ...], unique: bool) -> ImageSource:
    """`source` with the names of its classes, which are those of the folders unless each image is one of its own."""
    source.class_names = () if unique else names[: source.classes]
    return source


def pack_dataset(
    dataset: str,
    size: int,
    *,
    data_dir: Path | None,
    path: str | None,
    say: Callable[[str], None],
    workers: int | None = None,
) -> list[tuple[Path, Manifest]]:
    """Pack every split of a data set, or check the hash of what is packed; the packed files with their manifests.

    UsageError for a data set that is not made of image files, or that is missing.
    """
    if dataset not in IMAGE_FILES:
        raise UsageError(f"pack: {dataset} is not a data set of image files; {did_you_mean(dataset, IMAGE_FILES)}")
    root = locate(dataset, data_dir, path)
    if root is None:
        raise UsageError(missing_sentence(dataset, data_dir, path))
    splits = ["train", "val"] if class_folders(root) else []
    if has_loose_images(root):
        splits.append("unique")
    done = []
    for split in splits:
        loose = split == "unique"
        files = list_files(dataset, root, "train" if loose else split, unique=loose, count=None)
        if files is not None:
            target = packed_path(data_folder(data_dir), dataset, split, size, root)
            reader = FileReader(files, size)
            done.append((target, _packed_whole(reader, target, dataset, split, say, workers)))
    if not done:
        raise UsageError(f"{root} holds no images; it needs one folder of images per class")
    return done


def _packed_whole(
    reader: FileReader, target: Path, dataset: str, split: str, say: Callable[[str], None], workers: int | None
) -> Manifest:
    before = read_manifest(target)
    manifest = pack(reader, target, dataset=dataset, split=split, say=say, workers=workers)
    if manifest == before and not verify(target, manifest):
        say(f"{target} has not the hash of its manifest and is packed again")
        target.with_suffix(".json").unlink()
        manifest = pack(reader, target, dataset=dataset, split=split, say=say, workers=workers)
    return manifest


def _unpacked(
    files: ImageFiles, size: int, unique: bool, device: torch.device, say: Callable[[str], None]
) -> ImageSource:
    reader = FileReader(files, size)
    labels = None if unique else torch.from_numpy(files.labels.astype(np.int64))
    classes = len(files) if unique else len(files.classes)
    if fits(len(files) * 3 * size * size, device):
        say(f"reading {len(files):,} images of {files.base} to {device}")
        return TensorSource(_loaded(reader, len(files), device), labels, classes=classes, device=device)
    return StreamedSource(reader, labels, images=len(files), classes=classes, device=device)


def _packed(path: Path, manifest: Manifest, unique: bool, count: int | None, device: torch.device) -> ImageSource:
    """The first `count` classes or images of a packed file: always a prefix, since it is sorted by class."""
    labels = manifest.labels()
    if not unique and count is not None:
        labels = labels[: int(np.searchsorted(labels, count))]
    images = len(labels) if not unique else min(len(labels), count or len(labels))
    classes = images if unique else min(count or len(manifest.classes), len(manifest.classes))
    table = None if unique else torch.from_numpy(labels)
    reader = PackedReader(path, manifest, images)
    if device.type == "cpu" or fits(images * manifest.image_bytes, device):
        # On the CPU the mapped file itself is the tensor: the page cache holds it once for all processes.
        return TensorSource(reader.pixels(), table, classes=classes, device=device)
    return StreamedSource(reader, table, images=images, classes=classes, device=device)


def _loaded(reader: Reader, count: int, device: torch.device) -> Tensor:
    pixels = torch.empty((count, reader.channels, reader.size, reader.size), dtype=torch.uint8, device=device)
    start = 0
    for images in read_all(reader, 0, count):
        pixels[start : start + len(images)].copy_(images)
        start += len(images)
    return pixels
