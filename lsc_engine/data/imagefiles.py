"""Data sets that are folders of image files: imagenet, cinic10 and folder. Listing them, and reading single images.

Layout: ROOT/train/CLASS/*.JPEG and ROOT/val/CLASS/*.JPEG (cinic10: valid). Classes and files count in the order of
their names. The names of a million files are kept as one string of bytes, which workers share without copying.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsc_engine.config.datasets import class_folders, image_files, validation_split
from lsc_engine.errors import LscError, UsageError

# In CINIC-10, the images that came from CIFAR-10.
_FROM_CIFAR = "cifar10-"


@dataclass(frozen=True)
class ImageFiles:
    """The images of one split: file `i` is `base` / name(i); `labels` int32 [N] number `classes`."""

    base: Path
    names: bytes
    ends: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ends)

    def path(self, index: int) -> Path:
        """Where image `index` lies."""
        start = int(self.ends[index - 1]) if index else 0
        return self.base / os.fsdecode(self.names[start : int(self.ends[index])])

    def sha256(self) -> str:
        """A hash of names and order: two listings with one hash have the same images at the same places."""
        digest = hashlib.sha256(self.names)
        digest.update(self.ends.tobytes())
        return digest.hexdigest()


def list_files(dataset: str, root: Path, split: str, *, unique: bool, count: int | None) -> ImageFiles | None:
    """Images of the first `count` classes, or the first `count` images (unique); None without such a split.

    Image files that lie beside the class folders count, first, with unique labels. UsageError for a validation
    class that training does not have, or for no images at all.
    """
    folder = split if split == "train" else validation_split(dataset)
    base = root / folder if split == "val" or (root / folder).is_dir() else root
    if not base.is_dir():
        return None
    folders = class_folders(root)
    known = [entry.name for entry in folders]
    if split == "val":
        folders = _validation_folders(root, folder, known)
    wanted = known if unique or count is None else known[:count]
    number = {name: label for label, name in enumerate(wanted)}
    groups = ((number[f.name], f.name, _sorted_files(dataset, f)) for f in folders if f.name in number)
    loose = [(0, "", _sorted_files(dataset, base))] if unique else []
    files = _collect(base, [*loose], groups, wanted, count if unique else None)
    if not len(files):
        raise UsageError(f"data.dataset: {dataset}: no images in {base}; it needs one folder of images per class")
    return files


def has_loose_images(root: Path) -> bool:
    """Whether image files lie beside the class folders of the training split: with unique labels they count too."""
    base = root / "train" if (root / "train").is_dir() else root
    return next(iter(image_files(base)), None) is not None


def _validation_folders(root: Path, folder: str, known: list[str]) -> list[Path]:
    folders = class_folders(root, folder)
    strange = sorted({entry.name for entry in folders} - set(known))
    if strange:
        raise UsageError(f"{root / folder}: class {strange[0]} is not among the training classes of {root}")
    if not folders:
        raise UsageError(
            f"{root / folder} has no class folders; put each validation image into the folder of its class, "
            f"or take {folder}/ away to train without validation"
        )
    return folders


def _sorted_files(dataset: str, folder: Path) -> list[str]:
    names = sorted(image_files(folder))
    return [n for n in names if not n.startswith(_FROM_CIFAR)] if dataset == "cinic10" else names


def _collect(
    base: Path,
    loose: list[tuple[int, str, list[str]]],
    groups: Iterable[tuple[int, str, list[str]]],
    classes: list[str],
    limit: int | None,
) -> ImageFiles:
    names = bytearray()
    ends: list[int] = []
    labels: list[np.ndarray] = []
    for source in (loose, groups):
        for label, folder, files in source:
            # The listing stops at the last image asked for: a million files on a network disk take minutes.
            if limit is not None and len(ends) >= limit:
                break
            files = files if limit is None else files[: limit - len(ends)]
            for file in files:
                names += os.fsencode(os.path.join(folder, file))
                ends.append(len(names))
            labels.append(np.full(len(files), label, dtype=np.int32))
    table = np.concatenate(labels) if labels else np.zeros(0, dtype=np.int32)
    return ImageFiles(base, bytes(names), np.asarray(ends, dtype=np.int64), table, tuple(classes))


class FileReader:
    """Reads image files, each brought to size × size: the middle square, then an antialiased reduction."""

    channels = 3

    def __init__(self, files: ImageFiles, size: int) -> None:
        self.files = files
        self.size = size

    def read(self, index: Tensor) -> Tensor:
        """int64 [B] -> uint8 [B, 3, size, size]. LscError names a file that vanished or cannot be decoded."""
        out = np.empty((len(index), self.size, self.size, 3), dtype=np.uint8)
        for row, number in enumerate(index.tolist()):
            out[row] = decode(self.files.path(number), self.size)
        return torch.from_numpy(np.ascontiguousarray(out.transpose(0, 3, 1, 2)))


def decode(path: Path, size: int) -> np.ndarray:
    """One image file -> uint8 [size, size, 3]: the middle square, bicubic with antialiasing, always RGB."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            # JPEG files are decoded at the smallest of 1, 1/2, 1/4, 1/8 that still holds twice the size.
            image.draft("RGB", (2 * size, 2 * size))
            picture = image.convert("RGB")
    except FileNotFoundError:
        raise LscError(f"{path} has vanished while it is in use; put it back and resume") from None
    except Exception as error:  # Pillow's decoders raise errors of many kinds for damaged files
        raise LscError(f"{path} cannot be read as an image: {error or type(error).__name__}") from None
    width, height = picture.size
    if (width, height) == (size, size):
        return np.asarray(picture)
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    square = (left, top, left + side, top + side)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=square, reducing_gap=3.0))
