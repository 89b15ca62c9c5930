"""What a trained run is for: embeddings of a data set, and labels of images with their cosine.

An image whose nearest vector of the whole system belongs to no class is "a new class" (arXiv:2604.00779).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lsc_engine.config import RunConfig, locate
from lsc_engine.config.datasets import class_folders
from lsc_engine.data import ImageSource, normalise, open_source
from lsc_engine.data.imagefiles import decode
from lsc_engine.errors import UsageError
from lsc_engine.heads.lsc import LscHead
from lsc_engine.training.trained import Trained

BATCH = 512
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow converts


@dataclass(frozen=True)
class Wanted:
    """Which images: a data set (None: the run's own), its split, its folder, and how many of its classes (None: the
    run's own number, or all of another data set)."""

    dataset: str | None = None
    split: str = "train"
    path: str | None = None
    classes: int | None = None


def open_images(trained: Trained, wanted: Wanted, data_dir: Path | None) -> ImageSource:
    """The images, at the size that the network takes. UsageError where there are none, or with other channels."""
    config = trained.config
    changes: dict[str, Any] = {"image_size": trained.derived.image_size}
    if wanted.dataset not in (None, config.data.dataset) or wanted.path is not None or wanted.classes is not None:
        changes |= {"dataset": wanted.dataset or config.data.dataset, "path": wanted.path, "classes": wanted.classes}
        if wanted.dataset not in (None, config.data.dataset) or wanted.classes is not None:
            changes["labels"] = "class"
    data = config.data.model_copy(update=changes)
    source = open_source(data, split=wanted.split, data_dir=data_dir, device=trained.device)
    if source is None:
        why = "every image is a class of its own" if data.labels == "unique" else "none are known"
        raise UsageError(f"{data.dataset} has no {wanted.split} images: {why}; take --split train")
    if source.channels != trained.derived.channels:
        channels = f"{source.channels} channels, this network takes {trained.derived.channels}"
        raise UsageError(f"--dataset: {data.dataset} has images of {channels}")
    return source


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
    """Write `.safetensors` (embeddings, labels and `facts`) or `.npy` (labels beside it as NAME.labels.npy)."""
    if path.suffix == ".npy":
        beside = path.with_suffix(".labels.npy")
        np.save(path, z)
        np.save(beside, labels)
        return [path, beside]
    from safetensors.numpy import save_file

    save_file({"embeddings": z, "labels": labels}, path, metadata=facts)
    return [path]


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
    if not head.labelled:
        raise UsageError(f"this run was trained with {trained.config.target.method} and has learnt no label")
    nearest = head.predict(z)
    known = head.predict(z, unused="new") if isinstance(head, LscHead) else nearest
    centres = head.centres(nearest)
    cosines: Sequence[float | None] = [None] * len(z)
    if centres is not None:
        cosines = functional.cosine_similarity(head.shown(z).float(), centres.float(), dim=1).tolist()
    return [
        Prediction(None if label < 0 else label, near, cosine)
        for label, near, cosine in zip(known.tolist(), nearest.tolist(), cosines, strict=True)
    ]


def read_images(files: Sequence[Path], trained: Trained) -> Iterator[Tensor]:
    """Batches [B, C, S, S] in [-1, 1] of image files: the middle square at the network's size, grey where it is."""
    size, channels = trained.derived.image_size, trained.derived.channels
    for start in range(0, len(files), BATCH):
        pixels = np.stack([decode(path, size) for path in files[start : start + BATCH]]).transpose(0, 3, 1, 2)
        images = torch.from_numpy(np.ascontiguousarray(pixels))
        if channels == 1:
            weights = torch.tensor(_GREY).view(1, 3, 1, 1)
            images = (images.float() * weights).sum(1, keepdim=True).round().clamp(0, 255).to(torch.uint8)
        yield normalise(images)


def class_names(config: RunConfig, data_dir: Path | None) -> list[str]:
    """The names of a run's classes where its data set has folders of that name, else none."""
    if config.data.labels == "unique" or config.data.dataset not in ("imagenet", "cinic10", "folder"):
        return []
    root = locate(config.data.dataset, data_dir, config.data.path)
    if root is None or not root.is_dir():
        return []
    return [folder.name for folder in class_folders(root)]
