"""A trained run opened for use: its network and head with the weights of a checkpoint, and embeddings of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lsc_engine.config import Derived, RunConfig, derive
from lsc_engine.data import ImageSource, eval_batches
from lsc_engine.errors import UsageError
from lsc_engine.heads import Head, build_head
from lsc_engine.models import build_model
from lsc_engine.runs import Run
from lsc_engine.runs.layout import PRESET
from lsc_engine.training import checkpoint
from lsc_engine.training.devices import autocast_dtype
from lsc_engine.training.seeds import derive_seed

MEANS = "class_means.safetensors"


@dataclass(frozen=True, eq=False)
class Trained:
    """A run's network and head in evaluation mode, with the weights of checkpoint `step`."""

    config: RunConfig
    derived: Derived
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
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            z: Tensor = self.model(images.to(self.device, non_blocking=True))
        return z.float()

    def embeddings(self, source: ImageSource, index: Tensor, batch_size: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings [B, n] and labels [B] of the images numbered `index`, in order."""
        for batch in eval_batches(source, index, batch_size):
            yield self.embed(batch.images), batch.labels.to(self.device)


def open_trained(run: Run, *, device: torch.device, data_dir: Path | None = None, at: int | None = None) -> Trained:
    """The run with its newest good checkpoint (that of step `at`, where given). UsageError where there is none, or
    where only missing images say how many classes there are."""
    config = RunConfig.from_toml(run.path / PRESET)
    derived = derive(config, data_dir)
    found = checkpoint.load_newest(run.path, lambda text: None, at)
    if found is None:
        which = "good checkpoint" if at is None else f"good checkpoint of step {at}"
        raise UsageError(f"{run.id} has no {which}; lsc-engine resume {run.id} makes one")
    model = build_model(
        config.model, channels=derived.channels, size=derived.image_size, dim=derived.n,
        seed=derive_seed(config.seed, "model"),
    ).to(device)  # fmt: skip
    dim = derived.n or width_of(model, derived.channels, derived.image_size, device)
    head = build_head(
        config, classes=derived.classes, dim=dim, seed=derive_seed(config.seed, "head"), table=table_of(config, run)
    ).to(device)
    checkpoint.restore(model, head, found.tensors)
    model.eval()
    head.eval()
    dtype = autocast_dtype(config.train.precision, device)
    return Trained(config, derived, model, head, found.step, device, dtype)


def width_of(model: nn.Module, channels: int, size: int, device: torch.device) -> int:
    """The width of the embeddings of a network that has one of its own."""
    model.eval()
    with torch.no_grad():
        return int(model(torch.zeros((1, channels, size, size), device=device)).shape[1])


def table_of(config: RunConfig, run: Run) -> Tensor | None:
    """The rows of an `embeddings:` or `file:` system of a run, [classes, n], or None for a family. UsageError where
    they are not there any more."""
    from lsc_engine.training.execute import _table

    root = run.root if run.root is not None else run.path.parents[2]
    return _table(config, root)
