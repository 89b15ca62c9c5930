"""Opening a data set by what the preset says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, overload

import torch

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.data.dataset import Place, Report, Selection, built_in_data_sets, data_set
from lsc_engine.data.source import ImageSource
from lsc_engine.registry import DATASETS


def _silent(_text: str) -> None:
    """Report nothing."""


@overload
def open_source(
    data: Any, *, split: Literal["train"], data_dir: Place = None, device: torch.device | str = "cpu", say: Report = ...
) -> ImageSource: ...
@overload
def open_source(
    data: Any, *, split: str, data_dir: Place = None, device: torch.device | str = "cpu", say: Report = ...
) -> ImageSource | None: ...
def open_source(
    data: Any, *, split: str, data_dir: Place = None, device: torch.device | str = "cpu", say: Report = _silent
) -> ImageSource | None:
    """The images of `split` ("train" or "val") of `data`, a `config.schema.Data` or what has its attributes; None where
    the data set has no validation images.

    Labels "class" take the images of the first `data.classes` classes; "unique" the first `data.classes` training
    images, each its own class, without validation. Images stay on `device` as uint8 where they take at most a quarter
    of its memory, else they are streamed. `say` receives sentences on downloads and packing.
    UsageError where the data is missing (what to put where) or has fewer classes than requested; LscError where files
    are damaged: of image files one message on all of them, unless `data.skip_bad` leaves them out.
    """
    if split not in ("train", "val"):
        raise UsageError(f"split {split!r}: {did_you_mean(split, ('train', 'val'))}")
    if data.dataset not in (known := [*built_in_data_sets(), *DATASETS.plugin_names()]):
        raise UsageError(f"data.dataset: {data.dataset}: {did_you_mean(data.dataset, known)}")
    chosen = data_set(data.dataset)
    where = None if data_dir is None else Path(data_dir)
    source = chosen.open(Selection.of(data, where), split, torch.device(device), say)
    if source is not None and data.labels == "class" and not source.class_names:
        source.class_names = chosen.facts.class_names[: source.classes]
    if split == "val":
        return source
    if source is None:
        raise UsageError(chosen.missing(data_dir, data.path))
    if data.classes is not None and source.classes < data.classes:
        what = "images" if data.labels == "unique" else "classes"
        have = f"the {source.classes:,} {what} of {data.dataset} found here"
        raise UsageError(f"data.classes: {data.classes:,} is more than {have}")
    return source


def look(data: Any, *, data_dir: Path | None, say: Report = _silent) -> str | None:
    """Look at every image file of `data` that was not looked at since it changed: one message on all that cannot be
    read, None where all can or `data` has no image files. Errors as `open_source`."""
    if not (chosen := data_set(data.dataset)).image_files:
        return None
    from lsc_engine.data.folders import look_at_images

    return look_at_images(chosen, Selection.of(data, data_dir), say)
