"""Systems whose vectors follow from the number of classes.

Simplex ETF (arXiv:2412.00884, NC2): `classes` unit vectors with all cosines -1 / (classes - 1), in n >= classes - 1.
Vector c is the Helmert image of sqrt(C / (C - 1)) (e_c - 1/C), filled up with zeros to n coordinates. Index order: c.

2-D rotation scheme (arXiv:2510.04090, Sec. 5.1): 4 directions at 90 degrees, then copies turned by half the angle.
Index order, the paper's: 0..3 at 0, 90, 180, 270 degrees; 4..7 the same turned by 45; 8..15 all of these turned by
22.5; and so on. So bit b >= 2 of the index adds 180 / 2^b degrees, and the first 2^m are evenly spread for every m.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import ClassVar

from lsc_engine.common.deferred import Tensor, torch
from lsc_engine.common.errors import UsageError
from lsc_engine.registry import SYSTEMS
from lsc_engine.vectors import tensors
from lsc_engine.vectors.base import VectorSystem


@SYSTEMS.register("simplex")
class Simplex(VectorSystem):
    """The sparse form lives in C coordinates of sum 0, where vector c has one weight, at coordinate c."""

    pattern = "simplex"
    position: ClassVar[int] = 60
    listed = ("simplex",)
    needs_classes = True
    has_lexicographic = False
    description = "e_c - 1/classes, turned into n dimensions"
    decoding = "largest of the lifted numbers"
    source = "2412.00884"

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        super().__init__(name, n, classes)
        self.count = count = classes or 1
        self.max_cosine = -1.0 / (count - 1) if count > 1 else -1.0
        self.neighbours, self.rank, self.support = (count - 1, count - 1), max(1, count - 1), 1
        self._weight = math.sqrt(self.count / (self.count - 1)) if self.count > 1 else 1.0

    @classmethod
    def least_n(cls, name: str, classes: int) -> int:
        return max(1, classes - 1)

    def all_cosines(self) -> list[tuple[float, Fraction]]:
        return [(self.max_cosine, Fraction(self.count - 1))] if self.count > 1 else []

    def _integer_weights(self, index: int) -> dict[int, int]:
        return {index: 1}

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return index.unsqueeze(-1), torch.full((*index.shape, 1), self._weight, device=index.device)

    def vectors(self, index: Tensor) -> Tensor:
        self._check(index)
        if self.count == 1:
            return torch.nn.functional.pad(torch.ones((*index.shape, 1), device=index.device), (0, self.n - 1))
        rows = tensors.helmert_columns(index, self._scales(index)) * self._weight
        return torch.nn.functional.pad(rows, (0, self.n - self.count + 1))

    def lift(self, z: Tensor) -> Tensor:
        """[B, n] -> [B, C]: the Helmert isometry of the first C - 1 coordinates (one class: the first coordinate)."""
        z = tensors.real(z)
        if self.count == 1:
            return z[:, :1]
        return tensors.helmert_expand(z[:, : self.count - 1], self._scales(z))

    def _scales(self, like: Tensor) -> Tensor:
        return self._once("helmert", like, lambda: tensors.helmert_scales(self.count - 1))

    def nearest(self, z: Tensor) -> Tensor:
        return self.lift(tensors.clean(z)).argmax(1)

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:
        """Cosines are the lifted coordinates up to a factor."""
        return self.lift(tensors.clean(z)).topk(min(k, self.count), dim=1).indices


@SYSTEMS.register("planar")
class Planar(VectorSystem):
    """`count` = 2^m directions in the plane; a slot is the angle in units of 360 / count degrees."""

    pattern = "planar"
    position: ClassVar[int] = 70
    suggested = ("planar",)
    needs_classes = True
    has_lexicographic = False
    description = "directions in the plane, evenly spread"
    decoding = "the angle, rounded"
    source = "2510.04090"

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        super().__init__(name, n, classes)
        if n != 2:
            raise UsageError(f"planar lies in the plane: n = 2, not {n}")
        self.count = max(4, 1 << ((classes or 1) - 1).bit_length())
        self.max_cosine = 0.0 if self.count == 4 else math.cos(2 * math.pi / self.count)
        self.neighbours = 2, 2
        self._bits = self.count.bit_length() - 1

    @classmethod
    def least_n(cls, name: str, classes: int) -> int:
        return 2

    @classmethod
    def loss_lengths(cls, classes: int) -> dict[str, float]:
        return {"radius": 5.0, "cluster_radius": 4 / max(4, 1 << (classes - 1).bit_length())}

    def all_cosines(self) -> list[tuple[float, Fraction]]:
        half = self.count // 2
        angles = (2 * math.pi * j / self.count for j in range(1, half + 1))
        return [(math.cos(angle), Fraction(2 if j < half else 1)) for j, angle in enumerate(angles, 1)]

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._require_int64()
        angle = self._slot(index).double() * (2 * math.pi / self.count)
        weights = torch.stack([angle.cos(), angle.sin()], -1).float()
        return torch.arange(2, device=index.device).expand(weights.shape), weights

    def nearest(self, z: Tensor) -> Tensor:
        return self._index(self._turn(z).round().long() & (self.count - 1))

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:
        """The slots around the angle, alternately on its two sides."""
        turn = self._turn(z).unsqueeze(1)
        near = turn.round()
        side = torch.where(turn >= near, 1, -1)
        step = torch.arange(min(k, self.count), device=z.device)
        # 0, 1, -1, 2, -2, ... towards the nearer side first
        offset = torch.where(step % 2 == 1, (step + 1) // 2, -(step // 2)) * side
        return self._index((near.long() + offset) & (self.count - 1))

    def _turn(self, z: Tensor) -> Tensor:
        z = tensors.clean(z).double()
        return z[:, 1].atan2(z[:, 0]) * (self.count / (2 * math.pi))

    def _slot(self, index: Tensor) -> Tensor:
        slot = (index & 3) << (self._bits - 2)
        for bit in range(2, self._bits):
            slot = slot | (((index >> bit) & 1) << (self._bits - 1 - bit))
        return slot

    def _index(self, slot: Tensor) -> Tensor:
        index = slot >> (self._bits - 2)
        for bit in range(2, self._bits):
            index = index | (((slot >> (self._bits - 1 - bit)) & 1) << bit)
        return index
