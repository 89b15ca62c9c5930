"""Points in the plane and on the sphere as cells: the embeddings of a run for n = 2 and n = 3.

Pure functions from numbers to rows of styled cells, like `draw`. A braille dot is taken for a square, as it is in usual
terminal fonts, so that circles are round. A cell has one colour: that of most of its points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lsc_engine.charts.frame import AXIS, Canvas, Run, series_style
from lsc_engine.charts.raster import PIXELS, Mode, glyphs, pack
from lsc_engine.charts.scales import Floats

Rows = tuple[tuple[Run, ...], ...]
# Braille dots of a cell, across and down: the unit of length in which a picture is laid out.
_DOTS = (2, 4)
# Dots of a circle lie so far apart.
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


@dataclass
class _Dots:
    """Points to be drawn, in dots from the upper left corner."""

    x: Floats
    y: Floats
    colour: npt.NDArray[np.int64]
    dim: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


class _Board:
    """A canvas with the scale of the picture: `unit` dots are the length 1."""

    def __init__(self, width: int, height: int, extent: float, camera: Camera, mode: Mode) -> None:
        self.canvas, self.mode = Canvas(max(1, width), max(1, height)), mode
        rows, columns = self.canvas.codes.shape
        self.wide, self.high = columns * _DOTS[0], rows * _DOTS[1]
        half = max(1.0, min(self.wide, self.high) / 2 - 2)
        extent = extent if math.isfinite(extent) and extent > 0 else 1.0
        self.unit, self.camera = half / extent * camera.zoom, camera

    def place(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Dots of places in the plane."""
        with np.errstate(all="ignore"):
            across = self.wide / 2 + (x - self.camera.x) * self.unit
            down = self.high / 2 - (y - self.camera.y) * self.unit
        return across, down

    def put(self, dots: _Dots) -> None:
        """Draw points over what is there; dim ones only where no bright one is."""
        rows, columns = self.canvas.codes.shape
        across, down = PIXELS[self.mode]
        with np.errstate(all="ignore"):
            good = (dots.x >= 0) & (dots.x < self.wide) & (dots.y >= 0) & (dots.y < self.high)
        px = (dots.x[good] * across / _DOTS[0]).astype(np.int64)
        py = (dots.y[good] * down / _DOTS[1]).astype(np.int64)
        dim, colour = dots.dim[good], dots.colour[good]
        cell = (py // down) * columns + px // across
        bright = np.zeros(rows * columns, bool)
        bright[cell[~dim]] = True
        seen = ~dim | ~bright[cell]
        px, py, cell, dim, colour = px[seen], py[seen], cell[seen], dim[seen], colour[seen]
        if not cell.size:
            return
        pixels = np.zeros((rows * down, columns * across), bool)
        pixels[py, px] = True
        bits = pack(pixels, self.mode)
        codes = glyphs(bits, self.mode)
        kinds = int(colour.max()) + 1
        counts = np.bincount(cell * kinds + colour, minlength=rows * columns * kinds).reshape(rows, columns, kinds)
        faint = np.zeros(rows * columns, bool)
        faint[cell[dim]] = True
        faint = faint.reshape(rows, columns)
        if self.mode == "ascii":
            codes = np.where((bits > 0) & faint, np.uint32(ord(":")), codes)
        drawn = bits > 0
        self.canvas.codes[drawn] = codes[drawn]
        self.canvas.styles[drawn] = (series_style(0) + 2 * counts.argmax(2) + faint)[drawn]

    def line(self, x: Floats, y: Floats) -> None:
        """Faint dots of the axis' colour, where nothing is drawn yet."""
        across, down = self.place(x, y)
        with np.errstate(all="ignore"):
            good = (across >= 0) & (across < self.wide) & (down >= 0) & (down < self.high)
        if not good.any():
            return
        dots = (PIXELS[self.mode][0] / _DOTS[0], PIXELS[self.mode][1] / _DOTS[1])
        rows, columns = self.canvas.codes.shape
        pixels = np.zeros((rows * PIXELS[self.mode][1], columns * PIXELS[self.mode][0]), bool)
        pixels[(down[good] * dots[1]).astype(int), (across[good] * dots[0]).astype(int)] = True
        bits = pack(pixels, self.mode)
        free = (bits > 0) & ((self.canvas.codes == 32) | (self.canvas.styles == AXIS))
        if self.mode == "braille":
            bits = np.where(self.canvas.codes >= 0x2800, bits | (self.canvas.codes & 0xFF).astype(np.uint8), bits)
        codes = glyphs(bits, self.mode)
        self.canvas.codes[free] = np.uint32(ord(".")) if self.mode == "ascii" else codes[free]
        self.canvas.styles[free] = AXIS

    def circle(self, x: float, y: float, radius: float) -> None:
        """A circle of faint dots."""
        around = 2 * math.pi * abs(radius) * self.unit
        if not math.isfinite(around) or around < 12 or around > 1e5:
            return
        angle = np.linspace(0, 2 * math.pi, round(around / _GAP), endpoint=False)
        self.line(x + radius * np.cos(angle), y + radius * np.sin(angle))

    def tag(self, x: float, y: float, text: str, style: int) -> None:
        """A text whose middle lies there."""
        across, down = (float(v[0]) for v in self.place(np.array([x]), np.array([y])))
        if 0 <= across < self.wide and 0 <= down < self.high:
            column = int(across / _DOTS[0]) - (len(text) - 1) // 2
            self.canvas.write(int(down / _DOTS[1]), column, text, style)


def plane(z: Floats, colour: npt.NDArray[np.int64], width: int, height: int, *, extent: float,
          camera: Camera | None = None, mode: Mode = "braille", tags: Sequence[Tag] = (),
          circles: Sequence[tuple[float, float, float]] = ()) -> Rows:  # fmt: skip
    """Points z [N, 2] with colours [N] in width x height cells; `extent` from the middle to the nearer edge at zoom 1.

    `circles`: x, y, radius of faint circles below the points. Never raises for any values and any size.
    """
    board = _Board(width, height, extent, camera or Camera(), mode)
    for x, y, radius in circles:
        board.circle(x, y, radius)
    board.tag(0.0, 0.0, "+" if mode == "ascii" else "·", AXIS)
    across, down = board.place(z[:, 0], z[:, 1])
    board.put(_Dots(across, down, colour, np.zeros(len(z), bool)))
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


def sphere(z: Floats, colour: npt.NDArray[np.int64], width: int, height: int, *, camera: Camera | None = None,
           mode: Mode = "braille", tags: Sequence[Tag] = ()) -> Rows:  # fmt: skip
    """Directions of points z [N, 3] with colours [N] on the unit sphere, seen from far away; what lies behind is dim.

    Points at 0 have no direction and are left out. Never raises for any values and any size.
    """
    camera = camera or Camera()
    board = _Board(width, height, 1.0, camera, mode)
    board.circle(0.0, 0.0, 1.0)
    angle = np.linspace(0, 2 * math.pi, max(8, round(2 * math.pi * min(board.unit, 1e4) / _GAP)), endpoint=False)
    flat = np.zeros_like(angle)
    for ring in ((np.cos(angle), np.sin(angle), flat), (np.cos(angle), flat, np.sin(angle)),
                 (flat, np.cos(angle), np.sin(angle))):  # fmt: skip
        seen = turned(np.stack(ring, 1), camera)
        seen = seen[seen[:, 2] > 0]
        board.line(seen[:, 0], seen[:, 1])
    views = turned(_directions(z), camera)
    across, down = board.place(views[:, 0], views[:, 1])
    board.put(_Dots(across, down, colour, views[:, 2] < 0))
    places = turned(_directions(np.array([tag.at for tag in tags], float).reshape(-1, 3)), camera)
    for i in np.argsort(places[:, 2]).tolist():
        behind = bool(places[i, 2] < 0)
        board.tag(float(places[i, 0]), float(places[i, 1]), tags[i].text, series_style(tags[i].colour, behind))
    return board.canvas.rows()


def _directions(z: Floats) -> Floats:
    with np.errstate(all="ignore"):
        length = np.linalg.norm(z, axis=1, keepdims=True)
        return np.where((length > 0) & np.isfinite(length), z / length, np.nan)
