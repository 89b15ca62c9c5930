"""A data set: what is known of it without loading an image, where it lies on disk, how it is opened. Torch-free.

Image counts are those of the training split; "class" labels use the first k classes, "unique" labels the first k
training images, in index order. Sources: arXiv:2510.04090 Table 2, with CIFAR-10's real split of 50 000 and CINIC-10
without the CIFAR images (70 000 a split).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, overload

from lsc_engine.common.deferred import np, torch
from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.userpaths import home, user_path
from lsc_engine.data.class_folders import unreadable
from lsc_engine.data.source import ImageSource, TensorSource
from lsc_engine.registry import DATASETS

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
    resident: bool = True  # whether the images lie on the device as uint8 unless configured otherwise
    places: tuple[tuple[str, str], ...] = ()  # below the data folder, each with an entry that shows it is the one
    system_places: tuple[tuple[str, str], ...] = ()
    how: str = ""  # how to get it
    class_images: tuple[int, ...] = ()  # of each class, if classes differ in size: the first k of several have these
    class_val_images: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()  # in the order of the labels, where they are known and no folders give them

    def of_first(self, k: int | None) -> tuple[int, int]:
        """Training and validation images of the first `k` classes: equal parts, unless each class has its own."""

        def part(whole: int | None, each: tuple[int, ...]) -> int:
            images, classes = whole or 0, self.classes or 1
            return sum(each[:k]) if each else images if k == self.classes else images // classes * (k or 0)

        return part(self.images, self.class_images), part(self.val_images, self.class_val_images)


@dataclass(frozen=True)
class Counts:
    """How many images and classes a run uses; `exact` is False where only the files could say and are not there."""

    images: int | None
    classes: int | None
    val_images: int
    exact: bool = True


@dataclass(frozen=True)
class Selection:
    """Which images of a data set are used, and where they lie: what [data] of a preset sets.

    `classes`: the first that many, or with `unique` labels the first that many training images; `skip_bad`: without the
    images that cannot be read; `size`: to which they are brought.
    """

    unique: bool = False
    classes: int | None = None
    path: Place = None
    skip_bad: bool = False
    data_dir: Place = None
    size: int | None = None

    @staticmethod
    def of(data: Any, data_dir: Place = None) -> Selection:
        """That of `data`, a `config.schema.Data` or what has its attributes."""
        unique, skip = data.labels == "unique", bool(data.skip_bad)
        return Selection(unique, data.classes, data.path, skip, data_dir, data.image_size)


class DataSet:
    """A data set of known size that is read whole into memory, unless a subclass says otherwise.

    A new one needs `facts` and `load`.
    """

    facts: ClassVar[Facts]
    position: ClassVar[int] = 100  # where it stands in lists
    built_in: ClassVar[bool] = False  # whether no files of the user are needed
    made_from_index: ClassVar[bool] = False  # whether images are computed from their index, as many as are requested
    image_files: ClassVar[bool] = False  # whether each image is a file; packed copies lie in the data folder
    needs_path: ClassVar[bool] = False  # whether it is nowhere but where data.path leads
    counted_late: ClassVar[bool] = False  # whether `count` is an estimate until `count_exactly` was called
    other_classes: ClassVar[bool] = False  # whether no other data set has its classes, to be validated on

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        """The folder that holds the data set, or None where it is not found. `path` (data.path) is looked at alone."""
        places = self.facts.places
        if path is not None:
            root = user_path(path)
            candidates = [(root, mark) for _, mark in places] + [(root / Path(at).name, mark) for at, mark in places]
        else:
            base = _data_folder(data_dir)
            candidates = [] if base is None else [(base / place, mark) for place, mark in places]
            candidates += [(Path(place), mark) for place, mark in self.facts.system_places]
        for folder, mark in candidates:
            try:
                if (folder / mark).exists() or (folder / f"{mark}.gz").exists():
                    return folder
            except OSError:  # a folder that may not be read is not a place
                continue
        return None

    def missing(self, data_dir: Place = None, path: Place = None) -> str:
        """What to put where, and how to get it, for a data set that `locate` does not find."""
        facts = self.facts
        places = [place for place, _ in facts.system_places]
        if path is not None:
            if (denied := denied_sentence(path)) is not None:
                return denied
            places = [str(user_path(path))]
        elif facts.places:
            if (base := _data_folder(data_dir)) is None:
                where = f"{NO_HOME}, the folder for data sets; then: {facts.how}"
                return f"data.dataset: {facts.name} is not found: {where}"
            places.insert(0, str(base / facts.places[0][0]))
        if path is None and self.needs_path:
            return f"data.path (--path): is required for {facts.name}: {facts.how}"
        where = f"in {' or '.join(places)}" if places else "here"
        return f"{'data.dataset' if path is None else 'data.path'}: {facts.name} is not {where}: {facts.how}"

    def class_names(self, data_dir: Place = None, path: Place = None) -> tuple[str, ...]:
        """Names of all classes in the order of the labels; none where they have none, or are not found."""
        return self.facts.class_names

    def describe(self) -> str | None:
        """What this machine has of it, for `doctor`; None where its place says enough."""
        return None

    def count(self, chosen: Selection) -> Counts:
        """Images and classes of a training set. Folders are counted where they are found; of ImageNet the first k
        classes, which differ in size, are estimated elsewhere.

        With `skip_bad` images that cannot be read do not count; `exact` is False until all images were looked at.
        FolderError where folders cannot be read.
        """
        facts, k = self.facts, chosen.classes
        if chosen.unique:
            used = facts.images if k is None else k
            return Counts(used, used, 0)
        k = facts.classes if k is None else k
        images, val_images = facts.of_first(k)
        return Counts(images, k, val_images)

    def count_exactly(self, chosen: Selection) -> None:
        """Make the images, so that `count` is exact. Errors as `open_source`."""

    def class_sizes(self, chosen: Selection) -> list[int]:
        """The training images of each of the chosen classes; FolderError where folders cannot be read."""
        if self.facts.class_images:
            return list(self.facts.class_images[: chosen.classes])
        counts = self.count(chosen)
        return [(counts.images or 0) // (counts.classes or 1)] * (counts.classes or 0)

    def trained_images(self, chosen: Selection, first_class: int | None, counts: Counts) -> int | None:
        """How many of the images counted are of class `first_class` or above."""
        if not first_class or counts.images is None or counts.classes is None or first_class >= counts.classes:
            return counts.images
        before = self.count(replace(chosen, classes=first_class)).images
        return None if before is None else counts.images - before

    def available(self, chosen: Selection) -> int | None:
        """The largest data.classes with these labels, or None if there is no bound or it is unknown.
        FolderError where folders cannot be read, unless they are left out with `skip_bad`."""
        return self.facts.images if chosen.unique else self.facts.classes

    def load(self, split: str, unique: bool, folder: Path | None) -> tuple[np.ndarray, np.ndarray] | None:
        """One split out of the `folder` that was located: pixels uint8 [N, C, H, W] and labels int64 [N] in
        [0, facts.classes); None if there is no such split. LscError for files that are missing or damaged."""
        raise NotImplementedError

    def look(self, chosen: Selection, say: Report) -> str | None:
        """Decode every image file that was not looked at since it changed, packing where that is due: one message on
        all that cannot be read, None where all can or there are no image files. Errors as `open_source`."""
        return None

    def obtain(self, chosen: Selection, report: Report) -> Path | None:
        """The folder of the data set, downloaded where that is possible. UsageError where it is missing."""
        found = self.locate(chosen.data_dir, chosen.path)
        if found is None:
            raise UsageError(self.missing(chosen.data_dir, chosen.path))
        return found

    def open(self, chosen: Selection, split: str, device: torch.device, report: Report) -> ImageSource | None:
        """The images of `split`, or None if there is no such split. Errors as `open_source`."""
        unique, count = chosen.unique, chosen.classes
        if unique and split == "val":
            return None
        if (loaded := self.load(split, unique, self.obtain(chosen, report))) is None:
            return None
        keep = slice(count) if unique or count is None else loaded[1] < count
        pixels, labels = torch.tensor(loaded[0][keep]), torch.from_numpy(loaded[1][keep])
        every = self.facts.classes or int(loaded[1].max()) + 1
        classes = len(pixels) if unique else min(count or every, every)
        return TensorSource(pixels, None if unique else labels, classes=classes, device=device, size=chosen.size)


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

    def open(self, chosen: Selection, split: str, device: torch.device, report: Report) -> ImageSource | None:
        """What the plugin opens, if it is what its facts promised: the steps of a run are counted from them."""
        if chosen.unique and split == "val":
            return None
        which = {"split": split, "unique": chosen.unique, "count": chosen.classes, "size": chosen.size}
        source = self._factory(**which, path=chosen.path, data_dir=chosen.data_dir, device=device)
        if source is None and split == "val":
            return None
        where = f'data.dataset: plugin "{self._name}" opened'
        if not isinstance(source, ImageSource):
            raise UsageError(f"{where} a {type(source).__name__}, not an ImageSource")
        counts = self.count(chosen)
        promised = (counts.images if split == "train" else counts.val_images, self.facts.channels)
        if (source.images, source.channels) != promised:
            sizes = "; classes of different sizes belong into facts.class_images"
            why = "" if chosen.unique or chosen.classes is None else sizes
            opened = f"{source.images} {split} images of {source.channels} channels"
            raise UsageError(f"{where} {opened}, its facts say {promised}{why}")
        return source


def long_tail(sizes: Sequence[int], ratio: float) -> list[int]:
    """How many of `sizes[c]` images class c keeps: sizes[c] * ratio^(c / (classes - 1)), at least one, as in
    arXiv:1901.05555, Sec. 5.1."""
    last = max(1, len(sizes) - 1)
    return [min(size, max(1, int(size * ratio ** (label / last)))) for label, size in enumerate(sizes)]


@lru_cache(maxsize=1)
def built_in_data_sets() -> dict[str, DataSet]:
    """The data sets that come with the engine by name, in the order of lists."""
    classes = sorted(set(DATASETS.built_in.values()), key=lambda each: each.position)
    return {each.facts.name: each() for each in classes}


def check_known(name: str, where: str) -> None:
    """UsageError, at the key or option `where`, if no data set has this name."""
    if name not in (known := [*built_in_data_sets(), *DATASETS.plugin_names()]):
        raise UsageError(f'{where}: "{name}" is not a data set; {did_you_mean(name, known)}')


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


def denied_sentence(path: str | Path) -> str | None:
    """A sentence where data.path cannot be looked at, because a folder above it may not be read; None otherwise."""
    try:
        user_path(path).stat()
    except PermissionError as error:
        return f"data.path: {unreadable(Path(path), error)}"
    except OSError:  # `locate` reports what is not there
        return None
    return None


@overload
def open_source(
    data: Any, *, split: Literal["train"], data_dir: Place = None, device: torch.device | str = "cpu", say: Report = ...
) -> ImageSource: ...
@overload
def open_source(
    data: Any, *, split: str, data_dir: Place = None, device: torch.device | str = "cpu", say: Report = ...
) -> ImageSource | None: ...
def open_source(
    data: Any, *, split: str, data_dir: Place = None, device: torch.device | str = "cpu", say: Report = lambda _: None
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
        raise UsageError(f'split: "{split}" is not a split; {did_you_mean(split, ("train", "val"))}')
    check_known(data.dataset, "data.dataset")
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


def look(data: Any, *, data_dir: Path | None, say: Report = lambda _: None) -> str | None:
    """`DataSet.look` for `data`, a `config.schema.Data` or what has its attributes."""
    return data_set(data.dataset).look(Selection.of(data, data_dir), say)
