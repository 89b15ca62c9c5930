"""Which arrangements can be among the k best: the candidates of `nearest_k`, independent of the embedding.

An arrangement puts p pluses and q minuses on n coordinates sorted by value. Write A = (a_1 < ... < a_p) for the ranks
of the pluses from the top and B for those of the minuses from the bottom. (A', B') with a'_i <= a_i and b'_j <= b_j for
all i, j scores at least as high, and unless equal it has a smaller sum of ranks. So if k other such pairs exist that
are valid (disjoint), (A, B) is not among the first k in the order "score falling, then sum of ranks rising" and may be
left out. Pluses in the upper h = p + (n - p - q) // 2 ranks and minuses in the lower n - h never meet, so the number of
dominating pairs, (A, B) included, is at least N_h(A) N_{n-h}(B), where N_h(A) counts the p-subsets of 1..h at or below
A. The candidates are the pairs with N_h(A) N_{n-h}(B) <= k: few more than k, and for large n all within the first
p + k - 1 and q + k - 1 ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate


@lru_cache(maxsize=128)
def candidates(n: int, p: int, q: int, k: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Pairs (ranks of pluses from the top, of minuses from the bottom), counted from 0, that can be in the k best."""
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
        below = tuple(accumulate(ways))
        for last in range(chosen[-1] + 1 if chosen else 0, n - (size - len(chosen)) + 1):
            upto = min(last, limit - 1)
            after = (0, *below[: upto + 1], *([0] * (limit - upto - 1)))
            # The smallest completion takes the ranks right after `last`; if even that is dominated, so is the rest.
            if _least(after, last, size - len(chosen) - 1, limit) > k:
                break
            yield from grow((*chosen, last), after)

    yield from grow((), (1, *([0] * limit)))


def _least(ways: tuple[int, ...], last: int, missing: int, limit: int) -> int:
    for step in range(1, missing + 1):
        below = tuple(accumulate(ways))
        upto = min(last + step, limit - 1)
        ways = (0, *below[: upto + 1], *([0] * (limit - upto - 1)))
    return sum(ways)
