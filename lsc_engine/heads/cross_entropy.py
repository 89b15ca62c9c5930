"""Cross-entropy over a class layer: the method LSC is compared with.

With a bottleneck the embedding passes a linear layer of that width before the class layer (arXiv:2512.07509, Fig. 5b).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsc_engine.heads.base import Head

# Logits in memory at once in `predict`: 64 Mi floats, 256 MB, whatever the number of classes.
LOGITS_AT_ONCE = 2**26


class CrossEntropyHead(Head):
    """Logits by one linear layer [classes, n] with bias; loss in nats, computed in float32."""

    def __init__(self, dim: int, classes: int, bottleneck: int | None, seed: int) -> None:
        super().__init__()
        self.dim, self.classes, self.bottleneck = dim, classes, bottleneck
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.narrow = nn.Linear(dim, bottleneck, bias=False) if bottleneck else nn.Identity()
            self.layer = nn.Linear(bottleneck or dim, classes)

    @property
    def consecutive_linear_layers(self) -> list[str]:
        """Names of the linear layers, first to last."""
        return ["narrow", "layer"] if self.bottleneck else ["layer"]

    def logits(self, z: Tensor) -> Tensor:
        """[B, classes] of embeddings [B, n]."""
        logits: Tensor = self.layer(self.narrow(z))
        return logits

    def losses(self, z: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(z).float(), target, reduction="none")

    @torch.no_grad()
    def start_from(self, tensors: Mapping[str, Tensor], rows: Sequence[int] | None = None) -> list[str]:
        """Copy the rows of the classes that another class layer has too; those of further classes stay random (as
        arXiv:2510.04090, Sec. 5.1.1, says of a classifier with new classes)."""
        own = self.state_dict()
        shapes = [weights["narrow.weight"].shape if "narrow.weight" in weights else None for weights in (own, tensors)]
        if shapes[0] != shapes[1]:
            return []
        copied = []
        for name, theirs in tensors.items():
            # The spec of a fixed layer is an integer tensor without rows.
            if name in own and theirs.is_floating_point() and own[name].shape[1:] == theirs.shape[1:]:
                count = min(len(theirs), len(own[name]))
                source = torch.tensor(rows if rows is not None and name.startswith("layer.") else range(count))
                known = (source >= 0).nonzero().squeeze(1)
                own[name][known.to(own[name].device)] = theirs[source[known].to(theirs.device)].to(own[name])
                copied.append(f"{name} ({len(known)} of {len(own[name])} rows)")
        return copied

    @torch.no_grad()
    def predict(self, z: Tensor) -> Tensor:
        rows = max(1, LOGITS_AT_ONCE // self.classes)
        return torch.cat([self.logits(part).argmax(1) for part in z.split(rows)])

    def project(self, z: Tensor) -> Tensor:
        narrow: Tensor = self.narrow(z)
        return narrow

    def centres(self, labels: Tensor) -> Tensor:
        """The rows of the class layer."""
        return self.layer.weight[labels].float()

    def record(self) -> dict[str, Any]:
        return {"method": "ce", "classes": self.classes, "n": self.dim, "bottleneck": self.bottleneck}
