"""Opening imagenet, cinic10 and folder: packed where it pays, held on the device where it fits, else streamed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsc_engine.config.datasets import DATASETS, data_folder, locate, missing_sentence
from lsc_engine.data.imagefiles import FileReader, ImageFiles, list_files
from lsc_engine.data.pack import LARGEST_AUTOMATIC, Manifest, PackedReader, pack, packed_path, read_manifest
from lsc_engine.data.source import ImageSource, Reader, StreamedSource, TensorSource, fits
from lsc_engine.data.stream import read_all
from lsc_engine.errors import UsageError

NAMES = ("imagenet", "cinic10", "folder")


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
    # Loose images count with unique labels only, so a user's folder is packed apart for each kind of label.
    loose = dataset == "folder" and unique
    target = packed_path(data_folder(data_dir), dataset, "unique" if loose else split, size, root)
    manifest = read_manifest(target)
    if manifest is None:
        if root is None:
            raise UsageError(missing_sentence(dataset, data_dir, path))
        if size > LARGEST_AUTOMATIC:
            files = list_files(dataset, root, split, unique=unique, count=count)
            return None if files is None else _unpacked(files, size, unique, device, say)
        files = list_files(dataset, root, split, unique=loose, count=None)
        if files is None:
            return None
        manifest = pack(FileReader(files, size), target, dataset=dataset, split=split, say=say)
    return _packed(target, manifest, unique, count, device)


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
