"""The sections that are made of values.csv and of nothing else: verdicts, levels, learning rates, and what the
embeddings are worth. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from lsc_engine.analysis.claims import EDGE, ClaimVerdict
from lsc_engine.analysis.compare import Comparison, Row, levels_against, spread_text
from lsc_engine.analysis.levels import UNITS, is_loss
from lsc_engine.analysis.study_values import StudyValues
from lsc_engine.analysis.verdict import at_values, chosen, in_grid_order, last_value, values_text
from lsc_engine.common.formatting import NOTHING, counted, percent, significant
from lsc_engine.config.tuning import CLAIMS, level_purpose, purposes
from lsc_engine.report.page import bullets, md, table

_FEW_SEEDS = 3
# What the metrics of frozen embeddings are; the numbers are those of training/embedding_metrics.py.
_RECALL = "eval/recall@k: whether one of the k nearest other validation images has the same class."
_OOD = (
    "ood/: images of {ood} against validation images. auroc: how often a validation image scores higher; fpr95: the "
    "share of the others that pass a threshold which 95 % of validation images pass, less is better. Scores: the "
    "largest cosine, of cross-entropy the largest logit (arXiv:1911.11132); \\_energy: the log of the softmax's sum "
    "(arXiv:2010.03759); \\_knn: the cosine of the 50th nearest training image (arXiv:2204.06507)."
)
METRICS = {
    "eval/knn": "eval/knn: the label that most of the 20 nearest training images have is right.",
    "eval/probe": "eval/probe: logistic regression on the frozen embeddings of training images is right.",
    "eval/recall@1": _RECALL,
    "eval/recall@10": _RECALL,
    "eval/map@r": "eval/map@r: mean average precision among the R nearest, R the number of other validation images of "
    "the class (arXiv:2003.08505).",
    "eval/ece": "eval/ece: expected calibration error, 15 bins (arXiv:1706.04599); less is better.",
    **{f"ood/{name}{score}": _OOD for name in ("auroc", "fpr95") for score in ("", "_energy", "_knn")},
}
# What the results of claims mean, for who reads one page only.
_READING = {
    "faster": "Faster: the epochs to the hardest level that one of both reaches are fewer, by more than the "
    "resolution of the evaluations, and to no level more, each variant with the settings that bring it there first. "
    "It holds where that is so in every seed. Differs by level: fewer to some levels, more to others; by seed: in "
    "some seeds only. Depends on the rate: at settings that both tried the other is ahead.",
    "better": "Better: every seed ends ahead, and the mean by more than the margin.",
    "similar": "As good as: every seed ends at most the margin behind, or ahead.",
    "equal": "Equal: every seed ends within the margin, either way.",
    "fails": "Fails: every seed ends below the threshold, or diverges. The threshold is the claim's.",
    "works": "Works: every seed ends at the threshold or beyond. The threshold is the claim's.",
    "bound": "In every row of every table that has the column.",
}


def checked_sections(values: StudyValues, verdicts: Sequence[ClaimVerdict]) -> dict[str, str]:
    """Title -> the sections of a page that are made of its values.csv and of nothing else."""
    comparison = values.comparison
    if comparison is None:
        return {"Verdict": _verdict_table(verdicts, 0), "Evaluation": "", "Levels": "", "Learning rates": ""}
    return {
        "Verdict": _verdict_table(verdicts, min(len(row.runs) for row in comparison.rows)),
        "Evaluation": evaluation_table(comparison.rows),
        "Levels": _level_tables(values, comparison) if comparison.baseline.levels else "",
        "Learning rates": _rate_tables(values, comparison) if comparison.tries else "",
    }


def evaluation_table(rows: Sequence[Row]) -> str:
    """Variants against metrics of frozen embeddings in per cent, and what they are; "" without any."""
    names = [name for name in METRICS if any(name in row.last for row in rows)]
    measured = [row for row in rows if any(name in row.last for name in names)]
    cells = [[md(row.label), *(spread_text(row.last.get(name), 100) for name in names)] for row in measured]
    text = table(("variant", *(f"{md(name)} %" for name in names)), cells, "l" + "r" * len(names))
    others = ", ".join(dict.fromkeys(str(row.settings.get("eval.ood") or "other data") for row in measured))
    notes = dict.fromkeys(METRICS[name] for name in names)
    return "\n\n".join(filter(None, (text, bullets(note.format(ood=md(others)) for note in notes))))


def _verdict_table(verdicts: Sequence[ClaimVerdict], seeds: int) -> str:
    if not verdicts:
        return ""
    marked = any(one.source for one in verdicts)
    head = ("claim", *(["whose"] if marked else []), "tested as", "by accuracy", "by loss", "measured")
    rows = []
    for one in verdicts:
        cells = [one.text, *([one.source] if marked else []), _tested_as(one)]
        rows.append([md(cell) or NOTHING for cell in (*cells, one.accuracy, one.loss, "; ".join(one.details))])
    results = dict.fromkeys(one.result for one in verdicts)
    meanings = bullets(_READING[result] for result in results if result in _READING)
    few = f"From only {counted(seeds, 'seed')}; a verdict wants at least {_FEW_SEEDS}."
    return "\n\n".join([table(head, rows), meanings, *([few] if 0 < seeds < _FEW_SEEDS else [])])


def _tested_as(one: ClaimVerdict) -> str:
    if one.result in ("bar", "bound"):
        return one.about if one.result == "bound" else f"bar of {one.variant}"
    if one.about:
        return f"{one.variant} {one.result}: {one.about}"
    words = {"similar": "as good as", "equal": "equal to"}.get(one.result, f"{one.result} than")
    return f"{one.variant} {words} {one.against}" if one.against else f"{one.variant} {one.result}"


def _goal(metric: str, level: float) -> str:
    return f"**{md(metric)} {f'{level:g}' if is_loss(metric) else f'{100 * level:g} %'}**"


def _level_tables(values: StudyValues, comparison: Comparison) -> str:
    """Steps, epochs and seconds to each level, each variant with its best settings, and how much sooner it was."""
    base = comparison.baseline
    against = _references(values, comparison)
    tuned = bool(comparison.tries)
    several = len(set(against.values())) > 1
    head = ["variant", *(["best with"] if tuned else []), *(["against"] if several else [])]
    head += [word for unit in UNITS for word in (unit, "sooner")]
    parts = []
    stuck: dict[str, str] = {}
    lost = False
    for level in base.levels:
        aim = level_purpose(values.levels, "loss" if is_loss(level.metric) else "accuracy")
        assert aim is not None
        rows = []
        for name in values.variants:
            row, best = chosen(comparison, values.key(name), aim)
            other = chosen(comparison, values.key(against[name]), aim)[0] if name in against else None
            if row is None:
                continue
            if other is not None and other.at_trivial_loss is not None:
                stuck[other.label] = other.at_trivial_loss
                other = None
            found = levels_against(row, other or row, {level.metric: [level.level]})[0]
            lost |= any(time.lost for time in found.by_seed.values())
            mark = " (baseline)" if row.label == base.label else ""
            cells = [row.label + mark + (" †" if row.at_trivial_loss else "")]
            cells += [values_text(best.values) if best is not None else NOTHING] if tuned else []
            cells += [values.label(against[name]) if name in against else NOTHING] if several else []
            for unit in UNITS:
                cells += [found.text(unit), str(found.faster[unit]) if other is not None else NOTHING]
            rows.append([md(cell) for cell in cells])
        text = table(head, rows, "l" * (1 + tuned + several) + "rrrrrr")
        parts.append(f"{_goal(level.metric, level.level)}\n\n{text}")
    parts += [f"{md(label)} is {why}: no speed-up against it is given." for label, why in stuck.items()]
    parts += ["A level that a seed was at and lost again by its end is not reached."] if lost else []
    if len(stuck) < len(set(against.values())):
        place = "" if several else f" against {md(values.label(next(iter(against.values()))))}"
        parts.append(
            f"Sooner{place}: in brackets the range over seeds. `>` of a place: not reached in so long. `>×`: at least "
            "so much, as the other did not reach it in every seed, or this one was there at its first evaluation. Busy "
            "machine, unsteady seconds: not compared, as they tell of the machine."
        )
    return "\n\n".join(parts)


def _references(values: StudyValues, comparison: Comparison) -> dict[str, str]:
    """Variant -> the one that a claim compares it with, else the baseline; none for what others are compared with."""
    usual = values.name(comparison.baseline.runs[0])
    found: dict[str, str] = {}
    for claim in values.judged_claims:
        other = claim.against or usual
        there = values.row(claim.variant) is not None and values.row(other) is not None
        if there and claim.variant != other and claim.result not in ("fails", "works"):
            found.setdefault(claim.variant, other)
    named = {usual, *found.values()}
    return {**found, **{name: usual for name in values.variants if name not in named and name not in found}}


def _rate_tables(values: StudyValues, comparison: Comparison) -> str:
    groups = {name: row.group for name in values.variants if (row := values.row(name)) is not None}
    usual = values.name(comparison.baseline.runs[0])
    aims = purposes(values.judged_claims, values.levels, usual, values.by or CLAIMS, groups)
    at = {name: at_values(comparison, values.key(name)) for name in groups}
    tried = in_grid_order([one for tries in comparison.tries.values() for one in tries])
    columns = list(dict.fromkeys(values_text(one.values) for one in tried))
    parts = []

    def cell(row: Row | None, metric: str, level: float | None, best: bool) -> str:
        if row is None:
            return NOTHING
        # Tries may be shorter than the runs over the seeds: the end is that of the try.
        last = last_value(row.runs[0], metric) if level is None else None
        if row.states.get(row.runs[0].seed) == "diverged":
            text = "diverged"
        elif level is not None:
            text = levels_against(row, row, {metric: [level]})[0].text("epochs")
        else:
            text = NOTHING if last is None else significant(last) if is_loss(metric) else f"{percent(last)} %"
        return f"**{md(text)}**" if best else md(text)

    for aim in dict.fromkeys(aim for own in aims.values() for aim in own):
        for metric, level in reversed(aim.levels) if aim.levels else [(aim.metric, None)]:
            rows = []
            for name in (name for name in groups if aim in aims[name]):
                _, best = chosen(comparison, values.key(name), aim)
                bold = values_text(best.values) if best is not None else ""
                cells = [cell(at[name].get(text), metric, level, text == bold) for text in columns]
                rows.append([md(values.label(name)), *cells, EDGE if best is not None and best.edge else ""])
            goal = f"Epochs to {_goal(metric, level)}" if level is not None else f"**{md(metric)}** at the end of a try"
            text = table(("variant", *map(md, columns), ""), rows, "l" + "r" * len(columns))
            parts.append(f"{goal}:\n\n{text}")
    seeds = sorted({run.seed for run in values.tries})
    others = {run.status().shown_state for run in values.tries} - {"finished"}
    parts.append(
        f"Tries have seed {', '.join(map(str, seeds))}; where a setting also trained over the seeds, the mean is over "
        "all of its runs. In bold the best of the tries, which trained over the seeds; a grid whose best value lies at "
        "its edge grows, at most twice each way."
    )
    parts += [f"States other than finished: {', '.join(sorted(others))}."] if others else []
    return "\n\n".join(parts)
