"""The charts of Compare: one letter and colour per variant, mean and band or every seed, levels dashed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lsc_engine.analysis.compare import Row
from lsc_engine.analysis.levels import is_loss
from lsc_engine.charts.series import Level, Mark, Series
from lsc_engine.runs.metrics.parsing import Floats
from lsc_tui.data.run_view import ACCURACY, LOSS
from lsc_tui.lines import Line, clean
from lsc_tui.screens.compare import table as parts
from lsc_tui.screens.compare.comparison import Compared, group_of, level_name, shown_levels
from lsc_tui.widgets.chart import UNITS, Chart
from lsc_tui.widgets.series import loss_word

if TYPE_CHECKING:
    from lsc_tui.screens.base import LscScreen
    from lsc_tui.widgets.chart import Look

    _Base = LscScreen
else:
    _Base = object


class OverlayCharts(_Base):
    """Mixed into the screen."""

    metric: str
    band: bool
    highlighted: str
    look: Look

    def _other_metric(self, found: Compared) -> str:
        """What the second chart shows: the loss beside an accuracy, the accuracy beside a loss."""
        wanted = LOSS if not is_loss(self.metric) else ACCURACY
        return wanted if wanted in found.metrics else next((m for m in found.metrics if m != self.metric), self.metric)

    def show_charts(self, found: Compared) -> None:
        """Put what was compared into the charts."""
        self._put_chart("#main", found, self.metric, main=True)
        if self.wide:
            self._put_chart("#other", found, self._other_metric(found), main=False)

    def drawn_rows(self, found: Compared, metric: str) -> list[Row]:
        """The rows that may share the axis of a metric: for a loss those of the baseline's kind; the highlighted last,
        so that it lies on top."""
        rows = [row for row in found.rows if not is_loss(metric) or row.group == group_of(found)]
        return sorted(rows, key=lambda row: row.key == self.highlighted)

    def _put_chart(self, selector: str, found: Compared, metric: str, *, main: bool) -> None:
        loss, scale = is_loss(metric), 1.0 if is_loss(metric) else 100.0
        rows = self.drawn_rows(found, metric)
        series: list[Series] = []
        for row in rows:
            series += self._series(found, row, metric, scale)
        levels = [
            Level(level.level * scale, f"level {level_name(metric, level.level)}" if self.wide else "")
            for level in (found.base.levels[i] for i in shown_levels(found))
            if level.metric == metric
        ]
        key = (id(found), metric, self.band, self.highlighted, self.wide)
        view = self.look.view() if loss else self.look.view(log_y=False, y0=0, y1=100)
        keys = [row.key for row in found.rows if row in rows]
        foot = self._foot(found, metric, keys, main)
        self.query_one(selector, Chart).put(
            series, view, key=key, title=self._chart_title(found, metric, main), right=self._chart_right(main),
            levels=levels, foot=foot, framed=self.wide, empty="no curve yet",
        )  # fmt: skip

    def _series(self, found: Compared, row: Row, metric: str, scale: float) -> list[Series]:
        letter, mean = found.letters[row.key], found.curves[metric][row.key]
        colour = parts.colour(letter)
        marks = tuple(
            Mark(float(curve.x[-1]), "×")
            for curve in mean.seeds
            if row.states.get(curve.seed) == "diverged" and curve.x.size
        )
        if self.band or len(mean.seeds) < 2:
            low, high = (_times(mean.low, scale), _times(mean.high, scale)) if len(mean.seeds) > 1 else (None, None)
            y = _times(mean.mean, scale)
            return [Series(mean.x, y, letter, colour, low=low, high=high, marks=marks, name=row.label)]
        return [
            Series(curve.x, _times(curve.y, scale), letter, colour, marks=marks if number == 0 else (), name=row.label)
            for number, curve in enumerate(mean.seeds)
        ]

    def _chart_title(self, found: Compared, metric: str, main: bool) -> str:
        if is_loss(metric):
            group = group_of(found)
            words = [metric, loss_word(group), "log y" if self.look.log_y else ""]
        else:
            words = [f"{metric} %", "eval mode"]
        mean = "mean of seeds · band min to max" if self.wide else "mean of seeds"
        if main:
            words.append(mean if self.band else "every seed")
        if not self.wide:
            words.append(self.look.axis)
        if self.look.log_x:
            words.append("log x")
        return clean(" · ".join(word for word in words if word))

    def _chart_right(self, main: bool) -> Line:
        if not main:
            return [("m swaps the two", "dim")]
        smoothing = f"smooth {self.look.smoothing:g}".replace("0.", ".") if self.look.smoothing else "smooth off"
        return [(f"{UNITS[self.look.axis]} · {smoothing}" if self.wide else smoothing, "dim")]

    def _foot(self, found: Compared, metric: str, keys: list[str], main: bool) -> Line:
        left_out = [found.letters[row.key] for row in found.rows if row.key not in keys]
        if not main and left_out:
            verb = "is" if len(left_out) == 1 else "are"
            kinds = {loss_word(row.group) or "another loss" for row in found.rows if row.key not in keys}
            words = f" {', '.join(left_out)} {verb} {' and '.join(sorted(kinds))}: another unit, so not drawn here"
            return [(clean(words), "dim")]
        line = parts.readout(found, metric, keys, self.look.cursor, self.wide)
        if main and left_out:
            line.append((f"{', '.join(left_out)} other loss", "dim"))
        return line


def _times(values: Floats, scale: float) -> Floats:
    """The product, infinite where a value of a file is beyond all bounds."""
    with np.errstate(over="ignore"):
        return values * scale
