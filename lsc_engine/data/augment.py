"""The augmentation `light1`: a horizontal flip with chance 1/2, then RandAugment with 2 operations at magnitude 0.

After the "aug_light1" that arXiv:2510.04090, Sec. 2.3 names, that of Steiner et al. (arXiv:2106.10270); it is weaker.
The original crops first (Inception's random crop), and of the 16 operations of RandAugment in TensorFlow nine act at
magnitude 0, some of them strongly. Here nothing is cropped, and the operations are those of torchvision's RandAugment
(14, each equally likely), of which at magnitude 0 eleven leave the image as it is: 62 % of the images, (11/14)^2, get a
flip or nothing. Three act: AutoContrast, Equalize, and Solarize, whose threshold is then 255: it turns saturated values
to 0. Which operations the paper trained with is not stated.

What happens to an image is a pure function of (seed, epoch, position in the epoch), or, with `augment_per = "batch"`,
of (seed, epoch, batch): in the paper the choice is "made separately for every batch".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lsc_engine.data import hashing

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
    from torchvision.transforms.v2 import functional

    if name == "Solarize":
        return torch.where(images >= _SOLARIZE_THRESHOLD, 255 - images, images)
    if name == "AutoContrast":
        return functional.autocontrast_image(images)
    if name == "Equalize":
        return functional.equalize_image(images)
    return images


def _moved(choice: Tensor, device: torch.device) -> Tensor:
    if device.type == "cpu":
        return choice
    # From ordinary memory the copy would wait for the GPU.
    return (choice.pin_memory() if device.type == "cuda" else choice).to(device, non_blocking=True)
