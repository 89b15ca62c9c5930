"""Softmax over all vectors of the system, whether a class has them or not: a probability without a class layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from lsc_engine.heads.loss import Loss
from lsc_engine.registry import LOSSES

if TYPE_CHECKING:
    from torch import Tensor

    from lsc_engine.vectors import VectorSystem


@LOSSES.register("softmax")
class Softmax(Loss):
    """-s cos(z, c) + log sum_v exp(s cos(z, v)), in nats; `scale`: s. The sum is exact (`log_partition`)."""

    scale: float = Field(16.0, gt=0)

    def losses(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        from lsc_engine.vectors.tensors import safe_length

        x = z * (self.scale / safe_length(z)).unsqueeze(1)
        return system.log_partition(x) - self.scale * system.cosine(z, target)
