"""The contract of a vector system: vectors from their index, the nearest index from an embedding.

Nothing here grows with the number of vectors. All results are float32 whatever the autocast state: no operation used
is one that autocast lowers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lsc_engine.vectors.counting import SystemFacts

LARGEST_INDEX = 2**63 - 1


class VectorSystem(ABC):
    """One system at one n. Attributes: name, n, count (exact), max_cosine, support, structured."""

    structured: bool = True
    """Whether `nearest` follows from the structure, in O(n); else it scans all vectors."""

    def __init__(self, facts: SystemFacts) -> None:
        self.name, self.n, self.count, self.support = facts.system, facts.n, facts.count, facts.support
        self.max_cosine = facts.max_cosine
        self._constants: dict[tuple[str, torch.device], Tensor] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, n={self.n}, count={self.count})"

    # -- vectors from indices ----------------------------------------------------------------------------------------

    @abstractmethod
    def coordinates(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors in sparse form: columns [B, k] int64 in the lifted space and weights [B, k] float32.

        `index` is int64 [B] in [0, count). Slots without a use have weight 0; a column may stand twice, then its
        weights add up. Not checked against the range: see `vectors`.
        """

    def vectors(self, index: Tensor) -> Tensor:
        """Unit rows [B, n] float32 of int64 indices [B], by exact integer unranking.

        Raises IndexError for indices outside [0, count) (on a GPU a device assertion, so that no step waits for it)
        and ValueError where count is above 2^63 - 1.
        """
        self._check(index)
        columns, weights = self.coordinates(index)
        rows = torch.zeros((*index.shape, self.n), dtype=torch.float32, device=index.device)
        return rows.scatter_add_(-1, columns, weights)

    def native_norm(self, index: Tensor) -> Tensor:
        """Length [B] float32 of the vectors as the family defines them, before they were made unit rows."""
        return torch.ones(index.shape, dtype=torch.float32, device=index.device)

    # -- embeddings --------------------------------------------------------------------------------------------------

    def lift(self, z: Tensor) -> Tensor:
        """Where the sparse form lives: a linear isometry [B, n] -> [B, m], float32. Here the identity."""
        return z.float()

    def cosine(self, z: Tensor, index: Tensor) -> Tensor:
        """Cosine [B] float32 of embeddings [B, n] with the vectors of their indices [B]; 0 for the zero embedding.

        Needs no dense rows: k numbers are gathered per row and the gradient flows back to those and to the norm.
        """
        return self.cosine_from(z, *self.coordinates(index))

    def cosine_from(self, z: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """`cosine` for vectors [B] in the sparse form that `coordinates` gives, [B, k] each."""
        z = z.float()
        lifted = self.lift(z)
        if lifted is z:
            cosine: Tensor = SparseCosine.apply(z, columns, weights)
            return cosine
        inner = (lifted.gather(1, columns) * weights).sum(1)
        return inner / _length(z)

    def distance_from(self, z: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """The mean of 1 - `cosine_from`, a scalar: the same bits, and so its gradient, by fewer operations."""
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

    # -- orders ------------------------------------------------------------------------------------------------------

    has_lexicographic: bool = True

    def from_lexicographic(self, position: Tensor) -> Tensor:
        """Index of the vector at this position of the lexicographic order."""
        return position

    def to_lexicographic(self, index: Tensor) -> Tensor:
        """Position of the vector in the lexicographic order."""
        return index

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _check(self, index: Tensor) -> None:
        self._countable()
        if torch.compiler.is_compiling() or index.numel() == 0:
            return
        if index.is_cuda:
            torch._assert_async(((index >= 0) & (index < self.count)).all())
            return
        low, high = torch.aminmax(index)
        if low < 0 or high >= self.count:
            bad = int(low if low < 0 else high)
            raise IndexError(f"index {bad} is outside [0, {self.count}) of {self.name} at n = {self.n}")

    def _countable(self) -> None:
        if self.count > LARGEST_INDEX:
            raise ValueError(
                f"{self.name} at n = {self.n} has {self.count} vectors, more than an index below 2^63 can name"
            )

    def _constant(self, name: str, values: list[int] | list[float] | list[list[int]], like: Tensor) -> Tensor:
        """A small constant tensor, made once per device: int64 for integers, float32 for floats."""
        key = (name, like.device)
        if key not in self._constants:
            self._constants[key] = torch.tensor(values, device=like.device)
        return self._constants[key]


def _length(z: Tensor) -> Tensor:
    """|z| of each row [B]. A zero embedding divides by 1: cosine 0, with a finite gradient towards the vector."""
    length = torch.linalg.vector_norm(z, dim=1)
    return length + (length == 0)


class SparseCosine(torch.autograd.Function):
    """<z, v> / |z| for z [B, n] and unit rows v given by columns and weights [B, k], with its gradient

        (v - cos z / |z|) / |z|,

    a third quicker for small batches than through the single operations.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """Cosines [B]."""
        length = _length(z)
        cosine = (z.gather(1, columns) * weights).sum(1) / length
        ctx.save_for_backward(z, columns, weights, length, cosine)
        return cosine

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient [B, n] for z alone."""
        return _gradient(grad, *ctx.saved_tensors), None, None


class SparseDistance(torch.autograd.Function):
    """The mean of 1 - `SparseCosine`, with the operations in the same order."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """A scalar."""
        length = _length(z)
        cosine = (z.gather(1, columns) * weights).sum(1) / length
        ctx.save_for_backward(z, columns, weights, length, cosine)
        return (1 - cosine).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient [B, n] for z alone."""
        z, columns, weights, length, cosine = ctx.saved_tensors
        return _gradient(-(grad / len(z)), z, columns, weights, length, cosine), None, None


def _gradient(grad: Tensor, z: Tensor, columns: Tensor, weights: Tensor, length: Tensor, cosine: Tensor) -> Tensor:
    """Of the cosines, each times its `grad` ([B] or a scalar)."""
    scaled = grad / length
    along = z * (-scaled * cosine / length).unsqueeze(1)
    return along.scatter_add_(1, columns, weights * scaled.unsqueeze(1))


def clean(z: Tensor) -> Tensor:
    """Embeddings as float32 without NaN and infinities, so that a diverged row still decodes to some valid index."""
    return torch.nan_to_num(z.detach().float(), nan=0.0)


def extremes(z: Tensor, largest: int, smallest: int) -> tuple[Tensor, Tensor]:
    """Positions of the largest values of each row, falling, and of the smallest, rising: [B, largest], [B, smallest].

    Disjoint whatever the ties, as far as n allows: the first p and the first q of them never meet where p + q <= n.
    Asked for more than n, it gives n.
    """
    n = z.shape[1]
    if largest + smallest > n:
        falling = z.argsort(dim=1, descending=True)
        return falling[:, : min(largest, n)], falling.flip(1)[:, : min(smallest, n)]
    top = _largest(z, largest)
    if smallest == 0:
        return top, top[:, :0]
    rest = z.scatter(1, top, math.inf) if largest else z
    if smallest == 1:
        return top, rest.argmin(1, keepdim=True)
    return top, rest.topk(smallest, dim=1, largest=False).indices


def _largest(z: Tensor, number: int) -> Tensor:
    if number == 0:
        return torch.empty((z.shape[0], 0), dtype=torch.long, device=z.device)
    return z.argmax(1, keepdim=True) if number == 1 else z.topk(number, dim=1).indices
