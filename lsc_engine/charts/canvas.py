"""Cells under construction, and pixels in them: braille (2 x 4 pixels a cell), quadrant blocks (2 x 2) or ASCII. A
finished row is a list of runs, each a text and a style number, which the caller turns into colours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Mode = Literal["braille", "block", "ascii"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Style numbers; a series has FIRST_SERIES + 2 * colour, plus 1 if it is dim.
BLANK, AXIS, LABEL, LEVEL, CURSOR, MARK = range(6)
FIRST_SERIES = 16
# Pixels per cell, across and down.
PIXELS: dict[str, tuple[int, int]] = {"braille": (2, 4), "block": (2, 2), "ascii": (1, 1)}
# Bit of each pixel in a cell, row by row, as Unicode numbers the braille dots.
_BITS: dict[str, npt.NDArray[np.uint8]] = {
    "braille": np.array([[1, 8], [2, 16], [4, 32], [64, 128]], np.uint8),
    "block": np.array([[1, 2], [4, 8]], np.uint8),
    "ascii": np.array([[1]], np.uint8),
}
_QUADRANTS = np.array([ord(c) for c in " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"], np.uint32)


def series_style(colour: int, dim: bool = False) -> int:
    """The style number of a series."""
    return FIRST_SERIES + 2 * colour + int(dim)


@dataclass(frozen=True)
class Run:
    """Neighbouring cells of one style."""

    text: str
    style: int


Rows = tuple[tuple[Run, ...], ...]


class Canvas:
    """Code points and style numbers of cells [height, width], at least one."""

    def __init__(self, width: int, height: int, mode: Mode = "braille") -> None:
        self.codes: npt.NDArray[np.uint32] = np.full((max(1, height), max(1, width)), 32, np.uint32)
        self.styles: npt.NDArray[np.int64] = np.zeros(self.codes.shape, np.int64)
        self.mode = mode

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height in pixels."""
        (height, width), (across, down) = self.codes.shape, PIXELS[self.mode]
        return width * across, height * down

    def write(self, row: int, column: int, text: str, style: int, *, over: bool = True) -> None:
        """Put text into a row, cut at the edges; without `over` only where nothing stands."""
        height, width = self.codes.shape
        if not 0 <= row < height:
            return
        for i, char in enumerate(text, column):
            if 0 <= i < width and (over or self.codes[row, i] == 32):
                self.codes[row, i], self.styles[row, i] = ord(char), style

    def stamp(
        self, pixels: Bools, style: int | Ints, *, sign: str = "*", on: Bools | None = None, join: Bools | None = None
    ) -> None:
        """Draw pixels of the whole canvas in one style, or one for each cell; `sign` stands for a cell in ASCII. `on`:
        the cells that may be drawn over; `join`: those whose braille dots stay beside the new ones."""
        across, down = PIXELS[self.mode]
        bits = np.zeros(self.codes.shape, np.uint8)
        for r, c in itertools.product(range(down), range(across)):
            bits |= np.where(pixels[r::down, c::across], _BITS[self.mode][r, c], np.uint8(0))
        drawn = bits > 0 if on is None else (bits > 0) & on
        if self.mode == "braille":
            dots = bits if join is None else np.where(join, bits | (self.codes & 0xFF).astype(np.uint8), bits)
            codes = dots.astype(np.uint32) + 0x2800
        else:
            codes = _QUADRANTS[bits] if self.mode == "block" else np.full(bits.shape, ord(sign), np.uint32)
        self.codes[drawn] = codes[drawn]
        self.styles[drawn] = style if isinstance(style, int) else style[drawn]

    def rows(self) -> Rows:
        """The finished cells."""
        out = []
        for codes, styles in zip(self.codes, self.styles, strict=True):
            text = codes.astype("<u4").tobytes().decode("utf-32-le")
            edges = [0, *(1 + np.flatnonzero(np.diff(styles))).tolist(), len(text)]
            out.append(tuple(Run(text[a:b], int(styles[a])) for a, b in itertools.pairwise(edges)))
        return tuple(out)
