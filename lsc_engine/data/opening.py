"""Opening a data set by what the preset says of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, overload

import torch

from lsc_engine import registry
from lsc_engine.config.datasets import DATASETS, IMAGE_FILES, count, facts_of, locate, missing_sentence
from lsc_engine.data import cifar10, digits, fashion_mnist, folders, printed
from lsc_engine.data.arrays import Arrays
from lsc_engine.data.source import ImageSource, TensorSource
from lsc_engine.data.spectrum import SpectrumSource
from lsc_engine.errors import UsageError, did_you_mean


class DataSettings(Protocol):
    """The part of a preset's [data] that is read here; `config.schema.Data` has it."""

    @property
    def dataset(self) -> str: ...
    @property
    def labels(self) -> str: ...
    @property
    def classes(self) -> int | None: ...
    @property
    def image_size(self) -> int | None: ...
    @property
    def path(self) -> str | None: ...
    @property
    def skip_bad(self) -> bool | None: ...


def _silent(_text: str) -> None:
    """Say nothing."""


@overload
def open_source(
    data: DataSettings,
    *,
    split: Literal["train"],
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = _silent,
) -> ImageSource: ...
@overload
def open_source(
    data: DataSettings,
    *,
    split: str,
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = _silent,
) -> ImageSource | None: ...
def open_source(
    data: DataSettings,
    *,
    split: str,
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = _silent,
) -> ImageSource | None:
    """The images of `split` ("train" or "val"), or None where the data set has no validation images.

    Labels "class" take the images of the first `data.classes` classes; "unique" the first `data.classes` training
    images, each its own class, without validation. Images stay on `device` as uint8 where they take at most a quarter
    of its memory, else they are streamed. `say` hears of downloads and packing.
    UsageError where the data is missing (what to put where) or has fewer classes than asked for; LscError where files
    are damaged: of image files one message on all of them, unless `data.skip_bad` leaves them out.
    """
    device = torch.device(device)
    if split not in ("train", "val"):
        raise UsageError(f"split {split!r}: {did_you_mean(split, ('train', 'val'))}")
    if data.dataset not in (known := [*DATASETS, *registry.DATASETS.plugin_names()]):
        raise UsageError(f"data.dataset: {data.dataset}: {did_you_mean(data.dataset, known)}")
    source = _open(data, split, None if data_dir is None else Path(data_dir), device, say)
    if source is not None and data.labels == "class" and not source.class_names:
        source.class_names = facts_of(data.dataset).class_names[: source.classes]
    if split == "val":
        return source
    if source is None:
        raise UsageError(missing_sentence(data.dataset, data_dir, data.path))
    if data.classes is not None and source.classes < data.classes:
        what = "images" if data.labels == "unique" else "classes"
        raise UsageError(
            f"data.classes: {data.classes:,} is more than the {source.classes:,} {what} of {data.dataset} found here"
        )
    return source


def look(data: DataSettings, *, data_dir: Path | None, say: Callable[[str], None] = _silent) -> str | None:
    """Look at every image file of `data` that was not looked at since it changed: one message on all that cannot be
    read, None where all can or `data` has no image files. Errors as `open_source`."""
    if data.dataset not in IMAGE_FILES:
        return None
    return folders.look_at_images(
        data.dataset,
        unique=data.labels == "unique",
        count=data.classes,
        size=data.image_size,
        data_dir=data_dir,
        path=data.path,
        say=say,
    )


def _open(
    data: DataSettings, split: str, data_dir: Path | None, device: torch.device, say: Callable[[str], None]
) -> ImageSource | None:
    unique = data.labels == "unique"
    if data.dataset == "spectrum":
        if data.classes is None:
            raise UsageError("data.classes: spectrum has any number of images; say how many classes")
        size = data.image_size or DATASETS["spectrum"].size or 32
        if unique and split == "val":
            return None
        return SpectrumSource(classes=data.classes, unique=unique, split=split, size=size, device=device)
    if data.dataset in IMAGE_FILES:
        return folders.open_folder(
            data.dataset,
            split,
            unique=unique,
            count=data.classes,
            size=data.image_size,
            data_dir=data_dir,
            path=data.path,
            device=device,
            say=say,
            skip_bad=bool(data.skip_bad),
        )
    if data.dataset not in DATASETS:
        return _from_plugin(data, split, unique, data_dir, device)
    arrays = _arrays(data, split, unique, data_dir, say)
    if arrays is None:
        return None
    arrays = arrays.first(data.classes, unique=unique)
    labels = None if unique else torch.from_numpy(arrays.labels)
    pixels = torch.tensor(arrays.pixels)
    classes = len(pixels) if unique else arrays.classes
    return TensorSource(pixels, labels, classes=classes, device=device, size=data.image_size)


def _from_plugin(
    data: DataSettings, split: str, unique: bool, data_dir: Path | None, device: torch.device
) -> ImageSource | None:
    """What a plugin opens, if it is what its facts promised: the steps of a run are counted from them."""
    if unique and split == "val":
        return None
    made = registry.DATASETS.load_plugin(data.dataset, "data.dataset")(
        split=split,
        unique=unique,
        count=data.classes,
        size=data.image_size,
        path=data.path,
        data_dir=data_dir,
        device=device,
    )
    if made is None and split == "val":
        return None
    if not isinstance(made, ImageSource):
        raise UsageError(f'data.dataset: plugin "{data.dataset}" opened a {type(made).__name__}, not an ImageSource')
    counts = count(data.dataset, data.labels, data.classes, data_dir=data_dir, path=data.path)
    promised = (counts.images if split == "train" else counts.val_images, facts_of(data.dataset).channels)
    if (made.images, made.channels) != promised:
        opened = f"{made.images} {split} images of {made.channels} channels"
        why = "" if unique or data.classes is None else "; classes of different sizes are told by facts.class_images"
        raise UsageError(f'data.dataset: plugin "{data.dataset}" opened {opened}, its facts say {promised}{why}')
    return made


def _arrays(
    data: DataSettings, split: str, unique: bool, data_dir: Path | None, say: Callable[[str], None]
) -> Arrays | None:
    if data.dataset == "digits":
        return digits.load(split, unique=unique)
    if data.dataset == "printed-digits":
        return printed.load(split, unique=unique)
    if unique and split == "val":
        return None
    found = locate(data.dataset, data_dir, data.path)
    if data.dataset == "fashion-mnist":
        if found is None and data.path is not None:
            raise UsageError(missing_sentence(data.dataset, data_dir, data.path))
        return fashion_mnist.load(split, found or fashion_mnist.download(data_dir, say))
    if found is None:
        raise UsageError(missing_sentence(data.dataset, data_dir, data.path))
    return cifar10.load(split, found)
