"""The interface of a head. The training loop knows heads, never methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.common.errors import UsageError


class Head(nn.Module):
    """Embeddings [B, n] -> loss and labels.

    Class labels are converted to targets first (`target`), outside of the training step. The parameters of a head, if
    it has any, are trained with the backbone's.
    """

    classes: int
    dim: int | None
    two_views = False
    """Whether a training batch holds two augmented views of each image, [B, 2, C, S, S]."""
    learns_labels = True
    """Whether `losses` and `predict` have a meaning."""
    directional = True
    """Whether only the direction of an embedding counts."""
    free_radius: float | None = None
    """The distance from the own centre below which the loss is 0."""
    min_angle: float | None = None
    """The smallest angle between two centres in degrees; None for learned ones."""

    def target(self, labels: Tensor) -> Tensor:
        """What `losses` takes for the class labels [B] int64: [B] or [B, k] int64."""
        return labels

    def training_target(self, labels: Tensor) -> Tensor:
        """What `batch_loss` takes for the labels of many batches, computed before their steps: [B] or [B, k] int64."""
        return self.target(labels)

    def prepare(self, device: torch.device) -> None:
        """Create the small constants on `device` that would otherwise appear during the first step: a compiled step
        would be compiled again for them."""

    def begin_step(self, step: int, target: Tensor) -> None:
        """What hangs on the number of the step, before the loss of its batch is computed, as a whole or in parts."""

    def sampled_rows(self) -> dict[nn.Parameter, Tensor]:
        """The parameters of which the step moves some rows only, with the numbers of these rows, int64."""
        return {}

    def losses(self, z: Tensor, target: Tensor) -> Tensor:
        """The loss of each image, [B] float32, for embeddings [B, n] and `target(labels)`."""
        raise NotImplementedError

    def loss(self, z: Tensor, target: Tensor) -> Tensor:
        """The mean loss of the batch, a float32 scalar."""
        return self.losses(z, target).mean()

    def batch_loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """The loss of a training batch embedded by `model`, a float32 scalar: images [B, C, S, S], or two views."""
        return self.loss(model(images), target)

    def start_from(self, tensors: Mapping[str, Tensor], rows: Sequence[int] | None = None) -> list[str]:
        """Copy what fits from the state of another head; returns descriptions of the copied parameters.

        `rows`: for each class its number in the other head, -1 for a new class; None if the numbers are the same.
        """
        return []

    def predict(self, z: Tensor) -> Tensor:
        """The label [B] int64 of each embedding [B, n], exact over the classes in use."""
        raise NotImplementedError

    scale_trained: float | None = None
    """The scale of the scores in the softmax that was trained; None where the loss is none."""

    def score(self, z: Tensor, labels: Tensor) -> Tensor:
        """What the softmax of `log_partition` multiplies by its scale, of the classes [B] int64: [B]."""
        raise UsageError("this run gives labels without a probability")

    def log_partition(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """The log of the sum of exp(scale * score) over all alternatives, whether they are classes or not, and the mean
        score under their softmax, for embeddings [B, n]: [B] each."""
        raise UsageError("this run gives labels without a probability")

    def within_half_angle(self, z: Tensor, target: Tensor) -> Tensor | None:
        """[B] bool: is the image closer to its own centre than half the smallest angle? None for learned centres."""
        return None

    def project(self, z: Tensor) -> Tensor:
        """The embeddings [B, n] in the space of the centres, [B, m]."""
        return z

    def centres(self, labels: Tensor) -> Tensor | None:
        """The centres of the classes [B] int64, [B, m] float32; None for a method without centres."""
        return None

    def record(self) -> dict[str, Any]:
        """Plain values that decide which label an embedding has; in source.json and in the run's fingerprint."""
        raise NotImplementedError
