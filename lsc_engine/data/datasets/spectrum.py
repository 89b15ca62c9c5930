"""The data set `spectrum`: procedural colour images, see `lsc_engine/data/spectrum.py`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lsc_engine.common.errors import UsageError
from lsc_engine.common.userpaths import user_path
from lsc_engine.data.dataset import Counts, DataSet, Facts, Place, Report, Selection
from lsc_engine.registry import DATASETS

if TYPE_CHECKING:
    import torch

    from lsc_engine.data.source import ImageSource

TRAIN_PER_CLASS, VAL_PER_CLASS = 100, 20
_SIZE = 32


@DATASETS.register("spectrum")
class Spectrum(DataSet):
    """As many images as are requested."""

    position = 70
    built_in = True
    made_from_index = True
    other_classes = True
    facts = Facts("spectrum", "procedural 1/f^a colour images", None, None, None, _SIZE, 3)

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        """No folder is needed; the one that is named."""
        return Path() if path is None else user_path(path)

    def count(self, chosen: Selection) -> Counts:
        k = chosen.classes
        if chosen.unique:
            return Counts(k, k, 0)
        return Counts((k or 0) * TRAIN_PER_CLASS or None, k, (k or 0) * VAL_PER_CLASS)

    def open(self, chosen: Selection, split: str, device: torch.device, report: Report) -> ImageSource | None:
        from lsc_engine.data.spectrum import SpectrumSource

        if chosen.classes is None:
            raise UsageError("data.classes: spectrum has any number of images; say how many classes")
        if chosen.unique and split == "val":
            return None
        per_class = None if chosen.unique else TRAIN_PER_CLASS if split == "train" else VAL_PER_CLASS
        size = chosen.size or _SIZE
        return SpectrumSource(classes=chosen.classes, per_class=per_class, split=split, size=size, device=device)
