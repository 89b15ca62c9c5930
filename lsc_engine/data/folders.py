"""Opening imagenet, cinic10 and folder: packed where it pays, held on the device where it fits, else streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.data.class_folders import has_loose_images, read_layout
from lsc_engine.data.dataset import DataSettings, Report, data_folder, data_set, image_file_data_sets
from lsc_engine.data.imagefiles import FileReader, decoder_version
from lsc_engine.data.listing import (
    BadFile,
    BadFilesError,
    ImageFiles,
    Split,
    bad_among,
    bad_file,
    no_images,
    report,
)
from lsc_engine.data.pack import LARGEST_AUTOMATIC, Manifest, PackedReader, pack, packed_path, read_manifest, verify
from lsc_engine.data.source import ImageSource, StreamedSource, TensorSource, fits
from lsc_engine.data.stream import block_of, read_all

if TYPE_CHECKING:
    from lsc_engine.data.datasets.image_folders import ImageFolders


def open_folder(
    chosen: ImageFolders, data: DataSettings, name: str, data_dir: Path | None, device: torch.device, say: Report
) -> ImageSource | None:
    """The source of the split `name` of a data set of image files; None without it. Errors as `open_source`."""
    facts, unique, skip_bad = chosen.facts, data.labels == "unique", bool(data.skip_bad)
    if unique and name == "val":
        return None
    size = data.image_size or facts.size
    if size is None:
        raise UsageError(f"data.image_size: {facts.name} has images of many sizes; say to which they are brought")
    root = chosen.locate(data_dir, data.path)
    if root is None and not facts.places:
        raise UsageError(chosen.missing(data_dir, data.path))
    split = Split(facts.name, root, name, unique, data_dir, data.classes)
    target = _target(split, size)
    manifest = read_manifest(target)
    if root is None:
        if manifest is None:
            raise UsageError(chosen.missing(data_dir, data.path))
        if manifest.bad and not skip_bad:
            raise BadFilesError(
                f"{target}: {len(manifest.bad)} images are left out; allow it with data.skip_bad = true"
            )
        return _packed(target, manifest, split, device)
    packs = manifest is not None or size <= LARGEST_AUTOMATIC
    files = split.files(count=None if packs or skip_bad else data.classes, skip_bad=skip_bad)
    if files is None:
        return None
    if packs:
        manifest, bad = _pack(split, files, size, say)
        left_out = _refuse_or_leave_out(split, files, bad, skip_bad, say)
        if not manifest.images:
            raise UsageError(f"data.dataset: {facts.name}: no image in {files.base} can be read")
        source = _packed(target, manifest, split, device)
        pixels = _pixel_hash(target, manifest, source.images)
        return _recorded(source, files.without(bad) if bad else files, pixels, left_out, manifest.library)
    left_out = 0
    if skip_bad:
        known = split.known_bad(files)
        found = _look(split, files, say) if known is None else list(known)
        left_out = _refuse_or_leave_out(split, files, found, skip_bad, say)
        files = _first(files.without(found), split)
        if not len(files):
            raise UsageError(f"data.dataset: {facts.name}: no image in {files.base} can be read")
    return _recorded(_unpacked(files, size, split, device, say), files, None, left_out, decoder_version())


def pack_dataset(
    dataset: str, size: int, *, data_dir: Path | None, path: str | None, say: Report, workers: int | None = None
) -> list[tuple[Path, Manifest]]:
    """Pack every split of a data set, or check the hash of what is packed; the packed files with their manifests.

    UsageError for a data set that is not made of image files, or that is missing. BadFilesError, after all the rest is
    packed, for all images that cannot be read.
    """
    names = image_file_data_sets()
    if dataset not in names:
        raise UsageError(f"pack: {dataset} is not a data set of image files; {did_you_mean(dataset, names)}")
    chosen = cast("ImageFolders", data_set(dataset))
    root = chosen.locate(data_dir, path)
    if root is None:
        raise UsageError(chosen.missing(data_dir, path))
    if (short := chosen.shortfall("class", None, data_dir=data_dir, path=path)) is not None:
        say(f"note: {short}")
    layout = read_layout(dataset, root)
    splits = [Split(dataset, root, name, False, data_dir) for name in ("train", "val") if layout.classes]
    if has_loose_images(root):
        splits.append(Split(dataset, root, "train", True, data_dir))
    done, reports = [], []
    for split in splits:
        files = split.files()
        if files is None:
            continue
        target = _target(split, size)
        before = read_manifest(target)
        manifest, bad = _pack(split, files, size, say, workers)
        if manifest == before and not verify(target, manifest):
            say(f"{target} has not the hash of its manifest and is packed again")
            target.with_suffix(".json").unlink()
            manifest, bad = _pack(split, files, size, say, workers)
        done.append((target, manifest))
        if unusable := split.bad_in_use(files, bad):
            reports.append(split.report(files, unusable))
    if reports:
        raise BadFilesError("\n".join(dict.fromkeys(reports)))
    if not done:
        raise UsageError(no_images(layout.base))
    return done


def look_at_images(data: DataSettings, data_dir: Path | None, say: Report) -> str | None:
    """Decode, or pack where that is due, every image of a data set that was not looked at since its files changed, and
    keep which cannot be read: one message on all of them, None where all can. Errors as `open_source`."""
    chosen = data_set(data.dataset)
    root = chosen.locate(data_dir, data.path)
    size = data.image_size or chosen.facts.size
    if root is None or size is None:
        return None
    unique = data.labels == "unique"
    reports = []
    for name in ("train",) if unique else ("train", "val"):
        split = Split(data.dataset, root, name, unique, data_dir, data.classes)
        files = split.files(skip_bad=True)
        if files is None:
            continue
        known = split.known_bad(files)
        if known is not None:
            found: Sequence[BadFile] = known
        elif size <= LARGEST_AUTOMATIC:
            found = _pack(split, files, size, say)[1]
        else:
            found = _look(split, files, say)
        if bad := split.bad_in_use(files, found):
            reports.append(split.report(files, bad))
    return "\n".join(reports) or None


def _target(split: Split, size: int) -> Path:
    return packed_path(data_folder(split.data_dir), split.dataset, split.stored, size, split.root)


def _pack(
    split: Split, files: ImageFiles, size: int, say: Report, workers: int | None = None
) -> tuple[Manifest, list[BadFile]]:
    """Pack `files`, unless that is done, and keep which cannot be read."""
    reader, target = FileReader(files, size), _target(split, size)
    manifest = pack(reader, target, dataset=split.dataset, split=split.stored, say=say, workers=workers)
    bad = [bad_file(files, number, why) for number, why in manifest.bad]
    split.keep_bad(files, bad)
    return manifest, bad


def _look(split: Split, files: ImageFiles, say: Report) -> list[BadFile]:
    """Decode all of `files` at a small size and keep which cannot be read."""
    say(f"looking at {len(files):,} images of {files.base} for any that cannot be read")
    bad: list[BadFile] = []
    reader, looked, reported = FileReader(files, 16), 0, 0
    for index, (_, found) in _read_usable(reader, len(files)):
        bad += [bad_file(files, number, why) for number, why in found]
        looked += len(index)
        if looked - reported >= len(files) / 20:
            say(f"looked at {looked:,} of {len(files):,}")
            reported = looked
    split.keep_bad(files, bad)
    return bad


def _refuse_or_leave_out(split: Split, files: ImageFiles, found: Sequence[BadFile], skip_bad: bool, say: Report) -> int:
    """How many of the images in use cannot be read. BadFilesError for them, unless `skip_bad`, which reports how many
    are left out."""
    bad = split.bad_in_use(files, found)
    if bad and not skip_bad:
        raise BadFilesError(split.report(files, bad))
    if bad:
        total = len(files) + len(files.bad)
        names = "; ".join(f"{entry.path} {entry.why}" for entry in bad[:3]) + ("; …" if len(bad) > 3 else "")
        say(f"data.skip_bad: {len(bad):,} of {total:,} images in {files.base} are left out: {names}")
    return len(bad)


def _first(files: ImageFiles, split: Split) -> ImageFiles:
    """The images that are in use."""
    if split.count is None:
        return files
    if split.unique:
        return files.first(split.count)
    kept = files.first(int(np.searchsorted(files.labels, split.count)))
    return replace(kept, classes=kept.classes[: split.count])


def _recorded(source: ImageSource, files: ImageFiles, pixels: str | None, left_out: int, library: str) -> ImageSource:
    """`source` with the values by which its images are recognised: hashes of names and sizes, and of packed pixels with
    the library that decoded them; and how many images are left out since they cannot be used."""
    content = files.content(source.images)
    source.record = {"files": content, "pixels": pixels, "decoder": library, "left_out": left_out}
    return source


def _pixel_hash(path: Path, manifest: Manifest, images: int) -> str:
    """sha256 of the first `images` of a packed file."""
    if images == manifest.images:
        return manifest.sha256
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = images * manifest.image_bytes
        while left and (content := file.read(min(left, 2**23))):
            digest.update(content)
            left -= len(content)
    return digest.hexdigest()


def _named(source: ImageSource, names: Sequence[str], split: Split) -> ImageSource:
    """`source` with the names of its classes, which are those of the folders unless each image is one of its own."""
    source.class_names = () if split.unique else tuple(names[: source.classes])
    return source


def _unpacked(files: ImageFiles, size: int, split: Split, device: torch.device, say: Report) -> ImageSource:
    """The source of files that are read one by one. BadFilesError for those that cannot be used: all of them where the
    images are held on the device, else those that are known without decoding."""
    reader = FileReader(files, size)
    labels = None if split.unique else torch.from_numpy(files.labels.astype(np.int64))
    classes = len(files) if split.unique else len(files.classes)
    source: ImageSource
    if fits(len(files) * 3 * size * size, device):
        say(f"reading {len(files):,} images of {files.base} to {device}")
        source = TensorSource(_loaded(reader, device), labels, classes=classes, device=device)
    else:
        if files.bad:
            raise BadFilesError(report(files.bad, len(files) + len(files.bad)))
        source = StreamedSource(reader, labels, images=len(files), classes=classes, device=device)
    return _named(source, files.classes, split)


def _packed(path: Path, manifest: Manifest, split: Split, device: torch.device) -> ImageSource:
    """The classes or images in use of a packed file: always a prefix, since it is sorted by class."""
    labels, count = manifest.labels(), split.count
    if not split.unique and count is not None:
        labels = labels[: int(np.searchsorted(labels, count))]
    images = len(labels) if not split.unique else min(len(labels), count or len(labels))
    classes = images if split.unique else min(count or len(manifest.classes), len(manifest.classes))
    table = None if split.unique else torch.from_numpy(labels)
    reader = PackedReader(path, manifest, images)
    source: ImageSource
    if device.type == "cpu" or fits(images * manifest.image_bytes, device):
        # On the CPU the mapped file itself is the tensor: the page cache holds it once for all processes.
        source = TensorSource(reader.pixels(), table, classes=classes, device=device)
    else:
        source = StreamedSource(reader, table, images=images, classes=classes, device=device)
    return _named(source, [name for name, _ in manifest.classes], split)


def _loaded(reader: FileReader, device: torch.device) -> Tensor:
    """All images as one tensor. BadFilesError for all that cannot be used."""
    files = reader.files
    pixels = torch.empty((len(files), reader.channels, reader.size, reader.size), dtype=torch.uint8, device=device)
    bad = list(files.bad)
    for index, (images, found) in _read_usable(reader, len(files)):
        bad += [bad_file(files, number, why) for number, why in found]
        if len(images) and not found:
            pixels[index[0] : index[-1] + 1].copy_(images)
    if bad:
        raise BadFilesError(report(bad_among(bad, unique=True, count=None), len(files) + len(files.bad)))
    return pixels


def _read_usable(reader: FileReader, count: int) -> Iterator[tuple[Tensor, tuple[Tensor, list[tuple[int, str]]]]]:
    """(numbers, what `FileReader.read_usable` returns) of the first `count` images, a block at a time."""
    image_bytes = reader.channels * reader.size**2
    blocks = torch.arange(count).split(block_of(image_bytes))
    yield from zip(blocks, read_all(reader.read_usable, blocks, image_bytes, count), strict=True)
