"""What a network gets before its first step: a standardised output and, with order nearest:init, its vectors.

For the embeddings z = W h + b of all training images, without augmentation, with mean m and deviation s of each
coordinate, W' = W / s and b' = (b - m) / s make z' = (z - m) / s: mean 0 and deviation 1. Each class then gets
the vector nearest to the mean of its z' (vectors/choice.py). Batch norm uses the statistics of all these images, taken
in a pass before; its own running statistics are put back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lsc_engine.heads.base import Head
from lsc_engine.heads.build import check_class_means
from lsc_engine.heads.lsc import LscHead
from lsc_engine.models.network import output_layer
from lsc_engine.training.context import RunContext
from lsc_engine.training.evaluator import Evaluator, evaluation_mode
from lsc_engine.vectors.choice import INIT_ORDER, assign_nearest


def choose(run: RunContext, evaluator: Evaluator, model: nn.Module, head: Head, step: int) -> dict[str, Any]:
    """Before the first step standardise the output of `model`; with order nearest:init give the classes of `head`
    vectors, then and later.

    Returns for source.json: step, seconds of the passes over the images and of the assignment, and the mean cosine
    between class means and their vectors. Interrupted by a stop, which leaves model and head as they were.
    """
    chooser = head if isinstance(head, LscHead) and head.order.kind == INIT_ORDER else None
    measured = None if run.mesh.rank else _measure(run, evaluator, model, chooser, step)
    found, indices, mean, deviation = run.mesh.share(measured)
    if chooser is not None:
        chooser.choose(indices)
    if step == 0:
        layer = output_layer(model)
        with torch.no_grad():
            layer.weight.div_(deviation.to(layer.weight.device).unsqueeze(1))
            layer.bias.sub_(mean.to(layer.weight.device)).div_(deviation.to(layer.weight.device))
    return dict(found)


def _measure(
    run: RunContext, evaluator: Evaluator, model: nn.Module, chooser: LscHead | None, step: int
) -> tuple[dict[str, Any], Tensor | None, Tensor, Tensor]:
    """(the record, the vectors, mean and deviation [n] of each coordinate), on the CPU."""
    began, moments = time.perf_counter(), _Moments()
    with evaluation_mode(model), all_images_statistics(model, evaluator.all_embeddings(step)):
        means = evaluator.class_means(step, moments.update).cpu()
    mean, deviation, indices = moments.mean.float().cpu(), moments.deviation.float().cpu(), None
    found: dict[str, Any] = {"step": step, "pass_seconds": round(time.perf_counter() - began, 3)}
    if chooser is not None:
        began = time.perf_counter()
        check_class_means(means, INIT_ORDER)
        if step == 0:
            means.sub_(mean).div_(deviation)
        # On the CPU, so that the same vectors are chosen on every device.
        indices = assign_nearest(chooser.system, means, lambda: run.keep_alive(step))
        found["assign_seconds"] = round(time.perf_counter() - began, 3)
        found["mean_cosine"] = float(chooser.system.cosine(means, indices).double().mean())
    return found, indices, mean, deviation


class _Moments:
    """Mean and deviation [n] float64 of all rows seen; the deviation of a constant coordinate is 1."""

    def __init__(self) -> None:
        self._rows: int = 0
        self._sum = self._squares = torch.zeros(())

    def update(self, z: Tensor) -> None:
        rows = z.double()
        self._rows += len(rows)
        self._sum, self._squares = self._sum + rows.sum(0), self._squares + rows.square().sum(0)

    @property
    def mean(self) -> Tensor:
        return self._sum / self._rows

    @property
    def deviation(self) -> Tensor:
        found = (self._squares / self._rows - self.mean.square()).clamp(min=0).sqrt()
        return torch.where(found > 1e-6 * self.mean.abs(), found, 1.0)


@contextmanager
def all_images_statistics(model: nn.Module, embeddings: Iterable[Any]) -> Iterator[None]:
    """Within, batch norm has the mean statistics of the batches that the pass over `embeddings` makes; afterwards its
    own again."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(m.momentum, {name: buffer.clone() for name, buffer in m.named_buffers()}) for m in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            # None: the mean over all batches.
            norm.momentum = None
            norm.train()
        for _ in embeddings if norms else ():
            pass
        for norm in norms:
            norm.eval()
        yield
    finally:
        for norm, (momentum, buffers) in zip(norms, before, strict=True):
            norm.momentum = momentum
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])
