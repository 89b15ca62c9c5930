"""Two histograms over one axis, one upwards and one downwards: what can overlap is never hidden."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lsc_engine.charts.canvas import AXIS, LABEL, LEVEL, PIXELS, Canvas, Floats, Mode, Rows, series_style
from lsc_engine.charts.scales import Scale, labels, ticks


def mirrored_histogram(
    up: npt.ArrayLike, down: npt.ArrayLike, width: int, height: int, *, lo: float, hi: float, bin_width: float = 1.0,
    mode: Mode = "braille", names: tuple[str, str] = ("", ""), marks: Sequence[tuple[float, str]] = (), unit: str = "",
) -> Rows:  # fmt: skip
    """Counts per bin, the first bin from 0, over [lo, hi] in width x height cells; each side has its own height.

    `names` stand at the right of each side, in its colour (0 and 1); `marks` are x values with a label, drawn as
    lines. Never raises for any counts and any size.
    """
    canvas = Canvas(width, height, mode)
    rows, columns = canvas.codes.shape
    scale = Scale.over(lo, hi)
    above, below = (rows // 2, rows - 1 - rows // 2) if rows > 2 else (0, 0)
    wide, tall = canvas.pixels[0], PIXELS[mode][1]
    for colour, (counts, size, first) in enumerate(((up, above, 0), (down, below, above + 1))):
        shares = _columns(np.nan_to_num(np.asarray(counts, np.float64)), scale, wide, bin_width)
        if size and shares.any():
            heights = np.ceil(shares / shares.max() * size * tall - 1e-9)
            side = np.arange(size * tall)[:, None] < heights
            pixels = np.zeros((rows * tall, wide), bool)
            pixels[first * tall : (first + size) * tall] = side[::-1] if colour == 0 else side
            canvas.stamp(pixels, series_style(colour))
    _draw_marks(canvas, scale, marks, above)
    _draw_axis(canvas, scale, above, unit)
    for colour, row in enumerate((0, rows - 1)):
        if rows > 2:
            name = names[colour][:columns]
            canvas.write(row, columns - len(name), name, series_style(colour))
    return canvas.rows()


def _columns(counts: Floats, scale: Scale, columns: int, bin_width: float) -> Floats:
    """The share of the counts in each column of pixels; a bin is spread evenly over its width."""
    edges = np.linspace(scale.lo, scale.hi, columns + 1)
    total = np.concatenate(([0.0], np.cumsum(np.maximum(counts, 0))))
    return np.asarray(np.diff(np.interp(edges, np.arange(total.size) * bin_width, total)))


def _draw_marks(canvas: Canvas, scale: Scale, marks: Sequence[tuple[float, str]], axis: int) -> None:
    rows, columns = canvas.codes.shape
    for number, (value, label) in enumerate(marks):
        column = _cell(value, scale, columns)
        if column is None:
            continue
        for row in range(rows):
            if row != axis:
                canvas.write(row, column, ":" if canvas.mode == "ascii" else "┊", LEVEL, over=False)
        if number < axis:
            start = column + 2 if column + 2 + len(label) <= columns else column - 1 - len(label)
            canvas.write(number, start, label, LEVEL)


def _draw_axis(canvas: Canvas, scale: Scale, row: int, unit: str) -> None:
    columns = canvas.codes.shape[1]
    canvas.write(row, 0, ("-" if canvas.mode == "ascii" else "─") * columns, AXIS)
    values = ticks(scale, max(2, columns // 10))
    for value, text in zip(values, labels(values, log=False), strict=True):
        column = _cell(value, scale, columns)
        if column is not None:
            text += unit
            canvas.write(row, max(0, min(column - (len(text) - 1) // 2, columns - len(text))), text, LABEL)


def _cell(value: float, scale: Scale, columns: int) -> int | None:
    unit = scale.place(value)
    return min(columns - 1, int(unit * columns)) if 0 <= unit <= 1 else None
