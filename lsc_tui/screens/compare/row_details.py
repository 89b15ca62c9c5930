"""What stands behind a row of Compare: the values tried for it, its parameters, how close its classes lie.

Read with the runs, off the UI thread. The tries of a study lie in the study `NAME.tune`, one variant per try.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsc_engine.analysis.compare import Row
from lsc_engine.common.errors import LscError
from lsc_engine.common.safe_io import UnreadableError, read_toml
from lsc_engine.runs.folder.layout import PRESET
from lsc_engine.runs.settings import differing, settings_of
from lsc_engine.vectors.registry import facts
from lsc_tui.data.run_view import value_text
from lsc_tui.lines import loss_text, millions, near_text

_MOST_TRIES = 200


@dataclass(frozen=True)
class RowDetails:
    """Of one row: tried values per setting, trained parameters, classes in use at the smallest angle (fewest, most),
    and the cosine loss under which an image surely has the right label."""

    tried: dict[str, tuple[Any, ...]]
    parameters: int | None = None
    near: tuple[float, float] | None = None
    sure_below: float | None = None


def behind(row: Row) -> RowDetails:
    """What is known of a row; what cannot be told is left out. Never raises for what a folder holds."""
    run = row.runs[0]
    tried: dict[str, tuple[Any, ...]] = {}
    if run.root is not None:
        tried = tries_of(run.root / f"{run.study}.tune", run.variant)
    counted = run.source.get("parameters")
    parts = [v for v in counted.values() if type(v) is int] if isinstance(counted, dict) else []
    near, sure = _vectors(row.settings)
    return RowDetails(tried, sum(parts) if parts else None, near, sure)


def tries_of(study: Path, variant: str) -> dict[str, tuple[Any, ...]]:
    """The settings in which the tries of a variant differ, with their values in order."""
    try:
        folders = sorted(p for p in study.iterdir() if p.name.startswith(f"{variant}+"))[:_MOST_TRIES]
    except OSError:
        return {}
    tables = []
    for folder in folders:
        for path in sorted(folder.glob(f"seed-*/{PRESET}"))[:1]:
            try:
                tables.append(settings_of(read_toml(path)))
            except UnreadableError:
                continue
    return {key: _in_order(values) for key, values in differing(tables).items()}


def _in_order(values: Sequence[Any]) -> tuple[Any, ...]:
    numbers = [v for v in values if type(v) in (int, float)]
    return tuple(sorted(set(numbers))) if len(numbers) == len(values) else tuple(dict.fromkeys(map(str, values)))


def _vectors(settings: dict[str, Any]) -> tuple[tuple[float, float] | None, float | None]:
    name, n, classes = (settings.get(key) for key in ("target.system", "model.dim", "data.classes"))
    if settings.get("target.method") == "ce" or not isinstance(name, str) or type(n) is not int:
        return None, None
    if type(classes) is not int:
        return None, None
    try:
        known = facts(name, n, classes)
        near = known.used_neighbours(classes)
    except (LscError, ValueError, OverflowError):
        return None, None
    sure = known.guaranteed_below if math.isfinite(known.guaranteed_below) else None
    return near, sure if settings.get("target.loss", "cosine") == "cosine" else None


def rows_behind(known: Sequence[RowDetails]) -> list[tuple[str, list[str]]]:
    """Lines for the table of settings: what was tried, parameters, classes that lie near, sure below."""
    out: list[tuple[str, list[str]]] = []
    for key in dict.fromkeys(key for one in known for key in one.tried):
        counts = [str(len(one.tried[key])) if key in one.tried else "-" for one in known]
        out.append((f"{key.rpartition('.')[2]} tried", counts))
    if any(one.parameters is not None for one in known):
        out.append(("parameters", [millions(one.parameters) for one in known]))
    if any(one.near is not None for one in known):
        out.append(("near in use", [near_text(one.near) for one in known]))
    if any(one.sure_below is not None for one in known):
        out.append(("sure below", [loss_text(one.sure_below) for one in known]))
    return out


def tried_text(known: Sequence[RowDetails]) -> str:
    """`lr: best of 1e-4 3e-4 1e-3, tried for each`; "" where nothing was tried."""
    sets: dict[str, Counter[tuple[Any, ...]]] = {}
    for one in known:
        for key, values in one.tried.items():
            sets.setdefault(key, Counter())[values] += 1
    out = []
    for key, counts in sets.items():
        name = key.rpartition(".")[2]
        ((values, most),) = counts.most_common(1)
        each = "each" if len(counts) == 1 and most == len(known) else f"{counts.total()} of {len(known)}"
        out.append(f"{name}: best of {' '.join(map(value_text, values))}, tried for {each}")
    return "; ".join(out)


def why_they_disagree(row: RowDetails, base: RowDetails, n: Any, base_n: Any) -> str:
    """Why a loss may be low while labels are wrong, or the other way: the classes at the smallest angle."""
    if row.near is None or base.near is None:
        return ""
    return (
        f"at n = {n} a class has {near_text(row.near)} classes in use at the smallest angle, "
        f"at n = {base_n} {near_text(base.near)}"
    )
