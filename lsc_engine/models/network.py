"""A network of named layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import nn

from lsc_engine.common.errors import UsageError


class Network(nn.Sequential):
    """`layers` by name, applied in order. `linear`: the names of the consecutive linear layers up to the output."""

    def __init__(self, layers: Mapping[str, nn.Module], linear: Sequence[str] = ()) -> None:
        super().__init__(OrderedDict(layers))
        self.consecutive_linear_layers = tuple(linear)


def output_layer(model: nn.Module) -> nn.Linear:
    """The last layer of a backbone. UsageError unless it is linear, trained, and has a bias."""
    last = model
    while isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    if isinstance(last, nn.Linear) and last.bias is not None:
        return last
    raise UsageError(
        "model.standardize_output: the last layer of this backbone is not a trained linear one with a bias, which "
        'order "nearest:init" and standardize_output rescale; take encoder or mlp without fixed last layers'
    )
