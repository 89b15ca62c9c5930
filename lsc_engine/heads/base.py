"""What every head does. The training loop knows heads, never methods."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """Embeddings [B, n] -> loss and labels.

    A head sees a label twice: `target` turns class labels into what the loss needs, once, where labels are made;
    `loss` then works on that. Its parameters, if any, are trained with the backbone's.
    """

    classes: int
    dim: int | None
    views = False
    """Whether a training batch holds two augmented views of each image, [B, 2, C, S, S]."""
    labelled = True
    """Whether labels are learnt, and `losses` and `predict` mean something."""

    def target(self, labels: Tensor) -> Tensor:
        """What `loss` takes for the class labels [B] int64: [B] or [B, k] int64."""
        return labels

    def for_step(self, labels: Tensor) -> Tensor:
        """What `batch_loss` takes for the labels of many batches: `target`, with all of it that can be computed before
        the step; its rows are those of the labels, int64."""
        return self.target(labels)

    def prepare(self, device: torch.device) -> None:
        """Make now, on `device`, the small constants that would otherwise appear during the first step: a compiled
        step would be compiled again for them."""

    def losses(self, z: Tensor, target: Tensor) -> Tensor:
        """The loss of each image, [B] float32, for embeddings [B, n] and `target(labels)`."""
        raise NotImplementedError

    def loss(self, z: Tensor, target: Tensor) -> Tensor:
        """The mean loss of the batch, a float32 scalar."""
        return self.losses(z, target).mean()

    def batch_loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """The loss of a training batch that `model` embeds, a float32 scalar: images [B, C, S, S], or views."""
        return self.loss(model(images), target)

    def take_over(self, tensors: Mapping[str, Tensor], rows: Sequence[int] | None = None) -> list[str]:
        """Begin with what fits of another head's state, and name it. A head without parameters has nothing.

        `rows`: for each class its number there, -1 for none; None where the first classes here are the first there.
        """
        return []

    def predict(self, z: Tensor) -> Tensor:
        """The label [B] int64 of each embedding [B, n], exact over the classes in use."""
        raise NotImplementedError

    def inside(self, z: Tensor, target: Tensor) -> Tensor | None:
        """[B] bool: is the image closer to its own centre than half the smallest angle? None where there is none."""
        return None

    free_length: bool = True
    """Whether only the direction of an embedding counts."""
    free_radius: float | None = None
    """The distance from the own centre within which the loss is 0, if there is one."""
    min_angle: float | None = None
    """The smallest angle between two centres in degrees; None where they are learned."""

    def shown(self, z: Tensor) -> Tensor:
        """The embeddings [B, n] in the space of the centres, [B, m]."""
        return z

    def centres(self, labels: Tensor) -> Tensor | None:
        """Where images of the classes [B] int64 belong, [B, m] float32; None where the method has no such place."""
        return None

    def record(self) -> dict[str, Any]:
        """Everything that decides which label an embedding has, as plain values; kept in source.json."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """sha256 of `record()`: a checkpoint of another fingerprint cannot be continued with this head."""
        return hashlib.sha256(json.dumps(self.record(), sort_keys=True).encode()).hexdigest()
