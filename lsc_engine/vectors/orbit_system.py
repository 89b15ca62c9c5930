"""Systems whose vectors are arrangements of p values +a and q values -b (the permutation families).

All vectors of one such orbit are equally long, so by the rearrangement inequality the best puts +a on the p largest and
-b on the q smallest coordinates (arXiv:2604.00779 states it for V_pq). A union takes the best over its orbits.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import accumulate, islice

from lsc_engine.common.deferred import Tensor, torch
from lsc_engine.vectors import patterns, tensors
from lsc_engine.vectors.base import VectorSystem

# Candidate scores held at once, 64 MB of float32.
SCORES_AT_ONCE = 2**24


@lru_cache(maxsize=128)
def candidates(n: int, p: int, q: int, k: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Pairs (ranks of pluses from the top, of minuses from the bottom, from 0 on) that can be among the k best of the
    arrangements of p pluses and q minuses on n coordinates, whatever their values.

    Write A = (a_1 < ... < a_p) for the ranks of the pluses from the top and B for those of the minuses from the bottom.
    (A', B') with a'_i <= a_i and b'_j <= b_j for all i, j scores at least as high, and unless equal it has a smaller
    sum of ranks. So if k other such pairs exist that are valid (disjoint), (A, B) is not among the first k in the order
    "score falling, then sum of ranks rising" and may be left out. Pluses in the upper h = p + (n - p - q) // 2 ranks
    and minuses in the lower n - h never meet, so the number of dominating pairs, (A, B) included, is at least
    N_h(A) N_{n-h}(B), where N_h(A) counts the p-subsets of 1..h at or below A. The candidates are the pairs with
    N_h(A) N_{n-h}(B) <= k: few more than k, and for large n all within the first p + k - 1 and q + k - 1 ranks.
    """
    half = p + (n - p - q) // 2
    pluses, minuses = list(_sets(n, p, half, k)), list(_sets(n, q, n - half, k))
    minuses.sort(key=lambda pair: pair[1])
    found = []
    for above, number in pluses:
        taken = {n - 1 - a for a in above}
        for below, others in minuses:
            if number * others > k:
                break
            if taken.isdisjoint(below):
                found.append((above, below))
    return tuple(found)


def _sets(n: int, size: int, limit: int, k: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """The `size`-subsets of range(n) with at most k subsets of range(limit) at or below them, and that number."""

    def grow(chosen: tuple[int, ...], ways: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], int]]:
        # ways[x]: subsets at or below `chosen` whose largest element is x - 1; ways[0] = 1 stands for the empty set.
        if len(chosen) == size:
            yield chosen, sum(ways)
            return
        missing = size - len(chosen)
        for last in range(chosen[-1] + 1 if chosen else 0, n - missing + 1):
            # The smallest completion takes the ranks right after `last`; if even that is dominated, so is the rest.
            least = after = with_next(ways, last)
            for rank in range(last + 1, last + missing):
                least = with_next(least, rank)
            if sum(least) > k:
                break
            yield from grow((*chosen, last), after)

    def with_next(ways: tuple[int, ...], last: int) -> tuple[int, ...]:
        upto = min(last, limit - 1)
        return (0, *islice(accumulate(ways), upto + 1), *([0] * (limit - upto - 1)))

    yield from grow((), (1, *([0] * limit)))


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

    @property
    def pattern(self) -> patterns.Orbit:
        """Its values as patterns.py counts them."""
        return patterns.orbit(*[self.a] * self.p, *[-self.b] * self.q)


class OrbitSystem(VectorSystem):
    """A union of two-valued `orbits` over `width` lifted coordinates."""

    def __init__(
        self,
        name: str,
        n: int,
        classes: int | None = None,
        *,
        orbits: tuple[TwoValued, ...],
        width: int,
        undropped: tuple[TwoValued, ...] = (),
    ) -> None:
        """`undropped`: the orbits in n + 1 coordinates, of families that leave the last one out."""
        super().__init__(name, n, classes)
        self.width, self._undropped = width, undropped
        self.orbits = tuple(orbit for orbit in orbits if orbit.p + orbit.q <= width)
        self._patterns = tuple(orbit.pattern for orbit in self.orbits)

    @property
    def max_cosine(self) -> float:  # type: ignore[override]
        return self._closest[0]

    @property
    def neighbours(self) -> tuple[int, int]:  # type: ignore[override]
        return self._closest[1]

    @cached_property
    def _closest(self) -> tuple[float, tuple[int, int]]:
        return (-1.0, (0, 0)) if self.count == 1 else patterns.largest_cosine(self._patterns, self.width)

    @property
    def undropped_max_cosine(self) -> float | None:
        if not self._undropped:
            return None
        return patterns.largest_cosine(tuple(orbit.pattern for orbit in self._undropped), self.n + 1)[0]

    def all_cosines(self) -> list[tuple[float, Fraction]]:
        return patterns.histogram(self._patterns, self.width, self.count)

    @abstractmethod
    def _encode(self, orbit: TwoValued, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        """Index of the arrangement with these positions (p and q tensors of one shape, each rising)."""

    def nearest(self, z: Tensor) -> Tensor:
        self._require_int64()
        z = self.lift(tensors.clean(z))
        top, bottom = tensors.extremes(z, max(o.p for o in self.orbits), max(o.q for o in self.orbits))
        if len(self.orbits) == 1:
            return self._encode(self.orbits[0], tensors.rising(top), tensors.rising(bottom))
        # All orbits at once: on a GPU every operation costs its start.
        values = z.gather(1, torch.cat([top, bottom], 1)).unsqueeze(1)
        scores = (values * self._once("ends", z, lambda: self._ends(top.shape[1], bottom.shape[1]))).sum(2)
        above, below = (
            {many: tensors.rising(side[:, :many]) for many in set(numbers)}
            for side, numbers in ((top, [o.p for o in self.orbits]), (bottom, [o.q for o in self.orbits]))
        )
        return self._encode_best(scores.argmax(1, keepdim=True), above, below).squeeze(1)

    def _ends(self, above: int, below: int) -> Tensor:
        """What each orbit puts on the `above` largest and the `below` smallest values: [orbits, above + below]."""
        rows = torch.zeros(len(self.orbits), above + below)
        for row, orbit in zip(rows, self.orbits, strict=True):
            row[: orbit.p] = orbit.a / orbit.norm
            row[above : above + orbit.q] = -orbit.b / orbit.norm
        return rows

    def _encode_best(self, best: Tensor, above: dict[int, list[Tensor]], below: dict[int, list[Tensor]]) -> Tensor:
        """Index [B, 1] of the arrangement of orbit number `best` [B, 1]. `above` and `below`: the positions [B] of the
        largest and of the smallest values, rising, by how many."""
        found = [self._encode(orbit, above[orbit.p], below[orbit.q]) for orbit in self.orbits]
        return torch.stack(found, 1).gather(1, best)

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:
        """Exact by `candidates`: per orbit a fixed list of ranks that can be among the k best."""
        self._require_int64()
        k = min(k, self.count)
        most = max(len(candidates(self.width, orbit.p, orbit.q, k)) for orbit in self.orbits)
        z = self.lift(tensors.clean(z))
        return tensors.in_chunks(z, SCORES_AT_ONCE // most, k, lambda rows: self._nearest_k(rows, k))

    def _nearest_k(self, z: Tensor, k: int) -> Tensor:
        lists = [(orbit, *self._ranks(orbit, k, z)) for orbit in self.orbits]
        top, bottom = tensors.extremes(z, max(deep for *_, deep, _ in lists), max(down for *_, down in lists))
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
            placed = (tensors.rising(torch.stack(side, -1)) if side else [] for side in (plus, minus))
            scores.append(value)
            found.append(self._encode(orbit, *placed))
        at = torch.cat(scores, 1).topk(k, dim=1).indices
        return torch.cat(found, 1).gather(1, at)

    partition_fault = None

    def log_partition(self, x: Tensor) -> Tensor:
        """The sum over its orbits, each by `log_coefficient`: exact, O(n p q)."""
        x = self.lift(x)
        parts = [tensors.log_coefficient(x * (o.a / o.norm), x * (-o.b / o.norm), o.p, o.q) for o in self.orbits]
        return torch.stack(parts).logsumexp(0) if len(parts) > 1 else parts[0]

    def _ranks(self, orbit: TwoValued, k: int, like: Tensor) -> tuple[Tensor, Tensor, int, int]:
        """The candidates' ranks as tensors [M, p] and [M, q], and how many largest and smallest values they touch."""
        pluses, minuses = zip(*candidates(self.width, orbit.p, orbit.q, k), strict=True)
        above = self._once(f"{orbit} {k} above", like, lambda: torch.tensor(pluses, dtype=torch.long))
        below = self._once(f"{orbit} {k} below", like, lambda: torch.tensor(minuses, dtype=torch.long))
        deep, down = (max((ranks[-1] + 1 for ranks in side if ranks), default=0) for side in (pluses, minuses))
        return above, below, deep, down


def signed_index(position: Tensor, half: int) -> Tensor:
    """Position in "all vectors, then all negatives" -> index in "each vector, then its negative"."""
    negative = position >= half
    return torch.where(negative, 2 * (position - half) + 1, 2 * position)


def signed_position(index: Tensor, half: int) -> Tensor:
    """The inverse of `signed_index`."""
    return (index >> 1) + (index & 1) * half
