"""Heads: embedding -> loss and label. What LSC and cross-entropy differ in is here and nowhere else."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsc_engine.heads.base import Head
    from lsc_engine.heads.build import build_head
    from lsc_engine.heads.distil import Teacher

__all__ = ["Head", "Teacher", "build_head"]

_HOMES = {
    "Head": "lsc_engine.heads.base",
    "Teacher": "lsc_engine.heads.distil",
    "build_head": "lsc_engine.heads.build",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
