"""A preset and the options of a command become a study: runs with resolved settings, in the order they can run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import run_id, study_fault, suggested_name
from lsc_engine.config.build import expand, materialise, raw_variants, sections_of, tune_tables, with_needs
from lsc_engine.config.faults import PresetError
from lsc_engine.config.head import check_head
from lsc_engine.config.load import Document, checked, read_document
from lsc_engine.config.merge import (
    TOP_KEYS,
    TOP_SECTIONS,
    Table,
    combinations,
    lookup,
    nested,
    overlay,
    parse_sets,
    parse_sweeps,
)
from lsc_engine.config.references import KEYS, references
from lsc_engine.config.schema import Preset, RunConfig, Settings
from lsc_engine.config.tuning import CLAIMS, Purpose, implied_claims, purposes
from lsc_engine.config.typed import seeds_fault
from lsc_engine.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class RunPlan:
    """One run of a study and the ids of the runs that must be finished before it."""

    id: str
    config: RunConfig
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Try:
    """One run of a TunePlan: which variant it is a try of, and the values it tries."""

    run: RunPlan
    variant: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class TunePlan:
    """The tries of [tune], kept in the study `NAME.tune`. `purposes`: variant -> what its settings are chosen for; the
    best ones by each train over the seeds. `grid` is the preset's, without what it has grown to."""

    study: str
    grid: Mapping[str, tuple[Any, ...]]
    purposes: Mapping[str, tuple[Purpose, ...]]
    tries: tuple[Try, ...]

    @property
    def runs(self) -> tuple[RunPlan, ...]:
        """The runs of all tries, in the order they can run."""
        return tuple(t.run for t in self.tries)


@dataclass(frozen=True)
class StudyPlan:
    """All runs of a study. `text` is the preset as written. With `tune`, first its runs, then `tuned(...)`."""

    study: str
    preset: Preset
    runs: tuple[RunPlan, ...]
    tune: TunePlan | None
    text: str
    warnings: tuple[str, ...] = ()
    _raw: Table = field(default_factory=dict, repr=False)
    _document: Document | None = field(default=None, repr=False)
    _chosen: tuple[str, ...] = ()

    def to_toml(self) -> str:
        """The preset with the command's options in it: as written where they change nothing. A variant that was not
        chosen and has faults is left out."""
        raw = _without(self._raw, {str(v.get("name")) for v in raw_variants(self._raw)} - self._names)
        return self.text if self._document is not None and raw == self._document.raw else tomli_w.dumps(raw)

    @property
    def _names(self) -> set[str]:
        return {variant.name for variant in self.preset.variants}

    def tuned(self, best: Mapping[str, Sequence[Mapping[str, Any]]]) -> StudyPlan:
        """The study with the best values of each variant ({variant: [{"optimizer.lr": 3e-4}]}) and no tries left.

        Variants without an entry keep what the preset says; further values make further variants, `NAME+lr=0.001`.
        """
        assert self._document is not None
        raw = {key: value for key, value in self._raw.items() if key != "tune"}
        variants: list[Table] = []
        chosen = list(self._chosen)
        for variant in raw_variants(raw):
            name = str(variant.get("name"))
            first, *others = best.get(name) or [{}]
            variants.append(_with(variant, first))
            for values in others:
                ((suffix, _, _),) = combinations((key, (value,)) for key, value in values.items())
                label = f"{variant.get('label', name)}{suffix.replace('+', ' ')}"
                variants.append(_with(variant, values) | {"name": f"{name}{suffix}", "label": label})
                chosen += [f"{name}{suffix}"] if name in self._chosen else []
        return _planned(raw | {"variants": variants}, self._document, self.study, tuple(chosen))

    def grown(self, extra: Mapping[str, Sequence[Mapping[str, Any]]]) -> StudyPlan:
        """The same study with further tries: variant -> points that its grid grows to."""
        assert self._document is not None
        points = {name: [dict(point) for point in more] for name, more in extra.items()}
        return _planned(self._raw, self._document, self.study, self._chosen, points)


def plan_study(
    ref: str | Path,
    *,
    name: str | None = None,
    variants: Sequence[str] = (),
    sets: Sequence[str] = (),
    sweeps: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> StudyPlan:
    """The study that `run PRESET` with these options makes. UsageError with all faults at once.

    `sets` are "a.b=value", `sweeps` "a.b=x,y" (each multiplies the variants, named `base+b=x`), `variants` names
    of the preset or of the swept ones; what they need is added. Options change these alone, and faults of others do not
    count. Setting or sweeping a key takes it out of [tune].
    """
    document = read_document(ref)
    faults: list[str] = []
    given, axes = _options(sets, sweeps, faults)
    study = name if name is not None else document.name
    if (fault := study_fault(study)) is not None:
        source = "--name" if name is not None else f"{document.path}: --name"
        faults.append(
            f"{source}: {fault}" + ("" if name is not None else f" (for example --name {suggested_name(study)})")
        )
    if seeds is not None and (fault := seeds_fault(seeds)):
        faults.append(f"--seeds: {fault}")
    raw, origin = _with_options(document.raw, given, axes, seeds)
    only = _wanted(raw, variants, origin, faults)
    if only is not None:
        only = with_needs(raw, only)
        before = {new: old for new, old, _ in origin}
        raw, _ = _with_options(document.raw, given, axes, seeds, {before.get(name, name) for name in only})
    try:
        preset = checked(raw, document, only)
    except PresetError as error:
        raise _joined(error, faults) from error
    if faults:
        raise UsageError(*faults)
    return _planned(raw, document, study, tuple(v.name for v in preset.variants) if only is None else only)


def _options(sets: Sequence[str], sweeps: Sequence[str], faults: list[str]) -> tuple[Table, dict[str, tuple[Any, ...]]]:
    given: Table = {}
    axes: dict[str, tuple[Any, ...]] = {}
    try:
        given = parse_sets(sets)
    except UsageError as error:
        faults += error.faults
    try:
        axes = dict(parse_sweeps(sweeps))
    except UsageError as error:
        faults += error.faults
    return given, axes


def _joined(error: PresetError, faults: list[str]) -> UsageError:
    return UsageError(*faults, *error.faults) if faults else error


def _with_options(
    raw: Table,
    given: Table,
    axes: Mapping[str, Any],
    seeds: Sequence[int] | None,
    chosen: Collection[str] | None = None,
) -> tuple[Table, list[tuple[str, str, Table]]]:
    """The preset's tables with --set, --seeds and --sweep applied, untouched where there are none of them; --set only
    to the variants `chosen`. And of each swept variant its name, the name before, and the values."""
    if not given and not axes and seeds is None:
        return raw, []
    variants = raw.get("variants", [])
    if not isinstance(variants, list) or not all(isinstance(v, dict) for v in variants):
        return raw, []
    settings = sections_of(given)
    top = {key: value for key, value in given.items() if key in (*TOP_SECTIONS, *TOP_KEYS)}
    if settings or axes:
        raw = materialise(raw)
        raw["variants"] = [
            v | overlay(sections_of(v), settings) if chosen is None or v.get("name") in chosen else v
            for v in raw["variants"]
        ]
    raw = overlay(raw, top)
    if seeds is not None or "seeds" in top:
        raw = {key: value for key, value in raw.items() if key != "seed"}
    elif "seed" in top:
        raw = {key: value for key, value in raw.items() if key != "seeds"}
    if seeds is not None:
        raw["seeds"] = list(seeds)
    raw = _narrowed(raw, {*_flat_keys(settings), *axes})
    return expand(raw, axes) if axes else (raw, [])


def _flat_keys(table: Table, prefix: str = "") -> list[str]:
    keys = []
    for key, value in table.items():
        keys += _flat_keys(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
    return keys


def _narrowed(raw: Table, decided: set[str]) -> Table:
    """[tune] without the settings that the command line decides; no [tune] where nothing is left to try."""
    tune = raw.get("tune")
    if not isinstance(tune, dict) or not decided & set(tune):
        return raw
    left = {key: value for key, value in tune.items() if key not in decided}
    rest = {key: value for key, value in raw.items() if key != "tune"}
    return rest | {"tune": left} if any("." in key for key in left) else rest


def _wanted(
    raw: Table, wanted: Sequence[str], swept: list[tuple[str, str, Table]], faults: list[str]
) -> tuple[str, ...] | None:
    """Names of the variants asked for (a name before the sweep means all of it); None for all."""
    if not wanted:
        return None
    names = [name for v in raw_variants(raw) if isinstance(name := v.get("name"), str)]
    picked: list[str] = []
    for want in wanted:
        hits = [n for n in names if n == want] or [new for new, old, _ in swept if old == want]
        if not hits:
            faults.append(f"--variant {quoted(want)}: no such variant; {did_you_mean(want, names)}")
        picked += hits
    return tuple(picked)


def _planned(
    raw: Table,
    document: Document,
    study: str,
    chosen: tuple[str, ...],
    extra: Mapping[str, Sequence[Table]] | None = None,
) -> StudyPlan:
    preset = checked(raw, document, chosen)
    runs = _runs(preset, study, chosen)
    return StudyPlan(
        study=study,
        preset=preset,
        runs=runs,
        tune=_tune_plan(raw, document, study, chosen, preset, extra) if preset.tune is not None and runs else None,
        text=document.text,
        warnings=preset.warnings,
        _raw=raw,
        _document=document,
        _chosen=chosen,
    )


def _tune_plan(
    raw: Table,
    document: Document,
    study: str,
    chosen: tuple[str, ...],
    preset: Preset,
    extra: Mapping[str, Sequence[Table]] | None,
) -> TunePlan:
    head = check_head(raw)
    assert head.tune is not None
    tables, origin, planned = tune_tables(raw, head, extra)
    name = f"{study}.tune"
    wanted = [new for new in planned if origin[new][0] in chosen]
    aims = tune_purposes(preset)
    for variant in tables["variants"]:
        if until := _until(aims.get(origin[variant["name"]][0], ())):
            variant["train"] = variant.get("train", {}) | {"until": until}
    names = with_needs(tables, wanted)
    tries_preset = checked(tables, document, names)
    tries = [Try(run, *origin[run.config.variant]) for run in _runs(tries_preset, name, names)]
    return TunePlan(name, head.tune.grid, aims, tuple(tries))


def tune_purposes(preset: Preset) -> dict[str, tuple[Purpose, ...]]:
    """Variant -> what the settings of its tries are chosen for."""
    groups = {variant.name: _loss_group(variant.settings) for variant in preset.variants}
    baseline = preset.compare.baseline or next(iter(groups), None)
    claims = preset.reporting.claims or implied_claims(groups, baseline)
    by = preset.tune.by if preset.tune is not None else CLAIMS
    return purposes(claims, preset.compare.levels, baseline, by, groups)


def _loss_group(settings: Settings) -> tuple[Any, ...]:
    """What must be equal where losses are compared (loss_group of a run's record)."""
    target = settings.target
    keys = ["method", "loss", "within", "within_weight", "teacher_weight", "temperature"]
    keys += ["radius", "cluster_radius", "weights"] if target.loss in ("distance", "cosine+distance") else []
    return tuple(getattr(target, key) for key in keys)


def _until(aims: tuple[Purpose, ...]) -> dict[str, float]:
    """Where a try may end that is only judged by levels: at the hardest one of each metric."""
    if not all(aim.levels for aim in aims):
        return {}
    hardest: dict[str, float] = {}
    for aim in aims:
        for metric, level in aim.levels:
            hardest.setdefault(metric, level)
    return hardest


def _runs(preset: Preset, study: str, chosen: tuple[str, ...]) -> tuple[RunPlan, ...]:
    runs = []
    for variant in preset.variants:
        if variant.name not in chosen:
            continue
        for seed in preset.seeds:
            config = RunConfig(
                **_referred(variant.settings, study, seed),
                study=study,
                variant=variant.name,
                label=variant.label,
                seed=seed,
                title=preset.title,
                source=preset.source,
                claim=preset.claim,
                compare=preset.compare,
                provenance=preset.provenance,
            )
            needs = tuple(run_id(study, need, seed) for need in variant.needs)
            runs.append(RunPlan(config.run_id, config, needs))
    return tuple(runs)


def _referred(settings: Settings, study: str, seed: int) -> dict[str, Any]:
    """The sections with `@name` replaced by the id of that variant's run of the same study and seed."""
    parts = {name: getattr(settings, name) for name in type(settings).model_fields}
    for reference in references(settings):
        if reference.variant is None:
            continue
        ref = KEYS[reference.key] + run_id(study, reference.variant, seed)
        section, _, name = reference.key.rpartition(".")
        if section:
            parts[section] = parts[section].model_copy(update={name: ref})
        else:
            parts[name] = ref
    return parts


def _with(variant: Table, values: Mapping[str, Any]) -> Table:
    top: Table = {}
    for key, value in values.items():
        top = overlay(top, nested(key, value))
    return variant | overlay(sections_of(variant), top)


def _without(raw: Table, gone: set[str]) -> Table:
    """The preset without some variants and what it says of them."""
    if not gone:
        return raw
    left = raw | {"variants": [v for v in raw_variants(raw) if v.get("name") not in gone]}
    if lookup(raw, "compare.baseline") in gone:
        left["compare"] = {key: value for key, value in raw["compare"].items() if key != "baseline"}
    if isinstance(values := lookup(raw, "paper.values"), dict):
        left["paper"] = raw["paper"] | {"values": {key: value for key, value in values.items() if key not in gone}}
    if isinstance(claims := raw.get("claims"), list):
        left["claims"] = [claim for claim in claims if not gone & {claim.get("variant"), claim.get("against")}]
    return left
