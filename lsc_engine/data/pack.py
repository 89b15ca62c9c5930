"""Packing a data set of image files into one memory-mapped uint8 file, resumable and hashed.

    DATA/packed/imagenet-train-32px.u8          images one after another, each [3, 32, 32]
    DATA/packed/imagenet-train-32px.files.npz   names, sizes and times of change of the files that it was made from
    DATA/packed/imagenet-train-32px.json        manifest with classes, counts and sha256, written last

A copy is compared with its files whenever it is opened, and made anew where they differ, with the images of files that
did not change out of the old copy. Images that cannot be read are named in the manifest. Until it is whole it is called
.u8.part, with the number of images safely on disk in .part.json; after a kill it goes on there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from lsc_engine.common.deferred import Tensor, np, torch
from lsc_engine.common.errors import LscError
from lsc_engine.common.safe_io import replace_file, replace_json
from lsc_engine.data.imagefiles import DECODER, BadImageError, FileReader, decoder_version
from lsc_engine.data.listing import ImageFiles, data_name

FORMAT = 2
# Manifests of version 1 do not say which files they were made from: they serve where the files are not there.
_READABLE = (1, FORMAT)
# Image sizes for which training packs by itself.
LARGEST_AUTOMATIC = 64
SYNC_BYTES = 32 * 2**20
_PART, _PART_RECORD, _FILES = ".u8.part", ".part.json", ".files.npz"
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
    bad: tuple[tuple[int, str], ...] = field(default=())
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
    try:
        fields: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        fields["classes"] = tuple((str(name), int(count)) for name, count in fields["classes"])
        fields["bad"] = tuple((int(number), str(why)) for number, why in fields.get("bad", ()))
        manifest = Manifest(**fields)
        whole = manifest.format in _READABLE and path.stat().st_size == manifest.images * manifest.image_bytes
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return manifest if whole and sum(count for _, count in manifest.classes) == manifest.images else None


class PackedReader:
    """Reads images out of a packed file; opens it on first use, so that it can be sent to workers."""

    def __init__(self, path: Path, manifest: Manifest, images: int | None = None) -> None:
        self.path = path
        self.images = manifest.images if images is None else images
        self.channels = manifest.channels
        self.size = manifest.size
        self._file = _identity(path)
        self._pixels: Tensor | None = None

    def pixels(self) -> Tensor:
        """uint8 [images, C, S, S], mapped, not read. LscError where the file was replaced since this was made."""
        if self._pixels is None:
            shape = (self.images, self.channels, self.size, self.size)
            # Mode "c" never writes to the file and spares torch's warning about read-only arrays.
            mapped = torch.from_numpy(np.memmap(self.path, dtype=np.uint8, mode="c", shape=shape))
            if _identity(self.path) != self._file:
                raise LscError(f"{self.path} was packed anew while it was in use; resume to go on with it")
            self._pixels = mapped
        return self._pixels

    def read(self, index: Tensor) -> Tensor:
        """int64 [B] -> uint8 [B, C, S, S]."""
        return self.pixels().index_select(0, index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}


def pack(
    reader: FileReader,
    path: Path,
    *,
    dataset: str,
    split: str,
    say: Callable[[str], None],
    workers: int | None = None,
    sync_bytes: int = SYNC_BYTES,
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
            found, old = read_manifest(path), None
            if found is not None:
                if (same := _matching(found, wanted, reader, path)) is not None:
                    if same != found:
                        with contextlib.suppress(OSError):
                            replace_json(path.with_suffix(".json"), asdict(same))
                    return same
                old = _Old.read(path, found)
                say(f"{path} is made anew: {_why(found, old, files)}")
            return _write(reader, path, wanted, old, say, workers, sync_bytes)
    except OSError as error:
        forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
        # A data folder that only others may write, with a copy that needs no writing.
        found = read_manifest(path) if forbidden else None
        if found is not None and (same := _matching(found, wanted, reader, path)) is not None:
            return same
        then = "name another data folder with --data-dir or $LSC_DATA" if forbidden else "repeat it to go on"
        raise LscError(f"packing into {path} stopped: {error.strerror or error}; {then}") from error


def verify(path: Path, manifest: Manifest) -> bool:
    """Whether the packed file still has the manifest's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == manifest.sha256


def _identity(path: Path) -> tuple[int, int, int]:
    entry = path.stat()
    return entry.st_ino, entry.st_size, entry.st_mtime_ns


def _counted(files: ImageFiles) -> tuple[tuple[str, int], ...]:
    counts = np.bincount(files.labels, minlength=len(files.classes)).tolist()
    return tuple(zip(files.classes, counts, strict=True))


def _matching(found: Manifest, wanted: Manifest, reader: FileReader, path: Path) -> Manifest | None:
    if found.listing != wanted.listing or found.decoder != DECODER:
        return None
    if wanted.changed <= found.changed:
        return found
    # Same names, sizes and times, but entries changed later: by chmod or a copy that keeps times, or the content too.
    files = reader.files
    out = {number for number, _ in found.bad}
    later = np.nonzero(files.stamps[:, 2] > found.changed)[0]
    later = later[[number not in out for number in later.tolist()]]
    some = later[np.linspace(0, len(later) - 1, min(_COMPARED, len(later))).astype(np.int64)]
    rows = some - np.searchsorted(np.array(sorted(out), dtype=np.int64), some)
    packed = PackedReader(path, found).read(torch.from_numpy(rows))
    for image, number in zip(packed, some.tolist(), strict=True):
        try:
            own = reader.read(torch.tensor([number]))[0]
        except BadImageError:
            return None
        if (own.int() - image.int()).abs().float().mean().item() > _SAME:
            return None
    return replace(found, changed=wanted.changed)


class _Old(NamedTuple):
    """A packed copy that does not match its files any more: which of its images still can be used. `rows`: name of a
    file -> its row, size and time."""

    pixels: np.ndarray
    rows: dict[bytes, tuple[int, int, int]]
    changed: int

    @classmethod
    def read(cls, path: Path, manifest: Manifest) -> _Old | None:
        """None where it is not known which files a copy was made from, or others images were made of them."""
        if manifest.decoder != DECODER or not manifest.images:
            return None
        try:
            with path.with_suffix(_FILES).open("rb") as file, np.load(file, allow_pickle=False) as table:
                if str(table["listing"]) != manifest.listing:
                    return None
                names, ends = table["names"].tobytes(), table["ends"].tolist()
                stamps = zip(table["sizes"].tolist(), table["times"].tolist(), strict=True)
        except Exception:  # a damaged file raises errors of many kinds
            return None
        places = zip([0, *ends[:-1]], ends, stamps, strict=True)
        rows = {names[start:end]: (row, *stamp) for row, (start, end, stamp) in enumerate(places)}
        shape = (manifest.images, manifest.channels, manifest.size, manifest.size)
        pixels = np.memmap(path, dtype=np.uint8, mode="r", shape=shape)
        return cls(pixels, rows, manifest.changed) if len(rows) == manifest.images else None

    def row(self, files: ImageFiles, number: int) -> int:
        """The row that holds image `number` of `files`, -1 where the file is new or was changed."""
        row, *own = self.rows.get(bytes(files.names[number]), (-1, 0, 0))
        *stamps, changed = files.stamps[number].tolist()
        return row if own == stamps and changed <= self.changed else -1


def _why(found: Manifest, old: _Old | None, files: ImageFiles) -> str:
    if found.decoder != DECODER:
        return "it is of an earlier version, which read some kinds of images otherwise"
    if old is None:
        return "its files have changed"
    names = set(files.names.tolist())
    new, gone = len(names - old.rows.keys()), len(old.rows.keys() - names)
    changed = sum(old.row(files, number) < 0 for number in range(len(files))) - new
    counts = {"changed": changed, "new": new, "removed": gone}
    words = [f"{count:,} {what}" for what, count in counts.items() if count > 0]
    return f"images have changed ({', '.join(words) or 'their order'})"


def _images_on_disk(path: Path, wanted: Manifest) -> tuple[int, int, list[tuple[int, str]]]:
    """What an interrupted attempt has left that can be used: images, files looked at, and the bad ones of these."""
    part, nothing = path.with_suffix(_PART), (0, 0, list[tuple[int, str]]())
    try:
        record = json.loads(path.with_suffix(_PART_RECORD).read_text(encoding="utf-8"))
        if record["listing"] != wanted.listing or record["decoder"] != DECODER:
            return nothing
        # Killed between the last rename and the manifest: the data is whole under its final name.
        if not part.exists() and not path.with_suffix(".json").exists():
            os.replace(path, part)
        bad = [(int(number), str(why)) for number, why in record["bad"]]
        images, looked = int(record["images"]), int(record["looked"])
        whole = images + len(bad) == looked <= wanted.images
        return (images, looked, bad) if whole and part.stat().st_size >= images * wanted.image_bytes else nothing
    except (OSError, ValueError, TypeError, KeyError):
        return nothing


def _images(
    reader: FileReader, wanted: Manifest, old: _Old | None, looked: int, workers: int | None
) -> Iterator[tuple[int, np.ndarray, list[tuple[int, str]]]]:
    """(files looked at so far, uint8 [G, C, S, S], (number, why) of bad files) beyond `looked`, a block at a time; from
    the old copy where it has them."""
    from lsc_engine.data.stream import block_of, read_all

    files, step = reader.files, block_of(wanted.image_bytes, workers)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(looked, len(files), step):
            numbers = np.arange(start, min(start + step, len(files)))
            rows = [-1 if old is None else old.row(files, number) for number in numbers.tolist()]
            yield numbers, np.array(rows, dtype=np.int64)

    # Decoding runs ahead of writing, in the same order.
    requests = (torch.from_numpy(n[r < 0]) for n, r in blocks() if (r < 0).any())
    decoded = read_all(reader.read_usable, requests, wanted.image_bytes, len(files) - looked, workers=workers)
    shape = (wanted.channels, wanted.size, wanted.size)
    for numbers, rows in blocks():
        fresh, bad = next(decoded) if (rows < 0).any() else (torch.empty((0, *shape), dtype=torch.uint8), [])
        good = ~np.isin(numbers, [number for number, _ in bad])
        pixels = np.empty((len(numbers), *shape), dtype=np.uint8)
        pixels[(rows < 0) & good] = fresh.numpy()
        if old is not None and (rows >= 0).any():
            pixels[rows >= 0] = old.pixels[rows[rows >= 0]]
        yield int(numbers[-1]) + 1, pixels[good], bad


def _write(
    reader: FileReader,
    path: Path,
    wanted: Manifest,
    old: _Old | None,
    say: Callable[[str], None],
    workers: int | None,
    sync_bytes: int,
) -> Manifest:
    """Write the data file, of which a part may be there, then what it was made from, then the manifest."""
    files, part = reader.files, path.with_suffix(_PART)
    total, (done, start, bad) = len(files), _images_on_disk(path, wanted)
    need, free = (wanted.images - done) * wanted.image_bytes, shutil.disk_usage(path.parent).free
    if free < need:
        little = f"{path.parent} has {free / 2**30:.1f} GB free and packing needs {need / 2**30:.1f} GB more"
        raise LscError(f"{little}; name another data folder with --data-dir or $LSC_DATA")
    say(f"packing {total - start:,} of {total:,} images of {wanted.dataset}/{wanted.split} into {path}")
    with part.open("r+b" if done else "wb") as file:
        file.truncate(done * wanted.image_bytes)
        digest = hashlib.sha256()
        while content := file.read(2**23) if done else b"":
            digest.update(content)
        pending, reported = 0, start
        for looked, images, found in _images(reader, wanted, old, start, workers):
            content = images.tobytes()
            file.write(content)
            digest.update(content)
            bad += found
            done, pending = done + len(images), pending + len(content)
            if pending >= sync_bytes or looked == total:
                file.flush()
                os.fsync(file.fileno())
                record = {"listing": wanted.listing, "decoder": DECODER, "images": done, "looked": looked, "bad": bad}
                replace_json(path.with_suffix(_PART_RECORD), record)
                pending = 0
            if looked - reported >= total / 20:
                say(f"packed {looked:,} of {total:,}")
                reported = looked
    good = np.ones(total, dtype=bool)
    good[[number for number, _ in bad]] = False
    used = files.chosen(good)
    manifest = replace(wanted, images=done, classes=_counted(used), bad=tuple(bad), sha256=digest.hexdigest())
    # The old manifest goes before the old data, so that it never stands beside the new.
    path.with_suffix(".json").unlink(missing_ok=True)
    os.replace(part, path)
    names, table = used.names.tolist(), io.BytesIO()
    columns: Any = {"names": np.frombuffer(b"".join(names), dtype=np.uint8), "ends": np.cumsum([*map(len, names)])}
    np.savez(table, listing=wanted.listing, **columns, sizes=used.stamps[:, 0], times=used.stamps[:, 1])
    replace_file(path.with_suffix(_FILES), table.getvalue())
    replace_json(path.with_suffix(".json"), asdict(manifest))
    path.with_suffix(_PART_RECORD).unlink(missing_ok=True)
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
