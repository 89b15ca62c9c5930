"""What a run begins with: the runs whose class means, weights or order it takes, and what they cost. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from lsc_engine.config.references import references
from lsc_engine.errors import UsageError
from lsc_engine.runs.read.run import Run, open_run


@dataclass(frozen=True)
class Cost:
    """Steps and seconds of training."""

    steps: float
    seconds: float


def cost_of(run: Run) -> Cost:
    """Steps done and seconds of training over all attempts, as the metrics tell them."""
    steps = seconds = 0.0
    for name in run.metric_names():
        step, _, _, time = run.axes(name)
        if len(step):
            steps = max(steps, float(step[-1]))
            seconds = max(seconds, float(time[-1]) if time[-1] == time[-1] else 0.0)
    return Cost(steps, seconds)


def stages_of(run: Run) -> tuple[list[Run], list[str]]:
    """Every run that this one needs, directly or through others, each once; and the ids that are not found."""
    found: dict[str, Run] = {}
    lost: list[str] = []
    pending = [named.ref for named in references(run.config)]
    while pending:
        name = pending.pop()
        if name in found or name in lost or name == run.id:
            continue
        try:
            stage = open_run(name, [run.root] if run.root is not None else None)
        except UsageError:
            lost.append(name)
            continue
        found[name] = stage
        pending += [named.ref for named in references(stage.config)]
    return list(found.values()), lost
