"""Whether a run has learned more than the best constant answer: what may serve as a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# A loss this near to the best constant answer's is that of one; an accuracy this far from chance to 1 is learned.
NEAR, LEARNED = 0.01, 0.05


@dataclass(frozen=True, slots=True)
class TrivialBaseline:
    """`chance` is 1/classes, `loss` the best constant answer's; None if unknown."""

    chance: float | None = None
    loss: float | None = None

    def above_chance(self, accuracy: float | None) -> bool | None:
        """Whether an accuracy is clearly above chance; None if that is unknown."""
        if accuracy is None or self.chance is None or not math.isfinite(accuracy):
            return None
        return accuracy > self.chance + LEARNED * (1 - self.chance)

    def trivial_loss(self, loss: float | None) -> bool | None:
        """Whether a loss is within 1 % of the best constant answer, or above it; None if that is unknown."""
        if loss is None or self.loss is None:
            return None
        return not math.isfinite(loss) or loss >= (1 - NEAR) * self.loss

    def at_trivial_loss(self, last: Mapping[str, tuple[float, float, int]]) -> str | None:
        """A clause if the mean final loss of `last` (metric -> mean, deviation, seeds) is the best constant answer's;
        None otherwise, and if the accuracy shows learning all the same."""
        loss, accuracy = last.get("train/loss"), last.get("train/accuracy")
        if loss is None or not self.trivial_loss(loss[0]):
            return None
        if not math.isfinite(loss[0]):
            return "without a loss at its end, which is not finite"
        if accuracy is not None and self.above_chance(accuracy[0]):
            return None
        return f"stuck at its trivial loss, {loss[0]:.4g} where the best constant answer has {self.loss:.4g}"
