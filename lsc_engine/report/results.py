"""The sections of a report that tell what came out: verdicts, final values, levels, cost, and the same as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lsc_engine.analysis.claims import Findings, Judged
from lsc_engine.analysis.compare import BASELINE, UNITS, LevelResult, Row, is_loss, levels_against
from lsc_engine.analysis.tuning import in_grid_order, last_value, values_text
from lsc_engine.analysis.verdict import at_values, chosen
from lsc_engine.config.tuning import CLAIMS, level_purpose, purposes
from lsc_engine.report.material import Material
from lsc_engine.report.text import bullets, csv_text, grouped, md, percent, seconds, short, table
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.stages import Cost, cost_of, stages_of

NEVER = "-"
_FEW_SEEDS = 3
# How the results of claims are told, for who reads one page only.
_READING = {
    "faster": "Faster: at every level that the preset fixes, the epochs to it are fewer, by more than the resolution "
    "of the evaluations, each variant with the settings that bring it there first. It holds where that is so in every "
    "seed. Differs by level: at some levels only; by seed: in some seeds only. Depends on the rate: at settings that "
    "both tried the other is ahead.",
    "better": "Better: every seed ends ahead, and the mean by more than the margin.",
    "similar": "As good as: every seed ends at most the margin behind, or ahead.",
    "equal": "Equal: every seed ends within the margin, either way.",
    "fails": "Fails: every seed ends below the threshold, or diverges. The threshold is the claim's.",
    "works": "Works: every seed ends at the threshold or beyond. The threshold is the claim's.",
    "bound": "In every row of every table that has the column.",
}


def verdict_table(found: Sequence[Judged], seeds: int) -> str:
    """Every claim with whose it is, and its verdict by accuracy and by loss."""
    rows = []
    marked = any(one.source for one in found)
    for one in found:
        about = f"{md(one.variant)} {one.result}" + (f" than {md(one.against)}" if one.against else "")
        if one.result in ("similar", "equal"):
            about = f"{md(one.variant)} {'as good as' if one.result == 'similar' else 'equal to'} {md(one.against)}"
        if one.about:
            about = f"{md(one.variant)} {one.result}: {md(one.about)}" if one.result != "bound" else md(one.about)
        if one.result == "bar":
            about = f"bar of {md(one.variant)}"
        whose = [md(one.source) or NEVER] if marked else []
        measured = md("; ".join(one.details)) or NEVER
        rows.append([md(one.text), *whose, about, md(one.accuracy) or NEVER, md(one.loss) or NEVER, measured])
    text = table(("claim", *(["whose"] if marked else []), "tested as", "by accuracy", "by loss", "measured"), rows)
    told = bullets(_READING[result] for result in dict.fromkeys(one.result for one in found) if result in _READING)
    few = f"Told from {seeds} seed{'s' if seeds != 1 else ''}; a verdict wants at least {_FEW_SEEDS}."
    return "\n\n".join([text, told, *([few] if 0 < seeds < _FEW_SEEDS else [])]) if text else text


def checked_sections(found: Findings, judged: Sequence[Judged]) -> dict[str, str]:
    """Title -> the sections of a page that are made of its values.csv and of nothing else."""
    seeds = min((len(row.runs) for row in found.rows), default=0)
    return {
        "Verdict": verdict_table(judged, seeds),
        "Levels": level_tables(found),
        "Learning rates": rate_tables(found),
    }


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


def _goal(metric: str, level: float) -> str:
    return f"**{md(metric)} {f'{level:g}' if is_loss(metric) else f'{100 * level:g} %'}**"


def level_tables(found: Findings) -> str:
    """Steps, epochs and seconds to each level, every variant with its best settings for it, and how much sooner than
    what a claim names, else the baseline, with the range over seeds."""
    base, comparison = found.baseline, found.comparison
    if base is None or comparison is None or not base.levels:
        return ""
    names = found.values.variants
    against = references(found)
    tuned = bool(comparison.tries)
    several = len(set(against.values())) > 1
    head = ["variant", *(["best with"] if tuned else []), *(["against"] if several else [])]
    head += [word for unit in UNITS for word in (unit, "sooner")]
    parts = []
    stuck: dict[str, str] = {}
    for level in base.levels:
        aim = level_purpose(found.values.levels, "loss" if is_loss(level.metric) else "accuracy")
        assert aim is not None
        rows = []
        for name in names:
            row, best = chosen(comparison, found.key(name), aim)
            other = chosen(comparison, found.key(against[name]), aim)[0] if name in against else None
            if row is None:
                continue
            if other is not None and (why := found.stuck(other)) is not None:
                stuck[other.label] = why
                other = None
            told = levels_against(row, other or row, {level.metric: [level.level]})[0]
            cells = [_label(found, row)]
            cells += [md(values_text(best.values)) if best is not None else NEVER] if tuned else []
            cells += [md(found.label(against[name])) if name in against else NEVER] if several else []
            for unit in UNITS:
                cells += [md(told.text(unit)), md(str(told.faster[unit])) if other is not None else NEVER]
            rows.append(cells)
        text = table(head, rows, "l" * (1 + tuned + several) + "rrrrrr")
        parts.append(f"{_goal(level.metric, level.level)}\n\n{text}")
    parts += [f"{md(label)} is {why}: no speed-up is told against it." for label, why in stuck.items()]
    if len(stuck) < len(set(against.values())):
        place = "" if several else f" against {md(found.label(next(iter(against.values()))))}"
        parts.append(
            f"Sooner{place}: in brackets the range over seeds. `>` of a place: not reached in so long. `>×`: at least "
            "so much, as the other did not reach it in every seed, or this one was there at its first evaluation. Busy "
            "machine, unsteady seconds: not compared, as they tell of the machine."
        )
    return "\n\n".join(parts)


def _label(found: Findings, row: Row) -> str:
    base = found.baseline
    marks = " (baseline)" if base is not None and row.label == base.label else ""
    return md(row.label) + marks + (" †" if found.stuck(row) is not None else "")


def references(found: Findings) -> dict[str, str]:
    """Variant -> the one that a claim compares it with, else the baseline; none for what others are compared with."""
    base = found.baseline
    assert base is not None
    usual = found.values.name(base.runs[0])
    told: dict[str, str] = {}
    for claim in found.claims:
        other = claim.against or usual
        there = found.row(claim.variant) is not None and found.row(other) is not None
        if there and claim.variant != other and claim.result not in ("fails", "works"):
            told.setdefault(claim.variant, other)
    named = set(told.values())
    for name in found.values.variants:
        if name != usual and name not in named:
            told.setdefault(name, usual)
    return told


# --- rates ------------------------------------------------------------------------------------------------------------


def rate_tables(found: Findings) -> str:
    """Every variant at every setting that was tried, by what the claims judge, the best one of each in bold."""
    comparison, tries = found.comparison, found.values.tries
    if comparison is None or not comparison.tries:
        return ""
    groups = {name: row.group for name in found.values.variants if (row := found.row(name)) is not None}
    usual = found.values.name(comparison.baseline.runs[0])
    aims = purposes(found.claims, found.values.levels, usual, found.values.by or CLAIMS, groups)
    at = {name: at_values(comparison, found.key(name)) for name in groups}
    columns = list(dict.fromkeys(
        values_text(one.values)
        for one in in_grid_order([one for tried in comparison.tries.values() for one in tried])
    ))  # fmt: skip
    parts = []
    for aim in dict.fromkeys(aim for own in aims.values() for aim in own):
        for metric, level in reversed(aim.levels) if aim.levels else [(aim.metric, None)]:
            rows = []
            for name in groups:
                if aim not in aims[name]:
                    continue
                _, best = chosen(comparison, found.key(name), aim)
                bold = values_text(best.values) if best is not None else ""
                cells = [_rate_cell(at[name].get(text), metric, level, text == bold) for text in columns]
                edge = "edge of the grid" if best is not None and best.edge else ""
                rows.append([md(found.label(name)), *cells, edge])
            goal = f"Epochs to {_goal(metric, level)}" if level is not None else f"**{md(metric)}** at the end of a try"
            text = table(("variant", *map(md, columns), ""), rows, "l" + "r" * len(columns))
            parts.append(f"{goal}:\n\n{text}")
    seeds = sorted({run.seed for run in tries})
    others = {run.status().shown_state for run in tries} - {"finished"}
    words = [
        f"Tries have seed {', '.join(map(str, seeds))}; where a setting also trained over the seeds, the mean is over "
        "all of its runs. In bold the best of the tries, which trained over the seeds; a grid whose best value lies at "
        "its edge grows, at most twice each way."
    ]
    words += [f"States other than finished: {', '.join(sorted(others))}."] if others else []
    return "\n\n".join([*parts, *words])


def _rate_cell(row: Row | None, metric: str, level: float | None, best: bool) -> str:
    if row is None:
        return NEVER
    if level is not None:
        text = levels_against(row, row, {metric: [level]})[0].text("epochs")
    else:
        # Tries may be shorter than the runs over the seeds: the end is that of the try.
        last = last_value(row.runs[0], metric)
        text = NEVER if last is None else short(last) if is_loss(metric) else f"{percent(last)} %"
    if row.states.get(row.runs[0].seed) == "diverged":
        text = "diverged"
    return f"**{md(text)}**" if best else md(text)


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
