"""From the tables of a preset file to a Preset, or to every fault in it at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import name_fault
from lsc_engine.config.faults import Fault, unknown, validated
from lsc_engine.config.head import Head, check_head
from lsc_engine.config.merge import Table, combinations, lookup, nested, overlay
from lsc_engine.config.references import references
from lsc_engine.config.reporting import REPORT_TABLES
from lsc_engine.config.resolve import resolve
from lsc_engine.config.schema import Preset, Settings, Variant
from lsc_engine.config.sections import SECTIONS, Section
from lsc_engine.errors import UsageError, did_you_mean

VARIANT_KEYS = ("name", "label", "needs", "start_from", *SECTIONS)
TOP = ("title", "source", "claim", "kind", "seed", "seeds", "start_from", "run", "compare", "provenance", "tune")
TOP_KEYS = (*TOP, *REPORT_TABLES, *SECTIONS, "variants")


@dataclass
class Draft:
    """One variant on its way: its merged tables, what it needs, and the faults found so far."""

    name: str
    label: str
    needs: tuple[str, ...]
    start_from: str | None
    tables: Table
    own: Table
    parts: dict[str, Section] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    settings: Settings | None = None


@dataclass
class Built:
    """A preset (None where there are faults), its faults and its warnings."""

    preset: Preset | None
    faults: list[Fault]
    warnings: list[Fault]


def build(
    raw: Table, *, file: str, name: str, text: str = "", only: Collection[str] | None = None, record: bool = False,
) -> Built:  # fmt: skip
    """Check and resolve the tables of one preset file, all variants and tries included.

    `only` names the variants that will run, what they need included: faults of others do not count, and a variant that
    has any is not in the preset. Of the `record` of a run its data are not looked for: they may have changed, or be
    gone.
    """
    faults = unprintable(raw)
    faults += [Fault(quoted(k), unknown(k, TOP_KEYS)) for k in raw if k not in TOP_KEYS and k not in VARIANT_KEYS]
    faults += [Fault(k, "belongs into a [[variants]] table") for k in raw if k in VARIANT_KEYS and k not in TOP_KEYS]
    base = sections_of(raw)
    faults += _base_faults(raw, base)
    head = check_head(raw)
    faults += head.faults
    training = head.kind == "train"
    drafts, found = draft_variants(raw, base)
    wanted = [d for d in drafts if only is None or d.name in only]
    _validate(drafts, faults, required=training)
    if training:
        found += _references(drafts)
        _resolve(drafts, record)
        found += _identical(wanted) + _without_validation(head, wanted)
    faults += [f for f in found if only is None or f.variant is None or f.variant in only]
    faults += _collected([d.faults for d in wanted], wanted, named="variants" in raw)
    warnings = _collected([d.warnings for d in wanted], wanted, named="variants" in raw)
    faults += head.check_names([d.name for d in drafts], record="run" in raw)
    if training and not faults:
        faults += _try_faults(raw, head, file, name, only)
    if faults:
        return Built(None, list(dict.fromkeys(faults)), warnings)
    preset = _assemble(head, drafts if training else [], file, name, text, warnings)
    return Built(preset, [], warnings)


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


def expand(raw: Table, axes: Mapping[str, tuple[Any, ...]]) -> tuple[Table, list[tuple[str, str, Table]]]:
    """Every variant of a materialised preset at every combination of values, named `base+lr=0.001`.

    References by @ and `needs` follow within one combination; a baseline becomes its first one. What the preset says
    for its report is about the variants as they were, and left out. Returns the preset and (new name, name before,
    values) of each variant.
    """
    variants, origin = [], []
    made = combinations(axes.items())
    for suffix, table, values in made:
        for variant in raw_variants(raw):
            new = _referring(variant | overlay(sections_of(variant), table), suffix)
            label = str(variant.get("label", variant.get("name", "")))
            new |= {"name": f"{variant.get('name', '')}{suffix}", "label": label + suffix.replace("+", " ")}
            variants.append(new)
            origin.append((new["name"], str(variant.get("name", "")), values))
    result = {key: value for key, value in raw.items() if key not in ("paper", "claims")} | {"variants": variants}
    baseline = lookup(raw, "compare.baseline")
    if isinstance(baseline, str) and made:
        result = overlay(result, nested("compare.baseline", f"{baseline}{made[0][0]}"))
    return result, origin


def _referring(variant: Table, suffix: str) -> Table:
    result = dict(variant)
    needs = variant.get("needs")
    if isinstance(needs, str):
        result["needs"] = f"{needs}{suffix}"
    elif isinstance(needs, list):
        result["needs"] = [f"{need}{suffix}" for need in needs]
    for reference in references(variant):
        if reference.variant is not None:
            result = overlay(result, nested(reference.key, f"{reference.value}{suffix}"))
    return result


def unprintable(value: Any, key: str = "") -> list[Fault]:
    """A fault for every text with control characters in it: no file may send any to a terminal."""
    if isinstance(value, dict):
        bad = [Fault(key, f"the key {quoted(k)} holds a control character") for k in value if not _printable(k)]
        return bad + [f for k, v in value.items() for f in unprintable(v, f"{key}.{k}" if key else str(k))]
    if isinstance(value, list):
        return [f for item in value for f in unprintable(item, key)]
    if isinstance(value, str) and not _printable(value):
        what = "is not UTF-8 text" if any("\ud800" <= c <= "\udfff" for c in value) else "holds a control character"
        return [Fault(_clean(key), f"{quoted(value)} {what}")]
    return []


def _printable(text: str) -> bool:
    return text.isprintable() or all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


def _clean(key: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in key)


def _base_faults(raw: Table, base: Table) -> list[Fault]:
    faults = [Fault(n, f"a table is needed, not {quoted(raw[n])}") for n in SECTIONS if n in raw and n not in base]
    for name, model in SECTIONS.items():
        if name in base:
            _, found = validated(model, base[name], name, required=False)
            faults += found
    return faults


class _Names(Section):
    """The keys of a variant beside its settings."""

    name: str
    label: str | None = None
    start_from: str | None = Field(default=None, min_length=1)


def draft_variants(raw: Table, base: Table) -> tuple[list[Draft], list[Fault]]:
    """Every variant with its tables laid over the file's, and the faults of names, labels and needs."""
    given = raw.get("variants", [])
    faults: list[Fault] = []
    if not isinstance(given, list) or not all(isinstance(v, dict) for v in given):
        return [], [Fault("variants", "a list of tables is needed: write [[variants]] before each")]
    drafts: list[Draft] = []
    for number, table in enumerate(raw_variants(raw), 1):
        place = table["name"] if isinstance(table.get("name"), str) else f"number {number}"
        found = _name_faults(table, place, [d.name for d in drafts])
        faults += found
        own = sections_of(table)
        merged = overlay(base, own)
        referred = [reference.variant for reference in references(merged)]
        start = merged.pop("start_from", None)
        drafts.append(
            Draft(
                name=place,
                label=str(table.get("label", place)),
                needs=_needs(table.get("needs"), referred),
                start_from=start if isinstance(start, str) else None,
                tables=merged,
                own=own,
            )
        )
    return drafts, faults


def _name_faults(table: Table, place: str, before: list[str]) -> list[Fault]:
    faults = [Fault(quoted(k), unknown(k, VARIANT_KEYS), place) for k in table if k not in VARIANT_KEYS]
    plain: Table = {key: table[key] for key in ("name", "label", "start_from") if key in table}
    _, found = validated(_Names, plain, "")
    faults += [Fault(f.key.strip(".") or "name", f.message, place) for f in found]
    if isinstance(table.get("name"), str):
        if (fault := name_fault(table["name"])) is not None:
            faults.append(Fault("name", fault, place))
        if place in before:
            faults.append(Fault("name", "two variants have this name", place))
    needs = table.get("needs", [])
    if not isinstance(needs, str) and not (isinstance(needs, list) and all(isinstance(n, str) for n in needs)):
        faults.append(Fault("needs", "the name of a variant is needed, or a list of names", place))
    for name in SECTIONS:
        if name in table and not isinstance(table[name], dict):
            faults.append(Fault(name, f"a table is needed, not {quoted(table[name])}", place))
    return faults


def _needs(given: Any, referred: Iterable[str | None]) -> tuple[str, ...]:
    listed = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    found = [name for name in (*listed, *referred) if isinstance(name, str)]
    return tuple(dict.fromkeys(found))


def _validate(drafts: list[Draft], known: list[Fault], *, required: bool) -> None:
    for draft in drafts:
        for name, model in SECTIONS.items():
            part, found = validated(model, draft.tables.get(name, {}), name, required=required)
            # A fault of the file's own table is told once, not for each variant.
            draft.faults += [f for f in found if f not in known or lookup(draft.own, f.key) is not None]
            if part is not None:
                draft.parts[name] = part


def _references(drafts: list[Draft]) -> list[Fault]:
    names = [d.name for d in drafts]
    faults = []
    for draft in drafts:
        for need in draft.needs:
            if need == draft.name:
                faults.append(Fault("needs", "a variant cannot need itself", draft.name))
            elif need not in names:
                faults.append(Fault("needs", f"no variant {quoted(need)}; {did_you_mean(need, names)}", draft.name))
    if not faults and (circle := [d.name for d in _ordered(drafts)[1]]):
        faults.append(Fault("needs", f"variants wait for each other: {', '.join(circle)}", circle[0]))
    return faults


def with_needs(raw: Table, names: Iterable[str]) -> tuple[str, ...]:
    """`names` and the variants that they need, in the order of the preset."""
    drafts, _ = draft_variants(raw, sections_of(raw))
    chosen: set[str] = set()
    queue = list(names)
    while queue:
        if (name := queue.pop()) not in chosen:
            chosen.add(name)
            queue += [need for draft in drafts if draft.name == name for need in draft.needs]
    return tuple(draft.name for draft in drafts if draft.name in chosen)


def _ordered(drafts: list[Draft]) -> tuple[list[Draft], list[Draft]]:
    """Drafts with what they need before them, and those that wait for each other."""
    done: list[Draft] = []
    waiting = list(drafts)
    while ready := [d for d in waiting if set(d.needs) <= {e.name for e in done}]:
        done.append(ready[0])
        waiting.remove(ready[0])
    return done, waiting


def _resolve(drafts: list[Draft], record: bool) -> None:
    settings: dict[str, Settings] = {}
    done, waiting = _ordered(drafts)
    for draft in [*done, *waiting]:
        if len(draft.parts) < len(SECTIONS):
            continue
        result = resolve(draft.parts, draft.start_from, settings, record=record)
        draft.faults += result.faults
        draft.warnings += result.warnings
        draft.settings = result.settings
        if result.settings is not None:
            settings[draft.name] = result.settings
    measured = {r.variant for d in drafts if d.settings for r in references(d.settings) if r.of_means}
    for draft in drafts:
        if draft.settings is not None and draft.name in measured:
            evaluation = draft.settings.eval.model_copy(update={"class_means": True})
            draft.settings = draft.settings.model_copy(update={"eval": evaluation})


def _identical(drafts: list[Draft]) -> list[Fault]:
    faults = []
    seen: list[tuple[dict[str, Any], str]] = []
    for draft in drafts:
        if draft.settings is None:
            continue
        flat = draft.settings.flat()
        for key in ("eval.class_means", "eval.embeddings", *_without_effect(draft.settings)):
            flat.pop(key, None)
        twin = next((name for other, name in seen if other == flat), None)
        if twin is not None:
            faults.append(Fault("name", f'does exactly what variant "{twin}" does; change a setting', draft.name))
        seen.append((flat, draft.name))
    return faults


def _without_effect(settings: Settings) -> list[str]:
    """Keys that change nothing beside these settings."""
    keys = ["data.augment_per"] if settings.data.augment == "none" else []
    if settings.model.name.startswith(("vit-", "timm:")):
        keys.append("model.width")
    return keys


def _without_validation(head: Head, drafts: list[Draft]) -> list[Fault]:
    """Tries that are judged, or levels that are read, on validation images where no image of a class is left; or on
    labels, where nothing learns any."""
    learnt = [d for d in drafts if d.settings is not None and d.settings.target.method != "ssl"]
    # A run's record keeps the levels of its study, whose other variants reach them.
    resolved = bool(drafts) and head.record is None and all(d.settings is not None for d in drafts)
    if resolved and head.compare.levels and not learnt:
        return [Fault("compare.levels", "self-supervision (ssl) learns no labels and reaches no level; leave them out")]
    if resolved and head.tune is not None and head.tune.by == "val/loss" and len(learnt) < len(drafts):
        return [Fault("tune.by", 'self-supervision (ssl) has no loss on validation images; take "train/accuracy"')]
    blind = [d for d in drafts if d.settings is not None and d.settings.data.labels == "unique"]
    if not blind:
        return []
    words = "unique labels have no validation images"
    for metric in head.compare.levels:
        if metric.startswith("val/") and len(blind) == len(drafts):
            blind[0].warnings.append(Fault(f"compare.levels.{quoted(metric)}", f"is never reached: {words}"))
    if head.tune is None or not head.tune.by.startswith("val/"):
        return []
    return [Fault("tune.by", f'{words}; take "train/accuracy"')]


def _collected(lists: list[list[Fault]], drafts: list[Draft], *, named: bool) -> list[Fault]:
    """Faults of the variants; one that all of them share is told once, for the file."""
    shared = [f for f in lists[0] if all(f in other for other in lists[1:])] if lists else []
    if named and len(lists) == 1:
        shared = []
    result = list(shared)
    for draft, found in zip(drafts, lists, strict=True):
        result += [Fault(f.key, f.message, draft.name) for f in found if f not in shared]
    return result


def _try_faults(raw: Table, head: Head, file: str, name: str, only: Collection[str] | None) -> list[Fault]:
    """Faults of the tries that [tune] asks for, as faults of [tune]."""
    if head.tune is None:
        return []
    try:
        tries, origin, _ = tune_tables(raw, head)
    except UsageError as error:
        return [Fault("tune", sentence) for sentence in error.faults]
    tried = None if only is None else with_needs(tries, (new for new, (old, _) in origin.items() if old in only))
    found = build(tries, file=file, name=name, only=tried).faults
    return [Fault(f.key, f"in a try of [tune]: {f.message}", f.variant) for f in found]


def tune_tables(
    raw: Table, head: Head, extra: Mapping[str, Sequence[Table]] | None = None
) -> tuple[Table, dict[str, tuple[str, Table]], list[str]]:
    """The preset of the tries: every variant at every point, for the tries' duration and seed; the variant and the
    values of each by its name; and the names of those to train. `extra`: variant -> points that its grid grew to,
    beside those of [tune]."""
    assert head.tune is not None
    grid, extra = head.tune.grid, extra or {}
    more = [point for points in extra.values() for point in points]
    axes = {
        key: (*values, *(v for v in dict.fromkeys(point[key] for point in more) if v not in values))
        for key, values in grid.items()
    }
    tries, origin = expand(materialise(raw), axes)
    short = nested("train.duration", head.tune.duration) if head.tune.duration else {}
    tries["variants"] = [variant | overlay(sections_of(variant), short) for variant in tries["variants"]]
    for key in ("tune", "seeds"):
        tries.pop(key, None)
    planned = [
        new
        for new, old, values in origin
        if all(values[key] in grid[key] for key in grid) or values in extra.get(old, ())
    ]
    return tries | {"seed": head.tune.seed}, {new: (old, values) for new, old, values in origin}, planned


def _assemble(head: Head, drafts: list[Draft], file: str, name: str, text: str, warnings: list[Fault]) -> Preset:
    variants = [
        Variant(name=d.name, label=d.label, needs=d.needs, settings=d.settings)
        for d in _ordered(drafts)[0]
        if d.settings is not None
    ]
    words = head.words(name)
    return Preset(
        name=name,
        path=file,
        text=text,
        variants=tuple(variants),
        warnings=tuple(w.sentence(file) for w in warnings),
        **words,
    )
