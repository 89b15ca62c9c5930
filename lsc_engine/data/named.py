"""The images of one data set with the labels of another, by the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lsc_engine.data.class_names import Match, match
from lsc_engine.data.source import ImageSource, Reader, StreamedSource

LABELS_AT_ONCE = 2**20


def by_name(source: ImageSource, names: Sequence[str], *, keep: bool = False) -> tuple[ImageSource, Match]:
    """`source` with the labels that the classes `names` have, and how its classes are matched with them.

    Images of other classes are left out; with `keep` they stay, with labels that follow the last of `names`. The
    source itself where nothing changes.
    """
    found = match(source.class_names, names)
    if found.labels == tuple(range(source.classes)):
        return source, found
    table = list(found.labels)
    others = iter(range(len(names), len(names) + len(table)))
    if keep:
        table = [next(others) if label < 0 else label for label in table]
    chosen, labels = _chosen(source, torch.tensor(table, dtype=torch.int64, device=source.device))
    named = (*names, *found.only_there) if keep else tuple(names)
    made = taken(source, chosen, labels, len(named))
    made.class_names = named
    return made, found


def _chosen(source: ImageSource, table: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers of the images whose class has a label in `table` [classes], and those labels."""
    parts = torch.arange(source.images, device=source.device).split(LABELS_AT_ONCE)
    labels = torch.cat([table[source.labels(part)] for part in parts]) if parts else table[:0]
    chosen = (labels >= 0).nonzero().squeeze(1)
    return chosen, labels[chosen]


def taken(source: ImageSource, chosen: Tensor, labels: Tensor, classes: int) -> ImageSource:
    """The images `chosen` [N] of `source`, with `labels` [N] out of `classes`, and with its names and record."""
    made: ImageSource
    if isinstance(source, StreamedSource):
        reader = _ChosenReader(source.reader, chosen.cpu())
        made = StreamedSource(reader, labels, images=len(chosen), classes=classes, device=source.device)
    else:
        made = _Chosen(source, chosen, labels, classes)
    made.class_names, made.record = source.class_names, source.record
    return made


class _Chosen(ImageSource):
    """The images `chosen` [N] of another source, with `labels` [N]."""

    def __init__(self, source: ImageSource, chosen: Tensor, labels: Tensor, classes: int) -> None:
        super().__init__(
            images=len(chosen),
            channels=source.channels,
            size=source.size,
            classes=classes,
            device=source.device,
            resident=source.resident,
        )
        self._source, self._index, self._labels = source, chosen, labels

    def labels(self, index: Tensor) -> Tensor:
        return self._labels.index_select(0, index.to(self.device))

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
