"""Accuracy and loss in evaluation mode, by the head's own exact decode, on images fixed for the whole study."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lsc_engine.data import ImageSource, normalise
from lsc_engine.heads import Head

Augment = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    head: Head,
    source: ImageSource,
    index: Tensor,
    *,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype | None,
    augment: Augment | None = None,
) -> dict[str, float]:
    """{"loss", "accuracy"} and, for LSC, "inside" over the images `index` [N] of `source`.

    "inside" is the share of images closer to their own centre than half the smallest angle. `augment` turns uint8
    images [B, C, H, W] and their indices into augmented views. One host sync, at the end.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for part in index.split(batch_size):
        labels = source.labels(part).to(device)
        z = _embed(model, source, part, device, dtype, augment)
        target = head.target(labels)
        inside = head.inside(z, target)
        sums[0] += head.losses(z, target).double().sum()
        sums[1] += (head.predict(z) == labels).sum()
        sums[2] += torch.nan if inside is None else inside.sum()
    model.train(was_training)
    loss, accuracy, share = (sums / len(index)).tolist()
    values = {"loss": loss, "accuracy": accuracy}
    return values if share != share else {**values, "inside": share}


@torch.no_grad()
def class_means(
    model: nn.Module,
    source: ImageSource,
    classes: int,
    *,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Tensor:
    """The mean embedding of every class over the whole of `source`, [classes, n] float32, in evaluation mode.

    arXiv:2510.04090 calls the rows CEembs where the run was trained with cross-entropy.
    """
    model.eval()
    sums: Tensor | None = None
    counts = torch.zeros(classes, dtype=torch.float64, device=device)
    for part in torch.arange(source.images).split(batch_size):
        labels = source.labels(part).to(device)
        z = _embed(model, source, part, device, dtype, None).double()
        if sums is None:
            sums = torch.zeros(classes, z.shape[1], dtype=torch.float64, device=device)
        sums.index_add_(0, labels, z)
        counts += torch.bincount(labels, minlength=classes)
    assert sums is not None
    return (sums / counts.clamp(min=1).unsqueeze(1)).float()


def _embed(
    model: nn.Module,
    source: ImageSource,
    index: Tensor,
    device: torch.device,
    dtype: torch.dtype | None,
    augment: Augment | None,
) -> Tensor:
    images = source.fetch(index).to(device, non_blocking=True)
    if augment is not None:
        images = augment(images, index)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        z: Tensor = model(normalise(images))
    return z.float()
