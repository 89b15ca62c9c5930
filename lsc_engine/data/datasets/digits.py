"""scikit-learn's handwritten digits: 1 797 images, 8×8, one channel (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lsc_engine.common.deferred import np
from lsc_engine.data.dataset import DataSet, Facts, Place
from lsc_engine.registry import DATASETS

# By class every sixth image validates.
HELD_OUT = 6


@DATASETS.register("digits")
class Digits(DataSet):
    """Comes with scikit-learn."""

    position = 10
    built_in = True
    facts = Facts(
        *("digits", "scikit-learn's handwritten digits", 1797, None, 10, 8, 1),
        how="it comes with scikit-learn: pip install scikit-learn",
        class_images=(146, 154, 152, 152, 151, 151, 150, 146, 146, 149),
        class_val_images=(32, 28, 25, 31, 30, 31, 31, 33, 28, 31),
        class_names=tuple("0123456789"),
    )

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        """scikit-learn's own folder."""
        spec = importlib.util.find_spec("sklearn")
        return Path(spec.origin).parent / "datasets" / "data" if spec and spec.origin else None

    def load(self, split: str, unique: bool, folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [N, 1, 8, 8] (0..16 spread over 0..255); every sixth image validates, unless labels are unique."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)[:, None]
        labels = digits.target.astype(np.int64)
        if not unique:
            held_out = np.arange(len(labels)) % HELD_OUT == 0
            keep = held_out if split == "val" else ~held_out
            pixels, labels = pixels[keep], labels[keep]
        return pixels, labels
