"""2-D rotation scheme (arXiv:2510.04090, Sec. 5.1): 4 directions at 90 degrees, then copies turned by half the angle.

Index order, the paper's: 0..3 at 0, 90, 180, 270 degrees; 4..7 the same turned by 45; 8..15 all of these turned by
22.5; and so on. So bit b >= 2 of the index adds 180 / 2^b degrees, and the first 2^m are evenly spread for every m.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lsc_engine.vectors.base import VectorSystem, clean
from lsc_engine.vectors.counting import SystemFacts


class Planar(VectorSystem):
    """`count` = 2^m directions in the plane; a slot is the angle in units of 360 / count degrees."""

    has_lexicographic = False

    def __init__(self, facts: SystemFacts) -> None:
        super().__init__(facts)
        self._bits = self.count.bit_length() - 1

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self._countable()
        angle = self._slot(index).double() * (2 * math.pi / self.count)
        weights = torch.stack([angle.cos(), angle.sin()], -1).float()
        return torch.arange(2, device=index.device).expand(weights.shape), weights

    def nearest(self, z: Tensor) -> Tensor:
        return self._index(torch.round(self._turn(z)).long() & (self.count - 1))

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:
        """The slots around the angle, alternately on its two sides."""
        k = min(k, self.count)
        turn = self._turn(z).unsqueeze(1)
        near = torch.round(turn)
        side = torch.where(turn >= near, 1, -1)
        step = torch.arange(k, device=z.device)
        # 0, 1, -1, 2, -2, ... towards the nearer side first
        offset = torch.where(step % 2 == 1, (step + 1) // 2, -(step // 2)) * side
        return self._index((near.long() + offset) & (self.count - 1))

    def _turn(self, z: Tensor) -> Tensor:
        z = clean(z).double()
        return torch.atan2(z[:, 1], z[:, 0]) * (self.count / (2 * math.pi))

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
