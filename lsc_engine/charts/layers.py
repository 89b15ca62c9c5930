"""Series as what is drawn of them: reduced lines, dim raw beside bright smoothed, and the scales that hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lsc_engine.charts.reduction import Columns, reduce_columns, smooth
from lsc_engine.charts.scales import Floats, Scale
from lsc_engine.charts.series import Series, View


@dataclass(frozen=True)
class Layer:
    """One thing drawn as a line: the raw series, its smoothed twin, or an edge of its band."""

    series: Series
    y: Floats
    runs: Columns
    dim: bool
    letter: str = ""


def fit_x(series: list[Series], view: View) -> Scale:
    lows, highs = [], []
    for s in series:
        with np.errstate(all="ignore"):
            x = s.xs
            if not np.isfinite(x.sum()) or view.log_x:
                x = x[np.isfinite(x) & ((x > 0) if view.log_x else True)]
        if x.size:
            lows.append(float(x.min()))
            highs.append(float(x.max()))
    w = view.window
    lo = w.x0 if w.x0 is not None else min(lows, default=float("nan"))
    hi = w.x1 if w.x1 is not None else max(highs, default=float("nan"))
    if w.x0 is None and not view.log_x and 0 < lo <= 0.05 * hi:
        # A run starts at 0, also where its first point is that of the first log step.
        lo = 0.0
    return Scale.over(lo, hi, log=view.log_x)


def layers_of(series: list[Series], view: View, x_scale: Scale, pixels: int) -> list[Layer]:
    out = []
    for s in series:
        smoothed = view.smoothing > 0 and not s.points
        runs = _runs_of(s, s.ys, view, x_scale, pixels)
        out.append(Layer(s, s.ys, runs, s.dim or smoothed,
                          "" if smoothed else s.letter))  # fmt: skip
        if smoothed:
            y = smooth(s.ys, view.smoothing)
            runs = _runs_of(s, y, view, x_scale, pixels)
            out.append(Layer(s, y, runs, s.dim, s.letter))
    return out


def _runs_of(s: Series, y: Floats, view: View, x_scale: Scale, pixels: int) -> Columns:
    if not s.points:
        return reduce_columns(s.xs, y, x_scale, pixels, positive=view.log_y)
    unit = x_scale.unit(s.xs)
    with np.errstate(all="ignore"):
        good = np.isfinite(unit) & (unit >= 0) & (unit <= 1) & np.isfinite(y) & ((y > 0) if view.log_y else True)
    column = np.floor(unit[good] * (pixels - 1) + 0.5).astype(np.int64)
    y = y[good]
    return Columns(column, y, y, y, y, np.zeros(column.size, bool))


def fit_y(layers: list[Layer], x_scale: Scale, view: View) -> Scale:
    """The heights that are seen, a little widened; with `clip` from the 1st to the 99th percentile of the columns."""
    low = np.concatenate([a.runs.low for a in layers] or [np.empty(0)])
    high = np.concatenate([a.runs.high for a in layers] or [np.empty(0)])
    for s in {id(a.series): a.series for a in layers}.values():
        if s.band is not None:
            unit = x_scale.unit(s.xs)
            edges = np.concatenate([edge[(unit >= 0) & (unit <= 1)] for edge in s.band])
            edges = edges[np.isfinite(edges) & ((edges > 0) if view.log_y else True)]
            low, high = np.concatenate((low, edges)), np.concatenate((high, edges))
    lo = hi = float("nan")
    if low.size:
        lo, hi = float(low.min()), float(high.max())
        if view.clip and low.size > 4:
            both = np.sort(np.concatenate((low, high)))
            cut = max(1, both.size // 100)
            lo, hi = float(both[cut]), float(both[-1 - cut])
    w = view.window
    pad = 0.02 if w.y0 is None and w.y1 is None else 0.0
    return Scale.over(lo if w.y0 is None else w.y0, hi if w.y1 is None else w.y1, log=view.log_y, pad=pad)
