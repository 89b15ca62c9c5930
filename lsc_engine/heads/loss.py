"""What every loss of LSC has: its settings, and the loss of embeddings to the vectors of their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from lsc_engine.vectors import VectorSystem


class Loss(BaseModel):
    """The fields of a subclass are the settings of [target] that act on it.

    All methods take embeddings z [B, n] and the indices [B] of their vectors in `system`, outside of autocast.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    directional: ClassVar[bool] = True
    """Whether only the direction of an embedding counts."""
    by_image: ClassVar[bool] = True
    """Whether the loss of an image does not depend on the others of its batch."""

    def losses(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        """The loss of each image, [B] float32, for float32 embeddings."""
        raise NotImplementedError

    def mean(self, system: VectorSystem, z: Tensor, target: Tensor) -> Tensor:
        """The mean loss, for embeddings of any float type."""
        return self.losses(system, z.float(), target).mean()

    def encode_target(self, system: VectorSystem, index: Tensor) -> Tensor:
        """[B] or [B, k] int64: what `mean` takes instead of `index`, computed for many batches before their steps."""
        return index

    def centres(self, system: VectorSystem, index: Tensor) -> Tensor:
        """[B, n]: the point that each embedding is trained towards, of norm 1 if only the direction counts."""
        return system.vectors(index)
