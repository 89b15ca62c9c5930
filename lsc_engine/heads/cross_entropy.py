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

# Rows of logits made at once in `predict`: 64 Mi floats, 256 MB, whatever the number of classes.
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
    def in_a_row(self) -> list[str]:
        """Names of the linear layers, first to last."""
        return ["narrow", "layer"] if self.bottleneck else ["layer"]

    def logits(self, z: Tensor) -> Tensor:
        """[B, classes] of embeddings [B, n]."""
        logits: Tensor = self.layer(self.narrow(z))
        return logits

    def losses(self, z: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(z).float(), target, reduction="none")

    @torch.no_grad()
    def take_over(self, tensors: Mapping[str, Tensor], rows: Sequence[int] | None = None) -> list[str]:
        """The rows of the classes that another class layer has too; those of further classes stay as they were drawn
        (the "random weights" that arXiv:2510.04090, Sec. 5.1.1, says a classifier needs for new classes)."""
        own = self.state_dict()
        narrow = tensors.get("narrow.weight")
        if (narrow is None) != ("narrow.weight" not in own) or (
            narrow is not None and narrow.shape != own["narrow.weight"].shape
        ):
            return []
        taken = []
        for name, given in tensors.items():
            # The spec of a fixed layer is no row of anything.
            if name in own and given.is_floating_point() and own[name].shape[1:] == given.shape[1:]:
                if rows is None or not name.startswith("layer."):
                    there = here = torch.arange(min(len(given), len(own[name])))
                else:
                    there = torch.tensor(rows)
                    here = (there >= 0).nonzero().squeeze(1)
                    there = there[here]
                own[name][here.to(own[name].device)] = given[there.to(given.device)].to(own[name])
                taken.append(f"{name} ({len(here)} of {len(own[name])} rows)")
        return taken

    @torch.no_grad()
    def predict(self, z: Tensor) -> Tensor:
        rows = max(1, LOGITS_AT_ONCE // self.classes)
        return torch.cat([self.logits(part).argmax(1) for part in z.split(rows)])

    def shown(self, z: Tensor) -> Tensor:
        narrow: Tensor = self.narrow(z)
        return narrow

    def centres(self, labels: Tensor) -> Tensor:
        """The rows of the class layer."""
        return self.layer.weight[labels].float()

    def record(self) -> dict[str, Any]:
        return {"method": "ce", "classes": self.classes, "n": self.dim, "bottleneck": self.bottleneck}
