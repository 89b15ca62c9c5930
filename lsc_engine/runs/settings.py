"""Settings of runs as flat tables (`optimizer.lr` -> value), and in which of them runs differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lsc_engine.common.settings import MIRRORED, flatten, lookup

# Keys that only name or explain a run, or define how it is compared; the seed distinguishes runs of one variant.
_WORDS = frozenset({"title", "source", "claim", "provenance", "compare", "run", "label", "study", "variant", "seed"})
# Where the images of a run lie: it may change, the images may not.
PLACE = "data.path"
# Settings that may name another run (config/schema.py, which would load pydantic here).
_REFERENCES = frozenset({"target.system", "target.order", "target.teacher", "start_from"})


# Settings that a fork may change: all others decide what the weights and the optimizer's state mean. The images may
# lie elsewhere but must be the same, which is checked when the run goes on.
_FORK_SECTIONS = ("optimizer.", "eval.", "log.", "checkpoint.")
_FORK_TARGET = ("loss", "radius", "cluster_radius", "weights", "within", "scale", "batch_axis", "margin", "momentum")
_FORK_OTHERS = ("train.duration", "train.precision", "train.compile", "data.augment")
FORK_CHANGES = (
    *(PLACE, *_FORK_SECTIONS, *_FORK_OTHERS),
    *(f"target.{key}" for key in (*_FORK_TARGET, "share", "teacher_weight", "temperature")),
)
FORK_KEEPS = ("optimizer.name",)


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of all that decides what a run computes, its seed left out. A run of the same study and seed
    that a setting names is `@variant`, as in the preset, so that all seeds of a variant share it."""
    flat = flatten({key: value for key, value in config.items() if key not in _WORDS})
    flat.pop(MIRRORED, None)
    study = lookup(config, "run.study")
    if isinstance(study, str):
        kin = re.compile(rf"((?:[a-z]+:)?){re.escape(study)}/([^/]+)/seed-{re.escape(str(config.get('seed', 0)))}")
        for key in _REFERENCES & flat.keys():
            if isinstance(flat[key], str) and (found := kin.fullmatch(flat[key])):
                flat[key] = f"{found[1]}@{found[2]}"
    return flat


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key -> both values, if they differ; None for a key that is not set."""
    return {key: (old, new) for key, (old, new) in differing([one, other]).items()}


def differing(tables: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Key -> value in each table, for the keys whose values are not all equal."""
    keys = dict.fromkeys(key for table in tables for key in table)
    found = {key: [table.get(key) for table in tables] for key in keys}
    return {key: values for key, values in found.items() if not all(_equal(values[0], one) for one in values[1:])}


def _equal(one: Any, other: Any) -> bool:
    """Equality for which 1 equals 1.0 but not true, and None "none", which earlier versions wrote."""
    one, other = (None if value == "none" else value for value in (one, other))
    return bool(one == other) and (type(one) is bool) == (type(other) is bool)
