"""What a run reaches without learning: chance, and the loss of the best constant answer."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from lsc_engine.analysis.compare import TrivialBaseline
from lsc_engine.common.errors import LscError
from lsc_engine.config.derived import derive
from lsc_engine.config.schema import CrossEntropy, Lsc, RunConfig
from lsc_engine.heads.lsc import LscHead
from lsc_engine.runs.read.run import Run
from lsc_engine.training.trained_run import build_untrained_head

# Classes whose centres stand for all of them where the constant is searched for, and rows made at once.
_SAMPLE = 4096
_ROWS = 65_536


def trivial_baseline_of(config: RunConfig, run: Run, data_dir: Path | None, *, search: bool = True) -> TrivialBaseline:
    """Chance and the best constant loss of a run with these settings; unknown ones are None. Without `search` so is a
    loss that takes seconds to find."""
    classes = config.data.classes
    if classes is None:
        try:
            classes = derive(config, data_dir).classes
        except LscError:
            return TrivialBaseline(None, None)
    if isinstance(config.target, CrossEntropy):
        # A margin, or a sum over some classes, moves it.
        plain = config.target.loss in (None, "normalized") and config.target.share is None
        return TrivialBaseline(1 / classes, math.log(classes) if plain else None)
    if not isinstance(config.target, Lsc):
        return TrivialBaseline(None, None)
    if not search and config.target.loss != "cosine":
        return TrivialBaseline(1 / classes, None)
    try:
        return TrivialBaseline(1 / classes, constant_loss(config, run, classes, data_dir))
    except (LscError, OSError, ValueError):
        # A table of vectors that is gone, or more vectors than an index can name: the loss has no known floor.
        return TrivialBaseline(1 / classes, None)


def constant_loss(config: RunConfig, run: Run, classes: int, data_dir: Path | None) -> float | None:
    """The least mean loss of one embedding for all classes, each as frequent as any other; for the cosine loss
    1 - |mean of the centres in use| (arXiv:2510.04090, equation 11)."""
    head = build_untrained_head(config, run, classes=classes, dim=derive(config, data_dir).n)
    if isinstance(config.target, Lsc) and config.target.loss == "batch-softmax":
        return None  # it hangs on the batch
    dim = head.dim
    assert dim is not None
    assert isinstance(head, LscHead)
    if isinstance(config.target, Lsc) and config.target.loss == "cosine":
        total = torch.zeros(dim, dtype=torch.float64)
        for start in range(0, classes, _ROWS):
            labels = torch.arange(start, min(start + _ROWS, classes))
            total += head.system.vectors(head.target(labels)).double().sum(0)
        return 1.0 - float(torch.linalg.vector_norm(total / classes))
    labels = torch.arange(0, classes, max(1, classes // _SAMPLE))[:_SAMPLE]
    # The loss at the best single embedding for these labels, found by gradient from the mean of their centres.
    target = head.target(labels)
    point = head.system.vectors(target).mean(0, keepdim=True).clone().requires_grad_(True)
    search = torch.optim.LBFGS([point], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = head.losses(point.expand(len(labels), -1), target).mean()
        value.backward()
        return value

    search.step(loss)
    with torch.no_grad():
        return float(head.losses(point.expand(len(labels), -1), target).mean())
