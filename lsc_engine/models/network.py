"""A network of named layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import nn


class Network(nn.Sequential):
    """`layers` by name, applied in order. `linear`: the names of the consecutive linear layers up to the output."""

    def __init__(self, layers: Mapping[str, nn.Module], linear: Sequence[str] = ()) -> None:
        super().__init__(OrderedDict(layers))
        self.consecutive_linear_layers = tuple(linear)
