"""What a trained run is for: embeddings of a data set, and labels of images with their cosine.

Classes of other data are those of the run that have the same names; their order there does not matter. An image whose
nearest vector of the whole system belongs to no class is "a new class" (arXiv:2604.00779).
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lsc_engine.common.safe_io import whole_file
from lsc_engine.config.datasets import IMAGE_FILES, locate
from lsc_engine.config.folders import SUFFIXES, link_to_nothing
from lsc_engine.config.listing import ImageFiles, Look, list_files
from lsc_engine.data import ImageSource, normalise, open_source
from lsc_engine.data.imagefiles import decode
from lsc_engine.data.named import by_name
from lsc_engine.errors import LscError, UsageError
from lsc_engine.heads.lsc import LscHead
from lsc_engine.runs.folder.classes import listed, match
from lsc_engine.training.trained_run import Trained
from lsc_engine.userpaths import absent

BATCH = 512
_MOST_THREADS = 16
_NO_LABELS = "every image of the training is a class of its own: the labels of other images are not compared"
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow converts


@dataclass(frozen=True)
class Wanted:
    """Which images: a data set (None: the run's own), its split (None: val, or the training images of another folder
    that has no val), its folder, and how many of its classes (None: the run's, or all of another data set)."""

    dataset: str | None = None
    split: str | None = None
    path: str | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Pictures:
    """Images to be labelled, each with what names it, and its true label: that of the run's class of the same name,
    None where the run does not have it, or where nothing is known. `named`: the names of the true classes, by image.

    Image `i` is the file `paths[i]`, or number `i` of `source`. `notes`: what the classes have not in common; `failed`:
    entries that cannot be read, each with a sentence.
    """

    names: Sequence[Path | int]
    labels: Sequence[int | None] | None
    named: Sequence[str] | None
    paths: Sequence[Path] | None
    source: ImageSource | None
    notes: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


# ------------------------------------------------------------------------------------------------- Which images
def image_paths(given: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Image files, and those in folders and all folders below, by name; and what cannot be taken, with a sentence.
    UsageError for a folder without images."""
    found: list[Path] = []
    failed: list[tuple[Path, str]] = []
    for path in given:
        if os.path.isdir(path):
            inside = _in_folder(path, failed)
            if not inside and not any(at.is_relative_to(path) for at, _ in failed):
                raise UsageError(f"IMAGE {path}: this folder holds no images ({', '.join(SUFFIXES)})")
            found += inside
        elif (why := absent(path)) is not None:
            failed.append((path, f"{path}: {why}"))
        else:
            found.append(path)
    return found, failed


def _in_folder(top: Path, failed: list[tuple[Path, str]]) -> list[Path]:
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()

    def refused(error: OSError) -> None:
        where = Path(os.fsdecode(error.filename or top))
        failed.append((where, f"{where}: {error.strerror or error}"))

    for folder, below, files in os.walk(top, onerror=refused, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted(name for name in below if not name.startswith("."))
        for path in (Path(folder, name) for name in sorted(files) if not name.startswith(".")):
            if path.name.lower().endswith(SUFFIXES):
                found.append(path)
            elif os.path.islink(path) and not os.path.exists(path):  # perhaps a folder on a disk that is not mounted
                failed.append((path, f"{path} {link_to_nothing(path)}"))
    return found


def open_pictures(trained: Trained, wanted: Wanted, data_dir: Path | None) -> Pictures:
    """The images of a data set. UsageError where there are none."""
    data = trained.config.data
    dataset = wanted.dataset or data.dataset
    root = locate(dataset, data_dir, _path(trained, wanted)) if dataset in IMAGE_FILES else None
    if root is not None:
        return _files(trained, wanted, dataset, root)
    source, notes = open_images(trained, wanted, data_dir)
    numbers = range(source.images)
    own = wanted == Wanted(split=wanted.split) or wanted.dataset == data.dataset
    if data.labels == "unique" and not (own and wanted.classes is None and source.images == trained.images):
        return Pictures(numbers, None, None, None, source, (_NO_LABELS,))
    if bool(trained.names) != bool(source.class_names):
        return Pictures(numbers, None, None, None, source, notes)
    labels = [label if label < trained.classes else None for label in _all_labels(source)]
    return Pictures(numbers, labels, None, None, source, notes)


def _path(trained: Trained, wanted: Wanted) -> str | None:
    own = wanted.dataset in (None, trained.config.data.dataset)
    return wanted.path if wanted.path is not None or not own else trained.config.data.path


def _files(trained: Trained, wanted: Wanted, dataset: str, root: Path) -> Pictures:
    """The files themselves: nothing is packed, and one that is damaged does not concern the others."""
    own = wanted.path is None and wanted.dataset in (None, trained.config.data.dataset)
    unique = own and trained.config.data.labels == "unique"
    split = wanted.split or "val"
    look: Look = "files" if unique else "names"
    listing = partial(list_files, dataset, root, unique=unique, skip_bad=True, look=look)
    files = None if unique and split == "val" else listing(split, count=_count(trained, wanted))
    if files is None and wanted.split is None and not own:
        files = listing("train", count=wanted.classes)
    if files is None:
        why = "every image is a class of its own" if unique else "none are known"
        raise UsageError(f"{dataset} has no {split} images: {why}; take --split train")
    paths = _Paths(files)
    failed = tuple((entry.path, f"{entry.path} {entry.why}") for entry in files.bad)
    if unique:
        if len(files) != trained.images or trained.files not in (None, files.content()):
            note = f"{root} has not just the {trained.images:,} images of the training: labels are not compared"
            return Pictures(paths, None, None, paths, None, (note,), failed)
        return Pictures(paths, range(len(files)), None, paths, None, (), failed)
    if trained.config.data.labels == "unique":
        return Pictures(paths, None, None, paths, None, (_NO_LABELS,), failed)
    labels, notes = _matched(trained, files, root)
    return Pictures(paths, labels, _Named(files), paths, None, notes, failed)


def _count(trained: Trained, wanted: Wanted) -> int | None:
    if wanted.classes is not None or trained.config.data.labels != "unique":
        return wanted.classes
    return trained.classes


class _Paths(Sequence[Any]):
    """The paths of listed files."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        return self._files.path(index)


class _Named(Sequence[Any]):
    """The names of the classes of listed files."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        return self._files.classes[self._files.labels[index]]


def _matched(trained: Trained, files: ImageFiles, where: Path) -> tuple[list[int | None] | None, tuple[str, ...]]:
    """The labels that the classes of files have in the run, and what does not match."""
    counts = np.bincount(files.labels, minlength=len(files.classes))
    there = [name for name, count in zip(files.classes, counts, strict=True) if count]
    if not trained.names:
        return None, (f"the names of the run's classes are not known: the labels of {where} are not compared",)
    table = match(files.classes, trained.names).labels
    labels = [table[label] if table[label] >= 0 else None for label in files.labels.tolist()]
    return labels, tuple(_notes(trained, there, where))


def _notes(trained: Trained, there: Sequence[str], where: Path | str) -> Iterator[str]:
    """What classes with images `there` and those of the run have not in common."""
    found = match(there, trained.names)
    if found.only_there:
        yield f"{where} has {_classes(found.only_there, 'that the run does not know')}"
    known = set(found.labels)
    absent = [name for label, name in enumerate(trained.names) if label not in known]
    if absent:
        yield f"{where} has no images of {_classes(absent, 'of the run')}"


def _classes(names: Sequence[str], which: str) -> str:
    return f"{len(names):,} class{'' if len(names) == 1 else 'es'} {which}: {listed(names)}"


def open_images(trained: Trained, wanted: Wanted, data_dir: Path | None) -> tuple[ImageSource, tuple[str, ...]]:
    """The images at the size that the network takes, with the labels of the run's classes of the same names; other
    classes have the labels behind those. And what the classes have not in common. UsageError where there are no images,
    or they have other channels."""
    config = trained.config
    changes: dict[str, Any] = {"image_size": trained.image_size}
    own = wanted.dataset in (None, config.data.dataset)
    if not own or wanted.path is not None or wanted.classes is not None:
        changes |= {"dataset": wanted.dataset or config.data.dataset, "classes": wanted.classes}
        changes["path"] = _path(trained, wanted)
        if not own or wanted.classes is not None:
            changes["labels"] = "class"
    data = config.data.model_copy(update=changes)
    split = wanted.split or "val"
    source = open_source(data, split=split, data_dir=data_dir, device=trained.device)
    if source is None:
        why = "every image is a class of its own" if data.labels == "unique" else "none are known"
        raise UsageError(f"{data.dataset} has no {split} images: {why}; take --split train")
    if source.channels != trained.channels:
        channels = f"{source.channels} channels, this network takes {trained.channels}"
        raise UsageError(f"--dataset: {data.dataset} has images of {channels}")
    if "unique" in (data.labels, config.data.labels):
        return source, ()
    where = data.path or data.dataset
    if not trained.names or not source.class_names:
        if own and wanted.path is None:
            return source, ()
        return source, (f"{where}: classes have no names there or in the run, and keep their numbers",)
    if own and wanted.path is None and source.class_names != trained.names and config.data.classes is not None:
        # The first classes of today may be others.
        whole = data.model_copy(update={"classes": None})
        source = open_source(whole, split=split, data_dir=data_dir, device=trained.device) or source
    there = [source.class_names[label] for label in sorted(set(_all_labels(source)))]
    source, _ = by_name(source, trained.names, keep=True)
    return source, tuple(_notes(trained, there, where))


def _all_labels(source: ImageSource) -> list[int]:
    parts = torch.arange(source.images).split(2**20)
    return [label for part in parts for label in source.labels(part.to(source.device)).tolist()]


# ------------------------------------------------------------------------------------------------- Embeddings
def embed_all(trained: Trained, source: ImageSource, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [N, n] float32 and labels [N] int64 of all images, or of the first `limit`, in order."""
    count = source.images if limit is None else min(limit, source.images)
    z = np.empty((count, trained.dim), np.float32)
    labels = np.empty(count, np.int64)
    done = 0
    for part, own in trained.embeddings(source, torch.arange(count), BATCH):
        z[done : done + len(part)] = part.cpu().numpy()
        labels[done : done + len(part)] = own.cpu().numpy()
        done += len(part)
    return z, labels


def save_embeddings(path: Path, z: np.ndarray, labels: np.ndarray, facts: dict[str, str]) -> list[Path]:
    """Write `.safetensors` (embeddings, labels and `facts`) or `.npy` (labels beside it as NAME.labels.npy): each file
    whole or not at all. Raises OSError."""
    if path.suffix == ".npy":
        beside = path.with_suffix(".labels.npy")
        with whole_file(beside) as second, whole_file(path) as first:
            np.save(first, z)
            np.save(second, labels)
        return [path, beside]
    from safetensors.numpy import save_file

    with whole_file(path) as part:
        try:
            save_file({"embeddings": z, "labels": labels}, part, metadata=facts)
        except Exception as error:  # a full disk is an error of its own there
            raise error if isinstance(error, OSError) else OSError(str(error)) from error
    return [path]


def names_for(labels: Sequence[str]) -> str:
    """Names of classes as a fact of embeddings: a JSON list in the order of the labels."""
    return json.dumps(list(labels))


# ------------------------------------------------------------------------------------------------- Labels
@dataclass(frozen=True)
class Prediction:
    """The label of one image: None for a new class; the cosine to the centre of the nearest class in use."""

    label: int | None
    nearest: int
    cosine: float | None


@torch.no_grad()
def predict(trained: Trained, z: Tensor) -> list[Prediction]:
    """The labels of embeddings [B, n]. UsageError for a run that has learnt no label."""
    head = trained.head
    if not head.learns_labels:
        raise UsageError(f"this run was trained with {trained.config.target.method} and has learnt no label")
    nearest = head.predict(z)
    known = head.predict(z, unused="new") if isinstance(head, LscHead) else nearest
    centres = head.centres(nearest)
    cosines: Sequence[float | None] = [None] * len(z)
    if centres is not None:
        cosines = functional.cosine_similarity(head.project(z).float(), centres.float(), dim=1).tolist()
    return [
        Prediction(None if label < 0 else label, near, cosine)
        for label, near, cosine in zip(known.tolist(), nearest.tolist(), cosines, strict=True)
    ]


def predict_all(trained: Trained, pictures: Pictures, limit: int | None = None) -> Iterator[Prediction | str]:
    """For each image, in order, what it is, or a sentence where it cannot be read."""
    count = len(pictures.names) if limit is None else min(limit, len(pictures.names))
    if pictures.source is not None:
        for z, _ in trained.embeddings(pictures.source, torch.arange(count), BATCH):
            yield from predict(trained, z)
        return
    assert pictures.paths is not None
    for start in range(0, count, BATCH):
        read = _read([pictures.paths[i] for i in range(start, min(start + BATCH, count))], trained.image_size)
        good = [one for one in read if not isinstance(one, str)]
        told = iter(predict(trained, trained.embed(_batch(good, trained.channels))) if good else ())
        yield from (one if isinstance(one, str) else next(told) for one in read)


def _read(paths: Sequence[Path], size: int) -> list[np.ndarray | str]:
    """Each file as uint8 [size, size, 3], or why it cannot be read."""

    def read(path: Path) -> np.ndarray | str:
        try:
            return decode(path, size)
        except LscError as error:
            return str(error)

    # Filters of warnings belong to all threads: they are set here once.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0)))) as threads:
        warnings.simplefilter("ignore")
        return list(threads.map(read, paths))


def _batch(pixels: Sequence[np.ndarray], channels: int) -> Tensor:
    """[B, channels, S, S] in [-1, 1] of pixels [S, S, 3], grey where one channel is wanted."""
    images = torch.from_numpy(np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2)))
    if channels == 1:
        weights = torch.tensor(_GREY).view(1, 3, 1, 1)
        images = (images.float() * weights).sum(1, keepdim=True).round().clamp(0, 255).to(torch.uint8)
    return normalise(images)
