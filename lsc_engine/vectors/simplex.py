"""Simplex ETF (arXiv:2412.00884, NC2): `classes` unit vectors with all cosines -1 / (classes - 1), in n >= classes - 1.

Vector c is the Helmert image of sqrt(C / (C - 1)) (e_c - 1/C), filled up with zeros to n coordinates. Index order: c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lsc_engine.vectors import helmert
from lsc_engine.vectors.base import VectorSystem, clean
from lsc_engine.vectors.counting import SystemFacts


class Simplex(VectorSystem):
    """The sparse form lives in C coordinates of sum 0, where vector c has one weight, at coordinate c."""

    has_lexicographic = False

    def __init__(self, facts: SystemFacts) -> None:
        super().__init__(facts)
        self._weight = math.sqrt(self.count / (self.count - 1)) if self.count > 1 else 1.0

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return index.unsqueeze(-1), torch.full((*index.shape, 1), self._weight, device=index.device)

    def vectors(self, index: Tensor) -> Tensor:
        self._check(index)
        if self.count == 1:
            return torch.nn.functional.pad(torch.ones((*index.shape, 1), device=index.device), (0, self.n - 1))
        rows = helmert.columns(index, self._scales(index)) * self._weight
        return torch.nn.functional.pad(rows, (0, self.n - self.count + 1))

    def lift(self, z: Tensor) -> Tensor:
        """[B, n] -> [B, C]: the Helmert isometry of the first C - 1 coordinates (one class: the first coordinate)."""
        z = z.float()
        return z[:, :1] if self.count == 1 else helmert.expand(z[:, : self.count - 1], self._scales(z))

    def nearest(self, z: Tensor) -> Tensor:
        return self.lift(clean(z)).argmax(1)

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:
        """Cosines are the lifted coordinates up to a factor."""
        return self.lift(clean(z)).topk(min(k, self.count), dim=1).indices

    def _scales(self, like: Tensor) -> Tensor:
        key = ("scales", like.device)
        if key not in self._constants:
            self._constants[key] = helmert.scales(self.count - 1, like.device)
        return self._constants[key]
