"""From a run's settings to its head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lsc_engine.common.errors import UsageError
from lsc_engine.config.derived import bottleneck_width
from lsc_engine.config.schema import CrossEntropy, Lsc, Ssl
from lsc_engine.heads.base import Head
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.distillation import DistillationHead, Teacher
from lsc_engine.heads.loss import Loss
from lsc_engine.heads.lsc import LscHead, PluginLoss
from lsc_engine.heads.ssl import SelfSupervisedHead
from lsc_engine.registry import LOSSES
from lsc_engine.vectors import VectorSystem, system
from lsc_engine.vectors.choice import INIT_ORDER
from lsc_engine.vectors.order import Order

if TYPE_CHECKING:
    from lsc_engine.config.schema import RunConfig


def build_head(
    config: RunConfig,
    *,
    classes: int,
    dim: int,
    seed: int,
    table: Tensor | None = None,
    means: Tensor | None = None,
    teacher: Teacher | None = None,
) -> Head:
    """The head of `config` for embeddings [B, dim].

    `table` [rows, n]: the vectors of a system `embeddings:` or `file:`; `means` [rows, n]: the class means that choose
    the vectors of order nearest; `teacher`: whose logits teach a class layer.
    """
    target = config.target
    if isinstance(target, Ssl):
        return SelfSupervisedHead(dim, classes, target.temperature)
    if isinstance(target, Lsc):
        return _lsc(target, config.seed, classes, dim, table, means)
    if teacher is None:
        return class_layer(config, dim, classes, seed)
    assert target.teacher_weight is not None
    assert target.temperature is not None
    return DistillationHead(
        dim,
        classes,
        bottleneck_width(config, classes),
        seed,
        teacher=teacher,
        weight=target.teacher_weight,
        temperature=target.temperature,
    )


def class_layer(config: RunConfig, dim: int, classes: int, seed: int) -> CrossEntropyHead:
    """The head of a run with cross-entropy and no teacher."""
    target = config.target
    assert isinstance(target, CrossEntropy)
    given = {key: getattr(target, key) for key in ("loss", "scale", "margin", "share", "center_weight", "momentum")}
    given = {key: value for key, value in given.items() if value is not None}
    bottleneck = bottleneck_width(config, classes)
    return CrossEntropyHead(dim, classes, bottleneck, seed, batch_size=config.train.batch_size, **given)


def _lsc(target: Lsc, seed: int, classes: int, dim: int, table: Tensor | None, means: Tensor | None) -> LscHead:
    vectors = system(target.system, dim, classes=classes, table=table, seed=seed)
    if vectors.count < classes:
        raise UsageError(
            f"target.system: {target.system} at n = {dim} has {vectors.count} vectors, {classes} are needed"
        )
    order = _order(target.order, vectors, seed, classes, means)
    loss = _loss(target, vectors)
    return LscHead(vectors, order, classes, loss, within=target.within, within_weight=target.within_weight or 0.0)


def _loss(target: Lsc, vectors: VectorSystem) -> Loss:
    name = target.loss
    if name not in LOSSES.built_in:
        return PluginLoss(name=name, function=LOSSES.load_plugin(name, "target.loss")(vectors))
    loss: type[Loss] = LOSSES.built_in[name]
    settings = {key: getattr(target, key) for key in loss.model_fields}
    return loss(**{key: value for key, value in settings.items() if value is not None})


def _order(kind: str, system: VectorSystem, seed: int, classes: int, means: Tensor | None) -> Order:
    if kind == INIT_ORDER:
        return Order.stored(kind, system, torch.arange(classes))
    if not kind.startswith("nearest:"):
        return Order.make(kind, system, seed)
    if means is None or means.shape[1] != system.n or len(means) < classes:
        has = "none" if means is None else f"{len(means)} of n = {means.shape[1]}"
        raise UsageError(f"target.order: {kind} needs {classes} class means of n = {system.n}, there are {has}")
    means = check_class_means(means[:classes], kind)
    from lsc_engine.vectors.choice import assign_nearest

    # On the CPU, so that the same vectors are chosen on every device.
    return Order.stored("nearest", system, assign_nearest(system, means.cpu().float()))


def check_class_means(means: Tensor, order: str) -> Tensor:
    """The class means [classes, n] that choose vectors. UsageError for a class without images, whose mean is 0."""
    empty = ~torch.isfinite(means).all(1) | ~means.any(1)
    if bool(empty.any()):
        raise UsageError(f"target.order: {order}: class {int(empty.nonzero()[0])} has no mean, it has no images there")
    return means
