"""The loss and accuracy that need no learning: the best constant answer, and chance.

A run that ends there "fails": below three times chance, or with a loss within 1 % of the best constant answer. For
cross-entropy that is ln(classes); for predefined vectors it is the least loss that one embedding, the same for every
image, can have: 1 - |mean of the centres in use| for the cosine loss (arXiv:2510.04090, equation 11).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lsc_engine.config import RunConfig, derive
from lsc_engine.errors import LscError
from lsc_engine.runs import Run
from lsc_engine.runs.compare import Row

if TYPE_CHECKING:
    import torch

    from lsc_engine.heads import Head

TIMES_CHANCE = 3.0
NEAR = 0.01
# Classes whose centres stand for all of them where the constant is searched for, and rows made at once.
_SAMPLE = 4096
_ROWS = 65_536


@dataclass(frozen=True)
class Floor:
    """`chance` is 1/classes, `loss` the best constant answer's (None where it cannot be told)."""

    chance: float | None
    loss: float | None

    def low_accuracy(self, accuracy: float | None) -> bool | None:
        """Whether an accuracy is below three times chance; None where that cannot be told."""
        if accuracy is None or self.chance is None or not math.isfinite(accuracy):
            return None
        return accuracy < TIMES_CHANCE * self.chance

    def trivial_loss(self, loss: float | None) -> bool | None:
        """Whether a loss is within 1 % of the best constant answer, or above it; None where that cannot be told."""
        if loss is None or self.loss is None:
            return None
        return not math.isfinite(loss) or loss >= (1 - NEAR) * self.loss

    def stuck(self, row: Row) -> str | None:
        """A clause where the row's mean final loss is the best constant answer's; None otherwise, and where the
        accuracy says that it has learned all the same."""
        last, accuracy = row.last.get("train/loss"), row.last.get("train/accuracy")
        if last is None or not self.trivial_loss(last[0]):
            return None
        if not math.isfinite(last[0]):
            return "without a loss at its end, which is not finite"
        if accuracy is not None and self.low_accuracy(accuracy[0]) is False:
            return None
        return f"stuck at its trivial loss, {last[0]:.4g} where the best constant answer has {self.loss:.4g}"


def floor_of(config: RunConfig, run: Run, data_dir: Path | None) -> Floor:
    """The floor of a run with these settings."""
    classes = config.data.classes
    if classes is None:
        try:
            classes = derive(config, data_dir).classes
        except LscError:
            return Floor(None, None)
    if config.target.method == "ce":
        return Floor(1 / classes, math.log(classes))
    if config.target.method != "lsc":
        return Floor(None, None)
    try:
        return Floor(1 / classes, constant_loss(config, run, classes, data_dir))
    except (LscError, OSError, ValueError):
        # A table of vectors that is gone, or more vectors than an index can name: the loss has no floor to be told.
        return Floor(1 / classes, None)


def constant_loss(config: RunConfig, run: Run, classes: int, data_dir: Path | None) -> float | None:
    """The least mean loss of one embedding for all classes, each as frequent as any other."""
    import torch

    from lsc_engine.training.trained import head_of

    head = head_of(config, run, classes=classes, dim=derive(config, data_dir).n)
    dim = head.dim
    assert dim is not None
    if config.target.loss == "cosine":
        total = torch.zeros(dim, dtype=torch.float64)
        for start in range(0, classes, _ROWS):
            labels = torch.arange(start, min(start + _ROWS, classes))
            total += _centres(head, labels).double().sum(0)
        return 1.0 - float(torch.linalg.vector_norm(total / classes))
    step = max(1, classes // _SAMPLE)
    return _least(head, torch.arange(0, classes, step)[:_SAMPLE])


def _centres(head: Head, labels: torch.Tensor) -> torch.Tensor:
    from lsc_engine.heads.lsc import LscHead

    assert isinstance(head, LscHead)
    return head.system.vectors(head.target(labels))


def _least(head: Head, labels: torch.Tensor) -> float:
    """The loss at the best single embedding for these labels, found by gradient from the mean of their centres."""
    import torch

    target = head.target(labels)
    point = _centres(head, labels).mean(0, keepdim=True).clone().requires_grad_(True)
    search = torch.optim.LBFGS([point], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = head.losses(point.expand(len(labels), -1), target).mean()
        value.backward()
        return value

    search.step(loss)
    with torch.no_grad():
        return float(head.losses(point.expand(len(labels), -1), target).mean())
