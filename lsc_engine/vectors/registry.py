"""Vector systems by name: those registered in `lsc_engine/vectors/families`, and those of plugins. No torch."""

from __future__ import annotations

import bisect
import copy
from contextlib import suppress

from lsc_engine.common.deferred import Tensor
from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import grouped
from lsc_engine.registry import SYSTEMS
from lsc_engine.vectors.base import VectorSystem


def families() -> tuple[type[VectorSystem], ...]:
    """The classes of the systems that come with the engine, in the order of their names in lists."""
    return tuple(sorted(dict.fromkeys(SYSTEMS.built_in.values()), key=lambda family: family.position))


def listed() -> tuple[str, ...]:
    """The systems that `lsc-engine nmin` lists by default."""
    return tuple(name for family in families() for name in family.listed)


def suggested() -> tuple[str, ...]:
    """The names and forms of names offered where a system is to be chosen."""
    return (*listed(), *(name for family in families() for name in family.suggested))


def plugin_names() -> tuple[str, ...]:
    """Systems that installed packages and plugin files offer, by name only: nothing is imported."""
    return tuple(SYSTEMS.plugin_names())


def family_of(name: str) -> type[VectorSystem] | None:
    """The class of the system `name`, None where a plugin offers it. UsageError with the nearest valid name."""
    family = next((one for one in families() if one.matches(name)), None)
    if family is not None:
        if (fault := family.name_fault(name)) is not None:
            raise UsageError(f'target.system: "{name}"{fault}')
        return family
    if name not in plugin_names():
        raise UsageError(f'target.system: "{name}" is not a vector system; {did_you_mean(name, suggested())}')
    return None


def canonical(name: str) -> str:
    """The name as it is written everywhere. Raises UsageError with the nearest valid name."""
    family_of(name.strip())
    return name.strip()


def is_known(name: str) -> bool:
    """Whether `name` is a system."""
    try:
        family_of(name)
    except UsageError:
        return False
    return True


def fault(name: str) -> str | None:
    """Why `name` cannot be trained on: no system has that name, or its vectors are not computed. None where it can."""
    try:
        family = family_of(name)
    except UsageError as error:
        return str(error).removeprefix("target.system: ")
    return None if family is None else family.vectors_fault(name)


def facts(name: str, n: int, classes: int | None = None, seed: int = 0) -> VectorSystem:
    """The system `name` in n dimensions for its facts alone: of a table its rows are not read, a plugin's has the name
    that it is registered under. UsageError for unknown names and impossible n."""
    if (family := family_of(name)) is not None:
        return family(name, n, classes, **({"seed": seed} if family.seeded else {}))
    named = copy.copy(_from_plugin(name, n, classes))
    named.name = name
    return named


def system(
    name: str, n: int, *, classes: int | None = None, table: Tensor | None = None, seed: int = 0
) -> VectorSystem:
    """The system `name` in n dimensions.

    `classes` is needed by planar and simplex, and to find the nearest of random vectors; `seed` chooses random vectors;
    `table` [classes, n] by `embeddings:`, and by `file:` to save reading it again. Raises UsageError for unknown names,
    impossible n and tables that cannot serve.
    """
    family = family_of(name)
    if family is None:
        return _from_plugin(name, n, classes)
    if (reason := family.vectors_fault(name)) is not None:
        raise UsageError(f"target.system: {reason}")
    if family.is_table:
        from lsc_engine.vectors.families.tables import Table

        return Table.read(name, n, classes, table)
    return facts(name, n, classes, seed)


def _from_plugin(name: str, n: int, classes: int | None) -> VectorSystem:
    made = SYSTEMS.load_plugin(name, "target.system")(n, classes)
    if not isinstance(made, VectorSystem):
        raise UsageError(f'target.system: plugin "{name}" made a {type(made).__name__}, not a VectorSystem')
    return made


def n_min(name: str, classes: int, *, max_cosine: float | None = None) -> int:
    """Smallest n at which system `name` holds `classes` vectors (arXiv:2512.07509, n_min).

    Raises UsageError for classes < 1, for tables, and where no n keeps the largest cosine at or under `max_cosine`
    (every system contains its smaller ones, so a larger n never lowers that cosine).
    """
    family = family_of(name) or VectorSystem
    if classes < 1:
        raise UsageError(f"classes: {classes} is too few, 1 or more")
    if family.is_table:
        raise UsageError(f"{name}: n of a table is the table's own")
    if family.seeded and max_cosine is not None:
        see = f"`lsc-engine vectors {name} --n N --classes {classes}` shows it"
        raise UsageError(f"{name}: the largest cosine falls with n and depends on the seed; take n, {see}")
    if family.sizes is not None:
        return _smallest_of(family.sizes, name, classes, family.usual_max_cosine if max_cosine is None else max_cosine)
    n = least = family.least_n(name, classes)
    if not family.needs_classes:
        n = _smallest(name, least, classes, plugin=family is VectorSystem)
    if max_cosine is not None:
        largest = facts(name, n, classes).max_cosine
        if largest > max_cosine + 1e-12:
            raise UsageError(
                f"{name}: no n holds {classes} classes at cosine <= {max_cosine:g}, "
                f"the closest has {largest:.4f} at n = {n}"
            )
    return n


def at_n_min(name: str, classes: int, max_cosine: float = 1.0) -> VectorSystem:
    """The facts of system `name` at its smallest n for `classes`. Where a larger n lowers the largest cosine, at the
    smallest n that keeps it at or under `max_cosine`, if there is one. UsageError where no n holds the classes."""
    family = family_of(name) or VectorSystem
    if family.sizes is not None and max_cosine < family.usual_max_cosine:
        with suppress(UsageError):
            return facts(name, n_min(name, classes, max_cosine=max_cosine), classes)
    return facts(name, n_min(name, classes), classes)


def _smallest_of(sizes: tuple[int, ...], name: str, classes: int, max_cosine: float) -> int:
    """The first of `sizes` at which the system holds `classes` vectors with no cosine above `max_cosine`."""
    for n in sizes:
        try:
            found = facts(name, n, classes)
        except UsageError:  # no code of this length has as many words
            continue
        if found.count >= classes and found.max_cosine <= max_cosine + 1e-12:
            return n
    limit = f" at cosine <= {max_cosine:g}" if max_cosine < 1 else ""
    raise UsageError(f"{name}: no n up to {sizes[-1]} holds {grouped(classes)} classes{limit}")


def _smallest(name: str, least: int, classes: int, *, plugin: bool) -> int:
    def holds(n: int) -> bool:
        try:
            return facts(name, n, classes).count >= classes
        except UsageError:
            if not plugin:
                raise
            return False  # n is too small for it

    high = least
    while not holds(high):
        high *= 2
        if plugin and high > 1 << 20:
            raise UsageError(f"{name}: no n up to {high // 2} holds {classes} classes")
    return bisect.bisect_left(range(high), True, max(least, high // 2), key=holds)


def too_few(name: str, n: int, classes: int) -> str | None:
    """A sentence where system `name` has fewer than `classes` vectors at this n, with what would do; else None."""
    family = family_of(name) or VectorSystem
    if family.needs_classes and n < (least := family.least_n(name, classes)):
        needed = f"{name} of {grouped(classes)} classes needs n >= {grouped(least)}, not {grouped(n)}"
        return f"{needed}. Take that, or V21 from n = {n_min('V21', classes)}"
    found = facts(name, n, classes)
    if found.count >= classes:
        return None
    clause = f"{name} at n = {n} has {grouped(found.count)} vectors, {grouped(classes)} are needed"
    if found.is_table:
        return clause
    other = "A-interp" if name.startswith("A") and name != "A-interp" else "V22"
    or_other = f", or {other} from n = {least}" if other != name and (least := n_min(other, classes)) <= n else ""
    return f"{clause}. Take n >= {n_min(name, classes)}{or_other}"
