"""Data sets of image files in class folders: imagenet, cinic10 and folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lsc_engine.common.userpaths import user_path
from lsc_engine.data.class_folders import images_in, listed, read_layout
from lsc_engine.data.dataset import Counts, DataSet, Facts, Place, Report, Selection
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

    def count(self, chosen: Selection) -> Counts:
        facts, classes, unique = self.facts, chosen.classes, chosen.unique
        looks = chosen.skip_bad or facts.images is None or self.named_by_folders
        root = self.locate(chosen.data_dir, chosen.path) if looks else None
        if chosen.skip_bad and root is not None:
            train = Split(facts.name, root, "train", unique, chosen.data_dir, classes).usable()
            assert train is not None
            images, exact, named = train
            if unique:
                images = images if classes is None else min(images, classes)
                return Counts(images, images, 0, exact)
            val = Split(facts.name, root, "val", unique, chosen.data_dir, classes).usable() or (0, True, 0)
            return Counts(images, named, val[0], exact and val[1])
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
        names = list(layout.classes)[:k]
        val_folders = [layout.val_classes[name] for name in names if name in layout.val_classes]
        images_of = images_in([layout.classes[name] for name in names], facts.name)
        return Counts(sum(images_of), len(names), sum(images_in(val_folders, facts.name)))

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

    def open(self, chosen: Selection, split: str, device: torch.device, report: Report) -> ImageSource | None:
        from lsc_engine.data.folders import open_folder

        return open_folder(self, chosen, split, device, report)


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
