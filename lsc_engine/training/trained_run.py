"""A trained run opened for use: its network and head with the weights of a checkpoint, and embeddings of images.

Everything it needs is in the run folder: the images that it was trained on need not be there any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.config.derived import latent_dim
from lsc_engine.config.load import load_run_config
from lsc_engine.config.schema import CrossEntropy, RunConfig
from lsc_engine.data.dataset import data_set, facts_of
from lsc_engine.data.evaluation import eval_batches
from lsc_engine.data.named import by_name
from lsc_engine.data.source import ImageSource
from lsc_engine.heads.base import Head
from lsc_engine.heads.build import build_head
from lsc_engine.models.build import build_model, embedding_width
from lsc_engine.runs.folder.classes import read_classes
from lsc_engine.runs.folder.layout import CLASSES, PRESET
from lsc_engine.runs.read.run import Run
from lsc_engine.training import checkpointing
from lsc_engine.training.dependencies import load_dependencies
from lsc_engine.training.devices import autocast_dtype
from lsc_engine.training.evaluator import embed
from lsc_engine.training.run_images import class_names
from lsc_engine.training.schedule import derive_seed


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A run's network and head in evaluation mode, with the weights of checkpoint `step`.

    Its input are images uint8 [`channels`, `image_size`, `image_size`]. `images`: the number of its training images;
    `files`: the hash of their file names and sizes (`ImageFiles.content`), None if unknown; `names`: those of its
    classes in the order of the labels, empty if they have none; `unnamed`: a sentence if they are not certain.
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


def open_trained(run: Run, *, device: torch.device, data_dir: Path | None = None, at: int | None = None) -> TrainedRun:
    """The run with its newest good checkpoint (that of step `at`, if given). UsageError if there is none."""
    config = load_run_config(run.path / PRESET)
    found = checkpointing.load_newest(run.path, at=at)
    if found is None:
        which = "" if at is None else f" of step {at}"
        raise UsageError(f"{run.id} has no good checkpoint{which}; lsc-engine resume {run.id} makes one")
    identity = json.loads(found.state["identity"])
    images, classes, size = (int(identity["data"][key]) for key in ("images", "classes", "size"))
    channels = int(run.source.get("channels") or facts_of(config.data.dataset).channels)
    names, unnamed = _class_names(run, config, classes, data_dir)
    n, seed = latent_dim(config, classes), derive_seed(config.seed, "model")
    model = build_model(config.model, channels=channels, size=size, dim=n, seed=seed).to(device)
    dim = n or embedding_width(model, channels, size, device)
    head = build_untrained_head(config, run, classes=classes, dim=dim, channels=channels, names=names).to(device)
    network = nn.ModuleDict({"model": model, "head": head})
    checkpointing.restore(network, found.tensors)
    network.eval()
    files = (identity.get("files") or {}).get("files")
    dtype = autocast_dtype(config.train.precision, device)
    return TrainedRun(
        config, images, files, classes, channels, size, names, unnamed, model, head, found.step, device, dtype
    )


def _class_names(
    run: Run, config: RunConfig, classes: int, data_dir: Path | None
) -> tuple[tuple[str, ...], str | None]:
    """The names of the run's classes, and a sentence if they are not certain."""
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
    # A run of a version that kept no names: those of its data set.
    chosen = data_set(data.dataset)
    if (fixed := chosen.facts.class_names) or not chosen.image_files:
        return fixed[:classes], None
    try:
        there = chosen.class_names(data_dir, data.path)
    except OSError:
        there = ()
    where, old = data.path or data.dataset, f"{run.id} is of a version that kept no names of classes"
    if len(there) < classes or (data.dataset == "folder" and len(there) != classes):
        return (), f"{old}, and {where} has {len(there):,} classes now instead of {classes:,}: labels are numbers"
    return there[:classes], f"{old}: they are taken from {where} as it is now"


def build_untrained_head(
    config: RunConfig, run: Run, *, classes: int, dim: int | None, channels: int = 1, names: tuple[str, ...] = ()
) -> Head:
    """The head of a run, untrained, on the CPU, without its teacher and its initial weights; of a table of vectors it
    is as wide as the table. UsageError if a table that it needs is not there any more."""
    target = config.target
    if isinstance(target, CrossEntropy):
        target = target.model_copy(update={"teacher": None})
    plain = config.model_copy(update={"target": target, "start_from": None})
    runs_dir = run.root if run.root is not None else run.path.parents[run.id.count("/")]
    needed = load_dependencies(plain, run.path, runs_dir, channels=channels, device=torch.device("cpu"))
    needed = needed.for_classes(names or class_names(run.path))
    width = needed.vectors.shape[1] if needed.vectors is not None else dim
    if width is None:
        raise UsageError(f"{run.id}: the width of its embeddings is not known")
    seed = derive_seed(config.seed, "head")
    return build_head(plain, classes=classes, dim=width, seed=seed, table=needed.vectors, means=needed.class_means)
