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
from lsc_engine.data.dataset import DataSet, Report, Selection, data_folder, data_set, image_file_data_sets
from lsc_engine.data.imagefiles import FileReader, decoder_version
from lsc_engine.data.listing import BadFile, BadFilesError, ImageFiles, Split, bad_among, bad_file, no_images, report
from lsc_engine.data.pack import LARGEST_AUTOMATIC, Manifest, PackedReader, pack, packed_path, read_manifest, verify
from lsc_engine.data.source import ImageSource, StreamedSource, TensorSource, fits
from lsc_engine.data.stream import block_of, read_all

if TYPE_CHECKING:
    from lsc_engine.data.datasets.image_folders import ImageFolders


def open_folder(
    dataset: ImageFolders, chosen: Selection, name: str, device: torch.device, say: Report
) -> ImageSource | None:
    """The source of the split `name` of a data set of image files; None without it. Errors as `open_source`."""
    facts, skip_bad = dataset.facts, chosen.skip_bad
    if chosen.unique and name == "val":
        return None
    size = chosen.size or facts.size
    if size is None:
        raise UsageError(f"data.image_size: {facts.name} has images of many sizes; say to which they are brought")
    root = dataset.locate(chosen.data_dir, chosen.path)
    if root is None and not facts.places:
        raise UsageError(dataset.missing(chosen.data_dir, chosen.path))
    split = Split(facts.name, root, name, chosen.unique, chosen.data_dir, chosen.classes)
    target = _target(split, size)
    manifest = read_manifest(target)
    if root is None:
        if manifest is None:
            raise UsageError(dataset.missing(chosen.data_dir, chosen.path))
        if manifest.bad and not skip_bad:
            out = f"{len(manifest.bad)} images are left out"
            raise BadFilesError(f"{target}: {out}; allow it with data.skip_bad = true")
        return _packed(target, manifest, split, device)
    packs = manifest is not None or size <= LARGEST_AUTOMATIC
    files = split.files(count=None if packs or skip_bad else chosen.classes, skip_bad=skip_bad)
    if files is None:
        return None
    library, pixels, left_out = decoder_version(), None, 0
    found: Sequence[BadFile] = ()
    if packs:
        manifest, found = _pack(split, files, size, say)
    elif skip_bad:
        known = split.known_bad(files)
        found = _look(split, files, say) if known is None else known
    if packs or skip_bad:
        left_out = _leave_out(split, files, found, skip_bad, say)
        files = files.without(found) if found or skip_bad else files
        if not packs and split.count is not None:
            count = split.count if split.unique else int(np.searchsorted(files.labels, split.count))
            files = files.first(count)
            files = files if split.unique else replace(files, classes=files.classes[: split.count])
        if not (manifest.images if packs and manifest is not None else len(files)):
            raise UsageError(f"data.dataset: {facts.name}: no image in {files.base} can be read")
    if packs and manifest is not None:
        source, library = _packed(target, manifest, split, device), manifest.library
        pixels = _pixel_hash(target, manifest, source.images)
    else:
        source = _unpacked(files, size, split, device, say)
    # By these it is recognised whether images are those of a run: hashes of names and sizes, and of packed pixels.
    content = files.content(source.images)
    source.record = {"files": content, "pixels": pixels, "decoder": library, "left_out": left_out}
    return source


def _leave_out(split: Split, files: ImageFiles, found: Sequence[BadFile], skip_bad: bool, say: Report) -> int:
    """How many of the images in use cannot be read. BadFilesError for them, unless `skip_bad`, which reports them."""
    bad = split.bad_in_use(files, found)
    if bad and not skip_bad:
        raise BadFilesError(split.report(files, bad))
    if bad:
        total = len(files) + len(files.bad)
        names = "; ".join(f"{entry.path} {entry.why}" for entry in bad[:3]) + ("; …" if len(bad) > 3 else "")
        say(f"data.skip_bad: {len(bad):,} of {total:,} images in {files.base} are left out: {names}")
    return len(bad)


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
    if (short := chosen.shortfall(Selection(path=path, data_dir=data_dir))) is not None:
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


def look_at_images(dataset: DataSet, chosen: Selection, say: Report) -> str | None:
    """Decode, or pack where that is due, every image of a data set that was not looked at since its files changed, and
    keep which cannot be read: one message on all of them, None where all can. Errors as `open_source`."""
    name, root = dataset.facts.name, dataset.locate(chosen.data_dir, chosen.path)
    size = chosen.size or dataset.facts.size
    if root is None or size is None:
        return None
    reports = []
    for part in ("train",) if chosen.unique else ("train", "val"):
        split = Split(name, root, part, chosen.unique, chosen.data_dir, chosen.classes)
        files = split.files(skip_bad=True)
        if files is None:
            continue
        found: Sequence[BadFile] | None = split.known_bad(files)
        if found is None:
            found = _pack(split, files, size, say)[1] if size <= LARGEST_AUTOMATIC else _look(split, files, say)
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
    looked = reported = 0
    for index, _, found in _read_usable(FileReader(files, 16)):
        bad += found
        looked += len(index)
        if looked - reported >= len(files) / 20:
            say(f"looked at {looked:,} of {len(files):,}")
            reported = looked
    split.keep_bad(files, bad)
    return bad


def _pixel_hash(path: Path, manifest: Manifest, images: int) -> str:
    """sha256 of the first `images` of a packed file."""
    if images == manifest.images:
        return manifest.sha256
    digest, left = hashlib.sha256(), images * manifest.image_bytes
    with path.open("rb") as file:
        while left and (content := file.read(min(left, 2**23))):
            digest.update(content)
            left -= len(content)
    return digest.hexdigest()


def _unpacked(files: ImageFiles, size: int, split: Split, device: torch.device, say: Report) -> ImageSource:
    """The source of files that are read one by one. BadFilesError for those that cannot be used: all of them where the
    images are held on the device, else those that are known without decoding."""
    reader, count, bad = FileReader(files, size), len(files), list(files.bad)
    labels = None if split.unique else torch.from_numpy(files.labels.astype(np.int64))
    classes = count if split.unique else len(files.classes)
    source: ImageSource
    if fits(count * 3 * size * size, device):
        say(f"reading {count:,} images of {files.base} to {device}")
        pixels = torch.empty((count, 3, size, size), dtype=torch.uint8, device=device)
        for index, images, found in _read_usable(reader):
            bad += found
            if len(images) and not found:
                pixels[index[0] : index[-1] + 1].copy_(images)
        bad = bad_among(bad, unique=True, count=None)
        source = TensorSource(pixels, labels, classes=classes, device=device)
    else:
        source = StreamedSource(reader, labels, images=count, classes=classes, device=device)
    if bad:
        raise BadFilesError(report(bad, count + len(files.bad)))
    source.class_names = () if split.unique else files.classes[:classes]
    return source


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
    source.class_names = () if split.unique else tuple(name for name, _ in manifest.classes[:classes])
    return source


def _read_usable(reader: FileReader) -> Iterator[tuple[Tensor, Tensor, list[BadFile]]]:
    """(numbers, the images of those that can be used, the others) of all files, a block at a time."""
    count, image_bytes = len(reader.files), reader.channels * reader.size**2
    blocks = torch.arange(count).split(block_of(image_bytes))
    for index, (images, bad) in zip(blocks, read_all(reader.read_usable, blocks, image_bytes, count), strict=True):
        yield index, images, [bad_file(reader.files, number, why) for number, why in bad]
