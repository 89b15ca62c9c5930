"""Chart: a full redraw of 160 x 40 cells with a logarithmic axis, from numbers to rows of styled cells."""

from __future__ import annotations

import statistics
import time

import numpy as np

from lsc_engine.bench import Check, Result, Table
from lsc_engine.charts import Series, View, draw

WIDTH, HEIGHT = 160, 40


def run(*, quick: bool = False, rounds: int = 15) -> Result:
    """Ten curves of 10^5 points, and one of 10^6."""
    points, rounds = (1_000, 3) if quick else (100_000, rounds)
    rng = np.random.default_rng(0)
    x = np.arange(points)
    ten = [Series(x, np.exp(-x / 3e4) + 0.1 * rng.random(points) + 0.01, "abcdefghij"[i], i) for i in range(10)]
    one = [Series(np.arange(10 * points), rng.random(10 * points) + 0.01, "a")]
    cases = {
        f"10 series of {points:,} points": (ten, View(log_y=True), 30.0),
        f"1 series of {10 * points:,} points": (one, View(log_y=True), 20.0),
        f"1 series of {10 * points:,} points, smoothed": (one, View(log_y=True, smoothing=0.9), None),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (series, view, _bar) in cases.items():
            began, busy = time.perf_counter(), time.process_time()
            picture = draw(series, WIDTH, HEIGHT, view)
            taken[name].append((time.perf_counter() - began, time.process_time() - busy))
            assert len(picture.rows) == HEIGHT
    rows, checks = [], []
    for name, (_, _, bar) in cases.items():
        wall, busy = (1000 * statistics.median(column) for column in zip(*taken[name], strict=True))
        rows.append({"what": name, "ms": wall, "ms of processor": busy})
        if bar is not None:
            checks.append(Check(name, f"{wall:.1f} ms", f"at most {bar:g} ms", None if quick else wall <= bar))
    return Result("chart", checks, [Table(f"Full redraw, {WIDTH} x {HEIGHT} cells, log y", rows)])
