"""A data set: what is known of it without loading an image, where it lies on disk, how it is opened. Torch-free.

A built-in one is a class in a file of `lsc_engine/data/datasets`. Image counts are those of the training split; "class"
labels use the first k classes, "unique" labels the first k training images, in index order. Sources: arXiv:2510.04090
Table 2, with CIFAR-10's real split of 50 000 and CINIC-10 without the CIFAR images (70 000 a split).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from lsc_engine.common.errors import UsageError
from lsc_engine.common.userpaths import home, user_path
from lsc_engine.data.class_folders import unreadable
from lsc_engine.registry import DATASETS

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lsc_engine.data.source import ImageSource

NO_HOME = "there is no home folder; set $LSC_DATA"
Report = Callable[[str], None]
Place = str | Path | None


@dataclass(frozen=True)
class Facts:
    """One data set. `images`, `val_images`, `classes` and `size` are None if the user's files or preset decide them."""

    name: str
    title: str
    images: int | None
    val_images: int | None
    classes: int | None
    size: int | None
    channels: int
    resident: bool
    """Whether the images lie on the device as uint8 unless configured otherwise."""
    places: tuple[tuple[str, str], ...] = ()
    """Folders tried below the data folder, each with the file or folder that shows it is the right one."""
    system_places: tuple[tuple[str, str], ...] = ()
    how: str = ""
    class_images: tuple[int, ...] = ()
    """Training and validation images of each class, if classes differ in size: the first k of several have these."""
    class_val_images: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    """In the order of the labels, where they are known and no folders give them."""

    def of_first(self, k: int | None) -> tuple[int, int]:
        """Training and validation images of the first `k` classes: equal parts, unless each class has its own."""

        def part(whole: int | None, each: tuple[int, ...]) -> int:
            if each:
                return sum(each[:k])
            images, classes = whole or 0, self.classes or 1
            return images if k == self.classes else images // classes * (k or 0)

        return part(self.images, self.class_images), part(self.val_images, self.class_val_images)


@dataclass(frozen=True)
class Counts:
    """How many images and classes a run uses; `exact` is False where only the files could say and are not there."""

    images: int | None
    classes: int | None
    val_images: int
    exact: bool = True


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


@dataclass(frozen=True)
class Arrays:
    """A split as it is read from disk: `pixels` uint8 [N, C, H, W], `labels` int64 [N] in [0, classes)."""

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


class DataSet:
    """A data set of known size that is read whole into memory, unless a subclass says otherwise.

    A new one needs `facts` and `load`. `labels` is "class" or "unique", `classes` how many of them, None for all.
    """

    facts: ClassVar[Facts]
    position: ClassVar[int] = 100
    """Where it stands in lists."""
    built_in: ClassVar[bool] = False
    """Whether no files of the user are needed."""
    made_from_index: ClassVar[bool] = False
    """Whether images are computed from their index: there are as many as are requested, and no files."""
    image_files: ClassVar[bool] = False
    """Whether each image is a file of its own; packed copies lie in the data folder."""
    counted_late: ClassVar[bool] = False
    """Whether its images have to be made to be counted: `count` estimates them until `count_exactly` was called."""
    other_classes: ClassVar[bool] = False
    """Whether its classes are those of no other data set, so that none can be validated on it."""

    # -- where it is -------------------------------------------------------------------------------------------------

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        """The folder that holds the data set, or None where it is not found. `path` (data.path) is looked at alone."""
        facts = self.facts
        if path is not None:
            root = user_path(path)
            marks = [(root, mark) for _, mark in facts.places]
            return _first_marked(marks + [(root / Path(place).name, mark) for place, mark in facts.places])
        base = _data_folder(data_dir)
        own = [] if base is None else [(base / place, mark) for place, mark in facts.places]
        return _first_marked(own + [(Path(place), mark) for place, mark in facts.system_places])

    def missing(self, data_dir: Place = None, path: Place = None) -> str:
        """What to put where, and how to get it, for a data set that `locate` does not find."""
        facts = self.facts
        if path is not None:
            if (denied := denied_sentence(path)) is not None:
                return denied
            return f"data.dataset: {facts.name} is not in {user_path(path)}: {facts.how}"
        places = [place for place, _ in facts.system_places]
        if facts.places:
            base = _data_folder(data_dir)
            if base is None:
                return (
                    f"data.dataset: {facts.name} is not found: {NO_HOME}, the folder for data sets; then: {facts.how}"
                )
            places.insert(0, str(base / facts.places[0][0]))
        return f"data.dataset: {facts.name} is not in {' or '.join(places) or 'data.path'}: {facts.how}"

    def class_names(self, data_dir: Place = None, path: Place = None) -> tuple[str, ...]:
        """Names of all classes in the order of the labels; none where they have none, or are not found."""
        return self.facts.class_names

    def describe(self) -> str | None:
        """What this machine has of it, for `doctor`; None where its place says enough."""
        return None

    # -- how many images ---------------------------------------------------------------------------------------------

    def count(
        self, labels: str, classes: int | None, *, data_dir: Place = None, path: Place = None, skip_bad: bool = False
    ) -> Counts:
        """Images and classes of a training set. Folders are counted where they are found; of ImageNet the first k
        classes, which differ in size, are estimated elsewhere.

        With `skip_bad` images that cannot be read do not count; `exact` is False until all images were looked at.
        FolderError where folders cannot be read.
        """
        facts = self.facts
        if labels == "unique":
            used = facts.images if classes is None else classes
            return Counts(used, used, 0)
        k = classes if classes is not None else facts.classes
        images, val_images = facts.of_first(k)
        return Counts(images, k, val_images)

    def count_exactly(self, data: DataSettings, data_dir: Path | None) -> None:
        """Make the images, so that `count` is exact. Errors as `open_source`."""

    def class_sizes(self, classes: int, *, data_dir: Place = None, path: Place = None) -> list[int]:
        """The training images of each of the first `classes` classes; FolderError where folders cannot be read."""
        if self.facts.class_images:
            return list(self.facts.class_images[:classes])
        images = self.count("class", classes, data_dir=data_dir, path=path).images or 0
        return [images // classes] * classes

    def trained_images(
        self,
        labels: str,
        first_class: int | None,
        counts: Counts,
        *,
        data_dir: Place = None,
        path: Place = None,
        skip_bad: bool = False,
    ) -> int | None:
        """How many of the images counted are of class `first_class` or above."""
        if not first_class or counts.images is None or counts.classes is None or first_class >= counts.classes:
            return counts.images
        before = self.count(labels, first_class, data_dir=data_dir, path=path, skip_bad=skip_bad).images
        return None if before is None else counts.images - before

    def available(self, labels: str, *, path: Place = None, skip_bad: bool = False) -> int | None:
        """The largest data.classes with these labels, or None where there is no bound or it is unknown.
        FolderError where folders cannot be read, unless they are left out with `skip_bad`."""
        return self.facts.images if labels == "unique" else self.facts.classes

    def class_count(self, labels: str, classes: int | None, *, path: Place = None) -> int | None:
        """The classes of a folder data set whose bad images are left out: their names count, also without any image.
        None where only a look at all images can say."""
        if classes is not None or labels == "unique":
            return classes
        known = self.facts.classes
        return known if known is not None else self.available(labels, path=path, skip_bad=True)

    # -- opening -----------------------------------------------------------------------------------------------------

    def load(self, split: str, unique: bool, folder: Path | None) -> Arrays | None:
        """One split out of the `folder` that was located; None where there is no such split. LscError for files that
        are missing or damaged."""
        raise NotImplementedError

    def obtain(self, data_dir: Path | None, path: str | None, report: Report) -> Path | None:
        """The folder of the data set, downloaded where that is possible. UsageError where it is missing."""
        found = self.locate(data_dir, path)
        if found is None:
            raise UsageError(self.missing(data_dir, path))
        return found

    def open(
        self, data: DataSettings, split: str, data_dir: Path | None, device: torch.device, report: Report
    ) -> ImageSource | None:
        """The images of `split`, or None where there is no such split. Errors as `open_source`."""
        import torch

        from lsc_engine.data.source import TensorSource

        unique = data.labels == "unique"
        if unique and split == "val":
            return None
        arrays = self.load(split, unique, self.obtain(data_dir, data.path, report))
        if arrays is None:
            return None
        arrays = arrays.first(data.classes, unique=unique)
        labels = None if unique else torch.from_numpy(arrays.labels)
        pixels = torch.tensor(arrays.pixels)
        classes = len(pixels) if unique else arrays.classes
        return TensorSource(pixels, labels, classes=classes, device=device, size=data.image_size)


class PluginDataSet(DataSet):
    """A data set that a plugin opens; its attribute `facts` says what is in it."""

    def __init__(self, name: str) -> None:
        self._name, self._factory = name, DATASETS.load_plugin(name, "data.dataset")
        known = getattr(self._factory, "facts", None)
        if not isinstance(known, Facts) or known.images is None or known.classes is None:
            raise UsageError(f'data.dataset: plugin "{name}" needs an attribute facts, with its images and classes')
        for each in (known.class_images, known.class_val_images):
            if each and len(each) != known.classes:
                raise UsageError(f'data.dataset: plugin "{name}" tells sizes of {len(each)} of {known.classes} classes')
        self.facts = known  # type: ignore[misc]

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        """The data folder itself, which need not exist."""
        return user_path(path) if path is not None else _data_folder(data_dir) or Path()

    def open(
        self, data: DataSettings, split: str, data_dir: Path | None, device: torch.device, report: Report
    ) -> ImageSource | None:
        """What the plugin opens, if it is what its facts promised: the steps of a run are counted from them."""
        from lsc_engine.data.source import ImageSource

        name, unique = self._name, data.labels == "unique"
        if unique and split == "val":
            return None
        source = self._factory(
            split=split,
            unique=unique,
            count=data.classes,
            size=data.image_size,
            path=data.path,
            data_dir=data_dir,
            device=device,
        )
        if source is None and split == "val":
            return None
        if not isinstance(source, ImageSource):
            raise UsageError(f'data.dataset: plugin "{name}" opened a {type(source).__name__}, not an ImageSource')
        counts = self.count(data.labels, data.classes)
        promised = (counts.images if split == "train" else counts.val_images, self.facts.channels)
        if (source.images, source.channels) != promised:
            opened = f"{source.images} {split} images of {source.channels} channels"
            why = (
                "" if unique or data.classes is None else "; classes of different sizes belong into facts.class_images"
            )
            raise UsageError(f'data.dataset: plugin "{name}" opened {opened}, its facts say {promised}{why}')
        return source


@lru_cache(maxsize=1)
def built_in_data_sets() -> dict[str, DataSet]:
    """The data sets that come with the engine by name, in the order of lists."""
    classes = sorted(set(DATASETS.built_in.values()), key=lambda each: each.position)
    return {each.facts.name: each() for each in classes}


def image_file_data_sets() -> tuple[str, ...]:
    """The names of the data sets whose images are files of their own."""
    return tuple(name for name, each in built_in_data_sets().items() if each.image_files)


def data_set(name: str) -> DataSet:
    """The data set `name`, a plugin's included. UsageError where a plugin does not say what is in it."""
    known = built_in_data_sets().get(name)
    return known if known is not None else PluginDataSet(name)


def facts_of(name: str) -> Facts:
    """What is known of a data set."""
    return data_set(name).facts


def data_folder(chosen: Place = None) -> Path:
    """Where data sets are looked for: `chosen`, else $LSC_DATA, else ~/.cache/lsc. UsageError without a home folder."""
    folder = _data_folder(chosen)
    if folder is None:
        raise UsageError(NO_HOME)
    return folder


def _data_folder(chosen: Place) -> Path | None:
    if named := chosen or os.environ.get("LSC_DATA"):
        return user_path(named)
    base = home()
    return None if base is None else base / ".cache" / "lsc"


def _first_marked(candidates: list[tuple[Path, str]]) -> Path | None:
    for folder, mark in candidates:
        try:
            if (folder / mark).exists() or (folder / f"{mark}.gz").exists():
                return folder
        except OSError:  # a folder that may not be read is not a place
            continue
    return None


def denied_sentence(path: str | Path) -> str | None:
    """A sentence where data.path cannot be looked at, because a folder above it may not be read; None otherwise."""
    try:
        user_path(path).stat()
    except PermissionError as error:
        return f"data.path: {unreadable(Path(path), error)}"
    except OSError:
        return None
    return None
