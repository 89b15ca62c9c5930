"""What a report of a study is made of: its preset, the runs that count, their comparison, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsc_engine.analysis.claims import Findings, findings
from lsc_engine.analysis.compare import Comparison, Row, compare, levels_of_row, variant_key
from lsc_engine.analysis.trivial import Floor
from lsc_engine.analysis.values import StudyValues, from_csv, record, to_csv
from lsc_engine.config import Preset, RunConfig, load_preset, shipped_presets
from lsc_engine.config.reporting import Claim
from lsc_engine.errors import LscError
from lsc_engine.report.floor import floor_of
from lsc_engine.runs.folder.layout import PRESET
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.studies import Study, in_order, tries_of
from lsc_engine.runs.settings import differing, settings_of

_SHOWN = 6
# Notes of a comparison that a report tells where it compares, or does not need: it counts the stages before.
_TOLD_ELSEWHERE = ("are not compared", "no seconds", "no speed-up", "is not counted here")


@dataclass
class Material:
    """A study as its report tells it. `comparison` is None where no run counts; `floors` per row key."""

    study: Study
    preset: Preset | None
    comparison: Comparison | None = None
    missing: list[str] = field(default_factory=list)
    tries: tuple[Run, ...] = ()
    configs: dict[str, RunConfig] = field(default_factory=dict)
    floors: dict[str, Floor] = field(default_factory=dict)
    data_dir: Path | None = None

    @property
    def rows(self) -> list[Row]:
        """The variants that have runs, in the preset's order."""
        return self.comparison.rows if self.comparison is not None else []

    def row(self, variant: str) -> Row | None:
        """The row of a variant, by its name."""
        return next((row for row in self.rows if row.runs[0].variant == variant), None)

    @property
    def baseline(self) -> Row | None:
        """What the others are compared with, stuck or not."""
        return self.comparison.baseline if self.comparison is not None else None

    def stuck(self, row: Row) -> str | None:
        """Why this row may not serve as a baseline, as a clause; None where it may."""
        floor = self.floors.get(row.key)
        return floor.stuck(row) if floor is not None else None

    def words(self) -> dict[str, str]:
        """Title, source and claim, from the preset or from a run, and whose claim it is."""
        whose = {"whose": self.provenance().get("claim", "")}
        if self.preset is not None:
            return {"title": self.preset.title, "source": self.preset.source, "claim": self.preset.claim} | whose
        told = self.study.runs[0].config if self.study.runs else {}
        return {key: str(told.get(key, "")) for key in ("title", "source", "claim")} | whose

    def provenance(self) -> dict[str, str]:
        """Setting -> paper | inferred: why | ours, from the preset or from the runs."""
        if self.preset is not None:
            return dict(self.preset.provenance)
        told = self.study.runs[0].config.get("provenance") if self.study.runs else None
        return {str(key): str(mark) for key, mark in told.items()} if isinstance(told, dict) else {}


def gather(study: Study, data_dir: Path | None = None) -> Material:
    """Everything the report of `study` tells; what cannot be used is a sentence in `missing`, never an error."""
    preset, note = _preset(study)
    made = Material(study, preset, data_dir=data_dir, missing=[note] if note else [])
    if preset is not None and preset.kind != "train":
        return made
    made.tries = tries_of(study)
    runs = _usable(study.runs, preset, made.missing)
    if preset is not None:
        made.missing += _not_there(preset, study)
        runs = in_order(runs, preset)
    if not runs:
        return made
    levels = preset.compare.levels if preset is not None and preset.compare.levels else None
    baseline = preset.compare.baseline if preset is not None else None
    known = baseline if baseline in {run.variant for run in runs} else None
    made.comparison = compare(runs, known, levels)
    made.missing += [note for note in made.comparison.notes if not any(words in note for words in _TOLD_ELSEWHERE)]
    for row in made.comparison.rows:
        describe(made, row)
    return made


def _preset(study: Study) -> tuple[Preset | None, str | None]:
    preset = study.preset()
    if preset is not None:
        return preset, None
    problem = study.preset_problem
    if any(info.name == study.name for info in shipped_presets()):
        try:
            preset = load_preset(study.name)
        except LscError as error:
            return None, f"no preset of the study can be read: {problem}; {error}"
        return preset, f"{problem}: claims and the paper's figures are those of the shipped preset {study.name}"
    return None, f"{problem}: the claims, the paper's figures and what was planned are not known"


def _usable(runs: tuple[Run, ...], preset: Preset | None, missing: list[str]) -> list[Run]:
    """The runs that have logged something under one set of settings per variant; a sentence for each other one."""
    by_variant: dict[str, list[Run]] = {}
    for run in runs:
        problem = run.config_problem
        if problem is not None:
            missing.append(f"{run.id} is left out: {problem}")
        elif not run.metric_names():
            missing.append(f"{run.id} is left out: it has logged nothing, its state is {run.status().shown_state}")
        else:
            by_variant.setdefault(run.variant, []).append(run)
    return [run for group in by_variant.values() for run in _of_one_kind(group, preset, missing)]


def _of_one_kind(runs: list[Run], preset: Preset | None, missing: list[str]) -> list[Run]:
    """The seeds that share the settings of the preset, else those of most seeds."""
    tables = [settings_of(run.config) for run in runs]
    keys = [repr(sorted(table.items(), key=lambda item: item[0])) for table in tables]
    if len(set(keys)) == 1:
        return runs
    planned = {} if preset is None else {v.name: v.settings for v in preset.variants}
    wanted = planned.get(runs[0].variant)
    scores = Counter(keys)
    if wanted is not None:
        flat = wanted.flat()
        for key, table in zip(keys, tables, strict=True):
            agree = sum(flat.get(name) == value for name, value in table.items())
            scores[key] = agree * 1000 + scores[key] % 1000
    chosen = max(keys, key=lambda key: (scores[key], -keys.index(key)))
    reference = tables[keys.index(chosen)]
    for run, key, table in zip(runs, keys, tables, strict=True):
        if key != chosen:
            changed = differing([reference, table])
            listed = [f"{name} is {_word(b)}, not {_word(a)}" for name, (a, b) in list(changed.items())[:_SHOWN]]
            missing.append(f"{run.id} is left out, it has other settings: {'; '.join(listed)}")
    return [run for run, key in zip(runs, keys, strict=True) if key == chosen]


def _word(value: Any) -> str:
    return "not set" if value is None else str(value)


def _not_there(preset: Preset, study: Study) -> list[str]:
    """Planned runs that were never started."""
    found = {(run.variant, run.seed) for run in study.runs}
    sentences = []
    for variant in preset.variants:
        absent = [seed for seed in preset.seeds if (variant.name, seed) not in found]
        if absent:
            seeds = ", ".join(map(str, absent))
            sentences.append(f"{variant.label}: no run of seed{'s' if len(absent) > 1 else ''} {seeds}")
    names = {variant.name for variant in preset.variants}
    unknown = sorted({run.variant for run in study.runs if variant_key(run.variant, names) not in names})
    if unknown:
        sentences.append(f"not planned by the preset, and told all the same: {', '.join(unknown)}")
    return sentences


def values_of(
    material: Material, extra: Mapping[str, Mapping[str, float]] | None = None, claims: Sequence[Claim] = ()
) -> StudyValues:
    """All that the verdicts of a study are told from. `extra`: run id -> values that the report measured itself, and
    the `claims` on them."""
    preset, extra = material.preset, extra or {}
    runs = [run for row in material.rows for run in row.runs]
    levels = levels_of_row(material.baseline) if material.baseline is not None else {}
    made = StudyValues(material.study.name, levels=levels)
    if preset is not None:
        made.kind, made.baseline, made.bounds = preset.kind, preset.compare.baseline, []
        made.claims = list(preset.reporting.claims)
        there = {(run.variant, run.seed) for run in runs}
        for name in dict.fromkeys(run.variant for run in runs):
            absent = [seed for seed in preset.seeds if (name, seed) not in there]
            if absent:
                made.absent[name] = absent
        if preset.tune is not None:
            made.by = preset.tune.by
            made.grid = {key: list(values) for key, values in preset.tune.grid.items()}
    elif material.baseline is not None:
        made.baseline = made.name(material.baseline.runs[0])
    made.claims += claims
    speed = any((claim.metric or "").startswith("speed/") for claim in made.claims)
    floors = {run.id: material.floors.get(row.key) for row in material.rows for run in row.runs}
    made.runs = [record(run, made.levels, floor=floors[run.id], speed=speed, extra=extra.get(run.id)) for run in runs]
    made.tries = [record(run, made.levels) for run in material.tries if run.metric_names()]
    return made


def found_in(values: StudyValues) -> tuple[Findings, str]:
    """What is to be judged, and the text of values.csv that it is read from: what is kept is what is judged."""
    text = to_csv(values)
    return findings(from_csv(text)), text


def describe(made: Material, row: Row) -> None:
    """The settings of a row as an object, and its floor; both are left out where they cannot be had."""
    try:
        config = RunConfig.from_toml(row.runs[0].path / PRESET)
    except LscError as error:
        made.missing.append(f"{row.label}: its settings are not those of this version: {error.args[0].splitlines()[0]}")
        return
    made.configs[row.key] = config
    made.floors[row.key] = floor_of(config, row.runs[0], made.data_dir)
