"""A_n and its kin (arXiv:2510.04090): roots e_i - e_j of n + 1 coordinates and midpoints of root pairs at 60 degrees.

The midpoints are (e_i + e_j - 2 e_k) / 2 and their negatives. All but A-helmert drop coordinate n + 1, which leaves
norms 1 and sqrt 2 for roots; `native_norm` returns them, the rows themselves are unit rows.

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
from fractions import Fraction
from typing import Any, ClassVar

from lsc_engine.common.deferred import Tensor, torch
from lsc_engine.registry import SYSTEMS
from lsc_engine.vectors import tensors
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.orbit_system import OrbitSystem, TwoValued, signed_index, signed_position
from lsc_engine.vectors.subsets import Arrangements, Subsets

ROOT = TwoValued(1, 1, 1, 1)
# Roots that touch the dropped coordinate: e_i and -e_j.
SHORT = (TwoValued(1, 1, 0, 1), TwoValued(0, 1, 1, 1))
# Midpoints e_i + e_j - 2 e_k whole, without k, without j; then their negatives.
MIDDLE = (TwoValued(2, 1, 1, 2), TwoValued(2, 1, 0, 2), TwoValued(1, 1, 1, 2))
MIDDLE_NEGATIVE = (TwoValued(1, 2, 2, 1), TwoValued(0, 2, 2, 1), TwoValued(1, 2, 1, 1))
BOTH_MIDDLES = (MIDDLE[0], MIDDLE_NEGATIVE[0])
# Columns of (largest two, largest, smallest two, smallest, dropped coordinate): i, j of a root, i, j, k of a midpoint.
_TAKEN = {
    ROOT: (2, 5, 6), SHORT[0]: (2, 6, 6), SHORT[1]: (6, 5, 6),
    MIDDLE[0]: (0, 1, 5), MIDDLE[1]: (0, 1, 6), MIDDLE[2]: (2, 6, 5),
    MIDDLE_NEGATIVE[0]: (3, 4, 2), MIDDLE_NEGATIVE[1]: (3, 4, 6), MIDDLE_NEGATIVE[2]: (5, 6, 2),
}  # fmt: skip


class RootRanks:
    """Signed pairs of n + 1 coordinates <-> indices of A_n."""

    def __init__(self, n: int) -> None:
        self.n, self.pairs = n, Subsets(n + 1, 2)
        self.count = 2 * self.pairs.count

    def unrank(self, index: Any) -> tuple[Any, Any, Any]:
        """(i, j, sign): sign (e_i - e_j) with i < j, of an integer or a tensor."""
        low, high = self.pairs.unrank(index >> 1)
        return low, high, 1 - 2 * (index & 1)

    def rank(self, plus: Tensor, minus: Tensor) -> Tensor:
        """Index of e_plus - e_minus."""
        pair: Tensor = self.pairs.rank([torch.minimum(plus, minus), torch.maximum(plus, minus)])
        return 2 * pair + (plus > minus)

    def of_orbit(self, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        """`rank` where a list is empty if its coordinate is the dropped one."""
        dropped = torch.full_like((plus or minus)[0], self.n)
        return self.rank(plus[0] if plus else dropped, minus[0] if minus else dropped)

    def from_lexicographic(self, position: Tensor) -> Tensor:
        i = position // self.n
        j = position - i * self.n
        return self.rank(i, j + (j >= i))

    def to_lexicographic(self, index: Tensor) -> Tensor:
        low, high, sign = self.unrank(index)
        i, j = low.where(sign > 0, high), high.where(sign > 0, low)
        return i * self.n + j - (j > i).long()


def _dropped_root(low: Tensor, high: Tensor, sign: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Unit row of sign (e_low - e_high) without coordinate n (0-based), low < high: columns and weights [B, 2]."""
    short = high == n
    one = sign.float() * torch.where(short, 1.0, math.sqrt(0.5))
    other = torch.where(short, 0.0, -one)
    return torch.stack([low, high.clamp(max=n - 1)], -1), torch.stack([one, other], -1)


@SYSTEMS.register("A")
class Roots(OrbitSystem):
    """A_n with coordinate n + 1 dropped: 2n short roots +-e_i, n(n-1) long ones, 45 degrees apart."""

    pattern = "A"
    position: ClassVar[int] = 10
    listed = ("A",)
    drops: ClassVar[bool] = True
    description = "e_i - e_j of n + 1 numbers, the last one dropped"
    decoding = "largest minus smallest number: no search"
    source = "2510.04090"

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        if self.drops:
            super().__init__(name, n, classes, orbits=(ROOT, *SHORT), width=n, undropped=(ROOT,))
        else:
            super().__init__(name, n, classes, orbits=(ROOT,), width=n + 1)
        self._root = RootRanks(n)
        self.count, self.support = self._root.count, 2

    def _integer_weights(self, index: int) -> dict[int, int]:
        low, high, sign = self._root.unrank(index)
        return {column: weight for column, weight in ((low, sign), (high, -sign)) if column < self.width}

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._require_int64()
        return _dropped_root(*self._root.unrank(index), self.n)

    def native_norm(self, index: Tensor) -> Tensor:
        return torch.where(self._root.unrank(index)[1] == self.n, 1.0, math.sqrt(2.0))

    def _encode_best(self, best: Tensor, above: dict[int, list[Tensor]], below: dict[int, list[Tensor]]) -> Tensor:
        if len(self.orbits) < 3:
            return super()._encode_best(best, above, below)
        # The orbits share their positions but for the dropped one: one rank for all.
        plus = above[1][0].unsqueeze(1).masked_fill(best == 2, self.n)
        return self._root.rank(plus, below[1][0].unsqueeze(1).masked_fill(best == 1, self.n))

    def _encode(self, orbit: TwoValued, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        return self._root.of_orbit(plus, minus)

    def from_lexicographic(self, position: Tensor) -> Tensor:
        return self._root.from_lexicographic(position)

    def to_lexicographic(self, index: Tensor) -> Tensor:
        return self._root.to_lexicographic(index)


@SYSTEMS.register("A-helmert")
class HelmertRoots(Roots):
    """A_n in n coordinates with all angles kept, 60 degrees apart: lifted to n + 1 coordinates of sum 0."""

    pattern = "A-helmert"
    position: ClassVar[int] = 30
    listed = ("A-helmert",)
    drops = False
    description = "e_i - e_j, turned into n dimensions"
    decoding = "largest minus smallest of n + 1: no search"
    source = "2510.04090 Fig. 2b"

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._require_int64()
        low, high, sign = self._root.unrank(index)
        weight = sign * math.sqrt(0.5)
        return torch.stack([low, high], -1), torch.stack([weight, -weight], -1)

    def vectors(self, index: Tensor) -> Tensor:
        self._check(index)
        low, high, sign = self._root.unrank(index)
        scales = self._once("helmert", index, lambda: tensors.helmert_scales(self.n))
        plus, minus = (tensors.helmert_columns(at, scales) for at in (low, high))
        return (plus - minus) * (sign * math.sqrt(0.5)).unsqueeze(-1)

    def lift(self, z: Tensor) -> Tensor:
        """The Helmert isometry to n + 1 coordinates."""
        z = tensors.real(z)
        return tensors.helmert_expand(z, self._once("helmert", z, lambda: tensors.helmert_scales(self.n)))

    def native_norm(self, index: Tensor) -> Tensor:
        return torch.full(index.shape, math.sqrt(2.0), device=index.device)


@SYSTEMS.register("Ap")
class PositiveRoots(VectorSystem):
    """A_n^p: e_i - e_j for i < j with coordinate n + 1 dropped, so also e_i; half the sphere, no antipodes."""

    pattern = "Ap"
    position: ClassVar[int] = 11
    listed = ("Ap",)
    description = "e_i - e_j with i < j, the last number dropped"
    decoding = "one running maximum: no search"
    source = "2510.04090"

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        super().__init__(name, n, classes)
        self._pairs = Subsets(n + 1, 2)
        self.count, self.support = self._pairs.count, 2
        self.max_cosine = math.sqrt(0.5) if n > 1 else -1.0
        # e_1 has e_1 - e_j for every j > 1; e_n has none.
        self.neighbours = 0, n - 1

    @property
    def undropped_max_cosine(self) -> float | None:
        return Roots("A", self.n).undropped_max_cosine

    def all_cosines(self) -> list[tuple[float, Fraction]]:
        """Ordered pairs of e_i and e_i - e_j (i < j) by what they share, over the number of vectors."""
        pairs, triples, number = math.comb(self.n, 2), math.comb(self.n, 3), self.count
        short_long = math.sqrt(0.5)
        table = {short_long: 2 * pairs, 0.5: 4 * triples, -0.5: 2 * triples, -short_long: 2 * pairs}
        table[0.0] = number * (number - 1) - sum(table.values())
        return [(cosine, Fraction(table[cosine], number)) for cosine in sorted(table, reverse=True) if table[cosine]]

    def _integer_weights(self, index: int) -> dict[int, int]:
        low, high = self._pairs.unrank(index)
        return {low: 1, high: -1} if high < self.n else {low: 1}

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._require_int64()
        low, high = self._pairs.unrank(index)
        return _dropped_root(low, high, torch.ones(index.shape, device=index.device), self.n)

    def native_norm(self, index: Tensor) -> Tensor:
        return torch.where(self._pairs.unrank(index)[1] == self.n, 1.0, math.sqrt(2.0))

    def nearest(self, z: Tensor) -> Tensor:
        """For each j the best i < j is the largest value so far: one running maximum decides, in O(n)."""
        self._require_int64()
        scores, best = self._best_before(tensors.clean(z))
        high = scores.argmax(1, keepdim=True)
        found: Tensor = self._pairs.rank([best.gather(1, high).squeeze(1), high.squeeze(1) + 1])
        return found

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:
        """The j of a pair among the k best is among the k best j, each by its best i (else k other j have pairs
        no worse), so all pairs of those k columns are compared."""
        self._require_int64()
        k = min(k, self.count)
        rows = 2**24 // (min(k, self.n) * self.n)
        return tensors.in_chunks(tensors.clean(z), rows, k, lambda some: self._nearest_k(some, k))

    partition_fault = None

    def log_partition(self, x: Tensor) -> Tensor:
        """One cumulative sum over i for every j, and the e_i."""
        x = self.lift(x)
        half = x * math.sqrt(0.5)
        return torch.cat([x, half.logcumsumexp(1)[:, :-1] - half[:, 1:]], 1).logsumexp(1)

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
        row = at // self.n
        found: Tensor = self._pairs.rank([at - row * self.n, high.gather(1, row)])
        return found


@SYSTEMS.register("A-mid", "A-interp")
class Midpoints(OrbitSystem):
    """A-mid, or A-interp with the roots before them; coordinate n + 1 dropped."""

    pattern = "A-(mid|interp)"
    position: ClassVar[int] = 20
    listed = ("A-mid", "A-interp")
    decoding = "largest and smallest numbers: no search"
    source = "2510.04090 Fig. 9"

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        self.with_roots = name == "A-interp"
        roots, root = ((ROOT, *SHORT), (ROOT,)) if self.with_roots else ((), ())
        orbits = (*roots, *MIDDLE, *MIDDLE_NEGATIVE)
        super().__init__(name, n, classes, orbits=orbits, width=n, undropped=(*root, *BOTH_MIDDLES))
        self._root = RootRanks(n)
        self._middle = Arrangements(n + 1, 2, 1)
        self._roots = self._root.count if self.with_roots else 0
        self.count, self.support = self._roots + 2 * self._middle.count, 3
        kind = "roots and their midpoints" if self.with_roots else "e_i + e_j - 2 e_k and negatives"
        self.description = f"{kind}, the last dropped"

    @classmethod
    def least_n(cls, name: str, classes: int) -> int:
        return 2 if name == "A-mid" else 1

    def _integer_weights(self, index: int) -> dict[int, int]:
        if index < self._roots:
            low, high, sign = self._root.unrank(index)
            weights = {low: sign, high: -sign}
        else:
            index -= self._roots
            sign = 1 - 2 * (index & 1)
            plus, minus = self._middle.unrank(index >> 1)
            weights = dict.fromkeys(plus, sign) | dict.fromkeys(minus, -2 * sign)
        return {column: weight for column, weight in weights.items() if column < self.n}

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._require_int64()
        (low, high, single), sign, size = self._middles(index)
        weight = sign / size
        columns = torch.stack([low, high, single], -1).clamp(max=self.n - 1)
        weights = torch.stack([weight, weight * (high < self.n), -2 * weight * (single < self.n)], -1)
        if not self.with_roots:
            return columns, weights
        of_root, its_weights = _dropped_root(*self._root.unrank(index.clamp(max=self._roots - 1)), self.n)
        is_root = (index < self._roots).unsqueeze(-1)
        unused = torch.zeros_like(of_root[..., :1])
        columns = torch.where(is_root, torch.cat([of_root, unused], -1), columns)
        return columns, torch.where(is_root, torch.cat([its_weights, unused.float()], -1), weights)

    def native_norm(self, index: Tensor) -> Tensor:
        """A midpoint is half the sum of two roots: sqrt 6 / 2, and sqrt 5 / 2 or sqrt 2 / 2 with a part dropped."""
        size = self._middles(index)[2] / 2
        if not self.with_roots:
            return size
        _, high, _ = self._root.unrank(index.clamp(max=self._roots - 1))
        return torch.where(index < self._roots, torch.where(high == self.n, 1.0, math.sqrt(2.0)), size)

    def _middles(self, index: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
        """((i, j, k), sign, length) of sign (e_i + e_j - 2 e_k) without the dropped coordinate."""
        index = (index - self._roots).clamp(min=0)
        if self.n > 1:
            (low, high), (single,) = self._middle.unrank(index >> 1)
        else:  # two coordinates have no midpoints
            low = high = single = index.new_zeros(index.shape)
        squared = 6.0 - (high == self.n).float() - 4.0 * (single == self.n).float()
        return (low, high, single), (1 - 2 * (index & 1)).float(), squared.sqrt()

    def _encode(self, orbit: TwoValued, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        if orbit == ROOT or orbit in SHORT:
            return self._root.of_orbit(plus, minus)
        dropped = torch.full_like((plus or minus)[0], self.n)
        pair, single, sign = (plus, minus, 0) if orbit in MIDDLE else (minus, plus, 1)
        pair = pair if len(pair) == 2 else [pair[0], dropped]
        found: Tensor = 2 * self._middle.rank(pair, single or [dropped]) + (sign + self._roots)
        return found

    def _encode_best(self, best: Tensor, above: dict[int, list[Tensor]], below: dict[int, list[Tensor]]) -> Tensor:
        if self.n < 3:
            return super()._encode_best(best, above, below)
        # The coordinates that each kind of vector may take, the dropped one last; then those of the best kind, and one
        # rank for all midpoints.
        places = torch.nn.functional.pad(
            torch.stack([*above[2], *above[1], *below[2], *below[1]], 1), (0, 1), value=self.n
        )
        taken = self._constant("taken", [list(_TAKEN[orbit]) for orbit in self.orbits], best)[best.squeeze(1)]
        first, second, third = (columns := places.gather(1, taken)).split(1, 1)
        pair = self._root.pairs.rank([torch.minimum(first, second), torch.maximum(first, second)])
        roots = len(self.orbits) - len(MIDDLE + MIDDLE_NEGATIVE)
        # As `Arrangements.rank` counts, with the pair that the rank of a root is made of as well.
        single = third - (third > columns[:, :2]).sum(1, keepdim=True)
        middle = torch.add(single, pair, alpha=self._middle.minus.count)
        middle = torch.add(best >= roots + len(MIDDLE), middle, alpha=2) + self._roots
        return torch.where(best < roots, torch.add(first > second, pair, alpha=2), middle) if roots else middle

    def from_lexicographic(self, position: Tensor) -> Tensor:
        middles = signed_index(position - self._roots, self._middle.count) + self._roots
        if not self.with_roots:
            return middles
        return self._root.from_lexicographic(position).where(position < self._roots, middles)

    def to_lexicographic(self, index: Tensor) -> Tensor:
        middles = signed_position(index - self._roots, self._middle.count) + self._roots
        if not self.with_roots:
            return middles
        roots = self._root.to_lexicographic(index.clamp(max=self._roots - 1))
        return roots.where(index < self._roots, middles)
