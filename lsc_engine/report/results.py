"""The sections of a report that tell what came out: verdicts, final values, levels, cost, and the same as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lsc_engine.report.judging import Judged, claims_of
from lsc_engine.report.material import Material
from lsc_engine.report.text import bullets, csv_text, grouped, md, percent, seconds, short, table
from lsc_engine.runs import Run
from lsc_engine.runs.compare import BASELINE, UNITS, LevelResult, Row, compare, is_loss
from lsc_engine.runs.stages import Cost, cost_of, stages_of

NEVER = "-"
_FEW_SEEDS = 3
# How the results of claims are told, for who reads one page only.
_READING = {
    "faster": "Faster: every level that the preset fixes is reached in fewer epochs; a tie is not faster. It holds "
    "where that is so in every seed. Differs by level: at some levels only; by seed: in some seeds only.",
    "better": "Better: the final value of the mean over the seeds is ahead by more than the margin, and every seed is "
    "ahead.",
    "similar": "As good as: the final values differ in the mean by no more than the margin, either way.",
    "fails": "Fails: the accuracy ends below three times chance, the loss within 1 % of the best constant answer.",
    "works": "Works: the accuracy ends at three times chance or above, the loss more than 1 % under that of the best "
    "constant answer.",
}


def verdict_table(found: Sequence[Judged], seeds: int) -> str:
    """Every claim with whose it is, and its verdict by accuracy and by loss."""
    rows = []
    marked = any(one.source for one in found)
    for one in found:
        what = {"faster": "faster", "better": "better", "similar": "similar", "fails": "fails", "works": "works"}
        about = f"{md(one.variant)} {what[one.result]}" + (f" than {md(one.against)}" if one.against else "")
        if one.result == "similar":
            about = f"{md(one.variant)} as good as {md(one.against)}"
        whose = [md(one.source) or NEVER] if marked else []
        measured = md("; ".join(one.details)) or NEVER
        rows.append([md(one.text), *whose, about, md(one.accuracy), md(one.loss), measured])
    text = table(("claim", *(["whose"] if marked else []), "tested as", "by accuracy", "by loss", "measured"), rows)
    told = bullets(_READING[result] for result in dict.fromkeys(one.result for one in found) if result in _READING)
    few = f"Told from {seeds} seed{'s' if seeds != 1 else ''}; a verdict wants at least {_FEW_SEEDS}."
    return "\n\n".join([text, told, *([few] if 0 < seeds < _FEW_SEEDS else [])]) if text else text


def final_table(material: Material) -> str:
    """Final values, mean ± standard deviation over seeds, beside the paper's and the best constant answer."""
    paper = material.preset.reporting.paper if material.preset is not None else None
    names = accuracy_names(material.rows)
    losses = [name for name in ("train/loss", "val/loss") if any(name in row.last for row in material.rows)]
    head = ["variant", "seeds", *([f"paper: {md(paper.metric)}"] if paper is not None and paper.values else [])]
    head += [f"{md(name)} %" for name in names] + [md(name) for name in losses] + ["best constant loss"]
    rows = []
    for row in material.rows:
        done = sum(state == "finished" for state in row.states.values())
        cells = [_name(material, row), f"{len(row.runs)}" if done == len(row.runs) else f"{done} of {len(row.runs)}"]
        if paper is not None and paper.values:
            cells.append(md(paper.values.get(row.runs[0].variant, NEVER)))
        cells += [spread(row.last.get(name), 100) for name in names]
        cells += [spread(row.last.get(name), 1) + (f" {row.kind}" if name in row.last else "") for name in losses]
        floor = material.floors.get(row.key)
        rows.append([*cells, short(floor.loss if floor is not None else None)])
    rows += _only_paper(material, len(head))
    notes = [f"{md(row.label)} is {why}." for row in material.rows if (why := material.stuck(row)) is not None]
    notes += _chance(material)
    if any("inside" in name for name in names):
        notes.append("inside: the share of images closer to their own centre than half the smallest angle.")
    if paper is not None and paper.values:
        notes.append(f"The paper's figures are the paper's, on its data. {md(paper.note)}".strip())
    elif paper is not None and paper.note:
        notes.append(f"The paper: {md(paper.note)}.")
    return "\n\n".join(part for part in (table(head, rows, "lr" + "r" * len(head)), bullets(notes)) if part)


def accuracy_names(rows: Sequence[Row]) -> list[str]:
    """The shares that were logged: accuracies first."""
    found = sorted({name for row in rows for name in row.last if "accuracy" in name or "/inside" in name})
    return sorted(found, key=lambda name: (name != "train/accuracy", "accuracy" not in name, name))


def _only_paper(material: Material, width: int) -> list[list[str]]:
    """Variants that the paper has a figure of and that have no runs here."""
    paper = material.preset.reporting.paper if material.preset is not None else None
    if paper is None or material.preset is None:
        return []
    labels = {variant.name: variant.label for variant in material.preset.variants}
    absent = [name for name in paper.values if material.row(name) is None]
    return [[md(labels.get(n, n)), "0", md(paper.values[n]), *[NEVER] * (width - 3)] for n in absent]


def _chance(material: Material) -> list[str]:
    labels: dict[float, list[str]] = {}
    for row in material.rows:
        floor = material.floors.get(row.key)
        if floor is not None and floor.chance is not None:
            labels.setdefault(floor.chance, []).append(row.label)
    if len(labels) == 1:
        return [f"Chance is {100 * next(iter(labels)):.3g} %."]
    each = [f"{100 * level:.3g} % for {md(', '.join(labels[level]))}" for level in sorted(labels)]
    return [f"Chance is {'; '.join(each)}."] if each else []


def _name(material: Material, row: Row) -> str:
    marks = " (baseline)" if row is material.baseline else ""
    return md(row.label) + marks + (" †" if material.stuck(row) is not None else "")


def spread(last: tuple[float, float, int] | None, scale: float) -> str:
    """`97.2 ± 0.3`; without a deviation where there is one seed."""
    if last is None:
        return NEVER
    mean, deviation, seeds = last
    if not math.isfinite(mean):
        return "not finite"
    if scale == 100:
        return percent(mean) + (f" ± {percent(deviation)}" if seeds > 1 else "")
    wide = short(deviation, 2) if deviation < 100 else grouped(deviation)
    return short(mean) + (f" ± {wide}" if seeds > 1 else "")


# --- levels -----------------------------------------------------------------------------------------------------------


def level_tables(material: Material) -> str:
    """Steps, epochs and seconds to each level, and how much sooner than what a claim names, else the baseline, with the
    range over seeds."""
    base = material.baseline
    if base is None or not base.levels:
        return ""
    against = references(material)
    several = len({row.key for row in against.values()}) > 1
    head = ("variant", *(["against"] if several else []), "steps", "sooner", "epochs", "sooner", "seconds", "sooner")
    told = {row.key: _levels_against(row, against.get(row.key), base) for row in material.rows}
    parts = []
    for index, level in enumerate(base.levels):
        rows = []
        for row in material.rows:
            other = against.get(row.key)
            compared = other is not None and material.stuck(other) is None
            names = [md(other.label) if other is not None else NEVER] if several else []
            rows.append([_name(material, row), *names, *_level_cells(told[row.key][index], compared)])
        goal = f"{level.level:g}" if is_loss(level.metric) else f"{100 * level.level:g} %"
        parts.append(f"**{md(level.metric)} {goal}**\n\n{table(head, rows, 'l' + 'l' * several + 'rrrrrr')}")
    stuck = {row.label: why for row in against.values() if (why := material.stuck(row)) is not None}
    parts += [f"{md(label)} is {why}: no speed-up is told against it." for label, why in stuck.items()]
    if len(stuck) < len({row.key for row in against.values()}):
        place = "" if several else f" against {md(next(iter(against.values())).label)}"
        parts.append(
            f"Sooner{place}: in brackets the range over seeds. `>` of a place: not reached in so long. `>×`: at least "
            "so much, the other did not reach it."
        )
    return "\n\n".join(parts)


def references(material: Material) -> dict[str, Row]:
    """Row key -> the row that a claim compares it with, else the baseline; none for what others are compared with."""
    base = material.baseline
    assert base is not None
    found: dict[str, Row] = {}
    for claim in claims_of(material):
        row, other = material.row(claim.variant), material.row(claim.against) if claim.against else base
        if row is not None and other is not None and row is not other and claim.result not in ("fails", "works"):
            found.setdefault(row.key, other)
    named = {row.key for row in found.values()}
    for row in material.rows:
        if row is not base and row.key not in named:
            found.setdefault(row.key, base)
    return found


def _levels_against(row: Row, other: Row | None, base: Row) -> list[LevelResult]:
    """The levels of a row, compared with another row than the baseline where there is one."""
    if other is None or other is base or (row is base and other is base):
        return row.levels
    levels: dict[str, list[float]] = {}
    for level in row.levels:
        levels.setdefault(level.metric, []).append(level.level)
    return compare([*other.runs, *row.runs], other.key, levels).rows[1].levels


def _level_cells(level: LevelResult, compared: bool) -> list[str]:
    cells = []
    for unit in UNITS:
        cells += [md(level.text(unit)), md(str(level.faster[unit])) if compared else NEVER]
    return cells


# --- cost -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowCost:
    """What one variant took, mean over its seeds, alone and with the runs it begins with."""

    own: Cost
    before: Cost
    stages: tuple[str, ...]


def costs(material: Material) -> dict[str, RowCost]:
    """The cost of every row, by its key."""
    found = {}
    for row in material.rows:
        own = [cost_of(run) for run in row.runs]
        stages = [stages_of(run) for run in row.runs]
        before = [_sum([cost_of(stage) for stage in found_stages]) for found_stages, _ in stages]
        names = tuple(dict.fromkeys(stage.variant for found_stages, _ in stages for stage in found_stages))
        absent = tuple(dict.fromkeys(f"{name} (not found)" for _, lost in stages for name in lost))
        found[row.key] = RowCost(_mean(own), _mean(before), (*names, *absent))
    return found


def _sum(all_costs: Sequence[Cost]) -> Cost:
    return Cost(sum(c.steps for c in all_costs), sum(c.seconds for c in all_costs))


def _mean(all_costs: Sequence[Cost]) -> Cost:
    count = max(1, len(all_costs))
    total = _sum(all_costs)
    return Cost(total.steps / count, total.seconds / count)


def cost_table(material: Material, sizes: dict[str, dict[str, Any]]) -> str:
    """Steps, seconds, speed and parameters of each variant, and the same with the stages it begins with."""
    found = costs(material)
    staged = any(cost.stages for cost in found.values())
    head = ["variant", "steps", "time", "images/s", *(["begins with", "steps in all", "time in all"] if staged else [])]
    head += ["parameters", "of them class layer"]
    rows = []
    for row in material.rows:
        cost, known = found[row.key], sizes.get(row.key, {})
        speed = row.last.get("speed/images_per_second")
        cells = [_name(material, row), grouped(cost.own.steps), seconds(cost.own.seconds)]
        cells.append(grouped(speed[0]) if speed is not None else NEVER)
        if staged:
            whole = _sum([cost.own, cost.before])
            cells += [md(", ".join(cost.stages)) or NEVER, grouped(whole.steps), seconds(whole.seconds)]
        total = known.get("parameters", math.nan) + known.get("head_parameters", math.nan)
        rows.append([*cells, grouped(total), grouped(known.get("head_parameters"))])
    text = table(head, rows, "lrrr" + ("lrr" if staged else "") + "rr")
    return "\n\n".join(part for part in (text, _staged_levels(material, found) if staged else "") if part)


def _staged_levels(material: Material, found: dict[str, RowCost]) -> str:
    """Steps and seconds to each level with the first stages counted."""
    base = material.baseline
    if base is None or not base.levels or material.stuck(base) is not None:
        return ""
    rows = []
    for index, level in enumerate(base.levels):
        own = _whole(base, index, found)
        for row in material.rows:
            cost = _whole(row, index, found)
            cells = [f"{md(level.metric)} {level.level:g}", _name(material, row)]
            cells += [grouped(cost.steps) if cost else NEVER, _ratio(own, cost, row.levels[index], "steps")]
            rows.append(
                [*cells, seconds(cost.seconds) if cost else NEVER, _ratio(own, cost, row.levels[index], "seconds")]
            )
    head = ("level", "variant", "steps", "sooner", "time", "sooner")
    return "With the stages before counted:\n\n" + table(head, rows, "llrrrr")


def _whole(row: Row, index: int, found: dict[str, RowCost]) -> Cost | None:
    level = row.levels[index]
    steps, time = level.mean("steps"), level.mean("seconds")
    if steps is None or time is None:
        return None
    return _sum([Cost(steps, time), found[row.key].before])


def _ratio(base: Cost | None, own: Cost | None, level: LevelResult, unit: str) -> str:
    note = level.faster[unit].note.replace(BASELINE, "")
    if note or base is None or own is None:
        return note or NEVER
    ours, theirs = getattr(own, unit), getattr(base, unit)
    return f"×{theirs / ours:.1f}" if ours > 0 else NEVER


# --- CSV --------------------------------------------------------------------------------------------------------------


def runs_csv(material: Material) -> str:
    """One line per run: state, length, time, and the last value of every metric."""
    rows = [(row, run) for row in material.rows for run in row.runs]
    names = sorted({name for _, run in rows for name in run.metric_names() if name not in ("epoch", "time")})
    head = ["run", "variant", "label", "seed", "state", "steps", "seconds", "loss_kind", *names]
    return csv_text(head, [_run_line(row, run, names) for row, run in rows])


def _run_line(row: Row, run: Run, names: Sequence[str]) -> list[Any]:
    cost = cost_of(run)
    last = {name: float(values[-1]) for name in names if len(values := run.history(name)[1])}
    state = row.states.get(run.seed, "")
    head = [run.id, run.variant, row.label, run.seed, state, int(cost.steps), cost.seconds, row.kind]
    return [*head, *(last.get(name) for name in names)]


def levels_csv(material: Material) -> str:
    """One line per variant, level and seed: where it was reached, and the variant's speed-up in each unit."""
    head = ["variant", "metric", "level", "seed", "reached", *UNITS]
    head += [f"{unit}_{word}" for unit in UNITS for word in ("faster", "from", "to", "bound", "note")]
    rows: list[list[Any]] = []
    for row in material.rows:
        for level in row.levels:
            speeds = [level.faster[unit] for unit in UNITS]
            told = [cell for s in speeds for cell in (s.ratio, s.low, s.high, s.bound, s.note)]
            for seed, reach in sorted(level.by_seed.items()):
                place = [reach.at(unit) for unit in UNITS]
                rows.append([row.runs[0].variant, level.metric, level.level, seed, int(reach.reached), *place, *told])
    return csv_text(head, rows)
