"""Whether the claims of a preset hold, told from the values of its runs (values.py) and from nothing else.

"faster" is told by the levels of the preset (verdict.py), by accuracy and by loss separately. "better", "similar" and
"equal" compare the final values of the same seeds; "works" and "fails" compare each seed's with the threshold of the
claim. Each side stands with the settings that are best for what is judged; a claim that settings common to both
reverse depends on them. A run that did not finish, or whose method never acted, decides nothing; one that diverged
counts against what is claimed of it. A baseline that is stuck at its trivial loss decides nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lsc_engine.analysis.compare import ENDED, Comparison, Row, Speed, is_loss, seconds_note, variant_key
from lsc_engine.analysis.quantities import plain
from lsc_engine.analysis.values import RecordedRun, StudyValues, floor_of_row
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
)
from lsc_engine.config.reporting import BenchClaim, Claim
from lsc_engine.config.tuning import LOWEST, Purpose, claim_purposes, implied_claims
from lsc_engine.runs.read.run import Run

REFUTED = "does not hold"
NOT_COMPARED = "not compared"
EDGE = "edge of the grid"
# The end of the name of a table that holds the bars of a benchmark, which stand where its preset makes no claims.
CHECKS = " checks"
_WORDS = (HOLDS, REFUTED, BY_SEED, BY_LEVEL, BY_RATE, UNRESOLVED, NOT_COMPARED)
_OTHER_LOSS = f"{NOT_COMPARED}: the losses are of different kinds"
# The margin where a claim names none, as a share of the way from the best constant answer to 0 for a loss: an accuracy
# goes from 0 to 1.
ACCURACY_MARGIN, LOSS_MARGIN = 0.02, 0.02


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
    about: str = ""
    source: str = ""

    @property
    def short(self) -> str:
        """The two verdicts in few words, for the index."""
        if self.result == "bar":
            return self.accuracy
        found = {key: first_words(text) for key, text in (("accuracy", self.accuracy), ("loss", self.loss)) if text}
        told = {key: word for key, word in found.items() if word != NOT_COMPARED}
        if len(told) == 1 and len(found) == 2:
            ((key, word),) = told.items()
            return f"by {key}: {word}"
        if len(set(found.values())) == 1:
            return next(iter(found.values()))
        return ", ".join(f"by {key}: {word}" for key, word in found.items()) or OPEN


def first_words(text: str) -> str:
    """The verdict at the beginning of a text; `open` where it begins with none."""
    return next((word for word in _WORDS if text.startswith(word)), OPEN)


def held(verdicts: Sequence[str]) -> str:
    """`3 of 4 hold`, of the verdicts that decide; `-` where none are compared, `open` where none decides."""
    undecided = (OPEN, NOT_COMPARED, UNRESOLVED)
    decided = [text for text in verdicts if text and first_words(text) not in undecided]
    if not decided:
        known = {first_words(text) for text in verdicts if text} - {NOT_COMPARED}
        return "-" if not known else UNRESOLVED if known == {UNRESOLVED} else OPEN
    good = sum(text.startswith(HOLDS) for text in decided)
    if len(decided) == 1:
        return HOLDS if good else first_words(decided[0])
    return f"{good} of {len(decided)} hold" if good < len(decided) else f"all {good} hold"


@dataclass
class Findings:
    """The values of a study, its runs compared (None where it has none), and the claims it is judged by."""

    values: StudyValues
    comparison: Comparison | None = None
    claims: list[Claim] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """The variants that have runs."""
        return self.comparison.rows if self.comparison is not None else []

    @property
    def baseline(self) -> Row | None:
        """What the others are compared with, stuck or not."""
        return self.comparison.baseline if self.comparison is not None else None

    def key(self, variant: str) -> str:
        """The key of the row of a variant."""
        return self.values.key(variant)

    def row(self, variant: str | None) -> Row | None:
        """The row of a variant, by its name."""
        return self.comparison.row(self.key(variant)) if self.comparison is not None and variant else None

    def label(self, variant: str) -> str:
        """What a variant is called for readers."""
        row = self.row(variant)
        return row.label if row is not None else variant

    def stuck(self, row: Row) -> str | None:
        """Why this row may not serve as a baseline, as a clause; None where it may."""
        return floor_of_row(row).stuck(row)


def findings(values: StudyValues) -> Findings:
    """The values made ready to be judged."""
    if not values.runs:
        return Findings(values, None, list(values.claims))
    found = Findings(values, values.compared(), list(values.claims))
    if not found.claims and found.baseline is not None:
        base = values.name(found.baseline.runs[0])
        labels = {values.name(row.runs[0]): row.label for row in found.rows}
        found.claims = [
            claim.model_copy(update={"text": f"{labels[claim.variant]} is faster than {labels[base]}"})
            for claim in implied_claims(values.variants, base)
        ]
    return found


def judge(found: Findings) -> list[Judged]:
    """Every claim of the preset; without any, that each variant is faster than the baseline."""
    told = [replace(_judged(found, claim), source=claim.source or "") for claim in found.claims]
    told += [bounded(found.values, b) for b in found.values.bounds]
    return told or [
        Judged(f"{row.get('what')}: {row.get('bar')}", "bar", name.removesuffix(CHECKS), "", str(row.get("verdict")))
        for name, rows in found.values.tables
        if name.endswith(CHECKS)
        for row in rows
    ]


def against_of(found: Findings, claim: Claim) -> str | None:
    """The variant that a claim compares with: its own, else the baseline."""
    if claim.result in ("fails", "works"):
        return None
    return claim.against or (found.values.name(found.baseline.runs[0]) if found.baseline is not None else "")


def _judged(found: Findings, claim: Claim) -> Judged:
    other = against_of(found, claim)
    row, against = found.row(claim.variant), found.row(other)
    made = Judged(
        claim.text, claim.result, row.label if row is not None else claim.variant,
        against.label if against is not None else other or "", about=_about(claim),
    )  # fmt: skip
    if row is None or (against is None and other is not None):
        return replace(made, accuracy=f"{OPEN}: {claim.variant if row is None else other} has no runs")
    made = replace(made, seeds=len(row.runs) + len(row.absent))
    for side in (row, against):
        if side is not None and (why := _idle(side)):
            return replace(made, accuracy=f"{OPEN}: {why}")
    if against is None:
        return _threshold(found, claim, made)
    if row is against:
        return replace(made, accuracy=f"{OPEN}: it is its own baseline")
    if (claim.metric or "").startswith("speed/"):
        return _pace(row, against, claim, made)
    if (why_not := found.stuck(against)) is not None:
        return replace(made, accuracy=f"{OPEN}: {against.label} is {why_not}, and is no baseline")
    losses = row.group == against.group and row.group != "?"
    told: dict[str, str] = {}
    details: list[str] = []
    aims = claim_purposes(claim, found.values.levels, losses=losses)
    for aim in aims:
        kind = "loss" if is_loss(aim.metric) else "accuracy"
        if claim.result == "faster":
            assert found.comparison is not None
            verdict = faster(found.comparison, row.key, against.key, aim)
            assert verdict is not None
            told[kind] = _words(verdict)
            details += _details(verdict)
        else:
            told[kind], more = _final(found, claim, aim)
            details += more
    if not losses and claim.metric is None:
        told["loss"] = _OTHER_LOSS
    if claim.result == "faster":
        none = f"{NOT_COMPARED}: the preset fixes no level of it"
        told = {"accuracy": none, "loss": none, **told} if claim.metric is None else told
    return replace(made, accuracy=told.get("accuracy", ""), loss=told.get("loss", ""), details=tuple(details))


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
    """Why a variant is not judged whose method never acted; "" where it did in every seed."""
    idle = [run.idle for run in row.runs if isinstance(run, RecordedRun) and run.idle]
    if not idle:
        return ""
    return f"{idle[0]} in {len(idle)} of {len(row.runs)} seeds of {row.label}"


# --- faster -----------------------------------------------------------------------------------------------------------


def _words(verdict: Verdict) -> str:
    """`holds, 3 of 3 seeds`; a verdict that is open or not resolved says why."""
    if verdict.note:
        return _OTHER_LOSS if verdict.note == "other loss" else f"{NOT_COMPARED}: {verdict.note}"
    if not verdict.decided:
        return f"{verdict.result}: no level was reached by either" + (" so far" if verdict.open else "")
    behind = ", ".join(at.values for at in verdict.reversed)
    told = {
        FAILS: f"{REFUTED}{verdict.count}",
        BY_RATE: f"{BY_RATE}: ahead at the best of each, behind at {behind}",
        UNRESOLVED: f"{UNRESOLVED}: equal at the resolution of the evaluations"
        + (f", ahead in {verdict.agree} of {verdict.seeds} seeds" if verdict.agree else ""),
    }.get(verdict.so_far, f"{verdict.so_far}{verdict.count}")
    edge = f", {EDGE}" if verdict.edge else ""
    return (f"{OPEN}, so far: {told}" if verdict.open else told) + edge


def _details(verdict: Verdict) -> list[str]:
    """The speed at the hardest level of each metric, and what was at the edge."""
    hardest: dict[str, tuple[float, Speed]] = {}
    for (metric, level), speed in zip(verdict.levels, verdict.speeds, strict=True):
        hardest[metric] = (level, speed)
    out = [
        f"{speed} in epochs to {metric} {level:g}"
        for metric, (level, speed) in hardest.items()
        if speed.ratio is not None or speed.note
    ]
    rates = [at for at in verdict.rates if at.verdict.decided and at.verdict.speeds]
    out += [f"both at {at.values}: {at.verdict.speeds[-1]}" for at in rates if str(at.verdict.speeds[-1]) != "-"]
    return out + ([f"best at the {EDGE}: {verdict.edge}"] if verdict.edge else [])


# --- final values -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ends:
    """Final values of two rows compared seed by seed: per seed the difference (None where a side diverged), and whether
    it agrees with the claim; `open`: seeds that did not end, or ended at another length."""

    differences: Mapping[int, float | None]
    agree: Mapping[int, bool]
    open: int
    lacking: str = ""


def _final(found: Findings, claim: Claim, aim: Purpose) -> tuple[str, list[str]]:
    """The verdict on final values in words, and what was measured."""
    assert found.comparison is not None
    comparison, other = found.comparison, against_of(found, claim) or ""
    (row, best), (base, second) = (chosen(comparison, found.key(name), aim) for name in (claim.variant, other))
    assert row is not None
    assert base is not None
    metric, margin = aim.metric, _margin(claim, aim.metric, base)
    ends = _ends(row, base, metric, claim.result, margin)
    if ends.lacking:
        return f"{OPEN}: {metric} is missing of {ends.lacking}", []
    word = _final_word(ends, claim.result, margin)
    known = [value for value in ends.differences.values() if value is not None]
    details = []
    if known:
        scale, unit = (1.0, "") if is_loss(metric) else (100.0, " points")
        sign = -1.0 if is_loss(metric) else 1.0
        shown = f"{sign * sum(known) / len(known) * scale:+.3g}{unit}"
        spread = sorted(sign * value * scale for value in known)
        details.append(
            f"{metric} {shown}" + (f" ({spread[0]:+.3g} to {spread[-1]:+.3g})" if len(spread) > 1 else "")
            + (f", margin {margin * scale:.3g}{unit}" if margin else "")
        )  # fmt: skip
    if word == HOLDS and (behind := _reversed(found, claim, aim, row, base, margin)):
        return f"{BY_RATE}: so at the best of each, not at {', '.join(behind)}", details
    text = word + _of_seeds(word, list(ends.agree.values()))
    if ends.open:
        text = f"{OPEN}, so far: {text}" if ends.agree else f"{OPEN}: no seed of both has finished at equal length"
    edge = [side for side in (best, second) if side is not None and side.edge]
    return text + (f", {EDGE}" if edge else ""), details


def _margin(claim: Claim, metric: str, base: Row) -> float:
    if claim.margin is not None:
        return claim.margin
    if claim.result == "better":
        return 0.0
    return LOSS_MARGIN * (floor_of_row(base).loss or 1.0) if is_loss(metric) else ACCURACY_MARGIN


def _ends(row: Row, base: Row, metric: str, result: str, margin: float) -> _Ends:
    ours, theirs = ({run.seed: run for run in one.runs} for one in (row, base))
    seeds = sorted({*(ours.keys() & theirs.keys()), *row.absent, *base.absent})
    pairs = [(seed, seed) for seed in seeds] or [(seed, min(theirs)) for seed in sorted(ours)]
    sign = -1.0 if is_loss(metric) else 1.0
    differences: dict[int, float | None] = {}
    agree: dict[int, bool] = {}
    left = 0
    for seed, other in pairs:
        a, b = ours.get(seed), theirs.get(other)
        if a is None or b is None or not {row.states.get(seed), base.states.get(other)} <= ENDED:
            left += 1
            continue
        values = [_end(run, metric, one.states[run.seed]) for run, one in ((a, row), (b, base))]
        for value, one in zip(values, (row, base), strict=True):
            if value is None:
                return _Ends({}, {}, 0, one.label)
        mine, its = values
        assert mine is not None
        assert its is not None
        if math.isnan(mine) or math.isnan(its):
            # A side that diverged has no end: that counts against it, and for no likeness.
            differences[seed] = None
            agree[seed] = not math.isnan(mine) and result != "equal"
        elif not _equal_length(a, b):
            left += 1
        else:
            differences[seed] = difference = sign * (mine - its)
            agree[seed] = {
                "better": difference > 0, "similar": difference >= -margin, "equal": abs(difference) <= margin,
            }[result]  # fmt: skip
    return _Ends(differences, agree, left)


def _end(run: Run, metric: str, state: str) -> float | None:
    """The final value, or the lowest on the way for `METRIC/lowest`; not a number where the run diverged, None where
    the metric is missing."""
    if state == "diverged":
        return math.nan
    values = run.history(metric.removesuffix(LOWEST))[1]
    if not len(values):
        return None
    return float(values.min() if metric.endswith(LOWEST) else values[-1])


def _equal_length(one: Run, other: Run) -> bool:
    """Whether two finished runs are as long as each other, in steps or in epochs."""
    (steps, epochs), (others, more) = (_length(run) for run in (one, other))
    return steps == others or math.isclose(epochs, more, rel_tol=1e-6)


def _length(run: Run) -> tuple[float, float]:
    ends = [(float(step[-1]), float(epoch[-1])) for name in run.metric_names()
            for step, _, epoch, _ in [run.axes(name)] if len(step)]  # fmt: skip
    return max(ends, default=(0.0, 0.0))


def _final_word(ends: _Ends, result: str, margin: float) -> str:
    agree = list(ends.agree.values())
    known = [value for value in ends.differences.values() if value is not None]
    if all(agree) and result == "better" and known and not sum(known) / len(known) > margin:
        return REFUTED
    return HOLDS if all(agree) else BY_SEED if any(agree) else REFUTED


def _reversed(found: Findings, claim: Claim, aim: Purpose, row: Row, base: Row, margin: float) -> list[str]:
    """The settings that both sides trained with, to the same length as what is judged, at which no seed agrees."""
    assert found.comparison is not None
    keys = {one.key for one in found.rows}
    ours, theirs = (at_values(found.comparison, variant_key(one.key, keys)) for one in (row, base))
    length = _length(row.runs[0])[0]
    behind = []
    for text, mine in ours.items():
        if text in theirs:
            pair = [replace(one, runs=[run for run in one.runs if _length(run)[0] == length], absent=())
                    for one in (mine, theirs[text])]  # fmt: skip
            if pair[0].runs and pair[1].runs:
                ends = _ends(pair[0], pair[1], aim.metric, claim.result, margin)
                if ends.agree and not any(ends.agree.values()):
                    behind.append(text)
    return behind


def _of_seeds(word: str, agree: Sequence[bool]) -> str:
    """`, 2 of 3 seeds`: how many the word is told of."""
    count = sum(not one for one in agree) if word == REFUTED and not all(agree) else sum(agree)
    return f", {count} of {len(agree)} seed{'s' if len(agree) != 1 else ''}"


# --- speed ------------------------------------------------------------------------------------------------------------


def _pace(row: Row, against: Row, claim: Claim, made: Judged) -> Judged:
    """A speed against another, as the ratio of each seed's median; the margin is a share. Neither kind of metric says
    anything about it, so the verdict stands in the first column and names the speed."""
    metric = str(claim.metric)
    if note := seconds_note(row, against):
        return replace(made, accuracy=f"{NOT_COMPARED}: {note}")
    sides = [{run.seed: _median(run, metric) for run in one.runs if one.states.get(run.seed) == "finished"}
             for one in (row, against)]  # fmt: skip
    for side, one in zip(sides, (row, against), strict=True):
        if not any(side.values()):
            return replace(made, accuracy=f"{OPEN}: {metric} is missing of {one.label}")
    ours, theirs = sides
    ratios = [a / b for seed, a in ours.items() if a and (b := theirs.get(seed))]
    left = len({*row.absent, *against.absent, *(r.seed for r in (*row.runs, *against.runs))}) - len(ratios)
    margin = claim.margin or 0.0
    least, most = {"better": (1 + margin, math.inf), "similar": (1 - margin, math.inf)}.get(
        claim.result, (1 - margin, 1 + margin)
    )
    agree = [(ratio > least if claim.result == "better" else ratio >= least) and ratio <= most for ratio in ratios]
    if not ratios:
        return replace(made, accuracy=f"{OPEN}: no seed of both has finished")
    word = HOLDS if all(agree) else BY_SEED if any(agree) else REFUTED
    text = f"{word}{_of_seeds(word, agree)}, by speed"
    detail = f"{metric} ×{sum(ratios) / len(ratios):.3g} ({min(ratios):.3g}-{max(ratios):.3g}), wanted: "
    detail += {"better": f"above ×{1 + margin:g}", "similar": f"at least ×{1 - margin:g}"}.get(
        claim.result, f"within {100 * margin:g} %"
    )
    return replace(made, accuracy=f"{OPEN}, so far: {text}" if left else text, details=(detail,))


def _median(run: Run, metric: str) -> float | None:
    values = run.history(metric)[1]
    found = [float(value) for value in values if math.isfinite(value)]
    return statistics.median(found) if found else None


# --- the end by itself ------------------------------------------------------------------------------------------------


def _threshold(found: Findings, claim: Claim, made: Judged) -> Judged:
    """Whether every seed ends at the claim's threshold or beyond, or below it; a seed that diverged failed."""
    if claim.threshold is None:
        return replace(made, accuracy=f"{OPEN}: the claim gives no threshold")
    assert found.comparison is not None
    metric = claim.metric or "train/accuracy"
    row, best = chosen(found.comparison, found.key(claim.variant), Purpose(metric))
    assert row is not None
    agree, values, left = [], [], len(row.absent)
    for run in row.runs:
        state = row.states.get(run.seed, "")
        value = _end(run, metric, state) if state in ENDED else None
        if value is None:
            left += 1
            continue
        works = not math.isnan(value) and (value <= claim.threshold if is_loss(metric) else value >= claim.threshold)
        agree.append(works == (claim.result == "works"))
        values += [] if math.isnan(value) else [value]
    kind = "loss" if is_loss(metric) else "accuracy"
    if not agree:
        return _by(made, kind, f"{OPEN}: no run has ended", ())
    word = HOLDS if all(agree) else BY_SEED if any(agree) else REFUTED
    text = f"{word}{_of_seeds(word, agree)}"
    text = f"{OPEN}, so far: {text}" if left else text
    text += f", {EDGE}" if best is not None and best.edge else ""
    ends = ", ".join(_amount(metric, value) for value in values) or "diverged"
    return _by(made, kind, text, (f"{metric} {ends}",))


def _by(made: Judged, kind: str, text: str, details: tuple[str, ...]) -> Judged:
    accuracy, loss = ("", text) if kind == "loss" else (text, "")
    return replace(made, accuracy=accuracy, loss=loss, details=details)


# --- benchmarks -------------------------------------------------------------------------------------------------------


def bounded(values: StudyValues, bound: BenchClaim) -> Judged:
    """Whether every row of every table that has the column of a claim keeps its bounds."""
    made = Judged(bound.text, "bound", bound.column, "", about=_bounds(bound))
    cases: list[tuple[float, str]] = []
    for _, rows in values.tables:
        for row in rows:
            value = plain(row.get(bound.column))
            base = plain(row.get(bound.relative_to)) if bound.relative_to is not None else 1.0
            if value is not None and base:
                cases.append((value / base, _case(row)))
    if not cases:
        return replace(made, accuracy=f"{OPEN}: no table has numbers under {bound.column}")
    least, most = min(cases), max(cases)
    kept = [
        (bound.at_least is None or value >= bound.at_least) and (bound.at_most is None or value <= bound.at_most)
        for value, _ in cases
    ]
    details = [f"{least[0]:.3g} ({least[1]}) to {most[0]:.3g} ({most[1]})"]
    if bound.spread is not None and not (least[0] > 0 and most[0] / least[0] <= bound.spread):
        return replace(made, accuracy=f"{REFUTED}: the largest is ×{most[0] / least[0]:.3g} of the smallest"
                       if least[0] > 0 else REFUTED, details=tuple(details))  # fmt: skip
    if all(kept):
        return replace(made, accuracy=f"{HOLDS}, {len(cases)} of {len(cases)} cases", details=tuple(details))
    bad = [f"{value:.3g} at {case}" for (value, case), good in zip(cases, kept, strict=True) if not good]
    return replace(
        made, accuracy=f"{REFUTED}, {len(bad)} of {len(cases)} cases: {'; '.join(bad)}", details=tuple(details)
    )


def _case(row: Mapping[str, object]) -> str:
    named = [key for key in ("system", "classes", "n", "batch") if key in row]
    return ", ".join(f"{key} {row[key]}" if key != "system" else str(row[key]) for key in named) or "a row"


def _bounds(bound: BenchClaim) -> str:
    what = bound.column + (f" ÷ {bound.relative_to}" if bound.relative_to else "")
    parts = [f"at least {bound.at_least:g}"] if bound.at_least is not None else []
    parts += [f"at most {bound.at_most:g}"] if bound.at_most is not None else []
    parts += [f"largest at most ×{bound.spread:g} of the smallest"] if bound.spread is not None else []
    return f"{what}: {', '.join(parts)}, in every row"
