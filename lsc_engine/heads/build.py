"""From a run's configuration to its head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lsc_engine import plugins
from lsc_engine.config import bottleneck_width
from lsc_engine.config.sections import LOSSES
from lsc_engine.errors import UsageError
from lsc_engine.heads.base import Head
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.lsc import LscHead

if TYPE_CHECKING:
    from lsc_engine.config.schema import RunConfig


def build_head(config: RunConfig, *, classes: int, dim: int, seed: int, table: Tensor | None = None) -> Head:
    """The head of `config` for embeddings [B, dim]; `table` [classes, n]: the rows of `embeddings:` or `file:`."""
    target = config.target
    if target.method == "ce":
        return CrossEntropyHead(dim, classes, bottleneck_width(target.bottleneck, classes), seed)
    from lsc_engine.vectors import Order, system

    assert target.system is not None
    kind = target.loss or "cosine"
    made = system(target.system, dim, classes=classes, table=table)
    if made.count < classes:
        raise UsageError(f"target.system: {target.system} at n = {dim} has {made.count} vectors, {classes} are needed")
    return LscHead(
        made,
        Order.make(target.order or "shuffled", made, config.seed),
        classes,
        loss=kind,
        own=None if kind in LOSSES else plugins.load("losses", kind, "target.loss")(made),
        radius=1.0 if target.radius is None else target.radius,
        cluster_radius=target.cluster_radius or 0.0,
        weights=target.weights or (1.0, 1.0),
    )
