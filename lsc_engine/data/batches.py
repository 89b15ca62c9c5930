"""Training batches: which sample comes when is a pure function of (seed, epoch, position).

    image(epoch, position) = bijection_{seed, epoch}(position),    position = step in epoch * batch + row

with the keyed bijection of vectors/bijection.py: there is no permutation table and no state. An epoch is
floor(N / batch) steps; the rest is dropped. Image numbers, labels and targets are computed for many batches at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from lsc_engine.common.errors import UsageError
from lsc_engine.data.augment import Draws, draw, light1, two_views, view_keys
from lsc_engine.data.named import all_labels
from lsc_engine.data.source import ImageSource, StreamedSource, normalise
from lsc_engine.data.stream import stream
from lsc_engine.vectors.bijection import Bijection

T = TypeVar("T")

# Samples whose numbers, labels and targets are made at once.
BLOCK_SAMPLES = 16384
# Bytes of images fetched, augmented and made floats at once: many batches on a GPU, where each kernel costs its start,
# and no more than the cache holds on a CPU.
BLOCK_BYTES = {"cpu": 2**20, "cuda": 8 * 2**20}


@dataclass(frozen=True)
class Batch(Generic[T]):
    """`images` float32 [B, C, S, S] in [-1, 1], or two views of each, [B, 2, C, S, S]; for training on a GPU uint8
    [B, C, S, S] unless they are augmented, since the step makes them floats on its way; `labels` int64 [B]; `target`:
    what `Batches.target` made of them; `index` int64 [B]: the numbers of the images. All on the device."""

    images: Tensor
    labels: Tensor
    target: T
    index: Tensor


class _Block(NamedTuple):
    """Batches `first` to `stop` of one epoch."""

    epoch: int
    first: int
    stop: int


class Batches(Generic[T]):
    """Endless training batches of `source`.

    `augment`: "none" or "light1", `augment_per`: "image" or "batch" (augment.py); `views`: two of each image
    (augment.py); `subset` int64 [M]: the numbers of the images that are trained on, all where it is None; `rows`: only
    these rows of every batch; `workers`: processes for streamed sources (None: one per core); `target`: labels int64
    [M] -> a tensor, or a tuple or dict of tensors, of M rows.
    UsageError where one batch is larger than the data set.
    """

    def __init__(
        self,
        source: ImageSource,
        batch_size: int,
        seed: int,
        *,
        device: torch.device | str = "cpu",
        augment: str = "none",
        augment_per: str = "image",
        views: bool = False,
        subset: Tensor | None = None,
        rows: range | None = None,
        workers: int | None = None,
        target: Callable[[Tensor], T] | None = None,
    ) -> None:
        self.images = source.images if subset is None else len(subset)
        if batch_size < 1 or batch_size > self.images:
            raise UsageError(f"train.batch_size: {batch_size:,} must lie between 1 and the {self.images:,} images")
        self.source, self.batch_size, self.seed, self.target = source, batch_size, seed, target
        self.device = torch.device(device)
        self._augment, self._augment_per, self._views, self._workers = augment == "light1", augment_per, views, workers
        # On the CPU too, where streamed images are numbered.
        self._subset = {d: None if subset is None else subset.to(d) for d in {torch.device("cpu"), self.device}}
        self._bytes = self.device.type != "cpu" and not views
        self._rows = range(batch_size) if rows is None else rows
        self.waited: float | None = 0.0 if isinstance(source, StreamedSource) else None
        self._waited_before = 0.0
        """Seconds that `from_step` has waited for images read by workers; None where all images are at hand."""
        self._block = max(1, BLOCK_SAMPLES // batch_size)
        # Streamed images come a batch at a time.
        fetched = 0 if self.waited is not None else BLOCK_BYTES.get(self.device.type, 0)
        self._fetch = max(1, min(self._block, fetched // (batch_size * source.image_bytes)))

    @property
    def steps_per_epoch(self) -> int:
        """floor(N / batch)."""
        return self.images // self.batch_size

    def waiting(self, seconds: float) -> dict[str, float]:
        """{"speed/data_wait": share of `seconds` spent waiting for images since the last call}; {} for images that
        are at hand."""
        if self.waited is None:
            return {}
        waited, self._waited_before = self.waited - self._waited_before, self.waited
        return {"speed/data_wait": min(1.0, waited / seconds)}

    def order(self, epoch: int) -> Bijection:
        """The bijection from position in `epoch` to image number, or to place in the subset."""
        return Bijection(self.images, self.seed, f"samples of epoch {epoch}")

    def _numbers(self, block: _Block, device: torch.device) -> Tensor:
        chosen = self.order(block.epoch)(self._positions(block, device))
        return chosen if (subset := self._subset[device]) is None else subset[chosen]

    def from_step(self, step: int) -> Iterator[Batch[T]]:
        """The batches of steps `step`, `step` + 1, … (counted from 0 over all epochs), without end."""
        size = len(self._rows)
        streamed = self._streamed(step) if isinstance(self.source, StreamedSource) else None
        for block, start in self._blocks(step):
            index, labels, target, draws = self._prepare(block)
            keys = view_keys(self.seed, block.epoch, self._positions(block, self.device)) if self._views else None
            images = self._images(block, start, index, draws, streamed)
            numbers, known = index.split(size), labels.split(size)
            for at, pixels in enumerate(images, start - block.first):
                rows = slice(at * size, (at + 1) * size)
                pixels = pixels if keys is None else two_views(pixels, keys[rows])
                yield Batch(pixels, known[at], _rows(target, rows), numbers[at])

    def _blocks(self, step: int) -> Iterator[tuple[_Block, int]]:
        """Blocks from the one that holds `step`, each with its first batch to give out.

        Blocks begin at fixed places of the epoch, so that what is computed together does not depend on where a run
        was resumed.
        """
        epoch, batch = divmod(step, self.steps_per_epoch)
        while True:
            first = batch - batch % self._block
            block = _Block(epoch, first, min(first + self._block, self.steps_per_epoch))
            yield block, batch
            batch = block.stop
            if batch == self.steps_per_epoch:
                epoch, batch = epoch + 1, 0

    def _positions(self, block: _Block, device: torch.device) -> Tensor:
        """Positions in the epoch, batch after batch, of the rows that are read."""
        starts = torch.arange(block.first, block.stop, device=device) * self.batch_size
        rows = torch.arange(self._rows.start, self._rows.stop, device=device)
        return (starts[:, None] + rows).flatten()

    @torch.no_grad()
    def _prepare(self, block: _Block) -> tuple[Tensor, Tensor, Any, Draws | None]:
        index = self._numbers(block, self.device)
        labels = self.source.labels(index)
        target = None if self.target is None else self.target(labels)
        draws = None
        if self._augment:
            positions = self._positions(block, torch.device("cpu"))
            draws = draw(self.seed, block.epoch, positions, self.batch_size, self._augment_per)
        return index, labels, target, draws

    def _images(
        self, block: _Block, start: int, index: Tensor, draws: Draws | None, streamed: Iterator[Tensor] | None
    ) -> Iterator[Tensor]:
        """The images of the batches from `start` to the block's end, `streamed` or out of a source on the device."""
        size = len(self._rows)
        for first in range(block.first, block.stop, self._fetch):
            stop = min(first + self._fetch, block.stop)
            if stop > start:
                rows = slice((first - block.first) * size, (stop - block.first) * size)
                images = self.source.fetch(index[rows]).to(self.device) if streamed is None else next(streamed)
                yield from self._finish(images, draws, rows).split(size)[max(0, start - first) :]

    def _streamed(self, step: int) -> Iterator[Tensor]:
        """uint8 images of every batch from `step` on, read by workers."""
        assert isinstance(self.source, StreamedSource)
        pin = self.device.type == "cuda"
        read = stream(self.source.reader, self._index_batches(step), workers=self._workers, pin=pin)
        side = torch.cuda.Stream(self.device) if pin else None
        while True:
            began = time.perf_counter()
            images = next(read)
            self.waited = (self.waited or 0.0) + time.perf_counter() - began
            yield images.to(self.device, non_blocking=True) if side is None else copied_beside(images, side)

    def _index_batches(self, step: int) -> Iterator[Tensor]:
        for block, start in self._blocks(step):
            index = self._numbers(block, torch.device("cpu"))
            yield from index.split(len(self._rows))[start - block.first :]

    @torch.no_grad()
    def _finish(self, images: Tensor, draws: Draws | None, rows: slice) -> Tensor:
        """uint8 images, augmented by the draws of these rows of the block: float32, or the bytes themselves."""
        if draws is not None:
            images = light1(images, draws.rows(rows.start, rows.stop))
        return images if self._bytes and draws is None else normalise(images)


def copied_beside(images: Tensor, side: torch.cuda.Stream) -> Tensor:
    """Pinned `images` on the device of `side`, copied on that stream while the step before is still computed; what is
    computed from here on waits for the copy."""
    with torch.cuda.stream(side):
        images = images.to(side.device, non_blocking=True)
    computing = torch.cuda.current_stream(side.device)
    computing.wait_stream(side)
    images.record_stream(computing)
    return images


def _rows(target: Any, rows: slice) -> Any:
    """The same rows of a tensor, or of each tensor of a tuple or dict."""
    if isinstance(target, Tensor):
        return target[rows]
    if isinstance(target, dict):
        return {name: _rows(part, rows) for name, part in target.items()}
    if isinstance(target, tuple):
        parts = [_rows(part, rows) for part in target]
        return type(target)(*parts) if hasattr(target, "_fields") else tuple(parts)
    return target


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
