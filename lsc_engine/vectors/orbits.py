"""Nearest vectors of systems whose vectors are arrangements of p values +a and q values -b (permutation families).

All vectors of one such orbit are equally long, so by the rearrangement inequality the best puts +a on the p largest and
-b on the q smallest coordinates (arXiv:2604.00779 states it for V_pq). A union takes the best over its orbits.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lsc_engine.vectors.base import VectorSystem, clean, extremes
from lsc_engine.vectors.best import candidates
from lsc_engine.vectors.counting import SystemFacts
from lsc_engine.vectors.subsets import rising

# Candidate scores held at once, 64 MB of float32.
SCORES_AT_ONCE = 2**24


@dataclass(frozen=True)
class TwoValued:
    """Arrangements of p values +a and q values -b."""

    p: int
    a: int
    q: int
    b: int

    @property
    def norm(self) -> float:
        """Length of the integer vector."""
        return math.sqrt(self.p * self.a**2 + self.q * self.b**2)


class OrbitSystem(VectorSystem):
    """A union of two-valued orbits over `width` lifted coordinates."""

    def __init__(self, facts: SystemFacts, orbits: tuple[TwoValued, ...], width: int) -> None:
        super().__init__(facts)
        self.width = width
        self.orbits = tuple(orbit for orbit in orbits if orbit.p + orbit.q <= width)
        self._candidates: dict[tuple[TwoValued, int, torch.device], tuple[Tensor, Tensor, int, int]] = {}

    @abstractmethod
    def _encode(self, orbit: TwoValued, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        """Index of the arrangement with these positions (p and q tensors of one shape, each rising)."""

    def nearest(self, z: Tensor) -> Tensor:
        self._countable()
        z = self.lift(clean(z))
        top, bottom = extremes(z, max(o.p for o in self.orbits), max(o.q for o in self.orbits))
        if len(self.orbits) == 1:
            return self._encode(self.orbits[0], rising(top), rising(bottom))
        high, low = z.gather(1, top).cumsum(1), z.gather(1, bottom).cumsum(1)
        scores, found = [], []
        for orbit in self.orbits:
            score = torch.zeros_like(z[:, 0])
            if orbit.p:
                score = score + high[:, orbit.p - 1] * (orbit.a / orbit.norm)
            if orbit.q:
                score = score - low[:, orbit.q - 1] * (orbit.b / orbit.norm)
            scores.append(score)
            found.append(self._encode(orbit, rising(top[:, : orbit.p]), rising(bottom[:, : orbit.q])))
        best = torch.stack(scores, 1).argmax(1, keepdim=True)
        return torch.stack(found, 1).gather(1, best).squeeze(1)

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:
        """Exact by the candidates of best.py: per orbit a fixed list of ranks that can be among the k best."""
        self._countable()
        k = min(k, self.count)
        z = self.lift(clean(z))
        most = max(len(candidates(self.width, orbit.p, orbit.q, k)) for orbit in self.orbits)
        chunk = max(1, SCORES_AT_ONCE // most)
        return (
            torch.cat([self._nearest_k(rows, k) for rows in z.split(chunk)]) if len(z) else z.new_empty((0, k)).long()
        )

    def _nearest_k(self, z: Tensor, k: int) -> Tensor:
        lists = [(orbit, *self._ranks(orbit, k, z)) for orbit in self.orbits]
        top, bottom = extremes(z, max(deep for *_, deep, _ in lists), max(down for *_, down in lists))
        high, low = z.gather(1, top), z.gather(1, bottom)
        scores, found = [], []
        for orbit, above, below, _, _ in lists:
            score = z.new_zeros((z.shape[0], above.shape[0]))
            for slot in range(orbit.p):
                score += high[:, above[:, slot]]
            score *= orbit.a
            for slot in range(orbit.q):
                score.sub_(low[:, below[:, slot]], alpha=orbit.b)
            value, at = (score / orbit.norm).topk(min(k, above.shape[0]), dim=1)
            plus = [top.gather(1, above[:, slot][at]) for slot in range(orbit.p)]
            minus = [bottom.gather(1, below[:, slot][at]) for slot in range(orbit.q)]
            index = self._encode(
                orbit, rising(torch.stack(plus, -1)) if plus else [], rising(torch.stack(minus, -1)) if minus else []
            )
            scores.append(value)
            found.append(index)
        at = torch.cat(scores, 1).topk(k, dim=1).indices
        return torch.cat(found, 1).gather(1, at)

    def _ranks(self, orbit: TwoValued, k: int, like: Tensor) -> tuple[Tensor, Tensor, int, int]:
        """The candidates' ranks as tensors [M, p] and [M, q], and how many largest and smallest values they touch."""
        key = (orbit, k, like.device)
        if key not in self._candidates:
            pairs = candidates(self.width, orbit.p, orbit.q, k)
            above = torch.tensor([a for a, _ in pairs], dtype=torch.long, device=like.device)
            below = torch.tensor([b for _, b in pairs], dtype=torch.long, device=like.device)
            shaped = above.reshape(len(pairs), orbit.p), below.reshape(len(pairs), orbit.q)
            depth = [int(ranks.max()) + 1 if ranks.numel() else 0 for ranks in shaped]
            self._candidates[key] = (*shaped, depth[0], depth[1])
        return self._candidates[key]
