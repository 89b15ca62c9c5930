"""Predefined vector systems: what they hold (`counting`, torch-free) and their vectors (`systems`, `order`, torch).

Lazy (PEP 562): `from lsc_engine.vectors import n_min` loads no torch, `system` and `Order` do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsc_engine.vectors.assign import assign_nearest
    from lsc_engine.vectors.base import VectorSystem
    from lsc_engine.vectors.counting import SystemFacts, cosine_histogram, facts, n_min, near_in_use, parse_count
    from lsc_engine.vectors.empirical import load_table
    from lsc_engine.vectors.order import Bijection, Order
    from lsc_engine.vectors.systems import system

_HOME = {
    "Bijection": "order",
    "Order": "order",
    "SystemFacts": "counting",
    "cosine_histogram": "counting",
    "facts": "counting",
    "n_min": "counting",
    "near_in_use": "counting",
    "parse_count": "counting",
    "VectorSystem": "base",
    "assign_nearest": "assign",
    "load_table": "empirical",
    "system": "systems",
}

__all__ = [
    "Bijection",
    "Order",
    "SystemFacts",
    "VectorSystem",
    "assign_nearest",
    "cosine_histogram",
    "facts",
    "load_table",
    "n_min",
    "near_in_use",
    "parse_count",
    "system",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
