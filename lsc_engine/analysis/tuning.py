"""Which of the tried settings is the best for what is judged, and whether it lies at the edge of its grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsc_engine.analysis.compare import Tried
from lsc_engine.analysis.levels import time_to_level
from lsc_engine.config.tuning import LOWEST, Purpose, at_edge, lower_is_better, next_value
from lsc_engine.runs.read.run import Run

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Best:
    """The best values of a variant for one purpose. `edge`: the settings that are the least or largest tried."""

    values: Values
    edge: tuple[str, ...]


def values_text(values: Values) -> str:
    """`lr = 0.0003`: settings by the last part of their names."""
    named = {key.rpartition(".")[2]: value for key, value in values.items()}
    return ", ".join(f"{key} = {v:g}" if isinstance(v, float) else f"{key} = {v}" for key, v in named.items())


def last_value(run: Run, metric: str) -> float | None:
    """The last value of a metric; of a self-supervised run, which has no labels, the accuracy by its class means."""
    plain = metric.removesuffix(LOWEST)
    for name in (plain, f"{plain}_means"):
        values = run.history(name)[1]
        if len(values) and math.isfinite(values[-1]):
            return float(values.min() if metric != plain else values[-1])
    return None


def score(run: Run, purpose: Purpose) -> tuple[float, ...] | None:
    """What a finished try is ranked by, larger is better; None if it is no candidate."""
    if run.status().state != "finished":
        return None
    last = last_value(run, purpose.metric)
    if last is None:
        return None
    final = -last if lower_is_better(purpose.metric) else last
    if not purpose.levels:
        return (final,)
    places = [time_to_level(run, metric, level) for metric, level in purpose.levels]
    return (*(-place.at("epochs") if place.reached and place.kept else -math.inf for place in places), final)


def choose(tries: Sequence[Tried], purposes: Iterable[Purpose]) -> dict[Purpose, Best]:
    """The best try of one variant for each of its purposes; of equal ones that nearest the middle of the grid. Purposes
    without a candidate are left out."""
    ordered = in_grid_order(tries)
    chosen = {}
    for purpose in purposes:
        scores = {n: found for n, one in enumerate(ordered) if (found := score(one.run, purpose)) is not None}
        if scores:
            number = max(scores, key=lambda n: (scores[n], -abs(n - (len(ordered) - 1) / 2), -n))
            values = dict(ordered[number].values)
            edge = tuple(key for key, value in values.items() if at_edge([one.values[key] for one in ordered], value))
            chosen[purpose] = Best(values, edge)
    return chosen


def in_grid_order(tries: Iterable[Tried]) -> list[Tried]:
    """Tries with their numbers rising."""

    def place(value: Any) -> tuple[int, float, str]:
        return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))

    return sorted(tries, key=lambda one: tuple(place(value) for value in one.values.values()))


def growth(
    tries: Sequence[Tried], purposes: Iterable[Purpose], grid: Mapping[str, Sequence[Any]]
) -> list[dict[str, Any]]:
    """The points that the grid of one variant grows to, as its best ones lie at an edge that may grow."""
    found: list[dict[str, Any]] = []
    for best in choose(tries, purposes).values():
        for key in best.edge:
            value = next_value([one.values[key] for one in tries], grid[key], best.values[key])
            point = {**best.values, key: value}
            if value is not None and point not in found and point not in [dict(one.values) for one in tries]:
                found.append(point)
    return found
