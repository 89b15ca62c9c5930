"""Whether the claims of a preset hold, by the values of its runs (study_values.py) and nothing else. Each side stands
with the settings that are best for what is judged. Runs that did not finish, idle methods and a baseline stuck at its
trivial loss decide nothing; a run that diverged counts against what is claimed of it."""

from __future__ import annotations

import contextlib
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lsc_engine.analysis.compare import ENDED, OTHER_LOSS, Comparison, Row, seconds_note, variant_key
from lsc_engine.analysis.levels import is_loss
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
    side,
)
from lsc_engine.common.safe_io import number_of
from lsc_engine.config.preset import BenchClaim, Claim
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
# Factor and kind of the units in which tables of benchmarks print sizes, such as "12.8 MB" or "0.5 ms".
MEMORY, TIME = "memory in bytes", "time in seconds"
_BYTES = {"B": 1.0, "bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "MiB": 2.0**20, "GiB": 2.0**30}
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
UNITS = {unit: (factor, MEMORY if unit in _BYTES else TIME) for unit, factor in {**_BYTES, **_SECONDS}.items()}
_QUANTITY = re.compile(r"[~≈]?\s*([0-9][0-9., ]*(?:e[+-]?[0-9]+)?)\s*([A-Za-zµ]+)?")


@dataclass(frozen=True)
class ClaimVerdict:
    """One claim, whose it is, and its two verdicts as words; "" if a kind of metric does not apply."""

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
        return replace(self, accuracy=f"{OPEN}: {why}")


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
    other = "" if alone else claim.against or values.against
    row, base = values.row(claim.variant), values.row(other)
    labels = (claim.variant if row is None else row.label), (other if base is None else base.label)
    verdict = ClaimVerdict(claim.text, claim.result, *labels, source=claim.source or "")
    if alone and claim.threshold is not None:
        metric = claim.metric or "train/accuracy"
        least = "at least" if (claim.result == "works") != is_loss(metric) else "below"
        verdict = replace(verdict, about=f"{metric} {least} {_amount(metric, claim.threshold)}")
    if row is None or (base is None and not alone):
        return verdict.open(f"{claim.variant if row is None else other} has no runs")
    for one in (row, base) if base is not None else (row,):
        # A method that never acted decides nothing.
        if idle := [run.idle for run in one.runs if isinstance(run, RecordedRun) and run.idle]:
            return verdict.open(f"{idle[0]} in {len(idle)} of {len(one.runs)} seeds of {one.label}")
    if base is None:
        return _threshold(values, claim, verdict)
    if row is base:
        return verdict.open("it is its own baseline")
    if (claim.metric or "").startswith("speed/"):
        return _speed(row, base, claim, verdict)
    if base.at_trivial_loss is not None:
        return verdict.open(f"{base.label} is {base.at_trivial_loss}, and is no baseline")
    assert values.comparison is not None
    return _compare(values.comparison, claim, row, base, verdict)


def _compare(comparison: Comparison, claim: Claim, row: Row, base: Row, verdict: ClaimVerdict) -> ClaimVerdict:
    losses, no_levels = row.group == base.group != "?", f"{NOT_COMPARED}: the preset fixes no level of it"
    words = dict.fromkeys(("accuracy", "loss"), no_levels) if claim.result == "faster" and claim.metric is None else {}
    details: list[str] = []
    if not losses and claim.metric is None:
        words["loss"] = _OTHER_LOSS
    for aim in claim_purposes(claim, comparison.levels, losses=losses):
        if claim.result == "faster":
            text, more = _faster(faster(comparison, row.key, base.key, aim))
        else:
            text, more = _final(comparison, claim, row.key, base.key, aim)
        words[side(aim.metric)] = text
        details += more
    return replace(verdict, **words, details=tuple(details))


def _amount(metric: str, value: float) -> str:
    return f"{value:g}" if is_loss(metric) else f"{100 * value:.4g} %"


def _seeds_text(agree: Sequence[bool], undecided: int, *, word: str = "", by: str = "", edge: bool = False) -> str:
    """`holds, 3 of 3 seeds`: the verdict of all seeds. `word` replaces the one that follows from their number."""
    word = word or (HOLDS if all(agree) else BY_SEED if any(agree) else REFUTED)
    count = sum(not one for one in agree) if word == REFUTED and not all(agree) else sum(agree)
    text = f"{word}{of_seeds(count, len(agree))}{by}"
    return (f"{OPEN}, so far: {text}" if undecided else text) + (f", {EDGE}" if edge else "")


def _faster(verdict: Verdict | None) -> tuple[str, list[str]]:
    """`holds, 3 of 3 seeds`, or why it is open; the speed-up at the hardest levels and at common settings."""
    assert verdict is not None
    # The last level of a metric is the hardest.
    hardest = {metric: (level, speed) for (metric, level), speed in zip(verdict.levels, verdict.speeds, strict=True)}
    details = [
        f"{speed} in epochs to {metric} {level:g}"
        for metric, (level, speed) in hardest.items()
        if speed.ratio is not None or speed.note
    ]
    common = {at: str(one.speeds[-1]) for at, one in verdict.rates.items() if one.decided and one.speeds}
    details += [f"both at {settings}: {speed}" for settings, speed in common.items() if speed != "-"]
    details += [f"best at the {EDGE}: {verdict.edge}"] if verdict.edge else []
    if verdict.note:
        return _OTHER_LOSS if verdict.note == OTHER_LOSS else f"{NOT_COMPARED}: {verdict.note}", details
    if not verdict.decided:
        return f"{verdict.result}: no level was reached by either" + (" so far" if verdict.open else ""), details
    ahead = f", ahead in {verdict.agree} of {verdict.seeds} seeds" if verdict.agree else ""
    text = {
        FAILS: f"{REFUTED}{verdict.count}",
        BY_RATE: f"{BY_RATE}: ahead at the best of each, behind at {', '.join(verdict.reversed)}",
        UNRESOLVED: f"{UNRESOLVED}: equal at the resolution of the evaluations{ahead}",
    }.get(verdict.so_far, f"{verdict.so_far}{verdict.count}")
    return (f"{OPEN}, so far: {text}" if verdict.open else text) + (f", {EDGE}" if verdict.edge else ""), details


def _final(comparison: Comparison, claim: Claim, key: str, against: str, aim: Purpose) -> tuple[str, list[str]]:
    metric = aim.metric
    (row, best), (base, second) = (chosen(comparison, name, aim) for name in (key, against))
    assert row is not None
    assert base is not None
    margin = claim.margin
    if margin is None:
        usual = LOSS_MARGIN * (base.trivial.loss or 1.0) if is_loss(metric) else ACCURACY_MARGIN
        margin = 0.0 if claim.result == "better" else usual
    differences, agree, undecided, missing = _ends(row, base, metric, claim.result, margin)
    if missing:
        return f"{OPEN}: {metric} is missing of {missing}", []
    word, details = "", []
    if differences:
        scale, unit = (-1.0, "") if is_loss(metric) else (100.0, " points")
        spread, mean = sorted(value * scale for value in differences), sum(differences) / len(differences)
        text = f"{metric} {mean * scale:+.3g}{unit}"
        text += f" ({spread[0]:+.3g} to {spread[-1]:+.3g})" if len(spread) > 1 else ""
        details.append(text + (f", margin {margin * abs(scale):.3g}{unit}" if margin else ""))
        word = REFUTED if claim.result == "better" and all(agree) and not mean > margin else ""
    if all(agree) and not word and (behind := _reversed(comparison, claim, metric, row, base, margin)):
        return f"{BY_RATE}: so at the best of each, not at {', '.join(behind)}", details
    edge = any(side is not None and bool(side.edge) for side in (best, second))
    if undecided and not agree:
        return f"{OPEN}: no seed of both has finished at equal length" + (f", {EDGE}" if edge else ""), details
    return _seeds_text(agree, undecided, word=word, edge=edge), details


def _ends(row: Row, base: Row, metric: str, result: str, margin: float) -> tuple[list[float], list[bool], int, str]:
    """Final values seed by seed: differences (none where a side diverged), whether each seed agrees with the claim, how
    many did not end alike, and the label of a side without the metric."""
    ours, theirs = ({run.seed: run for run in one.runs} for one in (row, base))
    seeds = sorted({*(ours.keys() & theirs.keys()), *row.absent, *base.absent})
    pairs = [(seed, seed) for seed in seeds] or [(seed, min(theirs)) for seed in sorted(ours)]
    differences, agree = list[float](), list[bool]()
    for seed, other in pairs:
        a, b = ours.get(seed), theirs.get(other)
        if a is None or b is None or not {row.states.get(seed), base.states.get(other)} <= ENDED:
            continue
        mine, its = _end(a, metric, row), _end(b, metric, base)
        if mine is None or its is None:
            return [], [], 0, (row if mine is None else base).label
        (steps, epochs), (others, more) = _length(a), _length(b)
        if math.isnan(mine) or math.isnan(its):
            # A side that diverged has no end: that counts against it, and for no likeness.
            agree.append(not math.isnan(mine) and result != "equal")
        elif steps == others or math.isclose(epochs, more, rel_tol=1e-6):
            gain = its - mine if is_loss(metric) else mine - its
            differences.append(gain)
            agree.append({"better": gain > 0, "similar": gain >= -margin, "equal": abs(gain) <= margin}[result])
    return differences, agree, len(pairs) - len(agree), ""


def _end(run: Run, metric: str, row: Row) -> float | None:
    """The final (or for `METRIC/lowest` the lowest) value; NaN if the run diverged, None without the metric."""
    if row.states.get(run.seed) == "diverged":
        return math.nan
    values = run.history(metric.removesuffix(LOWEST))[1]
    if not len(values):
        return None
    return float(values.min() if metric.endswith(LOWEST) else values[-1])


def _length(run: Run) -> tuple[float, float]:
    axes = (run.axes(name) for name in run.metric_names())
    return max(((float(step[-1]), float(epoch[-1])) for step, _, epoch, _ in axes if len(step)), default=(0.0, 0.0))


def _reversed(comparison: Comparison, claim: Claim, metric: str, row: Row, base: Row, margin: float) -> list[str]:
    keys = {one.key for one in comparison.rows}
    ours, theirs = (at_values(comparison, variant_key(one.key, keys)) for one in (row, base))
    length = _length(row.runs[0])[0]
    behind = []
    for text in (text for text in ours if text in theirs):
        mine, its = (
            replace(one, runs=[run for run in one.runs if _length(run)[0] == length], absent=())
            for one in (ours[text], theirs[text])
        )
        agree = _ends(mine, its, metric, claim.result, margin)[1] if mine.runs and its.runs else []
        if agree and not any(agree):
            behind.append(text)
    return behind


def _speed(row: Row, base: Row, claim: Claim, verdict: ClaimVerdict) -> ClaimVerdict:
    """A speed against another, as the ratio of each seed's median; the margin is a share."""
    metric = str(claim.metric)
    if note := seconds_note(row, base):
        return replace(verdict, accuracy=f"{NOT_COMPARED}: {note}")
    sides: list[dict[int, float]] = []
    for one in (row, base):
        finished = (run for run in one.runs if one.states.get(run.seed) == "finished")
        known = {r.seed: [float(value) for value in r.history(metric)[1] if math.isfinite(value)] for r in finished}
        sides.append({seed: median for seed, found in known.items() if found and (median := statistics.median(found))})
        if not sides[-1]:
            return verdict.open(f"{metric} is missing of {one.label}")
    ratios = [speed / sides[1][seed] for seed, speed in sides[0].items() if seed in sides[1]]
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


def _threshold(values: StudyValues, claim: Claim, verdict: ClaimVerdict) -> ClaimVerdict:
    if claim.threshold is None:
        return verdict.open("the claim gives no threshold")
    assert values.comparison is not None
    metric = claim.metric or "train/accuracy"
    row, best = chosen(values.comparison, values.key(claim.variant), Purpose(metric))
    assert row is not None
    ended = (run for run in row.runs if row.states.get(run.seed) in ENDED)
    ends = [end for run in ended if (end := _end(run, metric, row)) is not None]
    if not ends:
        return replace(verdict, **{side(metric): f"{OPEN}: no run has ended"}, details=())
    # No comparison with NaN, the end of a seed that diverged, is true.
    works = [end <= claim.threshold if is_loss(metric) else end >= claim.threshold for end in ends]
    agree = [one == (claim.result == "works") for one in works]
    undecided = len(row.runs) - len(ends) + len(row.absent)
    amounts = ", ".join(_amount(metric, end) for end in ends if not math.isnan(end)) or "diverged"
    text = _seeds_text(agree, undecided, edge=best is not None and bool(best.edge))
    return replace(verdict, **{side(metric): text}, details=(f"{metric} {amounts}",))


def bounded(values: StudyValues, bound: BenchClaim) -> ClaimVerdict:
    """Whether every row of every table that has the column of a claim keeps its bounds."""
    parts = {
        "at least {:g}": bound.at_least,
        "at most {:g}": bound.at_most,
        "largest at most ×{:g} of the smallest": bound.spread,
    }
    what = bound.column + (f" ÷ {bound.relative_to}" if bound.relative_to else "")
    limits = ", ".join(words.format(value) for words, value in parts.items() if value is not None)
    verdict = ClaimVerdict(bound.text, "bound", bound.column, "", about=f"{what}: {limits}, in every row")
    cases: list[tuple[float, str]] = []
    for row in (row for _, rows in values.tables for row in rows):
        value = plain(row.get(bound.column))
        base = plain(row.get(bound.relative_to)) if bound.relative_to is not None else 1.0
        if value is not None and base:
            named = [key if key != "system" else "" for key in ("system", "classes", "n", "batch") if key in row]
            case = ", ".join(f"{key} {row[key or 'system']}".strip() for key in named)
            cases.append((value / base, case or "a row"))
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


def quantity(value: object) -> tuple[float, str] | None:
    """The number and the unit ("" for none) of a cell; None if it is no quantity."""
    if (number := number_of(value)) is not None:
        return number, ""
    found = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    with contextlib.suppress(ValueError):
        return (float(found[1].replace(" ", "").replace(",", "")), found[2] or "") if found else None
    return None


def plain(value: object) -> float | None:
    """A cell as a number, in bytes or seconds if it has a unit; None if it is no quantity."""
    found = quantity(value)
    return None if found is None else found[0] * UNITS.get(found[1], (1.0, ""))[0]
