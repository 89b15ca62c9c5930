"""Numbers that follow from a run's settings: images, steps, vectors. Torch-free.

`summary` has them as one flat document, for `check --json` and the consequences in the form of New run.
What `check` and `run` report on the folders of a data set before training is here too (`data_notes`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lsc_engine.common.duration import Duration
from lsc_engine.common.errors import UsageError
from lsc_engine.common.settings import LOSS_WORDS, loss_kind
from lsc_engine.config.defaults import EVAL_IMAGES
from lsc_engine.config.schema import CrossEntropy, Data, Lsc, Settings
from lsc_engine.data.class_folders import FolderError, layout_notes
from lsc_engine.data.dataset import Place, Selection, data_folder, data_set, denied_sentence, long_tail
from lsc_engine.data.datasets.image_folders import ImageFolders
from lsc_engine.data.listing import Split, report
from lsc_engine.vectors.choice import INIT_ORDER, cost
from lsc_engine.vectors.registry import facts, n_min

if TYPE_CHECKING:
    from lsc_engine.vectors.base import VectorSystem


class Every(NamedTuple):
    """How often, in steps or in seconds; the other one is None."""

    steps: int | None
    seconds: float | None


@dataclass(frozen=True)
class Derived:
    """What a run's settings amount to. Lengths are in steps. `n` is None for a timm model's own width."""

    images: int
    classes: int
    n: int | None
    channels: int
    image_size: int
    val_images: int
    eval_images: int
    system: VectorSystem | None
    bottleneck: int | None
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    milestones: tuple[int, ...]
    reassigned_at: tuple[int, ...]
    eval_every: int
    log_every: int
    checkpoint_every: Every
    checkpoint_also_at: tuple[int, ...]
    loss_kind: str
    table_bytes: int
    counted: bool
    """False where `images` is an estimate because the files that decide it are not there."""


def derive(config: Settings, data_dir: Place = None) -> Derived:
    """The numbers of one run. UsageError where only files say how many images there are, and they are missing."""
    data, train, target = config.data, config.train, config.target
    chosen, which = data_set(data.dataset), Selection.of(data, data_dir)
    with with_key(data):
        counts = chosen.count(which)
        if data.imbalance is not None and counts.images is not None and counts.classes is not None:
            sizes = chosen.class_sizes(replace(which, classes=counts.classes))
            counts = replace(counts, images=sum(long_tail(sizes, data.imbalance)))
    if counts.images is None or counts.classes is None:
        raise UsageError(chosen.missing(data_dir, data.path))
    images, classes = chosen.trained_images(which, data.first_class, counts), counts.classes
    assert images is not None
    if not images and isinstance(chosen, ImageFolders):
        raise UsageError(f"data.dataset: {chosen.no_training_images(data_dir, data.path)}")
    if images < train.batch_size:
        few = f"{train.batch_size} is more than the {images} training images"
        raise UsageError(f"train.batch_size: {few}; take at most that many")
    epoch = images // train.batch_size

    def steps(text: str) -> int:
        return Duration.parse(text).steps(epoch, train.batch_size)

    save, n, other = Duration.parse(config.checkpoint.every), latent_dim(config, classes), config.eval.dataset
    size = data.image_size if data.image_size is not None else chosen.facts.size
    assert size is not None
    # What grows with the classes: the rows of a table, and the list of vectors of order nearest with its inverse.
    nearest = isinstance(target, Lsc) and target.order.startswith("nearest:")
    table_bytes = (4 * classes * n if n and is_table(config.system) else 0) + (24 * classes if nearest else 0)
    system = None
    if config.system is not None and n is not None:
        system = facts(config.system, n, classes, getattr(config, "seed", 0))
    val_images = counts.val_images
    if other not in (None, data.dataset):
        validated = data_set(other)
        some = classes if classes < (validated.facts.classes or 0) else None
        val_images = validated.count(Selection(classes=some)).val_images
    return Derived(
        images=images,
        classes=classes,
        n=n,
        channels=chosen.facts.channels,
        image_size=size,
        val_images=val_images,
        eval_images=min(config.eval.images or EVAL_IMAGES, counts.images),
        system=system,
        bottleneck=bottleneck_width(config, classes),
        steps_per_epoch=epoch,
        total_steps=steps(train.duration),
        warmup_steps=steps(config.optimizer.warmup),
        milestones=tuple(steps(text) for text in config.optimizer.milestones or ()),
        reassigned_at=tuple(steps(text) for text in (isinstance(target, Lsc) and target.reassign) or ()),
        eval_every=steps(config.eval.every),
        log_every=min(steps(config.log.every), epoch),
        checkpoint_every=Every(None if save.seconds is not None else steps(config.checkpoint.every), save.seconds),
        checkpoint_also_at=tuple(sorted({steps(text) for text in config.checkpoint.also_at})),
        loss_kind=loss_kind(target.method, getattr(target, "loss", None)),
        table_bytes=table_bytes,
        counted=counts.exact,
    )


def missing_data(config: Settings, data_dir: Place = None) -> list[str]:
    """A sentence for each data set of the run that is not found: what to put where, and how to get it."""
    missing, chosen = [], data_set(config.data.dataset)
    if chosen.locate(data_dir, config.data.path) is None:
        missing.append(chosen.missing(data_dir, config.data.path))
    elif chosen.image_files:
        # Their packed copies lie in the data folder.
        try:
            data_folder(data_dir)
        except UsageError as error:
            missing += error.faults
    for key, other in (("eval.dataset", config.eval.dataset), ("eval.ood", config.eval.ood)):
        if other is not None and other != config.data.dataset and data_set(other).locate(data_dir) is None:
            missing.append(data_set(other).missing(data_dir).replace("data.dataset", key, 1))
    return missing


def bottleneck_width(config: Settings, classes: int) -> int | None:
    """The width of the layer before the class layer, None without one; "min:V21" is the smallest n of V21."""
    width = config.target.bottleneck if isinstance(config.target, CrossEntropy) else None
    return n_min(width.removeprefix("min:"), classes) if isinstance(width, str) else width


def standardized(config: Settings) -> bool:
    """Whether the last layer of the backbone is rescaled before the first step."""
    target = config.target
    return bool(config.model.standardize_output) or (isinstance(target, Lsc) and target.order == INIT_ORDER)


def is_table(system: str | None) -> bool:
    """Whether the system keeps one row per class in memory (embeddings:, file:)."""
    return system is not None and system.startswith(("embeddings:", "file:"))


def latent_dim(config: Settings, classes: int) -> int | None:
    """The latent dimension n of a run with this many classes; None where the network keeps its own width."""
    if isinstance(config.model.dim, int):
        return config.model.dim
    return n_min(config.system, classes) if config.model.dim == "min" and config.system is not None else None


def summary(config: Settings, data_dir: str | Path | None = None) -> dict[str, Any]:
    """Numbers of one run by name; those that need files that are missing are None. No error for missing data:
    `missing` then holds the sentences that say what to put where."""
    chosen = data_set(config.data.dataset)
    found = chosen.locate(data_dir, config.data.path)
    missing = missing_data(config, data_dir)
    document: dict[str, Any] = {
        "dataset": config.data.dataset,
        "data_found": found is not None,
        "data_at": str(found) if found is not None and not chosen.made_from_index else None,
        "missing": missing,
    }
    try:
        derived = derive(config, data_dir)
    except UsageError as error:
        return document | {"missing": missing + [line for line in error.faults if line not in missing]}
    target, system, classes = config.target, derived.system, derived.classes
    of_run = ("images", "val_images", "eval_images", "classes", "image_size", "channels", "n", "loss_kind")
    lengths = ("bottleneck", "steps_per_epoch", "total_steps", "warmup_steps")
    of_target = ("teacher", "within", "scale", "margin", "batch_axis", "share", "center_weight", "momentum")
    by_means = system is not None and isinstance(target, Lsc) and target.order.startswith("nearest:")
    seconds, size = cost(system, classes) if system is not None and by_means else (None, None)
    vectors: dict[str, Any] = {"system": None}
    if system is not None and isinstance(target, Lsc):
        near, known = system.used_neighbours(classes), not math.isnan(system.max_cosine)
        vectors = {
            "system": system.name,
            "order": target.order,
            "count": system.count,
            "in_use": classes / system.count,
            "max_cosine": system.max_cosine if known else None,
            "max_cosine_note": system.max_cosine_note or None,
            "min_angle_deg": system.min_angle_deg if known else None,
            "sure_below": system.guaranteed_below if known else None,
            "near_in_use": list(near) if near else None,
            "decode": system.decode,
        }
    return {
        **document,
        **{name: getattr(derived, name) for name in (*of_run, "table_bytes", *lengths)},
        "images_counted": derived.counted,
        "method": target.method,
        "loss": target.loss if isinstance(target, Lsc) else LOSS_WORDS[derived.loss_kind],
        "first_class": config.data.first_class,
        "start_from": config.start_from,
        **{name: getattr(target, name, None) for name in of_target},
        "label_noise": config.data.label_noise,
        "imbalance": config.data.imbalance,
        "shift": config.eval.shift,
        "also": list(config.eval.also or ()),
        "ood": config.eval.ood,
        "mirrors": list(config.log.also or ()),
        **vectors,
        "choice_seconds": seconds,
        "choice_bytes": size,
        "embedding_bytes": 4 * derived.n if derived.n else None,
        "eval_every_steps": derived.eval_every,
        "log_every_steps": derived.log_every,
    }


@contextmanager
def with_key(data: Data) -> Iterator[None]:
    """A FolderError in the block gets the key of the preset that names the folder."""
    try:
        yield
    except FolderError as error:
        key = "data.dataset" if data.path is None else "data.path"
        raise FolderError(*(f"{key}: {sentence}" for sentence in error.faults)) from None


def data_notes(data: Data, data_dir: Place = None) -> list[str]:
    """Sentences on what the folders of `data` hold and training does not use, or uses otherwise than it may seem.

    FolderError, with the key, for folders that cannot be read and links to nothing where classes are expected.
    """
    chosen = data_set(data.dataset)
    if not chosen.image_files:
        return []
    root = chosen.locate(data_dir, data.path)
    if root is None:
        if data.path is not None and (denied := denied_sentence(data.path)) is not None:
            raise FolderError(denied)
        return []
    with with_key(data):
        return layout_notes(data.dataset, root, unique=data.labels == "unique", skip_bad=bool(data.skip_bad))


def bad_notes(data: Data, data_dir: Place = None) -> list[str]:
    """Sentences on images that cannot be used, by a look at every file without decoding it, and on those that were
    found when all of them were decoded. FolderError as `data_notes`."""
    chosen = data_set(data.dataset)
    root = chosen.locate(data_dir, data.path) if chosen.image_files else None
    if root is None:
        return []
    unique, skip = data.labels == "unique", bool(data.skip_bad)
    notes = []
    for name in ("train",) if unique else ("train", "val"):
        split = Split(data.dataset, root, name, Selection.of(data, data_dir))
        with with_key(data):
            files = split.files(skip_bad=skip)
        if files is None:
            continue
        known = split.known_bad(files)
        bad = split.bad_in_use(files, known or ())
        if bad and skip:
            total = len(files) + len(files.bad)
            notes.append(f"data.skip_bad: {len(bad):,} of {total:,} images in {files.base} are left out")
        elif bad:
            notes.append(report(files, bad, split.record))
        if skip and known is None:
            notes.append(f"{files.base}: which images cannot be read is known once all were decoded, before training")
    return notes


def known_shortfall(data: Data, data_dir: Place = None) -> str | None:
    """A sentence where a data set of known size lacks images; None where it is whole, not found, or data.skip_bad
    trains on what is there. FolderError as `data_notes`."""
    chosen = data_set(data.dataset)
    if data.skip_bad or not isinstance(chosen, ImageFolders):
        return None
    with with_key(data):
        return chosen.shortfall(Selection.of(data, data_dir))
