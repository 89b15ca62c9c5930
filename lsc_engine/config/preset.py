"""The parts of a preset that no variant changes (title, kind, seeds, compare, provenance, tune), and a whole preset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field

from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import name_fault, study_fault
from lsc_engine.common.settings import Table, flatten, nested
from lsc_engine.config.catalogue import setting_keys
from lsc_engine.config.reporting import MARKS, REPORT_TABLES, Reporting, is_mark, read_reporting
from lsc_engine.config.schema import (
    KINDS,
    METRICS,
    SECTIONS,
    SEED_MAX,
    TAGS,
    Compare,
    RunConfig,
    Section,
    Settings,
    Tune,
)
from lsc_engine.config.typed import seeds_fault
from lsc_engine.config.validation_errors import ValidationIssue, not_a_table, unknown, validate, validate_settings
from lsc_engine.config.values import listed

Seed = Annotated[int, Field(ge=0, le=SEED_MAX)]
Part = TypeVar("Part", bound=Section)


class TopLevelKeys(Section):
    """The top-level keys of a preset that are no tables."""

    title: str | None = None
    source: str = ""
    claim: str = ""
    kind: Literal["train", "vectors", "data", "bench"] = "train"
    seed: Seed | None = None
    seeds: Annotated[tuple[Seed, ...] | None, BeforeValidator(listed)] = None


class Record(Section):
    """[run], written into a run's preset.toml: study, variant and label of the run where it was made."""

    study: str
    variant: str
    label: str


_OTHERS = ("start_from", "run", "compare", "provenance", "tune")
TOP_KEYS = (*TopLevelKeys.model_fields, *_OTHERS, *REPORT_TABLES, *SECTIONS, "variants")


@dataclass(frozen=True)
class Variant:
    """One variant of a preset, resolved. `needs` names the variants whose runs it takes something from."""

    name: str
    label: str
    needs: tuple[str, ...]
    settings: Settings


@dataclass(frozen=True)
class Preset:
    """A preset. `variants` is empty where `kind` is not "train"; `text` is the file as written; `record`: of a run's
    preset.toml, the run where it was written."""

    name: str
    path: str
    title: str
    source: str
    claim: str
    kind: str
    seeds: tuple[int, ...]
    compare: Compare
    provenance: dict[str, str]
    tune: Tune | None
    reporting: Reporting
    variants: tuple[Variant, ...] = ()
    warnings: tuple[str, ...] = ()
    text: str = ""
    record: Record | None = None

    def variant(self, name: str) -> Variant:
        """The variant called `name`. KeyError without one."""
        return {v.name: v for v in self.variants}[name]

    def run_config(self, settings: Settings, seed: int, *, study: str, variant: str, label: str) -> RunConfig:
        """The configuration of one run with these settings, which are not validated again."""
        own: dict[str, Any] = {key: getattr(self, key) for key in ("title", "source", "claim", "compare", "provenance")}
        names: dict[str, Any] = {"study": study, "variant": variant, "label": label, "seed": seed}
        return RunConfig.model_construct(**vars(settings), **names, **own)


def read_header(raw: Table, *, file: str, name: str, text: str = "") -> tuple[Preset, list[ValidationIssue]]:
    """Everything of a preset but its variants, and the mistakes in that."""
    issues: list[ValidationIssue] = []

    def issue(key: str, message: str) -> None:
        issues.append(ValidationIssue(key, message))

    def part(model: type[Part], name: str) -> Part | None:
        if name not in raw:
            return None
        found, mistakes = validate(model, raw[name], name)
        issues.extend(mistakes)
        return found

    known = {key: raw[key] for key in TopLevelKeys.model_fields if key in raw}
    top, found = validate(TopLevelKeys, known, "")
    issues += found
    if top is None:
        top = TopLevelKeys(kind=raw["kind"] if raw.get("kind") in KINDS else "train")
    if top.seed is not None and top.seeds is not None:
        issue("seeds", "stands for seed; give one of them")
    if top.seeds is not None and (fault := seeds_fault(top.seeds)):
        issue("seeds", fault)
    compare = part(Compare, "compare") or Compare()
    for metric, levels in compare.levels.items():
        key = f"compare.levels.{quoted(metric)}"
        if metric not in METRICS:
            issue(key, f"is not a metric with levels; {did_you_mean(metric, METRICS)}")
        elif not levels:
            issue(key, "needs at least one level")
        elif metric.endswith("accuracy") and not all(0 < level <= 1 for level in levels):
            issue(key, "an accuracy is above 0 and at most 1")
        elif metric.endswith("loss") and not all(level > 0 for level in levels):
            issue(key, "a loss is above 0")
    provenance = _provenance(raw.get("provenance", {}), issues)
    tune = _tune(raw["tune"], issues) if "tune" in raw else None
    reporting = read_reporting(raw, top.kind, issues)
    record = part(Record, "run")
    if record is not None:
        names = {"run.study": study_fault(record.study), "run.variant": name_fault(record.variant)}
        issues += [ValidationIssue(key, message) for key, message in names.items() if message]
    if "run" in raw and "variants" in raw:
        issue("run", "is the record of one run and does not go with [[variants]]; leave it out")
    title = top.title if top.title is not None else name.rsplit("/", 1)[-1]
    seeds = top.seeds or (top.seed if top.seed is not None else 0,)
    about = (name, file, title, top.source, top.claim, top.kind, seeds, compare, provenance, tune, reporting)
    return Preset(*about, text=text, record=record), issues


def _provenance(table: Any, issues: list[ValidationIssue]) -> dict[str, str]:
    if not isinstance(table, dict):
        issues.append(not_a_table("provenance", table))
        return {}
    # What can have a mark: a setting, a section, or something of the whole preset.
    whole = ("variants", "seeds", "title", "source", "claim", "kind", "compare", "compare.baseline", "compare.levels")
    known, free = (*setting_keys(), *SECTIONS, *whole, "tune"), ("model.args.", "tune.", "variants.", "compare.levels.")
    result: dict[str, str] = {}
    for key, mark in flatten(table).items():
        place = f"provenance.{quoted(key)}"
        if key not in known and (not key.startswith(free) or key.endswith(".")):
            sentence = f"no setting has this name; {did_you_mean(key, setting_keys())}".rstrip("; ")
            issues.append(ValidationIssue(place, sentence))
        if not isinstance(mark, str) or not is_mark(mark):
            issues.append(ValidationIssue(place, f"{quoted(mark)} is not allowed. Allowed: {MARKS}"))
        else:
            result[key] = mark
    return result


def _tune(table: Any, issues: list[ValidationIssue]) -> Tune | None:
    if not isinstance(table, dict):
        issues.append(not_a_table("tune", table))
        return None
    names = [name for name in Tune.model_fields if name != "grid"]
    own = {key: value for key, value in table.items() if key in names}
    # Dotted keys may stand with quotes or, as nested tables, without; a table is a value for model.args alone.
    grid = flatten({key: value for key, value in table.items() if key not in own})
    tune, mistakes = validate(Tune, own, "tune")
    found = (
        [] if grid else [ValidationIssue("tune", 'needs a setting to try, like "optimizer.lr" = [1e-4, 3e-4, 1e-3]')]
    )
    for key, values in grid.items():
        if key not in setting_keys() and not key.startswith("model.args."):
            messages = [unknown(key, [*setting_keys(), *names]).rstrip("; ")]
        elif key.split(".")[0] not in SECTIONS:
            messages = ["only settings of a variant can be tried"]
        elif not isinstance(values, list) or not values:
            messages = ["a list of values to try is needed, like [1e-4, 3e-4, 1e-3]"]
        else:
            messages = [message for value in values for message in _refusals(key, value)]
        found += [ValidationIssue(f"tune.{quoted(key)}", message) for message in messages]
    issues += [*mistakes, *found]
    if found or tune is None:
        return None
    return tune.model_copy(update={"grid": {key: tuple(values) for key, values in grid.items()}})


def _refusals(key: str, value: Any) -> list[str]:
    """Why the type or the range of one setting refuses a value."""
    section, _, name = key.partition(".")
    # A setting of one optimizer or target is validated as theirs, whichever the preset has.
    owners = [model for model in SECTIONS[section] if name.split(".")[0] in model.model_fields]
    if TAGS.get(section) == name or not owners:
        _, issues = validate_settings(nested(key, value), complete=False)
    else:
        _, issues = validate(owners[0], nested(name, value), section)
    return [issue.message for issue in issues if issue.key.startswith(key)]
