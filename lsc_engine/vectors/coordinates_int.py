"""One vector of a system from its index in Python integers: the weights that are not zero, before normalising.

The same index orders as the torch families (roots.py, permutations.py, weights.py, simplex.py), for callers without
torch: what a class looks like on a screen. Exact at any count.
"""

from __future__ import annotations

import math
from collections import Counter

from lsc_engine.errors import UsageError
from lsc_engine.vectors.counting import count
from lsc_engine.vectors.names import Name, parse

Entries = list[tuple[int, int]]

FAMILIES = ("A", "Ap", "A-mid", "A-interp", "A-helmert", "V", "Vpm", "W", "simplex")


def entries(name: str, n: int, index: int, classes: int | None = None) -> Entries:
    """(column from 0, integer weight) of vector `index`, columns rising; the unit row is this over its length.

    A-helmert and simplex in their n + 1 (classes) lifted coordinates. The dropped coordinate of A is left out.
    IndexError outside the system; UsageError for planar, tables and plugins, which no integers describe.
    """
    parsed = parse(name)
    if parsed.family not in FAMILIES:
        raise UsageError(f"{name}: its vectors are not made of a few whole numbers")
    number = count(name, n, classes)
    if not 0 <= index < number:
        raise IndexError(f"{name} at n = {n} has {number} vectors, there is no number {index}")
    width = n + 1 if parsed.family == "A-helmert" else int(classes or 1) if parsed.family == "simplex" else n
    return sorted((c, w) for c, w in _weights(parsed, n, index).items() if w and c < width)


def _weights(parsed: Name, n: int, index: int) -> dict[int, int]:
    match parsed.family:
        case "simplex":
            return {index: 1}
        case "Ap":
            low, high = subset(n + 1, 2, index)
            return {low: 1, high: -1}
        case "A" | "A-helmert":
            return _root(n, index)
        case "A-mid":
            return _middle(n, index)
        case "A-interp":
            roots = n * (n + 1)
            return _root(n, index) if index < roots else _middle(n, index - roots)
        case "V":
            return _arrangement(n, parsed.p, parsed.q, index)
        case "Vpm":
            sign = 1 - 2 * (index & 1)
            return {c: sign * w for c, w in _arrangement(n, parsed.p, parsed.q, index >> 1).items()}
        case _:
            return _units(n, parsed.k, index)


def _root(n: int, index: int) -> dict[int, int]:
    low, high = subset(n + 1, 2, index >> 1)
    sign = 1 - 2 * (index & 1)
    return {low: sign, high: -sign}


def _middle(n: int, index: int) -> dict[int, int]:
    sign = 1 - 2 * (index & 1)
    return {c: sign * (w if w > 0 else 2 * w) for c, w in _arrangement(n + 1, 2, 1, index >> 1).items()}


def _arrangement(width: int, p: int, q: int, rank: int) -> dict[int, int]:
    """p ones by their positions, then q minus ones among the positions left over."""
    first, rest = divmod(rank, math.comb(width - p, q))
    plus = subset(width, p, first)
    return dict.fromkeys(plus, 1) | dict.fromkeys((_skip(x, plus) for x in subset(width - p, q, rest)), -1)


def _units(n: int, k: int, index: int) -> dict[int, int]:
    """W_n(k): the block of p positive coordinates, their places, where the units step on, the negative units."""
    for p in range(1, min(k, n - 1) + 1):
        below, steps = math.comb(n - p + k - 1, k), math.comb(k - 1, p - 1)
        size = math.comb(n, p) * steps * below
        if index < size:
            break
        index -= size
    first, last = divmod(index, below)
    place, step = divmod(first, steps)
    positions = subset(n, p, place)
    cuts = [0, *(cut + 1 for cut in subset(k - 1, p - 1, step)), k]
    found = Counter({position: cuts[i + 1] - cuts[i] for i, position in enumerate(positions)})
    for s, x in enumerate(subset(n - p + k - 1, k, last)):
        found[_skip(x - s, positions)] -= 1
    return found


def subset(total: int, p: int, rank: int) -> list[int]:
    """The p-subset of range(total) with this lexicographic rank, rising (subsets.py)."""
    left = math.comb(total, p) - 1 - rank
    out = []
    digit = total
    for size in range(p, 0, -1):
        low, high = size - 1, digit - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if math.comb(middle, size) <= left else (low, middle - 1)
        digit = low
        left -= math.comb(digit, size)
        out.append(total - 1 - digit)
    return out


def _skip(position: int, taken: list[int]) -> int:
    for x in taken:
        position += position >= x
    return position
