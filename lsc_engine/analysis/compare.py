"""Comparing runs: the settings that differ, and how soon each reaches a level, against a baseline.

A level counts from the first evaluation at which the metric is at or beyond it, upward for accuracies, downward for
losses; it is known to within the evaluation before. Losses of different kinds are never compared, runs on different
data not at all, and seconds only on the same kind of device that each run had alone, on a machine with no more work
than processors. A level that was not reached reads `>` the length of the run. Where some seed never arrived, a ratio is
a bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lsc_engine.config.tuning import lower_is_better
from lsc_engine.errors import UsageError
from lsc_engine.runs.files import number_of
from lsc_engine.runs.folder.machine_load import overloaded
from lsc_engine.runs.read.run import Run, loss_group, loss_kind
from lsc_engine.runs.settings import differing, settings_of

UNITS = ("steps", "epochs", "seconds")
OTHER_LOSS, OTHER_DATA, OTHER_DEVICE, BASELINE = "other loss", "other data", "other device", "baseline"
SHARED, BUSY, UNSTEADY = "shared GPU", "busy machine", "unsteady seconds"
# Of seconds where one run was compiled and the other, of the same settings in this, was not.
UNCOMPILED = "not compiled alike"
NOT_RESOLVED = "not resolved"
# Seconds per step of the seeds of one variant that differ by more than this tell of the machine, not of the method.
_MOST_UNSTEADY = 1.3
# The states of a run that decide: whatever else a run is, it may still get there.
ENDED = frozenset({"finished", "diverged"})
_DATA_KEYS = ("data.dataset", "data.path", "data.labels", "data.classes", "data.image_size")
_MAX_LEVELS = 20


def is_loss(metric: str) -> bool:
    """Whether lower is better: a loss, by its name."""
    return lower_is_better(metric)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one seed got towards a level: where it reached it, or (`reached` false) how long it went without.

    `before` is the last place (steps, epochs, seconds) at which it was known not to be there; `kept` whether its last
    value is still at or beyond the level.
    """

    reached: bool
    steps: float
    epochs: float
    seconds: float
    before: tuple[float, float, float] = (0.0, 0.0, 0.0)
    kept: bool = False

    def at(self, unit: str) -> float:
        """The place in `unit`."""
        return float(getattr(self, unit))

    def not_at(self, unit: str) -> float:
        """The last place in `unit` without the level; the length of the run where it was not reached."""
        return self.before[UNITS.index(unit)] if self.reached else self.at(unit)


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
        # A second digit where one would read as a tie.
        digits = 2 if 0.9 <= self.ratio < 1.15 else 1
        text = f"{self.bound}×{self.ratio:.{digits}f}"
        if self.bound or self.low is None or self.high is None:
            return text
        return f"{text} (1 seed)" if self.seeds == 1 else f"{text} ({self.low:.{digits}f}-{self.high:.{digits}f})"


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
    busy: bool = False  # one of the runs trained on a machine with more work than processors
    unsteady: bool = False  # seconds per step differ between the seeds by more than methods do
    absent: tuple[int, ...] = ()  # planned seeds without a run
    compiled: str = ""  # whether torch.compile made the steps: yes, no, mixed; "" where the runs do not tell
    kind: str = "?"
    group: str = "?"
    last: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    levels: list[LevelResult] = field(default_factory=list)


@dataclass(frozen=True)
class Tried:
    """One try of [tune] of a variant: the settings that it tried, and its run."""

    values: Mapping[str, Any]
    run: Run


@dataclass(slots=True)
class Comparison:
    """Rows (the baseline among them), differing settings (key -> value per row), and sentences on what is unequal.

    `tries`: key of a row -> the tries of its variant; a variant that trained with several of them has further rows,
    `KEY+lr=0.001`.
    """

    rows: list[Row]
    baseline: Row
    differing: dict[str, list[Any]]
    notes: list[str]
    tries: dict[str, list[Tried]] = field(default_factory=dict)

    def row(self, key: str) -> Row | None:
        """The row of a key."""
        return next((row for row in self.rows if row.key == key), None)


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

    def place(index: int) -> tuple[float, float, float]:
        # What holds before the first step, with weights taken over, took no time of this run.
        return float(step[index]), float(epoch[index]), float(time[index]) if step[index] else 0.0

    if len(found):
        first = int(found[0])
        before = place(first - 1) if first else (0.0, 0.0, 0.0)
        return Reach(True, *place(first), before, bool(beyond[-1]))
    return Reach(False, *place(-1)) if len(step) else Reach(False, math.nan, math.nan, math.nan)


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
    runs: Sequence[Run],
    baseline: str | None = None,
    levels: Mapping[str, Sequence[float]] | None = None,
    tries: Sequence[Run] = (),
) -> Comparison:
    """Compare runs, the seeds of a variant as one row.

    `baseline`: a variant or label (default: the preset's, else the first row); `levels`: metric -> values (default:
    the presets'); `tries`: runs of [tune], kept in studies `NAME.tune`. UsageError when there are no runs or the
    baseline is none of them.
    """
    if not runs:
        raise UsageError("there is nothing to compare: name two runs or a study")
    rows = _rows(runs)
    base = _baseline(rows, baseline)
    chosen = levels_of(runs) if levels is None else levels
    for row in rows:
        row.levels = levels_against(row, base, chosen)
    unequal = differing([row.settings for row in rows])
    return Comparison(rows, base, unequal, _notes(rows, base), _tries(rows, tries))


def levels_against(row: Row, base: Row, levels: Mapping[str, Sequence[float]]) -> list[LevelResult]:
    """Where each seed of a row reaches each level, and how much sooner than another row."""
    found = []
    for metric, values in levels.items():
        for level in values:
            own, theirs = ({run.seed: first_reach(run, metric, level) for run in one.runs} for one in (row, base))
            faster = {unit: _speed(row, base, own, theirs, metric, unit) for unit in UNITS}
            found.append(LevelResult(metric, level, own, faster))
    return found


def levels_of_row(row: Row) -> dict[str, list[float]]:
    """The levels that a row was compared at."""
    found: dict[str, list[float]] = {}
    for level in row.levels:
        found.setdefault(level.metric, []).append(level.level)
    return found


def variant_key(key: str, keys: Collection[str]) -> str:
    """The key of the variant that a row called `KEY+lr=0.001` is of; the key itself where it is of none."""
    return max((name for name in keys if key.startswith(f"{name}+")), key=len, default=key)


def _tries(rows: list[Row], tries: Sequence[Run]) -> dict[str, list[Tried]]:
    keys = {row.key for row in rows}
    found: dict[str, list[Tried]] = {}
    for run in tries:
        key = f"{run.study.removesuffix('.tune')}/{run.variant}"
        name = variant_key(key, keys)
        settings = settings_of(run.config)
        values: dict[str, Any] = {}
        for part in key.removeprefix(name).split("+"):
            short = part.partition("=")[0]
            full = [k for k in settings if short and (k == short or k.rpartition(".")[2] == short)]
            values |= {k: settings[k] for k in full[:1]}
        if name != key and values:
            found.setdefault(name, []).append(Tried(values, run))
    return found


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


def row_of(key: str, label: str, runs: Sequence[Run]) -> Row:
    """One row of runs with settings that are alike."""
    row = Row(key, label, list(runs), settings_of(runs[0].config))
    _summarise(row)
    return row


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
    sources = [run.source for run in row.runs]
    row.shared = any(source.get("shared_gpu") is True for source in sources)
    row.busy = any(overloaded(source.get("load")) for source in sources)
    paces = [pace for run in row.runs if (pace := _pace(run)) is not None]
    row.unsteady = len(paces) > 1 and max(paces) > _MOST_UNSTEADY * min(paces)
    # Runs of earlier versions do not tell.
    compiled = {told for source in sources if isinstance(told := source.get("compiled"), bool)}
    row.compiled = ("yes" if True in compiled else "no" if compiled else "") if len(compiled) < 2 else "mixed"
    for name, last in finals.items():
        spread = float(np.std(last, ddof=1)) if len(last) > 1 else 0.0
        row.last[name] = (float(np.mean(last)), spread, len(last))


def _pace(run: Run) -> float | None:
    """Seconds per step over the whole run, None where it logged nothing to tell it from."""
    for metric in ("train/loss", "train/accuracy"):
        step, _, _, time = run.axes(metric)
        if len(step) and step[-1] > 0 and math.isfinite(time[-1]) and time[-1] > 0:
            return float(time[-1] / step[-1])
    return None


def seconds_note(row: Row, base: Row) -> str:
    """Why seconds of two rows are not compared; "" where they are."""
    if row.device != base.device or row.device in ("", "mixed"):
        return OTHER_DEVICE
    if row.shared or base.shared:
        return SHARED
    if _compiled_otherwise(row, base):
        return UNCOMPILED
    if row.busy or base.busy:
        return BUSY
    return UNSTEADY if row.unsteady or base.unsteady else ""


def _compiled_otherwise(row: Row, base: Row) -> bool:
    """Whether one of two rows was compiled and the other was not, though both were to be alike."""
    alike = row.settings.get("train.compile") == base.settings.get("train.compile")
    known = bool(row.compiled and base.compiled)
    return known and ("mixed" in (row.compiled, base.compiled) or (alike and row.compiled != base.compiled))


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
    if unit == "seconds" and (note := seconds_note(row, base)):
        return Speed(note=note)
    return speed_of(_never(by_seed, row, own), _never(own, base, by_seed), unit)


def _never(by_seed: Mapping[int, Reach], row: Row, other: Mapping[int, Reach]) -> dict[int, Reach]:
    """The reaches with those of diverged seeds, which never arrive, as long as the longest of either side."""
    every = [reach for reach in (*by_seed.values(), *other.values()) if math.isfinite(reach.steps)]
    if not every:
        return dict(by_seed)
    steps, epochs, seconds = (max(reach.at(unit) for reach in every) for unit in UNITS)
    longest = Reach(False, steps, epochs, seconds)
    return {seed: longest if row.states.get(seed) == "diverged" else reach for seed, reach in by_seed.items()}


def speed_of(by_seed: Mapping[int, Reach], theirs: Mapping[int, Reach], unit: str) -> Speed:
    """The ratio of the mean places and its range over the seeds, each against the other's same seed where there is one.

    Where some seeds of one side never arrived, their lengths stand in and the ratio is a bound; so it is where one side
    was there at its first evaluation. None where both sides lack seeds, or a level was held from the start.
    """
    ours = {seed: reach for seed, reach in by_seed.items() if math.isfinite(reach.at(unit))}
    other = {seed: reach for seed, reach in theirs.items() if math.isfinite(reach.at(unit))}
    if not ours or not other or not any(r.reached for r in (*ours.values(), *other.values())):
        return Speed()
    if any(reach.at(unit) <= 0 for reach in (*ours.values(), *other.values())):
        return Speed()
    all_ours, all_other = (all(reach.reached for reach in one.values()) for one in (ours, other))
    if not all_ours and not all_other:
        return Speed()
    at_once = [any(r.reached and r.not_at(unit) == 0 for r in one.values()) for one in (ours, other)]
    if all_ours and all_other and all(_tied(ours[s], other[s], unit) if s in other else False for s in ours):
        return Speed(note=NOT_RESOLVED)
    places = {seed: reach.at(unit) for seed, reach in ours.items()}
    others = {seed: reach.at(unit) for seed, reach in other.items()}
    bound = ""
    if not all_other or (all_ours and at_once[0] and not at_once[1]):
        bound = ">"
        others = {seed: r.not_at(unit) for seed, r in other.items()} if at_once[0] else others
    elif not all_ours or (at_once[1] and not at_once[0]):
        bound = "<"
        places = {seed: r.not_at(unit) for seed, r in ours.items()} if at_once[1] else places
    elif at_once[0] and at_once[1]:
        return Speed(note=NOT_RESOLVED)
    mean = float(np.mean(list(others.values())))
    each = [others.get(seed, mean) / place for seed, place in places.items() if place > 0]
    if not each or mean <= 0:
        return Speed()
    return Speed(mean / float(np.mean(list(places.values()))), min(each), max(each), bound, len(each))


def _tied(one: Reach, other: Reach, unit: str) -> bool:
    """Whether neither is known to have been there before the other."""
    return (one.at(unit) > other.not_at(unit) and other.at(unit) > one.not_at(unit)) or one.at(unit) == other.at(unit)


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
        if row.busy:
            notes.append(f"{row.label} trained on a machine with more work than processors: no seconds")
        elif row.unsteady:
            notes.append(f"{row.label} took unlike seconds in its seeds: no seconds")
        if row is not base and _compiled_otherwise(row, base):
            words = {"yes": "was compiled", "no": "was not compiled", "mixed": "was compiled in part"}
            told = f"{row.label} {words[row.compiled]}, {base.label} {words[base.compiled]}"
            notes.append(f"{told}: no seconds{_why_eager([*row.runs, *base.runs])}")
        fallen = [f"seed {seed} {state}" for seed, state in row.states.items() if state == "diverged"]
        going = [f"seed {seed} {state}" for seed, state in row.states.items() if state not in ENDED]
        going += [f"seed {seed} not started" for seed in row.absent]
        if fallen:
            notes.append(f"{row.label}: {', '.join(fallen)}, counted as not reached")
        if going:
            notes.append(f"{row.label}: {', '.join(going)}: decides nothing, so far only")
    return notes


def _why_eager(runs: Iterable[Run]) -> str:
    found = {why for run in runs if isinstance(why := run.source.get("eager"), str)}
    return f" ({'; '.join(sorted(found))})" if found else ""


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
        "busy": row.busy,
        "compiled": row.compiled,
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
            str(seed): {"reached": r.reached, "kept": r.kept, **{unit: r.at(unit) for unit in UNITS}}
            for seed, r in level.by_seed.items()
        },
        "faster": {
            unit: {"ratio": s.ratio, "low": s.low, "high": s.high, "bound": s.bound, "seeds": s.seeds, "note": s.note}
            for unit, s in level.faster.items()
        },
    }
