"""Accuracy and loss in evaluation mode, by the head's own exact decode, on images fixed for the whole study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lsc_engine.data import Batch
from lsc_engine.heads.base import Head

# Embeddings [B, n] float32, labels [B], predicted labels [B].
Watcher = Callable[[Tensor, Tensor, Tensor], None]
# Cosines held at once, 64 MB of float32.
SCORES_AT_ONCE = 2**24


@torch.no_grad()
def evaluate(
    model: nn.Module,
    head: Head,
    batches: Iterable[Batch[None]],
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    known: int | None = None,
    watchers: Sequence[Watcher] = (),
) -> dict[str, float]:
    """{"loss", "accuracy"} over `batches`, for LSC "inside", and, where classes are `known` up to a number,
    "accuracy_old" below it and "accuracy_new" from it on; one host sync, at the end. `watchers` see every batch.

    "inside" is the share of images closer to their own centre than half the smallest angle.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(6, dtype=torch.float64, device=device)
    try:
        for batch in batches:
            labels = batch.labels.to(device)
            z = embed(model, batch, device, dtype)
            target = head.target(labels)
            inside, predicted = head.within_half_angle(z, target), head.predict(z)
            right = predicted == labels
            sums[0] += head.losses(z, target).double().sum()
            sums[1] += right.sum()
            sums[2] += torch.nan if inside is None else inside.sum()
            sums[3] += len(labels)
            if known is not None:
                sums[4] += (right & (labels < known)).sum()
                sums[5] += (labels < known).sum()
            for see in watchers:
                see(z, labels, predicted)
    finally:
        model.train(was_training)
    loss, right, inside, count, right_old, old = sums.tolist()
    values = {"loss": loss / count, "accuracy": right / count}
    if inside == inside:
        values["inside"] = inside / count
    if known is not None and 0 < old < count:
        values |= {"accuracy_old": right_old / old, "accuracy_new": (right - right_old) / (count - old)}
    return values


@torch.no_grad()
def nearest_means(
    model: nn.Module,
    seen: Iterable[Batch[None]],
    queries: Mapping[str, Iterable[Batch[None]]],
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    watchers: Sequence[Watcher] = (),
) -> dict[str, float]:
    """By name, the share of each query's images whose embedding has the largest cosine to the mean of its own class;
    means are those of the classes among the `seen` images, which the `watchers` see."""
    was_training = model.training
    model.eval()
    try:
        pairs = [(embed(model, b, device, dtype), b.labels.to(device)) for b in seen]
        classes, place = torch.cat([labels for _, labels in pairs]).unique(return_inverse=True)
        rows = torch.cat([z for z, _ in pairs])
        means = torch.zeros(len(classes), rows.shape[1], device=device).index_add_(0, place, rows)
        means = torch.nn.functional.normalize(means, dim=1)
        for see in watchers:
            for z, labels in pairs:
                see(z, labels, classes[_nearest(z, means)])
        values = {}
        for name, batches in queries.items():
            right, count = torch.zeros((), dtype=torch.int64, device=device), 0
            for batch in batches:
                predicted = classes[_nearest(embed(model, batch, device, dtype), means)]
                right += (predicted == batch.labels.to(device)).sum()
                count += len(predicted)
            values[name] = right.item() / count
    finally:
        model.train(was_training)
    return values


def _nearest(z: Tensor, means: Tensor) -> Tensor:
    """The row of `means` with the largest cosine to each embedding."""
    rows = max(1, SCORES_AT_ONCE // len(means))
    return torch.cat([(part @ means.T).argmax(1) for part in z.split(rows)])


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
        z = embed(model, batch, device, dtype).double()
        if sums is None:
            sums = torch.zeros(classes, z.shape[1], dtype=torch.float64, device=device)
        sums.index_add_(0, labels, z)
        counts += torch.bincount(labels, minlength=classes)
    assert sums is not None
    return (sums / counts.clamp(min=1).unsqueeze(1)).float()


def embed(model: nn.Module, batch: Batch[None], device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """The embeddings [B, n] float32 of a batch, as the model stands."""
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        z: Tensor = model(batch.images.to(device, non_blocking=True))
    return z.float()
