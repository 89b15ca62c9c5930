"""Whether a claim holds, told by accuracy and by loss separately, over the seeds.

"faster" is told by the levels of the preset (runs/verdict.py). "better" and "similar" compare the final values of the
same seeds: better is a mean difference above the margin with every seed agreeing, similar a mean difference within it.
"fails" and "works" compare the end with chance and with the best constant answer (floor.py). A baseline that is stuck
at its trivial loss decides nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lsc_engine.config.reporting import Claim
from lsc_engine.report.material import Material
from lsc_engine.runs import Run
from lsc_engine.runs.compare import Row, compare, is_loss
from lsc_engine.runs.verdict import OVER, Verdict, verdicts

# Behind the name of a metric: its lowest value on the way instead of the last.
LOWEST = "/lowest"
HOLDS, FAILS, OPEN = "holds", "does not hold", "open"
_OTHER_LOSS = "not compared: the losses are of different kinds"
# The margin of "similar" where the claim names none, as a share of the way from the best constant answer to 0 for a
# loss: an accuracy goes from 0 to 1.
ACCURACY_MARGIN, LOSS_MARGIN = 0.02, 0.02
_WORDS = {"fails": FAILS}


@dataclass(frozen=True)
class Judged:
    """One claim with its two verdicts as words; "" where a kind of metric says nothing about it. `source`: whose claim
    it is, "" where nothing says it."""

    text: str
    result: str
    variant: str
    against: str
    accuracy: str = ""
    loss: str = ""
    seeds: int = 0
    details: tuple[str, ...] = ()
    source: str = ""

    @property
    def short(self) -> str:
        """The two verdicts in few words, for the index."""
        found = {key: _first(text) for key, text in (("accuracy", self.accuracy), ("loss", self.loss)) if text}
        told = {key: word for key, word in found.items() if word != "not compared"}
        if len(told) == 1:
            ((key, word),) = told.items()
            return f"by {key}: {word}"
        if len(set(found.values())) == 1:
            return next(iter(found.values()))
        return ", ".join(f"by {key}: {word}" for key, word in found.items()) or OPEN


def _first(text: str) -> str:
    words = (HOLDS, FAILS, "differs by seed", "differs by level", "not compared")
    return next((word for word in words if text.startswith(word)), OPEN)


def judge(material: Material) -> list[Judged]:
    """Every claim of the preset; without any, that each variant is faster than the baseline."""
    return [replace(_judged(material, claim), source=claim.source or "") for claim in claims_of(material)]


def claims_of(material: Material) -> list[Claim]:
    """The preset's claims, or the ones that stand for them."""
    preset, base = material.preset, material.baseline
    if preset is not None and preset.reporting.claims:
        return list(preset.reporting.claims)
    if base is None or len(material.rows) < 2:
        return []
    others = [row for row in material.rows if row is not base]
    return [
        Claim.model_validate(
            {"text": f"{row.label} is faster than {base.label}", "variant": row.runs[0].variant, "is": "faster"}
        )
        for row in others
    ]


def _judged(material: Material, claim: Claim) -> Judged:
    base = material.baseline
    against_name = claim.against or (base.runs[0].variant if base is not None else "")
    row, against = material.row(claim.variant), material.row(against_name)
    alone = claim.result in ("fails", "works")
    made = Judged(
        claim.text, claim.result, row.label if row is not None else claim.variant,
        "" if alone else against.label if against is not None else against_name,
    )  # fmt: skip
    if row is None or (against is None and not alone):
        absent = claim.variant if row is None else against_name
        return replace(made, accuracy=f"{OPEN}: {absent} has no runs", loss=f"{OPEN}: {absent} has no runs")
    made = replace(made, seeds=len(row.runs))
    if alone:
        return _ending(material, row, claim.result, made)
    assert against is not None
    if row is against:
        return replace(made, accuracy=f"{OPEN}: it is its own baseline", loss=f"{OPEN}: it is its own baseline")
    if (claim.metric or "").startswith("speed/"):
        return _speed(row, against, claim, made)
    if (why := material.stuck(against)) is not None:
        text = f"{OPEN}: {against.label} is {why}, and is no baseline"
        return replace(made, accuracy=text, loss=text)
    if claim.result == "faster":
        return _faster(material, row, against, made)
    return _final(row, against, claim, made, material)


# --- faster -----------------------------------------------------------------------------------------------------------


def _faster(material: Material, row: Row, against: Row, made: Judged) -> Judged:
    assert material.comparison is not None
    found = material.comparison
    if against is not found.baseline:
        levels: dict[str, list[float]] = {}
        for level in row.levels:
            levels.setdefault(level.metric, []).append(level.level)
        found = compare([*against.runs, *row.runs], against.key, levels)
    told = {verdict.kind: verdict for verdict in verdicts(found) if verdict.row == row.label}
    none = "not compared: the preset fixes no level of it"
    accuracy, loss = (told.get(kind) for kind in ("accuracy", "loss"))
    no_loss = _OTHER_LOSS if row.group != against.group else none
    return replace(
        made,
        accuracy=_words(accuracy) if accuracy is not None else none,
        loss=_words(loss) if loss is not None else no_loss,
        details=tuple(_detail(v) for v in (accuracy, loss) if v is not None and v.speed is not None and v.speed.ratio),
    )


def _words(verdict: Verdict) -> str:
    """`holds, 3 of 3 seeds`; a verdict that is only open says why."""
    if verdict.note == "other loss":
        return _OTHER_LOSS
    if verdict.note:
        return f"not compared: {verdict.note}"
    if not verdict.decided:
        return f"{OPEN}: no level was reached by either" + (" so far" if verdict.so_far else "")
    text = str(verdict)
    text = FAILS + text.removeprefix("fails") if text.startswith("fails") else text
    return text + (", so far" if verdict.so_far else "")


def _detail(verdict: Verdict) -> str:
    return f"{verdict.speed} in epochs to {verdict.kind} {verdict.levels[-1]:g}"


# --- final values -----------------------------------------------------------------------------------------------------


def _paper_metric(material: Material) -> str | None:
    paper = material.preset.reporting.paper if material.preset is not None else None
    return paper.metric if paper is not None else None


def finals(runs: Sequence[Run], metric: str, row: Row) -> dict[int, float]:
    """Each finished seed's last value of a metric; its lowest on the way for `train/accuracy_old/lowest`."""
    found = {}
    name = metric.removesuffix(LOWEST)
    for run in runs:
        _, values = run.history(name)
        if len(values) and row.states.get(run.seed) == "finished":
            found[run.seed] = float(values.min() if name != metric else values[-1])
    return found


def _final(row: Row, against: Row, claim: Claim, made: Judged, material: Material) -> Judged:
    named = claim.metric or _paper_metric(material) or "train/accuracy"
    floor = material.floors.get(against.key)
    usual = {
        "accuracy": ACCURACY_MARGIN,
        "loss": LOSS_MARGIN * (floor.loss or 1.0) if floor is not None else LOSS_MARGIN,
    }
    accuracy = "train/accuracy" if is_loss(named) else named
    loss = named if is_loss(named) else f"{named.split('/')[0]}/loss"
    margin = {named: claim.margin} if claim.margin is not None else {}
    told: dict[str, str] = {}
    details = []
    for kind, metric in (("accuracy", accuracy), ("loss", loss)):
        if kind == "loss" and (row.group != against.group or row.group == "?"):
            told[kind] = _OTHER_LOSS
            continue
        limit = margin.get(metric, 0.0 if claim.result == "better" else usual[kind])
        told[kind], detail = _differs(row, against, metric, claim.result, limit)
        details += [detail] if detail else []
    return replace(made, accuracy=told["accuracy"], loss=told["loss"], details=tuple(details))


def _differs(row: Row, against: Row, metric: str, result: str, margin: float) -> tuple[str, str]:
    ours, theirs = finals(row.runs, metric, row), finals(against.runs, metric, against)
    if not ours or not theirs:
        return f"{OPEN}: {metric} is missing of {row.label if not ours else against.label}", ""
    sign = -1.0 if is_loss(metric) else 1.0
    mean = sum(theirs.values()) / len(theirs)
    each = [sign * (value - theirs.get(seed, mean)) for seed, value in ours.items()]
    difference = sum(each) / len(each)
    if not math.isfinite(difference):
        return f"{FAILS}: {metric} is not finite", ""
    if result == "similar":
        agree = sum(abs(one) <= margin for one in each)
        word = HOLDS if abs(difference) <= margin else FAILS
        side = "" if word == HOLDS else f": {'better' if difference > 0 else 'worse'} by more than the margin"
    else:
        side = ""
        agree = sum(one > 0 for one in each)
        word = HOLDS if difference > margin and agree == len(each) else "differs by seed" if agree else FAILS
        if word == "differs by seed" and agree == len(each):
            word = FAILS
    count = len(each) - agree if word == FAILS else agree
    scale, unit = (1.0, "") if is_loss(metric) else (100.0, " points")
    shown = f"{sign * difference * scale:+.3g}{unit}"
    limit = f", margin {margin * scale:.3g}{unit}" if margin else ""
    return f"{word}{side}, {count} of {len(each)} seed{'s' if len(each) > 1 else ''}", f"{metric} {shown}{limit}"


def _speed(row: Row, against: Row, claim: Claim, made: Judged) -> Judged:
    """A speed against another, as the ratio of each seed's median; the margin is a share. Neither kind of metric says
    anything about it, so the verdict stands in the first column and names the speed."""
    metric = str(claim.metric)
    ours, theirs = ({run.seed: _median(run, metric) for run in one.runs} for one in (row, against))
    if not any(ours.values()) or not any(theirs.values()):
        return replace(
            made, accuracy=f"{OPEN}: {metric} is missing of {row.label if not any(ours.values()) else against.label}"
        )
    known = [value for value in theirs.values() if value]
    mean = sum(known) / len(known)
    ratios = [value / (theirs.get(seed) or mean) for seed, value in ours.items() if value]
    margin = claim.margin or 0.0
    agree = [ratio > 1 + margin if claim.result == "better" else abs(ratio - 1) <= margin for ratio in ratios]
    detail = f"{metric} ×{sum(ratios) / len(ratios):.3g} ({min(ratios):.3g}-{max(ratios):.3g}), wanted: "
    detail += f"above ×{1 + margin:g}" if claim.result == "better" else f"within {100 * margin:g} %"
    return replace(made, accuracy=f"{of_seeds(agree)}, by speed", details=(detail,))


def _median(run: Run, metric: str) -> float | None:
    values = run.history(metric)[1]
    found = [float(value) for value in values if math.isfinite(value)]
    return statistics.median(found) if found else None


# --- the end by itself ------------------------------------------------------------------------------------------------


def _ending(material: Material, row: Row, result: str, made: Judged) -> Judged:
    """Whether the run fails (or works) at its end, seed by seed; a diverged seed failed."""
    floor = material.floors.get(row.key)
    told = {}
    for kind in ("accuracy", "loss"):
        metric = f"train/{kind}"
        bad: list[bool] = []
        for run in row.runs:
            state = row.states.get(run.seed)
            _, values = run.history(metric)
            last = float(values[-1]) if len(values) else None
            judged = None
            if state == "diverged":
                judged = True
            elif state in OVER and floor is not None:
                judged = floor.low_accuracy(last) if kind == "accuracy" else floor.trivial_loss(last)
            if judged is not None:
                bad.append(judged)
        told[kind] = of_seeds([one == (result == "fails") for one in bad])
    accuracy = row.last.get("train/accuracy")
    details = []
    if accuracy is not None and floor is not None and floor.chance is not None:
        details.append(f"accuracy {100 * accuracy[0]:.3g} %, three times chance is {300 * floor.chance:.3g} %")
    loss = row.last.get("train/loss")
    if loss is not None and floor is not None and floor.loss is not None:
        details.append(f"loss {loss[0]:.4g}, the best constant answer has {floor.loss:.4g}")
    return replace(made, accuracy=told["accuracy"], loss=told["loss"], details=tuple(details))


def of_seeds(agree: Sequence[bool]) -> str:
    """A verdict in words from whether each seed agrees."""
    if not agree:
        return f"{OPEN}: no run has ended"
    yes = sum(agree)
    word = HOLDS if yes == len(agree) else "differs by seed" if yes else FAILS
    count = len(agree) if word == FAILS else yes
    return f"{word}, {count} of {len(agree)} seed{'s' if len(agree) > 1 else ''}"
