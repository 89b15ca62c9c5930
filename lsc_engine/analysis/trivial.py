"""Whether a run has learned more than the best constant answer: what may serve as a baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lsc_engine.analysis.compare import Row

# A loss so near to the best constant answer's is that of one; an accuracy so far from chance to 1 is learned.
NEAR, LEARNED = 0.01, 0.05


@dataclass(frozen=True)
class Floor:
    """`chance` is 1/classes, `loss` the best constant answer's (None where it cannot be told)."""

    chance: float | None = None
    loss: float | None = None

    def above_chance(self, accuracy: float | None) -> bool | None:
        """Whether an accuracy is clearly above chance; None where that cannot be told."""
        if accuracy is None or self.chance is None or not math.isfinite(accuracy):
            return None
        return accuracy > self.chance + LEARNED * (1 - self.chance)

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
        if accuracy is not None and self.above_chance(accuracy[0]):
            return None
        return f"stuck at its trivial loss, {last[0]:.4g} where the best constant answer has {self.loss:.4g}"
