"""The squared cosine loss of hyperspherical prototype networks (arXiv:1901.10514)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsc_engine.heads.loss import Loss
from lsc_engine.registry import LOSSES

if TYPE_CHECKING:
    from torch import Tensor

    from lsc_engine.vectors import VectorSystem


@LOSSES.register("squared")
class Squared(Loss):
    """(1 - cos(z, c))²."""

    def losses(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        return (1 - system.cosine(z, target)).square()
