"""Pictures of the embeddings of a run: points in the plane (n = 2) and on the sphere (n = 3), and histograms of angles.
A braille dot is taken for a square, so that circles are round. A cell has one colour: that of most of its points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lsc_engine.charts.canvas import AXIS, LABEL, LEVEL, PIXELS, Bools, Canvas, Floats, Ints, Mode, Rows, series_style
from lsc_engine.charts.scales import Scale, labels, ticks

# Braille dots of a cell, across and down: the unit of length in which a picture is laid out.
_DOTS = (2, 4)
# Distance of the dots of a circle.
_GAP = 3.0


@dataclass(frozen=True)
class Tag:
    """A short text in the middle of which a place lies: the name of a class at its centre."""

    at: tuple[float, ...]
    text: str
    colour: int


@dataclass(frozen=True)
class Camera:
    """How the sphere is turned (degrees) and how near everything is."""

    azimuth: float = 30.0
    elevation: float = 20.0
    zoom: float = 1.0
    x: float = 0.0
    y: float = 0.0


class _Board:
    """A canvas with the scale of the picture: `unit` dots are the length 1."""

    def __init__(self, width: int, height: int, extent: float, camera: Camera, mode: Mode) -> None:
        self.canvas = Canvas(width, height, mode)
        rows, columns = self.canvas.codes.shape
        self.wide, self.high = columns * _DOTS[0], rows * _DOTS[1]
        half = max(1.0, min(self.wide, self.high) / 2 - 2)
        extent = extent if math.isfinite(extent) and extent > 0 else 1.0
        self.unit, self.camera = half / extent * camera.zoom, camera

    def _places(self, x: Floats, y: Floats, cell: tuple[int, int]) -> tuple[Ints, Ints, Bools]:
        """Column and row, in parts of a cell, of the places in the plane that are on the canvas, and which are."""
        with np.errstate(all="ignore"):
            across = self.wide / 2 + (x - self.camera.x) * self.unit
            down = self.high / 2 - (y - self.camera.y) * self.unit
            good = (across >= 0) & (across < self.wide) & (down >= 0) & (down < self.high)
        columns, rows = across[good] * cell[0] / _DOTS[0], down[good] * cell[1] / _DOTS[1]
        return columns.astype(np.int64), rows.astype(np.int64), good

    def _grid(self, column: Ints, row: Ints) -> Bools:
        pixels = np.zeros(self.canvas.pixels[::-1], bool)
        pixels[row, column] = True
        return pixels

    def points(self, x: Floats, y: Floats, colour: Ints, dim: Bools) -> None:
        """Draw points over what is there; dim ones only where no bright one is."""
        rows, columns = self.canvas.codes.shape
        wide, tall = PIXELS[self.canvas.mode]
        px, py, good = self._places(x, y, (wide, tall))
        dim, colour = dim[good], colour[good]
        cell = (py // tall) * columns + px // wide
        bright, faint = np.zeros((2, rows * columns), bool)
        bright[cell[~dim]] = True
        seen = ~dim | ~bright[cell]
        cell, dim, colour = cell[seen], dim[seen], colour[seen]
        if not cell.size:
            return
        kinds = int(colour.max()) + 1
        counts = np.bincount(cell * kinds + colour, minlength=rows * columns * kinds).reshape(rows, columns, kinds)
        faint[cell[dim]] = True
        faint = faint.reshape(rows, columns)
        pixels = self._grid(px[seen], py[seen])
        styles = series_style(0) + 2 * counts.argmax(2) + faint
        self.canvas.stamp(pixels, styles)
        if self.canvas.mode == "ascii":
            self.canvas.stamp(pixels, styles, sign=":", on=faint)

    def line(self, x: Floats, y: Floats) -> None:
        """Faint dots of the axis' colour, where nothing is drawn yet."""
        px, py, _ = self._places(x, y, PIXELS[self.canvas.mode])
        free = (self.canvas.codes == 32) | (self.canvas.styles == AXIS)
        self.canvas.stamp(self._grid(px, py), AXIS, sign=".", on=free, join=self.canvas.codes >= 0x2800)

    def circle(self, x: float, y: float, radius: float) -> None:
        """A circle of faint dots."""
        around = 2 * math.pi * abs(radius) * self.unit
        if math.isfinite(around) and 12 <= around <= 1e5:
            angle = np.linspace(0, 2 * math.pi, round(around / _GAP), endpoint=False)
            self.line(x + radius * np.cos(angle), y + radius * np.sin(angle))

    def tag(self, x: float, y: float, text: str, style: int) -> None:
        """A text whose middle lies there."""
        column, row, good = self._places(np.array([x]), np.array([y]), (1, 1))
        if good[0]:
            self.canvas.write(int(row[0]), int(column[0]) - (len(text) - 1) // 2, text, style)


def plane(
    z: Floats,
    colour: Ints,
    width: int,
    height: int,
    *,
    extent: float,
    camera: Camera | None = None,
    mode: Mode = "braille",
    tags: Sequence[Tag] = (),
    circles: Sequence[tuple[float, float, float]] = (),
) -> Rows:
    """Points z [N, 2] with colours [N] in width x height cells; `extent` from the middle to the nearer edge at zoom 1.
    `circles`: x, y, radius of faint circles below the points. Never raises for any values and any size."""
    board = _Board(width, height, extent, camera or Camera(), mode)
    for x, y, radius in circles:
        board.circle(x, y, radius)
    board.tag(0.0, 0.0, "+" if mode == "ascii" else "·", AXIS)
    board.points(z[:, 0], z[:, 1], colour, np.zeros(len(z), bool))
    for tag in tags:
        board.tag(tag.at[0], tag.at[1], tag.text, series_style(tag.colour))
    return board.canvas.rows()


def turned(directions: Floats, camera: Camera) -> Floats:
    """Unit vectors [N, 3] as seen by the camera: to the right, upwards, towards the eye."""
    a, e = math.radians(camera.azimuth), math.radians(camera.elevation)
    towards = math.cos(a) * directions[:, 0] + math.sin(a) * directions[:, 1]
    right = -math.sin(a) * directions[:, 0] + math.cos(a) * directions[:, 1]
    up = -math.sin(e) * towards + math.cos(e) * directions[:, 2]
    return np.stack([right, up, math.cos(e) * towards + math.sin(e) * directions[:, 2]], 1)


def sphere(
    z: Floats,
    colour: Ints,
    width: int,
    height: int,
    *,
    camera: Camera | None = None,
    mode: Mode = "braille",
    tags: Sequence[Tag] = (),
) -> Rows:
    """Directions of points z [N, 3] with colours [N] on the unit sphere, seen from far away; what lies behind is dim.
    Points at 0 have no direction and are left out. Never raises for any values and any size."""
    camera = camera or Camera()
    board = _Board(width, height, 1.0, camera, mode)
    board.circle(0.0, 0.0, 1.0)
    angle = np.linspace(0, 2 * math.pi, max(8, round(2 * math.pi * min(board.unit, 1e4) / _GAP)), endpoint=False)
    x, y, flat = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    for ring in ((x, y, flat), (x, flat, y), (flat, x, y)):
        seen = turned(np.stack(ring, 1), camera)
        seen = seen[seen[:, 2] > 0]
        board.line(seen[:, 0], seen[:, 1])
    views = turned(_directions(z), camera)
    board.points(views[:, 0], views[:, 1], colour, views[:, 2] < 0)
    places = turned(_directions(np.array([tag.at for tag in tags], float).reshape(-1, 3)), camera)
    for i in np.argsort(places[:, 2]).tolist():
        behind = bool(places[i, 2] < 0)
        board.tag(float(places[i, 0]), float(places[i, 1]), tags[i].text, series_style(tags[i].colour, behind))
    return board.canvas.rows()


def _directions(z: Floats) -> Floats:
    with np.errstate(all="ignore"):
        length = np.linalg.norm(z, axis=1, keepdims=True)
        return np.where((length > 0) & np.isfinite(length), z / length, np.nan)


def mirrored_histogram(
    up: npt.ArrayLike,
    down: npt.ArrayLike,
    width: int,
    height: int,
    *,
    lo: float,
    hi: float,
    mode: Mode = "braille",
    names: tuple[str, str] = ("", ""),
    marks: Sequence[tuple[float, str]] = (),
    unit: str = "",
) -> Rows:
    """Two histograms over one axis, one upwards and one downwards: what can overlap is never hidden. Counts per bin of
    width 1, the first from 0, over [lo, hi] in width x height cells; each side has its own height. `names` stand at the
    right of each side, in its colour (0 and 1); `marks` are x values with a label, drawn as lines. Never raises for any
    counts and any size."""
    canvas = Canvas(width, height, mode)
    rows, columns = canvas.codes.shape
    scale = Scale.over(lo, hi)
    axis, below = (rows // 2, rows - 1 - rows // 2) if rows > 2 else (0, 0)
    wide, tall = canvas.pixels[0], PIXELS[mode][1]
    edges = np.linspace(scale.lo, scale.hi, wide + 1)
    for colour, (counts, size, first) in enumerate(((up, axis, 0), (down, below, axis + 1))):
        # The share of the counts in each column of pixels; a bin is spread evenly over its width.
        total = np.cumsum(np.maximum(np.nan_to_num(np.asarray(counts, np.float64)), 0))
        shares = np.diff(np.interp(edges, np.arange(total.size + 1), np.concatenate(([0.0], total))))
        if size and shares.any():
            side = np.arange(size * tall)[:, None] < np.ceil(shares / shares.max() * size * tall - 1e-9)
            pixels = np.zeros((rows * tall, wide), bool)
            pixels[first * tall : (first + size) * tall] = side[::-1] if colour == 0 else side
            canvas.stamp(pixels, series_style(colour))

    def cell(value: float) -> int | None:
        place = scale.place(value)
        return min(columns - 1, int(place * columns)) if 0 <= place <= 1 else None

    for number, (value, label) in enumerate(marks):
        if (column := cell(value)) is not None:
            free = (canvas.codes[:, column] == 32) & (np.arange(rows) != axis)
            canvas.codes[free, column], canvas.styles[free, column] = ord(":" if mode == "ascii" else "┊"), LEVEL
            if number < axis:
                start = column + 2 if column + 2 + len(label) <= columns else column - 1 - len(label)
                canvas.write(number, start, label, LEVEL)
    canvas.write(axis, 0, ("-" if mode == "ascii" else "─") * columns, AXIS)
    values = ticks(scale, max(2, columns // 10))
    for value, text in zip(values, labels(values, log=False), strict=True):
        if (column := cell(value)) is not None:
            text += unit
            canvas.write(axis, max(0, min(column - (len(text) - 1) // 2, columns - len(text))), text, LABEL)
    for name, row, colour in ((names[0], 0, 0), (names[1], rows - 1, 1)) if rows > 2 else ():
        canvas.write(row, columns - len(name[:columns]), name[:columns], series_style(colour))
    return canvas.rows()
