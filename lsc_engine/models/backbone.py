"""What every backbone has: its settings, and how it is built from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import nn


class Backbone(BaseModel):
    """The fields of a subclass are the keys that it allows in [model.args]."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    all_linear: ClassVar[bool] = False
    """Whether all layers with weights are linear, so that the first ones can be fixed too."""

    transformer: ClassVar[bool] = False
    """Whether it is made of blocks that add to a residual stream, whose type train.residual names."""

    @property
    def linear_layers(self) -> int:
        """The number of consecutive linear layers up to the embedding, which model.etf_layers can fix."""
        return 0

    def own_dim(self, width: float) -> int | None:
        """The width of the embeddings if model.dim is not set."""
        return None

    def build(self, channels: int, size: int, dim: int | None, width: float) -> nn.Module:
        """A network with weights drawn from torch's global generator: images [B, channels, size, size] in [-1, 1] ->
        embeddings [B, dim]. `width` multiplies the widths of its layers; None for `dim` is the network's own width.
        """
        raise NotImplementedError
