"""Vectors for classes by the embeddings of a network, trained (`nearest:RUN`) or not (`nearest:init`).

Each class gets one vector, no vector twice, so that the sum of the cosines between class means and their vectors is as
large as can be (an assignment problem). Three ways, by the number of classes N and of vectors C:

- N <= 8192: the optimal matching among each class's nearest 512 vectors, twice as many until all classes fit.
- C > 4 N: rounds of proposals. Each class proposes to the nearest free vector it knows of, each vector takes the
  proposal of largest cosine, and classes left over look further afield.
- else nearly every vector is in use, and what counts is who has which: from a random start, classes that have vectors
  with one or two equal coordinates exchange them, and take free ones among these: blocks of at most 256 vectors, each
  by an optimal assignment. Vectors without zeros are put together by their places along random lines.

Time O(N) for a fixed n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lsc_engine.common.deferred import Tensor, np, torch
from lsc_engine.common.errors import UsageError
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
# Vectors compared one by one where a system gives no k nearest.
MOST_SCANNED = 2**20
# Random lines in a round.
LINES = 3


def way(system: VectorSystem, classes: int) -> str:
    """ "matching", "proposals" or "exchange", as above."""
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


def assign_nearest(system: VectorSystem, means: Tensor, alive: Callable[[], None] = lambda: None) -> Tensor:
    """Vector index [classes] int64 for class means [classes, n] on the CPU, distinct, of large total cosine.

    Deterministic; `alive` is called now and then. Raises UsageError for more classes than vectors.
    """
    classes, count = len(means), system.choosable
    if classes > count:
        raise UsageError(f"{system.name} at n = {system.n} has {count} vectors, {classes} are needed")
    means = torch.nn.functional.normalize(means.float(), dim=1)
    chosen = way(system, classes)
    if chosen == "matching" and count > MOST_SCANNED and system.nearest_k(means[:1], 1) is None:
        chosen = "proposals"
    return {"matching": _matched, "proposals": _proposed, "exchange": _exchanged}[chosen](system, means, alive)


def _matched(system: VectorSystem, means: Tensor, alive: Callable[[], None]) -> Tensor:
    k, rows = min(len(means), MOST_CANDIDATES), None
    while True:
        alive()
        candidates = system.nearest_k(means, k)
        if candidates is None:
            rows = system.vectors(torch.arange(system.choosable)) if rows is None else rows
            with torch.autocast("cpu", enabled=False):
                candidates = torch.cat([(part @ rows.T).topk(k, dim=1).indices for part in means.split(64)])
        if (found := _match(system, means, candidates)) is not None:
            return found
        k = min(2 * k, len(means))


def _match(system: VectorSystem, means: Tensor, candidates: Tensor) -> Tensor | None:
    """The best matching of classes to candidates [classes, k], or None where not all classes get one."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    classes, k = candidates.shape
    vectors, column = torch.unique(candidates, return_inverse=True)
    if len(vectors) < classes:
        return None
    # Cosines as costs 1 to 3: a stored zero would mean "no edge".
    cost = torch.stack([2 - system.cosine(means, candidates[:, place]) for place in range(k)], 1)
    edges = (cost.double().flatten().numpy(), column.flatten().numpy(), range(0, classes * k + 1, k))
    try:
        row, chosen = min_weight_full_bipartite_matching(csr_array(edges, shape=(classes, len(vectors))))
    except ValueError:
        return None
    result = torch.empty(classes, dtype=torch.long)
    result[torch.from_numpy(row).long()] = vectors[torch.from_numpy(chosen).long()]
    return result


def _proposed(system: VectorSystem, means: Tensor, alive: Callable[[], None]) -> Tensor:
    """The nearest free vectors by rounds of proposals. Candidates are the k nearest, and where a system does not give
    them, or they are taken, the nearest to the mean with noise, more of it each time."""
    found = torch.full((len(means),), -1)
    taken = torch.empty(0, dtype=torch.long)
    left, noise = torch.arange(len(means)), 0.0
    draws = torch.Generator().manual_seed(0)
    while len(left):
        for some in left.split(PROPOSING):
            alive()
            z = means[some]
            candidates = system.nearest_k(z, PROPOSALS) if noise == 0 else None
            if candidates is None:
                spread = noise * torch.randn((PROPOSALS, *z.shape), generator=draws) / system.n**0.5
                candidates = torch.stack([system.nearest(z + shift) for shift in spread], 1)
            cosines = torch.stack([system.cosine(z, one) for one in candidates.T], 1)
            cosines[torch.isin(candidates, taken)] = -2
            found[some] = _accepted(candidates, cosines)
            taken = torch.cat([taken, found[some][found[some] >= 0]])
        left, noise = left[found[left] < 0], 1.5 * noise or 0.25
    return found


def _accepted(candidates: Tensor, cosines: Tensor) -> Tensor:
    """The vector [B] each row gets of its candidates [B, k] with cosines [B, k], -1 for none."""
    vectors, place = torch.unique(candidates, return_inverse=True)
    found, free = torch.full((len(candidates),), -1), torch.ones(len(vectors), dtype=torch.bool)
    rows = torch.arange(len(candidates))
    while True:
        cosines[rows] = torch.where(free[place[rows]], cosines[rows], -2.0)
        best, at = cosines[rows].max(1)
        rows, at, best = rows[best > -2], at[best > -2], best[best > -2]
        if not len(rows):
            return found
        wanted = place[rows, at]
        # Of the proposals to one vector the last one written wins: that of largest cosine.
        rising = best.argsort(stable=True)
        winner = torch.empty(len(vectors), dtype=torch.long)
        winner[wanted[rising]] = rows[rising]
        won = winner[wanted] == rows
        found[rows[won]] = vectors[wanted[won]]
        free[wanted[won]] = False
        rows = rows[~won]


def _exchanged(system: VectorSystem, means: Tensor, alive: Callable[[], None]) -> Tensor:
    """All vectors of the system over the classes, by optimal assignments in blocks."""
    from scipy.optimize import linear_sum_assignment

    draws, z = np.random.default_rng(0), system.lift(means).numpy()
    every = torch.arange(system.choosable)
    sparse = system.support < system.n
    columns, weights = (part.numpy() for part in system.coordinates(every)) if sparse else (z[:0], z[:0])

    def cosines(classes: np.ndarray, block: np.ndarray) -> np.ndarray:
        mine = z[classes]
        if not sparse:
            return mine @ system.lift(system.vectors(torch.from_numpy(block))).numpy().T
        found = np.zeros((len(classes), len(block)), np.float32)
        for column, weight in zip(columns[block].T, weights[block].T, strict=True):
            found += mine[:, column] * weight
        return found

    def along_a_line() -> np.ndarray:
        line = draws.standard_normal((z.shape[1],), np.float32)
        if sparse:
            return (line[columns] * weights).sum(1)
        parts = (system.lift(system.vectors(part)).numpy() for part in every.split(2**16))
        return np.concatenate([part @ line for part in parts])

    def neighbourhoods() -> Iterator[Iterator[np.ndarray]]:
        """One round: vectors with a column in common, with two, and next to each other along random lines."""
        slots = columns.shape[1] if sparse else 0
        for slot in range(slots):
            yield _blocks(columns[:, slot], draws)
        for slot in range(slots if slots > 2 else 0):
            yield _blocks(columns[:, slot] * z.shape[1] + columns[:, (slot + 1) % slots], draws)
        for _ in range(LINES):
            order = np.argsort(along_a_line())
            yield iter(np.array_split(order, -(-len(order) // BLOCK)))

    # The class that has each vector, -1 for a free one.
    owner = draws.permutation(len(every))
    owner[owner >= len(z)] = -1
    for _ in range(ROUNDS):
        for blocks in neighbourhoods():
            for block in blocks:
                used = block[owner[block] >= 0]
                classes = owner[used]
                if len(used) and len(block) > 1:
                    row, column = linear_sum_assignment(cosines(classes, block), maximize=True)
                    owner[used] = -1
                    owner[block[column]] = classes[row]
                alive()
    vectors = np.flatnonzero(owner >= 0)
    found = np.empty(len(z), dtype=np.int64)
    found[owner[vectors]] = vectors
    return torch.from_numpy(found)


def _blocks(key: np.ndarray, draws: np.random.Generator) -> Iterator[np.ndarray]:
    """The vectors in blocks of at most BLOCK of equal keys, at random where there are more."""
    order = np.lexsort((draws.random(len(key), np.float32), key))
    for part in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        yield from np.array_split(part, -(-len(part) // BLOCK))
