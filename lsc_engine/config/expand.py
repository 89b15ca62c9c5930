"""From the tables of a preset file to the settings of every variant and every try, or to every mistake in it at once.

Each variant's tables are laid over those of the file and validated once; defaults.py fills in what other settings
decide.
"""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial, reduce
from itertools import product
from typing import Any

import tomli_w

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import name_fault, suggested_name
from lsc_engine.common.settings import Table, lookup, merge, nested, without
from lsc_engine.config.defaults import DefaultsResolver
from lsc_engine.config.preset import TOP_KEYS, Preset, PresetFile, Variant, name_issues, read_header
from lsc_engine.config.schema import (
    REFERENCES,
    SECTIONS,
    TAGS,
    Settings,
    Ssl,
    Tune,
    meta_of,
    references,
    settings_fields,
)
from lsc_engine.config.tuning import tune_purposes
from lsc_engine.config.validation_errors import ValidationIssue, not_a_table, unknown, validate_settings

VARIANT_KEYS = ("name", "label", "needs", "start_from", *SECTIONS)


@dataclass
class VariantDraft:
    """One variant on its way: its merged tables, those of its own, what it needs, and the mistakes found so far."""

    name: str
    label: str
    needs: tuple[str, ...]
    table: Table
    own: Table
    issues: list[ValidationIssue] = field(default_factory=list)
    warnings: list[ValidationIssue] = field(default_factory=list)
    settings: Settings | None = None


def build(
    file: PresetFile,
    *,
    only: Collection[str] | None = None,
    record: bool = False,
    extra: Mapping[str, Sequence[Table]] | None = None,
) -> tuple[Preset | None, tuple[ValidationIssue, ...], tuple[ValidationIssue, ...]]:
    """A preset with all variants and tries resolved (None if it has mistakes), its mistakes and its warnings.

    `only` names the variants that will run, what they need included: mistakes of others do not count, and a variant
    that has any is not in the preset. Of the `record` of a run its data are not looked for: they may have changed, or
    be gone. `extra`: variant -> points that the grid of [tune] grew to.
    """
    raw = file.raw
    issues = unprintable(raw)
    issues += [ValidationIssue(quoted(k), unknown(k, TOP_KEYS)) for k in raw if k not in (*TOP_KEYS, *VARIANT_KEYS)]
    misplaced = [key for key in raw if key in VARIANT_KEYS and key not in TOP_KEYS]
    issues += [ValidationIssue(key, "belongs into a [[variants]] table") for key in misplaced]
    header, found = read_header(file)
    base = sections_of(raw)
    issues += [not_a_table(name, raw[name]) for name in SECTIONS if name in raw and name not in base]
    issues += validate_settings(switched_off(base), complete=False)[1] + found
    training = header.kind == "train"
    drafts, wanted, found = _resolved(raw, issues, only, training=training, record=record)
    if training:
        found += _unmeasured(header, wanted)
    issues += [f for f in found if only is None or f.variant is None or f.variant in only]
    warnings = tuple(_collected([d.warnings for d in wanted], wanted, named="variants" in raw))
    names, baseline = [draft.name for draft in drafts], header.compare.baseline
    issues += name_issues(header.reporting, header.kind, names)
    # The baseline of a run's own record is a variant of the study it is from.
    if training and baseline is not None and header.record is None and baseline not in names:
        sentence = f"no variant {quoted(baseline)}; {did_you_mean(baseline, names)}"
        issues.append(ValidationIssue("compare.baseline", sentence))
    preset = replace(header, warnings=tuple(warning.sentence(header.path) for warning in warnings))
    if training and not issues:
        preset = replace(preset, variants=_variants_of(drafts))
        if preset.tune is not None:
            preset, found = _with_tries(raw, preset, preset.tune, only, extra or {})
            issues = [ValidationIssue(f.key, f"in a try of [tune]: {f.message}", f.variant) for f in found]
    return None if issues else preset, tuple(dict.fromkeys(issues)), warnings


def sections_of(raw: Table) -> Table:
    """The settings of a file or a variant: the sections that are tables, and start_from."""
    tables = {name: raw[name] for name in SECTIONS if isinstance(raw.get(name), dict)}
    return tables | ({"start_from": raw["start_from"]} if "start_from" in raw else {})


def raw_variants(raw: Table) -> list[Table]:
    """The [[variants]] tables, or the one variant `default` (with a run's own label)."""
    given = raw.get("variants")
    if isinstance(given, list) and given:
        return [v for v in given if isinstance(v, dict)]
    label = lookup(raw, "run.label")
    return [{"name": "default"} | ({"label": label} if isinstance(label, str) else {})]


def with_settings(variant: Table, top: Table) -> Table:
    """A variant with further settings laid over its own."""
    return variant | overlay(sections_of(variant), top)


def materialise(raw: Table) -> Table:
    """The same preset with the file's settings written into every variant.

    A run's record loses its [run] and the baseline, which is a variant of the study that it came from; and levels that
    only the others of that study can reach.
    """
    base = sections_of(raw)
    rest = {key: value for key, value in raw.items() if key not in SECTIONS and key not in ("start_from", "run")}
    if "run" in raw and isinstance(raw.get("compare"), dict):
        foreign = ("baseline", "levels") if lookup(base, "target.method") == "ssl" else ("baseline",)
        rest["compare"] = {key: value for key, value in raw["compare"].items() if key not in foreign}
    return rest | {"variants": [variant | overlay(base, sections_of(variant)) for variant in raw_variants(raw)]}


def combinations(axes: Mapping[str, Sequence[Any]]) -> list[tuple[str, Table]]:
    """Every combination of the values of several settings: the suffix of its name, such as "+lr=0.001", and dotted
    key -> value. UsageError where two of them would have one name."""
    short = [key.rsplit(".", 1)[-1] for key in axes]
    labels = [name if short.count(name) == 1 else key for key, name in zip(axes, short, strict=True)]
    found = []
    for values in product(*axes.values()):
        words = (_name_part(value) or "none" for value in values)
        suffix = "".join(f"+{label}={word}" for label, word in zip(labels, words, strict=True))
        found.append((suffix, dict(zip(axes, values, strict=True))))
    names = [suffix for suffix, _ in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(*(f"two tries would be called {quoted(name)}: a value is given twice" for name in twice))
    return found


def _name_part(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(map(_name_part, value))
    if isinstance(value, int | float):
        # With its minus.
        return str(value).lower()
    return suggested_name(str(value))


def unflatten(flat: Mapping[str, Any]) -> Table:
    """Dotted key -> value as nested tables."""
    return reduce(merge, (nested(key, value) for key, value in flat.items()), {})


def at_point(variant: Table, suffix: str, values: Mapping[str, Any]) -> Table:
    """A variant with further values (dotted key -> value), its name and label extended by `suffix`."""
    name = str(variant.get("name", ""))
    label = str(variant.get("label", name)) + suffix.replace("+", " ")
    return with_settings(variant, unflatten(values)) | {"name": f"{name}{suffix}", "label": label}


def sweep(raw: Table, axes: Mapping[str, Sequence[Any]]) -> tuple[Table, dict[str, tuple[str, Table]]]:
    """Every variant of a materialised preset at every combination of values, named `base+lr=0.001`.

    References by @ and `needs` follow within one combination; a baseline becomes its first one. What the preset says
    for its report is about the variants as they were, and left out. Returns the preset and, by the name of each new
    variant, the name of the old one and the values.
    """
    variants: list[Table] = []
    origin: dict[str, tuple[str, Table]] = {}
    points = combinations(axes)
    for suffix, values in points:
        for variant in raw_variants(raw):
            variants.append(_renamed(at_point(variant, suffix, values), ("{}" + suffix).format))
            origin[variants[-1]["name"]] = (str(variant.get("name", "")), values)
    result = {key: value for key, value in raw.items() if key not in ("paper", "claims")} | {"variants": variants}
    baseline = lookup(raw, "compare.baseline")
    if isinstance(baseline, str) and points:
        result = merge(result, nested("compare.baseline", f"{baseline}{points[0][0]}"))
    return result, origin


def _renamed(variant: Table, rename: Callable[[str], str]) -> Table:
    """A variant whose `needs` and references by @ are to variants of other names."""
    result = dict(variant)
    needs = variant.get("needs")
    if isinstance(needs, str):
        result["needs"] = rename(needs)
    elif isinstance(needs, list):
        result["needs"] = [rename(str(need)) for need in needs]
    for reference in references(partial(lookup, variant)):
        if reference.variant is not None:
            value = f"{REFERENCES[reference.key]}@{rename(reference.variant)}"
            result = merge(result, nested(reference.key, value))
    return result


def overlay(base: Table, top: Table) -> Table:
    """`base` with `top` laid over it, table by table. Settings that hang on one that changes are left behind: a variant
    with cross-entropy in a preset of vectors has no system."""
    for key, dependents in _resets().items():
        new, old = lookup(top, key), lookup(base, key)
        if new is None or old is None or new == old:
            continue
        for dependent in dependents:
            base = without(base, dependent)
        if key == "target.method" and new in ("ce", "ssl") and lookup(base, "model.dim") == "min":
            base = without(base, "model.dim")
    return merge(base, top)


@cache
def _resets() -> dict[str, list[str]]:
    """Dotted key -> the settings that a change of it leaves behind."""
    resets: dict[str, list[str]] = {f"{section}.{tag}": [] for section, tag in TAGS.items()}
    for key, info in settings_fields():
        section, name = key.split(".")
        if section in TAGS and not all(name in model.model_fields for model in SECTIONS[section]):
            resets[f"{section}.{TAGS[section]}"].append(key)
        if by := meta_of(info).reset_by:
            resets.setdefault(by, []).append(key)
    return resets


def switched_off(table: Table) -> Table:
    """`table` without the settings that are "none" in it, which is how a variant switches one of the preset's off."""
    for key in (key for key, info in settings_fields() if meta_of(info).off):
        if lookup(table, key) == "none":
            table = without(table, key)
            for dependent in ("etf_frame", "etf_threshold", "etf_patience") if key == "model.etf_layers" else ():
                table = without(table, f"model.{dependent}")
    return table


def draft_variants(raw: Table) -> list[VariantDraft]:
    """Every variant with its tables laid over the file's."""
    base = sections_of(raw)
    drafts = []
    for number, table in enumerate(raw_variants(raw), 1):
        own = sections_of(table)
        merged = switched_off(overlay(base, own))
        given = table.get("needs", [])
        listed = [given] if isinstance(given, str) else given if isinstance(given, list) else []
        needs = [
            name
            for name in (*listed, *(r.variant for r in references(partial(lookup, merged))))
            if isinstance(name, str)
        ]
        name = table["name"] if isinstance(table.get("name"), str) else f"number {number}"
        drafts.append(VariantDraft(name, str(table.get("label", name)), tuple(dict.fromkeys(needs)), merged, own))
    return drafts


def with_needs(raw: Table, names: Iterable[str]) -> tuple[str, ...]:
    """`names` and the variants that they need, in the order of the preset."""
    drafts = draft_variants(raw)
    chosen: set[str] = set()
    queue = list(names)
    while queue:
        if (name := queue.pop()) not in chosen:
            chosen.add(name)
            queue += [need for draft in drafts if draft.name == name for need in draft.needs]
    return tuple(draft.name for draft in drafts if draft.name in chosen)


def _resolved(
    raw: Table, known: list[ValidationIssue], only: Collection[str] | None, *, training: bool, record: bool = False
) -> tuple[list[VariantDraft], list[VariantDraft], list[ValidationIssue]]:
    """All variants, those that are wanted, and their mistakes; `known` ones are not repeated."""
    given = raw.get("variants", [])
    if not isinstance(given, list) or not all(isinstance(v, dict) for v in given):
        return [], [], [ValidationIssue("variants", "a list of tables is needed: write [[variants]] before each")]
    drafts = draft_variants(raw)
    wanted = [d for d in drafts if only is None or d.name in only]
    names: list[str] = []
    issues: list[ValidationIssue] = []
    for table, draft in zip(raw_variants(raw), drafts, strict=True):
        issues += _name_issues(table, draft.name, names)
        names.append(draft.name)
        draft.settings, found = validate_settings(draft.table, complete=training)
        # A mistake in the file's own table is reported once, not for each variant.
        draft.issues += [f for f in found if f not in known or lookup(draft.own, f.key) is not None]
    if training:
        issues += _reference_issues(drafts)
        settings: dict[str, Settings] = {}
        done, waiting = _ordered(drafts)
        for draft in (*done, *waiting):
            if draft.settings is None:
                continue
            result = DefaultsResolver(draft.settings, settings, record=record)
            draft.issues, draft.settings = draft.issues + result.issues, result.settings
            draft.warnings += result.warnings
            if result.settings is not None:
                settings[draft.name] = result.settings
        measured = {r.variant for found in settings.values() for r in found.references if r.of_means}
        for draft in drafts:
            if draft.settings is not None and draft.name in measured:
                draft.settings = draft.settings.with_values({"eval.class_means": True})
        issues += _identical(wanted)
    return drafts, wanted, issues + _collected([d.issues for d in wanted], wanted, named="variants" in raw)


def _ordered(drafts: list[VariantDraft]) -> tuple[list[VariantDraft], list[VariantDraft]]:
    """Drafts with what they need before them, and those that wait for each other."""
    done: list[VariantDraft] = []
    waiting = list(drafts)
    while ready := [d for d in waiting if set(d.needs) <= {e.name for e in done}]:
        done.append(ready[0])
        waiting.remove(ready[0])
    return done, waiting


def _variants_of(drafts: list[VariantDraft]) -> tuple[Variant, ...]:
    """The variants that the drafts became, each after those that it needs."""
    return tuple(Variant(d.name, d.label, d.needs, d.settings) for d in _ordered(drafts)[0] if d.settings is not None)


def _with_tries(
    raw: Table, preset: Preset, tune: Tune, only: Collection[str] | None, extra: Mapping[str, Sequence[Table]]
) -> tuple[Preset, list[ValidationIssue]]:
    """The preset with the tries of [tune]: every variant at every point, for the tries' duration and seed; the points
    that the grid of a variant grew to (`extra`) beside those of the preset.

    What a try needs is the same for all rates: of each variant that it builds on the try with the preset's own value,
    or the middle one of the grid. Otherwise a rate at which that one learns nothing would look best here. Values of
    other tables than [optimizer] and [train] follow, since shapes and data have to be the same. A try that is judged by
    levels alone ends at the hardest one of each metric.
    """
    grid = tune.grid
    more = [point for points in extra.values() for point in points]
    axes = {
        key: (*values, *(v for v in dict.fromkeys(point[key] for point in more) if v not in values))
        for key, values in grid.items()
    }
    try:
        tables, origin = sweep(materialise(raw), axes)
    except UsageError as error:
        return preset, [ValidationIssue("tune", sentence) for sentence in error.faults]
    names = {(old, repr(values)): new for new, (old, values) in origin.items()}
    settings = {one.name: one.settings for one in preset.variants}
    purposes = tune_purposes(preset)

    def fixed(name: str) -> str:
        if name not in origin:
            return name
        old, values = origin[name]
        point = dict(values)
        for key in grid:
            if key.startswith(("optimizer.", "train.")) and old in settings:
                own = settings[old].value(key)
                point[key] = own if own in grid[key] else grid[key][len(grid[key]) // 2]
        return names[old, repr(point)]

    for number, variant in enumerate(tables["variants"]):
        own = purposes.get(origin[variant["name"]][0], ())
        until: dict[str, float] = {}
        for metric, level in (pair for purpose in own for pair in purpose.levels):
            until.setdefault(metric, level)
        short = nested("train.duration", tune.duration) if tune.duration else {}
        if until and all(purpose.levels for purpose in own):
            short = merge(short, nested("train.until", until))
        tables["variants"][number] = with_settings(_renamed(variant, fixed), short)
    wanted = [
        new
        for new, (old, values) in origin.items()
        if (only is None or old in only)
        and (all(values[key] in grid[key] for key in grid) or values in extra.get(old, ()))
    ]
    needed = with_needs(tables, wanted)
    drafts, _, issues = _resolved(tables, [], needed, training=True)
    tries = (replace(one, origin=origin[one.name]) for one in _variants_of(drafts) if one.name in needed)
    preset = replace(preset, tries=tuple(tries), tries_baseline=lookup(tables, "compare.baseline"))
    return preset, [f for f in issues if f.variant is None or f.variant in needed]


def unprintable(value: Any, key: str = "") -> list[ValidationIssue]:
    """An issue for every text with control characters in it: no file may send any to a terminal."""
    if isinstance(value, dict):
        bad = [
            ValidationIssue(key, f"the key {quoted(k)} holds a control character") for k in value if not _printable(k)
        ]
        return bad + [f for k, v in value.items() for f in unprintable(v, f"{key}.{k}" if key else str(k))]
    if isinstance(value, list):
        return [f for item in value for f in unprintable(item, key)]
    if isinstance(value, str) and not _printable(value):
        what = "is not UTF-8 text" if any("\ud800" <= c <= "\udfff" for c in value) else "holds a control character"
        clean = "".join(c if c.isprintable() else "?" for c in key)
        return [ValidationIssue(clean, f"{quoted(value)} {what}")]
    return []


def _printable(text: str) -> bool:
    return text.isprintable() or all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


def _name_issues(table: Table, place: str, before: list[str]) -> list[ValidationIssue]:
    """Mistakes in the keys of a variant beside its settings."""
    found = {quoted(key): unknown(key, VARIANT_KEYS) for key in table if key not in VARIANT_KEYS}
    for key in ("name", "label"):
        if key in table and not isinstance(table[key], str):
            found[key] = f"a text in quotes is needed, not {quoted(table[key])}"
    if "name" not in table:
        found["name"] = "is required"
    elif isinstance(table["name"], str):
        fault = name_fault(place) or ("two variants have this name" if place in before else None)
        found |= {"name": fault} if fault else {}
    needs = table.get("needs", [])
    if not isinstance(needs, str) and not (isinstance(needs, list) and all(isinstance(n, str) for n in needs)):
        found["needs"] = "the name of a variant is needed, or a list of names"
    issues = [ValidationIssue(key, message, place) for key, message in found.items()]
    for name in SECTIONS:
        if name in table and not isinstance(table[name], dict):
            issues.append(ValidationIssue(name, f"a table is needed, not {quoted(table[name])}", place))
    return issues


def _reference_issues(drafts: list[VariantDraft]) -> list[ValidationIssue]:
    names = [d.name for d in drafts]
    issues = []
    for draft in drafts:
        for need in draft.needs:
            if need == draft.name:
                issues.append(ValidationIssue("needs", "a variant cannot need itself", draft.name))
            elif need not in names:
                sentence = f"no variant {quoted(need)}; {did_you_mean(need, names)}"
                issues.append(ValidationIssue("needs", sentence, draft.name))
    if not issues and (circle := [d.name for d in _ordered(drafts)[1]]):
        sentence = f"variants wait for each other: {', '.join(circle)}"
        issues.append(ValidationIssue("needs", sentence, circle[0]))
    return issues


def _identical(drafts: list[VariantDraft]) -> list[ValidationIssue]:
    """Variants that compute what another one does; settings that decide nothing beside the others do not count."""
    issues = []
    seen: list[tuple[Settings, str]] = []
    for name, settings in ((draft.name, draft.settings) for draft in drafts if draft.settings is not None):
        idle: Table = {"eval.class_means": False, "eval.embeddings": "auto"}
        idle |= {"data.augment_per": "image"} if settings.data.augment == "none" else {}
        idle |= {"model.width": 1.0} if settings.model.name.startswith(("vit-", "timm:")) else {}
        computed = settings.with_values(idle)
        if (twin := next((other for known, other in seen if known == computed), None)) is not None:
            sentence = f'does exactly what variant "{twin}" does; change a setting'
            issues.append(ValidationIssue("name", sentence, name))
        seen.append((computed, name))
    return issues


def _unmeasured(header: Preset, drafts: list[VariantDraft]) -> list[ValidationIssue]:
    """Tries that are judged, or levels that are read, on validation images where no image of a class is left; or on
    labels, where nothing learns any."""
    resolved = [d.settings for d in drafts if d.settings is not None]
    learnt = [s for s in resolved if not isinstance(s.target, Ssl)]
    # A run's record keeps the levels of its study, whose other variants reach them.
    complete = bool(drafts) and header.record is None and len(resolved) == len(drafts)
    if complete and header.compare.levels and not learnt:
        sentence = "self-supervision (ssl) learns no labels and reaches no level; leave them out"
        return [ValidationIssue("compare.levels", sentence)]
    if complete and header.tune is not None and header.tune.by == "val/loss" and len(learnt) < len(drafts):
        sentence = 'self-supervision (ssl) has no loss on validation images; take "train/accuracy"'
        return [ValidationIssue("tune.by", sentence)]
    blind = [d for d in drafts if d.settings is not None and d.settings.data.labels == "unique"]
    if not blind:
        return []
    words = "unique labels have no validation images"
    for metric in header.compare.levels:
        if metric.startswith("val/") and len(blind) == len(drafts):
            key = f"compare.levels.{quoted(metric)}"
            blind[0].warnings.append(ValidationIssue(key, f"is never reached: {words}"))
    if header.tune is None or not header.tune.by.startswith("val/"):
        return []
    return [ValidationIssue("tune.by", f'{words}; take "train/accuracy"')]


def _collected(lists: list[list[ValidationIssue]], drafts: list[VariantDraft], *, named: bool) -> list[ValidationIssue]:
    """Issues of the variants; one that all of them share is reported once, for the file."""
    shared = [f for f in lists[0] if all(f in other for other in lists[1:])] if lists else []
    if named and len(lists) == 1:
        shared = []
    result = list(shared)
    for draft, found in zip(drafts, lists, strict=True):
        result += [ValidationIssue(f.key, f.message, draft.name) for f in found if f not in shared]
    return result


def join_presets(kept: Table, text: str, chosen: Collection[str], begun: Callable[[str], bool]) -> str:
    """The TOML `text` of a preset, with what it lacks of `kept`: its seeds, and the variants that were `begun`.

    Of a variant that both have, the settings are those of `text` if it is among the `chosen`, or nothing was begun of
    it; else those that it was begun with. `text` itself where it lacks nothing.
    """
    fresh = tomllib.loads(text)
    seeds = list(dict.fromkeys([*_seeds(kept), *_seeds(fresh)]))
    before, now = _variants(kept), _variants(fresh)
    left = {name for name, table in before.items() if name not in chosen and table != now.get(name) and begun(name)}
    tune = {"tune": kept["tune"]} if "tune" in kept and "tune" not in fresh else {}
    if not left and not tune and set(seeds) <= set(_seeds(fresh)):
        return text
    raw = fresh
    if left:
        names = list(now) if before.keys() <= now.keys() else [*before, *(name for name in now if name not in before)]
        tables = {name: before[name] if name in left else now.get(name) for name in names}
        raw = materialise(fresh) | {"variants": [table for table in tables.values() if table is not None]}
    raw = {key: value for key, value in raw.items() if key not in ("seed", "seeds")}
    return tomli_w.dumps(raw | tune | {"seeds": seeds})


def _seeds(raw: Table) -> list[Any]:
    seeds = raw.get("seeds", [raw.get("seed", 0)])
    return seeds if isinstance(seeds, list) else []


def _variants(raw: Table) -> dict[str, Table]:
    """Every variant with all of its settings, by name."""
    return {str(table.get("name")): table for table in materialise(raw)["variants"]}
