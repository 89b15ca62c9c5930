"""Run folders: layout, metrics, status, the one writer, readers, requests, studies. Loads no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsc_engine.runs.layout import runs_dirs
    from lsc_engine.runs.metrics import MetricsTail
    from lsc_engine.runs.run import Run, find_run, list_runs, open_run, short_ids
    from lsc_engine.runs.status import Status
    from lsc_engine.runs.writer import RunWriter, create_run

_HOME = {
    "MetricsTail": "metrics",
    "Run": "run",
    "RunWriter": "writer",
    "Status": "status",
    "create_run": "writer",
    "find_run": "run",
    "list_runs": "run",
    "open_run": "run",
    "runs_dirs": "layout",
    "short_ids": "run",
}

__all__ = [
    "MetricsTail",
    "Run",
    "RunWriter",
    "Status",
    "create_run",
    "find_run",
    "list_runs",
    "open_run",
    "runs_dirs",
    "short_ids",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
