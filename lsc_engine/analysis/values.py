"""values.csv of a report: what was measured of every run, seed by seed, and all that a verdict is computed from.

    record  of   variant  seed  key   value  step  epoch  seconds  train/accuracy  train/loss  …
    study                       name  JSON                          claims, levels, baseline, grid, planned seeds
    variant run  V21            facts JSON                          label, settings, chance, best constant loss
    seed    run  V21      0     facts JSON                          state, device, load of the machine, what never acted
    point   run  V21      0                   50   1      0.8      0.51            0.62
    table                 0     name  JSON                          a row of a benchmark's table

`of` is `run`, or `try` for a run of [tune]. A report is made from the values as they are read back from this file, so
that `lsc-engine report --check` finds the same.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lsc_engine.analysis.compare import Comparison, Row, compare, is_loss, variant_key
from lsc_engine.analysis.trivial import Floor
from lsc_engine.config.merge import nested
from lsc_engine.config.reporting import BenchClaim, Claim
from lsc_engine.errors import LscError
from lsc_engine.runs.folder.layout import TRIES
from lsc_engine.runs.folder.status import Status
from lsc_engine.runs.metrics.columns import FIXED
from lsc_engine.runs.metrics.parsing import Floats, Ints
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.settings import settings_of

VALUES = "values.csv"
FORMAT = 1
_HEAD = ("record", "of", "variant", "seed", "key", "value", "step", "epoch", "seconds")
# Settings that verdicts depend on: data, loss, what a run begins with, and what is tried.
_KEPT = ("target.", "optimizer.", "data.", "model.dim", "model.etf_layers", "train.duration", "start_from")
# Metrics that no figure and no verdict is made of.
_LEFT_OUT = ("lr", "epoch", "time")
_SPEED = "speed/images_per_second"
# More points than this of one metric are thinned, but for those around its levels.
_MOST_POINTS = 2000
Axes = tuple[Ints, Floats, Floats, Floats]


class RecordedRun(Run):
    """A run as values.csv tells it, to be compared like one that is read from its folder."""

    def __init__(self, study: str, variant: str, seed: int, facts: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """`facts` of the seed, `about` the variant (see the file's head)."""
        super().__init__(Path(), f"{study}/{variant}/seed-{seed}")
        self.facts, self.about = dict(facts), dict(about)
        self.points: dict[str, Axes] = {}
        config: dict[str, Any] = {"run": {"label": about.get("label", variant)}}
        for key, value in about.get("settings", {}).items():
            inner = nested(key, value)
            for name, part in inner.items():
                config[name] = _merged(config[name], part) if isinstance(config.get(name), dict) else part
        self.__dict__["config"] = config

    @property
    def floor(self) -> Floor:
        """Chance, and the loss of the best constant answer."""
        return Floor(self.about.get("chance"), self.about.get("constant_loss"))

    @property
    def idle(self) -> str:
        """What its method was to do and never did; "" where it did."""
        return str(self.facts.get("idle", ""))

    @property
    def source(self) -> dict[str, Any]:
        return dict(self.facts.get("source", {}))

    def status(self) -> Status:
        state = str(self.facts.get("state", "unreadable"))
        return Status(state=state, shown_state=str(self.facts.get("shown", state)), device=self.facts.get("device", ""))

    def metric_names(self) -> list[str]:
        return list(self.points)

    def history(self, name: str) -> tuple[Ints, Floats]:
        step, values, _, _ = self.axes(name)
        return step, values

    def axes(self, name: str) -> Axes:
        none = np.empty(0, np.float64)
        return self.points.get(name, (np.empty(0, np.int64), none, none, none))


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(one)
    for key, value in other.items():
        inner = made.get(key)
        made[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return made


@dataclass
class StudyValues:
    """The values of one study. `absent`: variant -> planned seeds without a run; `tables`: (benchmark and table, its
    rows) of a study of benchmarks."""

    study: str
    kind: str = "train"
    baseline: str | None = None
    levels: dict[str, list[float]] = field(default_factory=dict)
    by: str = ""
    grid: dict[str, list[Any]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    bounds: list[BenchClaim] = field(default_factory=list)
    absent: dict[str, list[int]] = field(default_factory=dict)
    runs: list[RecordedRun] = field(default_factory=list)
    tries: list[RecordedRun] = field(default_factory=list)
    tables: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)

    def key(self, variant: str) -> str:
        """The key of the row of a variant, which is called `study/variant` where it is of another study."""
        return variant if "/" in variant else f"{self.study}/{variant}"

    def name(self, run: Run) -> str:
        """What the variant of a run is called here."""
        own = run.study.removesuffix(TRIES) == self.study
        return run.variant if own else f"{run.study}/{run.variant}"

    @property
    def variants(self) -> list[str]:
        """Names of the variants that have runs, those of further settings left out, in order."""
        names = dict.fromkeys(self.name(run) for run in self.runs)
        return [name for name in names if variant_key(name, names) == name]

    def compared(self) -> Comparison:
        """The runs compared, with their tries. UsageError where there are none."""
        names = {self.name(run) for run in self.runs}
        named = self.key(self.baseline) if self.baseline in names else None
        found = compare(self.runs, named, self.levels, self.tries)
        for row in found.rows:
            row.absent = tuple(self.absent.get(self.name(row.runs[0]), ()))
        return found


def floor_of_row(row: Row) -> Floor:
    """Chance and the best constant answer of a row of recorded runs."""
    run = row.runs[0]
    return run.floor if isinstance(run, RecordedRun) else Floor()


def record(
    run: Run, levels: Mapping[str, Sequence[float]], *, floor: Floor | None = None, speed: bool = False,
    extra: Mapping[str, float] | None = None,
) -> RecordedRun:  # fmt: skip
    """What is kept of a run. `extra`: values measured after its end, told at its last step."""
    status, source = run.status(), run.source
    settings = {
        key: value for key, value in settings_of(run.config).items() if key.startswith(_KEPT) and value is not None
    }
    about: dict[str, Any] = {"label": run.label, "settings": settings}
    if floor is not None:
        about |= {"chance": floor.chance, "constant_loss": floor.loss}
    facts: dict[str, Any] = {"state": status.state, "shown": status.shown_state, "device": status.device}
    facts["source"] = {key: source[key] for key in ("threads", "load", "shared_gpu") if source.get(key) is not None}
    if idle := never_acted(run):
        facts["idle"] = idle
    made = RecordedRun(run.study, run.variant, run.seed, facts, about)
    for name in run.metric_names():
        if name in _LEFT_OUT or (name.startswith("speed/") and not (speed and name == _SPEED)):
            continue
        made.points[name] = _thinned(run.axes(name), name, levels.get(name, ()))
    end = max((axes for axes in made.points.values() if len(axes[0])), key=lambda axes: axes[0][-1], default=None)
    for name, value in (extra or {}).items():
        if end is not None:
            made.points[name] = end[0][-1:], np.array([value]), end[2][-1:], end[3][-1:]
    return made


def never_acted(run: Run) -> str:
    """What the method of a run was to do and never did, as a clause; "" where it did, or has nothing to do."""
    settings = settings_of(run.config)
    if settings.get("model.etf_layers") == "adaptive":
        counts = run.history(FIXED)[1]
        if len(counts) and not np.nanmax(counts, initial=0.0) > 0:
            return "no layer was fixed"
    start = run.source.get("start")
    if settings.get("start_from") and isinstance(run.source.get("head"), dict) and not isinstance(start, dict):
        return "no weights were taken over"
    return ""


def _thinned(axes: Axes, metric: str, levels: Sequence[float]) -> Axes:
    step, values, epoch, time = axes
    if len(step) <= _MOST_POINTS:
        return axes
    kept = set(np.linspace(0, len(step) - 1, _MOST_POINTS).round().astype(int).tolist())
    for level in levels:
        with np.errstate(invalid="ignore"):
            found = np.flatnonzero(values <= level if is_loss(metric) else values >= level)
        kept |= {max(0, int(found[0]) - 1), int(found[0])} if len(found) else set()
    index = np.array(sorted(kept), np.int64)
    return step[index], values[index], epoch[index], time[index]


# --- the file ---------------------------------------------------------------------------------------------------------


def to_csv(values: StudyValues) -> str:
    """The text of values.csv."""
    metrics = sorted({name for run in (*values.runs, *values.tries) for name in run.points})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_HEAD, *metrics])

    def facts(record: str, of: str, variant: str, seed: int | str, key: str, value: Any) -> None:
        writer.writerow([record, of, variant, seed, key, json.dumps(value, ensure_ascii=False, sort_keys=True)])

    about = {
        "format": FORMAT, "study": values.study, "kind": values.kind, "baseline": values.baseline,
        "levels": values.levels, "by": values.by, "grid": values.grid, "absent": values.absent,
        "claims": [claim.model_dump(by_alias=True, exclude_none=True) for claim in values.claims],
        "bounds": [bound.model_dump(exclude_none=True) for bound in values.bounds],
    }  # fmt: skip
    for key, value in about.items():
        facts("study", "", "", "", key, value)
    for name, rows in values.tables:
        for number, row in enumerate(rows):
            facts("table", "", "", number, name, row)
    for of, runs in (("run", values.runs), ("try", values.tries)):
        told: set[str] = set()
        for run in runs:
            name = values.name(run)
            if name not in told:
                facts("variant", of, name, "", "facts", run.about)
                told.add(name)
            facts("seed", of, name, run.seed, "facts", run.facts)
            for cells in _points(run, metrics):
                writer.writerow(["point", of, name, run.seed, "", "", *cells])
    return out.getvalue()


def _points(run: RecordedRun, metrics: Sequence[str]) -> Iterable[list[str]]:
    lines: dict[int, dict[str, float]] = {}
    places: dict[int, tuple[float, float]] = {}
    for name, (steps, found, epochs, times) in run.points.items():
        for step, value, epoch, time in zip(
            steps.tolist(), found.tolist(), epochs.tolist(), times.tolist(), strict=True
        ):
            lines.setdefault(step, {})[name] = value
            places[step] = (epoch, time)
    for step in sorted(lines):
        cells = [_number(lines[step][name]) if name in lines[step] else "" for name in metrics]
        yield [str(step), *(_number(place) for place in places[step]), *cells]


def _number(value: float) -> str:
    return f"{value:.9g}"


def from_csv(text: str) -> StudyValues:
    """The values of a file's text. LscError where it is not one of ours."""
    try:
        return _read(csv.reader(io.StringIO(text)))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
        raise LscError(f"{VALUES} cannot be read: {type(error).__name__}: {str(error).splitlines()[0:1]}") from None


def _read(lines: Any) -> StudyValues:
    head = next(lines)
    if tuple(head[: len(_HEAD)]) != _HEAD:
        raise ValueError("its columns are others")
    metrics = head[len(_HEAD) :]
    study: dict[str, Any] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    about: dict[tuple[str, str], dict[str, Any]] = {}
    runs: dict[tuple[str, str, int], RecordedRun] = {}
    points: dict[tuple[str, str, int], dict[str, list[tuple[int, float, float, float]]]] = {}
    for line in lines:
        kind, of, variant, seed, key, value = line[:6]
        if kind == "study":
            study[key] = json.loads(value)
        elif kind == "table":
            tables.setdefault(key, []).append(json.loads(value))
        elif kind == "variant":
            about[of, variant] = json.loads(value)
        elif kind == "seed":
            name = f"{study['study']}{'.tune' if of == 'try' else ''}"
            runs[of, variant, int(seed)] = RecordedRun(name, variant, int(seed), json.loads(value), about[of, variant])
        elif kind == "point":
            step, epoch, time = int(line[6]), float(line[7]), float(line[8])
            place = points.setdefault((of, variant, int(seed)), {})
            for metric, cell in zip(metrics, line[9:], strict=True):
                if cell:
                    place.setdefault(metric, []).append((step, float(cell), epoch, time))
        else:
            raise ValueError(f"a record {kind!r} is not known")
    for place_of, series in points.items():
        for metric, found in series.items():
            columns = np.array(found, np.float64).T
            runs[place_of].points[metric] = (columns[0].astype(np.int64), *columns[1:4])
    if study["format"] != FORMAT:
        raise ValueError(f"its format {study['format']} is not {FORMAT}")
    return StudyValues(
        study["study"], study["kind"], study["baseline"], study["levels"], study["by"], study["grid"],
        [Claim.model_validate(claim) for claim in study["claims"]],
        [BenchClaim.model_validate(bound) for bound in study["bounds"]],
        study["absent"],
        [run for (of, _, _), run in runs.items() if of == "run"],
        [run for (of, _, _), run in runs.items() if of == "try"],
        list(tables.items()),
    )  # fmt: skip
