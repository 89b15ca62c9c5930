"""Data sets of image files in class folders, imagenet, cinic10 and folder: packed where it pays, held on the device
where they fit, else streamed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from lsc_engine.common.deferred import Tensor, np, torch
from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.userpaths import user_path
from lsc_engine.data.class_folders import has_loose_images, images_in, listed, read_layout
from lsc_engine.data.dataset import Counts, DataSet, Facts, Place, Report, Selection, built_in_data_sets, data_folder
from lsc_engine.data.datasets.cifar10 import CLASSES
from lsc_engine.data.imagefiles import FileReader, decoder_version
from lsc_engine.data.listing import BadFile, BadFilesError, ImageFiles, Split, bad_file, no_images, report
from lsc_engine.data.pack import LARGEST_AUTOMATIC, Manifest, PackedReader, pack, packed_path, read_manifest, verify
from lsc_engine.data.source import ImageSource, Reader, StreamedSource, TensorSource, fits
from lsc_engine.registry import DATASETS


class ImageFolders(DataSet):
    """Images and classes are counted in the folders where these are found."""

    image_files = True
    named_by_folders = True
    """Whether the names of the classes are those of the folders."""

    def class_names(self, data_dir: Place = None, path: Place = None) -> tuple[str, ...]:
        root = self.locate(data_dir, path) if self.named_by_folders else None
        if root is None:
            return self.facts.class_names
        layout = read_layout(self.facts.name, root, skip_bad=True)
        return tuple(folder.name for folder in layout.classes.values())

    def count(self, chosen: Selection) -> Counts:
        facts, classes, unique = self.facts, chosen.classes, chosen.unique
        looks = chosen.skip_bad or facts.images is None or self.named_by_folders
        root = self.locate(chosen.data_dir, chosen.path) if looks else None
        if chosen.skip_bad and root is not None:
            images, exact, named = Split(facts.name, root, "train", chosen).usable()
            if unique:
                return Counts(images, images, 0, exact)
            val_images, val_exact, _ = Split(facts.name, root, "val", chosen).usable()
            return Counts(images, named, val_images, exact and val_exact)
        if unique:
            used = classes if classes is not None else self._files(root) if facts.images is None else facts.images
            return Counts(used, used, 0)
        k = classes if classes is not None else facts.classes
        if not self.named_by_folders or (facts.images is not None and k == facts.classes):
            return super().count(chosen)
        if root is None:
            if facts.images is None or facts.classes is None or k is None:
                return Counts(None, k, 0, exact=False)
            images, val_images = (whole * k // facts.classes for whole in (facts.images, facts.val_images or 0))
            return Counts(images, k, val_images, exact=False)
        layout = read_layout(facts.name, root)
        val_folders = [layout.val_classes[name] for name in list(layout.classes)[:k] if name in layout.val_classes]
        images_of = self.class_sizes(chosen)
        return Counts(sum(images_of), len(images_of), sum(images_in(val_folders, facts.name)))

    def class_sizes(self, chosen: Selection) -> list[int]:
        root = self.locate(chosen.data_dir, chosen.path)
        if root is None:
            return super().class_sizes(chosen)
        folders = read_layout(self.facts.name, root).classes.values()
        return images_in(list(folders)[: chosen.classes], self.facts.name)

    def _files(self, root: Path | None, *, skip_bad: bool = False) -> int | None:
        if root is None:
            return None
        layout = read_layout(self.facts.name, root, skip_bad=skip_bad)
        return sum(images_in([layout.base, *layout.classes.values()], self.facts.name, skip_bad=skip_bad))

    def available(self, chosen: Selection) -> int | None:
        if self.facts.images is not None:
            return super().available(chosen)
        root = self.locate(path=chosen.path) if chosen.path else None
        if root is None or chosen.unique:
            return self._files(root, skip_bad=chosen.skip_bad)
        return len(read_layout(self.facts.name, root, skip_bad=chosen.skip_bad).classes)

    def no_training_images(self, data_dir: Place, path: Place) -> str:
        """A sentence for a folder that holds no training images."""
        root = self.locate(data_dir, path)
        where = Path(path or "") if root is None else read_layout(self.facts.name, root, skip_bad=True).base
        return f"{self.facts.name}: {no_images(where)}"

    def shortfall(self, chosen: Selection) -> str | None:
        """A sentence where a data set of known size does not have the images of its published files; None where it
        has, or is not found. Folders are counted, so that this is known before any image is read."""
        facts, name = self.facts, self.facts.name
        root = self.locate(chosen.data_dir, chosen.path)
        if root is None or facts.images is None or facts.classes is None:
            return None
        layout = read_layout(name, root)

        def lacking(base: Path, what: str, known: int, found: int, where: str, spare: str) -> str:
            less, more = known - found, found - known
            differ = f"{less:,} of {known:,} {what} are missing" if less > 0 else f"{more:,} more {what} than {known:,}"
            differ = f"1 of {known:,} {what} is missing" if less == 1 else differ
            return f"data.dataset: {name}: {differ} in {base}{where}. Unpack the data set again; or {spare}"

        if chosen.unique:
            needed, found = chosen.classes or facts.images, self._files(root) or 0
            spare = f"data.classes = {found} trains on those that are there"
            return lacking(layout.base, "training images", needed, found, "", spare) if found < needed else None
        k = chosen.classes or facts.classes
        if k != facts.classes and self.named_by_folders:
            return None
        names = list(layout.classes)[:k]
        spare = "data.skip_bad = true trains on those that are there"
        for what, base, folders, known in (
            ("training images", layout.base, layout.classes, facts.of_first(k)[0]),
            ("validation images", layout.val, layout.val_classes, facts.of_first(k)[1]),
        ):
            there = [one for one in names if one in folders]
            counts = images_in([folders[one] for one in there], name)
            if base is None or (sum(counts) == known and len(names) == k):
                continue
            where, each = "", known // k
            if len(there) < k:
                where = f"; {k - len(there)} of {k:,} class folders are missing"
            elif each * k == known and max(counts) <= each:  # where all have equally many it is known which lack some
                few = [f"{n} ({c:,} of {each:,})" for n, c in zip(there, counts, strict=True) if c != each]
                where = "; in " + listed(few)
            return lacking(base, what, known, sum(counts), where, spare)
        return None

    def open(self, chosen: Selection, split: str, device: torch.device, say: Report) -> ImageSource | None:
        facts, skip_bad = self.facts, chosen.skip_bad
        if chosen.unique and split == "val":
            return None
        size = chosen.size or facts.size
        if size is None:
            raise UsageError(f"data.image_size: {facts.name} has images of many sizes; say to which they are brought")
        root = self.locate(chosen.data_dir, chosen.path)
        if root is None and not facts.places:
            raise UsageError(self.missing(chosen.data_dir, chosen.path))
        part = Split(facts.name, root, split, chosen)
        target = _target(part, size)
        manifest = read_manifest(target)
        if root is None:
            if manifest is None:
                raise UsageError(self.missing(chosen.data_dir, chosen.path))
            if manifest.bad and not skip_bad:
                out = f"{len(manifest.bad)} images are left out"
                raise BadFilesError(f"{target}: {out}; allow it with data.skip_bad = true")
            return _packed(target, manifest, part, device)
        packs = manifest is not None or size <= LARGEST_AUTOMATIC
        files = part.files(count=None if packs or skip_bad else chosen.classes, skip_bad=skip_bad)
        if files is None:
            return None
        left_out = 0
        if packs or skip_bad:
            manifest, found = _pack(part, files, size, say) if packs else (None, _look(part, files, say))
            left_out = _leave_out(part, files, found, skip_bad, say)
            files = files.without(found)
            files = files.first(part.in_use(files.labels))
            if not len(files):
                raise UsageError(f"data.dataset: {facts.name}: no image in {files.base} can be read")
        source = (
            _unpacked(files, size, part, device, say) if manifest is None else _packed(target, manifest, part, device)
        )
        # By these it is recognised whether images are those of a run: hashes of names and sizes, and of packed pixels.
        pixels = None if manifest is None else _pixel_hash(target, manifest, source.images)
        decoder = decoder_version() if manifest is None else manifest.library
        source.record = {
            "files": files.content(source.images),
            "pixels": pixels,
            "decoder": decoder,
            "left_out": left_out,
        }
        return source

    def look(self, chosen: Selection, say: Report) -> str | None:
        root, size = self.locate(chosen.data_dir, chosen.path), chosen.size or self.facts.size
        if root is None or size is None:
            return None
        reports = []
        for name in ("train",) if chosen.unique else ("train", "val"):
            part = Split(self.facts.name, root, name, chosen)
            files = part.files(skip_bad=True)
            if files is None:
                continue
            found = _pack(part, files, size, say)[1] if size <= LARGEST_AUTOMATIC else _look(part, files, say)
            if bad := part.bad_in_use(files, found):
                reports.append(report(files, bad, part.record))
        return "\n".join(reports) or None


@DATASETS.register("cinic10")
class Cinic10(ImageFolders):
    """Its classes are those of CIFAR-10, whose images are left out."""

    position = 40
    named_by_folders = False
    facts = Facts(
        *("cinic10", "CINIC-10 without its CIFAR images", 70_000, 70_000, 10, 32, 3),
        places=(("cinic10", "train/airplane"), ("CINIC-10", "train/airplane")),
        how="unpack CINIC-10.tar.gz (github.com/BayesWatch/cinic-10) there, so that train/, valid/ and test/ "
        "lie in it; images named cifar10-* are left out by themselves",
        class_names=CLASSES,
    )


@DATASETS.register("imagenet")
class ImageNet(ImageFolders):
    """ImageNet-1k."""

    position = 50
    facts = Facts(
        *("imagenet", "ImageNet-1k", 1_281_167, 50_000, 1000, None, 3),
        resident=False,
        places=(("imagenet", "train"), ("ILSVRC2012", "train"), ("ILSVRC/Data/CLS-LOC", "train")),
        how="put train/ (and val/ for validation) there, one folder of images per class; "
        "image-net.org gives it after registration",
    )


_HOW = "data.path names a folder with train/ (and val/), or with the class folders themselves, "


@DATASETS.register("folder")
class Folder(ImageFolders):
    """A folder of the user's own."""

    position = 60
    needs_path = True
    other_classes = True
    how = f"{_HOW}one folder of images per class"
    facts = Facts("folder", "a folder of images", None, None, None, None, 3, resident=False, how=how)

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        root = None if path is None else user_path(path)
        return root if root is not None and os.path.isdir(root) else None


def pack_dataset(
    dataset: str, size: int, *, data_dir: Path | None, path: str | None, say: Report, workers: int | None = None
) -> list[tuple[Path, Manifest]]:
    """Pack every split of a data set, or check the hash of what is packed; the packed files with their manifests.

    UsageError for a data set that is not made of image files, or that is missing. BadFilesError, after all the rest is
    packed, for all images that cannot be read.
    """
    known = {name: each for name, each in built_in_data_sets().items() if isinstance(each, ImageFolders)}
    if (chosen := known.get(dataset)) is None:
        raise UsageError(f"pack: {dataset} is not a data set of image files; {did_you_mean(dataset, known)}")
    root = chosen.locate(data_dir, path)
    if root is None:
        raise UsageError(chosen.missing(data_dir, path))
    if (short := chosen.shortfall(Selection(path=path, data_dir=data_dir))) is not None:
        say(f"note: {short}")
    layout = read_layout(dataset, root)
    splits = [Split(dataset, root, name, Selection(data_dir=data_dir)) for name in ("train", "val") if layout.classes]
    if has_loose_images(root):
        splits.append(Split(dataset, root, "train", Selection(unique=True, data_dir=data_dir)))
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
            reports.append(report(files, unusable, split.record))
    if reports:
        raise BadFilesError("\n".join(dict.fromkeys(reports)))
    if not done:
        raise UsageError(no_images(layout.base))
    return done


def _leave_out(split: Split, files: ImageFiles, found: Sequence[BadFile], skip_bad: bool, say: Report) -> int:
    """How many of the images in use cannot be read. BadFilesError for them, unless `skip_bad`, which reports them."""
    bad = split.bad_in_use(files, found)
    if bad and not skip_bad:
        raise BadFilesError(report(files, bad, split.record))
    if bad:
        total = len(files) + len(files.bad)
        names = "; ".join(f"{entry.path} {entry.why}" for entry in bad[:3]) + ("; …" if len(bad) > 3 else "")
        say(f"data.skip_bad: {len(bad):,} of {total:,} images in {files.base} are left out: {names}")
    return len(bad)


def _target(split: Split, size: int) -> Path:
    return packed_path(data_folder(split.chosen.data_dir), split.dataset, split.stored, size, split.root)


def _pack(
    split: Split, files: ImageFiles, size: int, say: Report, workers: int | None = None
) -> tuple[Manifest, list[BadFile]]:
    """Pack `files`, unless that is done, and keep which cannot be read."""
    reader, target = FileReader(files, size), _target(split, size)
    manifest = pack(reader, target, dataset=split.dataset, split=split.stored, say=say, workers=workers)
    bad = [bad_file(files, number, why) for number, why in manifest.bad]
    split.keep_bad(files, bad)
    return manifest, bad


def _look(split: Split, files: ImageFiles, say: Report) -> Sequence[BadFile]:
    """The images of `files` that cannot be read: known already, or by decoding all of them."""
    from lsc_engine.data.stream import read_all

    if (known := split.known_bad(files)) is not None:
        return known
    say(f"looking at {len(files):,} images of {files.base} for any that cannot be read")
    found = [each for _, _, bad in read_all(FileReader(files, 16), say, "looked at") for each in bad]
    bad = [bad_file(files, *each) for each in found]
    split.keep_bad(files, bad)
    return bad


def _pixel_hash(path: Path, manifest: Manifest, images: int) -> str:
    if images == manifest.images:
        return manifest.sha256
    return hashlib.sha256(PackedReader(path, manifest, images).pixels.numpy().data).hexdigest()


def _unpacked(files: ImageFiles, size: int, split: Split, device: torch.device, say: Report) -> ImageSource:
    """The source of files that are read one by one. BadFilesError for those that cannot be used: all of them where the
    images are held on the device, else those that are known without decoding."""
    from lsc_engine.data.stream import read_all

    reader, bad, pixels = FileReader(files, size), list(files.bad), None
    if fits(len(files) * 3 * size * size, device):
        say(f"reading {len(files):,} images of {files.base} to {device}")
        pixels = torch.empty((len(files), 3, size, size), dtype=torch.uint8, device=device)
        for index, images, found in read_all(reader, say, "read"):
            bad += [bad_file(files, *each) for each in found]
            if not found:
                pixels[index[0] : index[-1] + 1].copy_(images)
    if bad:
        raise BadFilesError(report(files, sorted(bad)))
    return _source(reader, pixels, files.labels.astype(np.int64), files.classes, split, device)


def _packed(path: Path, manifest: Manifest, split: Split, device: torch.device) -> ImageSource:
    """The classes or images in use of a packed file: always a prefix, since it is sorted by class."""
    labels, names = manifest.labels(), [name for name, _ in manifest.classes]
    labels = labels[: split.in_use(labels)]
    reader = PackedReader(path, manifest, len(labels))
    # On the CPU the mapped file itself is the tensor: the page cache holds it once for all processes.
    held = device.type == "cpu" or fits(len(labels) * manifest.image_bytes, device)
    return _source(reader, reader.pixels if held else None, labels, names, split, device)


def _source(
    reader: Reader, pixels: Tensor | None, labels: np.ndarray, names: Sequence[str], split: Split, device: torch.device
) -> ImageSource:
    """Images that lie on the device as `pixels`, else are read by `reader`."""
    table = None if split.chosen.unique else torch.from_numpy(labels)
    classes = len(labels) if split.chosen.unique else min(split.chosen.classes or len(names), len(names))
    source: ImageSource
    if pixels is not None:
        source = TensorSource(pixels, table, classes=classes, device=device)
    else:
        source = StreamedSource(reader, table, images=len(labels), classes=classes, device=device)
    source.class_names = () if split.chosen.unique else tuple(names[:classes])
    return source
