"""When things happen and which random numbers they draw, as pure functions of the step: nothing of it is saved."""

from __future__ import annotations

import hashlib
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
    """Whether something that happens every `every` steps and at the end is due after `step` steps."""
    return step == total or (every is not None and step % every == 0)


def derive_seed(seed: int, purpose: str, *numbers: int) -> int:
    """A 63-bit seed that differs for every purpose and step, the same on every machine and version."""
    text = ":".join(["lsc", str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
