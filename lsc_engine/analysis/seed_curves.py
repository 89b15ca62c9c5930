"""A metric over the seeds of one variant: each seed's curve, their mean, and the band from the lowest to the highest.
Seeds are interpolated linearly between their own points, never beyond them; the mean is over those that got so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsc_engine.common.safe_io import number_of
from lsc_engine.common.settings import lookup
from lsc_engine.runs.metrics.parsing import Floats
from lsc_engine.runs.read.run import Run

AXES = ("epoch", "step", "time", "images")
# Places at which several long seeds are averaged: more than any chart has columns.
_MOST_PLACES = 4000


@dataclass(frozen=True, eq=False)
class SeedCurve:
    """One seed: x [N] in units of the axis (epochs, steps, minutes of training, images) and the values [N]."""

    seed: int
    x: Floats
    y: Floats


@dataclass(frozen=True, eq=False)
class Mean:
    """Mean over seeds at x [N], the lowest and highest seed, and how many seeds are in it [N]; `seeds` as they are."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    count: Floats
    seeds: tuple[SeedCurve, ...]

    def at(self, x: float) -> tuple[float, float, int]:
        """Mean, deviation and number of seeds at `x`, of each that has come so far the last value before it."""
        found = []
        for curve in self.seeds:
            before = int(np.searchsorted(curve.x, x, "right")) - 1
            gap = float(curve.x[-1] - curve.x[-2]) if curve.x.size > 1 else 0.0
            if before >= 0 and x <= curve.x[-1] + gap and np.isfinite(curve.y[before]):
                found.append(float(curve.y[before]))
        if not found:
            return np.nan, np.nan, 0
        return float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else 0.0, len(found)


def axis_values(run: Run, metric: str, axis: str) -> tuple[Floats, Floats]:
    """x in units of `axis` and the values of a metric; `images` counts steps times the batch size."""
    step, values, epoch, time = run.axes(metric)
    x = step.astype(np.float64)
    if axis == "epoch" and bool(np.isfinite(epoch).any()):
        x = epoch
    elif axis == "time":
        x = time / 60
    elif axis == "images":
        batch = number_of(lookup(run.config, "train.batch_size")) or 1.0
        # A hostile batch size leads beyond all numbers, and is left out below.
        with np.errstate(over="ignore"):
            x = x * batch
    good = np.isfinite(x)
    return x[good], values[good]


def over_seeds(runs: Sequence[Run], metric: str, axis: str = "epoch") -> Mean:
    """The curve of a metric over `runs`, the seeds of one variant; empty arrays if nothing was logged."""
    seeds = tuple(SeedCurve(run.seed, *axis_values(run, metric, axis)) for run in runs)
    seeds = tuple(curve for curve in seeds if curve.x.size)
    if len(seeds) <= 1:
        x, y = (seeds[0].x, seeds[0].y) if seeds else (np.empty(0), np.empty(0))
        return Mean(x, y, y, y, np.isfinite(y).astype(np.float64), seeds)
    places = evenly(np.unique(np.concatenate([curve.x for curve in seeds])), _MOST_PLACES)
    table = np.full((len(seeds), places.size), np.nan)
    for row, curve in zip(table, seeds, strict=True):
        finite = np.isfinite(curve.y)
        if finite.any():
            row[:] = np.interp(places, curve.x[finite], curve.y[finite], left=np.nan, right=np.nan)
    count = np.isfinite(table).sum(axis=0).astype(np.float64)
    there = count > 0
    table, places, count = table[:, there], places[there], count[there]
    return Mean(places, np.nanmean(table, axis=0), np.nanmin(table, axis=0), np.nanmax(table, axis=0), count, seeds)


def evenly(values: Floats, most: int) -> Floats:
    """At most `most` of the values, chosen evenly, the first and the last among them."""
    if values.size <= most:
        return values
    return values[np.unique(np.linspace(0, values.size - 1, most).round().astype(np.int64))]


def as_series(
    mean: Mean, *, label: str, colour: int, scale: float = 1.0, band: bool = True, places: int = 2000
) -> list[dict[str, Any]]:
    """The curves as report/figures.py draws them: the mean with the range of the seeds, or without `band` each seed."""

    def listed(values: Floats) -> list[float | None]:
        return [float(v) if np.isfinite(v) else None for v in evenly(values, places)]

    if band or len(mean.seeds) < 2:
        one = {"label": label, "colour": colour, "x": listed(mean.x), "y": listed(mean.mean * scale)}
        if len(mean.seeds) > 1:
            one |= {"low": listed(mean.low * scale), "high": listed(mean.high * scale)}
        return [one]
    return [
        {"label": "" if number else label, "colour": colour, "x": listed(one.x), "y": listed(one.y * scale)}
        for number, one in enumerate(mean.seeds)
    ]
