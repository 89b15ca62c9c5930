"""Images and labels: data sets, the batches of training in a fixed order, augmentation, packing.

Seam 3 of the architecture: which sample comes when, and what is done to it, are pure functions of
(seed, epoch, position). Small data lies on the device as uint8; large data is streamed by workers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsc_engine.data.batches import Batch as Batch
    from lsc_engine.data.batches import Batches as Batches
    from lsc_engine.data.evaluation import eval_batches as eval_batches
    from lsc_engine.data.evaluation import fixed_subset as fixed_subset
    from lsc_engine.data.evaluation import images_from_class as images_from_class
    from lsc_engine.data.imagefiles import BadImageError as BadImageError
    from lsc_engine.data.opening import look as look
    from lsc_engine.data.opening import open_source as open_source
    from lsc_engine.data.source import ImageSource as ImageSource
    from lsc_engine.data.source import TensorSource as TensorSource
    from lsc_engine.data.source import normalise as normalise
    from lsc_engine.data.stream import WorkerLostError as WorkerLostError
    from lsc_engine.data.stream import attended as attended
    from lsc_engine.data.views import shifted as shifted
    from lsc_engine.data.views import two_views as two_views
    from lsc_engine.data.views import view_keys as view_keys

_HOMES = {
    "BadImageError": "imagefiles",
    "Batch": "batches",
    "Batches": "batches",
    "ImageSource": "source",
    "TensorSource": "source",
    "WorkerLostError": "stream",
    "attended": "stream",
    "eval_batches": "evaluation",
    "fixed_subset": "evaluation",
    "images_from_class": "evaluation",
    "look": "opening",
    "normalise": "source",
    "open_source": "opening",
    "shifted": "views",
    "two_views": "views",
    "view_keys": "views",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Names load their module when they are first asked for, since torch takes a second to import."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
