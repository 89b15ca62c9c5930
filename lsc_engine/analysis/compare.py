"""Comparing runs: the settings that differ, final values, and how soon each reaches a level, against a baseline. Losses
of different kinds are never compared, runs on different data not at all, and seconds only on the same kind of device
that each run had alone, on a machine with no more work than processors."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lsc_engine.analysis.levels import UNITS, LevelResult, Speedup, TimeToLevel, is_loss, speedup, time_to_level
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import NOTHING, grouped, percent, significant
from lsc_engine.common.safe_io import number_of
from lsc_engine.common.settings import lookup
from lsc_engine.runs.folder.machine import BUSY, THROTTLED, slowed_by
from lsc_engine.runs.read.run import Run, loss_group, loss_kind
from lsc_engine.runs.settings import differing, settings_of

OTHER_LOSS, OTHER_DATA, OTHER_DEVICE, BASELINE = "other loss", "other data", "other device", "baseline"
UNREADABLE, NO_BASELINE = "settings unreadable", "no baseline"
SHARED, UNSTEADY = "shared GPU", "unsteady seconds"
NO_VERDICT = {UNREADABLE, NO_BASELINE, OTHER_LOSS, OTHER_DATA, OTHER_DEVICE, SHARED, BUSY, THROTTLED, UNSTEADY}
# Of seconds where one run was compiled and the other, of the same settings in this, was not.
UNCOMPILED = "not compiled alike"
# Seconds per step of the seeds of one variant that differ by more than this come from the machine, not the method.
_MOST_UNSTEADY = 1.3
# The states of a run that decide: whatever else a run is, it may still get there.
ENDED = frozenset({"finished", "diverged"})
_DATA_KEYS = ("data.dataset", "data.path", "data.labels", "data.classes", "data.image_size")
_MAX_LEVELS = 20
# A loss this near to the best constant answer's is that of one; an accuracy this far from chance to 1 is learned.
_NEAR, _LEARNED = 0.01, 0.05
Levels = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class TrivialBaseline:
    """What is reached without learning: chance, 1/classes, and the best constant answer's loss; None if unknown."""

    chance: float | None = None
    loss: float | None = None


def spread_text(last: tuple[float, float, int] | None, scale: float = 1, kind: str = "") -> str:
    """`97.2 ± 0.3` of mean, deviation and seeds; without a deviation if there is one seed. `scale` 100: in per cent;
    `kind`: the letter of a loss."""
    if last is None:
        return NOTHING
    mean, deviation, seeds = last
    if not math.isfinite(mean):
        return "diverged"
    if scale == 100:
        return percent(mean) + (f" ± {percent(deviation)}" if seeds > 1 else "")
    wide = significant(deviation, 2) if deviation < 100 else grouped(deviation)
    return " ".join([significant(mean), *([f"± {wide}"] if seeds > 1 else []), *([kind] if kind else [])])


@dataclass(slots=True)
class Row:
    """All seeds of one variant. `last`: mean, standard deviation and number of seeds, of the finished ones if there
    are any (a value of a run under way is no last one), else of all."""

    key: str
    label: str
    runs: list[Run]
    settings: dict[str, Any]
    problem: str = ""  # why the settings of one of its runs cannot be read
    states: dict[int, str] = field(default_factory=dict)
    device: str = ""
    # Why its seconds are not the method's alone: another process on a GPU of one of the runs (SHARED), more work than
    # processors (BUSY), heat or power (THROTTLED), seeds that differ by more than methods do (UNSTEADY).
    troubles: frozenset[str] = frozenset()
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
        return self.runs[0].variant

    @property
    def finished(self) -> str:
        """How many seeds are finished: `3`, or `2 of 3`."""
        done = sum(state == "finished" for state in self.states.values())
        return f"{done}" if done == len(self.runs) else f"{done} of {len(self.runs)}"

    def diverged(self, run: Run) -> bool:
        return self.states.get(run.seed) == "diverged"

    @property
    def disturbed(self) -> str:
        """Why its seconds and speeds are those of the machine too: SHARED, BUSY or THROTTLED; "" if they are not."""
        return next((note for note in (SHARED, BUSY, THROTTLED) if note in self.troubles), "")

    @property
    def at_trivial_loss(self) -> str | None:
        """A clause if the mean final loss is the best constant answer's and the accuracy shows no learning, once all of
        its runs have ended."""
        loss, accuracy = (self.last.get(name, [None])[0] for name in ("train/loss", "train/accuracy"))
        constant, chance = self.trivial.loss, self.trivial.chance
        if loss is None or constant is None or loss < (1 - _NEAR) * constant or not {*self.states.values()} <= ENDED:
            return None
        if not math.isfinite(loss):
            return "without a loss at its end, which is not finite"
        learned = math.inf if chance is None else chance + _LEARNED * (1 - chance)
        if accuracy is not None and math.inf > accuracy > learned:
            return None
        return f"stuck at its trivial loss, {loss:.4g} where the best constant answer has {constant:.4g}"

    def to_json(self) -> dict[str, Any]:
        """The row for JSON; a missing number is None."""
        disturbed = {"busy": BUSY, "throttled": THROTTLED, "shared_gpu": SHARED}
        return {
            **{name: getattr(self, name) for name in ("key", "label", "device", "compiled", "best")},
            **{name: note in self.troubles for name, note in disturbed.items()},
            "runs": [run.id for run in self.runs],
            "states": {str(seed): state for seed, state in self.states.items()},
            "loss_kind": self.kind,
            "metrics": {
                name: {"mean": m, "std": s if n > 1 else None, "seeds": n} for name, (m, s, n) in self.last.items()
            },
            "levels": [level.to_json() for level in self.levels],
        }


@dataclass(frozen=True)
class Tried:
    """One try of [tune] of a variant: the settings that it tried, and its run."""

    values: Mapping[str, Any]
    run: Run


@dataclass
class Comparison:
    """Rows (the baseline among them), differing settings (key -> value per row), and sentences on what is unequal.
    `tries`: key of a row -> the tries of its variant; a variant that trained with several of them has further rows,
    `KEY+lr=0.001`."""

    rows: list[Row]
    baseline: Row
    differing: dict[str, list[Any]]
    notes: list[str]
    tries: dict[str, list[Tried]] = field(default_factory=dict)
    levels: dict[str, list[float]] = field(default_factory=dict)

    def row(self, key: str) -> Row | None:
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
        levels = lookup(run.config, "compare.levels")
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
    """Compare runs, the seeds of a variant as one row. `baseline`: a variant or label (default: the preset's, else the
    first row); `levels`: metric -> values (default: the presets'); `tries`: runs of [tune], kept in studies
    `NAME.tune`. UsageError when there are no runs or the baseline is none of them."""
    if not runs:
        raise UsageError("there is nothing to compare: name two runs or a study")
    one_study = len({run.study for run in runs}) == 1
    by_variant: dict[str, dict[str, Run]] = {}
    for run in runs:
        by_variant.setdefault(f"{run.study}/{run.variant}", {}).setdefault(run.id, run)
    rows = []
    for key, found in by_variant.items():
        first = next(iter(found.values()))
        rows.append(make_row(key, first.label if one_study else f"{first.study} {first.label}", list(found.values())))
    named = [row for row in rows if baseline in (row.key, row.label, row.variant, *(run.id for run in row.runs))]
    if baseline is not None and not named:
        raise UsageError(f"baseline {baseline!r} is none of the compared runs: {', '.join(row.label for row in rows)}")
    readable = [row for row in rows if not row.problem] or rows
    preset = lookup(readable[0].runs[0].config, "compare.baseline")
    base = [*named, *(row for row in readable if row.variant == preset), readable[0]][0]
    levels = levels_of(runs) if levels is None else levels
    chosen = {metric: list(values) for metric, values in levels.items() if values}
    for row in rows:
        row.levels = levels_against(row, base, chosen)
    notes = [note for row in rows for note in _notes(row, base)]
    settings = {key: [row.settings.get(key) for row in rows] for key in differing([row.settings for row in readable])}
    return Comparison(rows, base, settings, notes, _tries(rows, tries), chosen)


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


def make_row(key: str, label: str, runs: Sequence[Run]) -> Row:
    """One row of runs whose settings are alike but for their seeds."""
    config = runs[0].config
    row = Row(key, label, list(runs), settings_of(config), kind=loss_kind(config), group=loss_group(config))
    row.problem = next((problem for run in runs if (problem := run.config_problem)), "")
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
    devices = {device_kind(one.device) for one in status.values()}
    row.device = devices.pop() if len(devices) == 1 else "mixed"
    sources = [run.source for run in runs]
    if isinstance(trivial := sources[0].get("trivial"), dict):
        row.trivial = TrivialBaseline(number_of(trivial.get("chance")), number_of(trivial.get("loss")))
    paces = [pace for run in runs if (pace := _pace(run)) is not None]
    unsteady = len(paces) > 1 and max(paces) > _MOST_UNSTEADY * min(paces)
    shared = any(source.get("shared_gpu") is True for source in sources)
    row.troubles = frozenset([*map(slowed_by, (run.load for run in runs)), shared * SHARED, unsteady * UNSTEADY]) - {""}
    # Runs of earlier versions do not record it.
    compiled = {known for source in sources if isinstance(known := source.get("compiled"), bool)}
    row.compiled = ("yes" if True in compiled else "no" if compiled else "") if len(compiled) < 2 else "mixed"
    return row


def device_kind(device: str) -> str:
    """A device's name without its number, so that cuda:0 and cuda:1 of one kind compare."""
    return re.sub(r"\s*\(\w+(:\d+)?\)$|:\d+$", "", device.strip()).lower()


def _pace(run: Run) -> float | None:
    for metric in ("train/loss", "train/accuracy"):
        step, _, _, time = run.axes(metric)
        if len(step) and step[-1] > 0 and math.isfinite(time[-1]) and time[-1] > 0:
            return float(time[-1] / step[-1])
    return None


def levels_against(row: Row, base: Row, levels: Levels) -> list[LevelResult]:
    """Where each seed of a row reaches each level, and how much sooner than another row."""
    found = []
    for metric, level in ((metric, level) for metric, values in levels.items() for level in values):
        sides = [
            {run.seed: time_to_level(run, metric, level, diverged=one.diverged(run)) for run in one.runs}
            for one in (row, base)
        ]
        times = (time for side in sides for time in side.values())
        places = [time.place for time in times if math.isfinite(time.at("steps"))]
        pair = sides
        if places:
            # A seed that diverged never arrives: it counts as without the level for as long as the longest run.
            steps, epochs, seconds = (max(axis) for axis in zip(*places, strict=True))
            never = TimeToLevel(False, (steps, epochs, seconds), (steps, epochs, seconds))
            pair = [
                {run.seed: never if one.diverged(run) else side[run.seed] for run in one.runs}
                for side, one in zip(sides, (row, base), strict=True)
            ]
        faster = {}
        for unit in UNITS:
            note = seconds_note(row, base) if unit == "seconds" else ""
            if row is base:
                note = BASELINE
            elif row.problem or base.problem:
                note = UNREADABLE
            elif _other_data(row, base):
                note = OTHER_DATA
            elif is_loss(metric) and (row.group != base.group or row.group == "?"):
                note = OTHER_LOSS
            elif base.at_trivial_loss is not None:
                note = NO_BASELINE
            faster[unit] = Speedup(note=note) if note else speedup(pair[0], pair[1], unit)
        found.append(LevelResult(metric, level, sides[0], faster))
    return found


def _other_data(row: Row, base: Row) -> bool:
    return any(row.settings.get(key) != base.settings.get(key) for key in _DATA_KEYS)


def seconds_note(row: Row, base: Row) -> str:
    """Why seconds of two rows are not compared; "" if they are."""
    if row.device != base.device or row.device in ("", "mixed"):
        return OTHER_DEVICE
    found = row.troubles | base.troubles | ({UNCOMPILED} if _compiled_otherwise(row, base) else set())
    return next((note for note in (SHARED, UNCOMPILED, BUSY, THROTTLED, UNSTEADY) if note in found), "")


def _compiled_otherwise(row: Row, base: Row) -> bool:
    """Whether one of two rows was compiled and the other was not, though both were to be alike."""
    alike = row.settings.get("train.compile") == base.settings.get("train.compile")
    known = bool(row.compiled and base.compiled)
    return known and ("mixed" in (row.compiled, base.compiled) or (alike and row.compiled != base.compiled))


def _notes(row: Row, base: Row) -> list[str]:
    """Sentences on what may not be compared, and why, and on seeds that decide nothing."""
    if row.problem:
        return [f"{row.label}: {row.problem}: it is compared with nothing"]
    other_data = row is not base and not base.problem and _other_data(row, base)
    # The runs without which this row's would not be what they are, as its settings name them.
    keys = ("start_from", "target.teacher", "target.order", "target.system")
    begun, taught, *named = (str(row.settings.get(key) or "") for key in keys)
    means = [text.partition(":")[2] for text in named if text.startswith(("nearest:", "embeddings:"))]
    stages = dict.fromkeys(name.removeprefix("@") for name in (begun, taught, *means) if name not in ("", "init"))
    parents = (run.source.get("parent") for run in row.runs)
    forks = sorted(f"{one.get('id')} at step {one.get('step')}" for one in parents if isinstance(one, dict))
    words = {"yes": "was compiled", "no": "was not compiled", "mixed": "was compiled in part", "": ""}
    eager = {why for run in (*row.runs, *base.runs) if isinstance(why := run.source.get("eager"), str)}
    because = f" ({'; '.join(sorted(eager))})" if eager else ""
    diverged = [f"seed {seed} {state}" for seed, state in row.states.items() if state == "diverged"]
    undecided = [f"seed {seed} {state}" for seed, state in row.states.items() if state not in ENDED]
    undecided += [f"seed {seed} not started" for seed in row.absent]
    stuck = row.at_trivial_loss if row is base else None
    lost = [f"{one.metric} {one.level:g}" for one in row.levels if any(time.lost for time in one.by_seed.values())]
    empty = [f"seed {run.seed}" for run in row.runs if row.states.get(run.seed) in ENDED and not run.metric_names()]
    sentences = {
        f"{base.label} and {row.label} train on different data: no speed-up": other_data,
        f"{row.label} is {stuck}: no speed-up against it": stuck,
        f"{row.label} has another loss than {base.label}: their losses are not compared": (
            not other_data and row.group != base.group
        ),
        f"{row.label} builds on {', '.join(stages)}: what that took is not counted here": stages,
        f"{row.label} was forked from {', '.join(forks)}: what it reached before counts from its first value": forks,
        f"{row.label} ran on {row.device or '?'}, {base.label} on {base.device or '?'}: no seconds": (
            row.device != base.device and row.last and base.last
        ),
        f"{row.label} did not have its GPU alone: no seconds": SHARED in row.troubles,
        f"{row.label} trained on a machine with more work than processors: no seconds": BUSY in row.troubles,
        f"{row.label} trained on a machine that was slowed down for heat or power: no seconds": (
            THROTTLED in row.troubles
        ),
        f"{row.label} took unlike seconds in its seeds: no seconds": row.troubles - {SHARED} == {UNSTEADY},
        f"{row.label} {words[row.compiled]}, {base.label} {words[base.compiled]}: no seconds{because}": (
            row is not base and _compiled_otherwise(row, base)
        ),
        f"{row.label}: {', '.join(diverged)}, counted as not reached": diverged,
        f"{row.label} was at {', '.join(lost)} and lost it again, counted as not reached": lost,
        f"{row.label}: {', '.join(undecided)}: decides nothing, so far only": undecided,
        f"{row.label}: no metrics of {', '.join(empty)}: decides nothing": empty,
    }
    return [sentence for sentence, holds in sentences.items() if holds]
