"""The chart of the smallest n against the number of classes (2512.07509, n_min of each family)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lsc_engine.charts.canvas import Mode
from lsc_engine.charts.chart import draw
from lsc_engine.charts.series import Series, View, Window
from lsc_engine.vectors.registry import family_of, n_min
from lsc_tui.lines import Line, clean, ends, frame
from lsc_tui.screens.vectors.panels import OTHER_N, size, whole
from lsc_tui.screens.vectors.table import Row
from lsc_tui.widgets.chart import style_name

CHARTED = ("A", "V21", "V22", "V33", "simplex")


@lru_cache(maxsize=8)
def _curves(names: tuple[str, ...]) -> tuple[Series, ...]:
    xs = np.logspace(1, 9, 97)
    return tuple(
        Series(xs, [float(n_min(name, max(1, round(x)))) for x in xs], "abcdefgh"[i], i, name=name)
        for i, name in enumerate(names)
    )


def charted(system: str) -> tuple[str, ...]:
    """The five families of the chart, and the highlighted one where it is another."""
    family = family_of(system)
    plain = family is None or family.is_table or system == "planar"
    return CHARTED if system in CHARTED or plain else (*CHARTED, system)


def chart(row: Row, log: bool, mode: Mode, width: int, height: int) -> list[Line]:
    """The framed chart of the smallest n, its legend, and what it comes to at a thousand million classes."""
    return _chart(charted(row.system), row.classes, log, mode, width, height)


@lru_cache(maxsize=16)
def _chart(names: tuple[str, ...], classes: int, log: bool, mode: Mode, width: int, height: int) -> list[Line]:
    series = list(_curves(names))
    top = 1e5 if log else 4096.0
    view = View(Window(10, 1e9, 1 if log else 0, top), True, log, mode, cursor=float(min(classes, 10**9)),
                unit="classes")  # fmt: skip
    if width < 30 or height < 8:
        return frame([], width, height)
    picture = draw(series, width - 2, height - 4, view)
    body: list[Line] = [[(run.text, style_name(run.style)) for run in line] for line in picture.rows]
    legend: Line = [(" ", "")]
    for i, name in enumerate(names):
        legend.append((f"{'abcdefgh'[i]} {clean(name)}  ", f"series-{i % 8}"))
    ends_at = "   ".join(f"{name} {whole(n_min(name, 10**9))}" for name in names if name != "simplex")
    layer = f"CE layer at n={OTHER_N}: {size(4 * OTHER_N * 10**9)} of weights"
    body += [legend, ends([(f" at 1 G: {clean(ends_at)}", "dim")], [(f"{layer} ", "dim")], width - 2)]
    title = "smallest n against number of classes · " + ("log log" if log else "log x")
    return frame(body, width, height, title, [("┃ ", "axis"), (whole(classes), "")])
