"""Self-supervision: two augmented views of an image are pulled together, those of other images apart; no labels.

The stage before SSL-LSC (arXiv:2510.04090, Sec. 6.6): its class means then choose centres, `order = "nearest:RUN"`. The
loss is NT-Xent (arXiv:2002.05709, Eq. 1) on the embedding itself, without the projection head that its authors put
behind it: the class means must lie in the space of the vectors.

    l_i = -log( exp(cos(z_i, z_j) / T) / sum_{k != i} exp(cos(z_i, z_k) / T) ),    j: the other view of the same image
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsc_engine.heads.base import Head


class SelfSupervisedHead(Head):
    """For batches of two views, images [B, 2, C, S, S]. It learns no labels: `predict` is not implemented."""

    two_views = True
    learns_labels = False

    def __init__(self, dim: int, classes: int, temperature: float) -> None:
        super().__init__()
        self.dim, self.classes, self.temperature = dim, classes, temperature

    def batch_loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        return self.loss(model(images.flatten(0, 1)), target)

    def loss(self, z: Tensor, target: Tensor) -> Tensor:
        """NT-Xent of embeddings [2B, n], the views of image b at rows 2b and 2b + 1; a float32 scalar. Images
        are compared within a micro-batch only."""
        with torch.autocast(z.device.type, enabled=False):
            unit = F.normalize(z.float(), dim=1)
            own = torch.arange(len(unit), device=unit.device)
            scores = (unit @ unit.T / self.temperature).fill_diagonal_(-torch.inf)
            return F.cross_entropy(scores, own ^ 1)

    def record(self) -> dict[str, Any]:
        return {"method": "ssl", "n": self.dim}
