"""A_n and its kin (arXiv:2510.04090): roots e_i - e_j of n + 1 coordinates and midpoints of root pairs at 60 degrees.

The midpoints are (e_i + e_j - 2 e_k) / 2 and their negatives. All but A-helmert drop coordinate n + 1, which leaves
norms 1 and sqrt 2 for roots; `native_norm` gives them, the rows themselves are unit rows.

Index order ("sequential"), with positions counted over the n + 1 coordinates:
  A, A-helmert  pairs i < j in lexicographic order, e_i - e_j as number 2r, its negative as 2r + 1;
  Ap            e_i - e_j for pairs i < j in lexicographic order;
  A-mid         (pair i < j, then k) in lexicographic order, e_i + e_j - 2 e_k as number 2r, its negative as 2r + 1;
  A-interp      the roots as in A, then the midpoints as in A-mid.
"lexicographic": A and A-helmert e_1 - e_2, e_1 - e_3, ... by (i, j) for all i != j; A-mid all e_i + e_j - 2 e_k, then
their negatives; A-interp roots, then midpoints, each so; Ap as it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lsc_engine.vectors import helmert
from lsc_engine.vectors.base import VectorSystem, clean
from lsc_engine.vectors.counting import SystemFacts
from lsc_engine.vectors.orbits import OrbitSystem, TwoValued
from lsc_engine.vectors.permutations import Arrangements, signed_index, signed_position
from lsc_engine.vectors.subsets import Subsets

ROOT = TwoValued(1, 1, 1, 1)
# Roots that touch the dropped coordinate: e_i and -e_j.
SHORT = (TwoValued(1, 1, 0, 1), TwoValued(0, 1, 1, 1))
# Midpoints e_i + e_j - 2 e_k whole, without k, without j; then their negatives.
MIDDLE = (TwoValued(2, 1, 1, 2), TwoValued(2, 1, 0, 2), TwoValued(1, 1, 1, 2))
MIDDLE_NEGATIVE = (TwoValued(1, 2, 2, 1), TwoValued(0, 2, 2, 1), TwoValued(1, 2, 1, 1))


class RootRanks:
    """Signed pairs of n + 1 coordinates <-> indices of A_n."""

    def __init__(self, n: int) -> None:
        self.n, self.pairs = n, Subsets(n + 1, 2)

    def unrank(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(i, j, sign): sign (e_i - e_j) with i < j, sign float32."""
        low, high = self.pairs.unrank(index >> 1)
        return low, high, (1 - 2 * (index & 1)).float()

    def rank(self, plus: Tensor, minus: Tensor) -> Tensor:
        """Index of e_plus - e_minus."""
        pair = self.pairs.rank([torch.minimum(plus, minus), torch.maximum(plus, minus)])
        return 2 * pair + (plus > minus)

    def from_lexicographic(self, position: Tensor) -> Tensor:
        i = torch.div(position, self.n, rounding_mode="floor")
        j = position - i * self.n
        return self.rank(i, j + (j >= i))

    def to_lexicographic(self, index: Tensor) -> Tensor:
        low, high, sign = self.unrank(index)
        i, j = torch.where(sign > 0, low, high), torch.where(sign > 0, high, low)
        return i * self.n + j - (j > i).long()


def _dropped_root(low: Tensor, high: Tensor, sign: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Unit row of sign (e_low - e_high) without coordinate n (0-based), low < high: columns and weights [B, 2]."""
    short = high == n
    one = sign * torch.where(short, 1.0, math.sqrt(0.5))
    other = torch.where(short, 0.0, -one)
    return torch.stack([low, high.clamp(max=n - 1)], -1), torch.stack([one, other], -1)


class Roots(OrbitSystem):
    """A_n with coordinate n + 1 dropped: 2n short roots +-e_i, n(n-1) long ones, 45 degrees apart."""

    def __init__(self, facts: SystemFacts) -> None:
        super().__init__(facts, (ROOT, *SHORT), facts.n)
        self._root = RootRanks(facts.n)

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._countable()
        return _dropped_root(*self._root.unrank(index), self.n)

    def native_norm(self, index: Tensor) -> Tensor:
        _, high, _ = self._root.unrank(index)
        return torch.where(high == self.n, 1.0, math.sqrt(2.0))

    def _encode(self, orbit: TwoValued, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        dropped = torch.full_like((plus or minus)[0], self.n)
        return self._root.rank(plus[0] if plus else dropped, minus[0] if minus else dropped)

    def from_lexicographic(self, position: Tensor) -> Tensor:
        return self._root.from_lexicographic(position)

    def to_lexicographic(self, index: Tensor) -> Tensor:
        return self._root.to_lexicographic(index)


class HelmertRoots(OrbitSystem):
    """A_n in n coordinates with all angles kept, 60 degrees apart: lifted to n + 1 coordinates of sum 0."""

    def __init__(self, facts: SystemFacts) -> None:
        super().__init__(facts, (ROOT,), facts.n + 1)
        self._root = RootRanks(facts.n)

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._countable()
        low, high, sign = self._root.unrank(index)
        weight = sign * math.sqrt(0.5)
        return torch.stack([low, high], -1), torch.stack([weight, -weight], -1)

    def vectors(self, index: Tensor) -> Tensor:
        self._check(index)
        low, high, sign = self._root.unrank(index)
        scale = self._scales(index)
        rows = helmert.columns(low, scale) - helmert.columns(high, scale)
        return rows * (sign * math.sqrt(0.5)).unsqueeze(-1)

    def lift(self, z: Tensor) -> Tensor:
        """The Helmert isometry to n + 1 coordinates."""
        return helmert.expand(z.float(), self._scales(z))

    def native_norm(self, index: Tensor) -> Tensor:
        return torch.full(index.shape, math.sqrt(2.0), device=index.device)

    def _encode(self, orbit: TwoValued, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        return self._root.rank(plus[0], minus[0])

    def from_lexicographic(self, position: Tensor) -> Tensor:
        return self._root.from_lexicographic(position)

    def to_lexicographic(self, index: Tensor) -> Tensor:
        return self._root.to_lexicographic(index)

    def _scales(self, like: Tensor) -> Tensor:
        key = ("scales", like.device)
        if key not in self._constants:
            self._constants[key] = helmert.scales(self.n, like.device)
        return self._constants[key]


class PositiveRoots(VectorSystem):
    """A_n^p: e_i - e_j for i < j with coordinate n + 1 dropped, so also e_i; half the sphere, no antipodes."""

    def __init__(self, facts: SystemFacts) -> None:
        super().__init__(facts)
        self._pairs = Subsets(facts.n + 1, 2)

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._countable()
        low, high = self._pairs.unrank(index)
        return _dropped_root(low, high, torch.ones(index.shape, device=index.device), self.n)

    def native_norm(self, index: Tensor) -> Tensor:
        _, high = self._pairs.unrank(index)
        return torch.where(high == self.n, 1.0, math.sqrt(2.0))

    def nearest(self, z: Tensor) -> Tensor:
        """For each j the best i < j is the largest value so far: one running maximum decides, in O(n)."""
        self._countable()
        scores, best = self._best_before(clean(z))
        high = scores.argmax(1, keepdim=True)
        return self._pairs.rank([best.gather(1, high).squeeze(1), high.squeeze(1) + 1])

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:
        """The j of a pair among the k best is among the k best j, each by its best i (else k other j have pairs
        no worse), so all pairs of those k columns are compared."""
        self._countable()
        k = min(k, self.count)
        rows = max(1, 2**24 // (min(k, self.n) * self.n))
        parts = [self._nearest_k(part, k) for part in clean(z).split(rows)] if len(z) else []
        return torch.cat(parts) if parts else torch.empty((0, k), dtype=torch.long, device=z.device)

    def _best_before(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """For j = 1..n (0-based, n the dropped coordinate): cosine times |z| of the best pair (i, j), and its i."""
        value, best = z.cummax(1)
        scores = torch.cat([(value[:, :-1] - z[:, 1:]) * math.sqrt(0.5), value[:, -1:]], 1)
        return scores, best

    def _nearest_k(self, z: Tensor, k: int) -> Tensor:
        scores, _ = self._best_before(z)
        high = scores.topk(min(k, self.n), dim=1).indices + 1
        short = (high == self.n).unsqueeze(2)
        other = z.gather(1, high.clamp(max=self.n - 1)).unsqueeze(2)
        pairs = torch.where(short, z.unsqueeze(1), (z.unsqueeze(1) - other) * math.sqrt(0.5))
        i = torch.arange(self.n, device=z.device)
        pairs = pairs.masked_fill(i >= high.unsqueeze(2), -math.inf)
        at = pairs.flatten(1).topk(k, dim=1).indices
        row = torch.div(at, self.n, rounding_mode="floor")
        return self._pairs.rank([at - row * self.n, high.gather(1, row)])


class Midpoints(OrbitSystem):
    """A-mid, or A-interp with the roots before them; coordinate n + 1 dropped."""

    def __init__(self, facts: SystemFacts, *, with_roots: bool) -> None:
        orbits = (*MIDDLE, *MIDDLE_NEGATIVE)
        super().__init__(facts, (ROOT, *SHORT, *orbits) if with_roots else orbits, facts.n)
        self._root = RootRanks(facts.n)
        self._middle = Arrangements(facts.n + 1, 2, 1)
        self._roots = facts.n * (facts.n + 1) if with_roots else 0

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._countable()
        (low, high, single), sign, size = self._middles(index)
        weight = sign / size
        columns = torch.stack([low, high, single], -1).clamp(max=self.n - 1)
        weights = torch.stack([weight, weight * (high < self.n), -2 * weight * (single < self.n)], -1)
        if not self._roots:
            return columns, weights
        of_root, its_weights = _dropped_root(*self._root.unrank(index.clamp(max=self._roots - 1)), self.n)
        is_root = (index < self._roots).unsqueeze(-1)
        unused = torch.zeros_like(of_root[..., :1])
        columns = torch.where(is_root, torch.cat([of_root, unused], -1), columns)
        return columns, torch.where(is_root, torch.cat([its_weights, unused.float()], -1), weights)

    def native_norm(self, index: Tensor) -> Tensor:
        """A midpoint is half the sum of two roots: sqrt 6 / 2, and sqrt 5 / 2 or sqrt 2 / 2 with a part dropped."""
        size = self._middles(index)[2] / 2
        if not self._roots:
            return size
        _, high, _ = self._root.unrank(index.clamp(max=self._roots - 1))
        return torch.where(index < self._roots, torch.where(high == self.n, 1.0, math.sqrt(2.0)), size)

    def _middles(self, index: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
        """((i, j, k), sign, length) of sign (e_i + e_j - 2 e_k) without the dropped coordinate."""
        index = (index - self._roots).clamp(min=0)
        (low, high), (single,) = self._middle.unrank(index >> 1) if self.n > 1 else self._no_middles(index)
        squared = 6.0 - (high == self.n).float() - 4.0 * (single == self.n).float()
        return (low, high, single), (1 - 2 * (index & 1)).float(), squared.sqrt()

    def _no_middles(self, index: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        zero = torch.zeros_like(index)
        return [zero, zero], [zero]

    def _encode(self, orbit: TwoValued, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        dropped = torch.full_like((plus or minus)[0], self.n)
        if orbit == ROOT or orbit in SHORT:
            return self._root.rank(plus[0] if plus else dropped, minus[0] if minus else dropped)
        pair, single, sign = (plus, minus, 0) if orbit in MIDDLE else (minus, plus, 1)
        pair = pair if len(pair) == 2 else [pair[0], dropped]
        single = single or [dropped]
        return 2 * self._middle.rank(pair, single) + (sign + self._roots)

    def from_lexicographic(self, position: Tensor) -> Tensor:
        middles = signed_index(position - self._roots, self._middle.count) + self._roots
        if not self._roots:
            return middles
        return torch.where(position < self._roots, self._root.from_lexicographic(position), middles)

    def to_lexicographic(self, index: Tensor) -> Tensor:
        middles = signed_position(index - self._roots, self._middle.count) + self._roots
        if not self._roots:
            return middles
        roots = self._root.to_lexicographic(index.clamp(max=self._roots - 1))
        return torch.where(index < self._roots, roots, middles)
