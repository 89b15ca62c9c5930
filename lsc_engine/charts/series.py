"""What a chart is made of: series, marks, levels, the window looked at, and the options of the view."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lsc_engine.charts.raster import Mode
from lsc_engine.charts.scales import Floats


def _floats(values: npt.ArrayLike | None) -> Floats:
    return np.ascontiguousarray(np.asarray([] if values is None else values, dtype=np.float64)).reshape(-1)


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
        for key in ("x", "y", "low", "high"):
            if getattr(self, key) is not None or key in ("x", "y"):
                object.__setattr__(self, key, _floats(getattr(self, key)))
        lengths = {np.size(v) for v in (self.x, self.y, self.low, self.high) if v is not None}
        if len(lengths) > 1:
            raise ValueError(f"a series needs as many x as y values, not {sorted(lengths)}")

    @property
    def xs(self) -> Floats:
        """x as float64 [N]."""
        return self.x  # type: ignore[return-value]

    @property
    def ys(self) -> Floats:
        """y as float64 [N]."""
        return self.y  # type: ignore[return-value]

    @cached_property
    def lowest(self) -> int | None:
        """Index of the lowest finite value, None where there is none."""
        good = np.isfinite(self.ys)
        return int(np.argmin(np.where(good, self.ys, np.inf))) if good.any() else None

    @cached_property
    def highest(self) -> int | None:
        """Index of the highest finite value, None where there is none."""
        good = np.isfinite(self.ys)
        return int(np.argmax(np.where(good, self.ys, -np.inf))) if good.any() else None

    @property
    def band(self) -> tuple[Floats, Floats] | None:
        """Lower and upper edge, float64 [N], or None."""
        if self.low is None or self.high is None:
            return None
        return self.low, self.high  # type: ignore[return-value]


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
