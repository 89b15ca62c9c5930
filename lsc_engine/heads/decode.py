"""From an embedding to the label of its nearest centre, exact over the classes in use.

Equal norms make the nearest centre the one of largest cosine (arXiv:2604.00779). By its structure a system finds the
nearest of all its vectors in O(n). If only some of them are classes, the search for a row that lands on an unused
vector continues in order of falling cosine, or among the used classes (scan.py), whichever is predicted to be cheaper.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lsc_engine.heads.scan import Scan, at_once
from lsc_engine.vectors import VectorSystem
from lsc_engine.vectors.order import Order

# Distances in memory at once: 4 MB on a CPU, 256 MB on a GPU, where every kernel costs its start.
SCORES_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}
# Neighbours tried in order of falling cosine, `MORE` times as many each time, before the scan.
MOST_NEIGHBOURS, FIRST_NEIGHBOURS, MORE = 1024, 16, 4
# If nearly all vectors are in use, these few suffice except for one row in a hundred.
FEW_NEIGHBOURS, NEARLY_ALL = 4, 0.01


class Costs(NamedTuple):
    """Nanoseconds: `nearest` for a row, for each of its n numbers, for an addition of a transform; a neighbour in
    falling cosine, and the start of a list of them; a class in the preparation of a scan; one coordinate of a class for
    one row, in a scan, in a scan of few classes, in a matrix product. And the rows that a scan compares at once."""

    nearest: float
    nearest_each: float
    addition: float
    neighbour: float
    neighbours: float
    class_: float
    coordinate: float
    first_coordinate: float
    dense_coordinate: float
    rows_at_once: int


# Measured on one core of a CPU. Of a GPU: the scan on an H200, 1.2 ms for 512 rows and 1.28 million classes; the rest
# are estimates at 512 rows and 5 us a launch, of which `nearest` takes 30, and neighbours 36 to 86 (with their labels;
# more of A-mid and A-interp).
COSTS = {
    "cpu": Costs(1500.0, 15.0, 0.25, 1500.0, 0.0, 200.0, 0.2, 0.8, 0.05, 0),
    "cuda": Costs(300.0, 0.05, 2e-4, 1.0, 4e5, 0.3, 6e-4, 6e-4, 1e-4, 64),
}


def predict_nearest(z: Tensor, scan: Scan, *, unused: str = "nearest") -> Tensor:
    """Labels [B] int64 of embeddings [B, n] by the largest cosine, ties to any; -1 for unused with `unused="new"`."""
    system, order, classes = scan.system, scan.order, scan.classes
    if not system.structured or (unused != "new" and _few_classes(scan, z.device)):
        return scan(z)
    labels = order.label(system.nearest(z))
    missing = labels >= classes
    if unused == "new":
        return labels.masked_fill(missing, -1)
    rows = missing.nonzero().squeeze(1)
    unmet = max(0.0, 1 - classes / system.count) ** (FEW_NEIGHBOURS - 1)
    tried, wanted = 1, FEW_NEIGHBOURS if unmet < NEARLY_ALL else FIRST_NEIGHBOURS
    while rows.numel() and _worth_trying(rows.numel(), tried, wanted, scan, z.device):
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
        labels[rows] = scan(z[rows])
    return labels


def _few_classes(scan: Scan, device: torch.device) -> bool:
    """Whether comparing with every class is cheaper than `nearest`, which may find a vector without a class."""
    if scan.few(device):
        return True
    system, costs = scan.system, at_once(COSTS, device)
    each = costs.dense_coordinate if system.additions else costs.first_coordinate
    nearest = costs.nearest + costs.nearest_each * system.n + costs.addition * system.additions
    return scan.classes * system.support * each < nearest


def _worth_trying(rows: int, tried: int, wanted: int, scan: Scan, device: torch.device) -> bool:
    """Whether `wanted` neighbours of each row cost less than the part of the scan that they are expected to save.

    If classes lie at random among the vectors, a row without a class among `tried` neighbours finds one among the next
    with probability 1 - (1 - share)^(wanted - tried).
    """
    if wanted > MOST_NEIGHBOURS:
        return False
    share = scan.classes / scan.system.count
    met = 1.0 if share >= 1 else 1 - (1 - share) ** (wanted - tried)
    # The cost of a scan that does not depend on the rows is saved only if all of them find a class.
    fixed = _scan_cost(scan, 0, device)
    costs = at_once(COSTS, device)
    return (
        costs.neighbours + rows * wanted * costs.neighbour
        < fixed * met**rows + (_scan_cost(scan, rows, device) - fixed) * met
    )


def _scan_cost(scan: Scan, rows: int, device: torch.device) -> float:
    """Nanoseconds for `rows` embeddings."""
    costs = at_once(COSTS, device)
    each = costs.coordinate * scan.system.support * max(rows, costs.rows_at_once)
    return scan.classes * ((0.0 if scan.ready(device) else costs.class_) + each)


def predict_shortest(z: Tensor, system: VectorSystem, order: Order, classes: int) -> Tensor:
    """Labels [B] int64 by the smallest Euclidean distance (8) to centres of the family's own lengths: a scan."""
    best = torch.full((z.shape[0],), torch.inf, device=z.device)
    labels = torch.zeros(z.shape[0], dtype=torch.long, device=z.device)
    most = at_once(SCORES_AT_ONCE, z.device)
    chunk = max(1, min(most // max(1, z.shape[0]), most // system.n))
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
