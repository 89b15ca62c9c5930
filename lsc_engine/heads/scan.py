"""The label of largest cosine by comparing an embedding with every class in use: exact for any order of classes.

A vector has k coordinates that are not 0, so its inner product with B embeddings is the sum of k rows of the lifted
embeddings [m, B], each times one of the few weights that the system has. The rows times every weight are computed
first, and a class is k row numbers, four bytes each. They are kept up to `KEPT_BYTES`, and computed at every call
beyond that: memory is bounded for any number of classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lsc_engine.common.deferred import triton_kernels
from lsc_engine.vectors import VectorSystem
from lsc_engine.vectors.order import Order

T = TypeVar("T")

# Classes whose coordinates are computed at once, and scores in memory at once: on a CPU 1 MB, the size of a core's
# cache; on a GPU 512 MB, since every kernel costs its start.
CLASSES_AT_ONCE = {"cpu": 2**16, "cuda": 2**21}
SCORES_AT_ONCE = {"cpu": 2**18, "cuda": 2**27}
# Row numbers to keep: those of four million classes with four coordinates, on a GPU of 64 million.
KEPT_BYTES = {"cpu": 2**26, "cuda": 2**30}
# The largest table of the vectors in use that is kept and multiplied. On an H200 that takes 0.14 ms for 256 embeddings
# and 1 000 classes, 0.29 ms for 100 000 in 24 MB, and any other way at least 0.4 ms, for its launches alone.
TABLE_BYTES = {"cpu": 0, "cuda": 2**25}
# Classes among which the position of a maximum is searched; that costs far more than the maximum.
GROUP = 64
# With this share of coordinates that are not 0, or with more weights, a matrix product of dense rows is faster. A GPU
# compares all row numbers that are kept in one kernel, and takes many to make vectors anew.
DENSE_SHARE, MOST_WEIGHTS = {"cpu": 1 / 4, "cuda": 1.0}, 32


def at_once(limits: Mapping[str, T], device: torch.device) -> T:
    """The limit, or the costs, of the CPU or of a GPU."""
    return limits["cpu" if device.type == "cpu" else "cuda"]


class Scan:
    """Labels [B] int64 of embeddings [B, n] over the `classes` of `system` in `order`, ties to any."""

    def __init__(self, system: VectorSystem, order: Order, classes: int) -> None:
        self.system, self.order, self.classes = system, order, classes
        self._many_weights = False
        self._kept: dict[torch.device, list[Tensor]] = {}
        self._tables: dict[torch.device, Tensor] = {}
        # The weights of vectors, in the order in which they were found.
        self._weights = torch.empty(0)

    def _dense(self, device: torch.device) -> bool:
        """Whether classes are compared as vectors, not as row numbers."""
        return self._many_weights or self.system.support >= at_once(DENSE_SHARE, device) * self.system.n

    def _keeps(self, device: torch.device) -> bool:
        """Whether what names all classes is small enough to keep: row numbers, or vectors without zeros themselves."""
        small = 4 * self.system.support * self.classes <= at_once(KEPT_BYTES, device)
        return small and (not self._dense(device) or self.system.support >= self.system.n)

    def ready(self, device: torch.device) -> bool:
        """Whether the row numbers of all classes are kept on `device`; on a GPU, whether they are from the first scan
        on, as each one is a few kernels then."""
        return device in self._kept or (device.type != "cpu" and self._keeps(device))

    def few(self, device: torch.device) -> bool:
        """Whether the classes are few enough for one product with all their vectors."""
        return 4 * self.system.n * self.classes <= at_once(TABLE_BYTES, device)

    @torch.no_grad()
    def __call__(self, z: Tensor) -> Tensor:
        if self.few(z.device):
            if z.device not in self._tables:
                index = self.order.index(torch.arange(self.classes, device=z.device))
                self._tables[z.device] = self.system.vectors(index).T.contiguous()
            images = max(1, at_once(SCORES_AT_ONCE, z.device) // self.classes)
            with torch.autocast(z.device.type, enabled=False):
                return torch.cat([(some @ self._tables[z.device]).argmax(1) for some in z.float().split(images)])
        best, labels = z.new_full((len(z),), -torch.inf, dtype=torch.float), z.new_zeros(len(z), dtype=torch.long)
        if not len(z):
            return labels
        kernels = triton_kernels("lsc_engine.heads.triton_scan") if z.device.type == "cuda" else None
        part = max(GROUP, at_once(SCORES_AT_ONCE, z.device) // len(z) // GROUP * GROUP)
        start = 0
        with torch.autocast(z.device.type, enabled=False):
            for block, rows in self._blocks(z.float()):
                if kernels is not None and not block.is_floating_point():
                    best, labels = _better(kernels.best(block, rows), start, best, labels)
                    start += len(block)
                    continue
                for some in block.split(part):
                    scores = some @ rows if some.is_floating_point() else F.embedding_bag(some, rows, mode="sum")
                    if scores.is_cuda:
                        best, labels = _better(scores.max(0), start, best, labels)
                    else:
                        _keep_best(scores, start, best, labels)
                    start += len(some)
        return labels

    def _blocks(self, z: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """All classes in blocks: row numbers int32 [M, k] and the rows [number, B] they refer to, or vectors [M, n] and
        embeddings [n, B]."""
        lifted = self.system.lift(z).T.contiguous()
        rows, kept = lifted[:0], self._kept.get(z.device)
        blocks: list[Tensor] = []
        for numbers in kept or self._row_numbers(z.device, len(lifted)):
            if kept is None and self._keeps(z.device):
                blocks.append(numbers)
            if self._dense(z.device):
                yield numbers, z.T
                continue
            if len(rows) != len(self._weights) * len(lifted):
                # Flat and back: the fast path of the sums needs rows of a single embedding to be contiguous.
                rows = (self._weights.to(z.device).view(-1, 1, 1) * lifted).flatten().view(-1, len(z))
            yield numbers, rows
        # Vectors with zeros follow row numbers where more weights turn up than are kept.
        if blocks and self._keeps(z.device):
            self._kept[z.device] = blocks

    def _row_numbers(self, device: torch.device, width: int) -> Iterator[Tensor]:
        """int32 [M, k] of all classes in blocks; vectors [M, n] if these are faster."""
        count = at_once(CLASSES_AT_ONCE, device)
        # Vectors take more memory than row numbers: on a GPU no more than scores do.
        vectors = count if device.type == "cpu" else max(1, at_once(SCORES_AT_ONCE, device) // self.system.n)
        for start in range(0, self.classes, count):
            stop = min(start + count, self.classes)
            index = self.order.index(torch.arange(start, stop, device=device))
            if not self._dense(device):
                columns, weights = self.system.coordinates(index)
                places = self._places(weights)
                if len(self._weights) <= MOST_WEIGHTS:
                    yield (places * width + columns).int()
                    continue
                self._many_weights = True
            yield from map(self.system.vectors, index.split(vectors))

    def _places(self, weights: Tensor) -> Tensor:
        """The position of each weight in `_weights`; new ones are appended."""
        if weights.stride(0) == 0:
            weights = weights[:1]
        known, place = self._weights.to(weights.device).sort()
        if len(known):
            at = torch.searchsorted(known, weights.contiguous()).clamp_(max=len(known) - 1)
            strange = known[at] != weights
            if not strange.any():
                return place[at]
            fresh = weights[strange].unique()
        else:
            fresh = weights.unique()
        self._weights = torch.cat([self._weights, fresh.cpu()])
        return self._places(weights)


def _keep_best(scores: Tensor, start: int, best: Tensor, labels: Tensor) -> None:
    """Update `best` [B] and `labels` [B] by `scores` [classes, B] of the labels from `start` on."""
    count = len(scores) // GROUP
    whole = GROUP * count
    if whole:
        # Group g holds the classes g, g + count, g + 2 count, ...: maxima of long rows are the quick ones.
        groups = scores[:whole].view(GROUP, count, -1)
        highest = groups.amax(0)
        # After some blocks few rows find a better one.
        rows = (highest.amax(0) > best).nonzero().squeeze(1)
        if rows.numel():
            group = highest.index_select(1, rows).argmax(0)
            value, at = groups[:, group, rows].max(0)
            best[rows] = value
            labels[rows] = start + count * at + group
    if whole < len(scores):
        value, at = scores[whole:].max(0)
        better = value > best
        best[better] = value[better]
        labels[better] = start + whole + at[better]


def _better(found: tuple[Tensor, Tensor], start: int, best: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """`best` and `labels` [B] with the largest value of the classes from `start` on, and its place among them."""
    value, at = found
    if start == 0:
        return value, at
    better = value > best
    return torch.where(better, value, best), torch.where(better, at + start, labels)
