"""Packing a data set of image files into one memory-mapped uint8 file, resumable and hashed.

    DATA/packed/imagenet-train-32px.u8     images one after another, each [3, 32, 32]
    DATA/packed/imagenet-train-32px.json   manifest with classes, counts and sha256, written last

A copy is compared with its files whenever it is opened, and made anew if any of them has changed. Images that cannot be
read are named in the manifest. Until it is whole it is called .u8.part, with a manifest of the images safely on disk in
.part.json; after a kill it goes on there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lsc_engine.common.deferred import Tensor, np, torch
from lsc_engine.common.errors import LscError
from lsc_engine.common.safe_io import replace_json
from lsc_engine.data.imagefiles import DECODER, FileReader, decoder_version
from lsc_engine.data.listing import ImageFiles, data_name

FORMAT = 2
# Manifests of version 1 do not say which files they were made from: they serve where the files are not there.
_READABLE = (1, FORMAT)
# Image sizes for which training packs by itself.
LARGEST_AUTOMATIC = 64
SYNC_BYTES = 32 * 2**20
_PART, _PART_RECORD = ".u8.part", ".part.json"
# Files with the same size and time but a later change of their entry (chmod, a copy that keeps times): how many
# of them are decoded and compared with the packed images, and the mean difference in grey levels that is allowed.
_COMPARED, _SAME = 256, 1.0


@dataclass(frozen=True)
class Manifest:
    """What a packed file holds.

    `classes`: (name, images) in label order; `listing`: hash of the names, sizes and times of all files; `bad`: (number
    in the listing, why) of the files left out; `changed`: the latest change of a file's entry, in nanoseconds;
    `decoder`, `library`: what decoded them.
    """

    dataset: str
    split: str
    size: int
    channels: int
    images: int
    classes: tuple[tuple[str, int], ...]
    listing: str
    sha256: str
    format: int = FORMAT
    bad: tuple[tuple[int, str], ...] = ()
    changed: int = 0
    decoder: int = 1
    library: str = ""

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return self.channels * self.size * self.size

    def labels(self) -> np.ndarray:
        """int64 [images], the class of each image."""
        counts = [count for _, count in self.classes]
        return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def packed_path(data_dir: Path, dataset: str, split: str, size: int, root: Path | None = None) -> Path:
    """Where the packed file of a split lies. The hash of its `root` names a `folder` data set."""
    return data_dir / "packed" / f"{data_name(dataset, root)}-{split}-{size}px.u8"


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of the packed file `path`, or None where it is missing, of another format or of another length."""
    found = _read(path.with_suffix(".json"))
    with contextlib.suppress(OSError):
        if found is not None and path.stat().st_size == found.images * found.image_bytes:
            return found if sum(count for _, count in found.classes) == found.images else None
    return None


def _read(path: Path) -> Manifest | None:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields["classes"] = tuple((str(name), int(count)) for name, count in fields["classes"])
        fields["bad"] = tuple((int(number), str(why)) for number, why in fields.get("bad", ()))
        found = Manifest(**fields)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if found.format in _READABLE else None


class PackedReader:
    """Reads the first `images` images, or all, out of a packed file.

    `pixels` uint8 [images, C, S, S] is mapped, not read: it stays what it is when the file is packed anew.
    """

    def __init__(self, path: Path, manifest: Manifest, images: int | None = None) -> None:
        self.channels, self.size = manifest.channels, manifest.size
        shape = (manifest.images if images is None else images, self.channels, self.size, self.size)
        # Mode "c" never writes to the file and spares torch's warning about read-only arrays.
        self.pixels: Tensor = torch.from_numpy(np.memmap(path, dtype=np.uint8, mode="c", shape=shape))

    def read(self, index: Tensor) -> Tensor:
        """int64 [B] -> uint8 [B, C, S, S]."""
        return self.pixels.index_select(0, index)


def pack(
    reader: FileReader,
    path: Path,
    *,
    dataset: str,
    split: str,
    say: Callable[[str], None],
    workers: int | None = None,
) -> Manifest:
    """Write every image of `reader` that can be read to `path` and return the manifest; at once where the packed file
    matches its files.

    Two processes that pack the same wait for each other. LscError where the disk is too small.
    """
    files = reader.files
    shape = (dataset, split, reader.size, reader.channels, len(files), _counted(files), files.listing, "")
    changed = int(files.stamps[:, 2].max(initial=0))
    wanted = Manifest(*shape, changed=changed, decoder=DECODER, library=decoder_version())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, say):
            if (found := read_manifest(path)) is not None:
                if (why := _outdated(found, wanted, reader, path)) is None:
                    if wanted.changed > found.changed:
                        found = replace(found, changed=wanted.changed)
                        with contextlib.suppress(OSError):
                            replace_json(path.with_suffix(".json"), asdict(found))
                    return found
                say(f"{path} is made anew: {why}")
            return _write(reader, path, wanted, say, workers)
    except OSError as error:
        forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
        # A data folder that only others may write, with a copy that needs no writing.
        found = read_manifest(path) if forbidden else None
        if found is not None and _outdated(found, wanted, reader, path) is None:
            return found
        then = "name another data folder with --data-dir or $LSC_DATA" if forbidden else "repeat it to go on"
        raise LscError(f"packing into {path} stopped: {error.strerror or error}; {then}") from error


def verify(path: Path, manifest: Manifest) -> bool:
    """Whether the packed file still has the manifest's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == manifest.sha256


def _counted(files: ImageFiles) -> tuple[tuple[str, int], ...]:
    counts = np.bincount(files.labels, minlength=len(files.classes)).tolist()
    return tuple(zip(files.classes, counts, strict=True))


def _outdated(found: Manifest, wanted: Manifest, reader: FileReader, path: Path) -> str | None:
    """Why a packed copy cannot stand for its files; None if it can."""
    if found.decoder != DECODER:
        return "it is of an earlier version, which read some kinds of images otherwise"
    if found.listing != wanted.listing:
        return "images have changed"
    same = wanted.changed <= found.changed or _same_pixels(found, reader, path)
    return None if same else "files were changed after it was made"


def _same_pixels(found: Manifest, reader: FileReader, path: Path) -> bool:
    """Whether files of the same names, sizes and times, whose entries changed later, look as they were packed: rights
    may have changed, or they were copied. Some of them are decoded."""
    later, bad = reader.files.stamps[:, 2] > found.changed, [number for number, _ in found.bad]
    later[bad] = False
    numbers = np.nonzero(later)[0]
    some = numbers[np.linspace(0, len(numbers) - 1, min(_COMPARED, len(numbers))).astype(np.int64)]
    packed = PackedReader(path, found).read(torch.from_numpy(some - np.searchsorted(np.sort(bad), some)))
    own, unreadable = reader.read_usable(torch.from_numpy(some))
    if unreadable:
        return False
    return bool(((own.int() - packed.int()).abs().float().mean((1, 2, 3)) <= _SAME).all())


def _begun(path: Path, wanted: Manifest) -> Manifest:
    """What an interrupted attempt has left that can be used."""
    part, record, nothing = path.with_suffix(_PART), path.with_suffix(_PART_RECORD), replace(wanted, images=0)
    found = _read(record)
    if found is None or replace(found, images=wanted.images, bad=()) != wanted:
        return nothing
    # Killed between the last rename and the manifest: the data is whole under its final name.
    if not part.exists() and path.exists() and not path.with_suffix(".json").exists():
        os.replace(path, part)
    return found if part.exists() and part.stat().st_size >= found.images * found.image_bytes else nothing


def _write(
    reader: FileReader, path: Path, wanted: Manifest, say: Callable[[str], None], workers: int | None
) -> Manifest:
    """Write the data file, of which a part may be there, then the manifest."""
    from lsc_engine.data.stream import read_all

    part, record, total = path.with_suffix(_PART), path.with_suffix(_PART_RECORD), len(reader.files)
    now = _begun(path, wanted)
    start, pending = now.images + len(now.bad), 0
    need, free = (total - start) * now.image_bytes, shutil.disk_usage(path.parent).free
    if free < need:
        little = f"{path.parent} has {free / 2**30:.1f} GB free and packing needs {need / 2**30:.1f} GB more"
        raise LscError(f"{little}; name another data folder with --data-dir or $LSC_DATA")
    say(f"packing {total - start:,} of {total:,} images of {now.dataset}/{now.split} into {path}")
    with part.open("r+b" if start else "w+b") as file:
        file.truncate(now.images * now.image_bytes)
        digest = hashlib.file_digest(file, "sha256")
        for index, images, bad in read_all(reader, say, "packed", start=start, workers=workers):
            content = images.numpy().tobytes()
            file.write(content)
            digest.update(content)
            now = replace(now, images=now.images + len(images), bad=(*now.bad, *bad))
            pending += len(content)
            if pending >= SYNC_BYTES or index[-1] == total - 1:
                file.flush()
                os.fsync(file.fileno())
                replace_json(record, asdict(now))
                pending = 0
    good = np.ones(total, dtype=bool)
    good[[number for number, _ in now.bad]] = False
    manifest = replace(now, classes=_counted(reader.files.chosen(good)), sha256=digest.hexdigest())
    # The old manifest goes before the old data, so that it never stands beside the new.
    path.with_suffix(".json").unlink(missing_ok=True)
    os.replace(part, path)
    replace_json(path.with_suffix(".json"), asdict(manifest))
    record.unlink(missing_ok=True)
    return manifest


@contextmanager
def _alone(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that is packing {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
