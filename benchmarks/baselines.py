"""What a user would take instead of this engine, written as well as we can: class layers and searches over all classes.

Cross-entropy over C classes of embeddings [B, n], with weights W [C, n]:

    loss = mean_b ( log sum_c exp(z_b . W_c) - z_b . W_{y_b} )
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


class DenseCE(nn.Module):
    """One linear layer and torch's cross-entropy: all logits [B, C] at once."""

    def __init__(self, dim: int, classes: int, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.weight = class_weights(dim, classes, device)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(z @ self.weight.T, labels)


class _ChunkedLoss(torch.autograd.Function):
    """Exact cross-entropy with the logits of one block of classes at a time, computed again for the gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, labels: Tensor, block: int) -> Tensor:
        largest = z.new_full((len(z),), -math.inf)
        total = z.new_zeros(len(z))
        for rows in weight.split(block):
            logits = z @ rows.T
            top = torch.maximum(largest, logits.amax(1))
            total = total * (largest - top).exp() + logits.sub_(top.unsqueeze(1)).exp_().sum(1)
            largest = top
        log_sum = largest + total.log()
        ctx.save_for_backward(z, weight, labels, log_sum)
        ctx.block = block
        own = (z * weight[labels]).sum(1)
        return (log_sum - own).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        z, weight, labels, log_sum = ctx.saved_tensors  # type: ignore[attr-defined]
        block: int = ctx.block  # type: ignore[attr-defined]
        scale = grad / len(z)
        grad_z, grad_weight = torch.zeros_like(z), torch.empty_like(weight)
        for start in range(0, len(weight), block):
            rows = weight[start : start + block]
            share = (z @ rows.T).sub_(log_sum.unsqueeze(1)).exp_().mul_(scale)
            grad_z.addmm_(share, rows)
            torch.mm(share.T, z, out=grad_weight[start : start + block])
        grad_z.addcmul_(weight[labels], -scale.expand(1))
        grad_weight.index_add_(0, labels, z * -scale)
        return grad_z, grad_weight, None, None


class ChunkedCE(DenseCE):
    """The same loss and gradients; memory of logits [B, `block`] whatever the number of classes."""

    def __init__(self, dim: int, classes: int, device: torch.device | str = "cpu", block: int = 16384) -> None:
        super().__init__(dim, classes, device)
        self.block = block

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = _ChunkedLoss.apply(z, self.weight, labels, self.block)
        return loss


class SampledCE(DenseCE):
    """In the manner of Partial FC (arXiv:2010.05222): the classes of the batch and random others, `rate` of all.

    Gradients go to the sampled rows only, as a sparse tensor. Another loss than the whole one: an approximation.
    """

    def __init__(
        self, dim: int, classes: int, device: torch.device | str = "cpu", rate: float = 0.1, seed: int = 0
    ) -> None:
        super().__init__(dim, classes, device)
        self.sampled = max(1, round(rate * classes))
        self._generator = torch.Generator(device).manual_seed(seed)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        positive = labels.unique()
        if len(positive) >= self.sampled:
            chosen = positive
        else:
            score = torch.rand(len(self.weight), generator=self._generator, device=z.device)
            score[positive] = 2.0
            chosen = score.topk(self.sampled).indices.sort().values
        rows = F.embedding(chosen, self.weight, sparse=True)
        return F.cross_entropy(z @ rows.T, torch.searchsorted(chosen, labels))


def class_weights(dim: int, classes: int, device: torch.device | str) -> nn.Parameter:
    """[classes, dim] float32, small random values."""
    generator = torch.Generator(device).manual_seed(0)
    weight = torch.empty(classes, dim, device=device).normal_(0, 1 / math.sqrt(dim), generator=generator)
    return nn.Parameter(weight)


def table_of(system: Any, order: Any, classes: int, block: int = 65536, device: torch.device | str = "cpu") -> Tensor:
    """The dense table [classes, n] float32 of the vectors of all classes, which the exhaustive searches need."""
    table = torch.empty(classes, system.n, device=device)
    for start in range(0, classes, block):
        label = torch.arange(start, min(start + block, classes), device=device)
        table[start : start + len(label)] = system.vectors(order.index(label))
    return table


def gemm_labels(z: Tensor, table: Tensor, block: int = 65536) -> Tensor:
    """arg max over all classes by matrix products of `block` classes with a running maximum."""
    best = z.new_full((len(z),), -math.inf)
    labels = torch.zeros(len(z), dtype=torch.long, device=z.device)
    for start in range(0, len(table), block):
        value, at = (z @ table[start : start + block].T).max(1)
        better = value > best
        best = torch.where(better, value, best)
        labels = torch.where(better, at + start, labels)
    return labels


def faiss_flat(table: Tensor) -> Any:
    """FAISS's exact inner-product index over the table, or None where FAISS is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    index = faiss.IndexFlatIP(table.shape[1])
    index.add(table.cpu().numpy())
    return index
