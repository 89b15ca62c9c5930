"""From any number of points to one span per pixel column: what a line of a million points looks like on a screen.

Every pixel column keeps the lowest and the highest value of the points that fall into it, so no peak is lost, and the
first and the last one, which join it to its neighbours. The cost after the reduction depends on the width alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lsc_engine.charts.canvas import Bools, Floats, Ints
from lsc_engine.charts.scales import Scale

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

    @property
    def empty(self) -> bool:
        """Whether nothing is to be drawn."""
        return self.column.size == 0


def smooth(values: Floats, weight: float) -> Floats:
    """Exponential moving average without the bias to its start; 0 is off, values that are not finite stay gaps.

    s_t = weight s_(t-1) + (1 - weight) v_t, divided by 1 - weight^t (Kingma and Ba 2015, section 3).
    """
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
    """The points of [N] arrays x and y inside `scale`, as runs in `width` pixel columns.

    A value that is not finite (or, with `positive`, not above 0) and a step back in x break the line.
    """
    with np.errstate(all="ignore"):
        if _orderly(x, y, positive, scale):
            return _reduce_sorted(x, y, scale, width)
        good = np.isfinite(x) & np.isfinite(y)
        if positive:
            good &= y > 0
        if scale.log:
            good &= x > 0
        index = np.flatnonzero(good)
        if index.size == 0:
            return _nothing()
        kept_x, kept_y = x[index], y[index]
        unit = scale.unit(kept_x)
        inside = (unit >= 0) & (unit <= 1)
        # One point beyond each edge keeps the line running out of the window.
        near = inside.copy()
        near[1:] |= inside[:-1]
        near[:-1] |= inside[1:]
        kept_y, unit, index, kept_x = kept_y[near], unit[near], index[near], kept_x[near]
        if index.size == 0:
            return _nothing()
        column = _column(unit, width)
        breaks = (np.diff(index) != 1) | (np.diff(kept_x) < 0)
        starts = np.concatenate(([0], 1 + np.flatnonzero((np.diff(column) != 0) | breaks)))
        joined = np.concatenate(([False], ~breaks))[starts]
    return _runs(column[starts], kept_y, starts, joined)


def _nothing() -> Columns:
    none = np.empty(0)
    return Columns(np.empty(0, np.int64), none, none, none, none, np.empty(0, bool))


def _column(unit: Floats, width: int) -> Ints:
    """Pixel columns, at most 2 widths outside, so that joints into the window keep their slope."""
    clipped = np.clip(unit * (width - 1), -2.0 * width, 3.0 * width)
    return np.floor(clipped + 0.5).astype(np.int64)


def _orderly(x: Floats, y: Floats, positive: bool, scale: Scale) -> bool:
    """Rising x and good values throughout, by sums and minima, which are cheap."""
    if x.size == 0 or not (np.isfinite(x[0]) and np.isfinite(x[-1])) or not np.isfinite(y.sum()):
        return False
    if (scale.log and x[0] <= 0) or (positive and y.min() <= 0):
        return False
    return bool((x[1:] >= x[:-1]).all())


def _reduce_sorted(x: Floats, y: Floats, scale: Scale, width: int) -> Columns:
    """Columns by bisection: the edges are searched for, not the points."""
    first = max(0, int(np.searchsorted(x, scale.lo, "left")) - 1)
    last = min(x.size, int(np.searchsorted(x, scale.hi, "right")) + 1)
    x, y = x[first:last], y[first:last]
    if x.size <= 4 * width:
        column = _column(scale.unit(x), width)
        starts = np.concatenate(([0], 1 + np.flatnonzero(np.diff(column))))
        column = column[starts]
    else:
        edges = np.array([scale.at((i + 0.5) / (width - 1)) for i in range(-1, width)]) if width > 1 else np.empty(0)
        starts = np.unique(np.concatenate(([0], np.searchsorted(x, edges, "left"))))
        starts = starts[starts < x.size]
        column = _column(scale.unit(x[starts]), width)
    joined = np.ones(starts.size, bool)
    joined[:1] = False
    return _runs(column, y, starts, joined)


def _runs(column: Ints, y: Floats, starts: Ints, joined: Bools) -> Columns:
    if starts.size == 0:
        return _nothing()
    ends = np.concatenate((starts[1:], [y.size])) - 1
    return Columns(column, np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts), y[starts], y[ends], joined)


@dataclass(frozen=True)
class Spans:
    """Vertical strokes: pixel rows top..bottom (both drawn, top <= bottom) of pixel columns."""

    column: Ints
    top: Ints
    bottom: Ints


def spans(runs: Columns, scale: Scale, width: int, height: int) -> Spans:
    """The strokes that draw the runs, and the lines that join them, on width x height pixels; row 0 is the top."""
    low, high = _rows(runs.high, scale, height), _rows(runs.low, scale, height)
    column, top, bottom = [runs.column], [low], [high]
    after = np.flatnonzero(runs.joined[1:]) + 1 if runs.joined.size else np.empty(0, np.int64)
    if after.size:
        before = after - 1
        c0, c1 = runs.column[before], runs.column[after]
        y0 = _place(runs.last[before], scale, height)
        y1 = _place(runs.first[after], scale, height)
        joints = _joints(c0, c1, y0, y1, width)
        column.append(joints.column)
        top.append(joints.top)
        bottom.append(joints.bottom)
    all_columns, all_top, all_bottom = np.concatenate(column), np.concatenate(top), np.concatenate(bottom)
    seen = (all_columns >= 0) & (all_columns < width) & (all_bottom >= 0) & (all_top < height)
    return Spans(all_columns[seen], np.clip(all_top[seen], 0, height - 1), np.clip(all_bottom[seen], 0, height - 1))


def _place(values: Floats, scale: Scale, height: int) -> Floats:
    """Pixel rows as real numbers, at most 8 heights outside; never NaN (runs hold good values only)."""
    unit = np.nan_to_num(scale.unit(values), nan=-9.0, posinf=9.0, neginf=-9.0)
    return np.asarray((1 - np.clip(unit, -8, 9)) * (height - 1))


def _rows(values: Floats, scale: Scale, height: int) -> Ints:
    return np.floor(_place(values, scale, height) + 0.5).astype(np.int64)


def _joints(c0: Ints, c1: Ints, y0: Floats, y1: Floats, width: int) -> Spans:
    """Each line from (c0, y0) to (c1, y1) as one stroke per column, touching its neighbours without thickening."""
    first, last = np.maximum(c0, 0), np.minimum(c1, width - 1)
    count = np.maximum(last - first + 1, 0)
    if int(count.sum()) > _MOST_JOINTS:
        none = np.empty(0, np.int64)
        return Spans(none, none, none)
    which = np.repeat(np.arange(c0.size), count)
    offset = np.arange(which.size) - np.repeat(np.cumsum(count) - count, count)
    column = first[which] + offset
    slope = (y1 - y0) / np.maximum(c1 - c0, 1)
    start = np.maximum(column - 0.5, c0[which])
    stop = np.minimum(column + 0.5, c1[which])
    base, slant = y0[which], slope[which]
    a = np.floor(base + (start - c0[which]) * slant + 0.5).astype(np.int64)
    b = np.floor(base + (stop - c0[which]) * slant + 0.5).astype(np.int64)
    # The row where a stroke ends belongs to the next column, which starts there.
    b = np.where(b > a, b - 1, np.where(b < a, b + 1, b))
    return Spans(column, np.minimum(a, b), np.maximum(a, b))


def fill(spans: Spans, width: int, height: int) -> Bools:
    """Pixels [height, width] covered by the strokes: +1 where one starts, -1 below its end, summed down."""
    size = (height + 1) * width
    starts = np.bincount(spans.top * width + spans.column, minlength=size)
    ends = np.bincount((spans.bottom + 1) * width + spans.column, minlength=size)
    covered = np.cumsum((starts - ends).reshape(height + 1, width), axis=0)
    return np.asarray(covered[:height] > 0)
