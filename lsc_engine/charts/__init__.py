"""Charts for a terminal: numbers in, rows of styled cells out. numpy only; no terminal, no other library.

    picture = draw([Series(steps, losses, "a")], 72, 16, View(log_y=True))
    print(picture.to_text())

    rows = plane(z, colours, 40, 20, extent=6.0)      # also sphere and mirrored_histogram: embeddings of a run

`lsc-engine show --plot`, the end of `lsc-engine run` and every chart of `lsc-tui` are this one renderer.
"""

from lsc_engine.charts.frame import (
    AXIS,
    BLANK,
    CURSOR,
    FIRST_SERIES,
    LABEL,
    LEVEL,
    MARK,
    Picture,
    Run,
    draw,
    series_style,
)
from lsc_engine.charts.mirrored_histogram import mirrored_histogram
from lsc_engine.charts.reduction import SMOOTHING, smooth
from lsc_engine.charts.scales import Scale, short
from lsc_engine.charts.scatter import Camera, Rows, Tag, plane, sphere
from lsc_engine.charts.series import Level, Mark, Series, View, Window
from lsc_engine.charts.text import readout, to_text

__all__ = [
    "AXIS",
    "BLANK",
    "CURSOR",
    "FIRST_SERIES",
    "LABEL",
    "LEVEL",
    "MARK",
    "SMOOTHING",
    "Camera",
    "Level",
    "Mark",
    "Picture",
    "Rows",
    "Run",
    "Scale",
    "Series",
    "Tag",
    "View",
    "Window",
    "draw",
    "mirrored_histogram",
    "plane",
    "readout",
    "series_style",
    "short",
    "smooth",
    "sphere",
    "to_text",
]
