"""Data sets made of folders of image files: which folders are splits and classes, and which files are images.

    ROOT/train/CLASS/*.JPEG   ROOT/val/CLASS/*.JPEG     or, without train/,     ROOT/CLASS/*.JPEG

Validation images may also lie in valid/ or validation/, in any case. Class names are compared and sorted in the
Unicode form NFC, so that a folder copied from macOS has the same classes in the same order.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from lsc_engine.common.errors import UsageError

S = TypeVar("S")
T = TypeVar("T")

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
TRAIN, VALIDATION, TEST = ("train", "training"), ("val", "valid", "validation"), ("test", "testing")
# Folders of operating systems, network storage and tools; compared in lower case.
_TOOLS = "__macosx|lost+found|@eadir|@recycle|#recycle|#snapshot|$recycle.bin|recycler|system volume information"
FOREIGN = frozenset(f"{_TOOLS}|found.000|__pycache__".split("|"))
# In CINIC-10, the images that came from CIFAR-10.
_FROM_CIFAR = "cifar10-"
_SHOWN = 8
# Network disks answer many requests at once.
_THREADS = 8


class FolderError(UsageError):
    """Folders of a data set that cannot be read as they are: one sentence per folder."""


@dataclass(frozen=True)
class Layout:
    """Where the images of a data set are.

    `base`: the folder of the training classes; `classes`: name -> folder, in label order; `val`: the folder of the
    validation split, None without one; `val_classes`: name -> folder; `blocked`: sentences about links and folders that
    cannot be followed or read; `notes`: what is in the folder and is not used.
    """

    base: Path
    classes: dict[str, Path]
    val: Path | None
    val_classes: dict[str, Path]
    blocked: list[str]
    notes: list[str]

    def check_validation_classes(self) -> None:
        """FolderError for a validation class that training does not have."""
        if strange := sorted(set(self.val_classes) - set(self.classes)):
            raise FolderError(f"{self.val}: class {strange[0]} is not among the training classes of {self.base}")


class _Entries(NamedTuple):
    """What one folder holds: folders and plain files by name, and sentences about entries that cannot be followed."""

    folders: list[str]
    files: list[str]
    blocked: dict[str, str]


def read_layout(dataset: str, root: Path, *, skip_bad: bool = False) -> Layout:
    """The layout of the data set in `root`.

    FolderError for links to nothing and unreadable folders where classes are expected, unless `skip_bad`: such a class
    then keeps its number and has no images. FolderError also for two folders with one name in two Unicode forms.
    """
    top, cinic = _entries(root), dataset == "cinic10"
    train = _first(top.folders, TRAIN)
    base, inner = (root, top) if train is None else (root / train, _entries(root / train))
    validation = [name for name in top.folders if name.lower() in VALIDATION]
    chosen = _first(validation, ("valid", *VALIDATION) if cinic else VALIDATION)
    tests = [name for name in top.folders if name.lower() in TEST and (train is not None or _is_split(root / name))]
    val = None if chosen is None else root / chosen
    val_inner = _Entries([], [], {}) if val is None else _entries(val)
    blocked = [s for entries in (inner, val_inner) for name, s in entries.blocked.items() if not _left_out(name)]
    splits = (*TRAIN, *VALIDATION)
    if train is not None:
        blocked += [s for name, s in top.blocked.items() if name.lower() in splits]
    faults = [] if skip_bad else list(blocked)
    # With skip_bad a class whose folder cannot be followed keeps its number.
    names = [*inner.folders, *(n for n in inner.blocked if n.lower() not in splits and skip_bad)]
    apart = {*validation, *tests} if train is None else set()
    classes = _by_name(base, [name for name in names if name not in apart], faults)
    val_classes = {} if val is None else _by_name(val, val_inner.folders, faults)
    if faults:
        raise FolderError(*faults)
    other = [name for name in validation if name != chosen]
    notes = [f"{root / name}: not used; the validation images are those of {chosen}/" for name in other]
    notes += [] if cinic else [f"{root / name}: not used: neither trained nor validated on" for name in tests]
    others = [n for n in top.folders if n not in (train, *validation, *tests) and not _left_out(n)]
    if train is not None and others:
        notes.append(f"{root}: folders beside {train}/ are not used: {listed(others)}")
    for folder, entries in {root: top, base: inner}.items():
        foreign = [name for name in entries.folders if _left_out(name)]
        notes += [f"{folder}: hidden or foreign folders are not classes: {listed(foreign)}"] if foreign else []
        files = [name for name in entries.files if not name.startswith(".") and not _is_image(name)]
        notes += [f"{folder}: files that are not read: {listed(files)}"] if files else []
    if train is not None and (images := [name for name in top.files if _is_image(name)]):
        notes.append(f"{root}: images beside {train}/ are not used: {listed(images)}")
    both = [name for name in classes if name in val_classes and classes[name].name != val_classes[name].name]
    if both:
        form = "written in another Unicode form than in"
        notes.append(f"{val}: {listed(both)} {form} {base}; taken as the same class")
    return Layout(base, classes, val, val_classes, blocked, notes)


def image_names(folder: Path, dataset: str = "folder") -> list[str]:
    """Names of the images directly in `folder`, sorted. FolderError where it cannot be read."""
    try:
        return sorted(name for name in os.listdir(folder) if _is_image(name, dataset))
    except OSError as error:
        raise FolderError(unreadable(folder, error)) from None


def images_in(folders: Iterable[Path], dataset: str = "folder", *, skip_bad: bool = False) -> list[int]:
    """How many images each folder holds, by their names. FolderError, for all folders at once, where some cannot be
    read; 0 for those with `skip_bad`."""
    found = list(in_threads(lambda folder: len(image_names(folder, dataset)), folders))
    faults = [fault for count in found if isinstance(count, FolderError) for fault in count.faults]
    if faults and not skip_bad:
        raise FolderError(*faults)
    return [0 if isinstance(count, FolderError) else count for count in found]


def in_threads(work: Callable[[S], T], folders: Iterable[S]) -> Iterator[T | FolderError]:
    """`work(folder)` of each folder in order, or the FolderError that it raised."""

    def attempt(folder: S) -> T | FolderError:
        try:
            return work(folder)
        except FolderError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(attempt, folders)


def has_loose_images(root: Path) -> bool:
    """Whether images lie beside the class folders of the training split: unique labels count them too."""
    return bool(image_names(read_layout("folder", root, skip_bad=True).base))


def layout_notes(dataset: str, root: Path, *, unique: bool, skip_bad: bool = False) -> list[str]:
    """Sentences on what the folder holds and a run does not use, or uses otherwise than it may seem: other splits,
    classes without images, images too deep, files passed over. Reads every class folder once. Errors as
    `read_layout`."""
    layout = read_layout(dataset, root, skip_bad=skip_bad)
    notes = layout.blocked + layout.notes + _of_classes(dataset, layout.base, layout.classes, "images")
    if layout.val is not None and not unique:
        layout.check_validation_classes()
        empty = [name for name in layout.classes if name not in layout.val_classes]
        there = {name: layout.val_classes[name] for name in layout.classes if name in layout.val_classes}
        if empty:
            missing = f"{len(empty)} of {len(layout.classes)} classes are missing"
            notes.append(f"{layout.val}: {missing}: {listed(empty)}")
        notes += _of_classes(dataset, layout.val, there, "validation images")
    loose = 0 if unique else len(image_names(layout.base, dataset))
    if loose and layout.classes:
        beside = f"{loose} images beside the class folders are" if loose > 1 else "1 image beside the class folders is"
        notes.append(f"{layout.base}: {beside} not used; an image belongs in the folder of its class")
    return notes


def deeper(folder: Path, levels: int = 2) -> Path | None:
    """A folder below `folder`, at most `levels` deep, that holds images; None where none is found."""
    try:
        inside = [folder / name for name in _entries(folder).folders if not _left_out(name)]
        found = next((inner for inner in inside if image_names(inner)), None)
    except UsageError:
        return None
    further = (deeper(inner, levels - 1) for inner in inside[:_SHOWN] if levels > 1)
    return found or next(filter(None, further), None)


def listed(names: Sequence[str]) -> str:
    """The first few of `names`, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def unreadable(path: Path, error: OSError) -> str:
    """A sentence for a folder that cannot be read."""
    do = "check the disk or the link"
    if isinstance(error, PermissionError):
        do = "give yourself the right to read it, or move it out of the data set"
    return f"{path}: {error.strerror or error}; {do}"


def link_to_nothing(path: Path | str) -> str:
    """A clause for a link whose target does not exist."""
    try:
        return f"is a link to {os.readlink(path)}, which is not there"
    except OSError:
        return "has vanished"


def _entries(folder: Path) -> _Entries:
    found = _Entries([], [], {})
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                link = entry.is_symlink()
                try:
                    if not (link and _is_image(entry.name)) and entry.is_dir():
                        found.folders.append(entry.name)
                    elif link and not _is_image(entry.name) and not os.path.exists(entry.path):
                        do = "mount the disk it is on, mend it or remove it"
                        found.blocked[entry.name] = f"{entry.path} {link_to_nothing(entry.path)}; {do}"
                    else:
                        found.files.append(entry.name)
                except OSError as error:
                    found.blocked[entry.name] = unreadable(Path(entry.path), error)
    except OSError as error:
        raise FolderError(unreadable(folder, error)) from None
    return found


def _is_image(name: str, dataset: str = "folder") -> bool:
    if not name.lower().endswith(SUFFIXES) or name.startswith("."):
        return False
    return dataset != "cinic10" or not name.startswith(_FROM_CIFAR)


def _first(folders: Sequence[str], names: Sequence[str]) -> str | None:
    """The folder whose name, in any case, comes first in `names`."""
    exact = [name for name in names if name in folders]
    return exact[0] if exact else next((f for name in names for f in folders if f.lower() == name), None)


def _left_out(name: str) -> bool:
    return name.startswith(".") or name.lower() in FOREIGN


def _is_split(folder: Path) -> bool:
    try:
        inside = _entries(folder)
    except UsageError:
        return True
    return not all(map(_left_out, inside.folders)) and not any(map(_is_image, inside.files))


def _by_name(base: Path, folders: Iterable[str], faults: list[str]) -> dict[str, Path]:
    """Class name -> folder, sorted by name. Adds a sentence to `faults` where two folders have one name."""
    found: dict[str, Path] = {}
    for folder in folders:
        if _left_out(folder):
            continue
        if (name := same_form(folder)) in found:
            same = f"two folders are named {name}, in two Unicode forms (NFC and NFD)"
            faults.append(f"{base}: {same}; move the images of one into the other")
        found[name] = base / folder
    return dict(sorted(found.items()))


def _of_classes(dataset: str, base: Path, classes: dict[str, Path], what: str) -> list[str]:
    """Notes on class folders without images, and on what else they hold."""
    empty, deep, others = list[str](), list[str](), Counter[str]()
    contents = in_threads(_entries, classes.values())
    for (name, folder), inside in zip(classes.items(), contents, strict=True):
        if isinstance(inside, FolderError):
            continue  # reported with the folders that cannot be read
        deeper = [name for name in inside.folders if not _left_out(name)]
        counts = images_in([folder / name for name in deeper], dataset, skip_bad=True)
        below = next((name for name, count in zip(deeper, counts, strict=True) if count), None)
        empty += [] if any(_is_image(file, dataset) for file in inside.files) else [name]
        deep += [] if below is None else [f"{name}/{below}"]
        passed = [f for f in inside.files if not f.startswith(".") and not f.lower().endswith(SUFFIXES)]
        others.update(os.path.splitext(file)[1].lower() or "without suffix" for file in passed)
    notes = []
    if empty:
        notes.append(f"{base}: {len(empty)} of {len(classes)} classes have no {what}: {listed(empty)}")
    if deep:
        notes.append(f"{base}: images one level too deep are not read: {listed(deep)}; a class folder holds its images")
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(_SHOWN))
        notes.append(f"{base}: files in class folders that are not images by their names: {kinds}")
    return notes


def file_fault(entry: os.stat_result) -> str | None:
    """Why a file cannot be an image, as a clause; None where its kind and size allow it."""
    if stat.S_ISDIR(entry.st_mode):
        return "is a folder, not an image"
    if not stat.S_ISREG(entry.st_mode):
        return "is not a regular file"
    return "is empty" if entry.st_size == 0 else None


def same_form(name: str) -> str:
    """`name` in the form in which names are compared."""
    return unicodedata.normalize("NFC", name)


def labels_of(names: Iterable[str], own: Sequence[str]) -> list[int]:
    """For each of `names` its label among the classes `own`, -1 where no class of them has that name.

    The same bytes come first; else the same word, where one class alone is called so.
    """
    exact = {name: label for label, name in enumerate(own)}
    alike: dict[str, int] = {}
    for label, name in enumerate(own):
        form = same_form(name)
        alike[form] = -1 if form in alike else label
    return [exact.get(name, alike.get(same_form(name), -1)) for name in names]


def without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of `names` that are not among `others`."""
    return [name for name, label in zip(names, labels_of(names, others), strict=True) if label < 0]
