"""What a chart is made of: series, marks, levels, the window looked at, and the options of the view."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lsc_engine.charts.canvas import Floats, Mode
from lsc_engine.charts.reduction import smooth


def _floats(values: npt.ArrayLike) -> Floats:
    return np.ascontiguousarray(np.asarray(values, dtype=np.float64)).reshape(-1)


@dataclass(frozen=True)
class Mark:
    """A sign on the x axis: `R` resumed, `×` a value was not finite, `|` something was changed."""

    x: float
    glyph: str = "|"


@dataclass(frozen=True)
class Level:
    """A dashed line at a height, with its name at the right end."""

    y: float
    label: str = ""


@dataclass(frozen=True, eq=False)
class Series:
    """One curve: x and y of equal length [N], in the order in which they were measured.

    `letter` stands at its end, `colour` counts from 0, `dim` curves lie under bright ones. `low` and `high` [N] are a
    band around it (the range over seeds). `points` draws the points alone, without lines between them.
    """

    x: npt.ArrayLike
    y: npt.ArrayLike
    letter: str = ""
    colour: int = 0
    dim: bool = False
    low: npt.ArrayLike | None = None
    high: npt.ArrayLike | None = None
    points: bool = False
    marks: tuple[Mark, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        lengths = {edge.size for edge in (self.xs, self.ys, *(self.band or ()))}
        if len(lengths) > 1:
            raise ValueError(f"a series needs as many x as y values, not {sorted(lengths)}")

    @cached_property
    def xs(self) -> Floats:
        """x as float64 [N]."""
        return _floats(self.x)

    @cached_property
    def ys(self) -> Floats:
        """y as float64 [N]."""
        return _floats(self.y)

    @cached_property
    def band(self) -> tuple[Floats, Floats] | None:
        """Lower and upper edge, float64 [N], or None."""
        return None if self.low is None or self.high is None else (_floats(self.low), _floats(self.high))

    @cached_property
    def lowest(self) -> int | None:
        """Index of the lowest finite value, None if there is none."""
        return int(np.argmin(np.where(good, self.ys, np.inf))) if (good := np.isfinite(self.ys)).any() else None

    @cached_property
    def highest(self) -> int | None:
        """Index of the highest finite value, None if there is none."""
        return int(np.argmax(np.where(good, self.ys, -np.inf))) if (good := np.isfinite(self.ys)).any() else None


@dataclass(frozen=True)
class Window:
    """The part looked at; None is as far as the data go."""

    x0: float | None = None
    x1: float | None = None
    y0: float | None = None
    y1: float | None = None


@dataclass(frozen=True)
class View:
    """How to look: scales, symbols, smoothing weight (0 off), outlier clipping, cursor, axis labels."""

    window: Window = field(default_factory=Window)
    log_x: bool = False
    log_y: bool = False
    mode: Mode = "braille"
    smoothing: float = 0.0
    clip: bool = False
    cursor: float | None = None
    label_width: int = 4
    unit: str = ""
    axes: bool = True


def readout(series: Series, x: float, *, smoothing: float = 0.0) -> tuple[float, float, float]:
    """(x, value, smoothed value) of the last point at or before `x`, else of the first one; NaN without points."""
    xs, ys = series.xs, series.ys
    if xs.size == 0 or not math.isfinite(x):
        return math.nan, math.nan, math.nan
    before = np.flatnonzero(xs <= x)
    # The last of the largest.
    i = int(before[::-1][np.argmax(xs[before][::-1])]) if before.size else 0
    return float(xs[i]), float(ys[i]), float(smooth(ys, smoothing)[i])
