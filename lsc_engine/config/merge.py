"""Laying one table of settings over another, and the settings given on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import suggested_name
from lsc_engine.config.sections import SECTIONS
from lsc_engine.config.typed import typed_value, typed_values
from lsc_engine.errors import UsageError, did_you_mean

Table = dict[str, Any]

# A variant that changes the key on the left does not take over the keys on the right from the preset:
# a variant with cross-entropy in a preset of vectors has no system.
_TARGET = ("target.system", "target.order", "target.loss", "target.radius", "target.cluster_radius")
DEPENDENT: dict[str, tuple[str, ...]] = {
    "target.method": (
        *_TARGET,
        "target.weights",
        "target.bottleneck",
        "target.within",
        "target.within_weight",
        "target.teacher",
        "target.teacher_weight",
        "target.temperature",
    ),
    "target.within": ("target.within_weight",),
    "target.loss": ("target.radius", "target.cluster_radius", "target.weights"),
    "optimizer.name": ("optimizer.momentum",),
    "optimizer.schedule": ("optimizer.milestones", "optimizer.gamma"),
    "data.dataset": ("data.path",),
    "model.name": ("model.args", "model.etf_layers"),
    "model.etf_layers": ("model.etf_threshold", "model.etf_patience"),
}
TOP_SECTIONS = ("compare", "provenance", "tune", "paper", "vectors", "datasets", "bench", "analysis")
TOP_KEYS = ("title", "source", "claim", "kind", "seed", "seeds")
_REPORT_KEYS = ("vectors.systems", "vectors.n", "vectors.classes", "vectors.pictures", "datasets.names", "bench.names")


def lookup(table: Table, key: str) -> Any:
    """The value at a dotted key, or None."""
    value: Any = table
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def overlay(base: Table, top: Table) -> Table:
    """`base` with `top` laid over it, table by table; settings that hang on a changed one are dropped first."""
    base = _without(base, _dropped(base, top))
    return _deep(base, top)


def _dropped(base: Table, top: Table) -> list[str]:
    drop = []
    for key, dependents in DEPENDENT.items():
        new, old = lookup(top, key), lookup(base, key)
        if new is not None and old is not None and new != old:
            drop += list(dependents)
            if key == "target.method" and new in ("ce", "ssl") and lookup(base, "model.dim") == "min":
                drop.append("model.dim")
    return drop


def _without(table: Table, keys: Iterable[str]) -> Table:
    result = {name: dict(value) if isinstance(value, dict) else value for name, value in table.items()}
    for key in keys:
        section, name = key.split(".", 1)
        if isinstance(result.get(section), dict):
            result[section].pop(name, None)
    return result


def _deep(base: Table, top: Table) -> Table:
    result = dict(base)
    for key, value in top.items():
        old = result.get(key)
        result[key] = _deep(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def nested(key: str, value: Any) -> Table:
    """{"a": {"b": value}} of "a.b"."""
    table: Table = {}
    inner = table
    *sections, last = key.split(".")
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    return table


def parse_assignment(text: str, option: str) -> tuple[str, str]:
    """Key and right side of `a.b=value`. UsageError where the key is no setting."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UsageError(f"{option} {quoted(text)}: write it like optimizer.lr=1e-3")
    fault = _key_fault(key)
    if fault:
        raise UsageError(f"{option} {key}: {fault}")
    return key, value.strip()


def _key_fault(key: str) -> str | None:
    from lsc_engine.config.catalogue import setting_keys

    known = [*setting_keys(), *TOP_KEYS, *_REPORT_KEYS]
    head = key.split(".")[0]
    free = key.startswith(("model.args.", "provenance.", "compare.levels.", "tune.", "bench.arguments.")) or key in (
        "compare.baseline",
        "compare.levels",
    )
    if key in known or (free and all(key.split("."))):
        return None
    if head in SECTIONS and "." in key:
        # The nearest key of the same section reads better than that of another one.
        near = did_you_mean(key, [k for k in known if k.startswith(f"{head}.")])
        return f"no setting has this name; {near}"
    return f"no setting has this name; {did_you_mean(key, known)}".rstrip("; ")


def parse_sets(texts: Iterable[str]) -> Table:
    """All --set options as one table. UsageError with every option that cannot be read."""
    table: Table = {}
    faults: list[str] = []
    for text in texts:
        try:
            key, words = parse_assignment(text, "--set")
            value = typed_value(key, words)
        except UsageError as error:
            faults += [fault if fault.startswith("--set") else f"--set {fault}" for fault in error.faults]
            continue
        free = next((p for p in ("provenance.", "compare.levels.", "tune.") if key.startswith(p)), None)
        # The keys of these tables have dots of their own.
        path = nested(free[:-1], {key[len(free) :]: value}) if free else nested(key, value)
        table = _deep(table, path)
    if faults:
        raise UsageError(*faults)
    return table


def parse_sweeps(texts: Iterable[str]) -> list[tuple[str, tuple[Any, ...]]]:
    """Every --sweep option as key and values. UsageError with every option that cannot be read."""
    sweeps: list[tuple[str, tuple[Any, ...]]] = []
    faults: list[str] = []
    for text in texts:
        try:
            key, value = parse_assignment(text, "--sweep")
        except UsageError as error:
            faults += error.faults
            continue
        head = key.split(".")[0]
        if head not in SECTIONS and key != "start_from":
            faults.append(f"--sweep {key}: only the settings of a variant can be swept")
            continue
        if key in (known for known, _ in sweeps):
            faults.append(f"--sweep {key}: given twice; put all values into one")
        values = typed_values(key, value)
        if not values or "" in values:
            faults.append(f"--sweep {key}: needs values, like {key}=1,2")
        sweeps.append((key, values))
    if faults:
        raise UsageError(*faults)
    return sweeps


def combinations(axes: Iterable[tuple[str, tuple[Any, ...]]]) -> list[tuple[str, Table, Table]]:
    """Every combination of the values: (suffix of the name such as "+lr=0.001", table, dotted key -> value).

    UsageError where two of them would have one name.
    """
    axes = list(axes)
    short = [key.rsplit(".", 1)[-1] for key, _ in axes]
    made: list[tuple[str, Table, Table]] = []
    for values in product(*(values for _, values in axes)):
        suffix = ""
        table: Table = {}
        flat: Table = {}
        for (key, _), name, value in zip(axes, short, values, strict=True):
            label = name if short.count(name) == 1 else key
            suffix += f"+{label}={suggested_name(_text(value)) or 'none'}"
            table = _deep(table, nested(key, value))
            flat[key] = value
        made.append((suffix, table, flat))
    names = [suffix for suffix, _, _ in made]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(*(f"two tries would be called {quoted(name)}: a value is given twice" for name in twice))
    return made


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "-".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
