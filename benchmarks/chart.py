"""Chart: a full redraw of 160 x 40 cells with a logarithmic axis, from numbers to rows of styled cells; the sphere."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from lsc_engine.bench import Check, Result, Table
from lsc_engine.charts.canvas import Rows
from lsc_engine.charts.chart import Picture, Series, View, draw
from lsc_engine.charts.scatter import Camera, Tag, sphere

WIDTH, HEIGHT = 160, 40


def run(*, quick: bool = False, rounds: int = 15) -> Result:
    """Ten curves of 10^5 points, and one of 10^6."""
    points, rounds = (1_000, 3) if quick else (100_000, rounds)
    rng = np.random.default_rng(0)
    x = np.arange(points)
    ten = [Series(x, np.exp(-x / 3e4) + 0.1 * rng.random(points) + 0.01, "abcdefghij"[i], i) for i in range(10)]
    one = [Series(np.arange(10 * points), rng.random(10 * points) + 0.01, "a")]
    z, colour = rng.normal(size=(1000, 3)), rng.integers(0, 8, 1000)
    tags = [Tag(tuple(row), str(i), i % 8) for i, row in enumerate(rng.normal(size=(64, 3)))]
    cases: dict[str, tuple[Callable[[], Picture | Rows], float | None]] = {
        f"10 series of {points:,} points": (lambda: draw(ten, WIDTH, HEIGHT, View(log_y=True)), 30.0),
        f"1 series of {10 * points:,} points": (lambda: draw(one, WIDTH, HEIGHT, View(log_y=True)), 20.0),
        f"1 series of {10 * points:,} points, smoothed": (
            lambda: draw(one, WIDTH, HEIGHT, View(log_y=True, smoothing=0.9)), None,
        ),
        "sphere of 1,000 points and 64 names, 80 x 30": (
            lambda: sphere(z, colour, 80, 30, camera=Camera(12.0), tags=tags), None,
        ),
    }  # fmt: skip
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (picture, _bar) in cases.items():
            began, busy = time.perf_counter(), time.process_time()
            picture()
            taken[name].append((time.perf_counter() - began, time.process_time() - busy))
    rows, checks = [], []
    for name, (_, bar) in cases.items():
        wall, busy = (1000 * statistics.median(column) for column in zip(*taken[name], strict=True))
        rows.append({"what": name, "ms": wall, "ms of processor": busy})
        if bar is not None:
            checks.append(Check(name, f"{wall:.1f} ms", f"at most {bar:g} ms", None if quick else wall <= bar))
    return Result("chart", checks, [Table(f"Full redraw, {WIDTH} x {HEIGHT} cells, log y", rows)])
