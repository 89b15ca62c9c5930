"""Modules that are imported when they are first used: viewers list vector systems and data sets and load no torch.

if TYPE_CHECKING:
    import torch
else:
    defer(globals(), torch="torch")
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any

_DEFERRED: list[_Deferred] = []


class _Deferred:
    """Stands for a module among the globals of another one, until it is used."""

    def __init__(self, namespace: dict[str, Any], name: str, module: str) -> None:
        self._place, self._module = (namespace, name), module

    def _imported(self) -> ModuleType:
        namespace, name = self._place
        namespace[name] = module = importlib.import_module(self._module)
        return module

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._imported(), attribute)


def defer(namespace: dict[str, Any], **modules: str) -> None:
    """Put modules into a `namespace`, the globals of a module, each under its name there."""
    for name, module in modules.items():
        namespace[name] = _Deferred(namespace, name, module)
        _DEFERRED.append(namespace[name])


def import_deferred() -> None:
    """Import them all now: torch.compile cannot look through a module that is not there yet."""
    while _DEFERRED:
        _DEFERRED.pop()._imported()


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
