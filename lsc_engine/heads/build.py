"""From a run's configuration to its head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lsc_engine import plugins
from lsc_engine.config import bottleneck_width
from lsc_engine.config.sections import LOSSES
from lsc_engine.errors import UsageError
from lsc_engine.heads.base import Head
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.distil import DistilHead, Teacher
from lsc_engine.heads.lsc import LscHead
from lsc_engine.heads.ssl import SelfSupervisedHead
from lsc_engine.vectors import Order, VectorSystem, system

if TYPE_CHECKING:
    from lsc_engine.config.schema import RunConfig


def build_head(
    config: RunConfig, *, classes: int, dim: int, seed: int, table: Tensor | None = None, means: Tensor | None = None,
    teacher: Teacher | None = None,
) -> Head:  # fmt: skip
    """The head of `config` for embeddings [B, dim].

    `table` [rows, n]: the rows of `embeddings:` or `file:`; `means` [rows, n]: the class means that choose the vectors
    of order nearest; `teacher`: whose logits teach a class layer.
    """
    target = config.target
    if target.method == "ssl":
        assert target.temperature is not None
        return SelfSupervisedHead(dim, classes, target.temperature)
    if target.method == "lsc":
        return _lsc(config, classes, dim, table, means)
    narrow = bottleneck_width(target.bottleneck, classes)
    if teacher is None:
        return CrossEntropyHead(dim, classes, narrow, seed)
    assert target.teacher_weight is not None
    assert target.temperature is not None
    return DistilHead(
        dim, classes, narrow, seed, teacher=teacher, weight=target.teacher_weight, temperature=target.temperature
    )


def _lsc(config: RunConfig, classes: int, dim: int, table: Tensor | None, means: Tensor | None) -> LscHead:
    target = config.target
    assert target.system is not None
    kind = target.loss or "cosine"
    made = system(target.system, dim, classes=classes, table=table)
    if made.count < classes:
        raise UsageError(f"target.system: {target.system} at n = {dim} has {made.count} vectors, {classes} are needed")
    return LscHead(
        made,
        _order(target.order or "shuffled", made, config.seed, classes, means),
        classes,
        loss=kind,
        own=None if kind in LOSSES else plugins.load("losses", kind, "target.loss")(made),
        radius=1.0 if target.radius is None else target.radius,
        cluster_radius=target.cluster_radius or 0.0,
        weights=target.weights or (1.0, 1.0),
        within=target.within,
        within_weight=target.within_weight or 0.0,
    )


def _order(kind: str, system: VectorSystem, seed: int, classes: int, means: Tensor | None) -> Order:
    if not kind.startswith("nearest:"):
        return Order.make(kind, system, seed)
    if means is None or means.shape[1] != system.n or len(means) < classes:
        has = "none" if means is None else f"{len(means)} of n = {means.shape[1]}"
        raise UsageError(f"target.order: {kind} needs {classes} class means of n = {system.n}, there are {has}")
    means = means[:classes]
    empty = ~torch.isfinite(means).all(1) | ~means.any(1)
    if bool(empty.any()):
        raise UsageError(f"target.order: {kind}: class {int(empty.nonzero()[0])} has no mean, it has no images there")
    from lsc_engine.vectors.assign import assign_nearest

    # On the CPU, so that the same vectors are chosen on every device.
    return Order.stored("nearest", system, assign_nearest(system, means.cpu().float()))
