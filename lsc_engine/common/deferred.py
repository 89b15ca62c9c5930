"""numpy and torch, imported when they are first used: viewers list vector systems and data sets and load neither.

from lsc_engine.common.deferred import Tensor, np, torch
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

__all__ = ["Tensor", "import_deferred", "np", "torch", "triton_kernels"]

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor
else:

    class _Deferred:
        """Stands for a module, or a name in it, until it is used; then that takes its place in every module."""

        def __init__(self, name, module, attribute=""):
            self._what = name, module, attribute

        def __getattr__(self, attribute):
            name, module, own = self._what
            found = importlib.import_module(module)
            found = getattr(found, own) if own else found
            for each in list(sys.modules.values()):
                if getattr(each, "__dict__", {}).get(name) is self:
                    setattr(each, name, found)
            return getattr(found, attribute)

    np, torch = _Deferred("np", "numpy"), _Deferred("torch", "torch")
    Tensor = _Deferred("Tensor", "torch", "Tensor")


def import_deferred() -> None:
    """Import them now: torch.compile cannot look through what is not there yet."""
    _ = np.ndarray, torch.device, Tensor.abs


@cache
def triton_kernels(module: str) -> Any:
    """A module of Triton kernels that run on this machine; None where they do not."""
    try:
        kernels = importlib.import_module(module)
        kernels.trial()
    # Without Triton, with a card that it does not know, or without a C compiler for its launcher: torch's own
    # operations give the same numbers in more launches.
    except Exception:
        return None
    return kernels
