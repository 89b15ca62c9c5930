"""Ranks of subsets: the p-subsets of N positions numbered in lexicographic order, in int64 arithmetic alone.

The complement of a lexicographic rank is a number in the combinatorial number system: with c = N - 1 - position,
C(N, p) - 1 - rank = C(c_p, p) + ... + C(c_1, 1). Each digit is found by bisection in a row of Pascal's triangle, so
nothing is rounded, whatever the size.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

LARGEST = 2**63 - 1
# Up to so many, numbers on the host are all overhead.
FEW = 8192
_HOST = torch.device("cpu")

Numbers = TypeVar("Numbers", Tensor, np.ndarray)
"""int64, as a tensor or as numpy's array."""


class Subsets:
    """The p-subsets of range(total), for ranks of any tensor shape. `count` is exact and may exceed int64."""

    def __init__(self, total: int, p: int) -> None:
        self.total, self.p, self.count = total, p, math.comb(total, p)
        self._pascal: dict[tuple[int, torch.device], Tensor] = {}

    def unrank(self, rank: Numbers) -> list[Numbers]:
        """The p positions, rising, of each rank (int64, any shape)."""
        if self.p == 1:
            return [rank]
        left = (self.count - 1) - rank
        positions = []
        for size in range(self.p, 1, -1):
            row = self._row(size, rank)
            after = _count_below(row, left)
            positions.append(self.total - after)
            left = left - row.take(after)
        positions.append((self.total - 1) - left)
        return positions

    def rank(self, positions: list[Numbers]) -> Numbers:
        """The rank of each set of positions, which are p tensors of one shape, rising."""
        if self.p == 1:
            return positions[0]
        rank = (self.count - self.total) + positions[-1]
        for size, position in zip(range(self.p, 1, -1), positions, strict=False):
            rank = rank - self._row(size, position).take(self.total - position)
        return rank

    def _row(self, size: int, like: Numbers) -> Numbers:
        """C(c - 1, size) for c in 1..total behind one unused entry; above int64 it means "larger than any rank"."""
        device = like.device if isinstance(like, Tensor) else _HOST
        key = (size, device)
        if key not in self._pascal:
            values = [0, *(min(math.comb(c, size), LARGEST) for c in range(self.total))]
            self._pascal[key] = torch.tensor(values, dtype=torch.long, device=device)
        return self._pascal[key] if isinstance(like, Tensor) else self._pascal[key].numpy()


def _count_below(row: Numbers, left: Numbers) -> Numbers:
    """Searching a row of Pascal's triangle on the right counts its entries <= left: one more than the digit."""
    if isinstance(row, Tensor):
        return torch.searchsorted(row[1:], left, right=True)
    return np.searchsorted(row[1:], left, side="right")


def few(numbers: Tensor) -> bool:
    """Are these integers on the host and so few that numpy, at a third of torch's cost an operation, is quicker?"""
    small = numbers.dim() > 0 and numbers.numel() <= FEW
    return small and numbers.device.type == "cpu" and not torch.compiler.is_compiling()


def skip(position: Numbers, taken: list[Numbers]) -> Numbers:
    """A position among those left over -> a position among all, where `taken`, rising, were left out."""
    for x in taken:
        position = position + (position >= x)
    return position


def unskip(position: Numbers, taken: list[Numbers]) -> Numbers:
    """The inverse of `skip`: how many positions that are not taken lie before."""
    before = position
    for x in taken:
        before = before - (position > x) * 1
    return before


def rising(positions: Tensor) -> list[Tensor]:
    """Positions [..., p] in any order -> p tensors, rising."""
    p = positions.shape[-1]
    if p == 2:
        one, other = positions.unbind(-1)
        return [torch.minimum(one, other), torch.maximum(one, other)]
    return list((positions if p < 2 else positions.sort(-1).values).unbind(-1))
