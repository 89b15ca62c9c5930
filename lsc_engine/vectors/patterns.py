"""Vector systems as orbits: all distinct arrangements of a few integer values over N coordinates, the rest zero.

Torch-free and exact. Every permutation family of arXiv:2512.07509 is one orbit or a union of them, and so is A_n with
coordinate n+1 dropped (arXiv:2510.04090, Sec. 3). Cosines follow from counting how values fall onto each other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import product

Orbit = tuple[tuple[int, int], ...]
"""A pattern: ((value, how often), ...), values distinct and not zero, falling."""


def orbit(*values: int) -> Orbit:
    """The pattern with these non-zero values.

    >>> orbit(1, 1, -1)
    ((1, 2), (-1, 1))
    """
    return tuple(sorted(Counter(values).items(), reverse=True))


def square(pattern: Orbit) -> int:
    """Squared length of the integer vector."""
    return sum(value * value * often for value, often in pattern)


def size(pattern: Orbit, coordinates: int) -> int:
    """Number of arrangements over this many coordinates, N! / (prod m_v! (N - s)!); 0 where they do not fit."""
    free, number = coordinates, 1
    for _, often in pattern:
        if often > free:
            return 0
        number *= math.comb(free, often)
        free -= often
    return number


def partitions(total: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    """The partitions of `total` into positive parts, parts falling."""
    if total == 0:
        yield ()
        return
    for first in range(min(total, largest or total), 0, -1):
        for rest in partitions(total - first, first):
            yield (first, *rest)


def overlaps(one: Orbit, other: Orbit, coordinates: int) -> dict[int, int]:
    """Inner products of one fixed vector of `one` with all vectors of `other`: {inner product: how many vectors}.

    Fills the coordinates where the fixed vector has its first value, then its second, ..., last its zeros; a state is
    what is left of the other vector's values and the inner product so far.
    """
    states: dict[tuple[tuple[int, ...], int], int] = {(tuple(often for _, often in other), 0): 1}
    for value, often in one:
        after: Counter[tuple[tuple[int, ...], int]] = Counter()
        for (left, inner), ways in states.items():
            for taken in product(*(range(min(often, x) + 1) for x in left)):
                if sum(taken) <= often:
                    gain = value * sum(x * there for x, (there, _) in zip(taken, other, strict=True))
                    rest = tuple(x - y for x, y in zip(left, taken, strict=True))
                    after[rest, inner + gain] += ways * _arrange(often, taken)
        states = after
    zeros, found = coordinates - sum(often for _, often in one), Counter[int]()
    for (left, inner), ways in states.items():
        if sum(left) <= zeros:
            found[inner] += ways * _arrange(zeros, left)
    return found


def _arrange(places: int, groups: tuple[int, ...]) -> int:
    number = 1
    for often in groups:
        number *= math.comb(places, often)
        places -= often
    return number


def root(value: Fraction) -> float:
    """The cosine c of which `value` is sign(c) c^2, correctly rounded where it is rational."""
    top, bottom = math.isqrt(abs(value.numerator)), math.isqrt(value.denominator)
    if top * top == abs(value.numerator) and bottom * bottom == value.denominator:
        length = top / bottom
    else:
        length = math.sqrt(abs(value))
    return math.copysign(length, value) if value else 0.0


@lru_cache(maxsize=512)
def spectra(patterns: tuple[Orbit, ...], coordinates: int) -> tuple[tuple[int, dict[Fraction, int]], ...]:
    """For each orbit that fits: its size, and {cosine: how many other vectors of the union one of its own meets}, the
    cosine c kept exactly, as sign(c) c^2."""
    fitting = [pattern for pattern in patterns if size(pattern, coordinates)]
    found = []
    for one in fitting:
        counts: Counter[Fraction] = Counter()
        for other in fitting:
            for inner, number in overlaps(one, other, coordinates).items():
                counts[Fraction(inner * abs(inner), square(one) * square(other))] += number
        # The only vector at cosine 1 is the vector itself: directions are distinct in every family.
        del counts[Fraction(1)]
        found.append((size(one, coordinates), dict(counts)))
    return tuple(found)


def largest_cosine(patterns: tuple[Orbit, ...], coordinates: int) -> tuple[float, tuple[int, int]]:
    """The largest cosine between two vectors of the union, and the fewest and most vectors that one has there."""
    seen = spectra(patterns, coordinates)
    largest = max(max(cosines) for _, cosines in seen if cosines)
    near = [cosines.get(largest, 0) for _, cosines in seen]
    return root(largest), (min(near), max(near))


def histogram(patterns: tuple[Orbit, ...], coordinates: int, count: int) -> list[tuple[float, Fraction]]:
    """Cosines from one of the `count` vectors of the union to the others, falling, each with the mean number there."""
    total: Counter[Fraction] = Counter()
    for number, cosines in spectra(patterns, coordinates):
        for cosine, often in cosines.items():
            total[cosine] += number * often
    return [(root(cosine), Fraction(total[cosine], count)) for cosine in sorted(total, reverse=True)]
