"""The procedural images: a pure function of the index, all different, with the spectrum they are named for."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import pytest
import torch

from lsc_engine.data.batches import Batches
from lsc_engine.data.dataset import open_source
from lsc_engine.data.datasets.spectrum import images


@pytest.mark.parametrize("size", [8, 31, 32, 64])
def test_an_image_does_not_depend_on_its_batch(settings: Any, size: int) -> None:
    source = open_source(settings("spectrum", "unique", 10**9, size), split="train")
    index = torch.arange(60) * 16_666_666 + 7
    together = source.fetch(index)
    apart = torch.cat([source.fetch(index[i : i + 7]) for i in range(0, 60, 7)])
    assert torch.equal(together, apart)
    assert torch.equal(together.flip(0), source.fetch(index.flip(0)))


def test_all_images_differ(settings: Any) -> None:
    source = open_source(settings("spectrum", "unique", 10**9, 8), split="train")
    index = torch.cat([torch.arange(5000), 10**9 - 1 - torch.arange(5000)])
    assert len({bytes(image.numpy()) for image in source.fetch(index)}) == 10_000


def test_nearest_other_image_is_far(settings: Any) -> None:
    source = open_source(settings("spectrum", "unique", 2000, 16), split="train")
    flat = source.fetch(torch.arange(2000)).flatten(1).float()
    distance = torch.cdist(flat, flat).fill_diagonal_(float("inf"))
    # In grey levels per value: two images nowhere look alike.
    assert distance.min().item() / 768**0.5 > 8


def test_bits_of_the_first_image_are_fixed(settings: Any) -> None:
    """A change of the generator would change every result on this data set."""
    source = open_source(settings("spectrum", "unique", 10, 8), split="train")
    image = source.fetch(torch.tensor([3]))[0]
    expected = torch.tensor(FIRST_ROWS)
    assert (image[:, 0].int() - expected).abs().max() <= 1  # one grey level between kinds of device


FIRST_ROWS = [
    [174, 193, 168, 163, 158, 116, 129, 126],
    [145, 176, 142, 141, 138, 108, 121, 106],
    [235, 196, 158, 145, 147, 98, 105, 179],
]


def test_classes_have_their_own_look_and_splits_their_own_images(settings: Any) -> None:
    data = settings("spectrum", classes=50, image_size=32)
    train, val = open_source(data, split="train"), open_source(data, split="val")
    assert val is not None
    assert (train.images, val.images, train.classes) == (5000, 1000, 50)
    assert train.labels(torch.tensor([0, 99, 100, 4999])).tolist() == [0, 0, 1, 49]
    assert val.labels(torch.tensor([19, 20, 999])).tolist() == [0, 1, 49]
    # Colour alone tells most classes: the nearest class mean colour of training images labels validation images.
    means = train.fetch(torch.arange(5000)).float().mean(dim=(2, 3)).view(50, 100, 3).mean(dim=1)
    colours = val.fetch(torch.arange(1000)).float().mean(dim=(2, 3))
    guess = torch.cdist(colours, means).argmin(dim=1)
    assert (guess == val.labels(torch.arange(1000))).float().mean() > 0.9
    trained = {bytes(image.numpy()) for image in train.fetch(torch.arange(100))}
    assert not trained & {bytes(image.numpy()) for image in val.fetch(torch.arange(20))}


def test_unique_has_no_validation(settings: Any) -> None:
    assert open_source(settings("spectrum", "unique", 10), split="val") is None


def test_amplitude_falls_with_the_frequency() -> None:
    style = torch.arange(200)
    planes = images(style, style + 1000, 32)[:, 1].double()
    amplitude = torch.fft.rfft2(planes).abs()
    diagonal = torch.stack([amplitude[:, k, k].square().mean().sqrt() for k in (1, 2, 4, 8)])
    # The mean over exponents 0.5 to 3.5 of 1/(2 k^a) falls by a factor of 2 to 4 per octave.
    assert all(1.5 < float(a / b) < 5 for a, b in itertools.pairwise(diagonal))


def test_grey_levels_use_the_range() -> None:
    pixels = images(torch.arange(500), torch.arange(500), 32).float()
    assert 100 < pixels.mean() < 155
    assert 30 < pixels.std(dim=(1, 2, 3)).mean() < 80
    assert ((pixels == 0) | (pixels == 255)).float().mean() < 0.1


_PEAK = """
import resource, sys, torch
torch.set_num_threads(1)
from dataclasses import dataclass
from lsc_engine.data.batches import Batches
from lsc_engine.data.batches import eval_batches, fixed_subset
from lsc_engine.data.dataset import open_source
@dataclass
class D:
    skip_bad = None
    dataset = "spectrum"; labels = "unique"; image_size = 32; path = None; classes = int(sys.argv[1])
source = open_source(D(), split="train")
batches = Batches(source, 256, 0, target=lambda labels: labels * 2)
for _, batch in zip(range(100), batches.from_step(source.images // 256 * 2 - 5)): pass
for batch in eval_batches(source, fixed_subset(source.images, 1000), 256): pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_depend_on_the_count() -> None:
    peak = [
        int(subprocess.run([sys.executable, "-c", _PEAK, str(n)], check=True, capture_output=True, text=True).stdout)
        for n in (1000, 10**9)
    ]
    assert abs(peak[1] - peak[0]) < 10 * 1024, peak


def test_no_table_even_for_the_largest_count(settings: Any) -> None:
    source = open_source(settings("spectrum", "unique", 2**62, 8), split="train")
    batch = next(Batches(source, 4, 0).from_step(2**50))
    assert (batch.labels < 2**62).all()
    assert (batch.labels > 2**40).any()
