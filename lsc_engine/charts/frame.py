"""A chart in a box of cells: curves, labels, axis, marks and cursor as rows of styled text.

`draw` is a pure function. It knows neither a terminal nor a library: a row is a list of runs, each a text and a
style number, which the caller turns into colours. Layout of a row: label column, `┤`, plot.
"""

from __future__ import annotations

import itertools
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lsc_engine.charts.layers import Layer, fit_x, fit_y, layers_of
from lsc_engine.charts.raster import PIXELS, Codes, fill, glyphs, pack, stipple
from lsc_engine.charts.reduction import reduce_columns, spans
from lsc_engine.charts.scales import Scale, labels, ticks
from lsc_engine.charts.series import Level, Series, View

# Style numbers; a series has FIRST_SERIES + 2 * colour, plus 1 where it is dim.
BLANK, AXIS, LABEL, LEVEL, CURSOR, MARK = range(6)
FIRST_SERIES = 16

_LINES = {"tick": "┤", "side": "│", "corner": "└", "floor": "─", "dash": "╌", "cursor": "┃", "thread": "┊"}
_ASCII = {"tick": "+", "side": "|", "corner": "+", "floor": "-", "dash": "-", "cursor": "^", "thread": ":"}


def series_style(colour: int, dim: bool = False) -> int:
    """The style number of a series."""
    return FIRST_SERIES + 2 * colour + int(dim)


@dataclass(frozen=True)
class Run:
    """Neighbouring cells of one style."""

    text: str
    style: int


@dataclass(frozen=True)
class Picture:
    """A finished chart: `height` rows of runs, each row `width` cells; and where its plot lies, for a cursor."""

    width: int
    height: int
    rows: tuple[tuple[Run, ...], ...]
    left: int
    plot_width: int
    plot_height: int
    x: Scale
    y: Scale
    hidden: int = 0  # series of which nothing could be drawn (no positive value on a logarithmic axis, no value)

    def to_text(self) -> str:
        """The chart as lines without style and without spaces at their ends."""
        return "\n".join("".join(run.text for run in row).rstrip() for row in self.rows)

    def x_at(self, column: int) -> float:
        """The x value in the middle of a plot column, counted from 0."""
        return self.x.at(column / max(1, self.plot_width - 1))

    def column_of(self, x: float) -> int:
        """The plot column of an x value; may lie outside 0 .. plot_width - 1."""
        unit = float(self.x.unit(np.array([x]))[0])
        return round(unit * (self.plot_width - 1)) if abs(unit) < 1e6 else -1


class Canvas:
    """Cells under construction: code points and style numbers [height, width]."""

    def __init__(self, width: int, height: int) -> None:
        self.codes: Codes = np.full((height, width), 32, np.uint32)
        self.styles: npt.NDArray[np.int32] = np.zeros((height, width), np.int32)

    def write(self, row: int, column: int, text: str, style: int, *, over: bool = True) -> None:
        """Put text into a row, cut at the edges; without `over` only where nothing stands."""
        height, width = self.codes.shape
        if not 0 <= row < height:
            return
        for i, char in enumerate(text, column):
            if 0 <= i < width and (over or self.codes[row, i] == 32):
                self.codes[row, i], self.styles[row, i] = ord(char), style

    def rows(self) -> tuple[tuple[Run, ...], ...]:
        out = []
        for codes, styles in zip(self.codes, self.styles, strict=True):
            text = codes.astype("<u4").tobytes().decode("utf-32-le")
            edges = [0, *(1 + np.flatnonzero(np.diff(styles))).tolist(), len(text)]
            out.append(tuple(Run(text[a:b], int(styles[a])) for a, b in itertools.pairwise(edges)))
        return tuple(out)


def draw(series: list[Series], width: int, height: int, view: View | None = None, levels: list[Level] | None = None,
         ) -> Picture:  # fmt: skip
    """The chart of `series` in width x height cells (at least 1 x 1); later series lie on earlier ones, dim ones below.

    Never raises for any values and any size; what cannot be drawn is left out and counted in `hidden`.
    """
    view = view or View()
    width, height = max(1, width), max(1, height)
    levels = levels or []
    across, _ = PIXELS[view.mode]
    x_scale = fit_x(series, view)
    with_floor = view.axes and height >= 3
    plot_height = height - 1 if with_floor else height
    # The width of the plot follows from the labels, they from the heights, those from the columns: guess, then see.
    guess = max(1, width - (view.label_width + 1 if view.axes and width >= view.label_width + 8 else 0))
    layers = layers_of(series, view, x_scale, guess * across)
    y_scale = fit_y(layers, x_scale, view)
    tick_values = ticks(y_scale, max(2, round(plot_height / 4))) if plot_height > 2 else []
    texts = labels(tick_values, log=y_scale.log)
    label_width = min(8, max([view.label_width, *map(len, texts)]))
    if not view.axes or width < label_width + 8:
        label_width, left = 0, 0
    else:
        left = label_width + 1
    plot_width = width - left
    if plot_width != guess:
        layers = layers_of(series, view, x_scale, plot_width * across)
    canvas = Canvas(plot_width, plot_height)
    _draw_levels(canvas, levels, y_scale, view)
    _draw_bands(canvas, series, view, x_scale, y_scale)
    for layer in sorted(layers, key=lambda item: not item.dim):
        _draw_layer(canvas, layer, y_scale, view)
    _draw_letters(canvas, layers, y_scale, view)
    _draw_thread(canvas, x_scale, view)
    whole = Canvas(width, height)
    whole.codes[:plot_height, left:] = canvas.codes
    whole.styles[:plot_height, left:] = canvas.styles
    _draw_y_axis(whole, tick_values, texts, y_scale, label_width, plot_height, view)
    if with_floor:
        _draw_floor(whole, series, x_scale, left, plot_width, view)
    hidden = sum(1 for s in series if not any(a.series is s and not a.runs.empty for a in layers))
    return Picture(width, height, whole.rows(), left, plot_width, plot_height, x_scale, y_scale, hidden)


def _draw_layer(canvas: Canvas, layer: Layer, y_scale: Scale, view: View) -> None:
    """Put a line on the canvas. It covers dim cells, joins its dots to those of equal rank, and takes the colour."""
    rows, columns = canvas.codes.shape
    across, down = PIXELS[view.mode]
    strokes = spans(layer.runs, y_scale, columns * across, rows * down)
    if strokes.column.size == 0:
        return
    bits = pack(fill(strokes, columns * across, rows * down), view.mode)
    drawn = bits > 0
    if view.mode == "braille":
        equal = (canvas.styles >= FIRST_SERIES) & ((canvas.styles % 2 == 1) == layer.dim) & (canvas.codes >= 0x2800)
        bits = np.where(equal, bits | (canvas.codes & 0xFF).astype(np.uint8), bits)
    codes = glyphs(bits, view.mode)
    if view.mode == "ascii" and layer.dim:
        codes = np.where(codes == ord("*"), np.uint32(ord(".")), codes)
    canvas.codes[drawn] = codes[drawn]
    canvas.styles[drawn] = series_style(layer.series.colour, layer.dim)


def _draw_bands(canvas: Canvas, series: list[Series], view: View, x_scale: Scale, y_scale: Scale) -> None:
    rows, columns = canvas.codes.shape
    across, down = PIXELS[view.mode]
    width, height = columns * across, rows * down
    for s in series:
        if s.band is None:
            continue
        edges = []
        for edge in s.band:
            runs = reduce_columns(s.xs, edge, x_scale, width, positive=view.log_y)
            edges.append(fill(spans(runs, y_scale, width, height), width, height))
        below = np.logical_or.accumulate(edges[1], axis=0)
        above = np.logical_or.accumulate(edges[0][::-1], axis=0)[::-1]
        area = below & above
        bits = pack(stipple(area) if view.mode != "ascii" else area, view.mode)
        codes = glyphs(bits, view.mode)
        if view.mode == "ascii":
            codes = np.where(bits > 0, np.uint32(ord(".")), codes)
        canvas.codes[bits > 0] = codes[bits > 0]
        canvas.styles[bits > 0] = series_style(s.colour, True)


def _draw_levels(canvas: Canvas, levels: list[Level], y_scale: Scale, view: View) -> None:
    rows, columns = canvas.codes.shape
    lines = _lines(view)
    for level in levels:
        unit = float(y_scale.unit(np.array([level.y]))[0])
        if not 0 <= unit <= 1:
            continue
        row = round((1 - unit) * (rows - 1))
        canvas.write(row, 0, (lines["dash"] + " ") * (columns // 2 + 1), LEVEL)
        label = _clean(level.label)[:columns]
        canvas.write(row, columns - len(label), label, LEVEL)


def _draw_letters(canvas: Canvas, layers: list[Layer], y_scale: Scale, view: View) -> None:
    """Each curve's letter behind its last point; where another letter stands, further left on the same curve."""
    rows, columns = canvas.codes.shape
    across, _ = PIXELS[view.mode]
    taken: set[tuple[int, int]] = set()
    for layer in layers:
        letter = _clean(layer.letter)[:1]
        runs = layer.runs
        seen = np.flatnonzero((runs.column >= 0) & (runs.column < columns * across))
        if not letter or layer.series.points or seen.size == 0:
            continue
        unit = np.clip(np.nan_to_num(y_scale.unit(runs.last[seen]), nan=0.0), 0, 1)
        where_row = np.minimum(rows - 1, ((1 - unit) * rows).astype(int))
        where_column = runs.column[seen] // across
        where_column[-1] = min(columns - 1, int(where_column[-1]) + 1)
        for row, column in zip(where_row[::-1].tolist(), where_column[::-1].tolist(), strict=True):
            if not any((row, column + d) in taken for d in (-1, 0, 1)):
                taken.add((row, column))
                canvas.write(row, column, letter, series_style(layer.series.colour, layer.series.dim))
                break


def _draw_thread(canvas: Canvas, x_scale: Scale, view: View) -> None:
    """The cursor's thread through the empty cells of its column."""
    column = _cell(view.cursor, x_scale, canvas.codes.shape[1])
    if column is not None:
        for row in range(canvas.codes.shape[0]):
            canvas.write(row, column, _lines(view)["thread"], CURSOR, over=False)


def _draw_y_axis(canvas: Canvas, values: list[float], texts: list[str], scale: Scale, width: int, rows: int,
                 view: View) -> None:  # fmt: skip
    if width == 0:
        return
    lines = _lines(view)
    for row in range(rows):
        canvas.write(row, width, lines["side"], AXIS)
    for value, text in zip(values, texts, strict=True):
        unit = float(scale.unit(np.array([value]))[0])
        row = min(rows - 1, max(0, round((1 - unit) * (rows - 1)))) if 0 <= unit <= 1 else -1
        if row >= 0:
            canvas.write(row, 0, text[:width].rjust(width), LABEL)
            canvas.write(row, width, lines["tick"], AXIS)


def _draw_floor(canvas: Canvas, series: list[Series], scale: Scale, left: int, columns: int, view: View) -> None:
    """The x axis: its line, the numbers in it, marks and the foot of the cursor."""
    row = canvas.codes.shape[0] - 1
    lines = _lines(view)
    if left:
        canvas.write(row, left - 1, lines["corner"], AXIS)
    canvas.write(row, left, lines["floor"] * columns, AXIS)
    unit = f" {view.unit}" if view.unit and columns > 30 else ""
    values = ticks(scale, max(2, columns // 18))
    room = [False] * columns
    for value, text in sorted(
        zip(values, labels(values, log=scale.log), strict=True), key=lambda t: t[0] != values[-1]
    ):
        text = text + unit if value == values[-1] else text
        column = _cell(value, scale, columns)
        if column is None:
            continue
        start = max(0, min(column - (len(text) - 1) // 2 if column else 0, columns - len(text)))
        stop = start + len(text)
        if stop <= columns and not any(room[max(0, start - 2) : stop + 2]):
            room[start:stop] = [True] * len(text)
            canvas.write(row, left + start, text, LABEL)
    for mark in [m for s in series for m in s.marks]:
        column = _cell(mark.x, scale, columns)
        if column is not None:
            glyph = _clean(mark.glyph)[:1]
            canvas.write(row, left + column, "x" if view.mode == "ascii" and glyph == "×" else glyph, MARK)
    column = _cell(view.cursor, scale, columns)
    if column is not None:
        canvas.write(row, left + column, lines["cursor"], CURSOR)


def _cell(value: float | None, scale: Scale, columns: int) -> int | None:
    if value is None:
        return None
    unit = float(scale.unit(np.array([float(value)]))[0])
    if not -1e-9 <= unit <= 1 + 1e-9:
        return None
    return min(columns - 1, max(0, round(unit * (columns - 1))))


def _lines(view: View) -> dict[str, str]:
    return _ASCII if view.mode == "ascii" else _LINES


def _clean(text: str) -> str:
    """Printable one-cell characters only: a label may come from a file."""
    narrow = (c if c.isprintable() and (c.isascii() or _one_cell(c)) else "?" for c in text)
    return "".join(narrow)


def _one_cell(char: str) -> bool:
    return unicodedata.east_asian_width(char) not in "WF" and unicodedata.combining(char) == 0
