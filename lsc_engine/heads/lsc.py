"""Latent space configuration: every class has a vector of a predefined system, and the embedding is trained to hit it.

arXiv:2510.04090: losses (losses/), labels (8) and (12). Nothing here grows with the number of classes: a target is the
index of a vector, the vector is computed from its index when it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.common.errors import LscError
from lsc_engine.heads.base import Head
from lsc_engine.heads.decode import predict_nearest, predict_shortest
from lsc_engine.heads.loss import Loss
from lsc_engine.heads.losses.cosine import Cosine
from lsc_engine.heads.losses.distance import Distance
from lsc_engine.heads.losses.softmax import Softmax
from lsc_engine.heads.scan import Scan
from lsc_engine.heads.within import target_sigma, within_loss
from lsc_engine.vectors import VectorSystem
from lsc_engine.vectors.choice import INIT_ORDER
from lsc_engine.vectors.families.tables import Table
from lsc_engine.vectors.order import Order
from lsc_engine.vectors.subsets import MOST_ON_HOST


class PluginLoss(Loss):
    """A loss of a plugin: (embeddings [B, n] float32, vector indices [B]) -> losses [B]."""

    name: str
    function: Callable[[Tensor, Tensor], Tensor]

    def losses(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        losses = self.function(z, target)
        if losses.shape != target.shape:
            shapes = f"{list(losses.shape)} for {list(target.shape)} targets"
            raise LscError(f'target.loss: "{self.name}" gives {shapes}; one loss for each image is needed')
        return losses


class LscHead(Head):
    """`within` adds a loss on the distribution within classes (within.py), weighted by `within_weight`.

    With order nearest:init the vectors of the classes are state, `chosen` [classes] int64, which checkpoints hold:
    the first ones until `choose`.
    """

    chosen: Tensor

    def __init__(
        self,
        system: VectorSystem,
        order: Order,
        classes: int,
        loss: Loss | None = None,
        *,
        within: str | None = None,
        within_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.system, self.order, self.classes, self.dim = system, order, classes, system.n
        self.distance = loss or Cosine()
        # A plugin's module is a submodule here: its parameters are trained and kept in checkpoints.
        if isinstance(self.distance, PluginLoss) and isinstance(self.distance.function, nn.Module):
            self.own = self.distance.function
        self.within, self.within_weight = within, within_weight
        self._scan = Scan(system, order, classes)
        if order.kind == INIT_ORDER:
            self.register_buffer("chosen", torch.arange(classes))
            self.register_load_state_dict_post_hook(lambda head, _: head.choose(head.chosen))
        angle = math.acos(max(-1.0, min(1.0, system.max_cosine)))
        self.half_angle_cosine = math.cos(angle / 2)
        self.min_angle = math.degrees(angle)
        self.directional = self.distance.directional
        if isinstance(self.distance, Distance) and self.distance.cluster_radius > 0:
            self.free_radius = self.distance.cluster_radius
        radius = getattr(self.distance, "radius", 1.0)
        self.sigma = target_sigma(
            system.n,
            max_cosine=system.max_cosine,
            length=1.0 if radius == "native" else radius,
            cluster_radius=self.free_radius or 0.0,
        )
        """The standard deviation of each coordinate within a class that `within` aims at."""

    def choose(self, indices: Tensor) -> None:
        """Give class c the vector `indices[c]` ([classes] int64, distinct) from now on; order nearest:init."""
        self.chosen.copy_(indices)
        self.order = Order.stored(INIT_ORDER, self.system, indices.cpu())
        self._scan = Scan(self.system, self.order, self.classes)

    def target(self, labels: Tensor) -> Tensor:
        return self.order.index(labels)

    def training_target(self, labels: Tensor) -> Tensor:
        return self.distance.encode_target(self.system, self.target(labels))

    @torch.no_grad()
    def prepare(self, device: torch.device) -> None:
        # More rows than are unranked by numpy on the host, since a compiled step does all of it in torch.
        labels = torch.arange(MOST_ON_HOST + 1, device=device) % 2
        self.loss(torch.zeros(len(labels), self.system.n, device=device), self.training_target(labels))

    def losses(self, z: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return self.distance.losses(self.system, z.float(), target)

    def loss(self, z: Tensor, target: Tensor) -> Tensor:
        if torch.is_autocast_enabled(z.device.type):
            with torch.autocast(z.device.type, enabled=False):
                return self._loss(z, target)
        return self._loss(z, target)

    def _loss(self, z: Tensor, target: Tensor) -> Tensor:
        loss = self.distance.mean(self.system, z, target)
        if self.within is None:
            return loss
        z, index = z.float(), target if target.dim() == 1 else target[:, 0]
        residuals = (nn.functional.normalize(z, dim=1) if self.directional else z) - self._centres(index)
        return loss + self.within_weight * within_loss(self.within, residuals, self.sigma)

    def _centres(self, index: Tensor) -> Tensor:
        return self.distance.centres(self.system, index)

    def centres(self, labels: Tensor) -> Tensor:
        return self._centres(self.order.index(labels))

    @torch.no_grad()
    def predict(self, z: Tensor, unused: str = "nearest") -> Tensor:
        """Labels [B]. A row whose nearest vector of the whole system has no class gets the nearest used one, or -1,
        "a new class", with `unused="new"` (arXiv:2604.00779)."""
        z = z.float()
        if type(self.distance) is Distance and self.distance.radius == "native":
            return predict_shortest(z, self.system, self.order, self.classes)
        return predict_nearest(z, self._scan, unused=unused)

    @property
    def scale_trained(self) -> float | None:  # type: ignore[override]
        return self.distance.scale if isinstance(self.distance, Softmax) else None

    @torch.no_grad()
    def score(self, z: Tensor, labels: Tensor) -> Tensor:
        """The cosine to the centre, float64: a softmax of a large scale tells small differences apart."""
        centres = self.system.vectors(self.order.index(labels))
        return nn.functional.cosine_similarity(z.double(), centres.double(), dim=1)

    def log_partition(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Over all vectors of the system, in float64. UsageError where their sum has no formula."""
        with torch.enable_grad(), torch.autocast(z.device.type, enabled=False):
            unit = nn.functional.normalize(z.detach().double(), dim=1)
            x = (scale * unit).requires_grad_()
            total = self.system.log_partition(x)
            (mean,) = torch.autograd.grad(total.sum(), x)
        return total.detach(), (mean * unit).sum(1)

    @torch.no_grad()
    def within_half_angle(self, z: Tensor, target: Tensor) -> Tensor:
        return self.system.cosine(z.float(), target) > self.half_angle_cosine

    def record(self) -> dict[str, Any]:
        return {
            "method": "lsc",
            "system": self.system.name,
            "n": self.system.n,
            "classes": self.classes,
            "order": self.order.record(),
            **({"vectors_seed": self.system.seed} if self.system.seeded else {}),
            **({"vectors_sha256": self.system.sha256} if isinstance(self.system, Table) else {}),
        }
