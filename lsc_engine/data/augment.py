"""What is done to images: the augmentation `light1`, two views for self-supervision, shifts of validation images.

`light1` is a horizontal flip with chance 1/2, then RandAugment with 2 operations at magnitude 0. After the "aug_light1"
that arXiv:2510.04090, Sec. 2.3 names, that of Steiner et al. (arXiv:2106.10270); it is weaker: nothing is cropped, and
the operations are those of torchvision's RandAugment (14, each equally likely), of which at magnitude 0 three act:
AutoContrast, Equalize, and Solarize, whose threshold is then 255, so that saturated values become 0. 62 % of the
images, (11/14)^2, get a flip or nothing. Which operations the paper trained with is not stated.

A view is moved by up to an eighth of the image's size, turned by up to 15 degrees, scaled by 0.8 to 1.25, changed in
contrast (0.6 to 1.4) and brightness, and made noisy; images of three channels are also flipped with chance 1/2 and
changed in saturation (0 to 1.5). Ours: what keeps an 8-pixel digit the same digit.

All of it is a pure function of (seed, epoch, position in the epoch), or, with `augment_per = "batch"`, of (seed, epoch,
batch): in the paper the choice is "made separately for every batch". A shift (`eval.shift`), what training images never
showed, is one of the image's number alone, the same for all runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lsc_engine.data import hashing
from lsc_engine.vectors.bijection import mix

# In the order of torchvision's RandAugment; the number drawn is the place in this list.
_GEOMETRY = ("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_COLOUR = ("Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize")
OPERATIONS = (*_GEOMETRY, *_COLOUR)
ACTING = ("Solarize", "AutoContrast", "Equalize")
LAYERS = 2
_SOLARIZE_THRESHOLD = 255.0


@dataclass(frozen=True)
class Draws:
    """What is done to a batch: `flip` bool [B], `operations` int64 [2, B], places in OPERATIONS. On the CPU."""

    flip: Tensor
    operations: Tensor

    def rows(self, start: int, stop: int) -> Draws:
        """The draws of images `start` to `stop`."""
        return Draws(self.flip[start:stop], self.operations[:, start:stop])


def draw(seed: int, epoch: int, position: Tensor, batch_size: int, per: str) -> Draws:
    """The draws of the images at `position` int64 [B] of an epoch; `per` is "image" or "batch"."""
    counter = torch.div(position, batch_size, rounding_mode="floor") if per == "batch" else position
    hashes = hashing.words(hashing.keyed(counter, hashing.key("light1", per, seed, epoch)), 1 + LAYERS)
    numbers = hashing.uniform(hashes)
    return Draws(numbers[:, 0] < 0.5, (numbers[:, 1:] * len(OPERATIONS)).to(torch.int64).T)


@torch.no_grad()
def light1(images: Tensor, draws: Draws) -> Tensor:
    """uint8 [B, C, H, W] on any device (C 1 or 3) and their draws -> uint8 [B, C, H, W]; the input is kept.

    The choice is made on the CPU, so that only the images concerned are worked on, without waiting for a GPU.
    """
    flip = _moved(draws.flip, images.device)
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    for layer in draws.operations:
        for name in ACTING:
            rows = (layer == OPERATIONS.index(name)).nonzero().squeeze(-1)
            if len(rows) == len(images):
                images = operate(name, images)
            elif len(rows):
                chosen = _moved(rows, images.device)
                images = images.index_copy(0, chosen, operate(name, images.index_select(0, chosen)))
    return images


def operate(name: str, images: Tensor) -> Tensor:
    """The operation `name` at magnitude 0 on uint8 [B, C, H, W]."""
    from torchvision.transforms.v2 import functional as operations

    if name == "Solarize":
        return torch.where(images >= _SOLARIZE_THRESHOLD, 255 - images, images)
    if name == "AutoContrast":
        return operations.autocontrast_image(images)
    if name == "Equalize":
        return operations.equalize_image(images)
    return images


def _moved(choice: Tensor, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return choice
    # From ordinary memory the copy would wait for the GPU.
    return (choice.pin_memory() if device.type == "cuda" else choice).to(device, non_blocking=True)


_DRAWS = 8


@dataclass(frozen=True)
class Change:
    """How far images may be changed. Shares of the size, degrees, a factor's logarithm, shares of the range of grey."""

    move: float = 0.0
    turn: float = 0.0
    scale: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0
    colour: bool = False
    """Whether colour images are flipped and changed in saturation."""
    far: bool = False
    """Whether every image is changed as far as it may be, in either direction."""


VIEW = Change(move=0.125, turn=15.0, scale=math.log(1.25), contrast=0.4, brightness=0.1, noise=0.05, colour=True)
SHIFTS = {
    "moved": Change(move=0.125, far=True),
    "turned": Change(turn=20.0, far=True),
    "noise": Change(noise=0.2, far=True),
    "contrast": Change(contrast=0.6, brightness=0.15, far=True),
}


def view_keys(seed: int, epoch: int, position: Tensor) -> Tensor:
    """Keys [B, 2] int64 of the two views of the images at `position` int64 [B] of an epoch."""
    return hashing.words(hashing.keyed(position, hashing.key("views", seed, epoch)), 2)


def two_views(images: Tensor, keys: Tensor) -> Tensor:
    """float32 [B, C, S, S] in [-1, 1] and their keys [B, 2] -> [B, 2, C, S, S]."""
    return torch.stack([changed(images, keys[:, view], VIEW) for view in range(2)], 1)


def shifted(images: Tensor, index: Tensor, kind: str) -> Tensor:
    """float32 [B, C, S, S] in [-1, 1], numbered `index` int64 [B], under the shift `kind`; the same shape."""
    return changed(images, hashing.keyed(index, hashing.key("shift", kind)), SHIFTS[kind])


@torch.no_grad()
def changed(images: Tensor, keys: Tensor, change: Change) -> Tensor:
    """Each image changed by what its key int64 [B] draws; float32 in [-1, 1], the input is kept."""
    draws = 2 * hashing.uniform(hashing.words(keys, _DRAWS)) - 1
    if change.far:
        draws = torch.where(draws < 0, -1.0, 1.0)
    move_x, move_y, turn, scale, contrast, brightness, flip, saturation = draws.unbind(1)
    colour = change.colour and images.shape[1] == 3
    if change.move or change.turn or change.scale or colour:
        mirror = torch.where(flip < 0, -1.0, 1.0) if colour else torch.ones_like(flip)
        angle, zoom = turn * math.radians(change.turn), torch.exp(-scale * change.scale)
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        x, y = 2 * change.move * move_x, 2 * change.move * move_y
        rows = torch.stack([mirror * cos, -mirror * sin, x, sin, cos, y], 1).view(-1, 2, 3)
        grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
        # What comes in from outside continues the edge.
        images = functional.grid_sample(images, grid, "bilinear", padding_mode="border", align_corners=False)
    if colour:
        grey = images.mean(1, keepdim=True)
        images = grey + (0.75 + 0.75 * _wide(saturation)) * (images - grey)
    if change.contrast or change.brightness:
        images = images * (1 + change.contrast * _wide(contrast)) + 2 * change.brightness * _wide(brightness)
    if change.noise:
        pixels = images[0].numel()
        # From a key of its own: uniform, of standard deviation `noise` in parts of the range 2.
        noise = hashing.uniform(hashing.words(mix(keys), pixels)) - 0.5
        images = images + (2 * math.sqrt(12) * change.noise) * noise.view(images.shape)
    return images.clamp(-1, 1)


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]
