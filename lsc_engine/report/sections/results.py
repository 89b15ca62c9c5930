"""The sections of a report on final values and on cost, and the same values as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsc_engine.analysis.compare import BASELINE, Row
from lsc_engine.analysis.levels import LevelResult
from lsc_engine.common.formatting import NOTHING, duration, grouped, percent, significant
from lsc_engine.report.markdown import bullets, csv_text, md, table
from lsc_engine.report.study_data import StudyData
from lsc_engine.runs.read.stages import Cost, cost_of, stages_of


def final_table(data: StudyData) -> str:
    """Final values, mean ± standard deviation over seeds, beside the paper's and the best constant answer."""
    paper = data.paper
    names = accuracy_names(data.rows)
    losses = [name for name in ("train/loss", "val/loss") if any(name in row.last for row in data.rows)]
    head = ["variant", "seeds", *([f"paper: {paper.metric}"] if paper.values else [])]
    head += [*(f"{name} %" for name in names), *losses, "best constant loss"]
    rows = []
    for row in data.rows:
        done = sum(state == "finished" for state in row.states.values())
        cells = [data.name(row), f"{len(row.runs)}" if done == len(row.runs) else f"{done} of {len(row.runs)}"]
        cells += [paper.values.get(row.variant, NOTHING)] if paper.values else []
        cells += [spread(row.last.get(name), 100) for name in names]
        cells += [spread(row.last.get(name)) + (f" {row.kind}" if name in row.last else "") for name in losses]
        rows.append([*cells, significant(row.trivial.loss)])
    # Variants that the paper has a figure of and that have no runs here.
    labels = {variant.name: variant.label for variant in data.preset.variants} if data.preset is not None else {}
    for name in (name for name in paper.values if all(row.variant != name for row in data.rows)):
        rows.append([labels.get(name, name), "0", paper.values[name], *[NOTHING] * (len(head) - 3)])
    notes = [f"{md(row.label)} is {row.at_trivial_loss}." for row in data.rows if row.at_trivial_loss is not None]
    notes += _chance(data.rows)
    if any("inside" in name for name in names):
        notes.append("inside: the share of images closer to their own centre than half the smallest angle.")
    if paper.values:
        notes.append(f"The paper's figures are the paper's, on its data. {md(paper.note)}".strip())
    elif paper.note:
        notes.append(f"The paper: {md(paper.note)}.")
    text = table([md(cell) for cell in head], [[md(cell) for cell in row] for row in rows], "lr" + "r" * len(head))
    return "\n\n".join(part for part in (text, bullets(notes)) if part)


def accuracy_names(rows: Sequence[Row]) -> list[str]:
    """The shares that were logged: accuracies first."""
    found = sorted({name for row in rows for name in row.last if "accuracy" in name or "/inside" in name})
    return sorted(found, key=lambda name: (name != "train/accuracy", "accuracy" not in name, name))


def _chance(rows: Sequence[Row]) -> list[str]:
    labels: dict[float, list[str]] = {}
    for row in rows:
        if row.trivial.chance is not None:
            labels.setdefault(row.trivial.chance, []).append(row.label)
    if len(labels) == 1:
        return [f"Chance is {100 * next(iter(labels)):.3g} %."]
    each = [f"{100 * level:.3g} % for {md(', '.join(labels[level]))}" for level in sorted(labels)]
    return [f"Chance is {'; '.join(each)}."] if each else []


def spread(last: tuple[float, float, int] | None, scale: float = 1) -> str:
    """`97.2 ± 0.3`; without a deviation if there is one seed. `scale` 100: in per cent."""
    if last is None:
        return NOTHING
    mean, deviation, seeds = last
    if not math.isfinite(mean):
        return "not finite"
    if scale == 100:
        return percent(mean) + (f" ± {percent(deviation)}" if seeds > 1 else "")
    wide = significant(deviation, 2) if deviation < 100 else grouped(deviation)
    return significant(mean) + (f" ± {wide}" if seeds > 1 else "")


# --- cost -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowCost:
    """What one variant took, mean over its seeds, alone and with the runs it begins with."""

    own: Cost
    before: Cost
    stages: tuple[str, ...]

    def whole(self) -> Cost:
        """With the runs it begins with."""
        return _sum([self.own, self.before])


def _costs(rows: Sequence[Row]) -> dict[str, RowCost]:
    """The cost of every row, by its key."""
    found = {}
    for row in rows:
        stages = [stages_of(run) for run in row.runs]
        before = [_sum([cost_of(stage) for stage in known]) for known, _ in stages]
        names = [stage.variant for known, _ in stages for stage in known]
        names += [f"{name} (not found)" for _, lost in stages for name in lost]
        found[row.key] = RowCost(_mean([cost_of(run) for run in row.runs]), _mean(before), tuple(dict.fromkeys(names)))
    return found


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(c.steps for c in costs), sum(c.seconds for c in costs))


def _mean(costs: Sequence[Cost]) -> Cost:
    total, count = _sum(costs), max(1, len(costs))
    return Cost(total.steps / count, total.seconds / count)


def cost_table(data: StudyData, sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """Steps, seconds, speed and parameters of each variant, and the same with the stages it begins with."""
    costs = _costs(data.rows)
    staged = any(cost.stages for cost in costs.values())
    head = ["variant", "steps", "time", "images/s", *(["begins with", "steps in all", "time in all"] if staged else [])]
    head += ["parameters", "of them class layer"]
    rows = []
    for row in data.rows:
        cost, known = costs[row.key], sizes.get(row.key, {})
        speed = row.last.get("speed/images_per_second")
        cells = [md(data.name(row)), grouped(cost.own.steps), duration(cost.own.seconds)]
        cells.append(grouped(speed[0]) if speed is not None else NOTHING)
        if staged:
            whole = cost.whole()
            cells += [md(", ".join(cost.stages)) or NOTHING, grouped(whole.steps), duration(whole.seconds)]
        total = known.get("parameters", math.nan) + known.get("head_parameters", math.nan)
        rows.append([*cells, grouped(total), grouped(known.get("head_parameters"))])
    text = table(head, rows, "lrrr" + ("lrr" if staged else "") + "rr")
    base = data.baseline
    if not staged or base is None or not base.levels or base.at_trivial_loss is not None:
        return text
    return f"{text}\n\nWith the stages before counted:\n\n{_staged_levels(data, base, costs)}"


def _staged_levels(data: StudyData, base: Row, costs: Mapping[str, RowCost]) -> str:
    """Steps and seconds to each level with the first stages counted."""
    rows = []
    for index, level in enumerate(base.levels):
        theirs = _to_level(base, index, costs)
        for row in data.rows:
            own, reached = _to_level(row, index, costs), row.levels[index]
            cells = [f"{md(level.metric)} {level.level:g}", md(data.name(row))]
            cells += [grouped(own.steps) if own else NOTHING, _ratio(theirs, own, reached, "steps")]
            rows.append([*cells, duration(own.seconds) if own else NOTHING, _ratio(theirs, own, reached, "seconds")])
    return table(("level", "variant", "steps", "sooner", "time", "sooner"), rows, "llrrrr")


def _to_level(row: Row, index: int, costs: Mapping[str, RowCost]) -> Cost | None:
    steps, time = row.levels[index].mean("steps"), row.levels[index].mean("seconds")
    return None if steps is None or time is None else _sum([Cost(steps, time), costs[row.key].before])


def _ratio(base: Cost | None, own: Cost | None, level: LevelResult, unit: str) -> str:
    note = level.faster[unit].note.replace(BASELINE, "")
    if note or base is None or own is None:
        return note or NOTHING
    ours, theirs = getattr(own, unit), getattr(base, unit)
    return f"×{theirs / ours:.1f}" if ours > 0 else NOTHING


# --- CSV --------------------------------------------------------------------------------------------------------------


def runs_csv(rows: Sequence[Row]) -> str:
    """One line per run: state, length, time, and the last value of every metric."""
    runs = [(row, run) for row in rows for run in row.runs]
    names = sorted({name for _, run in runs for name in run.metric_names() if name not in ("epoch", "time")})
    lines = []
    for row, run in runs:
        cost = cost_of(run)
        last = {name: float(values[-1]) for name in names if len(values := run.history(name)[1])}
        about = [run.id, run.variant, row.label, run.seed, row.states.get(run.seed, ""), int(cost.steps), cost.seconds]
        lines.append([*about, row.kind, *(last.get(name) for name in names)])
    return csv_text(["run", "variant", "label", "seed", "state", "steps", "seconds", "loss_kind", *names], lines)
