"""The multilayer perceptron of arXiv:2412.00884: linear, batch norm and ReLU blocks of 400, then a linear layer."""

from __future__ import annotations

from torch import Tensor, nn

HIDDEN = 400
LAYERS = 5


class MLP(nn.Module):
    """Images [B, channels, size, size] -> embeddings [B, dim]: `layers` linear layers, all but the last followed by
    batch norm and ReLU, `HIDDEN * width` wide.

    With `class_layer` the last of the layers is the head's, as in the paper: the embedding is the output of the last
    block, and `dim` its width.
    """

    def __init__(
        self, channels: int, size: int, dim: int, width: float = 1.0, layers: int = LAYERS, class_layer: bool = False
    ) -> None:
        super().__init__()
        hidden = max(8, round(HIDDEN * width))
        inputs = channels * size * size
        blocks: list[nn.Module] = []
        for _ in range(layers - 1):
            blocks.append(nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)))
            inputs = hidden
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Identity() if class_layer else nn.Linear(inputs, dim)

    @property
    def in_a_row(self) -> list[str]:
        """Names of the linear layers, first to last."""
        names = [f"blocks.{i}.0" for i in range(len(self.blocks))]
        return names if isinstance(self.last, nn.Identity) else [*names, "last"]

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = self.last(self.blocks(images.flatten(1)))
        return embedding
