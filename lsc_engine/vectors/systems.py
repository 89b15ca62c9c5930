"""Vector systems by name, as torch objects: vectors from indices and nearest indices from embeddings.

One file per family holds the mathematics; base.py is what they have in common.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from lsc_engine.errors import UsageError
from lsc_engine.vectors import names
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.counting import facts
from lsc_engine.vectors.empirical import Empirical, load_table
from lsc_engine.vectors.permutations import Permutations, SignedPermutations
from lsc_engine.vectors.planar import Planar
from lsc_engine.vectors.roots import HelmertRoots, Midpoints, PositiveRoots, Roots
from lsc_engine.vectors.simplex import Simplex
from lsc_engine.vectors.weights import Weights

__all__ = ["VectorSystem", "system"]


def system(name: str, n: int, *, classes: int | None = None, table: Tensor | None = None) -> VectorSystem:
    """The system `name` in n dimensions.

    `classes` is needed by planar and simplex; `table` [classes, n] by `embeddings:`, and by `file:` where it is not to
    be read again. Raises UsageError for unknown names, impossible n and tables that cannot serve.
    """
    parsed = names.parse(name)
    if parsed.family == "table":
        return _from_table(name, n, classes, table)
    if parsed.family == "plugin":
        return _from_plugin(name, n, classes)
    known = facts(name, n, classes)
    match parsed.family:
        case "V":
            return Permutations(known, parsed.p, parsed.q)
        case "Vpm":
            return SignedPermutations(known, parsed.p, parsed.q)
        case "A":
            return Roots(known)
        case "Ap":
            return PositiveRoots(known)
        case "A-mid" | "A-interp":
            return Midpoints(known, with_roots=parsed.family == "A-interp")
        case "A-helmert":
            return HelmertRoots(known)
        case "simplex":
            return Simplex(known)
        case "planar":
            return Planar(known)
        case _:
            return Weights(known, parsed.k)


def _from_table(name: str, n: int, classes: int | None, table: Tensor | None) -> VectorSystem:
    if table is None:
        if not name.startswith("file:"):
            raise UsageError(f"target.system: {name}: the class means of that run are needed")
        table = load_table(Path(name.removeprefix("file:")))
    if table.shape[1] != n:
        raise UsageError(f"target.system: {name} has rows of {table.shape[1]} numbers, n is {n}")
    if classes is not None and len(table) < classes:
        raise UsageError(f"target.system: {name} has {len(table)} rows, {classes} are needed")
    return Empirical(name, table)


def _from_plugin(name: str, n: int, classes: int | None) -> VectorSystem:
    made = names.plugin(name)(n, classes)
    if not isinstance(made, VectorSystem):
        raise UsageError(f'target.system: plugin "{name}" made a {type(made).__name__}, not a VectorSystem')
    return made
