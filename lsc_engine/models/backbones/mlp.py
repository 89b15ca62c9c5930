"""The multilayer perceptron of arXiv:2412.00884: linear, batch norm and ReLU blocks of 400, then a linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lsc_engine.models.backbone import Backbone
from lsc_engine.registry import MODELS

if TYPE_CHECKING:
    from torch import nn

HIDDEN = 400


@MODELS.register("mlp")
class MLP(Backbone):
    """`layers` linear layers, all but the last followed by batch norm and ReLU, `HIDDEN * width` wide.

    With `class_layer` the last of the layers is the head's, as in the paper: the embedding is the output of the last
    block, and `dim` its width.
    """

    all_linear: ClassVar[bool] = True
    layers: int = Field(5, ge=1, le=1000)
    class_layer: bool = False

    @property
    def linear_layers(self) -> int:
        return self.layers - self.class_layer

    def own_dim(self, width: float) -> int:
        return max(8, round(HIDDEN * width)) if self.class_layer else HIDDEN

    def build(self, channels: int, size: int, dim: int | None, width: float) -> nn.Module:
        from torch import nn

        from lsc_engine.models.network import Network

        hidden = max(8, round(HIDDEN * width))
        inputs = channels * size * size
        blocks: list[nn.Module] = []
        for _ in range(self.layers - 1):
            blocks.append(nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)))
            inputs = hidden
        layers: dict[str, nn.Module] = {"flatten": nn.Flatten(), "blocks": nn.Sequential(*blocks)}
        linear = [f"blocks.{i}.0" for i in range(len(blocks))]
        if not self.class_layer:
            layers["last"] = nn.Linear(inputs, dim or self.own_dim(width))
            linear.append("last")
        return Network(layers, linear)
