"""W_n(k): integer vectors of sum 0 and l1 norm 2k in n coordinates, after arXiv:2512.04865.

They are the lattice points on the boundary of k conv(roots), a weight polyhedron of A_{n-1}, the roots being W(1). A
vector is a multiset of k positive units and one of k negative units on other coordinates, so 2k unit weights make its
sparse form, a column repeated as often as units lie there.

Index order ("sequential" and "lexicographic"): by the number p of positive coordinates; then by these coordinates as a
rising tuple; then by the places s in 1..k-1 where the k positive units, in rising coordinates, step to the next one;
then by the negative units' coordinates, counted among those not positive, as the strictly rising tuple x_s + s.
"""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import product
from typing import ClassVar

from lsc_engine.common.deferred import Tensor, torch
from lsc_engine.common.errors import UsageError
from lsc_engine.registry import SYSTEMS
from lsc_engine.vectors import patterns, tensors
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.subsets import LARGEST, Subsets

# Scores held at once, 64 MB of float32.
SCORES_AT_ONCE = 2**24
# The largest k whose vectors are computed, and the largest that is counted: that takes time of the cube of k.
LARGEST_K, LARGEST_K_COUNTED = 16, 998


@SYSTEMS.register("W")
class Weights(VectorSystem):
    """W_n(k), decoded by structure: for each way to split k into parts, the largest parts go to the largest values."""

    pattern = "W[1-9][0-9]{0,17}"
    position: ClassVar[int] = 50
    listed = ("W2", "W4")
    slow_histogram = True
    decoding = "by the ways to split k into parts: no search"
    source = "2512.04865"

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        super().__init__(name, n, classes)
        self.k = k = int(name[1:])
        numbers = range(1, min(k, n - 1) + 1)
        self.count = sum(_Block.size(n, k, p) for p in numbers)
        self.rank, self.support = n - 1, 2 * k
        # k times a root and its neighbour with one unit moved.
        self.max_cosine = -1.0 if n == 2 else (2 * k - 1) / (2 * math.sqrt(k * k - k + 1))
        # In the plane sum = 0 of three coordinates W(2) is a regular 12-gon; elsewhere some vectors have wider angles.
        self.neighbours = (1, 1) if n == 2 else (2, 2) if (k, n) == (2, 3) else (0, 2 * (n - 2))
        self.description = f"whole numbers of sum 0 whose sizes add to {2 * k}"
        self._blocks: list[_Block] = []
        self._parts: list[list[int]] = []
        if k <= LARGEST_K:
            self._blocks = [_Block(n, k, p) for p in numbers]
            parts = [part for part in patterns.partitions(k) if len(part) < n]
            self._parts = [list(part) + [0] * (k - len(part)) for part in parts]

    @classmethod
    def name_fault(cls, name: str) -> str | None:
        k = int(name[1:])
        return f": k is even, at most {LARGEST_K_COUNTED} (W2, W4, ...)" if k % 2 or k > LARGEST_K_COUNTED else None

    @classmethod
    def vectors_fault(cls, name: str) -> str | None:
        if int(name[1:]) <= LARGEST_K:
            return None
        return f'"{name}" is counted, but its vectors are not made; W{LARGEST_K} is the largest'

    @classmethod
    def least_n(cls, name: str, classes: int) -> int:
        return 2

    def all_cosines(self) -> list[tuple[float, Fraction]]:
        if self.k > 4:
            raise UsageError(f"{self.name}: the histogram of cosines is made up to W4")
        parts = list(patterns.partitions(self.k))
        orbits = tuple(patterns.orbit(*plus, *(-x for x in minus)) for plus in parts for minus in parts)
        return patterns.histogram(orbits, self.n, self.count)

    def _integer_weights(self, index: int) -> dict[int, int]:
        weights: Counter[int] = Counter()
        for block in self._blocks:
            if index < block.count:
                plus, minus = block.units(index)
                weights.update(plus)
                weights.subtract(minus)
                break
            index -= block.count
        return weights

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        columns = self._units(index)
        weight = 1.0 / self._norm(columns)
        signs = self._constant("signs", [1.0] * self.k + [-1.0] * self.k, index)
        return columns, torch.cat([weight.unsqueeze(-1).expand(*index.shape, self.k)] * 2, -1) * signs

    def native_norm(self, index: Tensor) -> Tensor:
        return self._norm(self._units(index))

    def nearest(self, z: Tensor) -> Tensor:
        self._require_int64()
        found = tensors.in_chunks(tensors.clean(z), SCORES_AT_ONCE // len(self._parts) ** 2, 1, self._nearest)
        return found.squeeze(1)

    def _nearest(self, z: Tensor) -> Tensor:
        most = min(self.k, self.n - 1)
        ends = torch.cat(tensors.extremes(z, most, most), 1)
        parts = self._constant("parts", self._parts, z)[:, :most].unsqueeze(1)
        plus, minus = (z.gather(1, ends).view(-1, 1, 2, most) * parts).sum(3).unbind(2)
        first, second, slots, length = (self._of_pairs(i, z) for i in range(4))
        best = ((plus[:, first] - minus[:, second]) / length).argmax(1)
        units = ends.gather(1, slots[best]).view(-1, 2, self.k).sort(-1).values
        return self._rank(units[:, 0], units[:, 1]).unsqueeze(1)

    def _pairs(self) -> list[tuple[int, int, list[int], float]]:
        """Of each way to split k for the largest and for the smallest values, on at most n coordinates: the numbers of
        the two splittings, which of these values the 2k units are on, and the length."""
        most, found = min(self.k, self.n - 1), []
        for (i, above), (j, below) in product(enumerate(self._parts), repeat=2):
            ends = [end for end, units in enumerate([*above[:most], *below[:most]]) for _ in range(units)]
            if len(set(ends)) <= self.n:
                found.append((i, j, ends, math.sqrt(sum(x * x for x in (*above, *below)))))
        return found

    def _of_pairs(self, which: int, like: Tensor) -> Tensor:
        return self._once(f"pairs {which}", like, lambda: torch.tensor([pair[which] for pair in self._pairs()]))

    def _units(self, index: Tensor) -> Tensor:
        self._require_int64()
        found = index.new_zeros((*index.shape, 2 * self.k))
        start = 0
        for block in self._blocks:
            inside = (index >= start) & (index < start + block.count)
            units = block.unrank((index - start).clamp(0, block.count - 1))
            found = torch.where(inside.unsqueeze(-1), units, found)
            start += block.count
        return found

    def _rank(self, plus: Tensor, minus: Tensor) -> Tensor:
        """Index of units [..., k] and [..., k], each rising: as `Subsets.rank` counts, with all numbers of positive
        coordinates at once. A set of p of `total` places has the number C(total, p) - 1 less the sum of
        C(total - 1 - place, p - j) over its places, j = 0 to p - 1."""
        k, n = self.k, self.n
        slots = self._constant("slots", list(range(k)), plus)
        again = torch.nn.functional.pad(plus[..., 1:] == plus[..., :-1], (1, 0))
        repeats = again.sum(-1)
        # The units that open a coordinate, in order; unused slots behind, at a coordinate above all.
        opening = slots.masked_fill(again, k).sort(-1).values
        positions = torch.nn.functional.pad(plus, (0, 1), value=n).gather(-1, opening)
        below = (minus.unsqueeze(-1) > positions.unsqueeze(-2)).sum(-1)
        cells = self._once("cells", plus, self._cells)[repeats] + torch.cat([positions, opening, below - minus], -1)
        worth = self._once("pascal", plus, self._pascal).take(cells).unflatten(-1, (3, k)).sum(-1)
        counts = self._once("counts", plus, self._counts)[repeats]
        cuts, others = counts[..., 3:].unbind(-1)
        places, steps, last = (counts[..., :3] - worth).unbind(-1)
        return torch.addcmul(last, torch.addcmul(steps, places, cuts), others)

    def _counts(self) -> Tensor:
        """By the number of repeated positive coordinates, k - p: the last set of coordinates; the last steps; the last
        index of the vectors with the first set and steps; how many steps there are, and how many negative units."""
        counts = [[0] * 5 for _ in range(self.k)]
        start = 0
        for block in self._blocks:
            places, cuts, negatives = block.places.count, block.cuts.count, block.negative.count
            counts[self.k - block.p] = [places - 1, cuts - 1, start + negatives - 1, cuts, negatives]
            start += block.count
        return torch.tensor(counts)

    def _cells(self) -> Tensor:
        """By the number of repeated positive coordinates, where in `_pascal` the columns of coordinates, of steps and
        of negative units begin, k of each. The first step is in a row of zeros."""
        k, width = self.k, self.n + self.k
        steps, others = 2 * k * width, 4 * k * width
        rows = [[(2 * k - 1 - slot - repeats) * width for slot in range(k)] for repeats in range(k)]
        cells = [[(2 * k - 1 - slot) * width + self.n - 2 - slot for slot in range(k)]] * k
        return torch.tensor(
            [
                [*row, steps, *(steps + at for at in row[1:]), *(others + at + repeats for at in cells[repeats])]
                for repeats, row in enumerate(rows)
            ]
        )

    def _pascal(self) -> Tensor:
        """C(n - 1 - c, size), C(k - 1 - c, size) and C(c, size) at [size + k - 1, c], c < n + k; 0 without meaning."""
        n, k = self.n, self.k

        def binomial(number: int, size: int) -> int:
            return min(math.comb(number, size), LARGEST) if number >= 0 and size > 0 else 0

        return torch.tensor(
            [
                [[binomial(of(c), row - k + 1) for c in range(n + k)] for row in range(2 * k)]
                for of in (lambda c: n - 1 - c, lambda c: k - 1 - c, lambda c: c)
            ]
        )

    def _norm(self, units: Tensor) -> Tensor:
        """Length: the square counts the pairs of units on one coordinate."""
        same = units.unsqueeze(-1) == units.unsqueeze(-2)
        return same.sum((-1, -2)).float().sqrt()


class _Block:
    """The vectors of W_n(k) with p positive coordinates."""

    def __init__(self, n: int, k: int, p: int) -> None:
        self.n, self.k, self.p = n, k, p
        self.places, self.cuts = Subsets(n, p), Subsets(k - 1, p - 1)
        self.negative = Subsets(n - p + k - 1, k)
        self.count = self.size(n, k, p)

    @staticmethod
    def size(n: int, k: int, p: int) -> int:
        return math.comb(n, p) * math.comb(k - 1, p - 1) * math.comb(n - p + k - 1, k)

    def units(self, rank: int) -> tuple[list[int], list[int]]:
        """The coordinates of the positive and of the negative units of one vector, as Python integers."""
        first, last = divmod(rank, self.negative.count)
        place, step = divmod(first, self.cuts.count)
        positions = self.places.unrank(place)
        cuts = [0, *(cut + 1 for cut in self.cuts.unrank(step)), self.k]
        plus = [position for i, position in enumerate(positions) for _ in range(cuts[i + 1] - cuts[i])]
        minus = []
        for s, x in enumerate(self.negative.unrank(last)):
            x -= s
            for position in positions:
                x += x >= position
            minus.append(x)
        return plus, minus

    def unrank(self, rank: Tensor) -> Tensor:
        first = rank // self.negative.count
        last = self.negative.unrank(rank - first * self.negative.count)
        place = first // self.cuts.count
        positions = self.places.unrank(place)
        step = rank.new_zeros((*rank.shape, self.k))
        if self.p > 1:
            cuts = torch.stack(self.cuts.unrank(first - place * self.cuts.count), -1) + 1
            step = step.scatter(-1, cuts, 1).cumsum(-1)
        plus = torch.stack(positions, -1).gather(-1, step)
        minus = torch.stack(last, -1) - torch.arange(self.k, device=rank.device)
        for x in positions:
            minus = minus + (minus >= x.unsqueeze(-1))
        return torch.cat([plus, minus], -1)
