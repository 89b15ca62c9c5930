"""The Triton kernels in Triton's interpreter on the CPU: `TRITON_INTERPRET=1 python kernels.py`, JSON on stdout."""

from __future__ import annotations

import json

import torch

from lsc_engine.data import hashing, triton_spectrum
from lsc_engine.data.datasets import spectrum
from lsc_engine.heads import triton_scan
from lsc_engine.vectors import triton_bijection
from lsc_engine.vectors.bijection import Bijection

COUNTS = (1, 2, 1000, 1_281_167, 2**40 + 1, 2**63 - 1, 2**63)
SIZES = (7, 16, 32)
CPU = torch.device("cpu")


def bijections_that_differ() -> list[int]:
    """The counts at which the kernel does not map 1 200 numbers, there and back, as the host does."""
    differ = []
    for count in COUNTS:
        bijection = Bijection(count, 3, "order")
        numbers = torch.randint(0, min(count, 2**62), (3, 400), generator=torch.Generator().manual_seed(0))
        there, back = (bijection._keys_on(CPU, direction) for direction in (1, -1))
        mapped = triton_bijection.mapped(numbers, there)
        if not (mapped.equal(bijection(numbers)) and triton_bijection.mapped(mapped, back).equal(numbers)):
            differ.append(count)
    return differ


def spectra() -> dict[int, list[float]]:
    """By image size: the largest difference of waves, as a share of the largest wave, the largest difference of grey
    levels, and the share of values that differ."""
    style, phase = hashing.key("spectrum", "style", "image"), hashing.key("spectrum", "phase", "train")
    index = torch.tensor([0, 77, 10**12])
    circle = torch.view_as_real(spectrum._circle(CPU))
    found = {}
    for size in SIZES:
        keys = hashing.keyed(index, style), hashing.keyed(index, phase)
        made, want = triton_spectrum.images(index, index, style, phase, circle, size), spectrum.images(*keys, size)
        grey = (made.int() - want.int()).abs()

        half = size // 2 + 1
        waves = torch.empty((len(index), 3, size, half, 2))
        grid, block = (len(index), 3), triton_spectrum._BLOCK
        triton_spectrum._waves[grid](index, index, circle, waves, style, phase, SIZE=size, BLOCK=block)
        numbers = hashing.uniform(hashing.words(keys[0], spectrum._PARAMETERS))
        amplitude = spectrum._amplitude(0.5 + 3.0 * numbers[:, 0], 0.5 + 3.0 * numbers[:, 1], size) / size**2
        bits = hashing.words(keys[1], (3 * size * half + 3) // 4).view(torch.int16)[:, : 3 * size * half]
        expected = spectrum._circle(CPU)[bits.int() + 32768].view(-1, 3, size, half) * amplitude.unsqueeze(1)
        # The columns at the edge are made symmetric.
        within = slice(1, half - 1 if size % 2 == 0 else half)
        wrong = (torch.view_as_complex(waves) - expected)[..., within].abs().max() / expected.abs().max()
        found[size] = [wrong.item(), float(grey.max()), (grey > 0).float().mean().item()]
    return found


def scans() -> list[list[int]]:
    """Shapes (classes, numbers of a class, embeddings) at which a class found has not the largest sum."""
    differ = []
    generator = torch.Generator().manual_seed(0)
    for classes, each, count in ((1, 1, 1), (5000, 3, 70), (4096, 2, 64)):
        rows = torch.randn(50, count, generator=generator)
        numbers = torch.randint(0, 50, (classes, each), generator=generator, dtype=torch.int32)
        value, label = triton_scan.best(numbers, rows)
        sums = rows[numbers.long()].sum(1)
        right = torch.allclose(value, sums.amax(0), atol=1e-6)
        if not (right and torch.allclose(sums.gather(0, label[None])[0], value, atol=1e-6)):
            differ.append([classes, each, count])
    return differ


if __name__ == "__main__":
    print(json.dumps({"bijection": bijections_that_differ(), "spectrum": spectra(), "scan": scans()}))
