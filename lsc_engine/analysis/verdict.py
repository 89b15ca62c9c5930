"""Whether one variant was faster than another, seed by seed, by accuracy and by loss separately: first at the hardest
level that one of them reached, and later at none, each place known to within the evaluation before. A run that diverged
never gets there; one that finished without the level, or lost it again, was not there for its length; any other may
still get there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lsc_engine.analysis.compare import ENDED, NO_VERDICT, Comparison, Row, Tried, levels_against, make_row, variant_key
from lsc_engine.analysis.levels import Speedup, TimeToLevel, is_loss, time_to_level
from lsc_engine.common.formatting import counted
from lsc_engine.common.settings import Table
from lsc_engine.config.tuning import LOWEST, Purpose, at_edge, level_purpose, lower_is_better, next_value
from lsc_engine.runs.read.run import Run

Kind = Literal["accuracy", "loss"]
Values = Mapping[str, Any]
# States in which nothing of a run changes any more, whether it decides or not.
OVER = frozenset({"finished", "stopped", "failed", "diverged", "lost", "unreadable"})
HOLDS, FAILS, OPEN, UNRESOLVED = "holds", "fails", "open", "not resolved"
BY_SEED, BY_LEVEL, BY_RATE = "differs by seed", "differs by level", "depends on the rate"
_AHEAD, _BEHIND, _TIED, _NEITHER = "ahead", "behind", "tied", "neither"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`row` against `baseline` (labels) by one kind of metric. Of `seeds` in all, `agree` came first at the hardest
    level that is decided and later at none, `split` first at some and later at others, `against` later at some and
    first at none; `tied` were equal at the hardest and later at none; in the rest neither got there. `open` of them
    have a run that may still change that, and of `waiting` among these nothing is known yet. `levels` (metric, value)
    are those decided, easiest first, with the `speeds` at them. `rates`: settings that both tried -> the verdict there;
    `edge`: the best settings that lie at the edge of what was tried. `note` stands in place of a verdict ("other loss",
    "other data")."""

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
    speeds: tuple[Speedup, ...] = ()
    rates: Mapping[str, Verdict] = field(default_factory=dict)
    edge: str = ""
    note: str = ""

    @property
    def decided(self) -> int:
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
    def reversed(self) -> list[str]:
        return [settings for settings, verdict in self.rates.items() if verdict.so_far == FAILS]

    @property
    def result(self) -> str:
        """`holds`, `fails`, `differs by …`, `depends on the rate`, `not resolved`, `open`; or the note."""
        return self.note or (OPEN if self.open else self.so_far)

    @property
    def count(self) -> str:
        """`, 2 of 3 seeds`: in how many seeds the result is so."""
        counts = {HOLDS: self.agree, FAILS: self.against, BY_SEED: self.agree, UNRESOLVED: self.agree}
        if not self.decided or self.so_far not in counts or (self.so_far == UNRESOLVED and not self.agree):
            return ""
        return of_seeds(counts[self.so_far], self.seeds)

    def __str__(self) -> str:
        if self.note:
            return self.note
        if self.open:
            return OPEN if self.so_far == OPEN else f"{OPEN}, so far: {self.so_far}{self.count}"
        return self.so_far + self.count


def side(metric: str) -> Kind:
    """The kind of metric that decides it."""
    return "loss" if is_loss(metric) else "accuracy"


def of_seeds(count: int, seeds: int) -> str:
    """`, 2 of 3 seeds`."""
    return f", {count} of {counted(seeds, 'seed')}"


@dataclass(frozen=True)
class Best:
    """The best values of a variant for one purpose. `edge`: the settings that are the least or largest tried. `by`: why
    they are best, which is the final value if no try reached a level of the purpose."""

    values: Values
    edge: tuple[str, ...]
    by: str


def values_text(values: Values) -> str:
    """`lr = 0.0003`: settings by the last part of their names."""
    named = {key.rpartition(".")[2]: value for key, value in values.items()}
    return ", ".join(f"{key} = {v:g}" if isinstance(v, float) else f"{key} = {v}" for key, v in named.items())


def last_value(run: Run, metric: str) -> float | None:
    """The last value of a metric; of a self-supervised run, which has no labels, the accuracy by its class means."""
    plain = metric.removesuffix(LOWEST)
    for name in (plain, f"{plain}_means"):
        values = run.history(name)[1]
        if len(values) and math.isfinite(values[-1]):
            return float(values.min() if metric != plain else values[-1])
    return None


def score(run: Run, purpose: Purpose) -> tuple[float, ...] | None:
    """What a finished try is ranked by, larger is better; None if it is no candidate."""
    if run.status().state != "finished":
        return None
    last = last_value(run, purpose.metric)
    if last is None:
        return None
    final = -last if lower_is_better(purpose.metric) else last
    if not purpose.levels:
        return (final,)
    places = [time_to_level(run, metric, level) for metric, level in purpose.levels]
    return (*(-place.at("epochs") if place.reached else -math.inf for place in places), final)


def choose(tries: Sequence[Tried], purposes: Iterable[Purpose]) -> dict[Purpose, Best]:
    """The best try for each purpose that has a candidate; of equal ones that nearest the middle of the grid."""
    ordered = in_grid_order(tries)
    chosen = {}
    for purpose in purposes:
        scores = {n: found for n, one in enumerate(ordered) if (found := score(one.run, purpose)) is not None}
        if scores:
            number = max(scores, key=lambda n: (scores[n], -abs(n - (len(ordered) - 1) / 2), -n))
            values = dict(ordered[number].values)
            edge = tuple(key for key, value in values.items() if at_edge([one.values[key] for one in ordered], value))
            unreached = bool(purpose.levels) and not any(map(math.isfinite, scores[number][:-1]))
            by = f"the final {purpose.metric}, as no try reached a level" if unreached else str(purpose)
            chosen[purpose] = Best(values, edge, by)
    return chosen


def in_grid_order(tries: Iterable[Tried]) -> list[Tried]:
    """Tries with their numbers rising."""

    def place(value: Any) -> tuple[int, float, str]:
        return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))

    return sorted(tries, key=lambda one: tuple(place(value) for value in one.values.values()))


def growth(tries: Sequence[Tried], purposes: Iterable[Purpose], grid: Mapping[str, Sequence[Any]]) -> list[Table]:
    """The points that the grid of one variant grows to, as its best ones lie at an edge that may grow."""
    found: list[Table] = []
    for best in choose(tries, purposes).values():
        for key in best.edge:
            value = next_value([one.values[key] for one in tries], grid[key], best.values[key])
            point = {**best.values, key: value}
            if value is not None and point not in found and point not in [dict(one.values) for one in tries]:
                found.append(point)
    return found


def verdicts(comparison: Comparison, unit: str = "epochs") -> list[Verdict]:
    """For every variant but the baseline's, by accuracy and by loss where levels are set for it; `unit` of `UNITS`."""
    base = variant_key(comparison.baseline.key, {row.key for row in comparison.rows})
    purposes = [level_purpose(comparison.levels, kind) for kind in ("accuracy", "loss")]
    pairs = [
        (key, purpose) for key in comparison.variants for purpose in purposes if key != base and purpose is not None
    ]
    found = (faster(comparison, key, base, purpose, unit) for key, purpose in pairs)
    return [verdict for verdict in found if verdict is not None]


def chosen(comparison: Comparison, key: str, purpose: Purpose) -> tuple[Row | None, Best | None]:
    """The row of a variant with its best settings for a purpose, and these; else the row of the variant's own name."""
    own = comparison.row(key)
    best = choose(comparison.tries.get(key, ()), [purpose]).get(purpose)
    if best is None:
        return own, None
    rows = [row for row in comparison.variants.get(key, ()) if _with(row, best.values)]
    return (own if own in rows or not rows else rows[0]), (best if rows else None)


def _with(row: Row, values: Mapping[str, Any]) -> bool:
    return all(row.settings.get(name) == value for name, value in values.items())


def faster(comparison: Comparison, key: str, against: str, purpose: Purpose, unit: str = "epochs") -> Verdict | None:
    """Whether a variant reaches the levels of a purpose sooner than another, each with its best settings, and at those
    that both trained with. None if one has no runs."""
    (row, best), (base, other) = chosen(comparison, key, purpose), chosen(comparison, against, purpose)
    if row is None or base is None:
        return None
    edges = [
        f"{side.label}: {values_text({name: found.values[name] for name in found.edge})}"
        for side, found in ((row, best), (base, other))
        if found is not None and found.edge
    ]
    rates = {}
    sides = at_values(comparison, key), at_values(comparison, against)
    for text in (text for text in sides[0] if text in sides[1]):
        # A try that was cut short decides nothing, nor may it hold back what others decide.
        pair = []
        for one in (side[text] for side in sides):
            runs = [run for run in one.runs if one.states.get(run.seed) in ENDED]
            pair += [make_row(one.key, one.label, runs)] if runs else []
        if len(pair) == 2:
            rates[text] = between(pair[0], pair[1], purpose, unit, common=True)
    return replace(between(row, base, purpose, unit), rates=rates, edge="; ".join(edges))


def at_values(comparison: Comparison, key: str) -> dict[str, Row]:
    """Settings in words -> a row of all runs of a variant with them, tries and seeds, in the order of the tries."""
    rows = comparison.variants.get(key, [])
    found: dict[str, tuple[Mapping[str, Any], list[Run]]] = {}
    for one in in_grid_order(comparison.tries.get(key, ())) if rows else ():
        found.setdefault(values_text(one.values), (one.values, []))[1].append(one.run)
    return {
        text: make_row(key, rows[0].label, [*runs, *(run for row in rows if _with(row, values) for run in row.runs)])
        for text, (values, runs) in found.items()
    }


def between(row: Row, base: Row, purpose: Purpose, unit: str = "epochs", *, common: bool = False) -> Verdict:
    """Whether a row reaches levels sooner than another, seed by seed; with `common`, in the seeds that both have."""
    kind = side(purpose.metric)
    levels: dict[str, list[float]] = {}
    for metric, level in purpose.levels:
        levels.setdefault(metric, []).insert(0, level)
    own, theirs = levels_against(row, base, levels), levels_against(base, row, levels)
    if notes := {one.faster[unit].note for one in own} & NO_VERDICT:
        return Verdict(row.label, base.label, kind, note=min(notes))
    agree = against = split = tied = undecided = waiting = 0
    decided: set[tuple[str, float]] = set()
    # Equal seeds are compared; if there are none at all, each with the first other.
    seeds, others = ({run.seed for run in one.runs} | set(one.absent) for one in (row, base))
    both = seeds & others
    pairs = [(seed, seed) for seed in sorted(both if common else {*both, *row.absent, *base.absent})]
    if not both:
        pairs = [] if common else [(run.seed, first.seed) for run in row.runs for first in base.runs[:1]]
    for seed, other in pairs:
        state, opposite = row.states.get(seed, ""), base.states.get(other, "")
        results, hardest = set(), dict[str, str]()
        for ours, opponent in zip(own, theirs, strict=True):
            if seed in ours.by_seed and other in opponent.by_seed:
                result = _order(ours.by_seed[seed], opponent.by_seed[other], unit, state, opposite)
                results.add(result)
                if result != _NEITHER:
                    decided.add((ours.metric, ours.level))
                    hardest[ours.metric] = result
        ahead, behind, equal = _AHEAD in results, _BEHIND in results, _TIED in hardest.values()
        split += ahead and behind
        agree += ahead and not behind and not equal
        against += behind and not ahead
        tied += equal and not behind
        unfinished = not {state, opposite} <= ENDED
        undecided += unfinished
        waiting += unfinished and not results - {_NEITHER}
    known = {(one.metric, one.level): one.faster[unit] for one in own if (one.metric, one.level) in decided}
    counts = (agree, against, split, tied, len(pairs), undecided, waiting)
    return Verdict(row.label, base.label, kind, *counts, tuple(known), tuple(known.values()))


def _order(own: TimeToLevel, theirs: TimeToLevel, unit: str, own_state: str, theirs_state: str) -> str:
    """Which of two seeds was at a level first."""
    if own.reached and theirs.reached:
        if own.at(unit) == theirs.at(unit):
            return _TIED
        if own.at(unit) <= theirs.last_without(unit):
            return _AHEAD
        return _BEHIND if theirs.at(unit) <= own.last_without(unit) else _TIED
    if own.reached:
        # One that diverged never gets there.
        return _AHEAD if theirs_state == "diverged" or own.at(unit) <= theirs.last_without(unit) else _NEITHER
    # A seed that diverged counts against what is claimed of it.
    return (
        _BEHIND
        if theirs.reached and (own_state == "diverged" or theirs.at(unit) <= own.last_without(unit))
        else _NEITHER
    )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison with its verdicts for JSON; a missing number is None."""
    return {
        "baseline": comparison.baseline.key,
        "settings": {
            key: {row.key: value for row, value in zip(comparison.rows, values, strict=True)}
            for key, values in comparison.differing.items()
        },
        "rows": [row.to_json() for row in comparison.rows],
        "notes": comparison.notes,
        "verdicts": [
            {
                **{name: getattr(one, name) for name in ("so_far", "seeds", "agree", "open", "edge")},
                "variant": one.row,
                "against": one.baseline,
                "by": one.kind,
                "verdict": one.result,
                "against_seeds": one.against,
                "levels": [{"metric": metric, "level": level} for metric, level in one.levels],
                "rates": {settings: verdict.so_far for settings, verdict in one.rates.items()},
            }
            for one in verdicts(comparison)
        ],
    }
