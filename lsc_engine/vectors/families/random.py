"""Random vectors without a table: Gaussian directions and Rademacher signs, each row computed from its index.

`gaussian`: row i is a pure function of (n, seed, i): 64-bit counters, mixed as in SplitMix64, make pairs of normal
numbers by Box and Muller. `rademacher`: the keyed bijection takes index i to a number whose bits are the signs, so no
two rows are equal; beyond 63 coordinates the further signs are bits of the same counters. Index order: i.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, ClassVar

from lsc_engine.common.deferred import Tensor, np, torch
from lsc_engine.common.errors import UsageError
from lsc_engine.registry import SYSTEMS
from lsc_engine.vectors import tensors
from lsc_engine.vectors.base import LARGEST_INDEX, VectorSystem
from lsc_engine.vectors.bijection import Bijection, mix

VERSION = 1
"""Changes whenever a vector would."""
# Signs that an index decides alone.
_OWN_SIGNS = 63
# Classes up to which the largest cosine is exact, and classes of a sample that gives an estimate for more.
MOST_COMPARED, SAMPLE = 20_000, 4096
# Numbers of rows that a scan computes at once.
_NUMBERS_AT_ONCE = 2**20


def _keys(text: str, number: int) -> list[int]:
    """`number` signed 64-bit integers that `text` chooses."""
    content = hashlib.shake_256(text.encode()).digest(8 * number)
    return [int.from_bytes(content[8 * i : 8 * i + 8], "little", signed=True) for i in range(number)]


class Random(VectorSystem):
    """`seed` chooses the vectors; `classes` those in use, the first ones. A family has `rows`."""

    position: ClassVar[int] = 66
    seeded = True
    has_lexicographic = False
    source = "2305.19470"

    def __init__(self, name: str, n: int, classes: int | None = None, seed: int = 0) -> None:
        super().__init__(name, n, classes)
        self.seed = seed
        self._first, *self._keys = _keys(f"lsc {name} {VERSION}|{n}|{seed}", n + 1)

    @abstractmethod
    def rows(self, index: Any, library: Any) -> Any:
        """Unit rows [B, n] float64 of int64 indices [B]; `library`: numpy or torch, whose arrays these are."""

    def _bits(self, index: Any, first: int, last: int) -> Any:
        """64 bits for each index [B] and each of the columns, int64 [B, last - first]."""
        keys = self._keys[first:last]
        columns = np.array(keys) if isinstance(index, np.ndarray) else self._constant("keys", keys, index)
        return mix(mix(index + self._first)[:, None] ^ columns)

    @property
    def choosable(self) -> int:
        return self.count if self.structured else self.classes or self.count

    @cached_property
    def max_cosine(self) -> float:  # type: ignore[override]
        """Of the vectors in use. Of more than 20 000 an estimate: the largest of the first 4096, moved on to where one
        of all their pairs is expected instead of one of the sample's. NaN without `classes`."""
        if self.classes is None:
            return math.nan
        if self.classes <= MOST_COMPARED:
            return _largest_cosine(type(self), self.name, self.n, self.classes, self.seed)
        found = _largest_cosine(type(self), self.name, self.n, SAMPLE, self.seed)
        pairs = math.comb(self.classes, 2) / math.comb(SAMPLE, 2)
        return _further(found, self.n, math.log(pairs))

    @property
    def max_cosine_note(self) -> str:  # type: ignore[override]
        """Whether `max_cosine` is an estimate."""
        return f"estimate by a sample of {SAMPLE}" if (self.classes or 0) > MOST_COMPARED else ""

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.rows(index.reshape(-1), torch).float().reshape(*index.shape, self.n)
        return torch.arange(self.n, device=index.device).expand(weights.shape), weights

    def nearest(self, z: Tensor) -> Tensor:
        return self.nearest_k(z, 1).squeeze(1)

    def nearest_k(self, z: Tensor, k: int) -> Tensor:
        """Of the vectors in use, by a scan of all of them. ValueError without `classes`."""
        if self.classes is None:
            raise ValueError(f"{self.name} at n = {self.n}: the nearest is that of the vectors in use, give classes")
        z, step = tensors.clean(z), max(k, _NUMBERS_AT_ONCE // self.n)
        best, found = z.new_empty((len(z), 0)), torch.empty((len(z), 0), dtype=torch.long, device=z.device)
        with torch.autocast(z.device.type, enabled=False):
            for start in range(0, self.classes, step):
                index = torch.arange(start, min(start + step, self.classes), device=z.device)
                scores, place = (z @ self.vectors(index).T).topk(min(k, len(index)), dim=1)
                best, order = torch.cat([best, scores], 1).topk(min(k, start + len(index)), dim=1)
                found = torch.cat([found, start + place], 1).gather(1, order)
        return found


@lru_cache(maxsize=256)
def _largest_cosine(family: type[Random], name: str, n: int, classes: int, seed: int) -> float:
    return tensors.largest_cosine(family(name, n, classes, seed).rows(np.arange(classes), np).astype(np.float32))


def _further(cosine: float, n: int, logarithm: float) -> float:
    """Where the probability that two directions have a larger cosine, about (1 - c²)^((n - 1) / 2) / c, is that at
    `cosine` over exp(logarithm)."""

    def tail(c: float) -> float:
        return (n - 1) / 2 * math.log(1 - c * c) - math.log(c)

    low, high = max(cosine, 1e-9), 1.0
    goal = tail(low) - logarithm if low < 1 else -math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if middle < 1 and tail(middle) > goal else (low, middle)
    return low


@SYSTEMS.register("gaussian")
class Gaussian(Random):
    """Directions of normal vectors, so points spread evenly over the sphere at random."""

    pattern = "gaussian"
    listed = ("gaussian",)
    structured = False
    description = "random directions"
    decoding = "all vectors in use are compared"
    count = LARGEST_INDEX

    @classmethod
    def least_n(cls, name: str, classes: int) -> int:
        if classes > cls.count:
            raise UsageError(f"{name}: {classes} classes are too many, 2^63 - 1 at most")
        return 2

    def rows(self, index: Any, library: Any) -> Any:
        bits = self._bits(index, 0, (self.n + 1) // 2)
        # 40 bits for the size, above 0 up to 1, and 24 for the angle.
        size = library.asarray((bits >> 24 & (1 << 40) - 1) + 1, dtype=library.float64) * 2.0**-40
        angle = library.asarray(bits & (1 << 24) - 1, dtype=library.float64) * (math.pi * 2.0**-23)
        size = library.sqrt(-2 * library.log(size))
        pairs = library.stack((size * library.cos(angle), size * library.sin(angle)), -1)
        normal = pairs.reshape(len(index), 2 * bits.shape[1])[:, : self.n]
        return normal / library.sqrt((normal * normal).sum(-1))[:, None]

    def crowding(self, scale: float) -> tuple[float, bool]:
        """The expectation over all seeds: 0F1(; n / 2; scale² / 4)."""
        total, term, k = 0.0, 1.0, 0
        while term > 1e-17 * total:
            total += term
            k += 1
            term *= scale * scale / 4 / (k * (self.n / 2 + k - 1))
        return total, False


@SYSTEMS.register("rademacher")
class Rademacher(Random):
    """Signs over sqrt(n), no two rows alike. Up to n = 63 all 2^n are in the system and the nearest has the signs of
    the embedding; beyond, the vectors in use are compared."""

    pattern = "rademacher"
    listed = ("rademacher",)
    description = "random signs, no two rows alike"
    decoding = "the signs up to n = 63; beyond, all vectors in use are compared"

    def __init__(self, name: str, n: int, classes: int | None = None, seed: int = 0) -> None:
        super().__init__(name, n, classes, seed)
        self.count = 2 ** min(n, _OWN_SIGNS)
        self._bijection = Bijection(self.count, seed, f"rademacher {n}")

    @classmethod
    def least_n(cls, name: str, classes: int) -> int:
        if classes > 2**_OWN_SIGNS:
            raise UsageError(f"{name}: {classes} classes are too many, 2^63 at most")
        return max(1, (classes - 1).bit_length())

    @property
    def structured(self) -> bool:  # type: ignore[override]
        return self.n <= _OWN_SIGNS

    @cached_property
    def max_cosine(self) -> float:  # type: ignore[override]
        """As of `Random`, and no more than that of two rows of which one sign differs."""
        if self.structured and self.classes in (None, self.count):
            return 1 - 2 / self.n
        return min(super().max_cosine, 1 - 2 / self.n) if self.classes else math.nan

    @property
    def max_cosine_note(self) -> str:  # type: ignore[override]
        return "" if self.classes == self.count and self.structured else super().max_cosine_note

    def all_cosines(self) -> list[tuple[float, Fraction]]:
        """1 - 2 d / n for d signs that differ; beyond n = 63 the expected numbers."""
        share = Fraction(self.count - 1, 2**self.n - 1)
        return [(1 - 2 * d / self.n, math.comb(self.n, d) * share) for d in range(1, self.n + 1)]

    def rows(self, index: Any, library: Any) -> Any:
        if isinstance(index, np.ndarray):
            number, shifts = self._bijection.of_array(index), np.arange(min(self.n, _OWN_SIGNS))
        else:
            number, shifts = self._bijection(index), library.arange(min(self.n, _OWN_SIGNS), device=index.device)
        bits = number[:, None] >> shifts & 1
        if self.n > _OWN_SIGNS:
            bits = library.concatenate((bits, self._bits(index, _OWN_SIGNS, self.n) & 1), -1)
        return library.asarray(1 - 2 * bits, dtype=library.float64) / math.sqrt(self.n)

    def _integer_weights(self, index: int) -> dict[int, int]:
        return dict(enumerate(np.sign(self.rows(np.array([index]), np)[0]).astype(int).tolist()))

    def nearest(self, z: Tensor) -> Tensor:
        if not self.structured:
            return super().nearest(z)
        return self._bijection.inverse(((tensors.clean(z) < 0) << torch.arange(self.n, device=z.device)).sum(1))

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:  # type: ignore[override]
        return None if self.structured else super().nearest_k(z, k)

    @property
    def partition_fault(self) -> str | None:
        return None if self.structured else super().partition_fault

    def log_partition(self, x: Tensor) -> Tensor:
        """Of all sign vectors: the product of 2 cosh(x_j / sqrt(n))."""
        if not self.structured:
            return super().log_partition(x)
        x = tensors.real(x) / math.sqrt(self.n)
        return torch.logaddexp(x, -x).sum(1)
