"""Which images are evaluated, and in what batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lsc_engine.data.augment import draw, light1
from lsc_engine.data.batches import Batch
from lsc_engine.data.named import all_labels
from lsc_engine.data.source import ImageSource, StreamedSource, normalise
from lsc_engine.data.stream import stream
from lsc_engine.vectors.bijection import Bijection

# The epoch that evaluated views are drawn for: one that training never reaches.
VIEW_EPOCH = 2**40


def fixed_subset(images: int, count: int) -> Tensor:
    """`count` of the numbers [0, images), int64, rising: the same for every run, whatever its seed. All, if fewer."""
    if count >= images:
        return torch.arange(images)
    chosen = Bijection(images, 0, "evaluation images")(torch.arange(count))
    return chosen.sort().values


def images_from_class(source: ImageSource, first: int | None) -> Tensor | None:
    """The numbers of the images of class `first` or above, int64, rising; None for all of them."""
    if not first:
        return None
    return (all_labels(source) >= first).nonzero().squeeze(1).cpu()


def eval_batches(
    source: ImageSource,
    index: Tensor,
    batch_size: int,
    *,
    views: tuple[int, str] | None = None,
    workers: int | None = None,
) -> Iterator[Batch[None]]:
    """The images numbered `index` int64 [M] in order; the last batch may be smaller.

    Without augmentation, or with `views` = (seed, "image" or "batch") one light1 view of each, the same at every
    evaluation. Images and labels are on the source's device.
    """
    parts = index.cpu().split(batch_size)
    if isinstance(source, StreamedSource):
        pixels = stream(source.reader, parts, workers=workers, pin=source.device.type == "cuda")
    else:
        pixels = (source.fetch(part.to(source.device)) for part in parts)
    first = 0
    for part, images in zip(parts, pixels, strict=True):
        on_device = part.to(source.device, non_blocking=True)
        images = images.to(source.device, non_blocking=True)
        if views is not None:
            positions = torch.arange(first, first + len(part))
            images = light1(images, draw(views[0], VIEW_EPOCH, positions, batch_size, views[1]))
            first += len(part)
        yield Batch(normalise(images), source.labels(on_device), None, on_device)
