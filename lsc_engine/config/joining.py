"""One preset of a study from two: of commands that named other variants and seeds of it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection
from typing import Any

import tomli_w

from lsc_engine.common.settings import Table
from lsc_engine.config.expand import materialise


def join_presets(kept: Table, text: str, chosen: Collection[str], begun: Callable[[str], bool]) -> str:
    """The TOML `text` of a preset, with what it lacks of `kept`: its seeds, and the variants that were `begun`.

    Of a variant that both have, the settings are those of `text` if it is among the `chosen`, or nothing was begun of
    it; else those that it was begun with. `text` itself where it lacks nothing.
    """
    fresh = tomllib.loads(text)
    seeds = list(dict.fromkeys([*_seeds(kept), *_seeds(fresh)]))
    before, now = _variants(kept), _variants(fresh)
    left = {name for name, table in before.items() if name not in chosen and table != now.get(name) and begun(name)}
    tune = {"tune": kept["tune"]} if "tune" in kept and "tune" not in fresh else {}
    if not left and not tune and set(seeds) <= set(_seeds(fresh)):
        return text
    raw = fresh
    if left:
        names = list(now) if before.keys() <= now.keys() else [*before, *(name for name in now if name not in before)]
        tables = {name: before[name] if name in left else now.get(name) for name in names}
        raw = materialise(fresh) | {"variants": [table for table in tables.values() if table is not None]}
    raw = {key: value for key, value in raw.items() if key not in ("seed", "seeds")}
    return tomli_w.dumps(raw | tune | {"seeds": seeds})


def _seeds(raw: Table) -> list[Any]:
    seeds = raw.get("seeds", [raw.get("seed", 0)])
    return seeds if isinstance(seeds, list) else []


def _variants(raw: Table) -> dict[str, Table]:
    """Every variant with all of its settings, by name."""
    return {str(table.get("name")): table for table in materialise(raw)["variants"]}
