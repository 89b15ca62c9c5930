"""Backbones: image -> embedding. `build_model` makes one from a preset's [model], `describe` counts it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsc_engine.models.build import build_model
    from lsc_engine.models.sizes import describe

__all__ = ["build_model", "describe"]

_HOMES = {"build_model": "lsc_engine.models.build", "describe": "lsc_engine.models.sizes"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
