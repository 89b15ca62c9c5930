"""Signs of binary codes over sqrt(n): Hadamard, Kerdock (mutually unbiased bases) and extended BCH (arXiv:2407.07664).

A word c of length n = 2^m gives the unit vector (-1)^c_x / sqrt(n), x = 0 to n - 1. Each code is a union of cosets of
the first-order Reed-Muller code RM(1,m), whose words are x -> <l, x> + s. Index order: word (s, l) of coset c is
2 n c + n s + l. A word follows from its index by a matrix over GF(2). Nearest: one fast Hadamard transform per coset
compares its 2 n words at once, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, ClassVar

from lsc_engine.common.deferred import Tensor, np, torch
from lsc_engine.common.errors import UsageError
from lsc_engine.registry import SYSTEMS
from lsc_engine.vectors import tensors
from lsc_engine.vectors.base import VectorSystem

# Primitive polynomials of GF(2^m), as bits, for m = 1 to 11.
_PRIMITIVE = (0, 0x3, 0x7, 0xB, 0x13, 0x25, 0x43, 0x89, 0x11D, 0x211, 0x409, 0x805)
# Transforms that `nearest` makes for an embedding at most.
MOST_COSETS = 2**20
# Numbers that `nearest` transforms at once: they stay in the cache of a core.
_AT_ONCE = 2**19
# Codes of up to 2^28 words were enumerated: their minimum distance is the designed one.
MOST_ENUMERATED = 28
# Numbers that `all_cosines` of a code transforms at most; of larger codes it counts that many, of cosets at random.
_COUNTED = 2**23


@lru_cache(maxsize=16)
def _powers(m: int) -> np.ndarray:
    """The powers of a primitive element of GF(2^m), int64 [2^m - 1]."""
    powers = [1]
    for _ in range(2**m - 2):
        double = powers[-1] << 1
        powers.append(double ^ _PRIMITIVE[m] if double >> m else double)
    return np.array(powers)


def _logarithms(m: int) -> np.ndarray:
    """Of the elements 1 to 2^m - 1 to the base of `_powers`, int64 [2^m - 1]."""
    return _powers(m).argsort()


def _trace(exponent: np.ndarray, m: int, degree: int) -> np.ndarray:
    """The absolute traces, 0 and 1, of powers in GF(2^m) that lie in its subfield GF(2^degree)."""
    conjugates = [_powers(m)[(exponent << i) % (2**m - 1)] for i in range(degree)]
    return np.bitwise_xor.reduce(conjugates) & 1


def _transform(x: Any, stack: Callable[..., Any]) -> Any:
    """The Hadamard transform of an array [n, B] along the first dimension: row l is the sum over x of (-1)^<l, x> times
    row x. `stack`: torch's or numpy's."""
    n, half = len(x), 1
    while half < n:
        pairs = x.reshape(n // (2 * half), 2, half, -1)
        x = stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), 1).reshape(n, -1)
        half *= 2
    return x


def _four_rows(turned: Tensor) -> Tensor:
    """The Hadamard transforms of four rows of [n, B] at a time with every choice of their signs, for `_peaks`: row
    16 g + p of [4 n, 4 B] is that of the rows from 4 g on with the signs of the bits of p. Two rows where n is 2."""
    rows = min(4, len(turned))
    signs = 1 - 2 * (torch.arange(2**rows).unsqueeze(1) >> torch.arange(rows) & 1)
    matrix = (_transform(torch.eye(rows), torch.stack) * signs.unsqueeze(1)).view(-1, rows)
    with torch.autocast(turned.device.type, enabled=False):
        return (matrix.to(turned) @ turned.view(-1, rows, turned.shape[1])).view(-1, rows * turned.shape[1])


def _peaks(words: Tensor, table: Tensor, batch: int) -> Tensor:
    """For words [K, n] of values 0 and 1 and the table of `_four_rows` of embeddings [n, batch], the largest size
    [K, batch] in the Hadamard transform of each embedding times each word."""
    rows = table.shape[1] // batch
    bits = words.view(len(words), -1, rows).long() << torch.arange(rows, device=words.device)
    groups = bits.shape[1]
    place = bits.sum(2).T + torch.arange(groups, device=words.device).unsqueeze(1) * 2**rows
    x, half = table[place.reshape(-1)].view(groups, -1), 1
    other = torch.empty_like(x)
    while half < groups // 2:
        pairs, out = (y.view(groups // (2 * half), 2, half, -1) for y in (x, other))
        torch.add(pairs[:, 0], pairs[:, 1], out=out[:, 0])
        torch.sub(pairs[:, 0], pairs[:, 1], out=out[:, 1])
        x, other, half = other, x, 2 * half
    x.abs_()
    if groups > 1:
        # The larger of |a + b| and |a - b| is |a| + |b|.
        x = torch.add(x[: groups // 2], x[groups // 2 :], out=other[: groups // 2])
    return x.amax(0).view(len(words), rows, batch).amax(1)


class Code(VectorSystem):
    """A union of cosets of RM(1,m). A family sets `sizes`, `count`, `cosets` and the facts."""

    position: ClassVar[int] = 64
    has_lexicographic = False
    source = "2407.07664"
    cosets: int
    sizes_in_words: ClassVar[str] = "a power of two"

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        super().__init__(name, n, classes)
        assert self.sizes is not None
        if n not in self.sizes:
            near = [*[k for k in self.sizes if k < n][-1:], *[k for k in self.sizes if k > n][:1]]
            raise UsageError(f"{name}: n = {n} is not {self.sizes_in_words}; take {' or '.join(map(str, near))}")
        self.m = n.bit_length() - 1

    @classmethod
    def least_n(cls, name: str, classes: int) -> int:
        return cls.sizes[0] if cls.sizes else 1

    @cached_property
    def generator(self) -> np.ndarray:
        """The words of the bits of an index, int64 [k, n]; those of RM(1,m) come first."""
        x = np.arange(self.n)
        return np.stack([*(x >> bit & 1 for bit in range(self.m)), x * 0 + 1])

    def _integer_weights(self, index: int) -> dict[int, int]:
        rows = [row for bit, row in enumerate(self.generator) if index >> bit & 1]
        return dict(enumerate((1 - 2 * np.bitwise_xor.reduce([0 * self.generator[0], *rows])).tolist()))

    def words(self, index: Tensor) -> Tensor:
        """Values 0 and 1 [B, n] float32 of the words of indices [B]."""
        matrix = self._once("generator", index, lambda: torch.from_numpy(self.generator).float())
        bits = index.unsqueeze(1) >> torch.arange(len(matrix), device=index.device) & 1
        with torch.autocast(index.device.type, enabled=False):
            return (bits.float() @ matrix).remainder_(2)

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*index.shape, self.n)
        weights = (1 - 2 * self.words(index.reshape(-1))) / math.sqrt(self.n)
        return torch.arange(self.n, device=index.device).expand(shape), weights.reshape(shape)

    def nearest(self, z: Tensor) -> Tensor:
        if not self.structured:
            raise UsageError(
                f"{self.name}: the nearest of its {self.count} words at n = {self.n} takes {self.cosets} Hadamard "
                f"transforms, at most {MOST_COSETS} are made; take a smaller code, of fewer classes or another n"
            )
        return tensors.in_chunks(tensors.clean(z), _AT_ONCE // (2 * self.n), 1, self._nearest).squeeze(1)

    def _nearest(self, z: Tensor) -> Tensor:
        """[B, 1] of embeddings [B, n] that are finite."""
        turned = z.T.contiguous()
        best, coset = turned.new_full((len(z),), -1.0), torch.zeros(len(z), dtype=torch.long, device=z.device)
        table, step = _four_rows(turned), max(1, _AT_ONCE // turned.numel())
        for start in range(0, self.cosets, step):
            first = torch.arange(start, min(start + step, self.cosets), device=z.device) * (2 * self.n)
            size, place = _peaks(self.words(first), table, len(z)).max(0)
            coset = torch.where(size > best, start + place, coset)
            best = torch.maximum(best, size)
        sums = _transform((1 - 2 * self.words(coset * (2 * self.n))).T * turned, torch.stack)
        linear = sums.abs().argmax(0)
        index = 2 * self.n * coset + self.n * (sums.gather(0, linear.unsqueeze(0))[0] < 0) + linear
        return index.unsqueeze(1)

    @property
    def partition_fault(self) -> str | None:
        return None if self.structured else super().partition_fault

    def log_partition(self, x: Tensor) -> Tensor:
        """Both signs of every number of the transforms, coset by coset. They are computed again for the gradient."""
        from torch.utils.checkpoint import checkpoint

        turned = tensors.real(x).T / math.sqrt(self.n)

        def part(first: Tensor, turned: Tensor) -> Tensor:
            signs = (1 - 2 * self.words(first)).T.to(turned.dtype)
            sums = _transform((signs.unsqueeze(2) * turned.unsqueeze(1)).flatten(1), torch.stack).view(-1, len(x))
            return torch.logaddexp(sums, -sums).logsumexp(0)

        cosets = torch.arange(self.cosets, device=x.device) * (2 * self.n)
        parts = [
            checkpoint(part, some, turned, use_reentrant=False, preserve_rng_state=False)
            for some in cosets.split(max(1, 4 * _AT_ONCE // turned.numel()))
        ]
        return torch.stack(parts).logsumexp(0)

    @property
    def structured(self) -> bool:  # type: ignore[override]
        return self.cosets <= MOST_COSETS

    @property
    def additions(self) -> int:
        return self.cosets * self.n * self.m


@SYSTEMS.register("hadamard")
class Hadamard(Code):
    """The rows of Sylvester's Hadamard matrix and their negatives: the words of RM(1,m)."""

    pattern = "hadamard"
    listed = ("hadamard",)
    sizes: ClassVar[tuple[int, ...]] = tuple(2**m for m in range(1, 62))
    description = "rows of a Hadamard matrix, both signs"
    decoding = "one fast Hadamard transform"

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        super().__init__(name, n, classes)
        self.count, self.cosets, self.max_cosine = 2 * n, 1, 0.0
        self.neighbours = (2 * n - 2, 2 * n - 2)

    def all_cosines(self) -> list[tuple[float, Fraction]]:
        return [(0.0, Fraction(2 * self.n - 2)), (-1.0, Fraction(1))]


@SYSTEMS.register("kerdock")
class Kerdock(Code):
    """n / 2 cosets of RM(1,m) whose quadratic forms differ by bent functions, and the axes: n / 2 + 1 mutually unbiased
    bases, both signs. Index order: the words, then +e_0 to +e_(n-1), then -e_0 to -e_(n-1).

    With x = (u, y), u in F = GF(2^(m-1)), y in GF(2), the form of a in F is
    sum_j Tr((a u)^(1 + 2^j)) + y Tr(a u), j = 1 to (m - 2) / 2 (MacWilliams and Sloane, chapter 15, section 5).
    """

    pattern = "kerdock"
    listed = ("kerdock",)
    sizes: ClassVar[tuple[int, ...]] = tuple(4**k for k in range(1, 7))
    sizes_in_words: ClassVar[str] = "a power of four from 4 to 4096"
    description = "mutually unbiased bases, both signs"
    decoding = "n / 2 fast Hadamard transforms"

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        super().__init__(name, n, classes)
        self.count, self.cosets = n * (n + 2), n // 2
        self.max_cosine = 1 / math.sqrt(n)
        self.neighbours = (n * n // 2, n * n // 2)

    def all_cosines(self) -> list[tuple[float, Fraction]]:
        """Alike from every vector: its own basis at 0 and -1, the others at ±1/sqrt(n)."""
        near, own = Fraction(self.n * self.n, 2), Fraction(2 * self.n - 2)
        return [(self.max_cosine, near), (0.0, own), (-self.max_cosine, near), (-1.0, Fraction(1))]

    @cached_property
    def forms(self) -> np.ndarray:
        """Values 0 and 1 uint8 [n / 2, n] of each coset's quadratic form, a = 0 first, at x = u + y n / 2."""
        size = self.m - 1
        exponent = np.add.outer(_logarithms(size), _logarithms(size))
        linear, form = np.zeros((2, self.n // 2, self.n // 2), dtype=np.uint8)
        linear[1:, 1:] = _trace(exponent, size, size)
        for j in range(1, size // 2 + 1):
            form[1:, 1:] ^= _trace(exponent * (1 + 2**j), size, size).astype(np.uint8)
        return np.concatenate([form, form ^ linear], 1)

    def _integer_weights(self, index: int) -> dict[int, int]:
        if index >= self.n**2:
            sign, axis = divmod(index - self.n**2, self.n)
            return {axis: 1 - 2 * sign}
        form = self.forms[index // (2 * self.n)].tolist()
        return {x: weight * (1 - 2 * form[x]) for x, weight in super()._integer_weights(index % (2 * self.n)).items()}

    def words(self, index: Tensor) -> Tensor:
        forms = self._once("forms", index, lambda: torch.from_numpy(self.forms))
        return (super().words(index % (2 * self.n)) - forms[index // (2 * self.n)]).abs_()

    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        words = self.n**2
        columns, weights = super().coordinates(index.clamp(max=words - 1))
        sign, axis = (index - words) // self.n, (index - words) % self.n
        alone = (columns == axis.unsqueeze(-1)).float() * (1 - 2 * sign).unsqueeze(-1)
        return columns, torch.where((index < words).unsqueeze(-1), weights, alone)

    def log_partition(self, x: Tensor) -> Tensor:
        axes = tensors.real(x)
        return torch.logaddexp(super().log_partition(x), torch.cat([axes, -axes], 1).logsumexp(1))

    def nearest(self, z: Tensor) -> Tensor:
        words, z = super().nearest(z), tensors.clean(z)
        largest, axis = z.abs().max(1)
        index = self.n**2 + axis + self.n * (z.gather(1, axis.unsqueeze(1))[:, 0] < 0)
        return torch.where((z * self.vectors(words)).sum(1) >= largest, words, index)


@SYSTEMS.register("bch")
class Bch(Code):
    """Extended primitive narrow-sense BCH codes: the smallest of length n with at least `classes` words, or without
    `classes` the largest with no cosine above .25. All contain the word of ones, so negatives too.

    With x in GF(2^m), the words are s + sum_L Tr(b_L x^-L) over the largest leaders L of cyclotomic cosets; the
    designed distance is one more than the least L.
    """

    pattern = "bch"
    listed = ("bch",)
    usual_max_cosine: ClassVar[float] = 0.5
    slow_histogram = slow_neighbours = True
    sizes: ClassVar[tuple[int, ...]] = tuple(2**m for m in range(4, 11))
    sizes_in_words: ClassVar[str] = "a power of two from 16 to 1024"
    description = "signs of an extended BCH code"
    decoding = "a fast Hadamard transform per coset of RM(1,m)"

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        super().__init__(name, n, classes)
        codes = bch_codes(self.m)
        if classes is None:
            fitting = [(k, d) for k, d in codes if 1 - 2 * d / n <= 0.25][-1:]
        else:
            fitting = [(k, d) for k, d in codes if 2**k >= classes]
        if not fitting:
            raise UsageError(f"{name}: no code of length {n} has {classes} words, the largest has 2^{codes[-1][0]}")
        self.k, self.distance = fitting[0]
        self.count, self.cosets = 2**self.k, 2 ** (self.k - 1 - self.m)
        self.max_cosine = 1 - 2 * self.distance / n
        self.max_cosine_note = "" if self.k <= MOST_ENUMERATED else "of the designed distance, at most"

    @cached_property
    def generator(self) -> np.ndarray:
        order, rows = self.n - 1, [super().generator]
        for leader, size in _leaders(self.m)[1:]:
            if sum(map(len, rows)) == self.k:
                break
            multipliers = order // (2**size - 1) * np.arange(size)
            exponent = np.subtract.outer(multipliers, leader * _logarithms(self.m)) % order
            rows.append(np.pad(_trace(exponent, self.m, size), ((0, 0), (1, 0))))
        return np.concatenate(rows)

    @property
    def neighbours(self) -> tuple[int, int] | None:  # type: ignore[override]
        """The words of least weight, where all are counted."""
        return None if self.sampled else (int(self.all_cosines()[0][1]),) * 2

    @property
    def sampled(self) -> bool:  # type: ignore[override]
        """Whether `all_cosines` counts some cosets, drawn at random, for all."""
        return self.cosets * self.n > _COUNTED

    def all_cosines(self) -> list[tuple[float, Fraction]]:
        """From the weights of the words: a code looks alike from each of them."""
        weights = _weights(self.n, self.k, _COUNTED)
        return [(1 - 2 * weight / self.n, often) for weight, often in weights.items() if weight]


@lru_cache(maxsize=64)
def _weights(n: int, k: int, counted: int) -> dict[int, Fraction]:
    """How many of the 2^k words of a BCH code have each weight; beyond `counted` numbers an estimate, by RM(1,m) itself
    and other cosets drawn at random."""
    code = Bch("bch", n, 2**k)
    cosets, others = code.cosets, np.zeros(n + 1, dtype=np.int64)
    drawn, random = min(cosets - 1, counted // n), np.random.default_rng(0)
    rows = code.generator[code.m + 1 :].astype(np.float32)
    for some in np.array_split(np.arange(1, drawn + 1), -(-drawn * n // 2**20) or 1):
        bits = some[:, None] >> np.arange(len(rows)) & 1
        if drawn < cosets - 1:
            bits = random.integers(0, 2, bits.shape)
        words = bits.astype(np.float32) @ rows % 2
        sums = _transform((1 - 2 * words.T).astype(np.int16), np.stack)
        others += np.bincount((n - sums.ravel()) // 2, minlength=n + 1)
    # The negatives.
    others += others[::-1].copy()
    own = {0: 1, n // 2: 2 * n - 2, n: 1}
    total = {w: Fraction(int(often) * (cosets - 1), drawn) for w, often in enumerate(others) if often}
    return {w: total.get(w, Fraction(0)) + own.get(w, 0) for w in sorted({*total, *own})}


@lru_cache(maxsize=16)
def _leaders(m: int) -> list[tuple[int, int]]:
    """(leader, size) of the cyclotomic cosets modulo 2^m - 1 but 0, falling."""
    order = 2**m - 1
    cosets = {min(orbit): len(orbit) for j in range(1, order) if (orbit := {j * 2**i % order for i in range(m)})}
    return sorted(cosets.items(), reverse=True)


def bch_codes(m: int) -> list[tuple[int, int]]:
    """(dimension, designed distance) of the extended BCH codes of length 2^m, RM(1,m) first, rising dimension."""
    dimension, codes = 1, []
    for leader, size in _leaders(m):
        dimension += size
        codes.append((dimension, leader + 1))
    return codes
