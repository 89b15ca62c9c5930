"""When runs reach a level of a metric: at the first evaluation at or beyond it, known to within the one before, if they
still are there at the end; and how much sooner than others. Where some seed never arrived, a ratio is a bound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lsc_engine.config.tuning import lower_is_better
from lsc_engine.runs.read.run import Run

UNITS = ("steps", "epochs", "seconds")
NOT_RESOLVED = "not resolved"
is_loss = lower_is_better
Place = tuple[float, float, float]
_START: Place = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class TimeToLevel:
    """Where one seed reached a level (steps, epochs, seconds), or how long it went without; `before`: the last place
    before it was there at all. A level that it lost again is not reached."""

    reached: bool
    place: Place
    before: Place

    @property
    def lost(self) -> bool:
        return not self.reached and self.before < self.place

    def at(self, unit: str) -> float:
        return self.place[UNITS.index(unit)]

    def last_without(self, unit: str) -> float:
        """The last place in `unit` before the level; the length of the run that was never there."""
        return self.before[UNITS.index(unit)]


def time_to_level(run: Run, metric: str, level: float, *, diverged: bool = False) -> TimeToLevel:
    """Where `metric` first is at or beyond `level`; the length of the run if it never is, is not at its end, or the run
    `diverged`."""
    step, values, epoch, time = run.axes(metric)
    with np.errstate(invalid="ignore"):
        beyond = values <= level if is_loss(metric) else values >= level

    def place(index: int) -> Place:
        # What holds before the first step, with weights taken over, took no time of this run.
        return float(step[index]), float(epoch[index]), float(time[index]) if step[index] else 0.0

    length = place(-1) if len(step) else (math.nan, math.nan, math.nan)
    if not beyond.any():
        return TimeToLevel(False, length, length)
    first = int(np.argmax(beyond))
    kept = bool(beyond[-1]) and not diverged
    return TimeToLevel(kept, place(first) if kept else length, place(first - 1) if first else _START)


@dataclass(frozen=True, slots=True)
class Speedup:
    """How much sooner than the baseline. `bound`: "" exact, ">" at least, "<" at most. `note` stands instead."""

    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    bound: str = ""
    seeds: int = 0
    note: str = ""

    def __str__(self) -> str:
        if self.note or self.ratio is None:
            return self.note or "-"
        # A second digit where one would read as a tie.
        digits = 2 if 0.9 <= self.ratio < 1.15 else 1
        text = f"{self.bound}×{self.ratio:.{digits}f}"
        if self.bound or self.low is None or self.high is None:
            return text
        return f"{text} (1 seed)" if self.seeds == 1 else f"{text} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def speedup(own: Mapping[int, TimeToLevel], base: Mapping[int, TimeToLevel], unit: str) -> Speedup:
    """The ratio of the mean places and its range over the seeds, each against the other's same seed if it has one.
    Where some seeds of one side never arrived, their lengths stand in and the ratio is a bound; so it is where one side
    was there at its first evaluation. No ratio where both sides lack seeds, or a level was held from the start."""
    own, base = ({s: time for s, time in one.items() if math.isfinite(time.at(unit))} for one in (own, base))
    both = (own, base)
    every = [*own.values(), *base.values()]
    own_all, base_all = (all(time.reached for time in one.values()) for one in both)
    comparable = own and base and any(time.reached for time in every) and all(time.at(unit) > 0 for time in every)
    if not comparable or not (own_all or base_all):
        return Speedup()
    own_first, base_first = (any(t.reached and t.last_without(unit) == 0 for t in one.values()) for one in both)
    pairs = [(time, base.get(seed, time)) for seed, time in own.items()]
    # Neither is known to have been there before the other.
    apart = (
        one.at(unit) != other.at(unit)
        and (one.at(unit) <= other.last_without(unit) or other.at(unit) <= one.last_without(unit))
        for one, other in pairs
    )
    tied = own.keys() <= base.keys() and not any(apart)
    if own_all and base_all and (tied or (own_first and base_first)):
        return Speedup(note=NOT_RESOLVED)
    places, others = ({seed: time.at(unit) for seed, time in one.items()} for one in both)
    bound = ""
    if not base_all or (own_all and own_first and not base_first):
        bound = ">"
        others = {seed: time.last_without(unit) for seed, time in base.items()} if own_first else others
    elif not own_all or (base_first and not own_first):
        bound = "<"
        places = {seed: time.last_without(unit) for seed, time in own.items()} if base_first else places
    mean = float(np.mean(list(others.values())))
    ratios = [others.get(seed, mean) / place for seed, place in places.items() if place > 0]
    if not ratios or mean <= 0:
        return Speedup()
    return Speedup(mean / float(np.mean(list(places.values()))), min(ratios), max(ratios), bound, len(ratios))


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One level of one row: when each seed reached it, and the speed-up against the baseline per unit."""

    metric: str
    level: float
    by_seed: Mapping[int, TimeToLevel]
    faster: Mapping[str, Speedup]

    @property
    def reached(self) -> list[TimeToLevel]:
        return [time for time in self.by_seed.values() if time.reached]

    def mean(self, unit: str) -> float | None:
        return float(np.mean([time.at(unit) for time in self.reached])) if self.reached else None

    def longest(self, unit: str) -> float | None:
        """The longest that any seed took or went without; None if nothing was logged."""
        return max((at for time in self.by_seed.values() if math.isfinite(at := time.at(unit))), default=None)

    def text(self, unit: str) -> str:
        """`46.6`, `46.6 (2 of 3)`, or `>100`; `-` if nothing was logged."""
        mean, longest = self.mean(unit), self.longest(unit)
        if mean is None:
            return f">{place_text(longest)}" if longest else "-"
        few = "" if len(self.reached) == len(self.by_seed) else f" ({len(self.reached)} of {len(self.by_seed)})"
        return place_text(mean) + few

    def to_json(self) -> dict[str, Any]:
        """The level for JSON; a missing number is None."""
        return {
            **{"metric": self.metric, "level": self.level, "seeds": len(self.by_seed), "reached": len(self.reached)},
            **{unit: self.mean(unit) for unit in UNITS},
            "length": {unit: self.longest(unit) for unit in UNITS},
            "by_seed": {
                str(seed): {"reached": time.reached, "kept": time.reached, **dict(zip(UNITS, time.place, strict=True))}
                for seed, time in self.by_seed.items()
            },
            "faster": {unit: asdict(speed) for unit, speed in self.faster.items()},
        }


def place_text(value: float) -> str:
    """A place on an axis: three digits at least, no needless ones; "-" on an axis that was not logged."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
