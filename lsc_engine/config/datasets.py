"""What is known of each data set without loading an image: sizes, where it is looked for, how to get it.

Image counts are those of the training split; "class" labels use the first k classes, "unique" labels the first k
training images, in index order. Sources: arXiv:2510.04090 Table 2, with CIFAR-10's real split of 50 000 and
CINIC-10 without the CIFAR images (70 000 a split).
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from lsc_engine import registry
from lsc_engine.config.folders import images_in, listed, read_layout, unreadable
from lsc_engine.config.listing import bad_among, list_files, no_images, read_record, record_path, stored_split
from lsc_engine.errors import UsageError
from lsc_engine.userpaths import home, user_path

# Digits by class: every 6th image validates.
DIGITS_HELD_OUT = 6
SPECTRUM_TRAIN, SPECTRUM_VAL = 100, 20


@dataclass(frozen=True)
class Facts:
    """One data set. `images`, `val_images`, `classes` and `size` are None where the user's files or preset say."""

    name: str
    title: str
    images: int | None
    val_images: int | None
    classes: int | None
    size: int | None
    channels: int
    # Whether the images lie on the device as uint8 unless asked otherwise.
    resident: bool
    # Folders tried below the data folder, each with the file or folder that shows it is the right one.
    places: tuple[tuple[str, str], ...] = ()
    system_places: tuple[tuple[str, str], ...] = ()
    how: str = ""
    # Training and validation images of each class, where classes differ in size: the first k of several have these.
    class_images: tuple[int, ...] = ()
    class_val_images: tuple[int, ...] = ()
    # Names of the classes in the order of their labels, where they are known and no folders give them.
    class_names: tuple[str, ...] = ()

    def of_first(self, k: int | None) -> tuple[int, int]:
        """Training and validation images of the first `k` classes: equal parts, unless each class has its own."""

        def part(whole: int | None, each: tuple[int, ...]) -> int:
            if each:
                return sum(each[:k])
            images, classes = whole or 0, self.classes or 1
            return images if k == self.classes else images // classes * (k or 0)

        return part(self.images, self.class_images), part(self.val_images, self.class_val_images)


_FASHION = "train-images-idx3-ubyte"
_TEN_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DATASETS: dict[str, Facts] = {
    f.name: f
    for f in (
        Facts(
            "digits",
            "scikit-learn's handwritten digits",
            1797,
            None,
            10,
            8,
            1,
            True,
            class_images=(146, 154, 152, 152, 151, 151, 150, 146, 146, 149),
            class_val_images=(32, 28, 25, 31, 30, 31, 31, 33, 28, 31),
            class_names=_TEN_DIGITS,
        ),
        Facts(
            "fashion-mnist",
            "Fashion-MNIST",
            60_000,
            10_000,
            10,
            28,
            1,
            True,
            places=(
                ("fashion-mnist", _FASHION),
                ("FashionMNIST/raw", _FASHION),
                ("fashion-mnist/FashionMNIST/raw", _FASHION),
            ),
            system_places=(("/usr/share/datasets/fashion-mnist", _FASHION),),
            how="it is downloaded on first use; without a network install Debian's package dataset-fashion-mnist, "
            f"or put the four files {_FASHION}.gz … there (github.com/zalandoresearch/fashion-mnist)",
            class_names=_CLOTHES,
        ),
        Facts(
            "cifar10",
            "CIFAR-10",
            50_000,
            10_000,
            10,
            32,
            3,
            True,
            places=(
                ("cifar10/cifar-10-batches-py", "data_batch_1"),
                ("cifar-10-batches-py", "data_batch_1"),
                ("cifar10", "data_batch_1"),
            ),
            how="unpack cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html there, "
            "so that cifar-10-batches-py/data_batch_1 lies in it",
            class_names=_CIFAR,
        ),
        Facts(
            "cinic10",
            "CINIC-10 without its CIFAR images",
            70_000,
            70_000,
            10,
            32,
            3,
            True,
            places=(("cinic10", "train/airplane"), ("CINIC-10", "train/airplane")),
            how="unpack CINIC-10.tar.gz (github.com/BayesWatch/cinic-10) there, so that train/, valid/ and test/ "
            "lie in it; images named cifar10-* are left out by themselves",
            class_names=_CIFAR,
        ),
        Facts(
            "imagenet",
            "ImageNet-1k",
            1_281_167,
            50_000,
            1000,
            None,
            3,
            False,
            places=(("imagenet", "train"), ("ILSVRC2012", "train"), ("ILSVRC/Data/CLS-LOC", "train")),
            how="put train/ (and val/ for validation) there, one folder of images per class; "
            "image-net.org gives it after registration",
        ),
        Facts(
            "folder",
            "a folder of images",
            None,
            None,
            None,
            None,
            3,
            False,
            how="data.path names a folder with train/ (and val/), or with the class folders themselves, "
            "one folder of images per class",
        ),
        Facts(
            "printed-digits",
            "digits in 21 fonts that come with matplotlib",
            420,
            210,
            10,
            8,
            1,
            True,
            class_names=_TEN_DIGITS,
        ),
        Facts("spectrum", "procedural 1/f^a colour images", None, None, None, 32, 3, True),
    )
}


def facts_of(dataset: str) -> Facts:
    """What is known of a data set, a plugin's included. UsageError where a plugin does not say."""
    if dataset in DATASETS:
        return DATASETS[dataset]
    known = getattr(registry.DATASETS.load_plugin(dataset, "data.dataset"), "facts", None)
    if not isinstance(known, Facts) or known.images is None or known.classes is None:
        raise UsageError(f'data.dataset: plugin "{dataset}" needs an attribute facts, with its images and classes')
    for each in (known.class_images, known.class_val_images):
        if each and len(each) != known.classes:
            raise UsageError(f'data.dataset: plugin "{dataset}" tells sizes of {len(each)} of {known.classes} classes')
    return known


# Data sets whose images are files of their own; packed copies of them lie in the data folder.
IMAGE_FILES = ("imagenet", "cinic10", "folder")
NO_HOME = "there is no home folder; set $LSC_DATA"
# Those made by a program: nothing to look for.
BUILT_IN = ("digits", "printed-digits", "spectrum")


def data_folder(given: str | Path | None = None) -> Path:
    """Where data sets are looked for: `given`, else $LSC_DATA, else ~/.cache/lsc. UsageError without a home folder."""
    folder = _data_folder(given)
    if folder is None:
        raise UsageError(NO_HOME)
    return folder


def _data_folder(given: str | Path | None) -> Path | None:
    if chosen := given or os.environ.get("LSC_DATA"):
        return user_path(chosen)
    base = home()
    return None if base is None else base / ".cache" / "lsc"


def locate(dataset: str, data_dir: str | Path | None = None, path: str | Path | None = None) -> Path | None:
    """The folder that holds `dataset`, or None where it is not found.

    `path` (data.path) is looked at alone where given. For digits this is scikit-learn's own file, for printed-digits
    the fonts of matplotlib, for spectrum and data sets of plugins the data folder itself, which need not exist.
    """
    facts = facts_of(dataset)
    if dataset == "spectrum" or dataset not in DATASETS:
        return user_path(path) if path is not None else _data_folder(data_dir) or Path()
    if dataset == "digits":
        spec = importlib.util.find_spec("sklearn")
        return Path(spec.origin).parent / "datasets" / "data" if spec and spec.origin else None
    if dataset == "printed-digits":
        spec = importlib.util.find_spec("matplotlib")
        return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" if spec and spec.origin else None
    if path is not None:
        root = user_path(path)
        if dataset == "folder":
            return root if os.path.isdir(root) else None
        marks = [(root, mark) for _, mark in facts.places]
        marks += [(root / Path(place).name, mark) for place, mark in facts.places]
        return _first_held(marks)
    base = _data_folder(data_dir)
    own = [] if base is None else [(base / place, mark) for place, mark in facts.places]
    return _first_held(own + [(Path(place), mark) for place, mark in facts.system_places])


def denied_sentence(path: str | Path) -> str | None:
    """A sentence where data.path cannot be looked at, because a folder above it may not be read; None otherwise."""
    try:
        user_path(path).stat()
    except PermissionError as error:
        return f"data.path: {unreadable(Path(path), error)}"
    except OSError:
        return None
    return None


def missing_sentence(dataset: str, data_dir: str | Path | None = None, path: str | Path | None = None) -> str:
    """What to put where, and how to get it, for a data set that `locate` does not find."""
    facts = facts_of(dataset)
    if path is not None:
        if (denied := denied_sentence(path)) is not None:
            return denied
        return f"data.dataset: {dataset} is not in {user_path(path)}: {facts.how}"
    places = [place for place, _ in facts.system_places]
    if facts.places:
        base = _data_folder(data_dir)
        if base is None:
            return f"data.dataset: {dataset} is not found: {NO_HOME}, the folder for data sets; then: {facts.how}"
        places.insert(0, str(base / facts.places[0][0]))
    return f"data.dataset: {dataset} is not in {' or '.join(places) or 'data.path'}: {facts.how}"


def class_names(dataset: str, data_dir: str | Path | None = None, path: str | Path | None = None) -> tuple[str, ...]:
    """Names of all classes of a data set in the order of its labels; none where they have none, or are not found."""
    facts = facts_of(dataset)
    root = locate(dataset, data_dir, path) if dataset in ("imagenet", "folder") else None
    if root is None:
        return facts.class_names
    return tuple(folder.name for folder in read_layout(dataset, root, skip_bad=True).classes.values())


@dataclass(frozen=True)
class Counts:
    """How many images and classes a run uses; `exact` is False where only the files could say and are not there."""

    images: int | None
    classes: int | None
    val_images: int
    exact: bool = True


def count(
    dataset: str,
    labels: str,
    classes: int | None,
    *,
    data_dir: str | Path | None = None,
    path: str | Path | None = None,
    skip_bad: bool = False,
) -> Counts:
    """Images and classes of a training set with `labels` ("class" or "unique") and the first `classes` of them.

    Folders are counted where they are found; ImageNet by class is estimated (its classes differ in size) elsewhere.
    With `skip_bad` images that cannot be read do not count; `exact` is False until all images were looked at.
    FolderError where folders cannot be read.
    """
    if dataset == "spectrum":
        if labels == "unique":
            return Counts(classes, classes, 0)
        return Counts((classes or 0) * SPECTRUM_TRAIN or None, classes, (classes or 0) * SPECTRUM_VAL)
    facts = facts_of(dataset)
    root = locate(dataset, data_dir, path) if skip_bad and dataset in IMAGE_FILES else None
    if root is not None:
        return _count_usable(dataset, labels, classes, root, data_dir)
    if labels == "unique":
        total = facts.images if facts.images is not None else _files(dataset, data_dir, path)
        return Counts(total if classes is None else classes, total if classes is None else classes, 0, True)
    k = classes if classes is not None else facts.classes
    if dataset in ("imagenet", "folder"):
        return _count_folders(dataset, k, data_dir, path)
    images, val_images = facts.of_first(k)
    return Counts(images, k, val_images)


def no_training_images(dataset: str, data_dir: str | Path | None, path: str | Path | None) -> str:
    """A sentence for a data set whose folder holds no training images."""
    root = locate(dataset, data_dir, path)
    where = Path(path or "") if root is None else read_layout(dataset, root, skip_bad=True).base
    return f"{dataset}: {no_images(where)}"


def trained_images(
    dataset: str,
    labels: str,
    first_class: int | None,
    counts: Counts,
    path: str | Path | None = None,
    data_dir: str | Path | None = None,
    *,
    skip_bad: bool = False,
) -> int | None:
    """How many of the images counted are of class `first_class` or above."""
    if not first_class or counts.images is None or counts.classes is None or first_class >= counts.classes:
        return counts.images
    before = count(dataset, labels, first_class, data_dir=data_dir, path=path, skip_bad=skip_bad).images
    return None if before is None else counts.images - before


def class_count(dataset: str, labels: str, classes: int | None, *, path: str | Path | None = None) -> int | None:
    """The classes of a folder data set whose bad images are left out: their names count, also without any image. None
    where only a look at all images can say."""
    if classes is not None or labels == "unique":
        return classes
    known = facts_of(dataset).classes
    return known if known is not None else available(dataset, labels, path=path, skip_bad=True)


def available(dataset: str, labels: str, *, path: str | Path | None = None, skip_bad: bool = False) -> int | None:
    """The largest data.classes of a data set with these labels, or None where there is no bound or it is unknown.
    FolderError where folders cannot be read, unless they are left out with `skip_bad`."""
    if dataset == "spectrum":
        return None
    facts = facts_of(dataset)
    if dataset != "folder":
        return facts.images if labels == "unique" else facts.classes
    root = locate("folder", path=path) if path else None
    if root is None:
        return None
    if labels == "unique":
        return _files("folder", None, path, skip_bad=skip_bad)
    return len(read_layout("folder", root, skip_bad=skip_bad).classes)


def _first_held(candidates: list[tuple[Path, str]]) -> Path | None:
    for folder, mark in candidates:
        try:
            if (folder / mark).exists() or (folder / f"{mark}.gz").exists():
                return folder
        except OSError:  # a folder that may not be read is not a place
            continue
    return None


def _count_folders(dataset: str, k: int | None, data_dir: str | Path | None, path: str | Path | None) -> Counts:
    facts = facts_of(dataset)
    if dataset == "imagenet" and k == facts.classes:
        return Counts(facts.images, k, facts.val_images or 0)
    root = locate(dataset, data_dir, path)
    if root is None:
        if facts.images is None or facts.classes is None or k is None:
            return Counts(None, k, 0, exact=False)
        return Counts(facts.images * k // facts.classes, k, (facts.val_images or 0) * k // facts.classes, exact=False)
    layout = read_layout(dataset, root)
    names = list(layout.classes)[:k]
    val = [layout.val_classes[name] for name in names if name in layout.val_classes]
    images = images_in([layout.classes[name] for name in names], dataset)
    return Counts(sum(images), len(names), sum(images_in(val, dataset)))


def _count_usable(dataset: str, labels: str, classes: int | None, root: Path, data_dir: str | Path | None) -> Counts:
    """Counts without the images that cannot be read."""
    unique = labels == "unique"
    train = _usable(dataset, "train", root, classes, data_dir, unique)
    assert train is not None
    images, exact, names = train
    if unique:
        kept = images if classes is None else min(images, classes)
        return Counts(kept, kept, 0, exact)
    val = _usable(dataset, "val", root, classes, data_dir, unique)
    return Counts(images, names, 0 if val is None else val[0], exact and (val is None or val[1]))


def _usable(
    dataset: str, split: str, root: Path, classes: int | None, data_dir: str | Path | None, unique: bool
) -> tuple[int, bool, int] | None:
    """Images of a split that can be read, whether that is known of all of them, and how many classes are named."""
    stored = stored_split(split, root, unique=unique)
    files = list_files(dataset, root, split, unique=stored == "unique", count=None, skip_bad=True)
    if files is None:
        return None
    record = record_path(data_folder(data_dir), dataset, stored, root)
    bad = read_record(record, files)
    if unique or classes is None:
        return len(files) - len(bad or ()), bad is not None, len(files.classes)
    inside = int((files.labels < classes).sum())
    return (
        inside - len(bad_among(bad or (), unique=False, count=classes)),
        bad is not None,
        min(classes, len(files.classes)),
    )


def shortfall(
    dataset: str,
    labels: str,
    classes: int | None,
    *,
    data_dir: str | Path | None = None,
    path: str | Path | None = None,
) -> str | None:
    """A sentence where a data set of known size does not have the images of its published files; None where it has, or
    is not found. Folders are counted, so that this is known before any image is read."""
    facts = facts_of(dataset)
    root = locate(dataset, data_dir, path) if dataset in IMAGE_FILES else None
    if root is None or facts.images is None or facts.classes is None:
        return None
    layout = read_layout(dataset, root)
    if labels == "unique":
        needed, found = classes or facts.images, _files(dataset, data_dir, path) or 0
        if found >= needed:
            return None
        spare = f"data.classes = {found} trains on those that are there"
        return _lacking(dataset, layout.base, "training images", needed, found, "", spare)
    if classes not in (None, facts.classes) and dataset != "cinic10":
        return None
    k = classes or facts.classes
    names = list(layout.classes)[:k]
    spare = "data.skip_bad = true trains on those that are there"
    for what, base, folders, known in (
        ("training images", layout.base, layout.classes, facts.of_first(k)[0]),
        ("validation images", layout.val, layout.val_classes, facts.of_first(k)[1]),
    ):
        if base is None:
            continue
        counts = images_in([folders[name] for name in names if name in folders], dataset)
        if sum(counts) != known or len(names) != k:
            where = _where(k, known, [n for n in names if n in folders], counts)
            return _lacking(dataset, base, what, known, sum(counts), where, spare)
    return None


def _where(classes: int, known: int, names: list[str], counts: list[int]) -> str:
    """The class folders that have too few images or too many, where that is known: where all have equally many."""
    if len(names) < classes:
        return f"; {classes - len(names)} of {classes:,} class folders are missing"
    each = known // classes
    if each * classes != known or max(counts) > each:
        return ""
    return "; in " + listed([f"{n} ({c:,} of {each:,})" for n, c in zip(names, counts, strict=True) if c != each])


def _lacking(dataset: str, base: Path, what: str, known: int, found: int, where: str, spare: str) -> str:
    less, more = known - found, found - known
    if less == 1:
        differ = f"1 of {known:,} {what} is missing"
    else:
        differ = f"{less:,} of {known:,} {what} are missing" if less > 0 else f"{more:,} more {what} than {known:,}"
    return f"data.dataset: {dataset}: {differ} in {base}{where}. Unpack the data set again; or {spare}"


def _files(dataset: str, data_dir: str | Path | None, path: str | Path | None, *, skip_bad: bool = False) -> int | None:
    root = locate(dataset, data_dir, path)
    if root is None:
        return None
    layout = read_layout(dataset, root, skip_bad=skip_bad)
    return sum(images_in([layout.base, *layout.classes.values()], dataset, skip_bad=skip_bad))
