"""The cosine loss, equation (11) of arXiv:2510.04090."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsc_engine.heads.loss import Loss
from lsc_engine.registry import LOSSES

if TYPE_CHECKING:
    from torch import Tensor

    from lsc_engine.vectors import VectorSystem

# Coordinates of a vector up to which they are computed beforehand: 17 numbers an image.
MOST_COLUMNS = 8


@LOSSES.register("cosine")
class Cosine(Loss):
    """1 - cos(z, c)."""

    def losses(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        return 1 - system.cosine_from(z, *_sparse(system, target))

    def mean(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        return system.distance_from(z, *_sparse(system, target))

    def encode_target(self, system: VectorSystem, index: Tensor) -> Tensor:
        """For vectors of few coordinates, the index, the columns of the sparse form and, if they are not the same for
        all vectors, its weights (the bits of float32), so that a step does not unrank: [B, 1 + k] or [B, 1 + 2k]."""
        import torch

        if system.support > MOST_COLUMNS:
            return index
        columns, weights = system.coordinates(index)
        parts = [index.unsqueeze(1), columns]
        if system.shared_weights(index) is None:
            parts.append(weights.contiguous().view(torch.int32).long())
        return torch.cat(parts, 1)


def _sparse(system: VectorSystem, target: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and weights of the targets, [B, k] each."""
    import torch

    if target.dim() == 1:
        return system.coordinates(target)
    columns = target[:, 1 : 1 + system.support]
    shared = system.shared_weights(target)
    if shared is not None:
        return columns, shared.expand(columns.shape)
    return columns, target[:, 1 + system.support :].to(torch.int32).view(torch.float32)
