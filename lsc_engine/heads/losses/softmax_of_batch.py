"""Softmax over the vectors, or over the embeddings, of one batch (arXiv:2605.20302)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lsc_engine.heads.loss import Loss
from lsc_engine.registry import LOSSES

if TYPE_CHECKING:
    from torch import Tensor

    from lsc_engine.vectors import VectorSystem


@LOSSES.register("batch-softmax")
class BatchSoftmax(Loss):
    """-log softmax of s cos(z_i, c_j), in nats; `scale`: s.

    Along `batch_axis` rows each image chooses among the centres c_j of the batch, along columns each centre among the
    embeddings z_i. Another image of the same class is no alternative: each sum has the own pair and those of other
    classes. Of a batch in micro-batches each is one by itself.
    """

    by_image = False

    scale: float = Field(16.0, gt=0)
    batch_axis: Literal["rows", "columns"] = "rows"

    def losses(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        scores = self.scale * F.normalize(z, dim=1) @ system.vectors(target).T
        scores = scores if self.batch_axis == "rows" else scores.T
        own = torch.arange(len(z), device=z.device)
        same = (target == target.unsqueeze(1)).fill_diagonal_(False)
        return F.cross_entropy(scores.masked_fill(same, -torch.inf), own, reduction="none")
