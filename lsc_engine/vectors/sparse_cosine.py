"""The cosine with sparse vectors as one operation of autograd, in torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lsc_engine.vectors.tensors import safe_length


class SparseCosine(torch.autograd.Function):
    """<z, v> / |z| for z [B, n] and unit rows v given by columns and weights [B, k], with its gradient

        (v - cos z / |z|) / |z|,

    a third quicker for small batches than through the single operations.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """Cosines [B]."""
        length = safe_length(z)
        cosine = (z.gather(1, columns) * weights).sum(1) / length
        ctx.save_for_backward(z, columns, weights, length, cosine)
        return cosine

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient [B, n] for z alone."""
        return _gradient(grad, *ctx.saved_tensors), None, None


class SparseDistance(torch.autograd.Function):
    """The mean of 1 - `SparseCosine`, with the operations in the same order."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """A scalar."""
        return (1 - SparseCosine.forward(ctx, z, columns, weights)).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient [B, n] for z alone."""
        saved = ctx.saved_tensors
        return _gradient(-(grad / len(saved[0])), *saved), None, None


def _gradient(grad: Tensor, z: Tensor, columns: Tensor, weights: Tensor, length: Tensor, cosine: Tensor) -> Tensor:
    """Of the cosines, each times its `grad` ([B] or a scalar)."""
    scaled = grad / length
    along = z * (-scaled * cosine / length).unsqueeze(1)
    return along.scatter_add_(1, columns, weights * scaled.unsqueeze(1))
