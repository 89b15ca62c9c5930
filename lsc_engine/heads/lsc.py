"""Latent space configuration: every class has a vector of a predefined system, and the embedding is trained to hit it.

arXiv:2510.04090: cosine loss (11), distance loss (6)-(7), labels (8) and (12). Nothing here grows with the number of
classes: a target is the index of a vector, the vector is computed from its index where it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lsc_engine.errors import LscError
from lsc_engine.heads.base import Head
from lsc_engine.heads.decode import predict_nearest, predict_shortest
from lsc_engine.heads.scan import Scan
from lsc_engine.heads.within import target_sigma, within_loss
from lsc_engine.vectors import Order, VectorSystem

# Coordinates of a vector up to which they are computed beforehand: 17 numbers an image.
MOST_COLUMNS = 8


class LscHead(Head):
    """`loss` is "cosine", "distance" or "cosine+distance" with `weights` for the two, or the name of `own`, a loss that
    a plugin brings: (embeddings [B, n] float32, vector indices [B]) -> losses [B].

    The mean over the batch is trained, of every loss. (11) is printed as a mean, (6) as a sum over the batch, which for
    the distance alone is a constant factor that AdamW does not see. Of both together it weighs the distance B times as
    much: weights (1, 1) train the two means, weights (1, B) the losses as printed, B being the batch size.

    `radius` is the length of the centres for the distance, or "native" for the family's own lengths; `cluster_radius`
    is r_c of (7), the distance below which an image costs nothing. `within` adds a loss on the distribution within
    classes (within.py), weighted by `within_weight`.
    """

    def __init__(
        self,
        system: VectorSystem,
        order: Order,
        classes: int,
        *,
        loss: str = "cosine",
        radius: float | str = 1.0,
        cluster_radius: float = 0.0,
        weights: tuple[float, float] = (1.0, 1.0),
        own: Callable[[Tensor, Tensor], Tensor] | None = None,
        within: str | None = None,
        within_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.system, self.order, self.classes, self.dim = system, order, classes, system.n
        self.kind, self.radius, self.cluster_radius, self.weights = loss, radius, cluster_radius, weights
        self.own, self.within, self.within_weight = own, within, within_weight
        self._scan = Scan(system, order, classes)
        angle = math.acos(max(-1.0, min(1.0, system.max_cosine)))
        self.sure_cosine = math.cos(angle / 2)
        self.min_angle = math.degrees(angle)
        self.free_length = loss not in ("distance", "cosine+distance")
        self.free_radius = cluster_radius if cluster_radius > 0 and not self.free_length else None

    def target(self, labels: Tensor) -> Tensor:
        return self.order.index(labels)

    def for_step(self, labels: Tensor) -> Tensor:
        """Where only the cosine counts and k is small, the index, then the columns of the vector's sparse form and,
        where they are not the same for all, its weights (the bits of float32), so that a step does not unrank:
        [B, 1 + k] or [B, 1 + 2k]. Else the index, [B]."""
        index = self.target(labels)
        if self.own is not None or self.kind != "cosine" or self.system.support > MOST_COLUMNS:
            return index
        columns, weights = self.system.coordinates(index)
        if self.system.shared_weights(index) is not None:
            return torch.cat([index.unsqueeze(1), columns], 1)
        bits = weights.contiguous().view(torch.int32).long()
        return torch.cat([index.unsqueeze(1), columns, bits], 1)

    def _sparse(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Columns and weights of the targets, [B, k] each."""
        if target.dim() == 1:
            return self.system.coordinates(target)
        k = self.system.support
        columns = target[:, 1 : 1 + k]
        shared = self.system.shared_weights(target)
        if shared is not None:
            return columns, shared.expand(columns.shape)
        return columns, target[:, 1 + k :].to(torch.int32).view(torch.float32)

    @torch.no_grad()
    def prepare(self, device: torch.device) -> None:
        self.loss(torch.zeros(2, self.system.n, device=device), self.for_step(torch.arange(2, device=device)))

    def losses(self, z: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            if self.own is not None:
                losses = self.own(z, target)
                if losses.shape != target.shape:
                    shapes = f"{list(losses.shape)} for {list(target.shape)} targets"
                    raise LscError(f'target.loss: "{self.kind}" gives {shapes}; one loss for each image is needed')
                return losses
            if self.kind == "cosine":
                return 1 - self.system.cosine_from(z, *self._sparse(target))
            excess = torch.relu(self.distance(z, target) - self.cluster_radius)
            distance_loss = torch.expm1(excess)
            if self.kind == "distance":
                return distance_loss
            return self.weights[0] * (1 - self.system.cosine(z, target)) + self.weights[1] * distance_loss

    def loss(self, z: Tensor, target: Tensor) -> Tensor:
        if self.own is None and self.kind == "cosine":
            loss = self._mean_distance(z, target)
        else:
            loss = self.losses(z, target).mean()
        if self.within is None:
            return loss
        with torch.autocast(z.device.type, enabled=False):
            return loss + self.within_weight * within_loss(self.within, self.residuals(z.float(), target), self.sigma)

    def _mean_distance(self, z: Tensor, target: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(z.device.type):
            return self.system.distance_from(z, *self._sparse(target))
        with torch.autocast(z.device.type, enabled=False):
            return self.system.distance_from(z, *self._sparse(target))

    def residuals(self, z: Tensor, target: Tensor) -> Tensor:
        """[B, n]: embeddings less their own centres; as unit vectors where only the direction counts."""
        if self.free_length:
            index = target if target.dim() == 1 else target[:, 0]
            return torch.nn.functional.normalize(z, dim=1) - self.system.vectors(index)
        return z - self._centres(target)

    @property
    def sigma(self) -> float:
        """The standard deviation of each coordinate within a class that `within` aims at."""
        length = 1.0 if self.free_length or self.radius == "native" else float(self.radius)
        reach = self.free_radius or 0.0
        return target_sigma(self.system.n, max_cosine=self.system.max_cosine, length=length, cluster_radius=reach)

    def _centres(self, target: Tensor) -> Tensor:
        centres = self.system.vectors(target)
        if self.radius == "native":
            return centres * self.system.native_norm(target).unsqueeze(1)
        return centres * float(self.radius)

    def distance(self, z: Tensor, target: Tensor) -> Tensor:
        """Euclidean distance [B] of each embedding from its own centre (the x of (7))."""
        return torch.linalg.vector_norm(z - self._centres(target), dim=1)

    def centres(self, labels: Tensor) -> Tensor:
        target = self.order.index(labels)
        return self.system.vectors(target) if self.free_length else self._centres(target)

    @torch.no_grad()
    def predict(self, z: Tensor, unused: str = "nearest") -> Tensor:
        """Labels [B]. A row whose nearest vector of the whole system has no class gets the nearest used one, or -1,
        "a new class", with `unused="new"` (arXiv:2604.00779)."""
        z = z.float()
        if self.kind == "distance" and self.radius == "native":
            return predict_shortest(z, self.system, self.order, self.classes)
        return predict_nearest(z, self._scan, unused=unused)

    @torch.no_grad()
    def inside(self, z: Tensor, target: Tensor) -> Tensor:
        return self.system.cosine(z.float(), target) > self.sure_cosine

    def record(self) -> dict[str, Any]:
        return {
            "method": "lsc",
            "system": self.system.name,
            "n": self.system.n,
            "classes": self.classes,
            "order": self.order.record(),
        }
