"""Whether the claims of a preset hold, by the values of its runs (study_values.py) and nothing else.

"faster" is judged by the levels of the preset (verdict.py), by accuracy and by loss separately. "better", "similar" and
"equal" compare the final values of the same seeds; "works" and "fails" compare each seed's with the threshold of the
claim. Each side stands with the settings that are best for what is judged; a claim that settings common to both
reverse depends on them. A run that did not finish, or whose method never acted, decides nothing; one that diverged
counts against what is claimed of it. A baseline that is stuck at its trivial loss decides nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lsc_engine.analysis.compare import ENDED, OTHER_LOSS, Row, seconds_note, variant_key
from lsc_engine.analysis.levels import Speedup, is_loss
from lsc_engine.analysis.quantities import plain
from lsc_engine.analysis.study_values import RecordedRun, StudyValues
from lsc_engine.analysis.verdict import (
    BY_LEVEL,
    BY_RATE,
    BY_SEED,
    FAILS,
    HOLDS,
    OPEN,
    UNRESOLVED,
    Verdict,
    at_values,
    chosen,
    faster,
    of_seeds,
)
from lsc_engine.config.reporting import BenchClaim, Claim
from lsc_engine.config.tuning import LOWEST, Purpose, claim_purposes
from lsc_engine.runs.read.run import Run

REFUTED = "does not hold"
NOT_COMPARED = "not compared"
EDGE = "edge of the grid"
# The end of the name of a table that holds the bars of a benchmark, which stand where its preset makes no claims.
CHECKS = " checks"
_WORDS = (HOLDS, REFUTED, BY_SEED, BY_LEVEL, BY_RATE, UNRESOLVED, NOT_COMPARED)
_OTHER_LOSS = f"{NOT_COMPARED}: the losses are of different kinds"
# The margin if a claim names none, as a share of the way from the best constant answer to 0 for a loss: an accuracy
# goes from 0 to 1.
ACCURACY_MARGIN, LOSS_MARGIN = 0.02, 0.02


@dataclass(frozen=True)
class ClaimVerdict:
    """One claim with its two verdicts as words; "" if a kind of metric does not apply. `source`: whose claim
    it is, "" if unknown."""

    text: str
    result: str
    variant: str
    against: str
    accuracy: str = ""
    loss: str = ""
    details: tuple[str, ...] = ()
    about: str = ""
    source: str = ""

    @property
    def short(self) -> str:
        """The two verdicts in few words, for the index."""
        if self.result == "bar":
            return self.accuracy
        found = {key: first_words(text) for key, text in (("accuracy", self.accuracy), ("loss", self.loss)) if text}
        compared = {key: word for key, word in found.items() if word != NOT_COMPARED}
        if len(compared) == 1 and len(found) == 2:
            ((key, word),) = compared.items()
            return f"by {key}: {word}"
        if len(set(found.values())) == 1:
            return next(iter(found.values()))
        return ", ".join(f"by {key}: {word}" for key, word in found.items()) or OPEN

    def open(self, why: str) -> ClaimVerdict:
        """This verdict, left open for a reason."""
        return replace(self, accuracy=f"{OPEN}: {why}")

    def by(self, metric: str, text: str, *details: str) -> ClaimVerdict:
        """This verdict, by one metric alone."""
        return replace(self, **{"loss" if is_loss(metric) else "accuracy": text}, details=details)


def first_words(text: str) -> str:
    """The verdict at the beginning of a text; `open` if it begins with none."""
    return next((word for word in _WORDS if text.startswith(word)), OPEN)


def held(verdicts: Sequence[str]) -> str:
    """`3 of 4 hold, 1 open`: of the verdicts that decide, and how many do not; `-` if none are compared."""
    words = [first_words(text) for text in verdicts if text]
    rest = "".join(f", {words.count(word)} {word}" for word in (UNRESOLVED, OPEN) if word in words)
    decided = [word for word in words if word not in (OPEN, NOT_COMPARED, UNRESOLVED)]
    good = decided.count(HOLDS)
    if not decided:
        return "-" if not rest else UNRESOLVED if OPEN not in words else OPEN
    if len(decided) == 1:
        return decided[0] + rest
    return (f"{good} of {len(decided)} hold" if good < len(decided) else f"all {good} hold") + rest


def judge(values: StudyValues) -> list[ClaimVerdict]:
    """Every claim of the preset; without any, that each variant is faster than the baseline; or a benchmark's bars."""
    found = [_judge(values, claim) for claim in values.judged_claims]
    found += [bounded(values, bound) for bound in values.bounds]
    return found or [
        ClaimVerdict(
            f"{row.get('what')}: {row.get('bar')}", "bar", name.removesuffix(CHECKS), "", str(row.get("verdict"))
        )
        for name, rows in values.tables
        if name.endswith(CHECKS)
        for row in rows
    ]


def _judge(values: StudyValues, claim: Claim) -> ClaimVerdict:
    alone = claim.result in ("fails", "works")
    baseline = values.name(values.comparison.baseline.runs[0]) if values.comparison is not None else ""
    other = "" if alone else claim.against or baseline
    row, base = values.row(claim.variant), values.row(other)
    verdict = ClaimVerdict(
        claim.text, claim.result, row.label if row is not None else claim.variant,
        base.label if base is not None else other, about=_about(claim), source=claim.source or "",
    )  # fmt: skip
    if row is None or (base is None and not alone):
        return verdict.open(f"{claim.variant if row is None else other} has no runs")
    for side in (row, base):
        if side is not None and (idle := _idle(side)):
            return verdict.open(idle)
    if base is None:
        return _threshold(values, claim, verdict)
    if row is base:
        return verdict.open("it is its own baseline")
    if (claim.metric or "").startswith("speed/"):
        return _speed(row, base, claim, verdict)
    if base.at_trivial_loss is not None:
        return verdict.open(f"{base.label} is {base.at_trivial_loss}, and is no baseline")
    return _compare(values, claim, row, base, verdict)


def _compare(values: StudyValues, claim: Claim, row: Row, base: Row, verdict: ClaimVerdict) -> ClaimVerdict:
    """One variant against another, by accuracy and by loss."""
    assert values.comparison is not None
    losses = row.group == base.group and row.group != "?"
    words: dict[str, str] = {}
    details: list[str] = []
    if claim.result == "faster" and claim.metric is None:
        words = dict.fromkeys(("accuracy", "loss"), f"{NOT_COMPARED}: the preset fixes no level of it")
    if not losses and claim.metric is None:
        words["loss"] = _OTHER_LOSS
    for aim in claim_purposes(claim, values.levels, losses=losses):
        if claim.result == "faster":
            found = faster(values.comparison, row.key, base.key, aim)
            assert found is not None
            text, more = _faster_text(found), _faster_details(found)
        else:
            text, more = _final(values, claim, row.key, base.key, aim)
        words["loss" if is_loss(aim.metric) else "accuracy"] = text
        details += more
    return replace(verdict, **words, details=tuple(details))


def _about(claim: Claim) -> str:
    """What is tested of a variant that stands alone."""
    if claim.result not in ("works", "fails") or claim.threshold is None:
        return ""
    metric = claim.metric or "train/accuracy"
    least = (claim.result == "works") != is_loss(metric)
    return f"{metric} {'at least' if least else 'below'} {_amount(metric, claim.threshold)}"


def _amount(metric: str, value: float) -> str:
    return f"{value:g}" if is_loss(metric) else f"{100 * value:.4g} %"


def _idle(row: Row) -> str:
    """Why a variant is not judged whose method never acted; "" if it did in every seed."""
    idle = [run.idle for run in row.runs if isinstance(run, RecordedRun) and run.idle]
    return f"{idle[0]} in {len(idle)} of {len(row.runs)} seeds of {row.label}" if idle else ""


def _seeds_text(agree: Sequence[bool], undecided: int, *, word: str = "", by: str = "", edge: bool = False) -> str:
    """`holds, 3 of 3 seeds`: the verdict of all seeds. `word` replaces the one that follows from their number."""
    word = word or (HOLDS if all(agree) else BY_SEED if any(agree) else REFUTED)
    count = sum(not one for one in agree) if word == REFUTED and not all(agree) else sum(agree)
    text = f"{word}{of_seeds(count, len(agree))}{by}"
    return (f"{OPEN}, so far: {text}" if undecided else text) + (f", {EDGE}" if edge else "")


# --- faster -----------------------------------------------------------------------------------------------------------


def _faster_text(verdict: Verdict) -> str:
    """`holds, 3 of 3 seeds`; with the reason if it is open or not resolved."""
    if verdict.note:
        return _OTHER_LOSS if verdict.note == OTHER_LOSS else f"{NOT_COMPARED}: {verdict.note}"
    if not verdict.decided:
        return f"{verdict.result}: no level was reached by either" + (" so far" if verdict.open else "")
    behind = ", ".join(at.values for at in verdict.reversed)
    text = {
        FAILS: f"{REFUTED}{verdict.count}",
        BY_RATE: f"{BY_RATE}: ahead at the best of each, behind at {behind}",
        UNRESOLVED: f"{UNRESOLVED}: equal at the resolution of the evaluations"
        + (f", ahead in {verdict.agree} of {verdict.seeds} seeds" if verdict.agree else ""),
    }.get(verdict.so_far, f"{verdict.so_far}{verdict.count}")
    return (f"{OPEN}, so far: {text}" if verdict.open else text) + (f", {EDGE}" if verdict.edge else "")


def _faster_details(verdict: Verdict) -> list[str]:
    """The speed-up at the hardest level of each metric and at common settings, and what was at the edge."""
    hardest: dict[str, tuple[float, Speedup]] = {}
    for (metric, level), speed in zip(verdict.levels, verdict.speeds, strict=True):
        hardest[metric] = (level, speed)
    details = [
        f"{speed} in epochs to {metric} {level:g}"
        for metric, (level, speed) in hardest.items()
        if speed.ratio is not None or speed.note
    ]
    rates = [at for at in verdict.rates if at.verdict.decided and at.verdict.speeds]
    details += [f"both at {at.values}: {at.verdict.speeds[-1]}" for at in rates if str(at.verdict.speeds[-1]) != "-"]
    return details + ([f"best at the {EDGE}: {verdict.edge}"] if verdict.edge else [])


# --- final values -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ends:
    """Final values of two rows compared seed by seed: the differences (None if a side diverged), and whether each
    agrees with the claim; `open`: seeds that did not end, or ended at another length."""

    differences: Sequence[float | None] = ()
    agree: Sequence[bool] = ()
    open: int = 0
    missing: str = ""


def _final(values: StudyValues, claim: Claim, key: str, against: str, aim: Purpose) -> tuple[str, list[str]]:
    """The verdict on final values in words, and what was measured."""
    comparison, metric = values.comparison, aim.metric
    assert comparison is not None
    (row, best), (base, second) = (chosen(comparison, name, aim) for name in (key, against))
    assert row is not None
    assert base is not None
    margin = _margin(claim, metric, base)
    ends = _compare_ends(row, base, metric, claim.result, margin)
    if ends.missing:
        return f"{OPEN}: {metric} is missing of {ends.missing}", []
    known = [value for value in ends.differences if value is not None]
    word, details = "", []
    if known:
        scale, unit = (-1.0, "") if is_loss(metric) else (100.0, " points")
        spread = sorted(value * scale for value in known)
        text = f"{metric} {sum(known) / len(known) * scale:+.3g}{unit}"
        text += f" ({spread[0]:+.3g} to {spread[-1]:+.3g})" if len(spread) > 1 else ""
        details.append(text + (f", margin {margin * abs(scale):.3g}{unit}" if margin else ""))
        if claim.result == "better" and all(ends.agree) and not sum(known) / len(known) > margin:
            word = REFUTED
    if all(ends.agree) and not word and (behind := _reversed(values, claim, aim, row, base, margin)):
        return f"{BY_RATE}: so at the best of each, not at {', '.join(behind)}", details
    edge = any(side is not None and bool(side.edge) for side in (best, second))
    if ends.open and not ends.agree:
        return f"{OPEN}: no seed of both has finished at equal length" + (f", {EDGE}" if edge else ""), details
    return _seeds_text(ends.agree, ends.open, word=word, edge=edge), details


def _margin(claim: Claim, metric: str, base: Row) -> float:
    if claim.margin is not None:
        return claim.margin
    if claim.result == "better":
        return 0.0
    return LOSS_MARGIN * (base.trivial.loss or 1.0) if is_loss(metric) else ACCURACY_MARGIN


def _compare_ends(row: Row, base: Row, metric: str, result: str, margin: float) -> _Ends:
    ours, theirs = ({run.seed: run for run in one.runs} for one in (row, base))
    seeds = sorted({*(ours.keys() & theirs.keys()), *row.absent, *base.absent})
    pairs = [(seed, seed) for seed in seeds] or [(seed, min(theirs)) for seed in sorted(ours)]
    sign = -1.0 if is_loss(metric) else 1.0
    differences: list[float | None] = []
    agree: list[bool] = []
    for seed, other in pairs:
        a, b = ours.get(seed), theirs.get(other)
        if a is None or b is None or not {row.states.get(seed), base.states.get(other)} <= ENDED:
            continue
        mine, its = _end(a, metric, row.states[seed]), _end(b, metric, base.states[other])
        if mine is None or its is None:
            return _Ends(missing=(row if mine is None else base).label)
        if math.isnan(mine) or math.isnan(its):
            # A side that diverged has no end: that counts against it, and for no likeness.
            differences.append(None)
            agree.append(not math.isnan(mine) and result != "equal")
        elif _equal_length(a, b):
            difference = sign * (mine - its)
            differences.append(difference)
            agree.append({
                "better": difference > 0, "similar": difference >= -margin, "equal": abs(difference) <= margin,
            }[result])  # fmt: skip
    return _Ends(differences, agree, len(pairs) - len(agree))


def _end(run: Run, metric: str, state: str) -> float | None:
    """The final value, or the lowest on the way for `METRIC/lowest`; not a number if the run diverged, None if the
    metric is missing."""
    if state == "diverged":
        return math.nan
    values = run.history(metric.removesuffix(LOWEST))[1]
    if not len(values):
        return None
    return float(values.min() if metric.endswith(LOWEST) else values[-1])


def _equal_length(one: Run, other: Run) -> bool:
    """Whether two finished runs are as long as each other, in steps or in epochs."""
    (steps, epochs), (others, more) = _length(one), _length(other)
    return steps == others or math.isclose(epochs, more, rel_tol=1e-6)


def _length(run: Run) -> tuple[float, float]:
    """Steps and epochs at the last value of any metric."""
    axes = (run.axes(name) for name in run.metric_names())
    return max(((float(step[-1]), float(epoch[-1])) for step, _, epoch, _ in axes if len(step)), default=(0.0, 0.0))


def _reversed(values: StudyValues, claim: Claim, aim: Purpose, row: Row, base: Row, margin: float) -> list[str]:
    """The settings that both sides trained with, to the same length as what is judged, at which no seed agrees."""
    assert values.comparison is not None
    keys = {one.key for one in values.comparison.rows}
    ours, theirs = (at_values(values.comparison, variant_key(one.key, keys)) for one in (row, base))
    length = _length(row.runs[0])[0]
    behind = []
    for text in (text for text in ours if text in theirs):
        mine, its = (
            replace(one, runs=[run for run in one.runs if _length(run)[0] == length], absent=())
            for one in (ours[text], theirs[text])
        )
        if mine.runs and its.runs:
            ends = _compare_ends(mine, its, aim.metric, claim.result, margin)
            if ends.agree and not any(ends.agree):
                behind.append(text)
    return behind


# --- speed ------------------------------------------------------------------------------------------------------------


def _speed(row: Row, base: Row, claim: Claim, verdict: ClaimVerdict) -> ClaimVerdict:
    """A speed against another, as the ratio of each seed's median; the margin is a share. Neither kind of metric says
    anything about it, so the verdict stands in the first column and names the speed."""
    metric = str(claim.metric)
    if note := seconds_note(row, base):
        return replace(verdict, accuracy=f"{NOT_COMPARED}: {note}")
    ours, theirs = ({r.seed: _median(r, metric) for r in one.runs if one.states.get(r.seed) == "finished"}
                    for one in (row, base))  # fmt: skip
    for side, one in ((ours, row), (theirs, base)):
        if not any(side.values()):
            return verdict.open(f"{metric} is missing of {one.label}")
    ratios = [a / b for seed, a in ours.items() if a and (b := theirs.get(seed))]
    if not ratios:
        return verdict.open("no seed of both has finished")
    left = len({*row.absent, *base.absent, *(run.seed for run in (*row.runs, *base.runs))}) - len(ratios)
    margin = claim.margin or 0.0
    wanted, agree = {
        "better": (f"above ×{1 + margin:g}", [ratio > 1 + margin for ratio in ratios]),
        "similar": (f"at least ×{1 - margin:g}", [ratio >= 1 - margin for ratio in ratios]),
    }.get(claim.result, (f"within {100 * margin:g} %", [1 - margin <= ratio <= 1 + margin for ratio in ratios]))
    mean = sum(ratios) / len(ratios)
    detail = f"{metric} ×{mean:.3g} ({min(ratios):.3g}-{max(ratios):.3g}), wanted: {wanted}"
    return replace(verdict, accuracy=_seeds_text(agree, left, by=", by speed"), details=(detail,))


def _median(run: Run, metric: str) -> float | None:
    found = [float(value) for value in run.history(metric)[1] if math.isfinite(value)]
    return statistics.median(found) if found else None


# --- the end by itself ------------------------------------------------------------------------------------------------


def _threshold(values: StudyValues, claim: Claim, verdict: ClaimVerdict) -> ClaimVerdict:
    """Whether every seed ends at the claim's threshold or beyond, or below it; a seed that diverged failed."""
    if claim.threshold is None:
        return verdict.open("the claim gives no threshold")
    assert values.comparison is not None
    metric = claim.metric or "train/accuracy"
    row, best = chosen(values.comparison, values.key(claim.variant), Purpose(metric))
    assert row is not None
    states = ((run, row.states.get(run.seed, "")) for run in row.runs)
    ends = [end for run, state in states if state in ENDED and (end := _end(run, metric, state)) is not None]
    if not ends:
        return verdict.by(metric, f"{OPEN}: no run has ended")
    agree = []
    for end in ends:
        works = not math.isnan(end) and (end <= claim.threshold if is_loss(metric) else end >= claim.threshold)
        agree.append(works == (claim.result == "works"))
    undecided = len(row.runs) - len(ends) + len(row.absent)
    amounts = ", ".join(_amount(metric, end) for end in ends if not math.isnan(end)) or "diverged"
    text = _seeds_text(agree, undecided, edge=best is not None and bool(best.edge))
    return verdict.by(metric, text, f"{metric} {amounts}")


# --- benchmarks -------------------------------------------------------------------------------------------------------


def bounded(values: StudyValues, bound: BenchClaim) -> ClaimVerdict:
    """Whether every row of every table that has the column of a claim keeps its bounds."""
    verdict = ClaimVerdict(bound.text, "bound", bound.column, "", about=_bounds(bound))
    cases: list[tuple[float, str]] = []
    for row in (row for _, rows in values.tables for row in rows):
        value = plain(row.get(bound.column))
        base = plain(row.get(bound.relative_to)) if bound.relative_to is not None else 1.0
        if value is not None and base:
            cases.append((value / base, _case(row)))
    if not cases:
        return verdict.open(f"no table has numbers under {bound.column}")
    least, most = min(cases), max(cases)
    low = -math.inf if bound.at_least is None else bound.at_least
    high = math.inf if bound.at_most is None else bound.at_most
    bad = [f"{value:.3g} at {case}" for value, case in cases if not low <= value <= high]
    text = f"{HOLDS}, {len(cases)} of {len(cases)} cases"
    if bound.spread is not None and not least[0] > 0:
        text = REFUTED
    elif bound.spread is not None and most[0] / least[0] > bound.spread:
        text = f"{REFUTED}: the largest is ×{most[0] / least[0]:.3g} of the smallest"
    elif bad:
        text = f"{REFUTED}, {len(bad)} of {len(cases)} cases: {'; '.join(bad)}"
    return replace(verdict, accuracy=text, details=(f"{least[0]:.3g} ({least[1]}) to {most[0]:.3g} ({most[1]})",))


def _case(row: Mapping[str, object]) -> str:
    named = [key for key in ("system", "classes", "n", "batch") if key in row]
    return ", ".join(f"{key} {row[key]}" if key != "system" else str(row[key]) for key in named) or "a row"


def _bounds(bound: BenchClaim) -> str:
    what = bound.column + (f" ÷ {bound.relative_to}" if bound.relative_to else "")
    parts = [f"at least {bound.at_least:g}"] if bound.at_least is not None else []
    parts += [f"at most {bound.at_most:g}"] if bound.at_most is not None else []
    parts += [f"largest at most ×{bound.spread:g} of the smallest"] if bound.spread is not None else []
    return f"{what}: {', '.join(parts)}, in every row"
