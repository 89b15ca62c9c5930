"""From the curves of a run to the series of a chart."""

from __future__ import annotations

import numpy as np

from lsc_engine.charts import Mark, Series
from lsc_tui.model import LOSS, Curves, RunView, setting

KINDS = {"c": "cosine", "d": "distance", "b": "cosine + distance", "e": "cross-entropy"}


def curve_series(
    view: RunView, curves: Curves | None, name: str, axis: str, letter: str = "", colour: int = 0, scale: float = 1.0
) -> Series | None:
    """One metric as a series, with `R` where the run was resumed and `×` where a loss was not finite."""
    curve = curves.curves.get(name) if curves is not None else None
    if curves is None or curve is None:
        return None
    batch = setting(view.config, "train.batch_size")
    per_step = float(batch) if isinstance(batch, int) else 1.0
    x = curve.x(axis, per_step)
    marks = []
    for step, epoch, time in curves.resumed:
        at = {"epoch": epoch, "time": time / 60, "images": step * per_step}.get(axis, step)
        marks.append(Mark(at, "R"))
    if name == LOSS:
        marks += [Mark(float(at), "×") for at in x[~np.isfinite(curve.value)][:20]]
    return Series(x, curve.value * scale, letter, colour, marks=tuple(marks), name=f"{view.label} s{view.seed}")
