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
    from torch import nn


class Timm(Backbone):
    """A timm model; its settings are passed to timm as they are."""

    model_config = ConfigDict(extra="allow")
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
