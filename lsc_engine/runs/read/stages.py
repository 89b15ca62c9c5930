"""The runs that a run builds on, for class means, weights or an order, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lsc_engine.common.errors import UsageError
from lsc_engine.config.references import references
from lsc_engine.runs.read.run import Run, open_run


@dataclass(frozen=True)
class Cost:
    """Steps and seconds of training."""

    steps: float
    seconds: float


def cost_of(run: Run) -> Cost:
    """Steps done and seconds of training over all attempts, from the metrics."""
    steps = seconds = 0.0
    for name in run.metric_names():
        step, _, _, time = run.axes(name)
        if len(step):
            steps = max(steps, float(step[-1]))
            seconds = max(seconds, 0.0 if math.isnan(time[-1]) else float(time[-1]))
    return Cost(steps, seconds)


def stages_of(run: Run) -> tuple[list[Run], list[str]]:
    """Every run that this one needs, directly or through others, each once; and the ids that are not found."""
    found: dict[str, Run] = {}
    missing: list[str] = []
    pending = [reference.ref for reference in references(run.config)]
    while pending:
        name = pending.pop()
        if name in found or name in missing or name == run.id:
            continue
        try:
            found[name] = open_run(name, [run.root] if run.root is not None else None)
        except UsageError:
            missing.append(name)
            continue
        pending += [reference.ref for reference in references(found[name].config)]
    return list(found.values()), missing
