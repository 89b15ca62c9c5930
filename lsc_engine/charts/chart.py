"""A chart in a box of cells: curves, labels, axis, marks and cursor as rows of styled text, by a pure function."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lsc_engine.charts.canvas import AXIS, CURSOR, LABEL, LEVEL, MARK, Canvas, Floats, Mode, Rows, series_style
from lsc_engine.charts.scales import LOGIT_ENDS, Columns, Scale, labels, pixels_of, reduce_columns, smooth, ticks

_LINES = {"tick": "┤", "side": "│", "corner": "└", "floor": "─", "dash": "╌", "cursor": "┃", "thread": "┊"}
_ASCII = {"tick": "+", "side": "|", "corner": "+", "floor": "-", "dash": "-", "cursor": "^", "thread": ":"}
_SIGNS = {"braille": _LINES, "block": _LINES, "ascii": _ASCII}


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
    """One curve: x and y of equal length [N], in the order in which they were measured. `letter` stands at its end,
    `colour` counts from 0, `dim` curves lie under bright ones. `low` and `high` [N] are a band around it (the range
    over seeds). `points` draws the points alone, without lines between them."""

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
    """How to look: scales, symbols, smoothing weight (0 off), outlier clipping, cursor, axis labels. `within`: limits
    that the heights cannot leave, such as 0 and 100 per cent. `magnify`: how many times the heights are stretched
    around the lead curve at the cursor (without one, at its end), moved up by `shift` windows."""

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
    logit: bool = False
    within: tuple[float, float] | None = None
    magnify: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class Picture:
    """A finished chart: rows of runs; and where its plot lies, for a cursor."""

    rows: Rows
    left: int
    plot_width: int
    plot_height: int
    x: Scale
    y: Scale

    def to_text(self) -> str:
        """The chart as lines without style and without spaces at their ends."""
        return "\n".join("".join(run.text for run in row).rstrip() for row in self.rows)

    def x_at(self, column: int) -> float:
        """The x value in the middle of a plot column, counted from 0."""
        return self.x.at(column / max(1, self.plot_width - 1))

    def column_of(self, x: float) -> int:
        """The plot column of an x value; may lie outside 0 .. plot_width - 1."""
        unit = self.x.place(x)
        return round(unit * (self.plot_width - 1)) if abs(unit) < 1e6 else -1


class _Layer(NamedTuple):
    """One thing drawn as a line: a raw series, or its smoothed twin."""

    series: Series
    runs: Columns
    dim: bool
    letter: str = ""


def draw(
    series: Sequence[Series], width: int, height: int, view: View | None = None, levels: Sequence[Level] = ()
) -> Picture:
    """The chart of `series` in width x height cells (at least 1 x 1); later series lie on earlier ones, dim ones below.
    Never raises for any values and any size; what cannot be drawn is left out."""
    view = view or View()
    width, height = max(1, width), max(1, height)
    x_scale = _fit_x(series, view)
    with_floor = view.axes and height >= 3
    plot_height = height - 1 if with_floor else height
    # The width of the plot follows from the labels, they from the heights, those from the columns: guess, then see.
    guess = max(1, width - (view.label_width + 1 if view.axes and width >= view.label_width + 8 else 0))
    layers = _layers(series, view, x_scale, Canvas(guess, 1, view.mode).pixels[0])
    y_scale = _fit_y(layers, x_scale, view, Canvas(guess, 1, view.mode).pixels[0])
    tick_values = ticks(y_scale, max(2, round(plot_height / 4))) if plot_height > 2 else []
    texts = [f"{v:g}" for v in tick_values] if y_scale.logit else labels(tick_values, log=y_scale.log)
    label_width = min(8, max([view.label_width, *map(len, texts)]))
    left = label_width + 1 if view.axes and width >= label_width + 8 else 0
    plot = Canvas(width - left, plot_height, view.mode)
    if width - left != guess:
        layers = _layers(series, view, x_scale, plot.pixels[0])
    _draw_plot(plot, layers, levels, x_scale, y_scale, view.cursor)
    whole = Canvas(width, height, view.mode)
    whole.codes[:plot_height, left:] = plot.codes
    whole.styles[:plot_height, left:] = plot.styles
    for row in range(plot_height if left else 0):
        whole.write(row, left - 1, _SIGNS[view.mode]["side"], AXIS)
    for value, text in zip(tick_values, texts, strict=True) if left else ():
        if 0 <= (unit := y_scale.place(value)) <= 1:
            row = min(plot_height - 1, max(0, round((1 - unit) * (plot_height - 1))))
            whole.write(row, 0, text[: left - 1].rjust(left - 1), LABEL)
            whole.write(row, left - 1, _SIGNS[view.mode]["tick"], AXIS)
    if with_floor:
        _draw_floor(whole, series, x_scale, left, view)
    return Picture(whole.rows(), left, width - left, plot_height, x_scale, y_scale)


def to_text(series: Sequence[Series], width: int, height: int, view: View | None = None, *, title: str = "") -> str:
    """Title rule, chart and legend (`a name  b name`) in at most width x height cells, without styles; where nothing
    is finite, words for the chart."""
    legend: list[str] = []
    for text in (f"{s.letter} {s.name}".strip() for s in series if s.name):
        if legend and len(legend[-1]) + 2 + len(text) <= width:
            legend[-1] += f"  {text}"
        else:
            legend.append(text[:width])
    dash = "-" if view is not None and view.mode == "ascii" else "─"
    head = [f"{dash} {title[: max(0, width - 4)]} ".ljust(width, dash)] if title and height > 4 else []
    legend = legend[: max(0, height - 4 - len(head))]
    if all(one.lowest is None for one in series):
        return "\n".join([*head, "no finite value"[:width], *legend])
    return "\n".join([*head, draw(series, width, height - len(head) - len(legend), view).to_text(), *legend])


def readout(series: Series, x: float, *, smoothing: float = 0.0) -> tuple[float, float, float]:
    """(x, value, smoothed value) of the last point at or before `x`, else of the first one; NaN without points."""
    xs, ys = series.xs, series.ys
    if xs.size == 0 or not math.isfinite(x):
        return math.nan, math.nan, math.nan
    before = np.flatnonzero(xs <= x)
    # The last of the largest.
    i = int(before[::-1][np.argmax(xs[before][::-1])]) if before.size else 0
    return float(xs[i]), float(ys[i]), float(smooth(ys, smoothing)[i])


def _fit_x(series: Sequence[Series], view: View) -> Scale:
    lows, highs = [], []
    for x in (s.xs for s in series):
        with np.errstate(all="ignore"):
            if not np.isfinite(x.sum()) or view.log_x:
                x = x[np.isfinite(x) & ((x > 0) if view.log_x else True)]
        if x.size:
            lows.append(float(x.min()))
            highs.append(float(x.max()))
    w = view.window
    lo = w.x0 if w.x0 is not None else min(lows, default=float("nan"))
    hi = w.x1 if w.x1 is not None else max(highs, default=float("nan"))
    if w.x0 is None and not view.log_x and 0 < lo <= 0.05 * hi:
        # A run starts at 0, also if its first point is that of the first log step.
        lo = 0.0
    return Scale.over(lo, hi, log=view.log_x)


def _layers(series: Sequence[Series], view: View, x_scale: Scale, pixels: int) -> list[_Layer]:
    out = []
    for s in series:
        if s.points:
            unit = x_scale.unit(s.xs)
            with np.errstate(all="ignore"):
                good = (unit >= 0) & (unit <= 1) & np.isfinite(s.ys) & ((s.ys > 0) if view.log_y else True)
            column, y = np.floor(unit[good] * (pixels - 1) + 0.5).astype(np.int64), s.ys[good]
            out.append(_Layer(s, Columns(column, y, y, y, y, np.zeros(column.size, bool)), s.dim, s.letter))
            continue
        weights = [0.0] if view.smoothing <= 0 else [0.0, view.smoothing]
        for weight in weights:
            runs = reduce_columns(s.xs, smooth(s.ys, weight), x_scale, pixels, positive=view.log_y)
            last = weight == weights[-1]
            out.append(_Layer(s, runs, s.dim or not last, s.letter if last else ""))
    return out


def _fit_y(layers: Sequence[_Layer], x_scale: Scale, view: View, pixels: int) -> Scale:
    """The heights that are seen, a little widened; with `clip` from the 1st to the 99th percentile of the columns.
    `pixels`: columns of the layers."""
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
        both = np.sort(np.concatenate((low, high)))
        if view.logit and both[-1] > LOGIT_ENDS[0]:
            both = both[both > LOGIT_ENDS[0]]  # the first value of a run is often 0, which would take half the axis
        cut = max(1, both.size // 100) if view.clip and both.size > 8 else 0
        lo, hi = float(both[cut]), float(both[-1 - cut])
    w = view.window
    lo, hi, pad = lo if w.y0 is None else w.y0, hi if w.y1 is None else w.y1, 0.02 if w.y0 is w.y1 is None else 0.0
    scale = Scale.over(lo, hi, log=view.log_y, logit=view.logit, pad=pad)
    if view.within is not None and not view.logit and view.within[0] <= lo and hi <= view.within[1]:
        scale = replace(scale, lo=max(scale.lo, view.within[0]), hi=min(scale.hi, view.within[1]))
    lead = next((a.runs for a in reversed(layers) if not a.dim and a.runs.last.size), None)
    if view.magnify <= 1 or lead is None:
        return scale
    at = lead.last.size - 1
    if view.cursor is not None:
        pixel = x_scale.place(view.cursor) * (pixels - 1)
        at = min(at, int(np.searchsorted(lead.column, pixel))) if math.isfinite(pixel) else at
    half = 0.5 / view.magnify
    middle = min(1 - half, max(half, scale.place(float(lead.last[at]))))
    middle = min(1 - half, max(half, middle + view.shift / view.magnify))
    lo, hi = scale.at(middle - half), scale.at(middle + half)
    return replace(scale, lo=lo, hi=hi) if lo < hi else scale


def _draw_plot(
    plot: Canvas, layers: Sequence[_Layer], levels: Sequence[Level], x: Scale, y: Scale, cursor: float | None
) -> None:
    """Levels, bands, lines (dim ones first), letters, and the cursor's thread through the empty cells of its column."""
    (rows, columns), signs = plot.codes.shape, _SIGNS[plot.mode]
    for level in levels:
        unit = y.place(level.y)
        if 0 <= unit <= 1:
            row = round((1 - unit) * (rows - 1))
            plot.write(row, 0, (signs["dash"] + " ") * (columns // 2 + 1), LEVEL)
            label = _clean(level.label)[:columns]
            plot.write(row, columns - len(label), label, LEVEL)
    for s in {id(layer.series): layer.series for layer in layers}.values():
        if s.band is not None:
            low, high = (
                pixels_of(reduce_columns(s.xs, edge, x, plot.pixels[0], positive=y.log), y, *plot.pixels)
                for edge in s.band
            )
            area = np.logical_or.accumulate(high, axis=0) & np.logical_or.accumulate(low[::-1], axis=0)[::-1]
            if plot.mode != "ascii":
                # Every other pixel: an area must not hide what is on it.
                area &= np.indices(area.shape).sum(0) % 2 == 0
            plot.stamp(area, series_style(s.colour, True), sign=".")
    for layer in sorted(layers, key=lambda item: not item.dim):
        # A line covers dim cells, joins its dots to those of equal rank, and takes the colour.
        equal = (plot.styles >= series_style(0)) & ((plot.styles % 2 == 1) == layer.dim) & (plot.codes >= 0x2800)
        style = series_style(layer.series.colour, layer.dim)
        plot.stamp(pixels_of(layer.runs, y, *plot.pixels), style, sign="." if layer.dim else "*", join=equal)
    _draw_letters(plot, layers, y)
    if cursor is not None and (column := x.cell(cursor, columns)) is not None:
        for row in range(rows):
            plot.write(row, column, signs["thread"], CURSOR, over=False)


def _draw_letters(canvas: Canvas, layers: Sequence[_Layer], y_scale: Scale) -> None:
    """Each curve's letter behind its last point; where another letter stands, further left on the same curve."""
    rows, columns = canvas.codes.shape
    wide = canvas.pixels[0]
    taken: set[tuple[int, int]] = set()
    for layer in layers:
        letter = _clean(layer.letter)[:1]
        runs = layer.runs
        seen = np.flatnonzero((runs.column >= 0) & (runs.column < wide))
        if not letter or layer.series.points or seen.size == 0:
            continue
        unit = np.clip(np.nan_to_num(y_scale.unit(runs.last[seen]), nan=0.0), 0, 1)
        where_row = np.minimum(rows - 1, ((1 - unit) * rows).astype(int))
        where_column = runs.column[seen] // (wide // columns)
        where_column[-1] = min(columns - 1, int(where_column[-1]) + 1)
        for row, column in zip(where_row[::-1].tolist(), where_column[::-1].tolist(), strict=True):
            if not any((row, column + d) in taken for d in (-1, 0, 1)):
                taken.add((row, column))
                canvas.write(row, column, letter, series_style(layer.series.colour, layer.series.dim))
                break


def _draw_floor(canvas: Canvas, series: Sequence[Series], scale: Scale, left: int, view: View) -> None:
    """The x axis: its line, the numbers in it, marks and the foot of the cursor."""
    signs = _SIGNS[view.mode]
    row, columns = canvas.codes.shape[0] - 1, canvas.codes.shape[1] - left
    canvas.write(row, left - 1, signs["corner"], AXIS)
    canvas.write(row, left, signs["floor"] * columns, AXIS)
    values = ticks(scale, max(2, columns // 18))
    room = [False] * columns
    numbered = zip(values, labels(values, log=scale.log), strict=True)
    for value, text in sorted(numbered, key=lambda pair: pair[0] != values[-1]):
        text += f" {view.unit}" if value == values[-1] and view.unit and columns > 30 else ""
        column = scale.cell(value, columns)
        if column is None:
            continue
        start = max(0, min(column - (len(text) - 1) // 2 if column else 0, columns - len(text)))
        stop = start + len(text)
        if stop <= columns and not any(room[max(0, start - 2) : stop + 2]):
            room[start:stop] = [True] * len(text)
            canvas.write(row, left + start, text, LABEL)
    for mark in (mark for s in series for mark in s.marks):
        if (column := scale.cell(mark.x, columns)) is not None:
            glyph = _clean(mark.glyph)[:1]
            canvas.write(row, left + column, "x" if view.mode == "ascii" and glyph == "×" else glyph, MARK)
    if view.cursor is not None and (column := scale.cell(view.cursor, columns)) is not None:
        if room[column]:  # a digit of a number: it stays readable, in the colour of the cursor
            canvas.styles[row, left + column] = CURSOR
        else:
            canvas.write(row, left + column, signs["cursor"], CURSOR)


def _clean(text: str) -> str:
    """Printable one-cell characters only: a label may come from a file."""
    return "".join(
        c if c.isprintable() and unicodedata.east_asian_width(c) not in "WF" and not unicodedata.combining(c) else "?"
        for c in text
    )
