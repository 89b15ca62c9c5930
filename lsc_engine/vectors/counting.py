"""What a vector system holds, from its name alone: counts, smallest n, angles, ranks. Exact integers, no torch.

The counts are those of arXiv:2512.07509 (V), 2510.04090 (A), 2512.04865 (W) and 2412.00884 (simplex). `max_cosine` is
the largest cosine between two different vectors, the paper's mcs; a system of one vector has no pair and gets -1, the
least a cosine can be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from lsc_engine.errors import UsageError
from lsc_engine.vectors import names, patterns
from lsc_engine.vectors.names import LISTED, Name, canonical, is_known, parse, parse_count
from lsc_engine.vectors.patterns import Orbit, negative, orbit

__all__ = [
    "LISTED",
    "SystemFacts",
    "canonical",
    "cosine_histogram",
    "count",
    "facts",
    "is_known",
    "n_min",
    "near_in_use",
    "parse",
    "parse_count",
    "too_few",
]


@dataclass(frozen=True)
class SystemFacts:
    """Properties of one system at one n (2512.07509, Table 1, with columns of ours)."""

    system: str
    n: int
    count: int
    """Number of vectors, exact at any size."""
    max_cosine: float
    """Largest cosine between two different vectors; NaN where only the table itself could tell."""
    min_angle_deg: float
    rank: int
    """Dimension of the span."""
    neighbours: tuple[int, int] | None
    """Fewest and most vectors that one vector has at the smallest angle."""
    sure_below: float
    """1 - cos(half the smallest angle): an image whose cosine loss is less has the right label."""
    decode: str
    """"structure": the nearest vector follows from the embedding in O(n); "scan": all vectors are compared."""
    support: int
    """Weighted coordinates that make one vector (in the lifted space where there is one)."""
    source: str


def count(name: str, n: int, classes: int | None = None) -> int:
    """Number of vectors of system `name` in n dimensions; `classes` is needed by planar and simplex only.

    Raises UsageError for unknown names and for n too small to hold a single vector.
    """
    return _count(_checked(name, n, classes), n, classes)


def facts(name: str, n: int, classes: int | None = None) -> SystemFacts:
    """Everything known about system `name` in n dimensions.

    `classes` sizes planar, simplex and tables; the other families hold what they hold. Raises UsageError.
    """
    parsed = _checked(name, n, classes)
    if parsed.family == "plugin":
        return _plugin_facts(parsed, n, classes)
    number = _count(parsed, n, classes)
    largest, near = _closest(parsed, n, number)
    angle = math.degrees(math.acos(max(-1.0, min(1.0, largest)))) if not math.isnan(largest) else math.nan
    return SystemFacts(
        system=parsed.text,
        n=n,
        count=number,
        max_cosine=largest,
        min_angle_deg=angle,
        rank=_rank(parsed, n, number),
        neighbours=near,
        sure_below=1.0 - math.sqrt((1.0 + largest) / 2.0),
        decode="scan" if parsed.family == "table" else "structure",
        support=_support(parsed, n),
        source=names.source(parsed),
    )


def n_min(name: str, classes: int, *, max_cosine: float | None = None) -> int:
    """Smallest n at which system `name` holds `classes` vectors (2512.07509, n_min).

    Raises UsageError for classes < 1, for tables, and where no n keeps the largest cosine at or under `max_cosine`
    (every system contains its smaller ones, so a larger n never lowers that cosine).
    """
    parsed = parse(name)
    if classes < 1:
        raise UsageError(f"classes: {classes} is too few, 1 or more")
    if parsed.family == "table":
        raise UsageError(f"{name}: n of a table is the table's own")
    n = _smallest(parsed, classes)
    if max_cosine is not None:
        largest = facts(name, n, classes).max_cosine
        if largest > max_cosine + 1e-12:
            raise UsageError(
                f"{name}: no n holds {classes} classes at cosine <= {max_cosine:g}, "
                f"the closest has {largest:.4f} at n = {n}"
            )
    return n


def too_few(name: str, n: int, classes: int) -> str | None:
    """A sentence where system `name` has fewer than `classes` vectors at this n, with what would do; else None."""
    number = count(name, n, classes)
    if number >= classes:
        return None
    clause = f"{name} at n = {n} has {spaced(number)} vectors, {spaced(classes)} are needed"
    if parse(name).family == "table":
        return clause
    larger = f"{clause}. Take n >= {n_min(name, classes)}"
    other = "A-interp" if name.startswith("A") and name != "A-interp" else "V22"
    if other != name and (least := n_min(other, classes)) <= n:
        return f"{larger}, or {other} from n = {least}"
    return larger


def cosine_histogram(name: str, n: int, classes: int | None = None) -> list[tuple[float, float]]:
    """Cosines from one class to the others, falling, each with how many others are there.

    Over the whole system, or, with `classes`, the expected number among that many classes chosen at random.
    Where vectors differ in what they see it is the mean over them. Raises UsageError for tables.
    """
    parsed = _checked(name, n, classes)
    number = _count(parsed, n, classes)
    exact = _histogram(parsed, n, number)
    # planar and simplex are made for their classes; the share in use matters to planar alone.
    share = Fraction(1) if classes is None or number < 2 else Fraction(classes - 1, number - 1)
    rows = [(cosine, often * share) for cosine, often in exact]
    return [(cosine, int(often) if often.denominator == 1 else float(often)) for cosine, often in rows]


def near_in_use(name: str, n: int, classes: int) -> tuple[float, float] | None:
    """Expected classes in use at the smallest angle from one class: for the vectors with fewest and with most.

    `classes` of the system's vectors chosen at random, as the shuffled order does. None for tables.
    """
    known = facts(name, n, classes)
    if known.neighbours is None:
        return None
    share = Fraction(classes - 1, known.count - 1) if known.count > 1 else Fraction(0)
    return float(known.neighbours[0] * share), float(known.neighbours[1] * share)


def spaced(number: int) -> str:
    """300852 -> '300 852'."""
    return f"{number:,}".replace(",", " ")


# -- counts ----------------------------------------------------------------------------------------------------------


def _checked(name: str, n: int, classes: int | None) -> Name:
    parsed = parse(name)
    if classes is not None and classes < 1:
        raise UsageError(f"classes: {classes} is too few, 1 or more")
    if parsed.family in ("planar", "simplex", "table") and classes is None:
        raise UsageError(f"{name}: the number of classes is needed, it decides the vectors")
    least = _smallest(parsed, classes or 1) if parsed.family in ("planar", "simplex") else parsed.least_n
    if n < least:
        raise UsageError(f"{name}: n = {n} is too small, n >= {least}")
    if parsed.family == "planar" and n != 2:
        raise UsageError(f"planar: n = {n} is not possible, it lies in n = 2")
    return parsed


def _count(parsed: Name, n: int, classes: int | None) -> int:
    match parsed.family:
        case "A" | "A-helmert":
            return n * (n + 1)
        case "Ap":
            return n * (n + 1) // 2
        case "A-mid":
            return n * (n * n - 1)
        case "A-interp":
            return n * n * (n + 1)
        case "V":
            return patterns.size(_v(parsed), n)
        case "Vpm":
            return 2 * patterns.size(_v(parsed), n)
        case "W":
            k = parsed.k
            return sum(
                math.comb(n, p) * math.comb(k - 1, p - 1) * math.comb(n - p + k - 1, k)
                for p in range(1, min(k, n - 1) + 1)
            )
        case "planar":
            return max(4, 1 << (int(classes or 1) - 1).bit_length())
        case "plugin":
            try:
                return int(names.plugin(parsed.text)(n, classes).count)
            except UsageError:
                return 0  # n is too small for it
        case _:
            return int(classes or 1)


def _plugin_facts(parsed: Name, n: int, classes: int | None) -> SystemFacts:
    """What a plugin's system says of itself; what it leaves out is not known."""
    made = names.plugin(parsed.text)(n, classes)
    largest = float(getattr(made, "max_cosine", math.nan))
    return SystemFacts(
        system=parsed.text,
        n=n,
        count=int(made.count),
        max_cosine=largest,
        min_angle_deg=math.degrees(math.acos(max(-1.0, min(1.0, largest)))) if not math.isnan(largest) else math.nan,
        rank=min(n, int(made.count)),
        neighbours=None,
        sure_below=1.0 - math.sqrt((1.0 + largest) / 2.0),
        decode=str(getattr(made, "decode", "scan")),
        support=int(getattr(made, "support", n)),
        source=names.source(parsed),
    )


def _smallest(parsed: Name, classes: int) -> int:
    if parsed.family == "planar":
        return 2
    if parsed.family == "simplex":
        return max(1, classes - 1)
    high = parsed.least_n
    while _count(parsed, high, classes) < classes:
        high *= 2
        if parsed.family == "plugin" and high > 1 << 20:
            raise UsageError(f"{parsed.text}: no n up to {high // 2} holds {classes} classes")
    low = max(parsed.least_n, high // 2)
    while low < high:
        middle = (low + high) // 2
        if _count(parsed, middle, classes) >= classes:
            high = middle
        else:
            low = middle + 1
    return high


def _rank(parsed: Name, n: int, number: int) -> int:
    match parsed.family:
        case "V":
            # An orbit spans the sum-zero hyperplane, and the whole space where its own sum is not zero.
            return n if parsed.p != parsed.q else n - 1
        case "W":
            return n - 1
        case "simplex":
            return max(1, number - 1)
        case "table":
            return min(n, number)
        case _:
            return n


def _support(parsed: Name, n: int) -> int:
    fixed = {"A": 2, "Ap": 2, "A-helmert": 2, "A-mid": 3, "A-interp": 3, "planar": 2, "simplex": 1, "table": n}
    if parsed.family in fixed:
        return fixed[parsed.family]
    return 2 * parsed.k if parsed.family == "W" else parsed.p + parsed.q


# -- angles ----------------------------------------------------------------------------------------------------------


def _v(parsed: Name) -> Orbit:
    return orbit(*[1] * parsed.p, *[-1] * parsed.q)


@lru_cache(maxsize=64)
def _orbits(parsed: Name) -> tuple[Orbit, ...]:
    """The orbits whose union the system is, in n coordinates (n + 1 for A-helmert)."""
    roots, middle = orbit(1, -1), orbit(1, 1, -2)
    middles = (*patterns.dropped(middle), *patterns.dropped(negative(middle)))
    match parsed.family:
        case "A":
            return patterns.dropped(roots)
        case "A-helmert":
            return (roots,)
        case "A-mid":
            return middles
        case "A-interp":
            return (*patterns.dropped(roots), *middles)
        case "V":
            return (_v(parsed),)
        case "Vpm":
            return (_v(parsed), negative(_v(parsed)))
        case _:
            parts = list(patterns.partitions(parsed.k))
            return tuple(orbit(*plus, *(-x for x in minus)) for plus in parts for minus in parts)


def _closest(parsed: Name, n: int, number: int) -> tuple[float, tuple[int, int] | None]:
    """The largest cosine, and fewest and most neighbours there."""
    if parsed.family == "table":
        return math.nan, None
    if number == 1:
        return -1.0, (0, 0)
    match parsed.family:
        case "planar":
            return (0.0, (2, 2)) if number == 4 else (math.cos(2 * math.pi / number), (2, 2))
        case "simplex":
            return -1.0 / (number - 1), (number - 1, number - 1)
        case "Ap":
            # e_1 has e_1 - e_j for every j > 1; e_n has none.
            return math.sqrt(0.5), (0, n - 1)
        case "W":
            return _closest_weights(parsed.k, n)
    spectra = patterns.spectra(_orbits(parsed), n + (parsed.family == "A-helmert"))
    largest = max(max(seen) for _, seen in spectra if seen)
    near = [seen.get(largest, 0) for _, seen in spectra]
    return patterns.root(largest), (min(near), max(near))


def _closest_weights(k: int, n: int) -> tuple[float, tuple[int, int]]:
    """W_n(k): k times a root and its neighbour with one unit moved, (2k-1) / (2 sqrt(k^2-k+1)); arXiv:2512.04865."""
    if n == 2:
        return -1.0, (1, 1)
    largest = (2 * k - 1) / (2 * math.sqrt(k * k - k + 1))
    # In the plane sum = 0 of three coordinates W(2) is a regular 12-gon; elsewhere some vectors have wider angles.
    return largest, (2, 2) if (k, n) == (2, 3) else (0, 2 * (n - 2))


def _histogram(parsed: Name, n: int, number: int) -> list[tuple[float, Fraction]]:
    match parsed.family:
        case "table" | "plugin":
            raise UsageError(f"{parsed.text}: its cosines follow from its rows alone")
        case "simplex":
            return [(-1.0 / (number - 1), Fraction(number - 1))] if number > 1 else []
        case "planar":
            half = number // 2
            return [(math.cos(2 * math.pi * j / number), Fraction(2 if j < half else 1)) for j in range(1, half + 1)]
        case "Ap":
            return _histogram_positive(n)
        case "W" if parsed.k > 4:
            raise UsageError(f"{parsed.text}: the histogram of cosines is made up to W4")
    total: dict[Fraction, int] = {}
    for size, seen in patterns.spectra(_orbits(parsed), n + (parsed.family == "A-helmert")):
        for cosine, often in seen.items():
            total[cosine] = total.get(cosine, 0) + size * often
    return [(patterns.root(cosine), Fraction(total[cosine], number)) for cosine in sorted(total, reverse=True)]


def _histogram_positive(n: int) -> list[tuple[float, Fraction]]:
    """A_n^p: ordered pairs of e_i and e_i - e_j (i < j) by what they share, over the number of vectors."""
    pairs, triples, number = math.comb(n, 2), math.comb(n, 3), n * (n + 1) // 2
    short_long = math.sqrt(0.5)
    table = {short_long: 2 * pairs, 0.5: 4 * triples, -0.5: 2 * triples, -short_long: 2 * pairs}
    table[0.0] = number * (number - 1) - sum(table.values())
    return [(cosine, Fraction(table[cosine], number)) for cosine in sorted(table, reverse=True) if table[cosine]]
