"""V_n^pq: all permutations of p ones, q minus ones and zeros (arXiv:2512.07509), and V_n^pq with its negatives.

Index order ("sequential", and "lexicographic" too for V_pq): by the positions of the ones, as a rising tuple compared
lexicographically, then by those of the minus ones. V21 at n = 4 begins 1 1 -1 0, 1 1 0 -1, 1 -1 1 0, ...
V_pq^pm: vector r of V_pq is number 2r, its negative 2r + 1; lexicographic: all of V_pq, then the negatives.
"""

from __future__ import annotations

import math
from typing import ClassVar

from lsc_engine.common.deferred import Tensor, torch
from lsc_engine.registry import SYSTEMS
from lsc_engine.vectors.orbit_system import OrbitSystem, TwoValued, signed_index, signed_position
from lsc_engine.vectors.subsets import Arrangements

_WORDS = {1: "", 2: "two ", 3: "three ", 4: "four "}


@SYSTEMS.register("V")
class Permutations(OrbitSystem):
    """V_n^pq, "V21"; with its negatives, p != q: twice the vectors at the same largest cosine, "V21pm"."""

    pattern = r"V[1-9][1-9](pm)?"
    position: ClassVar[int] = 40
    listed = ("V11", "V21", "V21pm", "V22", "V31", "V32", "V33")

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        self.p, self.q, self.signed = p, q, signed = int(name[1]), int(name[2]), name.endswith("pm")
        orbits = (TwoValued(p, 1, q, 1), TwoValued(q, 1, p, 1))
        super().__init__(name, n, classes, orbits=orbits if signed else orbits[:1], width=n)
        self._ranks_of = Arrangements(n, p, q)
        self.count, self.support = self._ranks_of.count << signed, p + q
        # An orbit spans the sum-zero hyperplane, and the whole space where its own sum is not zero.
        self.rank = n if p != q else n - 1
        self.source = "2512.07509" if (p, q) in ((1, 1), (2, 1), (2, 2)) else "-"
        ones, negatives = " ".join(["1"] * p), " and their negatives" if signed else ""
        self.description = f"[{ones} 0 … 0{' -1' * q}] / √{p + q}, all its permutations{negatives}"
        self.decoding = "largest and smallest numbers, both signs: no search"
        if not signed:
            largest, smallest = (_WORDS.get(number, f"{number} ") for number in (p, q))
            self.decoding = f"{largest}largest numbers +, {smallest}smallest -: no search"
        weight = 1 / math.sqrt(p + q)
        self._weights = [weight] * p + [-weight] * q

    @classmethod
    def name_fault(cls, name: str) -> str | None:
        return f' is "{name[:3]}" itself, which contains its negatives' if name[1] + "pm" == name[2:] else None

    @classmethod
    def least_n(cls, name: str, classes: int) -> int:
        return int(name[1]) + int(name[2])

    def _integer_weights(self, index: int) -> dict[int, int]:
        sign = 1 - 2 * (index & 1) if self.signed else 1
        plus, minus = self._ranks_of.unrank(index >> self.signed)
        return dict.fromkeys(plus, sign) | dict.fromkeys(minus, -sign)

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._require_int64()
        plus, minus = self._ranks_of.unrank(index >> 1 if self.signed else index)
        columns = torch.stack([*plus, *minus], -1)
        weights = self._constant("weights", self._weights, index)
        if self.signed:
            return columns, weights * (1 - 2 * (index & 1)).unsqueeze(-1)
        return columns, weights.expand(columns.shape)

    def shared_weights(self, like: Tensor) -> Tensor | None:
        return None if self.signed else self._constant("weights", self._weights, like)

    def vectors(self, index: Tensor) -> Tensor:
        self._check(index)
        columns, weights = self.coordinates(index)
        # The columns of a row differ, so plain writes do.
        return weights.new_zeros((*index.shape, self.n)).scatter_(-1, columns, weights)

    def native_norm(self, index: Tensor) -> Tensor:
        return torch.full(index.shape, math.sqrt(self.support), device=index.device)

    def _encode(self, orbit: TwoValued, plus: list[Tensor], minus: list[Tensor]) -> Tensor:
        if not self.signed:
            return self._ranks_of.rank(plus, minus)
        if orbit == self.orbits[0]:
            return 2 * self._ranks_of.rank(plus, minus)
        return 2 * self._ranks_of.rank(minus, plus) + 1

    def _encode_best(self, best: Tensor, above: dict[int, list[Tensor]], below: dict[int, list[Tensor]]) -> Tensor:
        if len(self.orbits) == 1:
            return super()._encode_best(best, above, below)
        # A negative is ranked as the vector that it is the negative of: one rank for both.
        negative = best.squeeze(1) == 1
        plus = [torch.where(negative, low, high) for high, low in zip(above[self.p], below[self.p], strict=True)]
        minus = [torch.where(negative, high, low) for high, low in zip(above[self.q], below[self.q], strict=True)]
        return (2 * self._ranks_of.rank(plus, minus) + negative).unsqueeze(1)

    def from_lexicographic(self, position: Tensor) -> Tensor:
        return signed_index(position, self.count // 2) if self.signed else position

    def to_lexicographic(self, index: Tensor) -> Tensor:
        return signed_position(index, self.count // 2) if self.signed else index
