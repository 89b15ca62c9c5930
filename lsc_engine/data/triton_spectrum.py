"""The images of `spectrum` on a GPU: hashes and waves in one Triton kernel, the Fourier transform, and the colours in
another. The same numbers as spectrum.images, up to rounding; imported where images are made on CUDA."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lsc_engine.data import hashing

_GAMMA = tl.constexpr(hashing.GAMMA)
_BLOCK = 1024


@triton.jit
def _mix(x):
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


@triton.jit
def _keyed(counter, secret):
    return _mix((counter ^ secret) * _GAMMA + _GAMMA)


@triton.jit
def _number(style, place):
    """hashing.uniform of word `place`."""
    counter = tl.full((), place + 1, tl.int64)
    return ((_mix(style + counter * _GAMMA) >> 40) & 0xFFFFFF).to(tl.float32) * (1.0 / (1 << 24))


@triton.jit
def _power(base, exponent):
    known = tl.maximum(base, 1).to(tl.float64)
    return tl.where(base == 0, 0.0, tl.exp(exponent * tl.log(known)))


@triton.jit
def _amplitude(row, column, across, along, SIZE: tl.constexpr):
    """1 / (row^along + column^across) in float64, 0 at the origin; rows count from both ends."""
    power = _power(tl.minimum(row, SIZE - row), along) + _power(column, across)
    return tl.where(power > 0, 1.0 / tl.where(power > 0, power, 1.0), 0.0)


@triton.jit
def _phase(phase, circle_at, element, inside):
    """Cosine and sine of the 16 bits `element` of the hashes of `phase`, by the table of spectrum._circle."""
    bits = (_mix(phase + (element // 4 + 1).to(tl.int64) * _GAMMA) >> (16 * (element % 4)).to(tl.int64)) & 0xFFFF
    entry = circle_at + 2 * (bits ^ 0x8000)
    return tl.load(entry, mask=inside, other=0.0), tl.load(entry + 1, mask=inside, other=0.0)


@triton.jit
def _waves(label_at, index_at, circle_at, out_at, style_key, phase_key, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """One plane of one image: its Fourier coefficients [SIZE, HALF, 2], for an inverse transform that divides by
    nothing."""
    HALF: tl.constexpr = SIZE // 2 + 1
    PLACES: tl.constexpr = SIZE * HALF
    image, plane = tl.program_id(0).to(tl.int64), tl.program_id(1)
    style = _keyed(tl.load(label_at + image), style_key)
    phase = _keyed(tl.load(index_at + image), phase_key)
    across = (0.5 + 3.0 * _number(style, 0)).to(tl.float64)
    along = (0.5 + 3.0 * _number(style, 1)).to(tl.float64)
    energies = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, PLACES, BLOCK):
        place = first + tl.arange(0, BLOCK)
        row, column = place // HALF, place % HALF
        edge = (column == 0) | (2 * column == SIZE)
        amplitude = _amplitude(tl.minimum(row, SIZE - 1), column, across, along, SIZE)
        energies += tl.where(place < PLACES, amplitude * amplitude * tl.where(edge, 1.0, 2.0), 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(energies, 0))
    for first in range(0, PLACES, BLOCK):
        place = first + tl.arange(0, BLOCK)
        inside = place < PLACES
        row, column = tl.minimum(place // HALF, SIZE - 1), place % HALF
        amplitude = (_amplitude(row, column, across, along, SIZE) * scale).to(tl.float32)
        cosine, sine = _phase(phase, circle_at, plane * PLACES + place, inside)
        # A real image has symmetric edges: the mean with the mirrored conjugate, as long as before on average.
        edge = (column == 0) | (2 * column == SIZE)
        mirror = ((SIZE - row) % SIZE) * HALF + column
        other_cosine, other_sine = _phase(phase, circle_at, plane * PLACES + mirror, inside & edge)
        cosine = tl.where(edge, (cosine + other_cosine) * 0.7071067811865476, cosine)
        sine = tl.where(edge, (sine - other_sine) * 0.7071067811865476, sine)
        out = out_at + 2 * ((image * 3 + plane) * PLACES + place)
        tl.store(out, cosine * amplitude, mask=inside)
        tl.store(out + 1, sine * amplitude, mask=inside)


@triton.jit
def _colours(label_at, planes_at, out_at, style_key, PIXELS: tl.constexpr, BLOCK: tl.constexpr):
    """Planes [3, PIXELS] float32 -> colours [3, PIXELS] uint8, a block of the pixels of one image."""
    image = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < PIXELS
    style = _keyed(tl.load(label_at + image), style_key)
    at = image * 3 * PIXELS + pixel
    one = tl.load(planes_at + at, mask=inside, other=0.0)
    two = tl.load(planes_at + at + PIXELS, mask=inside, other=0.0)
    three = tl.load(planes_at + at + 2 * PIXELS, mask=inside, other=0.0)
    contrast = 255.0 * (0.12 + 0.16 * _number(style, 2))
    for channel in tl.static_range(3):
        first = tl.abs(_number(style, 6 + 3 * channel) * 1.4 - 0.7) + 0.6
        second = _number(style, 7 + 3 * channel) * 1.4 - 0.7
        third = _number(style, 8 + 3 * channel) * 1.4 - 0.7
        scale = contrast / tl.sqrt(first * first + second * second + third * third)
        colour = one * (first * scale) + two * (second * scale) + three * (third * scale)
        colour += 255.0 * (0.25 + 0.5 * _number(style, 3 + channel))
        # Adding 1.5 * 2^23 leaves no digits below 1: rounded, halves to even numbers.
        colour = tl.minimum(tl.maximum((colour + 12582912.0) - 12582912.0, 0.0), 255.0)
        tl.store(out_at + at + channel * PIXELS, colour.to(tl.uint8), mask=inside)


def images(label: Tensor, index: Tensor, style_key: int, phase_key: int, circle: Tensor, size: int) -> Tensor:
    """The images numbered `index` [B] int64 with the styles of `label` [B] int64, uint8 [B, 3, size, size].

    `circle` [65536, 2] float32 on their device: the cosine and sine that each 16-bit phase names.
    """
    count = len(index)
    waves = torch.empty((count, 3, size, size // 2 + 1, 2), device=index.device)
    colours = torch.empty((count, 3, size, size), dtype=torch.uint8, device=index.device)
    if not count:
        return colours
    pixels = size * size
    with torch.cuda.device_of(index):
        _waves[(count, 3)](label, index, circle, waves, style_key, phase_key, SIZE=size, BLOCK=_BLOCK)
        planes = torch.fft.irfft2(torch.view_as_complex(waves), s=(size, size), norm="forward")
        grid = (count, triton.cdiv(pixels, _BLOCK))
        _colours[grid](label, planes, colours, style_key, PIXELS=pixels, BLOCK=_BLOCK)
    return colours


def trial() -> None:
    """Build the kernels and run them once. Whatever Triton raises where that fails."""
    index = torch.zeros(1, dtype=torch.int64, device="cuda")
    images(index, index, 0, 0, torch.zeros((65536, 2), device="cuda"), 4)
    torch.cuda.synchronize()
