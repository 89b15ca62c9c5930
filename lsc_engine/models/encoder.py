"""The convolutional encoder: our stand-in for the "modified UNET encoder" of arXiv:2510.04090.

The papers print no layer table. This one has the size they state (9 M parameters): two 3x3 convolutions with batch
norm and ReLU per level, 64-128-256-512 channels, three poolings, then the two linear layers "a" and "b" of the text,
9.08 M parameters at 32 px, three channels and n = 384.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

CHANNELS = (64, 128, 256, 512)
# Images above 32 px are pooled to this many cells a side before the linear layers.
CELLS = 4


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each with batch norm and ReLU: [B, inputs, H, W] -> [B, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Encoder(nn.Module):
    """Images [B, channels, size, size] -> embeddings [B, dim].

    `width` multiplies the channels and the hidden linear layer, for small runs; 1.0 is the papers' scale.
    """

    # The linear layers at the end, first to last.
    in_a_row = ("linear_a", "linear_b")

    def __init__(self, channels: int, size: int, dim: int, width: float = 1.0) -> None:
        super().__init__()
        widths = [max(8, round(c * width)) for c in CHANNELS]
        levels: list[nn.Module] = [DoubleConv(channels, widths[0])]
        cells = size
        for inputs, outputs in pairwise(widths):
            if cells >= 2:
                levels.append(nn.MaxPool2d(2))
                cells //= 2
            levels.append(DoubleConv(inputs, outputs))
        if cells > CELLS:
            levels.append(nn.AdaptiveAvgPool2d(CELLS))
            cells = CELLS
        hidden = max(32, round(512 * width))
        self.levels = nn.Sequential(*levels)
        self.linear_a = nn.Linear(widths[-1] * cells * cells, hidden)
        self.linear_b = nn.Linear(hidden, dim)

    def forward(self, images: Tensor) -> Tensor:
        features = self.levels(images).flatten(1)
        embedding: Tensor = self.linear_b(torch.relu(self.linear_a(features)))
        return embedding
