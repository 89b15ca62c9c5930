"""Ranks of subsets: the p-subsets of N positions in lexicographic order, and arrangements of ones and minus ones.

The complement of a lexicographic rank is a number in the combinatorial number system: with c = N - 1 - position,
C(N, p) - 1 - rank = C(c_p, p) + ... + C(c_1, 1). Each digit is found by bisection, so nothing is rounded. Ranks are
Python integers of any size, or int64 tensors, or, up to 8192 on the host, numpy arrays: a third of torch's cost an
operation, which is all of it for small batches.
"""

from __future__ import annotations

import bisect
import math
from typing import Any, TypeVar

from lsc_engine.common.deferred import Tensor, np, torch

LARGEST = 2**63 - 1
MOST_ON_HOST = 8192

Numbers = TypeVar("Numbers", int, "np.ndarray", "Tensor")


class Subsets:
    """The p-subsets of range(total). `count` is exact and may exceed int64."""

    def __init__(self, total: int, p: int) -> None:
        self.total, self.p, self.count = total, p, math.comb(total, p)
        self._pascal: dict[tuple[int, Any], Any] = {}

    def unrank(self, rank: Numbers) -> list[Numbers]:
        """The p positions, rising, of each rank (of any shape)."""
        if self.p < 2:
            return [rank] * self.p
        left: Any = (self.count - 1) - rank
        positions: list[Any] = []
        for size in range(self.p, 1, -1):
            digit, worth = self._digit(size, left)
            positions.append(self.total - digit)
            left = left - worth
        return [*positions, (self.total - 1) - left]

    def rank(self, positions: list[Any]) -> Any:
        """The rank of each set of positions, which are p tensors (or arrays) of one shape, rising."""
        if self.p == 1:
            return positions[0]
        rank = (self.count - self.total) + positions[-1]
        for size, position in zip(range(self.p, 1, -1), positions, strict=False):
            rank = rank - self._row(size, position).take(self.total - position)
        return rank

    def _digit(self, size: int, left: Any) -> tuple[Any, Any]:
        """One more than the largest c with C(c, size) <= left, and C(c, size)."""
        if isinstance(left, int):
            digit = bisect.bisect_right(range(self.total), left, key=lambda c: math.comb(c, size))
            return digit, math.comb(digit - 1, size)
        row = self._row(size, left)
        # Searching a row of Pascal's triangle on the right counts its entries <= left.
        tensor, above = _is_tensor(left), row[1:]
        found: Any = torch.searchsorted(above, left, right=True) if tensor else above.searchsorted(left, "right")
        return found, row.take(found)

    def _row(self, size: int, like: Any) -> Any:
        """C(c - 1, size) for c in 1..total behind one unused entry; above int64 it means "larger than any rank"."""
        key = (size, like.device if _is_tensor(like) else None)
        if key not in self._pascal:
            values = [0, *(min(math.comb(c, size), LARGEST) for c in range(self.total))]
            self._pascal[key] = torch.tensor(values, device=like.device) if _is_tensor(like) else np.array(values)
        return self._pascal[key]


class Arrangements:
    """Ranks of placements of p ones and q minus ones on `width` coordinates: by the positions of the ones, as a rising
    tuple compared lexicographically, then by those of the minus ones among the coordinates left over."""

    def __init__(self, width: int, p: int, q: int) -> None:
        self.plus, self.minus = Subsets(width, p), Subsets(width - p, q)
        self.count = self.plus.count * self.minus.count

    def unrank(self, rank: Numbers) -> tuple[list[Numbers], list[Numbers]]:
        """Positions of the ones and of the minus ones, each rising."""
        if (arrays := _on_host([rank])) is not None:
            return tuple([torch.from_numpy(x) for x in side] for side in self.unrank(arrays[0]))  # type: ignore
        first = rank // self.minus.count
        plus = self.plus.unrank(first)
        minus: list[Any] = self.minus.unrank(rank - first * self.minus.count)
        # A position among those left over becomes one among all.
        for x in plus:
            minus = [position + (position >= x) for position in minus]
        return plus, minus

    def rank(self, plus: list[Any], minus: list[Any]) -> Any:
        """The inverse of `unrank`, for tensors and arrays."""
        if (arrays := _on_host([*plus, *minus])) is not None:
            return torch.from_numpy(self.rank(arrays[: len(plus)], arrays[len(plus) :]))
        if _is_tensor(plus[0]):
            # In one operation: on a GPU each costs its start.
            ones, others = torch.stack(plus, -1), torch.stack(minus, -1)
            left = list((others - (others.unsqueeze(-1) > ones.unsqueeze(-2)).sum(-1)).unbind(-1))
        else:
            left = [position - sum((position > x) * 1 for x in plus) for position in minus]
        return self.plus.rank(plus) * self.minus.count + self.minus.rank(left)


def _is_tensor(numbers: Any) -> bool:
    return not isinstance(numbers, int) and hasattr(numbers, "is_cuda")


def _on_host(numbers: list[Any]) -> list[Any] | None:
    """Tensors as numpy arrays without copying, where they are so few and on the host that numpy is quicker."""
    first = numbers[0]
    if not _is_tensor(first) or first.dim() == 0 or first.numel() > MOST_ON_HOST or first.device.type != "cpu":
        return None
    return None if torch.compiler.is_compiling() else [x.numpy() for x in numbers]
