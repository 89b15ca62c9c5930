"""Vision transformers and any other timm backbone, with a linear projection to n if its width differs.

ViT-S and ViT-B are timm's; the papers name them but neither patch size nor pooling. The patch follows the image:
16 at 224 px (timm's own), 4 at 32 px (21.34 M parameters), 2 below 24 px. The projection has no bias and nothing
before it (arXiv:2512.07509 says only that n differs from 384).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.models.backbone import Backbone
from lsc_engine.registry import MODELS

if TYPE_CHECKING:
    from torch import Tensor, nn


class Timm(Backbone):
    """A timm model; its settings are passed to timm as they are."""

    model_config = ConfigDict(extra="allow")
    transformer = True
    architecture: ClassVar[str]
    embedding: ClassVar[int]

    def own_dim(self, width: float) -> int:
        return self.embedding

    def build(self, channels: int, size: int, dim: int | None, width: float) -> nn.Module:
        return build_timm(self.architecture, channels, size, dim, dict(self.model_extra or {}))


@MODELS.register("vit-s")
class ViTSmall(Timm):
    """ViT-S: 12 layers of width 384, 6 heads (arXiv:2106.10270)."""

    architecture, embedding = "vit_small_patch16_224", 384


@MODELS.register("vit-b")
class ViTBase(Timm):
    """ViT-B: 12 layers of width 768, 12 heads (arXiv:2010.11929)."""

    architecture, embedding = "vit_base_patch16_224", 768


def patch_size(size: int) -> int:
    """The patch side in pixels for square images of `size` pixels: a divisor of `size`, about an eighth of it."""
    for patch, least in ((16, 160), (8, 64), (4, 24), (2, 8)):
        if size >= least and size % patch == 0:
            return patch
    return 1


def lower_residual_stream(model: nn.Module, name: str) -> None:
    """Let the blocks of a vision transformer add up in the type of autocast where it is on, and not in float32, which
    the positions make the stream. UsageError where the network has no blocks in sequence."""
    from torch import nn

    blocks = getattr(getattr(model, "backbone", None), "blocks", None)
    if not isinstance(blocks, nn.Sequential):
        raise UsageError(f"train.residual: {name} has no blocks in sequence, as vision transformers do; leave it out")
    blocks.register_forward_pre_hook(_to_autocast_type)


def _to_autocast_type(_blocks: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    import torch

    (stream, *rest), kind = inputs, inputs[0].device.type
    if not torch.is_autocast_enabled(kind):
        return None
    return stream.to(torch.get_autocast_dtype(kind)), *rest


def build_timm(architecture: str, channels: int, size: int, dim: int | None, args: dict[str, Any]) -> nn.Module:
    """The timm model and its projection; `args` go to timm as they are. UsageError for names that timm lacks."""
    import timm
    from torch import nn

    from lsc_engine.models.network import Network

    if not timm.is_model(architecture):
        nearest = did_you_mean(architecture, timm.list_models())
        raise UsageError(f'model.name: timm has no model "{architecture}"; {nearest}')
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels, **args}
    if "vit" in architecture:
        options = {"img_size": size, "patch_size": patch_size(size), **options}
    elif "img_size" in inspect.signature(timm.model_entrypoint(architecture)).parameters:
        options.setdefault("img_size", size)
    try:
        backbone = timm.create_model(architecture, pretrained=False, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UsageError(f"model.args: timm's {architecture} refuses {args or options}: {error}") from error
    own = int(backbone.num_features)  # type: ignore[arg-type]
    projection = nn.Identity() if dim in (None, own) else nn.Linear(own, dim, bias=False)
    return Network({"backbone": backbone, "projection": projection})
