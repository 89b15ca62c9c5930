"""Vit: ViT-S/16 at 224 px in bf16 on one GPU, LSC and CE with 1 000 classes, beside timm's recipe.

The cases of gpu.py that concern it; without a CUDA GPU it says so.
"""

from __future__ import annotations

from dataclasses import replace

from lsc_engine.bench import Result

from . import gpu


def run(*, quick: bool = False, minutes: float = 5.0, device: str = "auto") -> Result:
    """`minutes`: no case begins after them."""
    result = gpu.run(quick=quick, minutes=minutes, device=device, only="vit_tiny" if quick else "vit-s 224")
    checks = [check for check in result.checks if "ViT-S" in check.what]
    return replace(result, name="vit", checks=checks)
