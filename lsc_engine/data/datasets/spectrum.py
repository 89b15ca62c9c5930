"""The data set `spectrum`: procedural colour images with a 1/f^alpha amplitude spectrum, made from their index.

In the sense of "Learning to see by looking at noise" (Baradad et al. 2021, arXiv:2106.05963, section "Spectrum"):

    |F(u, v)| = 1 / (|u|^a + |v|^b),   a, b ~ U(0.5, 3.5),   phases uniform,

three such planes mixed into colours by a random matrix. All random numbers are hashes: exponents, colours and contrast
of the index with unique labels and of the class with labels by class, phases always of the image. The bits do not
depend on the batch of an image; between kinds of device they may differ by one grey level.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

from lsc_engine.common.deferred import Tensor, torch, triton_kernels
from lsc_engine.common.errors import UsageError
from lsc_engine.common.userpaths import user_path
from lsc_engine.data import hashing
from lsc_engine.data.dataset import Counts, DataSet, Facts, Place, Report, Selection
from lsc_engine.data.source import ImageSource
from lsc_engine.registry import DATASETS

TRAIN_PER_CLASS, VAL_PER_CLASS = 100, 20
_SIZE = 32
# Values worked on at once: what a CPU's cache holds (2 to 3 times faster than a whole batch at 64 px and more), or
# under 1 GB of a GPU.
_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}
_PARAMETERS = 18  # two exponents, contrast, three mean colours, nine mixing weights; the rest is spare


def images(style: Tensor, phase: Tensor, size: int) -> Tensor:
    """[B] int64 style keys and [B] int64 phase keys -> uint8 [B, 3, size, size] on their device."""
    half = size // 2 + 1
    numbers = hashing.uniform(hashing.words(style, _PARAMETERS))
    amplitude = _amplitude(0.5 + 3.0 * numbers[:, 0], 0.5 + 3.0 * numbers[:, 1], size)
    count = 3 * size * half
    bits = hashing.words(phase, (count + 3) // 4).view(torch.int16)[:, :count]
    waves = _circle(style.device)[bits.to(torch.int32) + 32768].view(-1, 3, size, half) * amplitude.unsqueeze(1)
    columns = torch.fft.ifft(waves, dim=-2)
    # A real image needs real sums in the columns that are their own mirror; libraries differ in what they do otherwise.
    edges = [0, half - 1] if size % 2 == 0 else [0]
    for edge in edges:
        columns[..., edge] = columns[..., edge].real * math.sqrt(2.0) + 0j
    planes = torch.fft.irfft(columns, n=size, dim=-1)
    contrast = 255.0 * (0.12 + 0.16 * numbers[:, 2])
    mean = 255.0 * (0.25 + 0.5 * numbers[:, 3:6])
    return _coloured(planes, _mixing(numbers[:, 6:15]) * contrast[:, None, None], mean)


def _amplitude(across: Tensor, along: Tensor, size: int) -> Tensor:
    """Exponents [B], [B] -> amplitudes [B, size, size // 2 + 1] for which a plane has variance 1 on average."""
    # In float64, rounded to float32 at the end: vector and scalar code for powers differ in the last bit, and an
    # image may not depend on its place in the batch.
    rows = torch.arange(size, dtype=torch.float64, device=across.device)
    rows = torch.minimum(rows, size - rows)
    columns = torch.arange(size // 2 + 1, dtype=torch.float64, device=across.device)
    power = rows.pow(along.double()[:, None])[:, :, None] + columns.pow(across.double()[:, None])[:, None]
    power[:, 0, 0] = math.inf
    amplitude = power.reciprocal()
    share = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64, device=across.device)
    share[0] = 1.0
    if size % 2 == 0:
        share[-1] = 1.0
    energy = (amplitude.square().sum(dim=1) * share).sum(dim=1).sqrt()
    return (amplitude * (size * size / energy)[:, None, None]).to(torch.float32)


def _mixing(numbers: Tensor) -> Tensor:
    """[B, 9] uniform numbers -> [B, 3, 3] rows of unit length; the first plane is shared by the colours."""
    weights = numbers.view(-1, 3, 3) * 1.4 - 0.7
    weights = torch.stack([weights[..., 0].abs() + 0.6, weights[..., 1], weights[..., 2]], dim=-1)
    squares = weights.square()
    return weights * (squares[..., 0] + squares[..., 1] + squares[..., 2]).rsqrt().unsqueeze(-1)


def _coloured(planes: Tensor, mixing: Tensor, mean: Tensor) -> Tensor:
    """Planes [B, 3, S, S], mixing [B, 3, 3], mean [B, 3] -> uint8 [B, 3, S, S]."""
    colours = []
    for channel in range(3):
        weight = mixing[:, channel, :, None, None]
        colour = planes[:, 0] * weight[:, 0]
        colour += planes[:, 1] * weight[:, 1]
        colour += planes[:, 2] * weight[:, 2]
        colour += mean[:, channel, None, None]
        colours.append(colour.round_().clamp_(0, 255).to(torch.uint8))
    return torch.stack(colours, dim=1)


@lru_cache(maxsize=4)
def _circle(device: torch.device) -> Tensor:
    """The 65 536 unit complex numbers that a 16-bit phase names; computed once, on the CPU."""
    angle = torch.arange(65536, dtype=torch.float64) * (2.0 * math.pi / 65536)
    return torch.complex(angle.cos().float(), angle.sin().float()).to(device)


class SpectrumSource(ImageSource):
    """`spectrum` as an ImageSource: an image is computed on the device when it is read. Without `per_class` every image
    is its own class."""

    def __init__(self, *, classes: int, per_class: int | None, split: str, size: int, device: torch.device) -> None:
        unique, self._per_class = per_class is None, per_class or 1
        super().__init__(images=classes * self._per_class, channels=3, size=size, classes=classes, device=device)
        self._style = hashing.key("spectrum", "style", "image" if unique else "class")
        self._phase = hashing.key("spectrum", "phase", "train" if unique else split)

    def labels(self, index: Tensor) -> Tensor:
        return index if self._per_class == 1 else torch.div(index, self._per_class, rounding_mode="floor")

    def fetch(self, index: Tensor) -> Tensor:
        index = index.to(self.device)
        chunk = max(1, _CHUNK.get(self.device.type, 1 << 18) // self.image_bytes)
        parts = [self._made(part) for part in index.split(chunk)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _made(self, index: Tensor) -> Tensor:
        if index.device.type == "cuda" and (kernels := triton_kernels("lsc_engine.data.triton_spectrum")):
            circle = torch.view_as_real(_circle(index.device))
            made: Tensor = kernels.images(self.labels(index), index, self._style, self._phase, circle, self.size)
            return made
        style = hashing.keyed(self.labels(index), self._style)
        return images(style, hashing.keyed(index, self._phase), self.size)


@DATASETS.register("spectrum")
class Spectrum(DataSet):
    """As many images as are requested."""

    position = 70
    built_in = True
    made_from_index = True
    other_classes = True
    facts = Facts("spectrum", "procedural 1/f^a colour images", None, None, None, _SIZE, 3)

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        """No folder is needed; the one that is named."""
        return Path() if path is None else user_path(path)

    def count(self, chosen: Selection) -> Counts:
        k = chosen.classes
        if chosen.unique:
            return Counts(k, k, 0)
        return Counts((k or 0) * TRAIN_PER_CLASS or None, k, (k or 0) * VAL_PER_CLASS)

    def open(self, chosen: Selection, split: str, device: torch.device, report: Report) -> ImageSource | None:
        if chosen.classes is None:
            raise UsageError("data.classes: spectrum has any number of images; say how many classes")
        if chosen.unique and split == "val":
            return None
        per_class = None if chosen.unique else TRAIN_PER_CLASS if split == "train" else VAL_PER_CLASS
        size = chosen.size or _SIZE
        return SpectrumSource(classes=chosen.classes, per_class=per_class, split=split, size=size, device=device)
