"""Images of a source with other labels: those of another data set by the names of the classes, or made worse on
purpose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lsc_engine.data import hashing
from lsc_engine.data.class_folders import labels_of
from lsc_engine.data.dataset import long_tail
from lsc_engine.data.source import ImageSource, Reader, StreamedSource

LABELS_AT_ONCE = 2**20


def by_name(source: ImageSource, names: Sequence[str], *, keep: bool = False) -> tuple[ImageSource, list[int]]:
    """`source` with the labels that the classes `names` have, and for each of its classes that label, -1 without one.

    Images of other classes are left out; with `keep` they stay, with labels that follow the last of `names`. The
    source itself where nothing changes.
    """
    found = labels_of(source.class_names, names)
    if found == list(range(source.classes)):
        return source, found
    others = [name for name, label in zip(source.class_names, found, strict=True) if label < 0] if keep else []
    further = iter(range(len(names), len(names) + len(others)))
    table = torch.tensor([next(further, -1) if label < 0 else label for label in found], dtype=torch.int64)
    labels = table.to(source.device)[all_labels(source)]
    chosen = (labels >= 0).nonzero().squeeze(1)
    result = selected(source, chosen, labels[chosen], len(names) + len(others))
    result.class_names = (*names, *others)
    return result, found


def changed(source: ImageSource, seed: int, *, noise: float | None, imbalance: float | None) -> ImageSource:
    """`source` with the classes cut to a long tail, and then round(`noise` * images) labels replaced, each by one of
    the other classes, all equally likely; by seed and data alone."""
    if not noise and imbalance in (None, 1):
        return source
    chosen, labels = torch.arange(source.images, device=source.device), all_labels(source)
    if imbalance is not None:
        sizes = torch.bincount(labels, minlength=source.classes)
        kept = torch.tensor(long_tail(sizes.tolist(), imbalance), device=source.device)
        mixed = hashing.keyed(chosen, hashing.key("imbalance", seed)).argsort()
        by_class = mixed[labels[mixed].argsort(stable=True)]
        place = torch.arange(len(by_class), device=source.device) - (sizes.cumsum(0) - sizes)[labels[by_class]]
        chosen = by_class[place < kept[labels[by_class]]].sort().values
        labels = labels[chosen]
    if noise:
        hashes = hashing.words(hashing.keyed(chosen, hashing.key("label noise", seed)), 2)
        wrong = hashes[:, 0].argsort()[: round(noise * len(chosen))]
        shift = 1 + hashes[wrong, 1] % (source.classes - 1)
        labels = labels.clone()
        labels[wrong] = (labels[wrong] + shift) % source.classes
    return selected(source, chosen, labels, source.classes)


def all_labels(source: ImageSource) -> Tensor:
    """int64 [N], the labels of all images, on the source's device."""
    parts = torch.arange(source.images, device=source.device).split(LABELS_AT_ONCE)
    return torch.cat([source.labels(part) for part in parts])


def selected(source: ImageSource, chosen: Tensor, labels: Tensor, classes: int) -> ImageSource:
    """The images `chosen` [N] of `source`, with `labels` [N] out of `classes`, and with its names and record."""
    result: ImageSource
    if isinstance(source, StreamedSource):
        reader = _ChosenReader(source.reader, chosen.cpu())
        result = StreamedSource(reader, labels, images=len(chosen), classes=classes, device=source.device)
    else:
        result = _Chosen(source, chosen, labels, classes)
    result.class_names, result.record = source.class_names, source.record
    return result


class _Chosen(ImageSource):
    """The images `chosen` [N] of another source, with `labels` [N]."""

    def __init__(self, source: ImageSource, chosen: Tensor, labels: Tensor, classes: int) -> None:
        shape = {"images": len(chosen), "channels": source.channels, "size": source.size, "classes": classes}
        super().__init__(**shape, device=source.device, resident=source.resident, labels=labels)
        self._source, self._index = source, chosen

    def fetch(self, index: Tensor) -> Tensor:
        return self._source.fetch(self._index.index_select(0, index.to(self.device)))


class _ChosenReader:
    """Reads the images `chosen` [N] of another reader."""

    def __init__(self, reader: Reader, chosen: Tensor) -> None:
        self.reader, self.chosen = reader, chosen
        self.channels, self.size = reader.channels, reader.size

    def read(self, index: Tensor) -> Tensor:
        """int64 [B] on the CPU -> uint8 [B, channels, size, size] on the CPU."""
        return self.reader.read(self.chosen.index_select(0, index))
