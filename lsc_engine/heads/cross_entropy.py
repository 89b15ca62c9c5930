"""Cross-entropy over a class layer: the method LSC is compared with.

With a bottleneck the embedding passes a linear layer of that width before the class layer (arXiv:2512.07509, Fig. 5b).
With x that embedding, u and w_c the directions of x and of row c, y the class and s the scale:

    softmax     logits <x, W_c> + b_c
    normalized  s cos(u, w_c)                                                           (arXiv:1704.06369)
    cosface     as normalized, the own logit s (cos(u, w_y) - m)                        (arXiv:1801.09414)
    arcface     as normalized, the own logit s cos(angle(u, w_y) + m)                   (arXiv:1801.07698)

Labels are those of the largest logit without the margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsc_engine.heads.base import Head
from lsc_engine.vectors.bijection import Bijection

# Logits in memory at once in evaluation: 64 Mi floats, 256 MB, whatever the number of classes.
LOGITS_AT_ONCE = 2**26
# The rate at which centres follow the images of a batch, alpha of the paper of the centre loss (Wen et al., ECCV 2016).
CENTRE_RATE = 0.5
# Least squared sine of an angle: at 0 the gradient of the sine is infinite.
_LEAST = 1e-7


class CrossEntropyHead(Head):
    """A class layer [classes, n], with bias where its loss is softmax; losses in nats, computed in float32.

    `share` (Partial FC, arXiv:2203.15565): a training step sees the classes of its batch of `batch_size` images and
    random others, together this share of all; which ones is a function of `seed` and the step. `center_weight` adds
    that much of |x - c_y|^2, where the centre c follows the embeddings of its class. With `momentum` nothing is learnt:
    row c is the running mean of the directions u of its class (arXiv:2310.05351), 0 until its first image.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        bottleneck: int | None,
        seed: int,
        *,
        loss: str = "softmax",
        scale: float = 1.0,
        margin: float = 0.0,
        share: float | None = None,
        batch_size: int = 1,
        center_weight: float | None = None,
        momentum: float | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.classes, self.bottleneck, self.seed = dim, classes, bottleneck, seed
        self.kind, self.scale, self.margin, self.share = loss, scale, margin, share
        self.center_weight, self.momentum = center_weight, momentum
        width = bottleneck or dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.narrow = nn.Linear(dim, bottleneck, bias=False) if bottleneck else nn.Identity()
            if momentum is None:
                self.layer = nn.Linear(width, classes, bias=loss == "softmax")
        if momentum is not None:
            self.register_buffer("means", torch.zeros(classes, width))
        if center_weight is not None:
            self.register_buffer("centers", torch.zeros(classes, width))
        if share is not None:
            size = sampled_classes(classes, share, batch_size)
            self.register_buffer("sampled", torch.arange(size), persistent=False)

    means: Tensor
    centers: Tensor
    sampled: Tensor
    """The classes of the step, rising."""

    @property
    def consecutive_linear_layers(self) -> list[str]:
        """Names of the linear layers, first to last."""
        return ["narrow"] * (self.bottleneck is not None) + ["layer"] * (self.momentum is None)

    @property
    def weights(self) -> Tensor:
        """The rows of the class layer, [classes, n]."""
        rows: Tensor = self.layer.weight if self.momentum is None else self.means
        return rows

    def logits(self, z: Tensor) -> Tensor:
        """[B, classes] of embeddings [B, n], without a margin."""
        return self._logits(self.narrow(z))

    def _logits(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Of all classes, or of those numbered `rows`."""
        if self.kind == "softmax":
            layer = self.layer
            logits: Tensor = layer(x) if rows is None else F.linear(x, layer.weight[rows], layer.bias[rows])
            return logits
        weights = self.weights if rows is None else self.weights[rows]
        with torch.autocast(x.device.type, enabled=False):
            return self.scale * F.linear(F.normalize(x.float(), dim=1), F.normalize(weights.float(), dim=1))

    def _with_margin(self, logits: Tensor, place: Tensor) -> Tensor:
        """`logits` with the margin at the own class, [B] columns `place`."""
        if self.kind not in ("cosface", "arcface"):
            return logits
        own = logits.gather(1, place.unsqueeze(1)) / self.scale
        moved = own - self.margin
        if self.kind == "arcface":
            sine = (1 - own.square()).clamp(min=_LEAST).sqrt()
            turned = own * math.cos(self.margin) - sine * math.sin(self.margin)
            # Beyond 180 degrees the cosine would rise again.
            turnable = own >= -math.cos(self.margin)
            moved = torch.where(turnable, turned, own - self.margin * math.sin(self.margin))
        return logits.scatter(1, place.unsqueeze(1), self.scale * moved)

    def _losses(self, x: Tensor, target: Tensor, rows: Tensor | None = None) -> Tensor:
        place = target if rows is None else torch.searchsorted(rows, target)
        logits = self._with_margin(self._logits(x, rows).float(), place)
        losses = F.cross_entropy(logits, place, reduction="none")
        if self.center_weight is None:
            return losses
        return losses + self.center_weight * (x.float() - self.centers[target]).square().sum(1)

    def losses(self, z: Tensor, target: Tensor) -> Tensor:
        """Among all classes, also with `share`."""
        parts = zip(z.split(self._rows_at_once), target.split(self._rows_at_once), strict=True)
        return torch.cat([self._losses(self.narrow(part), labels) for part, labels in parts])

    @property
    def _rows_at_once(self) -> int:
        return max(1, LOGITS_AT_ONCE // self.classes)

    def batch_loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        x = self.narrow(model(images))
        loss = self._losses(x, target, None if self.share is None else self.sampled).mean()
        detached = x.detach().float()
        if self.momentum is not None:
            _follow(self.means, target, F.normalize(detached, dim=1), self._mean_rate)
        if self.center_weight is not None:
            _follow(self.centers, target, detached, lambda _, count: CENTRE_RATE * count / (1 + count))
        return loss

    def _mean_rate(self, old: Tensor, count: Tensor) -> Tensor:
        assert self.momentum is not None
        return torch.where(old.any(1, keepdim=True), 1 - self.momentum, 1.0)

    def begin_step(self, step: int, target: Tensor) -> None:
        if self.share is None:
            return
        size = len(self.sampled)
        drawn = Bijection(self.classes, self.seed, f"classes of step {step}")(torch.arange(size, device=target.device))
        present = target.unique()
        chosen = torch.cat([present, drawn[~torch.isin(drawn, present)]])[:size]
        self.sampled.copy_(chosen.sort().values)

    def sampled_rows(self) -> dict[nn.Parameter, Tensor]:
        if self.share is None or self.momentum is not None:
            return {}
        return dict.fromkeys(self.layer.parameters(), self.sampled)

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
                source = torch.tensor(rows if rows is not None and not name.startswith("narrow.") else range(count))
                known = (source >= 0).nonzero().squeeze(1)
                own[name][known.to(own[name].device)] = theirs[source[known].to(theirs.device)].to(own[name])
                copied.append(f"{name} ({len(known)} of {len(own[name])} rows)")
        return copied

    @torch.no_grad()
    def predict(self, z: Tensor) -> Tensor:
        return torch.cat([self.logits(part).argmax(1) for part in z.split(self._rows_at_once)])

    scale_trained = 1.0

    @torch.no_grad()
    def score(self, z: Tensor, labels: Tensor) -> Tensor:
        """The logit."""
        parts = zip(z.split(self._rows_at_once), labels.split(self._rows_at_once), strict=True)
        return torch.cat([self.logits(part).gather(1, own.unsqueeze(1)).squeeze(1) for part, own in parts])

    @torch.no_grad()
    def log_partition(self, z: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Over all classes."""
        logits = (self.logits(part).double() for part in z.split(self._rows_at_once))
        found = [((scale * each).logsumexp(1), ((scale * each).softmax(1) * each).sum(1)) for each in logits]
        return torch.cat([total for total, _ in found]), torch.cat([mean for _, mean in found])

    def project(self, z: Tensor) -> Tensor:
        narrow: Tensor = self.narrow(z)
        return narrow

    def centres(self, labels: Tensor) -> Tensor:
        """The rows of the class layer."""
        return self.weights[labels].float()

    def record(self) -> dict[str, Any]:
        return {"method": "ce", "classes": self.classes, "n": self.dim, "bottleneck": self.bottleneck}


def sampled_classes(classes: int, share: float, batch_size: int) -> int:
    """How many classes a step of Partial FC sees: the share, and no fewer than a batch may have."""
    return min(classes, max(batch_size, math.ceil(share * classes)))


@torch.no_grad()
def _follow(rows: Tensor, labels: Tensor, points: Tensor, rate: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Move the row of every class that the labels [B] name towards the mean of its points [B, n], by the share `rate`
    of the way, a function of the rows [B, n] as they are and of the numbers of points [B, 1]."""
    same = (labels == labels.unsqueeze(1)).float()
    count = same.sum(1, keepdim=True)
    # All images of a class write the same numbers: those of its first image.
    mean = (same @ points / count)[same.argmax(1)]
    old = rows[labels]
    rows[labels] = torch.lerp(old, mean, rate(old, count).expand_as(old))
