"""A trained run opened for use: embeddings of a data set, and labels of images with their cosine.

Everything it needs is in the run folder: the images that it was trained on need not be there any more. Classes of other
data are those of the run that have the same names; their order there does not matter. An image whose nearest vector of
the whole system belongs to no class is "a new class" (arXiv:2604.00779).
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lsc_engine.analysis.compare import TrivialBaseline
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import UnreadableError, whole_file
from lsc_engine.common.userpaths import absent
from lsc_engine.config.defaults import EVAL_IMAGES
from lsc_engine.config.derived import derive, latent_dim
from lsc_engine.config.load import load_run_config
from lsc_engine.config.schema import CrossEntropy, Data, Lsc, RunConfig
from lsc_engine.data.batches import eval_batches, fixed_subset
from lsc_engine.data.class_folders import SUFFIXES, labels_of, link_to_nothing, without
from lsc_engine.data.dataset import check_known, data_set, facts_of, open_source
from lsc_engine.data.imagefiles import decode
from lsc_engine.data.listing import ImageFiles, list_files
from lsc_engine.data.named import all_labels, by_name, changed
from lsc_engine.data.source import ImageSource, normalise
from lsc_engine.heads.base import Head
from lsc_engine.heads.build import build_head
from lsc_engine.heads.lsc import LscHead
from lsc_engine.models.build import build_model, embedding_width
from lsc_engine.runs.folder.classes import listed, read_classes
from lsc_engine.runs.folder.layout import CLASSES, PRESET
from lsc_engine.runs.read.run import Run, no_checkpoint
from lsc_engine.training import calibration, checkpointing
from lsc_engine.training.calibration import Calibration
from lsc_engine.training.dependencies import load_dependencies
from lsc_engine.training.devices import autocast_dtype, set_numerics
from lsc_engine.training.embedding_metrics import MOST_IMAGES, Embedded, measure
from lsc_engine.training.evaluator import embed
from lsc_engine.training.run_images import changed_vectors, class_names, classes_of, open_ood
from lsc_engine.training.schedule import derive_seed
from lsc_engine.vectors import VectorSystem
from lsc_engine.vectors.choice import INIT_ORDER

# Classes whose centres stand for all of them where the constant is searched for, and centres made at once.
_SAMPLE = 4096
_CENTRES = 65_536
BATCH = 512
_MOST_THREADS = 16
_NO_LABELS = "every image of the training is a class of its own: the labels of other images are not compared"
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow converts


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run's network and head in evaluation mode, with the weights of checkpoint `step`.

    Its input are images uint8 [`channels`, `image_size`, `image_size`]. `images`: the number of its training images;
    `files`: the hash of their file names and sizes (`ImageFiles.content`), None if unknown; `names`: those of its
    classes in the order of the labels, empty if they have none; `unnamed`: a sentence if they are not known.
    """

    config: RunConfig
    images: int
    files: str | None
    classes: int
    channels: int
    image_size: int
    names: tuple[str, ...]
    unnamed: str | None
    model: nn.Module
    head: Head
    step: int
    device: torch.device
    dtype: torch.dtype | None

    @property
    def dim(self) -> int:
        """The width n of its embeddings."""
        assert self.head.dim is not None
        return self.head.dim

    @property
    def system(self) -> VectorSystem | None:
        """The vector system of its classes; None for a method without one."""
        return getattr(self.head, "system", None)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Embeddings [B, n] float32, not normalised, of images [B, C, S, S] in [-1, 1]."""
        return embed(self.model, images, self.device, self.dtype)

    def with_own_labels(self, source: ImageSource, *, keep: bool = False) -> ImageSource:
        """`source` with the labels of this run, by the names of the classes if both have names (see `by_name`)."""
        return by_name(source, self.names, keep=keep)[0] if self.names and source.class_names else source

    def embeddings(self, source: ImageSource, index: Tensor, batch_size: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings [B, n] and labels [B] of the images numbered `index`, in order."""
        for batch in eval_batches(source, index, batch_size):
            yield self.embed(batch.images), batch.labels.to(self.device)


def open_trained(run: Run, *, device: torch.device, at: int | None = None) -> TrainedRun:
    """The run with its newest good checkpoint (that of step `at`, if given). UsageError if there is none."""
    config = load_run_config(run.path / PRESET)
    found = checkpointing.load_newest(run.path, at=at)
    if found is None:
        raise UsageError(no_checkpoint(run, at))
    identity = json.loads(found.state["identity"])
    images, classes, size = (int(identity["data"][key]) for key in ("images", "classes", "size"))
    channels = int(run.source.get("channels") or facts_of(config.data.dataset).channels)
    names, unnamed = _class_names(run, config, classes)
    n, seed = latent_dim(config, classes), derive_seed(config.seed, "model")
    residual = config.train.residual
    model = build_model(config.model, channels=channels, size=size, dim=n, seed=seed, residual=residual).to(device)
    dim = n or embedding_width(model, channels, size, device)
    head = build_untrained_head(config, run, classes=classes, dim=dim, channels=channels, names=names).to(device)
    if others := changed_vectors(identity, head.record()):
        raise UsageError(f"{run.id}: {others[0]}; put those of its training back")
    network = nn.ModuleDict({"model": model, "head": head})
    checkpointing.restore(network, found.tensors)
    network.eval()
    files = (identity.get("files") or {}).get("files")
    dtype = autocast_dtype(config.train.precision, device)
    set_numerics(device, dtype, bool(config.train.deterministic))
    return TrainedRun(
        config, images, files, classes, channels, size, names, unnamed, model, head, found.step, device, dtype
    )


def _class_names(run: Run, config: RunConfig, classes: int) -> tuple[tuple[str, ...], str | None]:
    """The names of the run's classes, and a sentence if they are not known."""
    data = config.data
    if data.labels == "unique":
        return (), None
    try:
        names = read_classes(run.path)
    except UnreadableError as error:
        return (), f"{run.id}: {error}: the names of its classes are not known"
    if len(names) == classes:
        return names, None
    if names:
        return (), f"{run.id}: {CLASSES} names {len(names):,} classes, the checkpoint has {classes:,}: it is not used"
    # A run of a version that kept no names.
    chosen = data_set(data.dataset)
    if (fixed := chosen.facts.class_names) or not chosen.image_files:
        return fixed[:classes], None
    return (), f"{run.id} is of a version that kept no names of classes: labels are numbers"


def build_untrained_head(
    config: RunConfig, run: Run, *, classes: int, dim: int | None, channels: int = 1, names: tuple[str, ...] = ()
) -> Head:
    """The head of a run, untrained, on the CPU, without its teacher and its initial weights; of a table of vectors it
    is as wide as the table. UsageError if a table that it needs is not there any more."""
    alone = {"start_from": None} | ({"target.teacher": None} if isinstance(config.target, CrossEntropy) else {})
    plain = config.with_values(alone)
    runs_dir = run.root if run.root is not None else run.path.parents[run.id.count("/")]
    needed = load_dependencies(plain, run.path, runs_dir, channels=channels, device=torch.device("cpu"))
    needed = needed.for_classes(names or class_names(run.path))
    width = needed.vectors.shape[1] if needed.vectors is not None else dim
    if width is None:
        raise UsageError(f"{run.id}: the width of its embeddings is not known")
    seed = derive_seed(config.seed, "head")
    head = build_head(plain, classes=classes, dim=width, seed=seed, table=needed.vectors, means=needed.class_means)
    if isinstance(head, LscHead) and head.order.kind == INIT_ORDER and (found := checkpointing.load_newest(run.path)):
        head.choose(found.tensors["head.chosen"])
    return head


def trivial_baseline_of(config: RunConfig, run: Run, data_dir: Path | None, *, search: bool = True) -> TrivialBaseline:
    """Chance and the best constant loss of a run with these settings; unknown ones are None. Without `search` so is a
    loss that takes seconds to find."""
    classes = config.data.classes
    if classes is None:
        try:
            classes = derive(config, data_dir).classes
        except LscError:
            return TrivialBaseline(None, None)
    if isinstance(config.target, CrossEntropy):
        # A margin, or a sum over some classes, moves it.
        plain = config.target.loss in (None, "normalized") and config.target.share is None
        return TrivialBaseline(1 / classes, math.log(classes) if plain else None)
    if not isinstance(config.target, Lsc):
        return TrivialBaseline(None, None)
    if not search and config.target.loss != "cosine":
        return TrivialBaseline(1 / classes, None)
    try:
        return TrivialBaseline(1 / classes, constant_loss(config, run, classes, data_dir))
    except (LscError, OSError, ValueError):
        # A table of vectors that is gone, or more vectors than an index can name: the loss has no known floor.
        return TrivialBaseline(1 / classes, None)


def constant_loss(config: RunConfig, run: Run, classes: int, data_dir: Path | None) -> float | None:
    """The least mean loss of one embedding for all classes, each as frequent as any other; for the cosine loss
    1 - |mean of the centres in use| (arXiv:2510.04090, equation 11)."""
    head = build_untrained_head(config, run, classes=classes, dim=derive(config, data_dir).n)
    if isinstance(config.target, Lsc) and config.target.loss == "batch-softmax":
        return None  # it hangs on the batch
    dim = head.dim
    assert dim is not None
    assert isinstance(head, LscHead)
    if isinstance(config.target, Lsc) and config.target.loss == "cosine":
        total = torch.zeros(dim, dtype=torch.float64)
        for start in range(0, classes, _CENTRES):
            labels = torch.arange(start, min(start + _CENTRES, classes))
            total += head.system.vectors(head.target(labels)).double().sum(0)
        return 1.0 - float(torch.linalg.vector_norm(total / classes))
    labels = torch.arange(0, classes, max(1, classes // _SAMPLE))[:_SAMPLE]
    # The loss at the best single embedding for these labels, found by gradient from the mean of their centres.
    target = head.target(labels)
    point = head.system.vectors(target).mean(0, keepdim=True).clone().requires_grad_(True)
    search = torch.optim.LBFGS([point], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = head.losses(point.expand(len(labels), -1), target).mean()
        value.backward()
        return value

    search.step(loss)
    with torch.no_grad():
        return float(head.losses(point.expand(len(labels), -1), target).mean())


@dataclass(frozen=True)
class DataSelection:
    """A data set (None: the run's own), its split (None: val, or the training images of another folder that has no
    val), its folder, and the number of its classes (None: the run's, or all of another data set)."""

    dataset: str | None = None
    split: str | None = None
    path: str | None = None
    classes: int | None = None

    def data_of(self, trained: TrainedRun) -> Data:
        """The settings [data] of the selected images, at the size that the network takes."""
        data = trained.config.data
        if self.dataset is not None:
            check_known(self.dataset, "--dataset")
        name = self.dataset or data.dataset
        if self.path is not None and data_set(name).built_in:
            if self.dataset is not None:
                raise UsageError(f"--path: {name} needs no files; leave it out, or give --dataset folder")
            name = "folder"
        own = name == data.dataset
        changes: dict[str, Any] = {"image_size": trained.image_size}
        if not own or self.path is not None or self.classes is not None:
            changes |= {"dataset": name, "classes": self.classes}
            changes["path"] = self.path if self.path is not None or not own else data.path
            if not own or self.classes is not None:
                changes["labels"] = "class"
        return data.model_copy(update=changes)


@dataclass(frozen=True)
class LabelledImages:
    """Images to be classified: the files `names`, or the images of those numbers of `source`.

    `labels`: the true labels, those of the run's classes of the same names, None for a class that the run does not
    have; None if nothing is known. `class_names`: the names of the true classes, by image. `notes`: which classes the
    run and the images do not share; `failed`: entries that cannot be read, each with a sentence.
    """

    names: Sequence[Path] | range
    source: ImageSource | None = None
    labels: Sequence[int | None] | None = None
    class_names: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


def named_images(paths: Sequence[Path], limit: int | None = None) -> LabelledImages:
    """Image files, and those in folders and all folders below, by name, or the first `limit` of them. UsageError for a
    folder without images."""
    found: list[Path] = []
    failed: list[tuple[str, str]] = []
    for path in paths:
        if os.path.isdir(path):
            inside, bad = _in_folder(path)
            if not inside and not bad:
                raise UsageError(f"IMAGE {path}: this folder holds no images ({', '.join(SUFFIXES)})")
            found += inside
            failed += bad
        elif (why := absent(path)) is not None:
            failed.append((str(path), f"{path}: {why}"))
        else:
            found.append(path)
    return LabelledImages(found[:limit], failed=tuple(failed))


def _in_folder(top: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    found: list[Path] = []
    failed: list[tuple[str, str]] = []
    visited: set[tuple[int, int]] = set()

    def refused(error: OSError) -> None:
        where = Path(os.fsdecode(error.filename or top))
        failed.append((str(where), f"{where}: {error.strerror or error}"))

    for folder, below, files in os.walk(top, onerror=refused, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:  # a link that leads back
            below.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        below[:] = sorted(name for name in below if not name.startswith("."))
        for path in (Path(folder, name) for name in sorted(files) if not name.startswith(".")):
            if path.name.lower().endswith(SUFFIXES):
                found.append(path)
            elif os.path.islink(path) and not os.path.exists(path):  # perhaps a folder on a disk that is not mounted
                failed.append((str(path), f"{path} {link_to_nothing(path)}"))
    return found, failed


def open_labelled_images(
    trained: TrainedRun, selection: DataSelection, data_dir: Path | None, limit: int | None = None
) -> LabelledImages:
    """The images of a data set, or its first `limit`: the files themselves, of which nothing is packed and a damaged
    one does not affect the others, else those of `open_images`. UsageError if there are none."""
    own, data = trained.config.data, selection.data_of(trained)
    own_place = selection.path is None and data.dataset == own.dataset
    # Of images that are classes of their own, those of the training alone have labels.
    unique = own.labels == "unique" and own_place and selection.classes is None
    chosen = data_set(data.dataset)
    root = chosen.locate(data_dir, data.path) if chosen.image_files else None
    labels: Sequence[int | None] | None = None
    class_names: Sequence[str] | None = None
    if root is None:
        source, notes = open_images(trained, selection, data_dir)
        images = LabelledImages(range(source.images)[:limit], source)
        same = unique and source.images == trained.images
        if bool(trained.names) == bool(source.class_names):
            labels = [label if label < trained.classes else None for label in all_labels(source).tolist()]
    else:
        files = _image_files(selection, data, root, unique=unique, own_place=own_place)
        failed = tuple((entry.path, f"{entry.path} {entry.why}") for entry in files.bad)
        images = LabelledImages([files.path(index) for index in range(len(files))[:limit]], failed=failed)
        same = unique and len(files) == trained.images and trained.files in (None, files.content())
        class_names = [files.classes[label] for label in files.labels]
        notes = (f"the names of the run's classes are not known: the labels of {root} are not compared",)
        if trained.names:
            there = list(dict.fromkeys(class_names))
            known = dict(zip(there, labels_of(there, trained.names), strict=True))
            labels = [known[name] if known[name] >= 0 else None for name in class_names]
            notes = _notes(trained, there, root)
    if same:
        return replace(images, labels=range(trained.images))
    if own.labels == "unique":
        others = f"{root or data.dataset} has not just the {trained.images:,} images of the training"
        return replace(images, notes=(f"{others}: labels are not compared" if unique else _NO_LABELS,))
    return replace(images, labels=labels, class_names=class_names, notes=notes)


def _image_files(selection: DataSelection, data: Data, root: Path, *, unique: bool, own_place: bool) -> ImageFiles:
    def listed(split: str) -> ImageFiles | None:
        count = data.classes if unique else selection.classes
        return list_files(data.dataset, root, split, unique=unique, count=count, skip_bad=True)

    split = selection.split or "val"
    files = None if unique and split == "val" else listed(split)
    if files is None and selection.split is None and not own_place:
        files = listed("train")
    if files is None:
        raise UsageError(_no_images(data.dataset, split, unique))
    return files


def _no_images(dataset: str, split: str, unique: bool) -> str:
    why = "every image is a class of its own" if unique else "none are known"
    return f"{dataset} has no {split} images: {why}; take --split train"


def _notes(trained: TrainedRun, there: Sequence[str], where: Path | str) -> tuple[str, ...]:
    """Which classes the run and the images do not share; `there`: the classes with images."""
    known = set(labels_of(there, trained.names))
    absent = [name for label, name in enumerate(trained.names) if label not in known]
    strange = without(there, trained.names)
    parts = ((strange, "has {} that the run does not know"), (absent, "has no images of {} of the run"))
    return tuple(
        f"{where} {text.format(f'{len(names):,} class' + 'es' * (len(names) != 1))}: {listed(names)}"
        for names, text in parts
        if names
    )


def open_images(
    trained: TrainedRun, selection: DataSelection, data_dir: Path | None
) -> tuple[ImageSource, tuple[str, ...]]:
    """The images at the size that the network takes, with the labels of the run's classes of the same names; other
    classes have the labels behind those. And notes on classes that are not shared. UsageError if there are no images,
    or they have other channels."""
    own, data, split = trained.config.data, selection.data_of(trained), selection.split or "val"
    source = open_source(data, split=split, data_dir=data_dir, device=trained.device)
    if source is not None and split == "train" and data == own.model_copy(update={"image_size": source.size}):
        source = changed(source, trained.config.seed, noise=own.label_noise, imbalance=own.imbalance)
    if source is None:
        raise UsageError(_no_images(data.dataset, split, data.labels == "unique"))
    if source.channels != trained.channels:
        channels = f"{source.channels} channels, this network takes {trained.channels}"
        raise UsageError(f"--dataset: {data.dataset} has images of {channels}")
    if "unique" in (data.labels, own.labels):
        return source, ()
    where, same_place = data.path or data.dataset, data.dataset == own.dataset and selection.path is None
    if not trained.names or not source.class_names:
        if same_place:
            return source, ()
        return source, (f"{where}: classes have no names there or in the run, and keep their numbers",)
    if same_place and source.class_names != trained.names and own.classes is not None and selection.classes is None:
        # The first classes of today may be others.
        whole = data.model_copy(update={"classes": None})
        source = open_source(whole, split=split, data_dir=data_dir, device=trained.device) or source
    there = [source.class_names[label] for label in sorted(set(all_labels(source).tolist()))]
    source, _ = by_name(source, trained.names, keep=True)
    return source, _notes(trained, there, where)


def embed_all(trained: TrainedRun, source: ImageSource, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [N, n] float32 and labels [N] int64 of all images, or of the first `limit`, in order."""
    count = source.images if limit is None else min(limit, source.images)
    z, labels = np.empty((count, trained.dim), np.float32), np.empty(count, np.int64)
    for number, (part, own) in enumerate(trained.embeddings(source, torch.arange(count), BATCH)):
        place = slice(number * BATCH, number * BATCH + len(part))
        z[place], labels[place] = part.cpu().numpy(), own.cpu().numpy()
    return z, labels


@dataclass(frozen=True)
class Evaluated:
    """Metrics of frozen embeddings by name; how many images of each kind; and notes on what was not measured."""

    values: dict[str, float]
    images: dict[str, int]
    notes: tuple[str, ...]


@torch.no_grad()
def evaluate_run(
    trained: TrainedRun, on: str | None, path: str | None, data_dir: Path | None, scale: float | None = None
) -> Evaluated:
    """Everything that `eval.also` can name, on the validation images of the run, or on another data set `on` with its
    own classes; that one then also has the images of other classes, else eval.ood does if it is set. `scale`: of the
    probabilities, as `measure` has it. UsageError for data that does not fit.

    A run with unique labels has no validation images: its own data set, named, is taken with its classes.
    """
    own = trained.config.data
    moved = on not in (None, own.dataset) or path is not None
    unique, notes = own.labels == "unique", list[str]()
    if unique and on is None and path is None:
        raise UsageError(f"every image of the training is a class of its own; name a data set: --on {own.dataset}")
    other = moved or unique
    train, val = (_evaluated_images(trained, on, path, split, data_dir, other) for split in ("train", "val"))
    parts = {"train": _frozen(trained, train, MOST_IMAGES), "val": _frozen(trained, val, EVAL_IMAGES)}
    also, ood = {"knn", "probe", "recall", "map"}, None
    values: dict[str, float] = {}
    if other and not unique:
        home = (_evaluated_images(trained, None, None, split, data_dir, False) for split in ("train", "val"))
        near = [_frozen(trained, source, most) for source, most in zip(home, (MOST_IMAGES, EVAL_IMAGES), strict=True)]
        parts |= {"ood": parts["val"]}
        values, notes = measure(trained.head, {"ood"}, *near, ood=parts["val"].z, scale=scale)
    elif not other:
        also |= {"ece"} if trained.head.learns_labels else set()
        if trained.config.eval.ood is not None:
            source = open_ood(trained.config, data_dir, trained.device, lambda _: None)
            parts["ood"] = _frozen(trained, source, EVAL_IMAGES)
            also, ood = also | {"ood"}, parts["ood"].z
    found, more = measure(trained.head, also, parts["train"], parts["val"], ood=ood, scale=scale)
    if not other and trained.head.learns_labels:
        right = trained.head.predict(parts["val"].z) == parts["val"].labels
        found = {"val/accuracy": float(right.double().mean())} | found
    return Evaluated(found | values, {name: len(part.z) for name, part in parts.items()}, (*more, *notes))


def _evaluated_images(
    trained: TrainedRun, on: str | None, path: str | None, split: str, data_dir: Path | None, other: bool
) -> ImageSource:
    """The images of a data set with its own classes if it is an`other` one, else those of the run."""
    if not other:
        return open_images(trained, DataSelection(split=split), data_dir)[0]
    own = trained.config.data
    changes = {"dataset": on or own.dataset, "path": path, "labels": "class", "classes": classes_of(on or own.dataset)}
    changes |= {"path": own.path} if path is None and on == own.dataset else {}
    data = own.model_copy(update={**changes, "image_size": trained.image_size})
    source = open_source(data, split=split, data_dir=data_dir, device=trained.device)
    if source is None:
        raise UsageError(f"{data.dataset} has no {split} images")
    if source.channels != trained.channels:
        channels = f"{source.channels} channels, this network takes {trained.channels}"
        raise UsageError(f"--on: {data.dataset} has images of {channels}")
    return source


def _frozen(trained: TrainedRun, source: ImageSource, most: int) -> Embedded:
    parts = trained.embeddings(source, fixed_subset(source.images, most), BATCH)
    return Embedded(*map(torch.cat, zip(*parts, strict=True)))


def save_embeddings(path: Path, z: np.ndarray, labels: np.ndarray, facts: dict[str, str]) -> list[Path]:
    """Write `.safetensors` (embeddings, labels and `facts`) or `.npy` (labels beside it as NAME.labels.npy): each file
    whole or not at all. Raises OSError."""
    if path.suffix == ".npy":
        beside = path.with_suffix(".labels.npy")
        with whole_file(beside) as second, whole_file(path) as first:
            np.save(first, z)
            np.save(second, labels)
        return [path, beside]
    from safetensors.numpy import save_file

    with whole_file(path) as part:
        try:
            save_file({"embeddings": z, "labels": labels}, part, metadata=facts)
        except Exception as error:  # a full disk is an error of its own there
            raise error if isinstance(error, OSError) else OSError(str(error)) from error
    return [path]


@dataclass(frozen=True)
class Prediction:
    """The label of one image, None for a new class; the nearest class in use and the cosine to its centre; with a
    scale, the probability of that class, and entropy and energy as `calibration.probability` has them."""

    label: int | None
    nearest: int
    cosine: float | None
    probability: float | None = None
    entropy: float | None = None
    energy: float | None = None


@torch.no_grad()
def predict(trained: TrainedRun, z: Tensor, scale: float | None = None) -> list[Prediction]:
    """The labels of embeddings [B, n], with probabilities at a `scale`. UsageError for a run that has learnt no label,
    or has no probabilities."""
    head = trained.head
    if not head.learns_labels:
        raise UsageError(f"this run was trained with {trained.config.target.method} and has learnt no label")
    nearest = head.predict(z)
    known = head.predict(z, unused="new") if isinstance(head, LscHead) else nearest
    labels = (None if label < 0 else label for label in known.tolist())
    cosines: Sequence[float | None] = [None] * len(z)
    if (centres := head.centres(nearest)) is not None:
        cosines = functional.cosine_similarity(head.project(z).float(), centres.float(), dim=1).tolist()
    certain: Sequence[tuple[float, ...]] = [()] * len(z)
    if scale is not None:
        certain = torch.stack(calibration.probability(head, z, nearest, scale), 1).tolist()
    return [Prediction(*one, *more) for *one, more in zip(labels, nearest.tolist(), cosines, certain, strict=True)]


def predict_all(trained: TrainedRun, images: LabelledImages, scale: float | None = None) -> Iterator[Prediction | str]:
    """The prediction of each image, in order, or a sentence if it cannot be read; with a `scale` as `predict`."""
    for z, results in _embedded(trained, images):
        predictions = iter(predict(trained, z, scale) if len(z) else ())
        yield from (result if isinstance(result, str) else next(predictions) for result in results)


def calibrate(trained: TrainedRun, images: LabelledImages, data: str) -> Calibration:
    """The scale of the probabilities, fitted on images that the run was not trained on. UsageError if none of them has
    a label that the run knows, or it has no probabilities."""
    known = images.labels if images.labels is not None else [None] * len(images.names)
    parts = []
    for z, results in _embedded(trained, images):
        labels = [known[number] for number in results if not isinstance(number, str)]
        rows = [row for row, label in enumerate(labels) if label is not None]
        if rows:
            parts.append((z[rows], torch.tensor([labels[row] for row in rows], device=z.device)))
    return calibration.fit_scale(trained.head, parts, step=trained.step, data=data)


def _embedded(trained: TrainedRun, images: LabelledImages) -> Iterator[tuple[Tensor, list[int | str]]]:
    """In batches: the embeddings of the images that can be read, and of every image its number, or a sentence if it
    cannot be read."""
    if isinstance(images.names, range):
        assert images.source is not None
        numbers = torch.arange(len(images.names))
        for part, (z, _) in zip(numbers.split(BATCH), trained.embeddings(images.source, numbers, BATCH), strict=True):
            yield z, part.tolist()
        return
    for start in range(0, len(images.names), BATCH):
        results = _read(images.names[start : start + BATCH], trained.image_size)
        pixels = [result for result in results if not isinstance(result, str)]
        z = torch.empty(0, trained.dim, device=trained.device)
        if pixels:
            batch = torch.from_numpy(np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2)))
            if trained.channels == 1:
                grey = (batch.float() * torch.tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
                batch = grey.round().clamp(0, 255).to(torch.uint8)
            z = trained.embed(normalise(batch))
        yield z, [result if isinstance(result, str) else start + i for i, result in enumerate(results)]


def _read(paths: Sequence[Path], size: int) -> list[np.ndarray | str]:
    """Each file as uint8 [size, size, 3], or why it cannot be read."""

    def read(path: Path) -> np.ndarray | str:
        try:
            return decode(path, size)
        except LscError as error:
            return str(error)

    # Filters of warnings belong to all threads: they are set here once.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0)))) as threads:
        warnings.simplefilter("ignore")
        return list(threads.map(read, paths))
