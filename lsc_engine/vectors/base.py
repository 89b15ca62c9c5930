"""The contract of a vector system: facts, vectors from their index, the nearest index from an embedding.

A system is one class in a file of `lsc_engine/vectors/families`, which imports without torch: its facts are exact
integers, and the methods that take or return tensors import torch when they are called.

Nothing here grows with the number of vectors. All tensors are float32 whatever the autocast state: no operation used
is one that autocast lowers.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from typing import ClassVar

from lsc_engine.common.deferred import Tensor, torch
from lsc_engine.common.errors import UsageError
from lsc_engine.vectors import tensors

LARGEST_INDEX = 2**63 - 1
# Vectors whose pairs are an estimate for all.
SAMPLED = 2048
# Vectors over which a sum is taken one by one: for 256 embeddings 64 MB of float32.
MOST_SUMMED = 2**16


class VectorSystem(ABC):
    """One system in n dimensions; `classes` decides the vectors of some systems. UsageError for an impossible n.

    A new system sets `pattern`, `count` and the facts that are known of it, and has `coordinates` and `nearest`.
    """

    pattern: ClassVar[str] = ""  # a regular expression of the names of the family
    listed: ClassVar[tuple[str, ...]] = ()  # the names that `nmin` and the Vectors screen list by default
    suggested: ClassVar[tuple[str, ...]] = ()  # further names that an error message offers
    position: ClassVar[int] = 100  # where the names of the family stand in lists
    seeded: ClassVar[bool] = False  # whether a seed decides the vectors: the family takes an argument `seed`
    needs_classes: ClassVar[bool] = False  # whether the number of classes decides the vectors
    is_table: ClassVar[bool] = False  # whether the vectors are stored rows, which grow with the number of classes
    structured: ClassVar[bool] = True  # whether `nearest` follows from the structure, in O(n); else it scans all
    has_lexicographic: ClassVar[bool] = True  # whether an order compares the vectors coordinate by coordinate
    sizes: ClassVar[tuple[int, ...] | None] = None  # every n of the family, rising; None: all from `least_n` on
    usual_max_cosine: ClassVar[float] = 1.0  # the largest cosine that `n_min` accepts unless another is given
    slow_histogram: ClassVar[bool] = False  # whether `cosine_histogram` may take more than a moment
    slow_neighbours: ClassVar[bool] = False  # whether `neighbours` is counted by it
    description: str = "as its plugin makes them"  # what the vectors are, in a few words
    decoding: str = "as its plugin finds it"  # how the nearest vector is found, in a few words
    source: str = "-"  # the arXiv number of the paper the system comes from, "-" for our own

    count: int  # number of vectors, exact at any size
    max_cosine: float = math.nan  # between two different vectors, -1 for a single one; NaN where it is not known
    max_cosine_note: str = ""  # how `max_cosine` is known, where it is not exact
    sampled: bool = False  # whether `all_cosines` is an estimate
    seed: int = 0  # the seed of the vectors of a seeded family
    neighbours: tuple[int, int] | None = None  # fewest and most vectors at the smallest angle from one; None: unknown
    rank: int  # dimension of the span; n unless a family says otherwise
    support: int  # weighted coordinates of one vector in the space of `lift`; n unless a family says otherwise

    def __init__(self, name: str, n: int, classes: int | None = None) -> None:
        self.name, self.n, self.classes = name, n, classes
        self.rank = self.support = n
        self._constants: dict[tuple[str, torch.device], Tensor] = {}
        if classes is not None and classes < 1:
            raise UsageError(f"classes: {classes} is too few, 1 or more")
        if self.needs_classes and classes is None:
            raise UsageError(f"{name}: the number of classes is needed, it decides the vectors")
        if n < (least := self.least_n(name, classes or 1)):
            raise UsageError(f"{name}: n = {n} is too small, n >= {least}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, n={self.n}, count={self.count})"

    @classmethod
    def matches(cls, name: str) -> bool:
        """Whether `name` has the form of a name of this family."""
        return bool(cls.pattern) and re.fullmatch(cls.pattern, name) is not None

    @classmethod
    def name_fault(cls, name: str) -> str | None:
        """Why a name that `matches` names no system of the family; None where it does."""
        return None

    @classmethod
    def vectors_fault(cls, name: str) -> str | None:
        """Why the vectors of a system that is counted are not computed; None where they are."""
        return None

    @classmethod
    def least_n(cls, name: str, classes: int) -> int:
        """The smallest n with at least one vector; with all of them, where `classes` decides how many there are."""
        return 1

    @classmethod
    def loss_lengths(cls, classes: int) -> dict[str, float]:
        """`radius` and `cluster_radius` of the distance losses where they are not 1 and 0."""
        return {}

    @property
    def decode(self) -> str:
        """ "structure": the nearest vector follows from the embedding in O(n); "scan": all vectors are compared."""
        return "structure" if self.structured else "scan"

    @property
    def additions(self) -> int:
        """Additions that `nearest` makes for an embedding beyond a look at each of its numbers."""
        return 0

    @property
    def min_angle_deg(self) -> float:
        """Smallest angle between two vectors, in degrees."""
        largest = self.max_cosine
        return math.nan if math.isnan(largest) else math.degrees(math.acos(max(-1.0, min(1.0, largest))))

    @property
    def guaranteed_below(self) -> float:
        """1 - cos(half the smallest angle): an image whose cosine loss is less has the right label."""
        return 1.0 - math.sqrt((1.0 + self.max_cosine) / 2.0)

    @property
    def undropped_max_cosine(self) -> float | None:
        """Largest cosine before a coordinate was left out; None for families that leave none out."""
        return None

    def used_neighbours(self, classes: int) -> tuple[float, float] | None:
        """Expected classes at the smallest angle from one class, for the vectors with fewest and with most, where
        `classes` of the vectors are chosen at random, as the shuffled order does."""
        if self.neighbours is None:
            return None
        share = Fraction(classes - 1, self.count - 1) if self.count > 1 else Fraction(0)
        return float(self.neighbours[0] * share), float(self.neighbours[1] * share)

    def cosine_histogram(self, classes: int | None = None) -> list[tuple[float, float]]:
        """Cosines from one class to the others, falling, each with how many others are there.

        Over the whole system, or, with `classes`, the expected number among that many classes chosen at random. The
        mean over the vectors where they differ in what they see. UsageError where the cosines are not known.
        """
        share = Fraction(1) if classes is None or self.count < 2 else Fraction(classes - 1, self.count - 1)
        rows = [(cosine, number * share) for cosine, number in self.all_cosines()]
        return [(cosine, int(n) if n.denominator == 1 else float(n)) for cosine, n in rows]

    def crowding(self, scale: float) -> tuple[float, bool]:
        """The mean of exp(scale * cosine) over the pairs of different vectors, and whether it is an estimate, of 2048
        vectors drawn at random. NaN for a single vector."""
        try:
            cosines = self.all_cosines()
        except UsageError:
            index = torch.arange(min(self.count, SAMPLED))
            if self.count > SAMPLED:
                index = torch.randint(self.count, (SAMPLED,), generator=torch.Generator().manual_seed(0)).unique()
            rows = self.vectors(index).double()
            exponentials = float((scale * rows @ rows.T).fill_diagonal_(-math.inf).exp().sum())
            pairs = len(index) * (len(index) - 1)
            return exponentials / pairs if pairs else math.nan, self.count > SAMPLED
        total = sum(number for _, number in cosines)
        if not total:
            return math.nan, False
        return math.fsum(math.exp(scale * c) * float(number / total) for c, number in cosines), self.sampled

    def all_cosines(self) -> list[tuple[float, Fraction]]:
        """`cosine_histogram` over the whole system, exact."""
        raise UsageError(f"{self.name}: its cosines follow from its rows alone")

    def entries(self, index: int) -> list[tuple[int, int]]:
        """(column from 0, integer weight) of vector `index`, columns rising, in the space of `lift`.

        The unit row is this over its length. Exact at any count. IndexError outside the system; UsageError for systems
        that no integers describe.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"{self.name} at n = {self.n} has {self.count} vectors, there is no number {index}")
        return sorted((column, weight) for column, weight in self._integer_weights(index).items() if weight)

    @property
    def has_entries(self) -> bool:
        """Whether `entries` describes the vectors."""
        return type(self)._integer_weights is not VectorSystem._integer_weights

    def _integer_weights(self, index: int) -> dict[int, int]:
        raise UsageError(f"{self.name}: its vectors are not made of a few whole numbers")

    @property
    def choosable(self) -> int:
        """How many vectors, from the first on, classes may have, in any order: all, unless they are endless."""
        return self.count

    @abstractmethod
    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors in sparse form: columns [B, k] int64 in the space of `lift` and weights [B, k] float32.

        `index` is int64 [B] in [0, count). Unused slots have weight 0; a column may stand twice, then its weights add
        up. Not checked against the range: see `vectors`.
        """

    def vectors(self, index: Tensor) -> Tensor:
        """Unit rows [B, n] float32 of int64 indices [B], by exact integer unranking.

        Raises IndexError for indices outside [0, count) (on a GPU a device assertion, so that no step waits for it)
        and ValueError where count is above 2^63.
        """
        self._check(index)
        columns, weights = self.coordinates(index)
        return weights.new_zeros((*index.shape, self.n)).scatter_add_(-1, columns, weights)

    def native_norm(self, index: Tensor) -> Tensor:
        """Length [B] float32 of the vectors as the family defines them, before they were made unit rows."""
        return torch.ones(index.shape, dtype=torch.float32, device=index.device)

    def lift(self, z: Tensor) -> Tensor:
        """A linear isometry [B, n] -> [B, m], float32 (float64 of such), to the space of the sparse form. Here the
        identity."""
        return tensors.real(z)

    def cosine(self, z: Tensor, index: Tensor) -> Tensor:
        """Cosine [B] float32 of embeddings [B, n] with the vectors of their indices [B]; 0 for the zero embedding.

        Needs no dense rows: k numbers are gathered per row and the gradient flows back to those and to the norm.
        """
        return self.cosine_from(z, *self.coordinates(index))

    def cosine_from(self, z: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """`cosine` for vectors [B] in the sparse form that `coordinates` returns, [B, k] each."""
        from lsc_engine.vectors.sparse_cosine import SparseCosine

        z = z.float()
        lifted = self.lift(z)
        if lifted is z:
            cosine: Tensor = SparseCosine.apply(z, columns, weights)
            return cosine
        return (lifted.gather(1, columns) * weights).sum(1) / tensors.safe_length(z)

    def distance_from(self, z: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """The mean of 1 - `cosine_from`, a scalar: the same bits, and so its gradient, by fewer operations."""
        from lsc_engine.vectors.sparse_cosine import SparseDistance

        z = z.float()
        if self.lift(z) is z:
            distance: Tensor = SparseDistance.apply(z, columns, weights)
            return distance
        return (1 - self.cosine_from(z, columns, weights)).mean()

    def shared_weights(self, like: Tensor) -> Tensor | None:
        """The weights [k] of the sparse form, on the device of `like`, where all vectors have the same."""
        return None

    @abstractmethod
    def nearest(self, z: Tensor) -> Tensor:
        """Index [B] int64 of the largest cosine over the whole system, for embeddings [B, n]; ties to any of them."""

    def nearest_k(self, z: Tensor, k: int) -> Tensor | None:
        """The min(k, count) nearest indices [B, k] in falling cosine, exact; None where no structure gives them."""
        return None

    @property
    def partition_fault(self) -> str | None:
        """Why `log_partition` is not known; None where it is."""
        if self.count <= MOST_SUMMED:
            return None
        return f"the sum over the {self.count:,} vectors of {self.name} at n = {self.n} has no formula here"

    def log_partition(self, x: Tensor) -> Tensor:
        """log sum_v exp<x, v> over all vectors v of the system, [B] for x [B, n]; float32, float64 of such. UsageError
        with `partition_fault`.

        For x = s u it is the normaliser of the softmax with scale s at the direction u, and its gradient is the mean
        vector under that softmax. Here one by one; families that know a formula in n override it.
        """
        if (fault := self.partition_fault) is not None:
            raise UsageError(fault)
        x = tensors.real(x)
        rows = self._once("all vectors", x, lambda: self.vectors(torch.arange(self.count, device=x.device)))
        return torch.logsumexp(x @ rows.to(x.dtype).T, 1)

    def from_lexicographic(self, position: Tensor) -> Tensor:
        """Index of the vector at this position of the lexicographic order."""
        return position

    def to_lexicographic(self, index: Tensor) -> Tensor:
        """Position of the vector in the lexicographic order."""
        return index

    def _check(self, index: Tensor) -> None:
        self._require_int64()
        if torch.compiler.is_compiling() or index.numel() == 0:
            return
        if index.is_cuda:
            torch._assert_async(((index >= 0) & (index <= self.count - 1)).all())
            return
        low, high = (int(end) for end in torch.aminmax(index))
        if low < 0 or high >= self.count:
            bad = low if low < 0 else high
            raise IndexError(f"index {bad} is outside [0, {self.count}) of {self.name} at n = {self.n}")

    def _require_int64(self) -> None:
        if self.count - 1 > LARGEST_INDEX:
            more = "more than an index below 2^63 can name"
            raise ValueError(f"{self.name} at n = {self.n} has {self.count} vectors, {more}")

    def _once(self, name: str, like: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """A constant tensor on the device of `like`, made once for each device."""
        if (key := (name, like.device)) not in self._constants:
            self._constants[key] = make().to(like.device)
        return self._constants[key]

    def _constant(self, name: str, values: list[int] | list[float] | list[list[int]], like: Tensor) -> Tensor:
        """The same of numbers: int64 for integers, float32 for floats."""
        return self._once(name, like, lambda: torch.tensor(values))
