"""Training sets made worse on purpose: a long tail of small classes, and wrong labels, by seed and data alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsc_engine.data.source import ImageSource


def long_tail(sizes: Sequence[int], ratio: float) -> list[int]:
    """How many of `sizes[c]` images class c keeps: sizes[c] * ratio^(c / (classes - 1)), at least one, as in
    arXiv:1901.05555, Sec. 5.1."""
    last = max(1, len(sizes) - 1)
    return [min(size, max(1, int(size * ratio ** (label / last)))) for label, size in enumerate(sizes)]


def changed(source: ImageSource, seed: int, *, noise: float | None, imbalance: float | None) -> ImageSource:
    """`source` with the classes cut to a long tail, and then round(`noise` * images) labels replaced, each by one of
    the other classes, all equally likely."""
    import torch

    from lsc_engine.data import hashing
    from lsc_engine.data.named import LABELS_AT_ONCE, taken

    if not noise and imbalance in (None, 1):
        return source
    chosen = torch.arange(source.images, device=source.device)
    labels = torch.cat([source.labels(part) for part in chosen.split(LABELS_AT_ONCE)])
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
    return taken(source, chosen, labels, source.classes)
