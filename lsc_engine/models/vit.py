"""Vision transformers and any other timm backbone, with a linear projection to n where its width differs.

ViT-S and ViT-B are timm's; the papers name them but neither patch size nor pooling. The patch follows the image:
16 at 224 px (timm's own), 4 at 32 px (21.34 M parameters), 2 below 24 px. The projection has no bias and nothing
before it (arXiv:2512.07509 says only that n differs from 384).
"""

from __future__ import annotations

import inspect
from typing import Any

import timm
from torch import Tensor, nn

from lsc_engine.errors import UsageError, did_you_mean

VITS = {"vit-s": "vit_small_patch16_224", "vit-b": "vit_base_patch16_224"}


def patch_for(size: int) -> int:
    """The patch side in pixels for square images of `size` pixels: a divisor of `size`, about an eighth of it."""
    for patch, least in ((16, 160), (8, 64), (4, 24), (2, 8)):
        if size >= least and size % patch == 0:
            return patch
    return 1


class Projected(nn.Module):
    """A timm backbone, then a linear layer to [B, dim] where its own width is not `dim`; None keeps its width."""

    def __init__(self, backbone: nn.Module, dim: int | None) -> None:
        super().__init__()
        width = int(backbone.num_features)  # type: ignore[arg-type]
        self.backbone = backbone
        self.projection = nn.Identity() if dim in (None, width) else nn.Linear(width, dim, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = self.projection(self.backbone(images))
        return embedding


def build_timm(name: str, channels: int, size: int, dim: int | None, args: dict[str, Any]) -> Projected:
    """`name` is vit-s, vit-b or any timm model; `args` go to timm as they are. UsageError for names timm lacks."""
    model = VITS.get(name, name)
    if not timm.is_model(model):
        raise UsageError(f'model.name: timm has no model "{model}"; {did_you_mean(model, timm.list_models())}')
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels, **args}
    if "vit" in model:
        options.setdefault("img_size", size)
        options.setdefault("patch_size", patch_for(size))
    elif "img_size" in inspect.signature(timm.model_entrypoint(model)).parameters:
        options.setdefault("img_size", size)
    try:
        backbone = timm.create_model(model, pretrained=False, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UsageError(f"model.args: timm's {model} refuses {args or options}: {error}") from error
    return Projected(backbone, dim)
