"""Cosine and distance loss together (arXiv:2510.04090)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsc_engine.heads.losses.distance import Distance
from lsc_engine.registry import LOSSES

if TYPE_CHECKING:
    from torch import Tensor

    from lsc_engine.vectors import VectorSystem


@LOSSES.register("cosine+distance")
class CosineAndDistance(Distance):
    """`weights` for the two. (11) is printed as a mean over the batch, (6) as a sum, which weighs the distance B times
    as much: weights (1, 1) train the two means, weights (1, B) the losses as printed, B being the batch size."""

    weights: tuple[float, float] = (1.0, 1.0)

    def losses(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        distance = super().losses(system, z, target)
        return self.weights[0] * (1 - system.cosine(z, target)) + self.weights[1] * distance
