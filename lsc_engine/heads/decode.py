"""From an embedding to the label of its nearest centre, exact over the classes in use, without a table.

Equal norms make the nearest centre the one of largest cosine (arXiv:2604.00779). The structure of a system answers
over all its vectors in O(n). Where only some of them are classes, a row that lands on an unused vector goes on in
falling cosine until a used one is met, or scans the used classes in small chunks, whichever is predicted cheaper.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lsc_engine.vectors import Order, VectorSystem

# Classes whose coordinates are made at once in a scan, and scores held at once: 4 MB, what a cache holds.
CLASSES_AT_ONCE = 2**16
SCORES_AT_ONCE = 2**20
# Neighbours tried in falling cosine, each time these many times as many, before the scan takes over.
MOST_NEIGHBOURS, FIRST_NEIGHBOURS, MORE = 1024, 16, 4
# Nanoseconds on one core: a neighbour in falling cosine, a class in a scan, and one of its coordinates for one row.
NEIGHBOUR, CLASS, COORDINATE = 1500.0, 330.0, 1.0
# A coordinate in a dense product costs this share of a gathered one, where enough rows share the making of the rows.
DENSE_SHARE, DENSE_ROWS = 1 / 32, 64


def predict_nearest(z: Tensor, system: VectorSystem, order: Order, classes: int, *, unused: str = "nearest") -> Tensor:
    """Labels [B] int64 of embeddings [B, n] by the largest cosine, ties to any; -1 for unused with `unused="new"`."""
    if not system.structured:
        return scan(z, system, order, classes)
    labels = order.label(system.nearest(z))
    missing = labels >= classes
    if unused == "new":
        return labels.masked_fill(missing, -1)
    rows = missing.nonzero().squeeze(1)
    tried, wanted = 1, FIRST_NEIGHBOURS
    while rows.numel() and _worth_trying(rows.numel(), tried, wanted, system, classes):
        neighbours = system.nearest_k(z[rows], wanted)
        if neighbours is None:
            break
        found = order.label(neighbours)
        used = found < classes
        first = used.to(torch.int8).argmax(1, keepdim=True)
        labels[rows] = found.gather(1, first).squeeze(1)
        rows = rows[~used.any(1)]
        tried, wanted = wanted, MORE * wanted
    if rows.numel():
        labels[rows] = scan(z[rows], system, order, classes)
    return labels


def _worth_trying(rows: int, tried: int, wanted: int, system: VectorSystem, classes: int) -> bool:
    """Do `wanted` neighbours of each row cost less than the part of the scan they are expected to spare?

    If classes lie at random among the vectors, a row that `tried` neighbours have not served finds one among the next
    with the chance 1 - (1 - share)^(wanted - tried).
    """
    if wanted > MOST_NEIGHBOURS:
        return False
    share = classes / system.count
    met = 1.0 if share >= 1 else 1 - (1 - share) ** (wanted - tried)
    # The scan's cost per class is spared only where all rows are served.
    scanned = classes * (CLASS * met**rows + COORDINATE * system.support * rows * met)
    return rows * wanted * NEIGHBOUR < scanned


def scan(z: Tensor, system: VectorSystem, order: Order, classes: int) -> Tensor:
    """Labels [B] int64 by comparing each row with every class in use, in chunks of bounded memory."""
    lifted = system.lift(z).T.contiguous()
    best = torch.full((z.shape[0],), -torch.inf, device=z.device)
    labels = torch.zeros(z.shape[0], dtype=torch.long, device=z.device)
    if not len(z):
        return labels
    dense = system.support >= system.n or (len(z) >= DENSE_ROWS and system.support >= DENSE_SHARE * system.n)
    part = max(1, SCORES_AT_ONCE // len(z))
    for start in range(0, classes, CLASSES_AT_ONCE):
        index = order.index(torch.arange(start, min(start + CLASSES_AT_ONCE, classes), device=z.device))
        for first, some in enumerate(index.split(part)):
            scores = _scores(z, lifted, system, some, dense)
            _keep_best(scores, start + first * part, best, labels)
    return labels


def _scores(z: Tensor, lifted: Tensor, system: VectorSystem, index: Tensor, dense: bool) -> Tensor:
    """Inner products [classes, B] of vectors by their index [classes] with embeddings [B, n], lifted [m, B]."""
    if dense:
        with torch.autocast(z.device.type, enabled=False):
            return system.vectors(index) @ z.float().T
    columns, weights = system.coordinates(index)
    # One bag per class: rows of B numbers are added up, contiguous in memory, k of them per class.
    return F.embedding_bag(columns, lifted, per_sample_weights=weights.contiguous(), mode="sum")


def _keep_best(scores: Tensor, start: int, best: Tensor, labels: Tensor) -> None:
    """Take over what `scores` [classes, B], of the labels from `start` on, has better than `best` [B]."""
    if scores.is_cuda:
        value, at = scores.max(0)
        better = value > best
        labels.copy_(torch.where(better, at + start, labels))
        best.copy_(torch.where(better, value, best))
        return
    # The place of a maximum costs far more than its value, and after some chunks few rows find a better one.
    value = scores.amax(0)
    rows = (value > best).nonzero().squeeze(1)
    if rows.numel():
        best[rows] = value[rows]
        labels[rows] = scores.index_select(1, rows).argmax(0) + start


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
