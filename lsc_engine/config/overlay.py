"""Laying the tables of a variant, or of the command line, over those of a preset."""

from __future__ import annotations

from functools import cache

from lsc_engine.common.settings import Table, lookup, merge, without
from lsc_engine.config.schema import SECTIONS, TAGS, extra_of, settings_fields


def overlay(base: Table, top: Table) -> Table:
    """`base` with `top` laid over it, table by table. Settings that hang on one that changes are left behind: a variant
    with cross-entropy in a preset of vectors has no system."""
    for key, dependents in _resets().items():
        new, old = lookup(top, key), lookup(base, key)
        if new is None or old is None or new == old:
            continue
        for dependent in dependents:
            base = without(base, dependent)
        if key == "target.method" and new in ("ce", "ssl") and lookup(base, "model.dim") == "min":
            base = without(base, "model.dim")
    return merge(base, top)


@cache
def _resets() -> dict[str, list[str]]:
    """Dotted key -> the settings that a change of it leaves behind."""
    resets: dict[str, list[str]] = {f"{section}.{tag}": [] for section, tag in TAGS.items()}
    for key, info in settings_fields():
        section, name = key.split(".")
        if section in TAGS and not all(name in model.model_fields for model in SECTIONS[section]):
            resets[f"{section}.{TAGS[section]}"].append(key)
        if by := extra_of(info).get("reset_by"):
            resets.setdefault(by, []).append(key)
    return resets


@cache
def _can_be_off() -> tuple[str, ...]:
    return tuple(key for key, info in settings_fields() if extra_of(info).get("off"))


def switched_off(table: Table) -> Table:
    """`table` without the settings that are "none" in it, which is how a variant switches one of the preset's off."""
    for key in _can_be_off():
        if lookup(table, key) == "none":
            table = without(table, key)
            if key == "model.etf_layers":
                for dependent in ("etf_frame", "etf_threshold", "etf_patience"):
                    table = without(table, f"model.{dependent}")
    return table
