"""Whether one variant was faster than the baseline: told by accuracy and by loss separately, seed by seed.

A seed agrees if it came first at every level that was decided for it. A level is decided when one of the two reached
it and the other did so later, never did (its run is over), or has gone further without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lsc_engine.runs.compare import BASELINE, Comparison, LevelResult, Reach, Row, Speed, is_loss

Kind = Literal["accuracy", "loss"]
OVER = frozenset({"finished", "stopped", "failed", "diverged", "lost", "unreadable"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """`row` against `baseline` (labels) by one kind of metric.

    Of `seeds` in all, `decided` have a level that is decided; `agree` of them came first at all such levels, `against`
    at none. `levels` are those decided, easiest first; `speed` is that at the hardest. `note` stands in
    place of a verdict ("other loss", "other data").
    """

    row: str
    baseline: str
    kind: Kind
    agree: int = 0
    against: int = 0
    decided: int = 0
    seeds: int = 0
    levels: tuple[float, ...] = ()
    speed: Speed | None = None
    so_far: bool = False
    note: str = ""

    @property
    def result(self) -> str:
        """`holds`, `fails`, `differs by seed`, `differs by level`, `open` where nothing is decided; or the note."""
        if self.note or not self.decided:
            return self.note or "open"
        if self.agree == self.decided:
            return "holds"
        if self.against == self.decided:
            return "fails"
        return "differs by seed" if self.agree + self.against == self.decided else "differs by level"

    def __str__(self) -> str:
        if self.note or not self.decided or self.result == "differs by level":
            return self.result
        count = self.against if self.result == "fails" else self.agree
        words = "" if self.result.endswith("seed") else " seed" if self.seeds == 1 else " seeds"
        return f"{self.result}, {count} of {self.seeds}{words}"


def verdicts(comparison: Comparison, unit: str = "epochs") -> list[Verdict]:
    """For every row but the baseline, by accuracy and by loss where levels are set for it; `unit` of `UNITS`."""
    base = comparison.baseline
    found = []
    for row in comparison.rows:
        if row is base:
            continue
        for kind in ("accuracy", "loss"):
            pairs = [
                (own, theirs)
                for own, theirs in zip(row.levels, base.levels, strict=True)
                if is_loss(own.metric) == (kind == "loss")
            ]
            if pairs:
                found.append(_verdict(row, base, pairs, kind, unit))
    return found


def _verdict(row: Row, base: Row, pairs: list[tuple[LevelResult, LevelResult]], kind: Kind, unit: str) -> Verdict:
    notes = {own.faster[unit].note for own, _ in pairs} - {"", BASELINE}
    if notes:
        return Verdict(row.label, base.label, kind, note=sorted(notes)[0])
    agree = against = decided = 0
    levels: dict[float, Speed] = {}
    for run in row.runs:
        first = []
        for own, theirs in pairs:
            other = run.seed if run.seed in theirs.by_seed else next(iter(theirs.by_seed), None)
            if other is None:
                continue
            sooner = _sooner(
                own.by_seed[run.seed], theirs.by_seed[other], unit,
                row.states.get(run.seed) in OVER, base.states.get(other) in OVER,
            )  # fmt: skip
            if sooner is not None:
                first.append(sooner)
                levels[own.level] = own.faster[unit]
        if first:
            decided += 1
            agree += all(first)
            against += not any(first)
    ordered = sorted(levels, reverse=kind == "loss")
    going = any(state not in OVER for state in (*row.states.values(), *base.states.values()))
    return Verdict(
        row.label, base.label, kind, agree, against, decided, len(row.runs), tuple(ordered),
        levels[ordered[-1]] if ordered else None, going,
    )  # fmt: skip


def _sooner(own: Reach, theirs: Reach, unit: str, own_over: bool, theirs_over: bool) -> bool | None:
    """Whether the first was sooner; None while that cannot be told."""
    a, b = own.at(unit), theirs.at(unit)
    if own.reached and theirs.reached:
        return a < b
    if own.reached:
        return True if theirs_over or b >= a else None
    if theirs.reached:
        return False if own_over or a >= b else None
    return None
