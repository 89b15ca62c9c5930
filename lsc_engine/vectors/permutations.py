"""V_n^pq: all permutations of p ones, q minus ones and zeros (arXiv:2512.07509), and V_n^pq with its negatives.

Index order ("sequential", and "lexicographic" too for V_pq): by the positions of the ones, as a rising tuple compared
lexicographically, then by those of the minus ones. V21 at n = 4 begins 1 1 -1 0, 1 1 0 -1, 1 -1 1 0, ...
V_pq^pm: vector r of V_pq is number 2r, its negative 2r + 1; lexicographic: all of V_pq, then the negatives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lsc_engine.vectors.counting import SystemFacts
from lsc_engine.vectors.orbits import OrbitSystem, TwoValued
from lsc_engine.vectors.subsets import Numbers, Subsets, few, skip, unskip


class Arrangements:
    """Ranks of placements of p ones and q minus ones on `width` coordinates, in the order above."""

    def __init__(self, width: int, p: int, q: int) -> None:
        self.plus, self.minus = Subsets(width, p), Subsets(width - p, q)
        self.count = self.plus.count * self.minus.count

    def unrank(self, rank: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Positions of the ones and of the minus ones, each rising."""
        if few(rank):
            plus, minus = self._unrank(rank.numpy())
            return [torch.from_numpy(x) for x in plus], [torch.from_numpy(x) for x in minus]
        return self._unrank(rank)

    def _unrank(self, rank: Numbers) -> tuple[list[Numbers], list[Numbers]]:
        first = rank // self.minus.count
        plus = self.plus.unrank(first)
        minus = self.minus.unrank(rank - first * self.minus.count)
        return plus, [skip(x, plus) for x in minus]

    def rank(self, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        """The inverse of `unrank`."""
        if few(plus[0]):
            return torch.from_numpy(self._rank([x.numpy() for x in plus], [x.numpy() for x in minus]))
        return self._rank(plus, minus)

    def _rank(self, plus: list[Numbers], minus: list[Numbers]) -> Numbers:
        return self.plus.rank(plus) * self.minus.count + self.minus.rank([unskip(x, plus) for x in minus])


class Permutations(OrbitSystem):
    """V_n^pq."""

    def __init__(self, facts: SystemFacts, p: int, q: int) -> None:
        super().__init__(facts, (TwoValued(p, 1, q, 1),), facts.n)
        self._ranks_of = Arrangements(facts.n, p, q)
        weight = 1 / math.sqrt(p + q)
        self._weights = [weight] * p + [-weight] * q

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._countable()
        plus, minus = self._ranks_of.unrank(index)
        columns = torch.stack([*plus, *minus], -1)
        return columns, self.shared_weights(index).expand(columns.shape)

    def shared_weights(self, like: Tensor) -> Tensor:
        return self._constant("weights", self._weights, like)

    def vectors(self, index: Tensor) -> Tensor:
        self._check(index)
        columns, weights = self.coordinates(index)
        # The columns of a row differ, so plain writes do.
        return torch.zeros((*index.shape, self.n), device=index.device).scatter_(-1, columns, weights)

    def native_norm(self, index: Tensor) -> Tensor:
        return torch.full(index.shape, math.sqrt(self.support), device=index.device)

    def _encode(self, orbit: TwoValued, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        return self._ranks_of.rank(plus, minus)


class SignedPermutations(OrbitSystem):
    """V_n^pq and its negatives, p != q: twice the vectors at the same largest cosine."""

    def __init__(self, facts: SystemFacts, p: int, q: int) -> None:
        self._positive = TwoValued(p, 1, q, 1)
        super().__init__(facts, (self._positive, TwoValued(q, 1, p, 1)), facts.n)
        self._ranks_of = Arrangements(facts.n, p, q)
        weight = 1 / math.sqrt(p + q)
        self._weights = [weight] * p + [-weight] * q

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._countable()
        plus, minus = self._ranks_of.unrank(index >> 1)
        sign = (1 - 2 * (index & 1)).unsqueeze(-1)
        return torch.stack([*plus, *minus], -1), self._constant("weights", self._weights, index) * sign

    def native_norm(self, index: Tensor) -> Tensor:
        return torch.full(index.shape, math.sqrt(self.support), device=index.device)

    def _encode(self, orbit: TwoValued, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        if orbit == self._positive:
            return 2 * self._ranks_of.rank(plus, minus)
        return 2 * self._ranks_of.rank(minus, plus) + 1

    def from_lexicographic(self, position: Tensor) -> Tensor:
        return signed_index(position, self.count // 2)

    def to_lexicographic(self, index: Tensor) -> Tensor:
        return signed_position(index, self.count // 2)


def signed_index(position: Tensor, half: int) -> Tensor:
    """Position in "all vectors, then all negatives" -> index in "each vector, then its negative"."""
    negative = position >= half
    return torch.where(negative, 2 * (position - half) + 1, 2 * position)


def signed_position(index: Tensor, half: int) -> Tensor:
    """The inverse of `signed_index`."""
    return (index >> 1) + (index & 1) * half
