"""Axes: a linear or logarithmic scale over an interval, its ticks, and numbers short enough to stand beside it."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass

import numpy as np

from lsc_engine.charts.canvas import Floats

# Differences of two limits must stay finite, and so must their logarithms' inverse.
LARGEST = 1e300
SMALLEST = 1e-300
# Per cent: beyond these a logit scale shows no difference, so that 0 and 100 have a place.
LOGIT_ENDS = (0.01, 99.99)
_ODDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True)
class Scale:
    """Maps [lo, hi] to [0, 1]: linearly, by the logarithm, or (`logit`, of per cent) by that of p / (100 - p), which
    spreads the values near 0 and near 100. Make one with `Scale.over`."""

    lo: float
    hi: float
    log: bool = False
    logit: bool = False

    @staticmethod
    def over(lo: float, hi: float, *, log: bool = False, logit: bool = False, pad: float = 0.0) -> Scale:
        """A scale that holds lo and hi, in any order, equal or not finite; `pad` widens it by that share on both sides.
        With `log`, limits that are not positive are replaced by what fits below or above the other one; with `logit`
        those outside of `LOGIT_ENDS` by its ends."""
        lo, hi = (v if math.isfinite(v) else math.nan for v in (lo, hi))
        if math.isnan(lo) and math.isnan(hi):
            lo, hi = LOGIT_ENDS if logit else (0.1, 1.0) if log else (0.0, 1.0)
        lo, hi = (hi if math.isnan(lo) else lo), (lo if math.isnan(hi) else hi)
        lo, hi = min(lo, hi), max(lo, hi)
        if logit:
            lo, hi = (min(max(v, LOGIT_ENDS[0]), LOGIT_ENDS[1]) for v in (lo, hi))
            half = 0.1 * min(lo, 100 - hi) if hi - lo < 1e-9 else 0.0
            return Scale(lo - half, hi + half, logit=True)
        if log:
            hi = max(1e-290, min(hi, 1e290)) if hi > 0 else 1.0
            lo = max(1e-290, min(lo, hi)) if lo > 0 else hi / 1000
            a, b = math.log10(lo), math.log10(hi)
            a, b = (a - 0.15, b + 0.15) if b - a < 1e-9 else (a - pad * (b - a), b + pad * (b - a))
            return Scale(10 ** max(a, -300.0), 10 ** min(b, 300.0), True)
        lo, hi = (max(-LARGEST, min(v, LARGEST)) for v in (lo, hi))
        if hi - lo <= 1e-12 * max(abs(lo), abs(hi)) or hi == lo:
            half = 0.1 * max(abs(lo), abs(hi)) or 0.5
            return Scale(lo - half, hi + half)
        return Scale(lo - pad * (hi - lo), hi + pad * (hi - lo))

    def unit(self, values: Floats) -> Floats:
        """Where the values lie: 0 at lo, 1 at hi, NaN for a value without a place (not finite, or no logarithm)."""
        with np.errstate(all="ignore"):
            shown, lo, hi = values, self.lo, self.hi
            if self.log:
                shown = np.log10(np.where(values > 0, values, np.nan))
                lo, hi = math.log10(self.lo), math.log10(self.hi)
            elif self.logit:
                shown, lo, hi = (np.log10(p / (100 - p)) for p in (np.clip(v, *LOGIT_ENDS) for v in (values, lo, hi)))
            out: Floats = (shown - lo) / (hi - lo)
        return out

    def place(self, value: float) -> float:
        """Where one value lies, as `unit`."""
        return float(self.unit(np.array([float(value)]))[0])

    def cell(self, value: float, cells: int) -> int | None:
        """The cell out of a row of them in which a value lies; None outside the scale."""
        unit = self.place(value)
        return min(cells - 1, max(0, round(unit * (cells - 1)))) if -1e-9 <= unit <= 1 + 1e-9 else None

    def at(self, unit: float) -> float:
        """The value at a place between 0 and 1: the inverse of `unit`."""
        if self.log:
            a, b = math.log10(self.lo), math.log10(self.hi)
            return float(10 ** min(300.0, max(-300.0, a + unit * (b - a))))
        if self.logit:
            a, b = (math.log10(p / (100 - p)) for p in (self.lo, self.hi))
            return 100 / (1 + 10 ** -min(300.0, max(-300.0, a + unit * (b - a))))
        return self.lo + unit * (self.hi - self.lo)


def ticks(scale: Scale, count: int) -> list[float]:
    """At most about `count` round values on the scale, rising."""
    lo, hi, count = scale.lo, scale.hi, max(1, count)
    if scale.logit:
        # The middle first, then outwards by factors of the odds: as many as there is room for.
        for ends in (_ODDS, _ODDS[::2], _ODDS[::4]):
            inner = [v for v in (*ends, 50.0, *(round(100 - v, 2) for v in reversed(ends))) if lo <= v <= hi]
            if 2 <= len(inner) <= 2 * count:
                return inner
    # Over less than half a decade the round values of a logarithmic axis are too few.
    if scale.log and hi > 3.2 * lo:
        found: list[float] = []
        decades = range(math.floor(math.log10(lo)), math.ceil(math.log10(hi)) + 1)
        for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            found = [
                m * 10.0**e for e in decades for m in steps if lo * 0.999 <= m * 10.0**e <= min(hi * 1.001, LARGEST)
            ]
            if len(found) <= count:
                break
        every = math.ceil(len(found) / count)
        found = [v for v in found if every < 2 or round(math.log10(v)) % every == 0]
        if len(found) >= 2:
            return found
    rough = (hi - lo) / count
    if not (math.isfinite(rough) and rough > SMALLEST):
        return [lo]
    power = 10.0 ** math.floor(math.log10(rough))
    # Labels between 1 and 10 are whole numbers: 2.5 and 7.5 would read 2 and 8.
    multiples = (1, 2, 5, 10) if power == 1 else (1, 2, 2.5, 5, 10)
    step = next((m * power for m in multiples if m * power >= rough * 0.999), 10 * power)
    first, last = math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9)
    return [i * step for i in range(int(first), int(min(last, first + 4 * count)) + 1)]


def short(value: float, *, step: float | None = None) -> str:
    """A number in few characters: `.052`, `1.0`, `250`, `1.5k`, `10M`, `3e-5`; `step` is the gap to the next label."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    size = abs(value)
    if size < 1e-300 or (step is not None and size < 1e-9 * step):
        return "0"
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if limit <= size < 1000 * limit:
            return _plain(value / limit, None if step is None else step / limit) + letter
    if size < 1e-3 or size >= 1e15:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return _plain(value, step)


def _plain(value: float, step: float | None) -> str:
    if step is None:
        text = f"{value:.{max(0, 1 - math.floor(math.log10(abs(value))))}f}"
        if abs(value) >= 9.95:
            return text.removesuffix(".0")
    else:
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
        if digits and abs(step * 10**digits - round(step * 10**digits)) > 1e-6:
            digits += 1
        text = f"{value:.{min(digits, 12)}f}"
    # `0.52` as `.52`; the whole number 0 stays.
    return re.sub(r"^(-?)0\.", r"\1.", text)


def labels(values: list[float], *, log: bool) -> list[str]:
    """The labels of one axis, written alike."""
    if len(values) < 2 or (log and values[-1] > 3.2 * values[0]):
        return [short(v) for v in values]
    step = min(b - a for a, b in itertools.pairwise(values))
    largest = max(abs(v) for v in values)
    if step > 0 and largest / step > 1e4:
        return [f"{v:.6g}" for v in values]
    return [short(v, step=step) for v in values]
