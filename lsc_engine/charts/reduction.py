"""From any number of points to one span per pixel column: its lowest and highest value, so no peak is lost, and the
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
