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
from lsc_engine.models import build_model, etf
from lsc_engine.runs import Run
from lsc_engine.runs.layout import PRESET
from lsc_engine.training import checkpoint
from lsc_engine.training.devices import autocast_dtype
from lsc_engine.training.seeds import derive_seed
from lsc_engine.training.taken import take


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
    head = head_of(config, run, classes=derived.classes, dim=dim, channels=derived.channels).to(device)
    etf.adopt({"model": model, "head": head}, found.tensors)
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


def head_of(config: RunConfig, run: Run, *, classes: int, dim: int | None, channels: int = 1) -> Head:
    """The head of a run, untrained, on the CPU; of a table of vectors it is as wide as the table. What it learnt from a
    teacher or began with is left aside. UsageError where a table that it needs is not there any more."""
    target = config.target.model_copy(update={"teacher": None})
    plain = config.model_copy(update={"target": target, "start_from": None})
    taken = take(plain, run.path, runs_dir_of(run), channels=channels, device=torch.device("cpu"))
    width = taken.table.shape[1] if taken.table is not None else dim
    if width is None:
        raise UsageError(f"{run.id}: the width of its embeddings is not known")
    seed = derive_seed(config.seed, "head")
    return build_head(plain, classes=classes, dim=width, seed=seed, table=taken.table, means=taken.means)


def runs_dir_of(run: Run) -> Path:
    """The runs folder that a run lies in."""
    return run.root if run.root is not None else run.path.parents[run.id.count("/")]
