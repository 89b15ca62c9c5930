"""Axes: a linear or logarithmic scale over an interval, its ticks, numbers short enough to stand beside it; and any
number of points as one span per pixel column: its lowest and highest value, so no peak is lost, and the first and the
last one, which join it to its neighbours. The cost after the reduction depends on the width alone."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass

import numpy as np

from lsc_engine.charts.canvas import Bools, Floats, Ints

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


SMOOTHING = (0.0, 0.6, 0.9, 0.97)
# Within a block the weights span at most weight**-BLOCK, far inside float64 for every weight up to .999.
_BLOCK = 512
# More joints than this come only from x values in disorder, where lines between them mean nothing.
_MOST_JOINTS = 2_000_000


@dataclass(frozen=True)
class Columns:
    """Runs of neighbouring points in one pixel column. All arrays have one entry per run; values are data values."""

    column: Ints
    low: Floats
    high: Floats
    first: Floats
    last: Floats
    joined: Bools  # to the run before


def smooth(values: Floats, weight: float) -> Floats:
    """Exponential moving average without the bias to its start; 0 is off, values that are not finite stay gaps. s_t =
    weight s_(t-1) + (1 - weight) v_t, divided by 1 - weight^t (Kingma and Ba 2015, section 3)."""
    if weight <= 0 or values.size == 0:
        return values
    good = np.isfinite(values)
    whole = bool(good.all())
    kept = values if whole else values[good]
    if kept.size == 0:
        return values
    with np.errstate(all="ignore"):
        # Blocks by themselves first, all at once; then what each one carries into the next, one number a block.
        blocks = np.zeros((-(-kept.size // _BLOCK), _BLOCK))
        blocks.reshape(-1)[: kept.size] = kept
        powers = weight ** np.arange(1, _BLOCK + 1, dtype=np.float64)
        blocks *= (1 - weight) * weight / powers
        np.cumsum(blocks, axis=1, out=blocks)
        blocks *= powers / weight
        carried = np.zeros(len(blocks))
        for i in range(1, len(blocks)):
            carried[i] = blocks[i - 1, -1] + carried[i - 1] * powers[-1]
        blocks += carried[:, None] * powers
        smoothed = blocks.reshape(-1)[: kept.size]
        start = min(kept.size, 1 + int(-40 / np.log10(weight)))
        smoothed[:start] /= 1 - weight ** np.arange(1, start + 1, dtype=np.float64)
    if whole:
        return smoothed
    out = np.full(values.shape, np.nan)
    out[good] = smoothed
    return out


def reduce_columns(x: Floats, y: Floats, scale: Scale, width: int, *, positive: bool) -> Columns:
    """The points of [N] arrays x and y inside `scale`, as runs in `width` pixel columns. A value that is not finite
    (or, with `positive`, not above 0) and a step back in x break the line."""
    with np.errstate(all="ignore"):
        # Rising x and good values throughout are found by sums and minima, which are cheap.
        orderly = x.size > 0 and bool(np.isfinite(x[[0, -1]]).all() and np.isfinite(y.sum()))
        orderly = orderly and not ((scale.log and x[0] <= 0) or (positive and y.min() <= 0))
        if orderly and bool((x[1:] >= x[:-1]).all()):
            seen = slice(max(0, int(np.searchsorted(x, scale.lo)) - 1), int(np.searchsorted(x, scale.hi, "right")) + 1)
            x, y = x[seen], y[seen]
            if x.size <= 4 * width or width <= 1:
                starts = np.concatenate(([0], 1 + np.flatnonzero(np.diff(_column(x, scale, width)))))
            else:
                # By bisection: the edges are searched for, not the points.
                edges = np.array([scale.at((i + 0.5) / (width - 1)) for i in range(-1, width)])
                starts = np.unique(np.concatenate(([0], np.searchsorted(x, edges))))
                starts = starts[starts < x.size]
            joined = starts > 0
        else:
            index = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not positive)))
            index = index[x[index] > 0] if scale.log else index
            unit = scale.unit(x[index])
            inside = (unit >= 0) & (unit <= 1)
            # One point beyond each edge keeps the line running out of the window.
            near = inside.copy()
            near[1:] |= inside[:-1]
            near[:-1] |= inside[1:]
            index = index[near]
            if index.size == 0:
                none = np.empty(0)
                return Columns(np.empty(0, np.int64), none, none, none, none, np.empty(0, bool))
            x, y = x[index], y[index]
            breaks = (np.diff(index) != 1) | (np.diff(x) < 0)
            starts = np.concatenate(([0], 1 + np.flatnonzero((np.diff(_column(x, scale, width)) != 0) | breaks)))
            joined = np.concatenate(([False], ~breaks))[starts]
        column = _column(x[starts], scale, width)
    low, high = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    return Columns(column, low, high, y[starts], y[np.append(starts[1:], y.size) - 1], joined)


def _column(x: Floats, scale: Scale, width: int) -> Ints:
    """Pixel columns, at most 2 widths outside, so that joints into the window keep their slope."""
    clipped = np.clip(scale.unit(x) * (width - 1), -2.0 * width, 3.0 * width)
    return np.floor(clipped + 0.5).astype(np.int64)


def pixels_of(runs: Columns, scale: Scale, width: int, height: int) -> Bools:
    """The pixels [height, width] of the runs and of the lines that join them; row 0 is the top."""

    def place(values: Floats) -> Floats:
        # At most 8 heights outside, and never NaN: runs hold good values only.
        unit = np.nan_to_num(scale.unit(values), nan=-9.0, posinf=9.0, neginf=-9.0)
        return np.asarray((1 - np.clip(unit, -8, 9)) * (height - 1))

    # Vertical strokes from top to bottom, both drawn: those of the runs, then one per column of each joint.
    after = np.flatnonzero(runs.joined[1:]) + 1
    start, stop, y0 = runs.column[after - 1], runs.column[after], place(runs.last[after - 1])
    slope = (place(runs.first[after]) - y0) / np.maximum(stop - start, 1)
    first = np.maximum(start, 0)
    count = np.maximum(np.minimum(stop, width - 1) - first + 1, 0)
    if int(count.sum()) > _MOST_JOINTS:
        count[:] = 0
    which = np.repeat(np.arange(after.size), count)
    column = first[which] + np.arange(which.size) - np.repeat(np.cumsum(count) - count, count)
    a, b = (
        np.floor(y0[which] + (edge - start[which]) * slope[which] + 0.5).astype(np.int64)
        for edge in (np.maximum(column - 0.5, start[which]), np.minimum(column + 0.5, stop[which]))
    )
    # The row where a stroke ends belongs to the next column, which starts there.
    b -= np.sign(b - a)
    high, low = (np.floor(place(edge) + 0.5).astype(np.int64) for edge in (runs.high, runs.low))
    columns = np.concatenate((runs.column, column))
    top, bottom = np.concatenate((high, np.minimum(a, b))), np.concatenate((low, np.maximum(a, b)))
    seen = (columns >= 0) & (columns < width) & (bottom >= 0) & (top < height)
    columns, top, bottom = columns[seen], np.maximum(top[seen], 0), np.minimum(bottom[seen], height - 1)
    # +1 where a stroke starts, -1 below its end, summed down.
    size = (height + 1) * width
    starts = np.bincount(top * width + columns, minlength=size)
    ends = np.bincount((bottom + 1) * width + columns, minlength=size)
    return np.asarray(np.cumsum((starts - ends).reshape(height + 1, width), axis=0)[:height] > 0)
