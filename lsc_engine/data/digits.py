"""scikit-learn's handwritten digits: 1 797 images, 8×8, one channel (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

import numpy as np

from lsc_engine.config.datasets import DIGITS_HELD_OUT
from lsc_engine.data.arrays import Arrays


def load(split: str, *, unique: bool) -> Arrays | None:
    """uint8 [N, 1, 8, 8] (0..16 spread over 0..255); every sixth image validates, unless labels are unique."""
    from sklearn.datasets import load_digits

    if unique and split == "val":
        return None
    digits = load_digits()
    pixels = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    if not unique:
        held_out = np.arange(len(labels)) % DIGITS_HELD_OUT == 0
        keep = held_out if split == "val" else ~held_out
        pixels, labels = pixels[keep], labels[keep]
    return Arrays(pixels, labels, 10)
