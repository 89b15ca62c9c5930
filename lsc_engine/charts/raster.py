"""Pixels to characters: braille (2 x 4 pixels a cell), quadrant blocks (2 x 2) or plain ASCII (1 x 1)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from lsc_engine.charts.reduction import Spans

Mode = Literal["braille", "block", "ascii"]
Bits = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint32]

# Pixels per cell, across and down.
PIXELS: dict[str, tuple[int, int]] = {"braille": (2, 4), "block": (2, 2), "ascii": (1, 1)}

# Bit of each pixel in a cell, row by row, as Unicode numbers the braille dots.
_BRAILLE_BITS = np.array([[1, 8], [2, 16], [4, 32], [64, 128]], np.uint8)
_BLOCK_BITS = np.array([[1, 2], [4, 8]], np.uint8)
_QUADRANTS = np.array([ord(c) for c in " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"], np.uint32)


def fill(spans: Spans, width: int, height: int) -> npt.NDArray[np.bool_]:
    """Pixels [height, width] covered by the strokes: +1 where one starts, -1 below its end, summed down."""
    size = (height + 1) * width
    starts = np.bincount(spans.top * width + spans.column, minlength=size)
    ends = np.bincount((spans.bottom + 1) * width + spans.column, minlength=size)
    covered = np.cumsum((starts - ends).reshape(height + 1, width), axis=0)
    return np.asarray(covered[:height] > 0)


def pack(pixels: npt.NDArray[np.bool_], mode: Mode) -> Bits:
    """Cells [rows, columns] of pixel bits: pixels [rows * down, columns * across] in the mode's cells."""
    across, down = PIXELS[mode]
    rows, columns = pixels.shape[0] // down, pixels.shape[1] // across
    if mode == "ascii":
        return pixels.astype(np.uint8)
    bits = _BRAILLE_BITS if mode == "braille" else _BLOCK_BITS
    out = np.zeros((rows, columns), np.uint8)
    for r in range(down):
        for c in range(across):
            out |= np.where(pixels[r::down, c::across], bits[r, c], np.uint8(0))
    return out


def glyphs(bits: Bits, mode: Mode) -> Codes:
    """Code points of the cells; an empty cell is a space."""
    if mode == "braille":
        return np.where(bits > 0, bits.astype(np.uint32) + 0x2800, np.uint32(32))
    if mode == "block":
        return np.asarray(_QUADRANTS[bits])
    return np.where(bits > 0, np.uint32(ord("*")), np.uint32(32))


def stipple(pixels: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Every other pixel, for areas that must not hide what is on them."""
    rows, columns = np.arange(pixels.shape[0])[:, None], np.arange(pixels.shape[1])
    return np.asarray(pixels & ((rows + columns) % 2 == 0))
