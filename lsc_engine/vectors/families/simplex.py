"""Simplex ETF (arXiv:2412.00884, NC2): `classes` unit vectors with all cosines -1 / (classes - 1), in n >= classes - 1.

Vector c is the Helmert image of sqrt(C / (C - 1)) (e_c - 1/C), filled up with zeros to n coordinates. Index order: c.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import ClassVar

from lsc_engine.common.deferred import Tensor, torch
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
