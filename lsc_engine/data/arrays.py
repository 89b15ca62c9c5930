"""A small data set as it is read from disk, before the first k classes or images are taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Arrays:
    """`pixels` uint8 [N, C, H, W], `labels` int64 [N] in [0, classes)."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: int

    def first(self, count: int | None, *, unique: bool) -> Arrays:
        """The first `count` images (unique) or the images of the first `count` classes, in file order."""
        if count is None:
            return self
        if unique:
            return Arrays(self.pixels[:count], self.labels[:count], self.classes)
        keep = self.labels < count
        return Arrays(self.pixels[keep], self.labels[keep], min(count, self.classes))
