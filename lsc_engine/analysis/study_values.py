"""values.csv of a report: what was measured of every run, seed by seed, and all that a verdict is computed from.

    record  of   variant  seed  key   value  step  epoch  seconds  train/accuracy  train/loss  …
    study                       name  JSON                          claims, levels, baseline, grid, planned seeds
    variant run  V21            facts JSON                          label, settings, chance, best constant loss
    seed    run  V21      0     facts JSON                          state, device, load of the machine, what never acted
    point   run  V21      0                   50   1      0.8      0.51            0.62
    table                 0     name  JSON                          a row of a benchmark's table

`of` is `run`, or `try` for a run of [tune]. Reports are made from the values as they are read back from this file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np

from lsc_engine.analysis.compare import Comparison, Levels, Row, TrivialBaseline, compare, variant_key
from lsc_engine.analysis.levels import is_loss
from lsc_engine.common.errors import LscError
from lsc_engine.common.safe_io import csv_text
from lsc_engine.common.settings import merge, nested
from lsc_engine.config.preset import BenchClaim, Claim
from lsc_engine.config.tuning import implied_claims
from lsc_engine.runs.folder.layout import TRIES
from lsc_engine.runs.folder.status import Status
from lsc_engine.runs.metrics.parsing import Floats, Ints
from lsc_engine.runs.metrics.reader import FIXED
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.settings import settings_of

VALUES = "values.csv"
FORMAT = 1
_HEAD = ("record", "of", "variant", "seed", "key", "value", "step", "epoch", "seconds")
# Settings that verdicts and tables depend on: data, loss, what a run begins with, what is tried and evaluated on.
_KEPT = ("target.", "optimizer.", "data.", "model.dim", "model.etf_layers", "train.duration", "start_from", "eval.ood")
# Metrics that no figure and no verdict is made of.
_LEFT_OUT = ("lr", "epoch", "time")
_SPEED = "speed/images_per_second"
# More points than this of one metric are thinned, but for those around its levels.
_MOST_POINTS = 2000
Axes = tuple[Ints, Floats, Floats, Floats]
Tables = list[tuple[str, list[dict[str, Any]]]]


class RecordedRun(Run):
    """A run as values.csv records it, to be compared like one that is read from its folder."""

    config_problem = None

    def __init__(self, study: str, variant: str, seed: int, facts: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """`facts` of the seed, `about` the variant (see the file's head)."""
        super().__init__(Path(), f"{study}/{variant}/seed-{seed}")
        self.facts, self.about = dict(facts), dict(about)
        self.points: dict[str, Axes] = {}
        settings = {"run.label": about.get("label", variant), **about.get("settings", {})}
        self.__dict__["config"] = reduce(merge, (nested(key, value) for key, value in settings.items()))

    @property
    def trivial(self) -> TrivialBaseline:
        return TrivialBaseline(self.about.get("chance"), self.about.get("constant_loss"))

    @property
    def idle(self) -> str:
        """What its method was to do and never did; "" if it did."""
        return str(self.facts.get("idle", ""))

    @property
    def source(self) -> dict[str, Any]:
        return dict(self.facts.get("source", {}))

    @property
    def load(self) -> dict[str, Any] | None:
        return self.source.get("load")

    def status(self) -> Status:
        state = str(self.facts.get("state", "unreadable"))
        return Status(state=state, shown_state=str(self.facts.get("shown", state)), device=self.facts.get("device", ""))

    def metric_names(self) -> list[str]:
        return list(self.points)

    def history(self, name: str) -> tuple[Ints, Floats]:
        return self.axes(name)[:2]

    def axes(self, name: str) -> Axes:
        return self.points.get(name, (np.empty(0, np.int64), *np.empty((3, 0))))


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
    tables: Tables = field(default_factory=list)

    def key(self, variant: str) -> str:
        """The key of the row of a variant, which is called `study/variant` if it is of another study."""
        return variant if "/" in variant else f"{self.study}/{variant}"

    def name(self, run: Run) -> str:
        own = run.study.removesuffix(TRIES) == self.study
        return run.variant if own else f"{run.study}/{run.variant}"

    @cached_property
    def variants(self) -> list[str]:
        """Names of the variants that have runs, those of further settings left out, in order."""
        names = dict.fromkeys(self.name(run) for run in self.runs)
        return [name for name in names if variant_key(name, names) == name]

    @cached_property
    def comparison(self) -> Comparison | None:
        if not self.runs:
            return None
        named = self.key(self.baseline) if self.baseline in {self.name(run) for run in self.runs} else None
        found = compare(self.runs, named, self.levels, self.tries)
        for row in found.rows:
            first = row.runs[0]
            assert isinstance(first, RecordedRun)
            row.absent, row.trivial = tuple(self.absent.get(self.name(first), ())), first.trivial
        return found

    def row(self, variant: str | None) -> Row | None:
        return self.comparison.row(self.key(variant)) if self.comparison is not None and variant else None

    def label(self, variant: str) -> str:
        row = self.row(variant)
        return row.label if row is not None else variant

    @property
    def against(self) -> str:
        """The variant that others are compared with: the preset's baseline, else that of the comparison; "" without."""
        return self.baseline or (self.name(self.comparison.baseline.runs[0]) if self.comparison is not None else "")

    @cached_property
    def judged_claims(self) -> list[Claim]:
        """The claims of the preset; without any, that each variant is faster than the baseline."""
        if self.claims or self.comparison is None:
            return self.claims
        # Those without any run among them.
        names = dict.fromkeys([*self.variants, *self.absent])
        return [
            claim.model_copy(update={"text": f"{self.label(claim.variant)} is faster than {self.label(self.against)}"})
            for claim in implied_claims(names, self.against)
        ]


def record(
    run: Run, levels: Levels, *, trivial: TrivialBaseline | None = None, speed: bool = False, extra: Mapping[str, float]
) -> RecordedRun:
    """What is kept of a run. `extra`: values measured after its end, recorded at its last step."""
    status, source, settings = run.status(), run.source, settings_of(run.config)
    kept = {key: value for key, value in settings.items() if key.startswith(_KEPT) and value is not None}
    about: dict[str, Any] = {"label": run.label, "settings": kept}
    if trivial is not None:
        about |= {"chance": trivial.chance, "constant_loss": trivial.loss}
    facts: dict[str, Any] = {"state": status.state, "shown": status.shown_state, "device": status.device}
    known = {"threads": source.get("threads"), "load": run.load, "shared_gpu": source.get("shared_gpu")}
    facts["source"] = {key: value for key, value in known.items() if value is not None}
    # What the method was to do and never did.
    fixed = run.history(FIXED)[1] if settings.get("model.etf_layers") == "adaptive" else np.empty(0)
    if len(fixed) and not np.nanmax(fixed, initial=0.0) > 0:
        facts["idle"] = "no layer was fixed"
    elif settings.get("start_from") and isinstance(source.get("head"), dict) and type(source.get("start")) is not dict:
        facts["idle"] = "no weights were taken over"
    recorded = RecordedRun(run.study, run.variant, run.seed, facts, about)
    for name in run.metric_names():
        if name not in _LEFT_OUT and (not name.startswith("speed/") or (speed and name == _SPEED)):
            recorded.points[name] = _thinned(run.axes(name), name, levels.get(name, ()))
    end = max((axes for axes in recorded.points.values() if len(axes[0])), key=lambda axes: axes[0][-1], default=None)
    if end is not None:
        last = {name: (end[0][-1:], np.array([value]), end[2][-1:], end[3][-1:]) for name, value in extra.items()}
        recorded.points.update(last)
    return recorded


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


def to_csv(values: StudyValues) -> str:
    """The text of values.csv."""
    metrics = sorted({name for run in (*values.runs, *values.tries) for name in run.points})
    lines: list[Sequence[object]] = [[*_HEAD, *metrics]]

    def facts(record: str, of: str, variant: str, seed: int | str, key: str, value: Any) -> None:
        lines.append([record, of, variant, seed, key, json.dumps(value, ensure_ascii=False, sort_keys=True)])

    facts("study", "", "", "", "format", FORMAT)
    for key in ("study", "kind", "baseline", "levels", "by", "grid", "absent"):
        facts("study", "", "", "", key, getattr(values, key))
    for key, models in (("claims", values.claims), ("bounds", values.bounds)):
        facts("study", "", "", "", key, [one.model_dump(by_alias=True, exclude_none=True) for one in models])
    for name, rows in values.tables:
        for number, row in enumerate(rows):
            facts("table", "", "", number, name, row)
    for of, runs in (("run", values.runs), ("try", values.tries)):
        variants: set[str] = set()
        for run in runs:
            name = values.name(run)
            if name not in variants:
                facts("variant", of, name, "", "facts", run.about)
                variants.add(name)
            facts("seed", of, name, run.seed, "facts", run.facts)
            points: dict[int, dict[str, str]] = {}
            for metric, axes in run.points.items():
                for step, value, epoch, time in zip(*(array.tolist() for array in axes), strict=True):
                    point = points.setdefault(step, {})
                    point |= {"epoch": f"{epoch:.9g}", "seconds": f"{time:.9g}", metric: f"{value:.9g}"}
            for step, point in sorted(points.items()):
                cells = [step, *(point.get(key, "") for key in ("epoch", "seconds", *metrics))]
                lines.append(["point", of, name, run.seed, "", "", *cells])
    return csv_text(lines)


def from_csv(text: str) -> StudyValues:
    """The values of a file's text. LscError if it is not one of ours."""
    try:
        if not text.startswith(",".join(_HEAD)):
            raise ValueError("its columns are others")
        return _read(csv.reader(io.StringIO(text)))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
        raise LscError(f"{VALUES} cannot be read: {type(error).__name__}: {str(error).splitlines()[0:1]}") from None


def _read(lines: Iterator[list[str]]) -> StudyValues:
    metrics = next(lines)[len(_HEAD) :]
    study: dict[str, Any] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    about: dict[tuple[str, str], dict[str, Any]] = {}
    runs: dict[tuple[str, str, int], RecordedRun] = {}
    series: dict[tuple[RecordedRun, str], list[tuple[float, ...]]] = {}
    for record, of, variant, seed, key, value, *cells in lines:
        if record == "study":
            study[key] = json.loads(value)
        elif record == "table":
            tables.setdefault(key, []).append(json.loads(value))
        elif record == "variant":
            about[of, variant] = json.loads(value)
        elif record == "seed":
            name = f"{study['study']}{TRIES if of == 'try' else ''}"
            runs[of, variant, int(seed)] = RecordedRun(name, variant, int(seed), json.loads(value), about[of, variant])
        elif record == "point":
            run, step, epoch, time = runs[of, variant, int(seed)], int(cells[0]), float(cells[1]), float(cells[2])
            for metric, cell in ((m, cell) for m, cell in zip(metrics, cells[3:], strict=True) if cell):
                series.setdefault((run, metric), []).append((step, float(cell), epoch, time))
        else:
            raise ValueError(f"a record {record!r} is not known")
    for (run, metric), found in series.items():
        columns = np.array(found, np.float64).T
        run.points[metric] = (columns[0].astype(np.int64), *columns[1:4])
    if (known := study.pop("format")) != FORMAT:
        raise ValueError(f"its format {known} is not {FORMAT}")
    return StudyValues(
        **study
        | {
            "claims": [Claim.model_validate(claim) for claim in study["claims"]],
            "bounds": [BenchClaim.model_validate(bound) for bound in study["bounds"]],
            "runs": [run for (of, _, _), run in runs.items() if of == "run"],
            "tries": [run for (of, _, _), run in runs.items() if of == "try"],
            "tables": list(tables.items()),
        }
    )
