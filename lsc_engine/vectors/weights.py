"""W_n(k): integer vectors of sum 0 and l1 norm 2k in n coordinates, after arXiv:2512.04865.

They are the lattice points on the boundary of k conv(roots), a weight polyhedron of A_{n-1}, the roots being W(1). A
vector is a multiset of k positive units and one of k negative units on other coordinates, so 2k unit weights make its
sparse form, a column repeated as often as units lie there.

Index order ("sequential" and "lexicographic"): by the number p of positive coordinates; then by these coordinates as a
rising tuple; then by the places s in 1..k-1 where the k positive units, in rising coordinates, step to the next one;
then by the negative units' coordinates, counted among those not positive, as the strictly rising tuple x_s + s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lsc_engine.errors import UsageError
from lsc_engine.vectors.base import VectorSystem, clean, extremes
from lsc_engine.vectors.counting import SystemFacts
from lsc_engine.vectors.names import LARGEST_K
from lsc_engine.vectors.patterns import partitions
from lsc_engine.vectors.subsets import Subsets

# Scores held at once, 64 MB of float32.
SCORES_AT_ONCE = 2**24


class Weights(VectorSystem):
    """W_n(k), decoded by structure: for each way to split k into parts, the largest parts go to the largest values."""

    def __init__(self, facts: SystemFacts, k: int) -> None:
        if k > LARGEST_K:
            raise UsageError(f"target.system: vectors of W{k} are not made, k <= {LARGEST_K}")
        super().__init__(facts)
        self.k, n = k, facts.n
        self._blocks = [_Block(n, k, p) for p in range(1, min(k, n - 1) + 1)]
        parts = [part for part in partitions(k) if len(part) < n]
        self._parts = [list(part) + [0] * (k - len(part)) for part in parts]

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        columns = self._units(index)
        weight = 1.0 / self._norm(columns)
        return columns, torch.cat([weight.unsqueeze(-1).expand(*index.shape, self.k)] * 2, -1) * self._signs(index)

    def native_norm(self, index: Tensor) -> Tensor:
        return self._norm(self._units(index))

    def nearest(self, z: Tensor) -> Tensor:
        self._countable()
        z = clean(z)
        chunk = max(1, SCORES_AT_ONCE // len(self._parts) ** 2)
        return torch.cat([self._nearest(rows) for rows in z.split(chunk)]) if len(z) else z.new_empty(0).long()

    def _nearest(self, z: Tensor) -> Tensor:
        top, bottom = extremes(z, min(self.k, self.n - 1), min(self.k, self.n - 1))
        parts = self._constant("parts", self._parts, z)[:, : top.shape[1]]
        high, low = z.gather(1, top), z.gather(1, bottom)
        plus = (high.unsqueeze(1) * parts).sum(2)
        minus = (low.unsqueeze(1) * parts).sum(2)
        square = parts.square().sum(1)
        length = (square.unsqueeze(1) + square.unsqueeze(0)).float().sqrt()
        many = (parts > 0).sum(1)
        # More parts than coordinates would put two values on one of them.
        possible = many.unsqueeze(1) + many.unsqueeze(0) <= self.n
        scores = (plus.unsqueeze(2) - minus.unsqueeze(1)) / length
        best = scores.masked_fill(~possible, -torch.inf).flatten(1).argmax(1)
        above = parts[torch.div(best, len(parts), rounding_mode="floor")]
        below = parts[best % len(parts)]
        return self._rank(_spread(top, above, self.k), _spread(bottom, below, self.k))

    # -- units <-> index: columns [..., 2k], the k positive units rising, then the k negative ones -------------------

    def _units(self, index: Tensor) -> Tensor:
        self._countable()
        found = torch.zeros((*index.shape, 2 * self.k), dtype=torch.long, device=index.device)
        start = 0
        for block in self._blocks:
            inside = (index >= start) & (index < start + block.count)
            units = block.unrank((index - start).clamp(0, block.count - 1))
            found = torch.where(inside.unsqueeze(-1), units, found)
            start += block.count
        return found

    def _rank(self, plus: Tensor, minus: Tensor) -> Tensor:
        """Index of units [..., k] and [..., k], each rising."""
        number = 1 + (plus[..., 1:] != plus[..., :-1]).sum(-1)
        found = torch.zeros_like(number)
        start = 0
        for block in self._blocks:
            inside = number == block.p
            # Rows of other blocks are ranked as the block's first vector, which keeps every table lookup in range.
            mine = inside.unsqueeze(-1)
            rank = block.rank(torch.where(mine, plus, block.first_plus(plus)), torch.where(mine, minus, block.p))
            found = torch.where(inside, rank + start, found)
            start += block.count
        return found

    def _norm(self, units: Tensor) -> Tensor:
        """Length: the square counts the pairs of units on one coordinate."""
        same = units.unsqueeze(-1) == units.unsqueeze(-2)
        return same.sum((-1, -2)).float().sqrt()

    def _signs(self, like: Tensor) -> Tensor:
        return self._constant("signs", [1.0] * self.k + [-1.0] * self.k, like)


class _Block:
    """The vectors of W_n(k) with p positive coordinates."""

    def __init__(self, n: int, k: int, p: int) -> None:
        self.n, self.k, self.p = n, k, p
        self.places, self.cuts = Subsets(n, p), Subsets(k - 1, p - 1)
        self.negative = Subsets(n - p + k - 1, k)
        self.count = self.places.count * self.cuts.count * self.negative.count

    def unrank(self, rank: Tensor) -> Tensor:
        first = torch.div(rank, self.negative.count, rounding_mode="floor")
        last = self.negative.unrank(rank - first * self.negative.count)
        place = torch.div(first, self.cuts.count, rounding_mode="floor")
        positions = self.places.unrank(place)
        stacked = torch.stack(positions, -1)
        step = torch.zeros((*rank.shape, self.k), dtype=torch.long, device=rank.device)
        if self.p > 1:
            cuts = torch.stack(self.cuts.unrank(first - place * self.cuts.count), -1) + 1
            step = step.scatter(-1, cuts, 1).cumsum(-1)
        plus = stacked.gather(-1, step)
        minus = torch.stack(last, -1) - torch.arange(self.k, device=rank.device)
        for x in positions:
            minus = minus + (minus >= x.unsqueeze(-1))
        return torch.cat([plus, minus], -1)

    def rank(self, plus: Tensor, minus: Tensor) -> Tensor:
        stepped = plus[..., 1:] != plus[..., :-1]
        fresh = torch.cat([torch.ones_like(plus[..., :1], dtype=torch.bool), stepped], -1)
        # The p units that open a coordinate, in order: unused slots sort behind.
        opening = torch.where(fresh, torch.arange(self.k, device=plus.device), self.k).sort(-1).values[..., : self.p]
        positions = list(plus.gather(-1, opening).unbind(-1))
        before = minus
        for x in positions:
            before = before - (minus > x.unsqueeze(-1)).long()
        strictly = before + torch.arange(self.k, device=plus.device)
        rank = self.places.rank(positions) * self.cuts.count
        if self.p > 1:
            rank = rank + self.cuts.rank(list((opening[..., 1:] - 1).unbind(-1)))
        return rank * self.negative.count + self.negative.rank(list(strictly.unbind(-1)))

    def first_plus(self, like: Tensor) -> Tensor:
        """Some valid positive units of this block: coordinates 0, 1, ..., p - 1, the last taking what is left."""
        return torch.arange(self.k, device=like.device).clamp(max=self.p - 1).expand(like.shape)


def _spread(positions: Tensor, parts: Tensor, k: int) -> Tensor:
    """Positions [B, m] with parts [B, m] units each (k in all) -> the units' positions [B, k], rising."""
    after = parts.cumsum(1)
    unit = torch.arange(k, device=positions.device).expand(len(positions), k).contiguous()
    slot = torch.searchsorted(after.contiguous(), unit, right=True)
    return positions.gather(1, slot).sort(1).values
