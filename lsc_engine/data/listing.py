"""The image files of one split with their sizes and times, and what is known of those that cannot be read.

DATA/packed/NAME-SPLIT.looked.json    which of the listed files cannot be read, found when all of them were decoded"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import replace_json
from lsc_engine.data.class_folders import (
    FolderError,
    deeper,
    file_fault,
    has_loose_images,
    image_names,
    in_threads,
    link_to_nothing,
    read_layout,
    same_form,
    unreadable,
)
from lsc_engine.data.dataset import Selection, data_folder

# Bad images named in one message, with their paths.
SHOWN = 20
# Errors of one file, as clauses; those of others are of the disk.
_DENIED = "cannot be read: Permission denied"
_OF_A_FILE = {errno.EACCES: _DENIED, errno.EPERM: _DENIED, errno.ELOOP: "is a link that leads to itself"}


@dataclass(frozen=True, order=True)
class BadFile:
    """An entry that is no usable image: the number that the image has, or would have, in the listing, its path, a
    clause that says why, and its label."""

    number: int
    path: str
    why: str
    label: int


class BadFilesError(LscError):
    """Images that cannot be used, all of them in one message."""


@dataclass(frozen=True)
class ImageFiles:
    """The images of one split: file `i` is `base` / name(i).

    `names` bytes [N]; `labels` int32 [N] number `classes`; `stamps` int64 [N, 3]: size in bytes, when the content was
    changed, and when content or rights were, in nanoseconds; `bad`: entries left out because they cannot be images:
    links to nothing, folders, empty files, files or class folders without permission.
    """

    base: Path
    names: np.ndarray
    labels: np.ndarray
    stamps: np.ndarray
    classes: tuple[str, ...]
    bad: tuple[BadFile, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """Where image `index` lies."""
        return self.base / os.fsdecode(self.names[index])

    def content(self, count: int | None = None) -> str:
        """A hash of names, labels and sizes of the first `count` images in order: equal for a copy of the files at
        another place, whose names may be in another Unicode form."""
        names = b"".join(self.names[:count].tolist())
        names = names if names.isascii() else same_form(os.fsdecode(names)).encode(errors="replace")
        return _sha256(names, self.labels[:count], self.stamps[:count, 0])

    @cached_property
    def listing(self) -> str:
        """A hash of `content()` and the times of change: equal as long as no file is changed, added or removed."""
        return _sha256(self.content().encode(), self.stamps[:, 1])

    def chosen(self, index: np.ndarray | slice) -> ImageFiles:
        """The images numbered `index` (int64 [M], rising, or bool [N]), without the bad entries."""
        names, labels, stamps = self.names[index], self.labels[index], self.stamps[index]
        return replace(self, names=names, labels=labels, stamps=stamps, bad=())

    def first(self, count: int) -> ImageFiles:
        """The first `count` images, with the bad entries among them."""
        bad = tuple(entry for entry in self.bad if entry.number < min(count, len(self)))
        return replace(self.chosen(slice(count)), bad=bad)

    def without(self, bad: Sequence[BadFile]) -> ImageFiles:
        """The images that are not in `bad`, without the bad entries."""
        kept = np.ones(len(self), dtype=bool)
        kept[[entry.number for entry in bad]] = False
        return self.chosen(kept)


def list_files(
    dataset: str, root: Path, split: str, *, unique: bool, count: int | None, skip_bad: bool = False
) -> ImageFiles | None:
    """The images of the first `count` classes, or the first `count` images (unique); None without such a split.

    Images beside the class folders come first with unique labels. UsageError for a validation class that training does
    not have, or for no images at all; FolderError as `read_layout`.
    """
    layout = read_layout(dataset, root, skip_bad=skip_bad)
    base, folders = layout.base, layout.classes
    if split == "val":
        if layout.val is None:
            return None
        layout.check_validation_classes()
        base, folders = layout.val, layout.val_classes
        if not folders:
            do = f"put each validation image into that of its class, or take {base.name}/ away and train without any"
            raise UsageError(f"{base} has no class folders; {do}")
    wanted = list(layout.classes)[: None if unique else count]
    places = [(0, "")] * unique + [(at, folders[name].name) for at, name in enumerate(wanted) if name in folders]
    limit = count if unique else None
    bad, faults, total = list[BadFile](), list[str](), 0
    names = [np.zeros(0, dtype="S1")]
    labels, stamps = [np.zeros(0, dtype=np.int32)], [np.zeros((0, 3), dtype=np.int64)]
    contents = in_threads(lambda folder: _sorted_out(dataset, base, folder), [folder for _, folder in places])
    for (label, folder), found in zip(places, contents, strict=True):
        if isinstance(found, _DiskError):
            raise found
        if isinstance(found, FolderError):
            faults += found.faults
            bad.append(BadFile(total, str(base / folder), "is a class folder that cannot be read", label))
            continue
        good, of_good, of_bad = found
        bad += [BadFile(total + at, path, why, label) for at, path, why in of_bad]
        names.append(good)
        labels.append(np.full(len(good), label, dtype=np.int32))
        stamps.append(of_good)
        total += len(good)
        if limit is not None and total >= limit:  # a million files on a network disk take minutes
            break
    if faults and not skip_bad:
        raise FolderError(*faults)
    # As the training folders are called, byte by byte.
    called = tuple(layout.classes[name].name for name in wanted)
    rows = np.concatenate(names), np.concatenate(labels), np.concatenate(stamps)
    files = ImageFiles(base, *rows, called, tuple(bad))
    files = files if limit is None or limit >= len(files) else files.first(limit)
    if not len(files) and not files.bad:
        raise UsageError(f"data.dataset: {dataset}: {no_images(base)}")
    return files


class _DiskError(FolderError):
    """A disk that fails, which must not leave images out."""


def _sorted_out(dataset: str, base: Path, folder: str) -> tuple[np.ndarray, np.ndarray, list[tuple[int, str, str]]]:
    """The images of a folder in `base`: names bytes [N] below `base`; sizes and times, int64 [N, 3]; (place among them,
    path, why) of entries that cannot be images. FolderError where the folder itself, or the disk, cannot be read."""
    good: list[bytes] = []
    stamps: list[tuple[int, int, int]] = []
    bad: list[tuple[int, str, str]] = []
    below = os.path.join(folder, "")
    for name in image_names(base / folder, dataset):
        path = f"{base}/{below}{name}"
        try:
            entry = os.stat(path)
            why = file_fault(entry) or (None if os.access(path, os.R_OK) else _DENIED)
        except OSError as error:
            why = link_to_nothing(path) if error.errno == errno.ENOENT else _OF_A_FILE.get(error.errno or 0)
            if why is None:
                raise _DiskError(unreadable(Path(path), error)) from None
        if why is None:
            good.append(os.fsencode(below + name))
            stamps.append((entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns))
        else:
            bad.append((len(good), path, why))
    return np.array(good or [b""])[: len(good)], np.array(stamps, dtype=np.int64).reshape(-1, 3), bad


def no_images(base: Path) -> str:
    """A clause for a folder that holds no images, which names a folder below it that does."""
    below = deeper(base, 4)
    where = "" if below is None else f"; there are images in {below}: is data.path a folder too high?"
    return f"no images in {base}; it needs one folder of images per class{where}"


@dataclass(frozen=True)
class Split:
    """The image files of one split, "train" or "val", of the data set in `root`, and what is known of them."""

    dataset: str
    root: Path | None
    name: str
    chosen: Selection

    @cached_property
    def stored(self) -> str:
        """The name under which it is packed: with unique labels images beside the class folders count too."""
        return "unique" if self.chosen.unique and self.root is not None and has_loose_images(self.root) else self.name

    @property
    def record(self) -> Path:
        """Where it is kept which images cannot be read."""
        name = data_name(self.dataset, self.root)
        return data_folder(self.chosen.data_dir) / "packed" / f"{name}-{self.stored}.looked.json"

    def files(self, *, count: int | None = None, skip_bad: bool = False) -> ImageFiles | None:
        """All of its images, or the first `count` (see `list_files`); None without such a split."""
        assert self.root is not None
        return list_files(self.dataset, self.root, self.name, unique=self.chosen.unique, count=count, skip_bad=skip_bad)

    def known_bad(self, files: ImageFiles) -> tuple[BadFile, ...] | None:
        """The images of `files` that cannot be read, as found when all of them were decoded; None where that was not
        done, or files were changed since."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            if record["listing"] != files.listing:
                return None
            found = [(int(number), str(why)) for number, why in record["bad"]]
            return tuple(bad_file(files, number, why) for number, why in found if 0 <= number < len(files))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep_bad(self, files: ImageFiles, bad: Sequence[BadFile]) -> None:
        """Keep which images of `files` cannot be read. On a disk that cannot be written they are looked at again the
        next time."""
        if self.known_bad(files) == tuple(bad):
            return
        names = [os.fsencode(entry.path).decode("utf-8", "backslashreplace") for entry in bad]
        rows = [[entry.number, entry.why] for entry in bad]
        document = {"listing": files.listing, "images": len(files), "bad": rows, "files": names}
        with contextlib.suppress(OSError):
            self.record.parent.mkdir(parents=True, exist_ok=True)
            replace_json(self.record, document, durable=False)

    def bad_in_use(self, files: ImageFiles, found: Iterable[BadFile]) -> list[BadFile]:
        """Those of the entries left out of `files` and the images `found` to be bad that are used; in order."""
        entries, count = sorted((*files.bad, *found)), self.chosen.classes
        return [e for e in entries if count is None or (e.number if self.chosen.unique else e.label) < count]

    def in_use(self, labels: np.ndarray) -> int:
        """How many of the images with these labels, rising, are used."""
        if self.chosen.unique or self.chosen.classes is None:
            return len(labels[: self.chosen.classes])
        return int(np.searchsorted(labels, self.chosen.classes))

    def usable(self) -> tuple[int, bool, int]:
        """Images in use that can be read, whether that is known of all of them, and how many classes are named."""
        files = self.files(skip_bad=True)
        if files is None:
            return 0, True, 0
        bad, named = self.known_bad(files), len(files.classes)
        return self.in_use(files.without(bad or ()).labels), bad is not None, min(self.chosen.classes or named, named)


def data_name(dataset: str, root: Path | None) -> str:
    """The name of a data set in file names; the hash of its `root` is part of that of a `folder`."""
    if dataset != "folder":
        return dataset
    return f"{dataset}-" + hashlib.sha256(os.fsencode(str((root or Path()).resolve()))).hexdigest()[:8]


def bad_file(files: ImageFiles, number: int, why: str) -> BadFile:
    """Image `number` of `files` as one that cannot be read."""
    return BadFile(number, str(files.path(number)), why, int(files.labels[number]))


def report(files: ImageFiles, bad: Sequence[BadFile], kept_in: Path | None = None) -> str:
    """One message on all `bad` images of `files`: the first ones by name, how many there are, and what to do."""
    what = f"{len(bad):,} of {len(files) + len(files.bad):,} images cannot be used"
    shown = "; ".join(f"{entry.path} {entry.why}" for entry in bad[:SHOWN])
    rest = f"; and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
    rest += f", listed in {kept_in}" if rest and kept_in is not None else ""
    return f"{what}: {shown}{rest}. Mend or remove them, or leave them out with data.skip_bad = true"


def _sha256(*parts: bytes | np.ndarray) -> str:
    digest = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes()
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()
