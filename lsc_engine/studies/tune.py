"""The tries of [tune]: which values were best, whether their grid has to grow, and what is still open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lsc_engine.analysis.compare import Tried
from lsc_engine.analysis.verdict import choose, growth, last_value, values_text
from lsc_engine.common.errors import UsageError
from lsc_engine.runs.folder.lock import holder
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.checks import Message
from lsc_engine.studies.plan import StudyPlan, TunePlan

Points = dict[str, list[dict[str, Any]]]


def tries_by_variant(tune: TunePlan, runs_dir: Path) -> dict[str, list[Tried]]:
    """The tries of every variant with their runs as they are now."""
    found: dict[str, list[Tried]] = {}
    for attempt in tune.tries:
        found.setdefault(attempt.variant, []).append(Tried(attempt.values, open_run(attempt.run.id, [runs_dir])))
    return found


def more_tries(plan: StudyPlan, tune: TunePlan, runs_dir: Path, message: Message) -> Points:
    """Variant -> the points beyond the preset's grid: a grid whose best value lies at its edge grows by a step."""
    points: Points = {}
    for variant, tries in tries_by_variant(tune, runs_dir).items():
        grown = [dict(one.values) for one in tries if any(v not in tune.grid[key] for key, v in one.values.items())]
        for point in growth(tries, tune.purposes[variant], tune.grid):
            edge = f"{variant}: the best value lies at the edge of the grid"
            try:
                plan.grown({variant: [point]})
            except UsageError as error:
                message(f"{edge}, which cannot grow to {values_text(point)}: {error.faults[0]}")
                continue
            message(f"{edge}, which grows to {values_text(point)}")
            grown.append(point)
        if grown:
            points[variant] = grown
    return points


def best_tries(tune: TunePlan, runs_dir: Path, message: Message) -> Points:
    """Per variant the best of the tried values for each of its purposes. UsageError if no try finished."""
    found: Points = {}
    for variant, tries in tries_by_variant(tune, runs_dir).items():
        for one in tries:
            if (state := one.run.status().state) != "finished":
                message(f"{one.run.id}: {state}, not a candidate")
        for purpose, best in choose(tries, tune.purposes[variant]).items():
            edge = ", at the edge of the grid" if best.edge else ""
            message(f"{variant}: {values_text(best.values)} is the best of its grid by {purpose}{edge}")
            chosen = found.setdefault(variant, [])
            if best.values not in chosen:
                chosen.append(dict(best.values))
    without = {attempt.variant for attempt in tune.tries} - set(found)
    if without:
        raise UsageError(f"[tune]: no try of {', '.join(sorted(without))} finished, so there is no best one")
    return found


def unended_tries(tune: TunePlan, runs_dir: Path, *, in_job: bool = False) -> list[str]:
    """A sentence for each try whose result may still change: it runs, waits or was stopped. `in_job`: for the log of a
    job, which does not wait."""
    found = []
    for attempt in tune.tries:
        run = open_run(attempt.run.id, [runs_dir])
        state = run.status().shown_state
        if (held := holder(run.path)) is not None:
            found.append(f"{run.id}: {held.sentence(waits=in_job)}")
        elif state not in ("finished", "failed", "diverged"):
            found.append(f"{run.id} is {state}; the same command goes on with it")
    return found


def tries_document(tune: TunePlan, runs_dir: Path) -> list[dict[str, Any]]:
    """The tries for JSON: run, variant, values, state, and the last value for each purpose."""
    found = []
    for attempt in tune.tries:
        run = open_run(attempt.run.id, [runs_dir])
        purposes = tune.purposes[attempt.variant]
        results = [{"by": str(purpose), "value": last_value(run, purpose.metric)} for purpose in purposes]
        about = {"id": run.id, "variant": attempt.variant, "values": dict(attempt.values)}
        found.append({**about, "state": run.status().shown_state, **results[0], "results": results})
    return found
