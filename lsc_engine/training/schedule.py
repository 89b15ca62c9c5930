"""When things happen, as pure functions of the step: the learning rate, and whether it is time for something."""

from __future__ import annotations

import math
from collections.abc import Iterable


def learning_rate(
    step: int, *, base: float, schedule: str, total: int, warmup: int = 0, milestones: Iterable[int] = (), gamma: float
) -> float:
    """The rate of optimizer step `step` (from 0): linear warm-up, then constant, cosine to 0, or times `gamma` at
    each milestone."""
    if step < warmup:
        return base * (step + 1) / warmup
    if schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
    if schedule == "steps":
        return float(base * gamma ** sum(step >= milestone for milestone in milestones))
    return base


def is_time(step: int, every: int | None, total: int) -> bool:
    """After `step` steps, is it time for what comes every `every` steps and at the end?"""
    return step == total or (every is not None and step % every == 0)
