"""From an embedding to the label of its nearest centre, exact over the classes in use, without a table.

Equal norms make the nearest centre the one of largest cosine (arXiv:2604.00779). The structure of a system answers
over all its vectors in O(n). Where only some of them are classes, a row that lands on an unused vector goes on in
falling cosine until a used one is met, or scans the used classes in small chunks, whichever is predicted cheaper.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lsc_engine.vectors import Order, VectorSystem

# Scores held at once in a scan, 64 MB of float32.
SCORES_AT_ONCE = 2**24
# Neighbours tried in falling cosine before the scan takes over.
MOST_NEIGHBOURS = 64
# Work of one candidate of `nearest_k` against one gathered coordinate of the scan.
CANDIDATE_COST = 64


def predict_nearest(z: Tensor, system: VectorSystem, order: Order, classes: int, *, unused: str = "nearest") -> Tensor:
    """Labels [B] int64 of embeddings [B, n] by the largest cosine, ties to any; -1 for unused with `unused="new"`."""
    if not system.structured:
        return scan(z, system, order, classes)
    labels = order.label(system.nearest(z))
    missing = labels >= classes
    if unused == "new":
        return labels.masked_fill(missing, -1)
    rows = missing.nonzero().squeeze(1)
    # Neighbours needed so that all but one row in a hundred meet a class, if classes lie at random.
    wanted = math.ceil(math.log(0.01) / math.log1p(-min(classes / system.count, 1 - 1e-12)))
    if rows.numel() and wanted <= MOST_NEIGHBOURS and wanted * CANDIDATE_COST < classes * system.support:
        neighbours = system.nearest_k(z[rows], wanted)
        if neighbours is not None:
            found = order.label(neighbours)
            used = found < classes
            first = used.to(torch.int8).argmax(1, keepdim=True)
            labels[rows] = found.gather(1, first).squeeze(1)
            rows = rows[~used.any(1)]
    if rows.numel():
        labels[rows] = scan(z[rows], system, order, classes)
    return labels


def scan(z: Tensor, system: VectorSystem, order: Order, classes: int) -> Tensor:
    """Labels [B] int64 by comparing each row with every class in use, in chunks of bounded memory."""
    lifted = system.lift(z)
    best = torch.full((z.shape[0],), -torch.inf, device=z.device)
    labels = torch.zeros(z.shape[0], dtype=torch.long, device=z.device)
    chunk = max(1, SCORES_AT_ONCE // max(1, z.shape[0]))
    for start in range(0, classes, chunk):
        index = order.index(torch.arange(start, min(start + chunk, classes), device=z.device))
        columns, weights = system.coordinates(index)
        scores = lifted[:, columns[:, 0]] * weights[:, 0]
        for k in range(1, columns.shape[1]):
            scores.addcmul_(lifted[:, columns[:, k]], weights[:, k])
        value, at = scores.max(1)
        better = value > best
        best = torch.where(better, value, best)
        labels = torch.where(better, at + start, labels)
    return labels


def predict_shortest(z: Tensor, system: VectorSystem, order: Order, classes: int) -> Tensor:
    """Labels [B] int64 by the smallest Euclidean distance (8) to centres of the family's own lengths: a scan."""
    best = torch.full((z.shape[0],), torch.inf, device=z.device)
    labels = torch.zeros(z.shape[0], dtype=torch.long, device=z.device)
    chunk = max(1, min(SCORES_AT_ONCE // max(1, z.shape[0]), SCORES_AT_ONCE // system.n))
    for start in range(0, classes, chunk):
        index = order.index(torch.arange(start, min(start + chunk, classes), device=z.device))
        length = system.native_norm(index)
        # |z - c|^2 without |z|^2, which is the same for every centre.
        distances = length.square() - 2 * z @ (system.vectors(index) * length.unsqueeze(1)).T
        value, at = distances.min(1)
        better = value < best
        best = torch.where(better, value, best)
        labels = torch.where(better, at + start, labels)
    return labels
