"""Settings of runs as flat tables (`optimizer.lr` -> value), and in which of them runs differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lsc_engine.common.settings import lookup

# Keys that only name or explain a run, or define how it is compared; the seed distinguishes runs of one variant.
_WORDS = frozenset({"title", "source", "claim", "provenance", "compare", "run", "label", "study", "variant", "seed"})
_DEEPEST = 8
# Where the images of a run lie: it may change, the images may not.
PLACE = "data.path"
# Settings that may name another run (config/references.py, which would load pydantic here).
_REFERENCES = frozenset({"target.system", "target.order", "target.teacher", "start_from"})


# Settings that a fork may change: all others decide what the weights and the optimizer's state mean. The images may
# lie elsewhere but must be the same, which is checked when the run goes on.
FORK_CHANGES = (
    PLACE,
    "optimizer.",
    "train.duration",
    "train.precision",
    "train.compile",
    "eval.",
    "log.",
    "checkpoint.",
    "data.augment",
    "target.loss",
    "target.radius",
    "target.cluster_radius",
    "target.weights",
    "target.within",
    "target.scale",
    "target.batch_axis",
    "target.margin",
    "target.momentum",
    "target.share",
    "target.teacher_weight",
    "target.temperature",
)
FORK_KEEPS = ("optimizer.name",)


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of all that decides what a run computes, its seed left out. A run of the same study and seed
    that a setting names is `@variant`, as in the preset, so that all seeds of a variant share it."""
    flat: dict[str, Any] = {}
    _flatten({key: value for key, value in config.items() if key not in _WORDS}, "", flat, 0)
    study = lookup(config, "run.study")
    if isinstance(study, str):
        kin = re.compile(rf"((?:[a-z]+:)?){re.escape(study)}/([^/]+)/seed-{re.escape(str(config.get('seed', 0)))}")
        for key in _REFERENCES & flat.keys():
            if isinstance(flat[key], str) and (found := kin.fullmatch(flat[key])):
                flat[key] = f"{found[1]}@{found[2]}"
    return flat


def _flatten(table: Mapping[str, Any], prefix: str, flat: dict[str, Any], depth: int) -> None:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and depth < _DEEPEST:
            _flatten(value, f"{name}.", flat, depth + 1)
        else:
            flat[name] = value


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key -> both values, if they differ; None for a key that is not set."""
    keys = [*one, *(key for key in other if key not in one)]
    return {key: (one.get(key), other.get(key)) for key in keys if not _equal(one.get(key), other.get(key))}


def differing(tables: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Key -> value in each table, for the keys whose values are not all equal."""
    keys = dict.fromkeys(key for table in tables for key in table)
    found: dict[str, list[Any]] = {}
    for key in keys:
        values = [table.get(key) for table in tables]
        if any(not _equal(values[0], value) for value in values[1:]):
            found[key] = values
    return found


def _equal(one: Any, other: Any) -> bool:
    """Equality for which 1 equals 1.0 but not true, and None "none", which earlier versions wrote."""
    one, other = (None if value == "none" else value for value in (one, other))
    return bool(one == other) and (type(one) is bool) == (type(other) is bool)
