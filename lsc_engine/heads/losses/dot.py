"""Dot regression (arXiv:2203.09081): the inner product with the own vector, pulled to the length of the centres."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from lsc_engine.heads.loss import Loss
from lsc_engine.registry import LOSSES

if TYPE_CHECKING:
    from torch import Tensor

    from lsc_engine.vectors import VectorSystem


@LOSSES.register("dot")
class Dot(Loss):
    """½ (<z, v> - r)² for the unit vector v; `radius`: r, or "native" for the family's own lengths."""

    directional: ClassVar[bool] = False
    radius: float | Literal["native"] = 1.0

    def losses(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        columns, weights = system.coordinates(target)
        radius = system.native_norm(target) if self.radius == "native" else self.radius
        return 0.5 * ((system.lift(z).gather(1, columns) * weights).sum(1) - radius).square()

    def centres(self, system: VectorSystem, index: Tensor) -> Tensor:
        length = system.native_norm(index).unsqueeze(1) if self.radius == "native" else self.radius
        return system.vectors(index) * length
