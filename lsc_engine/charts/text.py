"""A chart as plain text with title and legend, and the value of a series under a cursor."""

from __future__ import annotations

import math

import numpy as np

from lsc_engine.charts.frame import draw
from lsc_engine.charts.reduction import smooth
from lsc_engine.charts.series import Level, Series, View


def to_text(series: list[Series], width: int, height: int, view: View | None = None,
            levels: list[Level] | None = None, title: str = "") -> str:  # fmt: skip
    """Title rule, chart and legend (`a name  b name`) in at most width x height cells, without styles."""
    named = [f"{s.letter} {s.name}".strip() for s in series if s.name]
    legend: list[str] = []
    for text in named:
        if legend and len(legend[-1]) + 2 + len(text) <= width:
            legend[-1] += f"  {text}"
        else:
            legend.append(text[:width])
    dash = "-" if view is not None and view.mode == "ascii" else "─"
    head = [f"{dash} {title[: max(0, width - 4)]} ".ljust(width, dash)] if title and height > 4 else []
    legend = legend[: max(0, height - 4 - len(head))]
    body = draw(series, width, height - len(head) - len(legend), view, levels).to_text()
    return "\n".join([*head, body, *legend])


def readout(series: Series, x: float, *, smoothing: float = 0.0) -> tuple[float, float, float]:
    """(x, value, smoothed value) of the last point at or before `x`, else of the first one; NaN where there is none."""
    xs = series.xs
    if xs.size == 0 or not math.isfinite(x):
        return math.nan, math.nan, math.nan
    with np.errstate(all="ignore"):
        before = np.flatnonzero(xs <= x)
    i = int(before[np.argmax(xs[before])]) if before.size else 0
    if before.size and xs[before[-1]] == xs[i]:
        i = int(before[-1])
    smoothed = float(smooth(series.ys, smoothing)[i]) if smoothing else float(series.ys[i])
    return float(xs[i]), float(series.ys[i]), smoothed
