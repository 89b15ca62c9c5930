"""Which images are evaluated, and in what batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lsc_engine.data.batches import Batch
from lsc_engine.data.source import ImageSource, StreamedSource, normalise
from lsc_engine.data.stream import stream
from lsc_engine.vectors.order import Bijection


def fixed_subset(images: int, count: int) -> Tensor:
    """`count` of the numbers [0, images), int64, rising: the same for every run, whatever its seed. All, if fewer."""
    if count >= images:
        return torch.arange(images)
    chosen = Bijection(images, 0, "evaluation images")(torch.arange(count))
    return chosen.sort().values


def eval_batches(
    source: ImageSource, index: Tensor, batch_size: int, *, workers: int | None = None
) -> Iterator[Batch[None]]:
    """The images numbered `index` int64 [M] in order, without augmentation; the last batch may be smaller.

    Images and labels are on the source's device.
    """
    parts = index.cpu().split(batch_size)
    if isinstance(source, StreamedSource):
        pixels = stream(source.reader, parts, workers=workers, pin=source.device.type == "cuda")
    else:
        pixels = (source.fetch(part.to(source.device)) for part in parts)
    for part, images in zip(parts, pixels, strict=True):
        on_device = part.to(source.device, non_blocking=True)
        yield Batch(normalise(images.to(source.device, non_blocking=True)), source.labels(on_device), None, on_device)
