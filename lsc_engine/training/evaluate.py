"""Accuracy and loss in evaluation mode, by the head's own exact decode, on images fixed for the whole study."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lsc_engine.data import Batch
from lsc_engine.heads import Head
from lsc_engine.training.embeddings import Watch


@torch.no_grad()
def evaluate(
    model: nn.Module,
    head: Head,
    batches: Iterable[Batch[None]],
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    watch: Watch | None = None,
) -> dict[str, float]:
    """{"loss", "accuracy"} and, for LSC, "inside" over `batches`; one host sync, at the end. `watch` sees embeddings.

    "inside" is the share of images closer to their own centre than half the smallest angle.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    try:
        for batch in batches:
            labels = batch.labels.to(device)
            z = _embed(model, batch, device, dtype)
            target = head.target(labels)
            inside = head.inside(z, target)
            sums[0] += head.losses(z, target).double().sum()
            predicted = head.predict(z)
            sums[1] += (predicted == labels).sum()
            sums[2] += torch.nan if inside is None else inside.sum()
            sums[3] += len(labels)
            if watch is not None:
                watch.see(z, labels, predicted)
    finally:
        model.train(was_training)
    loss, accuracy, share = (sums[:3] / sums[3]).tolist()
    values = {"loss": loss, "accuracy": accuracy}
    return values if share != share else {**values, "inside": share}


@torch.no_grad()
def class_means(
    model: nn.Module,
    batches: Iterable[Batch[None]],
    classes: int,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Tensor:
    """The mean embedding of every class over `batches`, [classes, n] float32, in evaluation mode.

    arXiv:2510.04090 calls the rows CEembs where the run was trained with cross-entropy.
    """
    model.eval()
    sums: Tensor | None = None
    counts = torch.zeros(classes, dtype=torch.float64, device=device)
    for batch in batches:
        labels = batch.labels.to(device)
        z = _embed(model, batch, device, dtype).double()
        if sums is None:
            sums = torch.zeros(classes, z.shape[1], dtype=torch.float64, device=device)
        sums.index_add_(0, labels, z)
        counts += torch.bincount(labels, minlength=classes)
    assert sums is not None
    return (sums / counts.clamp(min=1).unsqueeze(1)).float()


def _embed(model: nn.Module, batch: Batch[None], device: torch.device, dtype: torch.dtype | None) -> Tensor:
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        z: Tensor = model(batch.images.to(device, non_blocking=True))
    return z.float()
