"""light1 against torchvision's own operations, and as a pure function of (seed, epoch, position)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.transforms import InterpolationMode, autoaugment

from lsc_engine.data import hashing
from lsc_engine.data.augment import ACTING, LAYERS, OPERATIONS, Draws, draw, light1, operate
from lsc_engine.data.batches import Batches
from lsc_engine.data.dataset import open_source
from lsc_engine.data.source import normalise


def sample_images(channels: int) -> torch.Tensor:
    """Noise, dark, bright, flat and saturated images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, channels, 24, 24), dtype=torch.uint8, generator=generator)
    images[1] = images[1] // 3
    images[2] = images[2] // 4 + 180
    images[3] = 77
    images[4, :, :12] = 255
    images[5, :, :20] = 0
    images[6] = 0
    return images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_torchvision_at_magnitude_0(name: str, channels: int) -> None:
    images = sample_images(channels)
    space = autoaugment.RandAugment(LAYERS, 0)._augmentation_space(31, (24, 24))
    assert tuple(space) == OPERATIONS
    magnitudes, _ = space[name]
    magnitude = float(magnitudes[0]) if magnitudes.ndim else 0.0
    ours = operate(name, images)
    for image, own in zip(images, ours, strict=True):
        theirs = autoaugment._apply_op(image, name, magnitude, InterpolationMode.NEAREST, None)
        # AutoContrast: torchvision's two interfaces multiply or divide, and truncate; a level apart where that rounds.
        assert (own.int() - theirs.int()).abs().max() <= (1 if name == "AutoContrast" else 0)
    assert torch.equal(ours, images) == (name not in ACTING)


def test_batch_is_augmented_image_by_image() -> None:
    images = sample_images(3)
    generator = torch.Generator().manual_seed(1)
    operations = torch.randint(0, len(OPERATIONS), (2, 8), generator=generator)
    operations[:, 0] = torch.tensor([13, 12])
    operations[:, 1] = torch.tensor([11, 13])
    draws = Draws(torch.arange(8) % 2 == 1, operations)
    before = images.clone()
    found = light1(images, draws)
    assert torch.equal(images, before)
    for row in range(8):
        expected = images[row : row + 1]
        if row % 2:
            expected = expected.flip(-1)
        for layer in range(2):
            expected = operate(OPERATIONS[int(operations[layer, row])], expected)
        assert torch.equal(found[row : row + 1], expected)


def test_draws_are_a_pure_function_and_even() -> None:
    positions = torch.arange(70_000)
    draws = draw(3, 5, positions, 100, "image")
    again = draw(3, 5, positions[40_000:], 100, "image")
    assert torch.equal(draws.flip[40_000:], again.flip)
    assert torch.equal(draws.operations[:, 40_000:], again.operations)
    counts = torch.bincount(draws.operations.flatten(), minlength=len(OPERATIONS))
    assert counts.shape == (14,)
    assert ((counts - 10_000).abs() < 500).all()  # 5 standard deviations
    assert abs(int(draws.flip.sum()) - 35_000) < 700
    for seed, epoch in ((4, 5), (3, 6)):
        other = draw(seed, epoch, positions, 100, "image")
        assert 0.45 < (other.flip == draws.flip).float().mean() < 0.55


def test_per_batch_the_choice_is_made_once() -> None:
    draws = draw(0, 0, torch.arange(5000), 50, "batch")
    flips = draws.flip.view(100, 50)
    assert (flips == flips[:, :1]).all()
    assert 25 < int(flips[:, 0].sum()) < 75
    operations = draws.operations.view(2, 100, 50)
    assert (operations == operations[:, :, :1]).all()


@pytest.mark.parametrize("per", ["image", "batch"])
def test_batches_are_augmented_as_drawn(settings: Any, per: str) -> None:
    source = open_source(settings("digits", "unique"), split="train")
    batches = Batches(source, 256, 9, augment="light1", augment_per=per)
    batch = next(batches.from_step(7 * 2 + 3))  # epoch 2, positions 768 to 1023
    draws = draw(9, 2, torch.arange(768, 1024), 256, per)
    assert torch.equal(batch.images, normalise(light1(source.fetch(batch.index), draws)))


def test_hashes_are_a_bijection_and_even() -> None:
    hashes = hashing.keyed(torch.arange(100_000), hashing.key("x"))
    assert len(hashes.unique()) == 100_000
    numbers = hashing.uniform(hashes)
    assert 0 <= numbers.min() < numbers.max() < 1
    assert ((torch.histc(numbers, 20, 0, 1) - 5000).abs() < 400).all()
    # SplitMix64 of seed 0, from its reference implementation.
    assert hashing.words(torch.tensor([0]), 2)[0].tolist() == [
        0xE220A8397B1DCDAF - 2**64,
        0x6E789E6AA1B965F4,
    ]
