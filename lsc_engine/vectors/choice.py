"""How classes get their vectors by embeddings (assign.py), and what that takes. Torch-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsc_engine.vectors.base import VectorSystem

# The order that the embeddings of a run choose before its first step.
INIT_ORDER = "nearest:init"
# Classes up to which the optimal matching is made; vectors per class from which on nearly every class finds a free one
# nearby; vectors of one exchange, and rounds of exchanges.
MOST_MATCHED, CROWDED, BLOCK, ROUNDS = 8192, 4, 256, 10
# Candidates per class of the optimal matching, and of one round of proposals.
MOST_CANDIDATES, PROPOSALS = 512, 16
# Rows of one round of proposals.
PROPOSING = 2**16


def way(system: VectorSystem, classes: int) -> str:
    """ "matching", "proposals" or "exchange", as in assign.py."""
    if classes <= MOST_MATCHED:
        return "matching"
    return "proposals" if system.choosable > CROWDED * classes else "exchange"


def cost(system: VectorSystem, classes: int) -> tuple[int, int]:
    """Seconds on one core and bytes, roughly, of the choice: class means, their unit rows, and what the way needs."""
    n, support = system.n, system.support
    means, found = 8 * n * classes, way(system, classes)
    if found == "matching":
        edges = classes * min(classes, MOST_CANDIDATES)
        return round(3e-6 * edges), means + 60 * edges
    if found == "proposals":
        return round(1e-4 * classes), means + 40 * classes + PROPOSING * PROPOSALS * (40 + 4 * n)
    slots = support if support < n else 0
    passes = ROUNDS * (3 + (2 if slots > 2 else 1) * slots)
    return round(5e-6 * passes * system.choosable), means + (60 + 12 * slots) * system.choosable
