"""Vector systems built straight from their definitions, by listing: the oracle for every family."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np


def arrangements(values: list[int], n: int) -> set[tuple[int, ...]]:
    """All distinct permutations of the values filled up with zeros to n coordinates."""
    if len(values) > n:
        return set()
    found: set[tuple[int, ...]] = set()
    distinct = sorted(set(values))

    def place(vector: list[int], left: list[int]) -> None:
        if not left:
            found.add(tuple(vector))
            return
        value, often = left[0], left.count(left[0])
        free = [i for i in range(n) if vector[i] == 0]
        for where in combinations(free, often):
            filled = list(vector)
            for i in where:
                filled[i] = value
            place(filled, left[often:])

    place([0] * n, [value for d in distinct for value in values if value == d])
    return found


def roots(m: int) -> set[tuple[int, ...]]:
    """e_i - e_j in m coordinates."""
    return {tuple((x == i) - (x == j) for x in range(m)) for i, j in permutations(range(m), 2)}


def midpoints(m: int) -> set[tuple[int, ...]]:
    """Sums of root pairs at 60 degrees: inner product 1 of roots of square 2."""
    found = set()
    for a, b in combinations(sorted(roots(m)), 2):
        if sum(x * y for x, y in zip(a, b, strict=True)) == 1:
            found.add(tuple(x + y for x, y in zip(a, b, strict=True)))
    return found


def drop(vectors: set[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """Without the last coordinate."""
    return {vector[:-1] for vector in vectors}


def weights(k: int, n: int) -> set[tuple[int, ...]]:
    """Integer vectors of sum 0 and l1 norm 2k."""
    return {v for v in product(range(-k, k + 1), repeat=n) if sum(v) == 0 and sum(map(abs, v)) == 2 * k}


def native(name: str, n: int) -> set[tuple[int, ...]]:
    """The vectors of a family as integers, in n coordinates (n + 1 for A-helmert)."""
    if name == "A":
        return drop(roots(n + 1))
    if name == "Ap":
        return drop({r for r in roots(n + 1) if next(x for x in r if x) > 0})
    if name == "A-mid":
        return drop(midpoints(n + 1))
    if name == "A-interp":
        return drop(roots(n + 1)) | drop(midpoints(n + 1))
    if name == "A-helmert":
        return roots(n + 1)
    if name.startswith("W"):
        return weights(int(name[1:]), n)
    p, q = int(name[1]), int(name[2])
    found = arrangements([1] * p + [-1] * q, n)
    return found | {tuple(-x for x in v) for v in found} if name.endswith("pm") else found


def unit(vectors: set[tuple[int, ...]]) -> np.ndarray:
    """Sorted unit rows, float64."""
    rows = np.array(sorted(vectors), dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# Every permutation family with all sizes that listing can hold.
SMALL = [
    *[("A", n) for n in range(1, 8)],
    *[("Ap", n) for n in range(1, 8)],
    *[("A-mid", n) for n in range(2, 7)],
    *[("A-interp", n) for n in range(1, 7)],
    *[("A-helmert", n) for n in range(1, 8)],
    *[("V11", n) for n in range(2, 9)],
    *[("V21", n) for n in range(3, 9)],
    *[("V12", n) for n in range(3, 7)],
    *[("V21pm", n) for n in range(3, 8)],
    *[("V22", n) for n in range(4, 9)],
    *[("V31", n) for n in range(4, 8)],
    *[("V31pm", n) for n in range(4, 7)],
    *[("V13pm", n) for n in range(4, 7)],
    *[("V32", n) for n in range(5, 8)],
    *[("V33", n) for n in range(6, 9)],
    *[("W2", n) for n in range(2, 7)],
    *[("W4", n) for n in range(2, 6)],
    *[("W6", n) for n in range(2, 5)],
]
