"""Two random views of an image for self-supervision, and named shifts of validation images.

A view is moved by up to an eighth of the image's size, turned by up to 15 degrees, scaled by 0.8 to 1.25, changed in
contrast (0.6 to 1.4) and brightness, and made noisy; images of three channels are also flipped with chance 1/2 and
changed in saturation (0 to 1.5). Ours: what keeps an 8-pixel digit the same digit. All of it is a pure function of the
image's key, hashed from (seed, epoch, position), so that nothing has to be saved to go on with a run.

The shifts (`eval.shift`) are what training images never showed, for validation where no second data set of the same
classes is at hand: each image's is a function of its number alone, the same for all runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lsc_engine.data import hashing
from lsc_engine.vectors.bijection import mix

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
