"""Data sets of image files in class folders: imagenet, cinic10 and folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lsc_engine.common.userpaths import user_path
from lsc_engine.data.class_folders import images_in, listed, read_layout
from lsc_engine.data.dataset import Counts, DataSet, DataSettings, Facts, Place, Report
from lsc_engine.data.datasets.cifar10 import CLASSES
from lsc_engine.data.listing import Split, no_images
from lsc_engine.registry import DATASETS

if TYPE_CHECKING:
    import torch

    from lsc_engine.data.source import ImageSource


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

    def count(
        self, labels: str, classes: int | None, *, data_dir: Place = None, path: Place = None, skip_bad: bool = False
    ) -> Counts:
        facts = self.facts
        root = self.locate(data_dir, path) if skip_bad or facts.images is None or self.named_by_folders else None
        if skip_bad and root is not None:
            return self._count_usable(labels, classes, root, data_dir)
        if labels == "unique":
            total = facts.images if facts.images is not None else self._files(root)
            used = total if classes is None else classes
            return Counts(used, used, 0)
        if not self.named_by_folders:
            return super().count(labels, classes)
        k = classes if classes is not None else facts.classes
        if facts.images is not None and k == facts.classes:
            return Counts(facts.images, k, facts.val_images or 0)
        if root is None:
            if facts.images is None or facts.classes is None or k is None:
                return Counts(None, k, 0, exact=False)
            images, val_images = (whole * k // facts.classes for whole in (facts.images, facts.val_images or 0))
            return Counts(images, k, val_images, exact=False)
        layout = read_layout(facts.name, root)
        names = list(layout.classes)[:k]
        val = [layout.val_classes[name] for name in names if name in layout.val_classes]
        images_of = images_in([layout.classes[name] for name in names], facts.name)
        return Counts(sum(images_of), len(names), sum(images_in(val, facts.name)))

    def class_sizes(self, classes: int, *, data_dir: Place = None, path: Place = None) -> list[int]:
        root = self.locate(data_dir, path)
        if root is None:
            return super().class_sizes(classes, data_dir=data_dir, path=path)
        return images_in(list(read_layout(self.facts.name, root).classes.values())[:classes], self.facts.name)

    def _count_usable(self, labels: str, classes: int | None, root: Path, data_dir: Place) -> Counts:
        """Counts without the images that cannot be read."""
        unique = labels == "unique"
        train = Split(self.facts.name, root, "train", unique, data_dir, classes).usable()
        assert train is not None
        images, exact, names = train
        if unique:
            kept = images if classes is None else min(images, classes)
            return Counts(kept, kept, 0, exact)
        val = Split(self.facts.name, root, "val", unique, data_dir, classes).usable()
        return Counts(images, names, 0 if val is None else val[0], exact and (val is None or val[1]))

    def _files(self, root: Path | None, *, skip_bad: bool = False) -> int | None:
        if root is None:
            return None
        layout = read_layout(self.facts.name, root, skip_bad=skip_bad)
        return sum(images_in([layout.base, *layout.classes.values()], self.facts.name, skip_bad=skip_bad))

    def available(self, labels: str, *, path: Place = None, skip_bad: bool = False) -> int | None:
        facts = self.facts
        if facts.images is not None:
            return facts.images if labels == "unique" else facts.classes
        root = self.locate(path=path) if path else None
        if root is None:
            return None
        if labels == "unique":
            return self._files(root, skip_bad=skip_bad)
        return len(read_layout(facts.name, root, skip_bad=skip_bad).classes)

    def no_training_images(self, data_dir: Place, path: Place) -> str:
        """A sentence for a folder that holds no training images."""
        root = self.locate(data_dir, path)
        where = Path(path or "") if root is None else read_layout(self.facts.name, root, skip_bad=True).base
        return f"{self.facts.name}: {no_images(where)}"

    def shortfall(self, labels: str, classes: int | None, *, data_dir: Place = None, path: Place = None) -> str | None:
        """A sentence where a data set of known size does not have the images of its published files; None where it
        has, or is not found. Folders are counted, so that this is known before any image is read."""
        facts = self.facts
        root = self.locate(data_dir, path)
        if root is None or facts.images is None or facts.classes is None:
            return None
        layout = read_layout(facts.name, root)
        if labels == "unique":
            needed, found = classes or facts.images, self._files(root) or 0
            if found >= needed:
                return None
            spare = f"data.classes = {found} trains on those that are there"
            return self._lacking(layout.base, "training images", needed, found, "", spare)
        if classes not in (None, facts.classes) and self.named_by_folders:
            return None
        k = classes or facts.classes
        for what, base, folders, known in (
            ("training images", layout.base, layout.classes, facts.of_first(k)[0]),
            ("validation images", layout.val, layout.val_classes, facts.of_first(k)[1]),
        ):
            if base is not None and (
                fault := self._split_shortfall(what, base, list(layout.classes)[:k], folders, known, k)
            ):
                return fault
        return None

    def _split_shortfall(
        self, what: str, base: Path, names: list[str], folders: Mapping[str, Path], known: int, classes: int
    ) -> str | None:
        there = [name for name in names if name in folders]
        counts = images_in([folders[name] for name in there], self.facts.name)
        if sum(counts) == known and len(names) == classes:
            return None
        where, each = "", known // classes
        if len(there) < classes:
            where = f"; {classes - len(there)} of {classes:,} class folders are missing"
        elif each * classes == known and max(counts) <= each:  # where all have equally many it is known which lack some
            few = [f"{n} ({c:,} of {each:,})" for n, c in zip(there, counts, strict=True) if c != each]
            where = "; in " + listed(few)
        spare = "data.skip_bad = true trains on those that are there"
        return self._lacking(base, what, known, sum(counts), where, spare)

    def _lacking(self, base: Path, what: str, known: int, found: int, where: str, spare: str) -> str:
        less, more = known - found, found - known
        if less == 1:
            differ = f"1 of {known:,} {what} is missing"
        else:
            differ = f"{less:,} of {known:,} {what} are missing" if less > 0 else f"{more:,} more {what} than {known:,}"
        name = self.facts.name
        return f"data.dataset: {name}: {differ} in {base}{where}. Unpack the data set again; or {spare}"

    def open(
        self, data: DataSettings, split: str, data_dir: Path | None, device: torch.device, report: Report
    ) -> ImageSource | None:
        from lsc_engine.data.folders import open_folder

        return open_folder(self, data, split, data_dir, device, report)


@DATASETS.register("cinic10")
class Cinic10(ImageFolders):
    """Its classes are those of CIFAR-10, whose images are left out."""

    position = 40
    named_by_folders = False
    facts = Facts(
        "cinic10",
        "CINIC-10 without its CIFAR images",
        images=70_000,
        val_images=70_000,
        classes=10,
        size=32,
        channels=3,
        resident=True,
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
        "imagenet",
        "ImageNet-1k",
        images=1_281_167,
        val_images=50_000,
        classes=1000,
        size=None,
        channels=3,
        resident=False,
        places=(("imagenet", "train"), ("ILSVRC2012", "train"), ("ILSVRC/Data/CLS-LOC", "train")),
        how="put train/ (and val/ for validation) there, one folder of images per class; "
        "image-net.org gives it after registration",
    )


@DATASETS.register("folder")
class Folder(ImageFolders):
    """A folder of the user's own."""

    position = 60
    other_classes = True
    facts = Facts(
        "folder",
        "a folder of images",
        images=None,
        val_images=None,
        classes=None,
        size=None,
        channels=3,
        resident=False,
        how="data.path names a folder with train/ (and val/), or with the class folders themselves, "
        "one folder of images per class",
    )

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        root = None if path is None else user_path(path)
        return root if root is not None and os.path.isdir(root) else None
