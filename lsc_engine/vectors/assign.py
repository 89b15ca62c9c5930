"""Vectors for classes by what a trained network already does: order "nearest:RUN".

Each class gets one vector, no vector twice, so that the sum of the cosines between class means and their vectors is as
large as can be (an assignment problem). Only the nearest vectors of each class are candidates; with as many candidates
as classes no better vector is left out, since of that many at least one is always free.
"""

from __future__ import annotations

import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor

from lsc_engine.common.errors import UsageError
from lsc_engine.vectors.base import VectorSystem

# Candidates per class: exact up to this many classes, beyond it the best among each class's nearest.
MOST_CANDIDATES = 512
# Vectors compared one by one where a system gives no k nearest.
MOST_SCANNED = 2**20


def assign_nearest(system: VectorSystem, means: Tensor) -> Tensor:
    """Vector index [classes] int64 for class means [classes, n], distinct, of largest total cosine.

    Exact up to 512 classes; with more, optimal among each class's nearest 512 vectors, doubled until all classes fit.
    Raises UsageError for more classes than vectors.
    """
    classes = len(means)
    if classes > system.count:
        raise UsageError(f"{system.name} at n = {system.n} has {system.count} vectors, {classes} are needed")
    k = min(classes, MOST_CANDIDATES)
    while True:
        candidates = _nearest(system, means, k)
        found = _match(system, means, candidates)
        if found is not None:
            return found
        k = min(2 * k, classes)


def _nearest(system: VectorSystem, means: Tensor, k: int) -> Tensor:
    found = system.nearest_k(means, k)
    if found is not None:
        return found
    if system.count > MOST_SCANNED:
        raise UsageError(
            f'target.order: "nearest" compares all vectors of {system.name}, and {system.count} are too many'
        )
    rows = system.vectors(torch.arange(system.count, device=means.device))
    with torch.autocast(means.device.type, enabled=False):
        return torch.cat([(part.float() @ rows.T).topk(k, dim=1).indices for part in means.split(64)])


def _match(system: VectorSystem, means: Tensor, candidates: Tensor) -> Tensor | None:
    """The best matching of classes to candidates [classes, k], or None where not all classes get one."""
    classes, k = candidates.shape
    vectors, column = torch.unique(candidates, return_inverse=True)
    if len(vectors) < classes:
        return None
    # Cosines as costs 1 to 3: a stored zero would mean "no edge".
    cost = torch.stack([2 - system.cosine(means, candidates[:, place]) for place in range(k)], 1)
    edges = (cost.double().cpu().flatten().numpy(), column.cpu().flatten().numpy(), range(0, classes * k + 1, k))
    try:
        row, chosen = min_weight_full_bipartite_matching(csr_array(edges, shape=(classes, len(vectors))))
    except ValueError:
        return None
    result = torch.empty(classes, dtype=torch.long)
    result[torch.from_numpy(row).long()] = vectors.cpu()[torch.from_numpy(chosen).long()]
    return result.to(means.device)
