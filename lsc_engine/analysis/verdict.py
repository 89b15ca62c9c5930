"""Whether one variant was faster than another, seed by seed: told by accuracy and by loss separately.

A level decides where one side was there before the other: each is known to within the evaluation before, and equal at
that resolution is not resolved. A run that diverged never gets there; a run that finished without the level, or lost it
again, was not there for its length. Any other run may still get there, and leaves the verdict open, with what it is so
far. A claim that holds for each side at its best settings, and is reversed at settings that both tried, depends on
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from lsc_engine.analysis.compare import (
    ENDED,
    Comparison,
    Reach,
    Row,
    Speed,
    is_loss,
    levels_against,
    levels_of_row,
    row_of,
    variant_key,
)
from lsc_engine.analysis.compare import to_json as comparison_json
from lsc_engine.analysis.tuning import Best, choose, in_grid_order, values_text
from lsc_engine.config.tuning import Purpose, level_purpose

Kind = Literal["accuracy", "loss"]
# States in which nothing of a run changes any more, whether it decides or not.
OVER = frozenset({"finished", "stopped", "failed", "diverged", "lost", "unreadable"})
HOLDS, FAILS, OPEN, UNRESOLVED, BY_SEED, BY_LEVEL, BY_RATE = (
    "holds", "fails", "open", "not resolved", "differs by seed", "differs by level", "depends on the rate",
)  # fmt: skip
_AHEAD, _BEHIND, _TIED, _NEITHER = "ahead", "behind", "tied", "neither"


@dataclass(frozen=True, slots=True)
class AtRate:
    """What a verdict is at settings that both sides trained with."""

    values: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Verdict:
    """`row` against `baseline` (labels) by one kind of metric.

    Of `seeds` in all, `agree` came first at all levels that are decided, `against` at none, `split` at some, and in
    `tied` all were equal at the resolution; in the rest neither got there. `open` of them have a run that may still
    change that, and of `waiting` among these nothing is known yet. `levels` (metric, value) are those decided, easiest
    first, with the `speeds` at them. `rates`: the verdicts at settings that both tried; `edge`: the best settings that
    lie at the edge of what was tried. `note` stands in place of a verdict ("other loss", "other data").
    """

    row: str
    baseline: str
    kind: Kind
    agree: int = 0
    against: int = 0
    split: int = 0
    tied: int = 0
    seeds: int = 0
    open: int = 0
    waiting: int = 0
    levels: tuple[tuple[str, float], ...] = ()
    speeds: tuple[Speed, ...] = ()
    rates: tuple[AtRate, ...] = ()
    edge: str = ""
    running: bool = False
    note: str = ""

    @property
    def decided(self) -> int:
        """Seeds that something is known of."""
        return self.agree + self.against + self.split + self.tied

    @property
    def so_far(self) -> str:
        """The result if nothing changed any more."""
        if not self.decided:
            return OPEN if self.open or not self.seeds else UNRESOLVED
        if self.agree == self.seeds - self.waiting:
            return BY_RATE if self.reversed else HOLDS
        if self.agree and self.against:
            return BY_SEED
        if self.split:
            return BY_LEVEL
        return FAILS if self.against else UNRESOLVED

    @property
    def reversed(self) -> tuple[AtRate, ...]:
        """The common settings at which the other side is ahead."""
        return tuple(at for at in self.rates if at.verdict.so_far == FAILS)

    @property
    def result(self) -> str:
        """`holds`, `fails`, `differs by seed`, `differs by level`, `depends on the rate`, `not resolved`; `open` while
        a run may change it; or the note."""
        return self.note or (OPEN if self.open else self.so_far)

    @property
    def count(self) -> str:
        """`, 2 of 3 seeds`: how many the result is told of."""
        told = {HOLDS: self.agree, FAILS: self.against, BY_SEED: self.agree, UNRESOLVED: self.agree}
        if not self.decided or self.so_far not in told or (self.so_far == UNRESOLVED and not self.agree):
            return ""
        return f", {told[self.so_far]} of {self.seeds} seed{'s' if self.seeds != 1 else ''}"

    def __str__(self) -> str:
        if self.note:
            return self.note
        if self.open:
            return OPEN if self.so_far == OPEN else f"{OPEN}, so far: {self.so_far}{self.count}"
        return self.so_far + self.count


def verdicts(comparison: Comparison, unit: str = "epochs") -> list[Verdict]:
    """For every variant but the baseline's, by accuracy and by loss where levels are set for it; `unit` of `UNITS`."""
    keys = {row.key for row in comparison.rows}
    base = variant_key(comparison.baseline.key, keys)
    levels = levels_of_row(comparison.baseline)
    found = []
    for key in dict.fromkeys(variant_key(row.key, keys) for row in comparison.rows):
        if key == base:
            continue
        for kind in ("accuracy", "loss"):
            purpose = level_purpose(levels, kind)
            if purpose is not None and (made := faster(comparison, key, base, purpose, unit)) is not None:
                found.append(made)
    return found


def chosen(comparison: Comparison, key: str, purpose: Purpose) -> tuple[Row | None, Best | None]:
    """The row of a variant with the settings that its tries are best in for a purpose, and what was best; the row of
    the variant's own name where nothing was tried, or the best did not train."""
    own = comparison.row(key)
    best = choose(comparison.tries.get(key, ()), [purpose]).get(purpose)
    if best is None:
        return own, None
    keys = {row.key for row in comparison.rows}
    rows = [row for row in comparison.rows if variant_key(row.key, keys) == key and _with(row, best.values)]
    return (own if own in rows or not rows else rows[0]), (best if rows else None)


def _with(row: Row, values: Mapping[str, Any]) -> bool:
    return all(row.settings.get(name) == value for name, value in values.items())


def faster(comparison: Comparison, key: str, against: str, purpose: Purpose, unit: str = "epochs") -> Verdict | None:
    """Whether a variant reaches the levels of a purpose sooner than another, each with the best of its settings, and
    at the settings that both trained with. None where one of them has no runs."""
    (row, best), (base, other) = chosen(comparison, key, purpose), chosen(comparison, against, purpose)
    if row is None or base is None:
        return None
    made = between(row, base, purpose, unit)
    edges = [
        f"{side.label}: {values_text({name: found.values[name] for name in found.edge})}"
        for side, found in ((row, best), (base, other))
        if found is not None and found.edge
    ]
    return replace(made, rates=tuple(_common(comparison, key, against, purpose, unit)), edge="; ".join(edges))


def at_values(comparison: Comparison, key: str) -> dict[str, Row]:
    """Settings in words -> a row of all runs of a variant with them, tries and seeds, in the order of the tries."""
    found: dict[str, tuple[Mapping[str, Any], list[Any]]] = {}
    for one in in_grid_order(comparison.tries.get(key, ())):
        found.setdefault(values_text(one.values), (one.values, []))[1].append(one.run)
    keys = {row.key for row in comparison.rows}
    own = [row for row in comparison.rows if variant_key(row.key, keys) == key]
    return {
        text: row_of(key, own[0].label, [*runs, *(run for row in own if _with(row, values) for run in row.runs)])
        for text, (values, runs) in found.items()
        if own
    }


def _common(comparison: Comparison, key: str, against: str, purpose: Purpose, unit: str) -> Iterable[AtRate]:
    ours, theirs = at_values(comparison, key), at_values(comparison, against)
    for text, row in ours.items():
        if text in theirs:
            # A try that was cut short tells nothing, nor may it hold back what others tell.
            pair = [_ended(row), _ended(theirs[text])]
            if pair[0] is not None and pair[1] is not None:
                yield AtRate(text, between(pair[0], pair[1], purpose, unit, common=True))


def _ended(row: Row) -> Row | None:
    runs = [run for run in row.runs if row.states.get(run.seed) in ENDED]
    return row_of(row.key, row.label, runs) if runs else None


def between(row: Row, base: Row, purpose: Purpose, unit: str = "epochs", *, common: bool = False) -> Verdict:
    """Whether a row reaches levels sooner than another, seed by seed; with `common`, in the seeds that both have."""
    kind: Kind = "loss" if is_loss(purpose.metric) else "accuracy"
    levels: dict[str, list[float]] = {}
    for metric, level in purpose.levels:
        levels.setdefault(metric, []).insert(0, level)
    own, theirs = levels_against(row, base, levels), levels_against(base, row, levels)
    notes = {one.faster[unit].note for one in own} & _NO_VERDICT
    if notes:
        return Verdict(row.label, base.label, kind, note=sorted(notes)[0])
    counts = dict.fromkeys(("agree", "against", "split", "tied", "open", "waiting"), 0)
    told: dict[tuple[str, float], Speed] = {}
    pairs = _seeds(row, base, common)
    for seed, other in pairs:
        results = set()
        for ours, opposite in zip(own, theirs, strict=True):
            a, b = ours.by_seed.get(seed), opposite.by_seed.get(other)
            if a is None or b is None:
                continue
            result = _order(a, b, unit, row.states.get(seed, ""), base.states.get(other, ""))
            results.add(result)
            if result != _NEITHER:
                told[ours.metric, ours.level] = ours.faster[unit]
        ahead, behind = _AHEAD in results, _BEHIND in results
        counts["split"] += ahead and behind
        counts["agree"] += ahead and not behind
        counts["against"] += behind and not ahead
        counts["tied"] += _TIED in results and not ahead and not behind
        unfinished = not {row.states.get(seed), base.states.get(other)} <= ENDED
        counts["open"] += unfinished
        counts["waiting"] += unfinished and not results - {_NEITHER}
    going = any(state not in OVER for state in (*row.states.values(), *base.states.values()))
    ordered = [(one.metric, one.level) for one in own if (one.metric, one.level) in told]
    return Verdict(
        row.label,
        base.label,
        kind,
        counts["agree"],
        counts["against"],
        counts["split"],
        counts["tied"],
        len(pairs),
        counts["open"],
        counts["waiting"],
        tuple(ordered),
        tuple(told[level] for level in ordered),
        running=going,
    )


_NO_VERDICT = {"other loss", "other data", "other device", "shared GPU", "busy machine", "unsteady seconds"}


def _seeds(row: Row, base: Row, common: bool) -> list[tuple[int, int]]:
    """The seeds of both sides that are compared: equal ones; where there are none at all, each with the first other."""
    ours, theirs = ({run.seed for run in one.runs} | set(one.absent) for one in (row, base))
    both = sorted(ours & theirs)
    if not both:
        first = [run.seed for run in base.runs][:1]
        return [] if common else [(run.seed, first[0]) for run in row.runs if first]
    return [(seed, seed) for seed in (both if common else sorted({*both, *row.absent, *base.absent}))]


def _order(own: Reach, theirs: Reach, unit: str, own_state: str, theirs_state: str) -> str:
    """Who of two seeds was at a level first."""
    ours, other = (r.reached and r.kept and s != "diverged" for r, s in ((own, own_state), (theirs, theirs_state)))
    if ours and other:
        if own.at(unit) == theirs.at(unit):
            return _TIED
        if own.at(unit) <= theirs.not_at(unit):
            return _AHEAD
        return _BEHIND if theirs.at(unit) <= own.not_at(unit) else _TIED
    if ours:
        return _AHEAD if _went_without(theirs, own.at(unit), unit, theirs_state) else _NEITHER
    if other:
        # A seed that diverged counts against what is claimed of it.
        without = own_state == "diverged" or _went_without(own, theirs.at(unit), unit, own_state)
        return _BEHIND if without else _NEITHER
    return _NEITHER


def _went_without(reach: Reach, place: float, unit: str, state: str) -> bool:
    """Whether a run was not at the level up to `place` of another; one that diverged before never gets there."""
    return place <= reach.not_at(unit) or (state == "diverged" and not reach.reached)


def to_json(comparison: Comparison, unit: str = "epochs") -> dict[str, Any]:
    """The comparison as one document for JSON, with its verdicts."""
    return {**comparison_json(comparison), "verdicts": [_verdict_json(one) for one in verdicts(comparison, unit)]}


def _verdict_json(one: Verdict) -> dict[str, Any]:
    return {
        "variant": one.row,
        "against": one.baseline,
        "by": one.kind,
        "verdict": one.result,
        "so_far": one.so_far,
        "seeds": one.seeds,
        "agree": one.agree,
        "against_seeds": one.against,
        "open": one.open,
        "levels": [{"metric": metric, "level": level} for metric, level in one.levels],
        "rates": {at.values: at.verdict.so_far for at in one.rates},
        "edge": one.edge,
    }
