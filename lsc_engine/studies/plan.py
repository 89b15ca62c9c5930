"""A preset and the options of a command become a study: runs with resolved settings, in the order they can run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import run_id, study_fault, suggested_name
from lsc_engine.common.settings import Table, flatten, lookup, merge
from lsc_engine.config import expand
from lsc_engine.config.load import read_preset, shipped_paths
from lsc_engine.config.preset import Preset, PresetFile, Variant
from lsc_engine.config.schema import REFERENCES, RunConfig
from lsc_engine.config.tuning import Purpose, tune_purposes
from lsc_engine.config.typed import TOP_TABLES, TOP_WORDS, parse_sets, parse_sweeps, seeds_fault
from lsc_engine.config.validation_errors import PresetError, ValidationIssue
from lsc_engine.runs.folder.layout import TRIES


@dataclass(frozen=True)
class RunPlan:
    """One run of a study and the ids of the runs that must be finished before it. Of a try of [tune] also the variant
    that it is a try `of`, and the values it tries."""

    id: str
    config: RunConfig
    needs: tuple[str, ...] = ()
    of: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TunePlan:
    """The tries of [tune], kept in the study `NAME.tune`. `purposes`: variant -> what its settings are chosen for; the
    best ones by each train over the seeds. `grid` is the preset's, without what it has grown to."""

    study: str
    grid: Mapping[str, tuple[Any, ...]]
    purposes: Mapping[str, tuple[Purpose, ...]]
    runs: tuple[RunPlan, ...]


@dataclass(frozen=True)
class StudyPlan:
    """All runs of a study. With `tune`, first its runs, then `tuned(...)`."""

    study: str
    preset: Preset
    runs: tuple[RunPlan, ...]
    tune: TunePlan | None
    _file: PresetFile = field(repr=False)
    _raw: Table = field(repr=False)
    _chosen: tuple[str, ...]

    def to_toml(self) -> str:
        """The preset with the command's options in it, without variants that were not chosen and have mistakes."""
        raw, sound = self._raw, {variant.name for variant in self.preset.variants}
        if gone := {str(variant.get("name")) for variant in expand.raw_variants(raw)} - sound:
            kept: Table = {"variants": [one for one in expand.raw_variants(raw) if one.get("name") not in gone]}
            if lookup(raw, "compare.baseline") in gone:
                kept["compare"] = {key: value for key, value in raw["compare"].items() if key != "baseline"}
            if isinstance(values := lookup(raw, "paper.values"), dict):
                kept["paper"] = raw["paper"] | {"values": {key: values[key] for key in values if key not in gone}}
            if isinstance(claims := raw.get("claims"), list):
                kept["claims"] = [claim for claim in claims if not gone & {claim.get("variant"), claim.get("against")}]
            raw = raw | kept
        return self._file.text if raw == self._file.raw else tomli_w.dumps(raw)

    def tuned(self, best: Mapping[str, Sequence[Mapping[str, Any]]]) -> StudyPlan:
        """The study with the best values of each variant ({variant: [{"optimizer.lr": 3e-4}]}) and no tries left;
        further values make further variants, `NAME+lr=0.001`."""
        raw = {key: value for key, value in self._raw.items() if key != "tune"}
        variants: list[Table] = []
        chosen = list(self._chosen)
        for variant in expand.raw_variants(raw):
            name = str(variant.get("name"))
            first, *others = best.get(name) or [{}]
            variants.append(expand.with_settings(variant, expand.unflatten(first)))
            for values in others:
                ((suffix, _),) = expand.combinations({key: (value,) for key, value in values.items()})
                variants.append(expand.at_point(variant, suffix, values))
                chosen += [f"{name}{suffix}"] if name in self._chosen else []
        return _planned(raw | {"variants": variants}, self._file, self.study, tuple(chosen))

    def grown(self, extra: Mapping[str, Sequence[Mapping[str, Any]]]) -> StudyPlan:
        points = {name: [dict(point) for point in more] for name, more in extra.items()}
        return _planned(self._raw, self._file, self.study, self._chosen, points)


def new_study_fault(name: str) -> str | None:
    """Why a study of one's own cannot have this name, which `study_fault` allows; None if it can."""
    folders = {preset.folder for preset in shipped_paths() if preset.folder}
    if "/" in name and name.rpartition("/")[0] not in folders:
        near, known = suggested_name(name), ", ".join(sorted(folders))
        return f'{quoted(name)}: before a slash stands a folder of the shipped presets ({known}); "{near}" would do'
    if name.endswith(TRIES):
        return f"{quoted(name)}: names that end in {TRIES} are kept for the tries of [tune]"
    return None


def plan_study(
    ref: str | Path,
    *,
    name: str | None = None,
    variants: Sequence[str] = (),
    sets: Sequence[str] = (),
    sweeps: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> StudyPlan:
    """The study that `run PRESET` with these options makes: `sets` "a.b=value", `sweeps` "a.b=x,y" (each multiplies the
    variants), `variants` by name with what they need. They alone are changed and checked. UsageError with all faults at
    once."""
    file = read_preset(ref)
    faults: list[str] = []
    changes: Table = {}
    axes: dict[str, tuple[Any, ...]] = {}
    for into, parse, texts in ((changes, parse_sets, sets), (axes, parse_sweeps, sweeps)):
        try:
            into.update(parse(texts))
        except UsageError as error:
            faults += error.faults
    for key in axes:
        if lookup(changes, key) is not None:
            faults.append(f"--set {key} and --sweep {key}: give one of them, --sweep with all values")
    study = file.name if name is None else name
    if (fault := study_fault(study)) is not None:
        fault = f"--name: {fault}"
        faults.append(f"{file.path}: {fault} (for example --name {suggested_name(study)})" if name is None else fault)
    if seeds is not None and (fault := seeds_fault(seeds)):
        faults.append(f"--seeds: {fault}")
    raw, origin = _with_options(file.raw, changes, axes, seeds)
    only = _wanted(raw, variants, origin, faults)
    if only is not None:
        only = expand.with_needs(raw, only)
        before = {origin[name][0] if name in origin else name for name in only}
        raw, _ = _with_options(file.raw, changes, axes, seeds, before)
    try:
        plan = _planned(raw, file, study, only)
    except PresetError as error:
        options = dict.fromkeys(flatten(changes), "--set") | dict.fromkeys(axes, "--sweep")
        if not options and not faults:
            raise
        faults += dict.fromkeys(_sentence(issue, error.file, options) for issue in error.details)
    if faults:
        raise UsageError(*faults)
    return plan


def _sentence(issue: ValidationIssue, file: str, options: Mapping[str, str]) -> str:
    """A mistake with its place: the option by which its key was set, else the file. `options`: key -> option."""
    plain = issue.key.replace('"', "")
    key = next((key for key in options if f"{plain}.".startswith(f"{key}.")), None)
    return issue.sentence(file) if key is None else f"{options[key]} {key}: {issue.message}"


def _with_options(
    raw: Table, changes: Table, axes: Table, seeds: Sequence[int] | None, chosen: Collection[str] | None = None
) -> tuple[Table, dict[str, tuple[str, Table]]]:
    """The preset's tables with the options applied (--set to the variants `chosen`), and of each swept variant the name
    before and the values."""
    if not changes and not axes and seeds is None:
        return raw, {}
    variants = raw.get("variants", [])
    if not isinstance(variants, list) or not all(isinstance(v, dict) for v in variants):
        return raw, {}
    settings = expand.sections_of(changes)
    top = {key: value for key, value in changes.items() if key in (*TOP_TABLES, *TOP_WORDS)}
    if settings or axes:
        raw = expand.materialise(raw)
        raw["variants"] = [
            expand.with_settings(v, settings) if chosen is None or v.get("name") in chosen else v
            for v in raw["variants"]
        ]
    raw = dict(merge(raw, top))
    if seeds is not None or "seeds" in top:
        raw.pop("seed", None)
    elif "seed" in top:
        raw.pop("seeds", None)
    if seeds is not None:
        raw["seeds"] = list(seeds)
    # [tune] loses the settings that the command line decides, and itself if none is left.
    tune, decided = raw.get("tune"), {*flatten(settings), *axes}
    if isinstance(tune, dict) and decided & set(tune):
        left = {key: value for key, value in raw.pop("tune").items() if key not in decided}
        raw |= {"tune": left} if any("." in key for key in left) else {}
    return expand.sweep(raw, axes) if axes else (raw, {})


def _wanted(
    raw: Table, wanted: Sequence[str], origin: Mapping[str, tuple[str, Table]], faults: list[str]
) -> tuple[str, ...] | None:
    """Names of the requested variants (a name before the sweep means all of it); None for all."""
    if not wanted:
        return None
    names = [name for v in expand.raw_variants(raw) if isinstance(name := v.get("name"), str)]
    picked: list[str] = []
    for want in wanted:
        hits = [n for n in names if n == want] or [new for new, (old, _) in origin.items() if old == want]
        if not hits:
            faults.append(f"--variant {quoted(want)}: no such variant; {did_you_mean(want, names)}")
        picked += hits
    return tuple(picked)


def _planned(
    raw: Table,
    file: PresetFile,
    study: str,
    chosen: tuple[str, ...] | None,
    extra: Mapping[str, Sequence[Table]] | None = None,
) -> StudyPlan:
    """The study of these tables with the variants `chosen`. PresetError with all its mistakes."""
    preset, issues, _ = expand.build(replace(file, raw=raw), only=chosen, extra=extra)
    if preset is None:
        raise PresetError(str(file.path), issues)
    if chosen is None:
        chosen = tuple(variant.name for variant in preset.variants)
    tune = None
    if preset.tune is not None and chosen:
        name, compare = f"{study}{TRIES}", preset.compare.model_copy(update={"baseline": preset.tries_baseline})
        tries = _runs(replace(preset, compare=compare), preset.tries, name, (preset.tune.seed,))
        tune = TunePlan(name, preset.tune.grid, tune_purposes(preset), tries)
    variants = [variant for variant in preset.variants if variant.name in chosen]
    runs = _runs(preset, variants, study, preset.seeds)
    return StudyPlan(study, preset, runs, tune, _file=file, _raw=raw, _chosen=chosen)


def _runs(preset: Preset, variants: Iterable[Variant], study: str, seeds: Iterable[int]) -> tuple[RunPlan, ...]:
    runs = []
    for variant, seed in ((variant, seed) for variant in variants for seed in seeds):
        settings = variant.settings
        # `@name` becomes the id of that variant's run of the same study and seed.
        runs_of = {
            one.key: REFERENCES[one.key] + run_id(study, one.variant, seed)
            for one in settings.references
            if one.variant is not None
        }
        settings = settings.with_values(runs_of)
        config = preset.run_config(settings, seed, study=study, variant=variant.name, label=variant.label)
        needs = tuple(run_id(study, need, seed) for need in variant.needs)
        runs.append(RunPlan(config.run_id, config, needs, *variant.origin))
    return tuple(runs)
