"""Opening imagenet, cinic10 and folder: packed where it pays, held on the device where it fits, else streamed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsc_engine.config.datasets import DATASETS, IMAGE_FILES, data_folder, locate, missing_sentence, shortfall
from lsc_engine.config.folders import has_loose_images, read_layout
from lsc_engine.config.listing import (
    BadFile,
    BadFilesError,
    ImageFiles,
    bad_among,
    bad_file,
    list_files,
    no_images,
    read_record,
    record_path,
    report,
    stored_split,
    write_record,
)
from lsc_engine.data.imagefiles import FileReader, decoder_version
from lsc_engine.data.pack import LARGEST_AUTOMATIC, Manifest, PackedReader, pack, packed_path, read_manifest, verify
from lsc_engine.data.source import ImageSource, StreamedSource, TensorSource, fits
from lsc_engine.data.stream import block_of, read_all
from lsc_engine.errors import UsageError, did_you_mean

Say = Callable[[str], None]


def open_folder(
    dataset: str,
    split: str,
    *,
    unique: bool,
    count: int | None,
    size: int | None,
    data_dir: Path | None,
    path: str | None,
    device: torch.device,
    say: Say,
    skip_bad: bool = False,
) -> ImageSource | None:
    """The source of a data set of image files; None without such a split. Errors as `open_source`."""
    if unique and split == "val":
        return None
    size = size or DATASETS[dataset].size
    if size is None:
        raise UsageError(f"data.image_size: {dataset} has images of many sizes; say to which they are brought")
    root = locate(dataset, data_dir, path)
    if root is None and dataset == "folder":
        raise UsageError(missing_sentence(dataset, data_dir, path))
    stored = stored_split(split, root, unique=unique)
    target = packed_path(data_folder(data_dir), dataset, stored, size, root)
    manifest = read_manifest(target)
    if root is None:
        if manifest is None:
            raise UsageError(missing_sentence(dataset, data_dir, path))
        if manifest.bad and not skip_bad:
            raise BadFilesError(
                f"{target}: {len(manifest.bad)} images are left out; allow it with data.skip_bad = true"
            )
        return _named(_packed(target, manifest, unique, count, device), _names(manifest), unique)
    packs = manifest is not None or size <= LARGEST_AUTOMATIC
    files = list_files(
        dataset,
        root,
        split,
        unique=stored == "unique" if packs else unique,
        count=None if packs or skip_bad else count,
        skip_bad=skip_bad,
    )
    if files is None:
        return None
    record = record_path(data_folder(data_dir), dataset, stored, root)
    if packs:
        manifest = pack(FileReader(files, size), target, dataset=dataset, split=split, say=say)
        bad = [bad_file(files, number, why) for number, why in manifest.bad]
        _keep_record(record, files, bad)
        out = _judge(files, bad, record, unique=unique, count=count, skip_bad=skip_bad, say=say)
        if not manifest.images:
            raise UsageError(f"data.dataset: {dataset}: no image in {files.base} can be read")
        source = _named(_packed(target, manifest, unique, count, device), _names(manifest), unique)
        pixels = _pixel_hash(target, manifest, source.images)
        return _recorded(source, files.without(bad) if bad else files, pixels, out, manifest.library)
    if skip_bad:
        known = read_record(record, files)
        found = _look(files, record, say) if known is None else list(known)
        out = _judge(files, found, record, unique=unique, count=count, skip_bad=True, say=say)
        files = _first(files.without(found), unique, count)
        if not len(files):
            raise UsageError(f"data.dataset: {dataset}: no image in {files.base} can be read")
    else:
        out = 0
    source = _named(_unpacked(files, size, unique, device, say), files.classes, unique)
    return _recorded(source, files, None, out, decoder_version())


def _names(manifest: Manifest) -> tuple[str, ...]:
    return tuple(name for name, _ in manifest.classes)


def _named(source: ImageSource, names: tuple[str, ...], unique: bool) -> ImageSource:
    """`source` with the names of its classes, which are those of the folders unless each image is one of its own."""
    source.class_names = () if unique else names[: source.classes]
    return source


def pack_dataset(
    dataset: str, size: int, *, data_dir: Path | None, path: str | None, say: Say, workers: int | None = None
) -> list[tuple[Path, Manifest]]:
    """Pack every split of a data set, or check the hash of what is packed; the packed files with their manifests.

    UsageError for a data set that is not made of image files, or that is missing. BadFilesError, after all the rest is
    packed, for all images that cannot be read.
    """
    if dataset not in IMAGE_FILES:
        raise UsageError(f"pack: {dataset} is not a data set of image files; {did_you_mean(dataset, IMAGE_FILES)}")
    root = locate(dataset, data_dir, path)
    if root is None:
        raise UsageError(missing_sentence(dataset, data_dir, path))
    if (short := shortfall(dataset, "class", None, data_dir=data_dir, path=path)) is not None:
        say(f"note: {short}")
    layout = read_layout(dataset, root)
    splits = ["train", "val"] if layout.classes else []
    if has_loose_images(root):
        splits.append("unique")
    done, reports = [], []
    for split in splits:
        loose = split == "unique"
        files = list_files(dataset, root, "train" if loose else split, unique=loose, count=None)
        if files is None:
            continue
        target = packed_path(data_folder(data_dir), dataset, split, size, root)
        record = record_path(data_folder(data_dir), dataset, split, root)
        manifest = _packed_whole(FileReader(files, size), target, dataset, split, say, workers)
        done.append((target, manifest))
        bad = [bad_file(files, number, why) for number, why in manifest.bad]
        _keep_record(record, files, bad)
        if bad or files.bad:
            reports.append(
                report(bad_among([*files.bad, *bad], unique=loose, count=None), len(files) + len(files.bad), record)
            )
    if reports:
        raise BadFilesError("\n".join(dict.fromkeys(reports)))
    if not done:
        raise UsageError(no_images(layout.base))
    return done


def look_at_images(
    dataset: str,
    *,
    unique: bool,
    count: int | None,
    size: int | None,
    data_dir: Path | None,
    path: str | None,
    say: Say,
) -> str | None:
    """Decode, or pack where that is due, every image of a data set that was not looked at since its files changed, and
    keep which cannot be read: one message on all of them, None where all can. Errors as `open_source`."""
    root = locate(dataset, data_dir, path)
    size = size or DATASETS[dataset].size
    if root is None or size is None:
        return None
    reports = []
    for split in ("train",) if unique else ("train", "val"):
        stored = stored_split(split, root, unique=unique)
        files = list_files(dataset, root, split, unique=stored == "unique", count=None, skip_bad=True)
        if files is None:
            continue
        record = record_path(data_folder(data_dir), dataset, stored, root)
        known = read_record(record, files)
        if known is None and size <= LARGEST_AUTOMATIC:
            target = packed_path(data_folder(data_dir), dataset, stored, size, root)
            manifest = pack(FileReader(files, size), target, dataset=dataset, split=split, say=say)
            found = [bad_file(files, number, why) for number, why in manifest.bad]
            _keep_record(record, files, found)
        else:
            found = _look(files, record, say) if known is None else list(known)
        bad = bad_among([*files.bad, *found], unique=unique, count=count)
        reports += [report(bad, len(files) + len(files.bad), record)] if bad else []
    return "\n".join(reports) or None


def _look(files: ImageFiles, record: Path, say: Say) -> list[BadFile]:
    """Decode all of `files` at a small size and keep which cannot be read."""
    say(f"looking at {len(files):,} images of {files.base} for any that cannot be read")
    bad: list[BadFile] = []
    reader, looked, said = FileReader(files, 16), 0, 0
    for index, (_, found) in _read_usable(reader, len(files)):
        bad += [bad_file(files, number, why) for number, why in found]
        looked += len(index)
        if looked - said >= len(files) / 20:
            say(f"looked at {looked:,} of {len(files):,}")
            said = looked
    _keep_record(record, files, bad)
    return bad


def _keep_record(record: Path, files: ImageFiles, bad: Sequence[BadFile]) -> None:
    # On a disk that cannot be written the images are looked at again the next time.
    with contextlib.suppress(OSError):
        if read_record(record, files) != tuple(bad):
            write_record(record, files, bad)


def _judge(
    files: ImageFiles,
    found: Sequence[BadFile],
    record: Path,
    *,
    unique: bool,
    count: int | None,
    skip_bad: bool,
    say: Say,
) -> int:
    """How many of the images in use cannot be read. BadFilesError for them, unless `skip_bad`, which says how many are
    left out."""
    bad = bad_among([*files.bad, *found], unique=unique, count=count)
    if not bad:
        return 0
    total = len(files) + len(files.bad)
    if not skip_bad:
        raise BadFilesError(report(bad, total, record))
    names = "; ".join(f"{entry.path} {entry.why}" for entry in bad[:3]) + ("; …" if len(bad) > 3 else "")
    say(f"data.skip_bad: {len(bad):,} of {total:,} images in {files.base} are left out: {names}")
    return len(bad)


def _first(files: ImageFiles, unique: bool, count: int | None) -> ImageFiles:
    """The images of the first `count` classes, or the first `count` images."""
    if count is None:
        return files
    images = count if unique else int(np.searchsorted(files.labels, count))
    kept = files.first(images)
    return kept if unique else replace(kept, classes=kept.classes[:count])


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


def _packed_whole(
    reader: FileReader, target: Path, dataset: str, split: str, say: Say, workers: int | None
) -> Manifest:
    before = read_manifest(target)
    manifest = pack(reader, target, dataset=dataset, split=split, say=say, workers=workers)
    if manifest == before and not verify(target, manifest):
        say(f"{target} has not the hash of its manifest and is packed again")
        target.with_suffix(".json").unlink()
        manifest = pack(reader, target, dataset=dataset, split=split, say=say, workers=workers)
    return manifest


def _unpacked(files: ImageFiles, size: int, unique: bool, device: torch.device, say: Say) -> ImageSource:
    """The source of files that are read one by one. BadFilesError for those that cannot be used: all of them where the
    images are held on the device, else those that are known without decoding."""
    reader = FileReader(files, size)
    labels = None if unique else torch.from_numpy(files.labels.astype(np.int64))
    classes = len(files) if unique else len(files.classes)
    if fits(len(files) * 3 * size * size, device):
        say(f"reading {len(files):,} images of {files.base} to {device}")
        return TensorSource(_loaded(reader, device), labels, classes=classes, device=device)
    if files.bad:
        raise BadFilesError(report(files.bad, len(files) + len(files.bad)))
    return StreamedSource(reader, labels, images=len(files), classes=classes, device=device)


def _packed(path: Path, manifest: Manifest, unique: bool, count: int | None, device: torch.device) -> ImageSource:
    """The first `count` classes or images of a packed file: always a prefix, since it is sorted by class."""
    labels = manifest.labels()
    if not unique and count is not None:
        labels = labels[: int(np.searchsorted(labels, count))]
    images = len(labels) if not unique else min(len(labels), count or len(labels))
    classes = images if unique else min(count or len(manifest.classes), len(manifest.classes))
    table = None if unique else torch.from_numpy(labels)
    reader = PackedReader(path, manifest, images)
    if device.type == "cpu" or fits(images * manifest.image_bytes, device):
        # On the CPU the mapped file itself is the tensor: the page cache holds it once for all processes.
        return TensorSource(reader.pixels(), table, classes=classes, device=device)
    return StreamedSource(reader, table, images=images, classes=classes, device=device)


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
