"""Comparing runs: the settings that differ, and how soon each reaches a level, against a baseline.

A level counts from the first evaluation at which the metric is at or beyond it: upward for accuracies, downward for
losses. Losses of different kinds are never compared, seconds only on the same kind of device that each run had alone,
and runs on different data not at all. A level that was not reached reads `>` the length of the run, and a diverged or
failed seed is one that did not reach it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lsc_engine.errors import UsageError
from lsc_engine.runs.files import number_of
from lsc_engine.runs.run import Run, loss_group, loss_kind
from lsc_engine.runs.settings import differing, settings_of

UNITS = ("steps", "epochs", "seconds")
OTHER_LOSS, OTHER_DATA, OTHER_DEVICE, BASELINE = "other loss", "other data", "other device", "baseline"
SHARED = "shared GPU"
_DATA_KEYS = ("data.dataset", "data.path", "data.labels", "data.classes", "data.image_size")
_MAX_LEVELS = 20


def is_loss(metric: str) -> bool:
    """Whether lower is better: a loss, by its name."""
    return "loss" in metric.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one seed got towards a level: where it reached it, or (`reached` false) how long it went without."""

    reached: bool
    steps: float
    epochs: float
    seconds: float

    def at(self, unit: str) -> float:
        """The place in `unit`."""
        return float(getattr(self, unit))


@dataclass(frozen=True, slots=True)
class Speed:
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
        text = f"{self.bound}×{self.ratio:.1f}"
        if self.bound or self.low is None or self.high is None:
            return text
        return f"{text} (1 seed)" if self.seeds == 1 else f"{text} ({self.low:.1f}-{self.high:.1f})"


@dataclass(frozen=True, slots=True)
class LevelResult:
    """One level of one row: each seed's reach, and the speed-up against the baseline per unit."""

    metric: str
    level: float
    by_seed: Mapping[int, Reach]
    faster: Mapping[str, Speed]

    @property
    def reached(self) -> list[Reach]:
        """The seeds that reached the level."""
        return [reach for reach in self.by_seed.values() if reach.reached]

    def mean(self, unit: str) -> float | None:
        """The mean over the seeds that reached it; None where none did."""
        return float(np.mean([reach.at(unit) for reach in self.reached])) if self.reached else None

    def text(self, unit: str) -> str:
        """`46.6`, `46.6 (2 of 3)`, or `>100`; `-` where nothing was logged."""
        places = [reach.at(unit) for reach in self.by_seed.values()]
        mean = self.mean(unit)
        if mean is None:
            longest = max((place for place in places if math.isfinite(place)), default=0.0)
            return f">{number(longest)}" if longest else "-"
        few = "" if len(self.reached) == len(places) else f" ({len(self.reached)} of {len(places)})"
        return number(mean) + few


@dataclass(slots=True)
class Row:
    """All seeds of one variant. `last`: mean, standard deviation and number of seeds, of the finished ones where there
    are any (a value of a run under way is no last one), else of all."""

    key: str
    label: str
    runs: list[Run]
    settings: dict[str, Any]
    states: dict[int, str] = field(default_factory=dict)
    device: str = ""
    shared: bool = False  # another process was seen on the GPU of one of the runs
    kind: str = "?"
    group: str = "?"
    last: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    levels: list[LevelResult] = field(default_factory=list)


@dataclass(slots=True)
class Comparison:
    """Rows (the baseline among them), differing settings (key -> value per row), and sentences on what is unequal."""

    rows: list[Row]
    baseline: Row
    differing: dict[str, list[Any]]
    notes: list[str]


def number(value: float) -> str:
    """A place on an axis: three digits at least, no needless ones."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def device_kind(device: str) -> str:
    """A device's name without its number, so that cuda:0 and cuda:1 of one kind compare."""
    return re.sub(r"\s*\(\w+(:\d+)?\)$|:\d+$", "", device.strip()).lower()


def first_reach(run: Run, metric: str, level: float) -> Reach:
    """Where `metric` first is at or beyond `level`, else the length of the run."""
    step, values, epoch, time = run.axes(metric)
    with np.errstate(invalid="ignore"):
        beyond = values <= level if is_loss(metric) else values >= level
    found = np.flatnonzero(beyond)
    if len(found):
        first = found[0]
        # What holds before the first step, with weights taken over, took no time of this run.
        return Reach(True, float(step[first]), float(epoch[first]), float(time[first]) if step[first] else 0.0)
    if not len(step):
        return Reach(False, math.nan, math.nan, math.nan)
    return Reach(False, float(step[-1]), float(epoch[-1]), float(time[-1]))


def levels_of(runs: Iterable[Run]) -> dict[str, list[float]]:
    """The levels that the presets of the runs fix, in their order."""
    found: dict[str, list[float]] = {}
    for run in runs:
        told = run.config.get("compare")
        levels = told.get("levels") if isinstance(told, dict) else None
        for metric, values in levels.items() if isinstance(levels, dict) else ():
            for value in values if isinstance(values, list) else [values]:
                if (level := number_of(value)) is not None:
                    known = found.setdefault(metric, [])
                    if level not in known and len(known) < _MAX_LEVELS:
                        known.append(level)
    return found


def compare(
    runs: Sequence[Run], baseline: str | None = None, levels: Mapping[str, Sequence[float]] | None = None
) -> Comparison:
    """Compare runs, the seeds of a variant as one row.

    `baseline`: a variant or label (default: the preset's, else the first row); `levels`: metric -> values (default:
    the presets'). UsageError when there are no runs or the baseline is none of them.
    """
    if not runs:
        raise UsageError("there is nothing to compare: name two runs or a study")
    rows = _rows(runs)
    base = _baseline(rows, baseline)
    chosen = levels_of(runs) if levels is None else levels
    reach = {
        row.key: {
            (metric, level): {run.seed: first_reach(run, metric, level) for run in row.runs}
            for metric, values in chosen.items()
            for level in values
        }
        for row in rows
    }
    for row in rows:
        for (metric, level), by_seed in reach[row.key].items():
            own = reach[base.key][metric, level]
            faster = {unit: _speed(row, base, by_seed, own, metric, unit) for unit in UNITS}
            row.levels.append(LevelResult(metric, level, by_seed, faster))
    unequal = differing([row.settings for row in rows])
    return Comparison(rows, base, unequal, _notes(rows, base))


def _rows(runs: Sequence[Run]) -> list[Row]:
    studies = {run.study for run in runs}
    rows: dict[str, Row] = {}
    for run in runs:
        key = f"{run.study}/{run.variant}"
        label = run.label if len(studies) == 1 else f"{run.study} {run.label}"
        row = rows.setdefault(key, Row(key, label, [], settings_of(run.config)))
        if run.id not in {other.id for other in row.runs}:
            row.runs.append(run)
    for row in rows.values():
        _summarise(row)
    return list(rows.values())


def _summarise(row: Row) -> None:
    row.kind, row.group = loss_kind(row.runs[0].config), loss_group(row.runs[0].config)
    finals: dict[str, list[float]] = {}
    devices: dict[str, None] = {}
    found = {run.seed: run.status() for run in row.runs}
    row.states |= {seed: status.shown_state for seed, status in found.items()}
    whole = [seed for seed, status in found.items() if status.state == "finished"] or list(found)
    for run in row.runs:
        devices[device_kind(found[run.seed].device)] = None
        for name in run.metric_names():
            _, values = run.history(name)
            if run.seed in whole:
                finals.setdefault(name, []).append(float(values[-1]))
            finite = values[np.isfinite(values)]
            if len(finite):
                best = float(finite.min() if is_loss(name) else finite.max())
                row.best[name] = (min if is_loss(name) else max)(row.best.get(name, best), best)
    row.device = next(iter(devices)) if len(devices) == 1 else "mixed"
    row.shared = any(run.source.get("shared_gpu") is True for run in row.runs)
    for name, last in finals.items():
        spread = float(np.std(last, ddof=1)) if len(last) > 1 else 0.0
        row.last[name] = (float(np.mean(last)), spread, len(last))


def _baseline(rows: list[Row], name: str | None) -> Row:
    told = rows[0].runs[0].config.get("compare")
    preset = told.get("baseline") if isinstance(told, dict) else None
    for row in rows:
        if name in (row.key, row.label, row.runs[0].variant, *(run.id for run in row.runs)):
            return row
    if name is not None:
        raise UsageError(f"baseline {name!r} is none of the compared runs: {', '.join(row.label for row in rows)}")
    return next((row for row in rows if row.runs[0].variant == preset), rows[0])


def _speed(
    row: Row, base: Row, by_seed: Mapping[int, Reach], own: Mapping[int, Reach], metric: str, unit: str
) -> Speed:
    if row is base:
        return Speed(note=BASELINE)
    if any(row.settings.get(key) != base.settings.get(key) for key in _DATA_KEYS):
        return Speed(note=OTHER_DATA)
    if is_loss(metric) and (row.group != base.group or row.group == "?"):
        return Speed(note=OTHER_LOSS)
    if unit == "seconds" and (row.device != base.device or row.device in ("", "mixed")):
        return Speed(note=OTHER_DEVICE)
    if unit == "seconds" and (row.shared or base.shared):
        return Speed(note=SHARED)
    ours = {seed: reach.at(unit) for seed, reach in by_seed.items() if reach.reached and reach.at(unit) > 0}
    theirs = {seed: reach.at(unit) for seed, reach in own.items() if reach.reached and reach.at(unit) > 0}
    if ours and theirs:
        return _ratio(ours, theirs)
    lengths = [reach.at(unit) for reach in (own if ours else by_seed).values() if reach.at(unit) > 0]
    if not lengths or not (ours or theirs):
        return Speed()
    if ours:
        return Speed(max(lengths) / float(np.mean(list(ours.values()))), bound=">", seeds=len(ours))
    return Speed(float(np.mean(list(theirs.values()))) / max(lengths), bound="<", seeds=len(theirs))


def _ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Speed:
    """Ratio of the means; its range over the seeds, each against the baseline's same seed where there is one."""
    mean = float(np.mean(list(theirs.values())))
    each = [theirs.get(seed, mean) / place for seed, place in ours.items()]
    return Speed(mean / float(np.mean(list(ours.values()))), min(each), max(each), seeds=len(each))


def _notes(rows: list[Row], base: Row) -> list[str]:
    notes: list[str] = []
    for row in rows:
        if row is not base and any(row.settings.get(key) != base.settings.get(key) for key in _DATA_KEYS):
            notes.append(f"{base.label} and {row.label} train on different data: no speed-up")
        elif row.group != base.group:
            notes.append(f"{row.label} has another loss than {base.label}: their losses are not compared")
        if stages := _stages(row):
            notes.append(f"{row.label} builds on {', '.join(stages)}: what that took is not counted here")
        if row.device != base.device:
            notes.append(f"{row.label} ran on {row.device or '?'}, {base.label} on {base.device or '?'}: no seconds")
        if row.shared:
            notes.append(f"{row.label} did not have its GPU alone: no seconds")
        ended = {"diverged", "failed", "lost"}
        fallen = [f"seed {seed} {state}" for seed, state in row.states.items() if state in ended]
        going = [f"seed {seed} {state}" for seed, state in row.states.items() if state not in {*ended, "finished"}]
        if fallen:
            notes.append(f"{row.label}: {', '.join(fallen)}, counted as not reached where it was not")
        if going:
            notes.append(f"{row.label}: {', '.join(going)}, so far only")
    return notes


def _stages(row: Row) -> list[str]:
    """The runs without which a row's would not be what they are, as its settings name them."""
    keys = ("start_from", "target.teacher", "target.order", "target.system")
    begun, taught, order, system = (str(row.settings.get(key) or "") for key in keys)
    means = [text.partition(":")[2] for text in (order, system) if text.startswith(("nearest:", "embeddings:"))]
    return list(dict.fromkeys(name.removeprefix("@") for name in (begun, taught, *means) if name))


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as one document for JSON; a missing number is None, one that is not finite stays."""
    return {
        "baseline": comparison.baseline.key,
        "settings": {
            key: {row.key: value for row, value in zip(comparison.rows, values, strict=True)}
            for key, values in comparison.differing.items()
        },
        "rows": [_row_json(row) for row in comparison.rows],
        "notes": comparison.notes,
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "key": row.key,
        "label": row.label,
        "runs": [run.id for run in row.runs],
        "states": {str(seed): state for seed, state in row.states.items()},
        "loss_kind": row.kind,
        "device": row.device,
        "shared_gpu": row.shared,
        "metrics": {name: {"mean": m, "std": s, "seeds": n} for name, (m, s, n) in row.last.items()},
        "best": row.best,
        "levels": [_level_json(level) for level in row.levels],
    }


def _level_json(level: LevelResult) -> dict[str, Any]:
    return {
        "metric": level.metric,
        "level": level.level,
        "seeds": len(level.by_seed),
        "reached": len(level.reached),
        **{unit: level.mean(unit) for unit in UNITS},
        "length": {
            unit: max((r.at(unit) for r in level.by_seed.values() if math.isfinite(r.at(unit))), default=None)
            for unit in UNITS
        },
        "by_seed": {
            str(seed): {"reached": r.reached, **{unit: r.at(unit) for unit in UNITS}}
            for seed, r in level.by_seed.items()
        },
        "faster": {
            unit: {"ratio": s.ratio, "low": s.low, "high": s.high, "bound": s.bound, "seeds": s.seeds, "note": s.note}
            for unit, s in level.faster.items()
        },
    }
