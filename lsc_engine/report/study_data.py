"""What a report of a study is made of: its preset, the runs that count, their comparison, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsc_engine.analysis.compare import Comparison, Row, compare, variant_key
from lsc_engine.analysis.study_values import StudyValues, from_csv, record, to_csv
from lsc_engine.common.errors import LscError
from lsc_engine.config.load import load_preset, load_run_config, shipped_presets
from lsc_engine.config.preset import Claim, Paper, Preset
from lsc_engine.config.schema import RunConfig
from lsc_engine.runs.folder.layout import PRESET
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.studies import Study, in_order, tries_of
from lsc_engine.runs.settings import differing, settings_of

_SHOWN = 6
# Notes of a comparison that stand elsewhere in a report, or are not needed there: it counts the stages before.
_ELSEWHERE = ("are not compared", "no seconds", "no speed-up", "is not counted here")


@dataclass
class StudyData:
    """A study as its report shows it. `comparison` is None if no run counts; `configs` by row key."""

    study: Study
    preset: Preset | None
    comparison: Comparison | None = None
    missing: list[str] = field(default_factory=list)
    tries: tuple[Run, ...] = ()
    configs: dict[str, RunConfig] = field(default_factory=dict)
    data_dir: Path | None = None

    @property
    def rows(self) -> list[Row]:
        return self.comparison.rows if self.comparison is not None else []

    @property
    def baseline(self) -> Row | None:
        return self.comparison.baseline if self.comparison is not None else None

    @property
    def paper(self) -> Paper:
        found = self.preset.reporting.paper if self.preset is not None else None
        return found or Paper.model_validate({})

    def name(self, row: Row) -> str:
        """What a row is called in tables: its label, whether it is the baseline, † if it is stuck."""
        return row.label + (" (baseline)" if row is self.baseline else "") + (" †" if row.at_trivial_loss else "")

    def about(self, key: str) -> str:
        """The title, source or claim, from the preset or from a run."""
        config = self.study.runs[0].config if self.study.runs else {}
        return str(getattr(self.preset, key) if self.preset is not None else config.get(key, ""))

    def provenance(self) -> dict[str, str]:
        """Setting -> paper | inferred: why | ours, from the preset or from the runs."""
        if self.preset is not None:
            return dict(self.preset.provenance)
        found = self.study.runs[0].config.get("provenance") if self.study.runs else None
        return {str(key): str(mark) for key, mark in found.items()} if isinstance(found, dict) else {}

    def describe_rows(self) -> None:
        """Read the settings and the trivial baseline of each row, unless they are of another version."""
        from lsc_engine.training.trained_run import trivial_baseline_of

        for row in self.rows:
            try:
                config = load_run_config(row.runs[0].path / PRESET)
            except LscError as error:
                why = error.args[0].splitlines()[0]
                self.missing.append(f"{row.label}: its settings are not those of this version: {why}")
            else:
                self.configs[row.key] = config
                row.trivial = trivial_baseline_of(config, row.runs[0], self.data_dir)


def collect(study: Study, data_dir: Path | None = None) -> StudyData:
    """Everything the report of `study` shows; what cannot be used is a sentence in `missing`, never an error."""
    preset, note = _preset(study)
    data = StudyData(study, preset, data_dir=data_dir, missing=[note] if note else [])
    if preset is not None and preset.kind != "train":
        return data
    data.tries = tries_of(study)
    by_variant: dict[str, list[Run]] = {}
    for run in study.runs:
        if (problem := run.config_problem) is not None:
            data.missing.append(f"{run.id} is left out: {problem}")
        elif not run.metric_names():
            state = run.status().shown_state
            data.missing.append(f"{run.id} is left out: it has logged nothing, its state is {state}")
        else:
            by_variant.setdefault(run.variant, []).append(run)
    runs = [run for group in by_variant.values() for run in _of_one_kind(group, preset, data.missing)]
    if preset is not None:
        data.missing += _not_started(preset, study)
        runs = in_order(runs, preset)
    if runs:
        levels = preset.compare.levels if preset is not None and preset.compare.levels else None
        baseline = preset.compare.baseline if preset is not None else None
        known = baseline if baseline in {run.variant for run in runs} else None
        data.comparison = compare(runs, known, levels)
        notes = data.comparison.notes
        data.missing += [note for note in notes if not any(words in note for words in _ELSEWHERE)]
        data.describe_rows()
    return data


def _preset(study: Study) -> tuple[Preset | None, str | None]:
    preset, problem = study.preset_or_problem()
    if preset is not None:
        return preset, None
    if any(info.name == study.name for info in shipped_presets()):
        try:
            preset = load_preset(study.name)
        except LscError as error:
            return None, f"no preset of the study can be read: {problem}; {error}"
        return preset, f"{problem}: claims and the paper's figures are those of the shipped preset {study.name}"
    return None, f"{problem}: the claims, the paper's figures and what was planned are not known"


def _of_one_kind(runs: list[Run], preset: Preset | None, missing: list[str]) -> list[Run]:
    """The seeds that share the settings of the preset, else those of most seeds."""
    tables = [settings_of(run.config) for run in runs]
    keys = [repr(sorted(table.items(), key=lambda item: item[0])) for table in tables]
    if len(set(keys)) == 1:
        return runs
    planned = {v.name: v.settings.flat() for v in preset.variants} if preset is not None else {}
    wanted = planned.get(runs[0].variant)
    count = Counter(keys)

    def rank(place: int) -> tuple[int, int, int]:
        """By settings that agree with the preset, then by the number of seeds, then the first."""
        table = tables[place]
        agree = sum(wanted.get(name) == value for name, value in table.items()) if wanted is not None else 0
        return agree, count[keys[place]], -keys.index(keys[place])

    chosen = max(range(len(runs)), key=rank)
    for run, key, table in zip(runs, keys, tables, strict=True):
        if key != keys[chosen]:
            changed = list(differing([tables[chosen], table]).items())[:_SHOWN]
            texts = {name: ["not set" if value is None else str(value) for value in pair] for name, pair in changed}
            listed = [f"{name} is {own}, not {usual}" for name, (usual, own) in texts.items()]
            missing.append(f"{run.id} is left out, it has other settings: {'; '.join(listed)}")
    return [run for run, key in zip(runs, keys, strict=True) if key == keys[chosen]]


def _not_started(preset: Preset, study: Study) -> list[str]:
    found, sentences = {(run.variant, run.seed) for run in study.runs}, []
    for variant in preset.variants:
        if absent := [str(seed) for seed in preset.seeds if (variant.name, seed) not in found]:
            sentences.append(f"{variant.label}: no run of seed{'s' if len(absent) > 1 else ''} {', '.join(absent)}")
    names = {variant.name for variant in preset.variants}
    unknown = sorted({run.variant for run in study.runs if variant_key(run.variant, names) not in names})
    if unknown:
        sentences.append(f"not planned by the preset, and included all the same: {', '.join(unknown)}")
    return sentences


def values_of(
    data: StudyData, measured: Mapping[str, Mapping[str, float]] | None = None, claims: Sequence[Claim] = ()
) -> StudyValues:
    """All that verdicts are computed from, with values that the report `measured` and `claims` on them."""
    preset, measured = data.preset, measured or {}
    values = StudyValues(data.study.name, levels=data.comparison.levels if data.comparison is not None else {})
    if preset is not None:
        values.kind, values.baseline = preset.kind, preset.compare.baseline
        values.claims = list(preset.reporting.claims)
        there = {(run.variant, run.seed) for row in data.rows for run in row.runs}
        for name in dict.fromkeys([*(row.variant for row in data.rows), *(one.name for one in preset.variants)]):
            if absent := [seed for seed in preset.seeds if (name, seed) not in there]:
                values.absent[name] = absent
        if preset.tune is not None:
            values.by = preset.tune.by
            values.grid = {key: list(grid) for key, grid in preset.tune.grid.items()}
    elif data.baseline is not None:
        values.baseline = values.name(data.baseline.runs[0])
    values.claims += claims
    speed = any((claim.metric or "").startswith("speed/") for claim in values.claims)
    for row in data.rows:
        trivial = row.trivial if row.key in data.configs else None
        values.runs += [
            record(run, values.levels, trivial=trivial, speed=speed, extra=measured.get(run.id, {})) for run in row.runs
        ]
    values.tries = [record(run, values.levels, extra={}) for run in data.tries if run.metric_names()]
    return values


def read_back(values: StudyValues) -> tuple[StudyValues, str]:
    """The values as they are read from the text of values.csv, and that text: what is kept is what is judged."""
    text = to_csv(values)
    return from_csv(text), text
