"""The distance loss, equations (6) and (7) of arXiv:2510.04090."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lsc_engine.heads.loss import Loss
from lsc_engine.registry import LOSSES

if TYPE_CHECKING:
    from torch import Tensor

    from lsc_engine.vectors import VectorSystem


@LOSSES.register("distance")
class Distance(Loss):
    """exp(max(0, |z - c| - r_c)) - 1.

    `radius`: the length of the centres c, or "native" for the family's own lengths. `cluster_radius`: r_c, the distance
    below which an image costs nothing. (6) is printed as a sum over the batch, which for this loss alone is a constant
    factor that AdamW does not see.
    """

    directional: ClassVar[bool] = False
    radius: float | Literal["native"] = 1.0
    cluster_radius: float = Field(0.0, ge=0)

    def losses(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        import torch

        distance = torch.linalg.vector_norm(z - self.centres(system, target), dim=1)
        return torch.expm1(torch.relu(distance - self.cluster_radius))

    def centres(self, system: VectorSystem, index: Tensor) -> Tensor:
        if self.radius == "native":
            return system.vectors(index) * system.native_norm(index).unsqueeze(1)
        return system.vectors(index) * self.radius
