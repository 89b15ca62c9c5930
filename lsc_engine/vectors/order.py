"""Which class has which vector: a bijection between class labels and vector indices, without a table.

"sequential" is the family's index order, "lexicographic" its own sorted order, "shuffled" a keyed bijection on
[0, count) (the paper's A_n^r, arXiv:2510.04090, Table 1). A stored list serves orders that follow from a network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.bijection import Bijection

KINDS = ("shuffled", "sequential", "lexicographic")

Mapping = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Order:
    """Class label <-> vector index. Make one with `Order.make` or `Order.stored`."""

    kind: str
    count: int
    seed: int
    version: int
    index: Mapping
    """Vector index of each class label (int64, any shape)."""
    label: Mapping
    """Class label of each vector index; one at or above the number of classes belongs to no class."""
    indices: Tensor | None = None
    """The indices of a stored order."""

    @staticmethod
    def make(kind: str, system: VectorSystem, seed: int) -> Order:
        """An order over the vectors of `system`, of random systems over those in use. Raises UsageError for unknown
        kinds and where the family has no lexicographic order, ValueError where the count is above 2^63."""
        if kind == "shuffled":
            bijection = Bijection(system.choosable, seed, "order")
            return Order(kind, system.choosable, seed, Bijection.VERSION, bijection, bijection.inverse)
        if kind == "sequential":
            return Order(kind, system.count, seed, 1, lambda index: index, lambda index: index)
        if kind == "lexicographic":
            if not system.has_lexicographic:
                allowed = "Allowed: shuffled, sequential"
                raise UsageError(f'target.order: {system.name} has no "lexicographic" order. {allowed}')
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

        def label_of(vector: Tensor) -> Tensor:
            _, keys, values = on(vector.device)
            at = torch.searchsorted(keys, vector.contiguous()).clamp(max=len(keys) - 1)
            return torch.where(keys[at] == vector, values[at], system.count)

        return Order(kind, system.count, 0, 1, lambda label: on(label.device)[0][label], label_of, indices.cpu())

    def record(self) -> dict[str, Any]:
        """What identifies the order: kind, version, seed, count, and a sha256 over these and the first 1024 indices
        (all of a stored list)."""
        first = self.indices if self.indices is not None else self.index(torch.arange(min(self.count, 1024)))
        identity = {"kind": self.kind, "version": self.version, "seed": self.seed, "count": self.count}
        text = "|".join([*map(str, identity.values()), ",".join(map(str, first.tolist()))])
        return {**identity, "sha256": hashlib.sha256(text.encode()).hexdigest()}
