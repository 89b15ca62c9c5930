"""Comparing runs: the settings that differ, final values, and how soon each reaches a level, against a baseline.

Losses of different kinds are never compared, runs on different data not at all, and seconds only on the same kind of
device that each run had alone, on a machine with no more work than processors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lsc_engine.analysis.levels import UNITS, LevelResult, Speedup, TimeToLevel, is_loss, speedup, time_to_level
from lsc_engine.analysis.trivial_baseline import TrivialBaseline
from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import number_of
from lsc_engine.runs.folder.provenance import overloaded
from lsc_engine.runs.read.run import Run, loss_group, loss_kind
from lsc_engine.runs.settings import differing, settings_of

OTHER_LOSS, OTHER_DATA, OTHER_DEVICE, BASELINE = "other loss", "other data", "other device", "baseline"
SHARED, BUSY, UNSTEADY = "shared GPU", "busy machine", "unsteady seconds"
# Of seconds where one run was compiled and the other, of the same settings in this, was not.
UNCOMPILED = "not compiled alike"
# Seconds per step of the seeds of one variant that differ by more than this come from the machine, not the method.
_MOST_UNSTEADY = 1.3
# The states of a run that decide: whatever else a run is, it may still get there.
ENDED = frozenset({"finished", "diverged"})
_DATA_KEYS = ("data.dataset", "data.path", "data.labels", "data.classes", "data.image_size")
_MAX_LEVELS = 20
Levels = Mapping[str, Sequence[float]]


@dataclass(slots=True)
class Row:
    """All seeds of one variant. `last`: mean, standard deviation and number of seeds, of the finished ones if there
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
    compiled: str = ""  # whether torch.compile made the steps: yes, no, mixed; "" if unknown
    kind: str = "?"
    group: str = "?"
    last: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    levels: list[LevelResult] = field(default_factory=list)
    trivial: TrivialBaseline = field(default_factory=TrivialBaseline)

    @property
    def variant(self) -> str:
        """The variant's name in its study."""
        return self.runs[0].variant

    @property
    def at_trivial_loss(self) -> str | None:
        """Why this row may not serve as a baseline, as a clause; None if it may."""
        return self.trivial.at_trivial_loss(self.last)


@dataclass(frozen=True)
class Tried:
    """One try of [tune] of a variant: the settings that it tried, and its run."""

    values: Mapping[str, Any]
    run: Run


@dataclass
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
    levels: dict[str, list[float]] = field(default_factory=dict)

    def row(self, key: str) -> Row | None:
        """The row of a key."""
        return next((row for row in self.rows if row.key == key), None)

    @cached_property
    def variants(self) -> dict[str, list[Row]]:
        """Key of each variant -> its rows, those with further settings among them."""
        keys = {row.key for row in self.rows}
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(variant_key(row.key, keys), []).append(row)
        return found


def variant_key(key: str, keys: Collection[str]) -> str:
    """The key of the variant that a row called `KEY+lr=0.001` belongs to; else the key itself."""
    return max((name for name in keys if key.startswith(f"{name}+")), key=len, default=key)


def levels_of(runs: Iterable[Run]) -> dict[str, list[float]]:
    """The levels that the presets of the runs fix, in their order."""
    found: dict[str, list[float]] = {}
    for run in runs:
        table = run.config.get("compare")
        levels = table.get("levels") if isinstance(table, dict) else None
        for metric, values in levels.items() if isinstance(levels, dict) else ():
            for value in values if isinstance(values, list) else [values]:
                if (level := number_of(value)) is not None:
                    known = found.setdefault(metric, [])
                    if level not in known and len(known) < _MAX_LEVELS:
                        known.append(level)
    return found


def compare(
    runs: Sequence[Run], baseline: str | None = None, levels: Levels | None = None, tries: Sequence[Run] = ()
) -> Comparison:
    """Compare runs, the seeds of a variant as one row.

    `baseline`: a variant or label (default: the preset's, else the first row); `levels`: metric -> values (default:
    the presets'); `tries`: runs of [tune], kept in studies `NAME.tune`. UsageError when there are no runs or the
    baseline is none of them.
    """
    if not runs:
        raise UsageError("there is nothing to compare: name two runs or a study")
    studies = {run.study for run in runs}
    grouped: dict[str, dict[str, Run]] = {}
    for run in runs:
        grouped.setdefault(f"{run.study}/{run.variant}", {}).setdefault(run.id, run)
    rows = []
    for key, found in grouped.items():
        first = next(iter(found.values()))
        label = first.label if len(studies) == 1 else f"{first.study} {first.label}"
        rows.append(make_row(key, label, list(found.values())))
    base = _baseline(rows, baseline)
    levels = levels_of(runs) if levels is None else levels
    chosen = {metric: list(values) for metric, values in levels.items() if values}
    for row in rows:
        row.levels = levels_against(row, base, chosen)
    unequal = differing([row.settings for row in rows])
    return Comparison(
        rows, base, unequal, _notes(rows, base), _tries(rows, tries), {m: v for m, v in chosen.items() if v}
    )


def _baseline(rows: list[Row], name: str | None) -> Row:
    for row in rows:
        if name in (row.key, row.label, row.variant, *(run.id for run in row.runs)):
            return row
    if name is not None:
        raise UsageError(f"baseline {name!r} is none of the compared runs: {', '.join(row.label for row in rows)}")
    table = rows[0].runs[0].config.get("compare")
    preset = table.get("baseline") if isinstance(table, dict) else None
    return next((row for row in rows if row.variant == preset), rows[0])


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


# --- rows -------------------------------------------------------------------------------------------------------------


def make_row(key: str, label: str, runs: Sequence[Run]) -> Row:
    """One row of runs whose settings are alike but for their seeds."""
    config = runs[0].config
    row = Row(key, label, list(runs), settings_of(config), kind=loss_kind(config), group=loss_group(config))
    status = {run.seed: run.status() for run in runs}
    row.states = {seed: one.shown_state for seed, one in status.items()}
    whole = [seed for seed, one in status.items() if one.state == "finished"] or list(status)
    finals: dict[str, list[float]] = {}
    for run in runs:
        for name in run.metric_names():
            _, values = run.history(name)
            if run.seed in whole:
                finals.setdefault(name, []).append(float(values[-1]))
            finite = values[np.isfinite(values)]
            if len(finite):
                better = min if is_loss(name) else max
                best = float(finite.min() if is_loss(name) else finite.max())
                row.best[name] = better(row.best.get(name, best), best)
    for name, last in finals.items():
        spread = float(np.std(last, ddof=1)) if len(last) > 1 else 0.0
        row.last[name] = (float(np.mean(last)), spread, len(last))
    devices = {device_kind(status[run.seed].device) for run in runs}
    row.device = devices.pop() if len(devices) == 1 else "mixed"
    sources = [run.source for run in runs]
    row.shared = any(source.get("shared_gpu") is True for source in sources)
    row.busy = any(overloaded(source.get("load")) for source in sources)
    paces = [pace for run in runs if (pace := _pace(run)) is not None]
    row.unsteady = len(paces) > 1 and max(paces) > _MOST_UNSTEADY * min(paces)
    # Runs of earlier versions do not record it.
    compiled = {known for source in sources if isinstance(known := source.get("compiled"), bool)}
    row.compiled = ("yes" if True in compiled else "no" if compiled else "") if len(compiled) < 2 else "mixed"
    return row


def device_kind(device: str) -> str:
    """A device's name without its number, so that cuda:0 and cuda:1 of one kind compare."""
    return re.sub(r"\s*\(\w+(:\d+)?\)$|:\d+$", "", device.strip()).lower()


def _pace(run: Run) -> float | None:
    """Seconds per step over the whole run, None if its metrics do not say."""
    for metric in ("train/loss", "train/accuracy"):
        step, _, _, time = run.axes(metric)
        if len(step) and step[-1] > 0 and math.isfinite(time[-1]) and time[-1] > 0:
            return float(time[-1] / step[-1])
    return None


# --- levels against another row ---------------------------------------------------------------------------------------


def levels_against(row: Row, base: Row, levels: Levels) -> list[LevelResult]:
    """Where each seed of a row reaches each level, and how much sooner than another row."""
    found = []
    for metric, values in levels.items():
        for level in values:
            own, other = ({run.seed: time_to_level(run, metric, level) for run in one.runs} for one in (row, base))
            longest = _longest([*own.values(), *other.values()])
            pair = _with_diverged(own, row, longest), _with_diverged(other, base, longest)
            faster = {}
            for unit in UNITS:
                note = BASELINE if row is base else _not_compared(row, base, metric, unit)
                faster[unit] = Speedup(note=note) if note else speedup(*pair, unit)
            found.append(LevelResult(metric, level, own, faster))
    return found


def _longest(times: Sequence[TimeToLevel]) -> TimeToLevel | None:
    """Not reached in as long as the longest of them; None if nothing was logged."""
    every = [time.place for time in times if math.isfinite(time.at("steps"))]
    if not every:
        return None
    steps, epochs, seconds = (max(places) for places in zip(*every, strict=True))
    return TimeToLevel(False, (steps, epochs, seconds))


def _with_diverged(
    by_seed: Mapping[int, TimeToLevel], row: Row, never: TimeToLevel | None
) -> Mapping[int, TimeToLevel]:
    """The times with those of diverged seeds, which never arrive, replaced by `never`."""
    return {s: never if never and row.states.get(s) == "diverged" else time for s, time in by_seed.items()}


def _not_compared(row: Row, base: Row, metric: str, unit: str) -> str:
    """Why two rows are not compared by a metric in a unit; "" if they are."""
    if _other_data(row, base):
        return OTHER_DATA
    if is_loss(metric) and (row.group != base.group or row.group == "?"):
        return OTHER_LOSS
    return seconds_note(row, base) if unit == "seconds" else ""


def _other_data(row: Row, base: Row) -> bool:
    return any(row.settings.get(key) != base.settings.get(key) for key in _DATA_KEYS)


def seconds_note(row: Row, base: Row) -> str:
    """Why seconds of two rows are not compared; "" if they are."""
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


# --- notes ------------------------------------------------------------------------------------------------------------


def _notes(rows: list[Row], base: Row) -> list[str]:
    return [note for row in rows for note in (*_unequal(row, base), *_undecided(row))]


def _unequal(row: Row, base: Row) -> Iterator[str]:
    """Sentences on what may not be compared, and why."""
    if row is not base and _other_data(row, base):
        yield f"{base.label} and {row.label} train on different data: no speed-up"
    elif row.group != base.group:
        yield f"{row.label} has another loss than {base.label}: their losses are not compared"
    if stages := _stages(row):
        yield f"{row.label} builds on {', '.join(stages)}: what that took is not counted here"
    if row.device != base.device:
        yield f"{row.label} ran on {row.device or '?'}, {base.label} on {base.device or '?'}: no seconds"
    if row.shared:
        yield f"{row.label} did not have its GPU alone: no seconds"
    if row.busy:
        yield f"{row.label} trained on a machine with more work than processors: no seconds"
    elif row.unsteady:
        yield f"{row.label} took unlike seconds in its seeds: no seconds"
    if row is not base and _compiled_otherwise(row, base):
        words = {"yes": "was compiled", "no": "was not compiled", "mixed": "was compiled in part"}
        eager = {why for run in (*row.runs, *base.runs) if isinstance(why := run.source.get("eager"), str)}
        because = f" ({'; '.join(sorted(eager))})" if eager else ""
        yield f"{row.label} {words[row.compiled]}, {base.label} {words[base.compiled]}: no seconds{because}"


def _undecided(row: Row) -> Iterator[str]:
    """Sentences on seeds that diverged, that are under way, and that are missing."""
    diverged = [f"seed {seed} {state}" for seed, state in row.states.items() if state == "diverged"]
    open_seeds = [f"seed {seed} {state}" for seed, state in row.states.items() if state not in ENDED]
    open_seeds += [f"seed {seed} not started" for seed in row.absent]
    if diverged:
        yield f"{row.label}: {', '.join(diverged)}, counted as not reached"
    if open_seeds:
        yield f"{row.label}: {', '.join(open_seeds)}: decides nothing, so far only"


def _stages(row: Row) -> list[str]:
    """The runs without which a row's would not be what they are, as its settings name them."""
    keys = ("start_from", "target.teacher", "target.order", "target.system")
    begun, taught, order, system = (str(row.settings.get(key) or "") for key in keys)
    means = [text.partition(":")[2] for text in (order, system) if text.startswith(("nearest:", "embeddings:"))]
    return list(dict.fromkeys(name.removeprefix("@") for name in (begun, taught, *means) if name))
