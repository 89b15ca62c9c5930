"""Which class has which vector: a bijection between class labels and vector indices, without a table.

"sequential" is the family's index order, "lexicographic" its own sorted order, "shuffled" a keyed bijection on
[0, count) (the paper's A_n^r, arXiv:2510.04090, Table 1), computed where labels are made. A stored list serves orders
that follow from a trained network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsc_engine.errors import UsageError, did_you_mean
from lsc_engine.vectors import bijection_int
from lsc_engine.vectors.base import VectorSystem

KINDS = ("shuffled", "sequential", "lexicographic")

Mapping = Callable[[Tensor], Tensor]


class Bijection:
    """A keyed bijection on [0, count), 1 <= count <= 2^63 - 1: swap-or-not, see bijection_int.py for the definition.

    Elementwise on int64 tensors of any shape and device, exact, without host synchronisation. Values outside
    [0, count) are not checked.
    """

    VERSION = bijection_int.VERSION

    def __init__(self, count: int, seed: int, purpose: str) -> None:
        self.count, self.seed, self.purpose = count, seed, purpose
        self._keys = bijection_int.keys(count, seed, purpose)
        self._host_count = np.array(count)
        self._host_keys = [tuple(np.array(value) for value in key) for key in self._keys]

    def __call__(self, x: Tensor) -> Tensor:
        """Where x goes."""
        return self._run(x, 1)

    def inverse(self, y: Tensor) -> Tensor:
        """What goes to y."""
        return self._run(y, -1)

    def _run(self, x: Tensor, direction: int) -> Tensor:
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            return torch.from_numpy(_run_on_host(x.numpy(), self._host_count, self._host_keys[::direction]))
        return _run_on_device(x, self.count, self._keys[::direction])


def _run_on_device(x: Tensor, count: int, rounds: list[tuple[int, int, int]]) -> Tensor:
    for partner, addend, factor in rounds:
        other = partner - x
        other += (other >> 63) & count
        # int64 products wrap modulo 2^64, the shift keeps the sign, as in bijection_int.
        h = torch.maximum(x, other).add_(addend).mul_(factor)
        h = h.bitwise_xor_(h >> 32).mul_(factor)
        x = torch.where(h < 0, other, x)
    return x


def _run_on_host(x: np.ndarray, count: np.ndarray, rounds: list[tuple[np.ndarray, ...]]) -> np.ndarray:
    # numpy's cost per operation is a third of torch's, and a batch of labels is all overhead. Constants are arrays
    # without dimensions: making them of Python's integers would double that cost.
    x = np.array(x)
    other, h, s = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    unsigned, and_count = other.view(np.uint64), s.view(np.uint64)
    for partner, addend, factor in rounds:
        np.subtract(partner, x, out=other)
        np.add(other, count, out=s)
        # Modulo count: of both, the one that is below it as an unsigned number.
        np.minimum(unsigned, and_count, out=unsigned)
        np.maximum(x, other, out=h)
        np.add(h, addend, out=h)
        np.multiply(h, factor, out=h)
        np.right_shift(h, _HALF, out=s)
        np.bitwise_xor(h, s, out=h)
        np.multiply(h, factor, out=h)
        # All ones where x and its partner change places.
        np.right_shift(h, _SIGN, out=h)
        np.bitwise_xor(other, x, out=other)
        np.bitwise_and(other, h, out=other)
        np.bitwise_xor(x, other, out=x)
    return x


_HALF, _SIGN = np.array(32), np.array(63)


class Order:
    """Class label <-> vector index. Make one with `Order.make` or `Order.stored`."""

    def __init__(self, kind: str, count: int, seed: int, version: int, index: Mapping, label: Mapping) -> None:
        self.kind, self.count, self.seed, self.version = kind, count, seed, version
        self._index, self._label = index, label

    @staticmethod
    def make(kind: str, system: VectorSystem, seed: int) -> Order:
        """An order over all vectors of `system`. Raises UsageError for unknown kinds and where the family has no
        lexicographic order, ValueError where the count is above 2^63 - 1."""
        if kind == "shuffled":
            bijection = Bijection(system.count, seed, "order")
            return Order(kind, system.count, seed, Bijection.VERSION, bijection, bijection.inverse)
        if kind == "sequential":
            return Order(kind, system.count, seed, 1, _same, _same)
        if kind == "lexicographic":
            if not system.has_lexicographic:
                raise UsageError(
                    f'target.order: {system.name} has no "lexicographic" order. Allowed: shuffled, sequential'
                )
            return Order(kind, system.count, seed, 1, system.from_lexicographic, system.to_lexicographic)
        raise UsageError(f'target.order: "{kind}" is not an order; {did_you_mean(kind, [*KINDS, "nearest:RUN"])}')

    @staticmethod
    def stored(kind: str, system: VectorSystem, indices: Tensor) -> Order:
        """The order in which class c has vector `indices[c]` ([classes] int64, distinct); `label` of a vector without
        a class is `count`. It keeps two numbers per class."""
        indices = indices.long()
        rising, labels = indices.sort()
        if len(rising) > 1 and bool((rising[1:] == rising[:-1]).any()):
            raise UsageError(f"target.order: {kind} gives two classes the same vector")
        if len(rising) and (int(rising[0]) < 0 or int(rising[-1]) >= system.count):
            raise UsageError(f"target.order: {kind} names a vector that {system.name} does not have")
        tables: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

        def on(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
            if device not in tables:
                tables[device] = (indices.to(device), rising.to(device), labels.to(device))
            return tables[device]

        def index(label: Tensor) -> Tensor:
            return on(label.device)[0][label]

        def label(vector: Tensor) -> Tensor:
            _, keys, values = on(vector.device)
            at = torch.searchsorted(keys, vector.contiguous()).clamp(max=len(keys) - 1)
            return torch.where(keys[at] == vector, values[at], system.count)

        made = Order(kind, system.count, 0, 1, index, label)
        made._listed = indices.cpu()
        return made

    _listed: Tensor | None = None

    def index(self, label: Tensor) -> Tensor:
        """Vector index of each class label (int64, any shape)."""
        return self._index(label)

    def label(self, index: Tensor) -> Tensor:
        """Class label of each vector index; one at or above the number of classes belongs to no class."""
        return self._label(index)

    def record(self) -> dict[str, Any]:
        """What identifies the order: kind, version, seed, count, and a sha256 over these and the first 1024 indices
        (all of a stored list)."""
        first = self._listed if self._listed is not None else self.index(torch.arange(min(self.count, 1024)))
        text = f"{self.kind}|{self.version}|{self.seed}|{self.count}|{','.join(map(str, first.tolist()))}"
        return {
            "kind": self.kind,
            "version": self.version,
            "seed": self.seed,
            "count": self.count,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }


def _same(x: Tensor) -> Tensor:
    return x
