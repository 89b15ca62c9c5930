"""The parts of a preset that no variant changes (title, kind, seeds, compare, provenance, tune), and a whole preset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field

from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import name_fault, study_fault
from lsc_engine.common.settings import Table, flatten, nested
from lsc_engine.config.catalogue import setting_keys
from lsc_engine.config.reporting import MARKS, REPORT_TABLES, Reporting, is_mark, name_issues, read_reporting
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


TOP_KEYS = (
    *TopLevelKeys.model_fields,
    "start_from",
    "run",
    "compare",
    "provenance",
    "tune",
    *REPORT_TABLES,
    *SECTIONS,
    "variants",
)


@dataclass(frozen=True)
class Variant:
    """One variant of a preset, resolved. `needs` names the variants whose runs it takes something from."""

    name: str
    label: str
    needs: tuple[str, ...]
    settings: Settings


@dataclass
class PresetHeader:
    """What a preset says for all of its variants, and the mistakes in that."""

    kind: str = "train"
    top: TopLevelKeys = field(default_factory=lambda: TopLevelKeys())
    compare: Compare = field(default_factory=lambda: Compare())
    provenance: dict[str, str] = field(default_factory=dict)
    tune: Tune | None = None
    reporting: Reporting = field(default_factory=lambda: Reporting())
    record: Record | None = None
    issues: list[ValidationIssue] = field(default_factory=list)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs."""
        return self.top.seeds or (self.top.seed if self.top.seed is not None else 0,)

    def check_names(self, variants: list[str]) -> list[ValidationIssue]:
        """The baseline, and what the report tables name, must be variants. The baseline of a run's own record is one of
        the study it is from."""
        issues = name_issues(self.reporting, self.kind, variants)
        baseline = self.compare.baseline
        if baseline is not None and self.record is None and self.kind == "train" and baseline not in variants:
            sentence = f"no variant {quoted(baseline)}; {did_you_mean(baseline, variants)}"
            issues.append(ValidationIssue("compare.baseline", sentence))
        return issues


@dataclass(frozen=True)
class Preset:
    """A whole, valid preset. `variants` is empty where `kind` is not "train"; `text` is the file as written."""

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

    def variant(self, name: str) -> Variant:
        """The variant called `name`. KeyError without one."""
        return {v.name: v for v in self.variants}[name]

    def run_config(self, settings: Settings, seed: int, *, study: str, variant: str, label: str) -> RunConfig:
        """The configuration of one run with these settings, which are not validated again."""
        return RunConfig.model_construct(
            **vars(settings),
            study=study,
            variant=variant,
            label=label,
            seed=seed,
            title=self.title,
            source=self.source,
            claim=self.claim,
            compare=self.compare,
            provenance=self.provenance,
        )


def read_header(raw: Table) -> PresetHeader:
    """Everything of a preset but the settings of its variants. Mistakes are collected in the result."""
    header = PresetHeader()
    issues = header.issues

    def part(model: type[Part], name: str) -> Part | None:
        found, mistakes = validate(model, raw[name], name)
        issues.extend(mistakes)
        return found

    top, found = validate(TopLevelKeys, {key: raw[key] for key in TopLevelKeys.model_fields if key in raw}, "")
    issues += found
    if top is not None:
        header.top, header.kind = top, top.kind
        if top.seed is not None and top.seeds is not None:
            issues.append(ValidationIssue("seeds", "stands for seed; give one of them"))
        if top.seeds is not None and (fault := seeds_fault(top.seeds)):
            issues.append(ValidationIssue("seeds", fault))
    elif raw.get("kind") in KINDS:
        header.kind = raw["kind"]
    if "compare" in raw and (compare := part(Compare, "compare")) is not None:
        header.compare = compare
        issues += _level_issues(compare)
    if "provenance" in raw:
        header.provenance = _provenance(raw["provenance"], issues)
    if "tune" in raw:
        header.tune = _tune(raw["tune"], issues)
    header.reporting = read_reporting(raw, header.kind, issues)
    if "run" in raw:
        header.record = record = part(Record, "run")
        if record is not None:
            names = {"run.study": study_fault(record.study), "run.variant": name_fault(record.variant)}
            issues += [ValidationIssue(key, message) for key, message in names.items() if message]
        if "variants" in raw:
            sentence = "is the record of one run and does not go with [[variants]]; leave it out"
            issues.append(ValidationIssue("run", sentence))
    return header


def _level_issues(compare: Compare) -> list[ValidationIssue]:
    issues = []
    for metric, levels in compare.levels.items():
        key = f"compare.levels.{quoted(metric)}"
        if metric not in METRICS:
            issues.append(ValidationIssue(key, f"is not a metric with levels; {did_you_mean(metric, METRICS)}"))
        elif not levels:
            issues.append(ValidationIssue(key, "needs at least one level"))
        elif metric.endswith("accuracy") and not all(0 < level <= 1 for level in levels):
            issues.append(ValidationIssue(key, "an accuracy is above 0 and at most 1"))
        elif metric.endswith("loss") and not all(level > 0 for level in levels):
            issues.append(ValidationIssue(key, "a loss is above 0"))
    return issues


def known_key(key: str) -> bool:
    """Whether a dotted key can have a provenance: a setting, a section, or something of the whole preset."""
    whole = ("variants", "seeds", "title", "source", "claim", "kind", "compare", "compare.baseline", "compare.levels")
    if key in (*setting_keys(), *SECTIONS, *whole, "tune"):
        return True
    return key.startswith(("model.args.", "tune.", "variants.", "compare.levels.")) and not key.endswith(".")


def _provenance(table: Any, issues: list[ValidationIssue]) -> dict[str, str]:
    if not isinstance(table, dict):
        issues.append(not_a_table("provenance", table))
        return {}
    result: dict[str, str] = {}
    for key, mark in flatten(table).items():
        place = f"provenance.{quoted(key)}"
        if not known_key(key):
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
    own = {key: value for key, value in table.items() if key in Tune.model_fields and key != "grid"}
    # Dotted keys may stand with quotes or, as nested tables, without; a table is a value for model.args alone.
    grid = flatten({key: value for key, value in table.items() if key not in own})
    found: list[ValidationIssue] = []
    for key, values in grid.items():
        place = f"tune.{quoted(key)}"
        if key not in setting_keys() and not key.startswith("model.args."):
            choices = [*setting_keys(), *(name for name in Tune.model_fields if name != "grid")]
            found.append(ValidationIssue(place, unknown(key, choices).rstrip("; ")))
        elif key.split(".")[0] not in SECTIONS:
            found.append(ValidationIssue(place, "only settings of a variant can be tried"))
        elif not isinstance(values, list) or not values:
            sentence = "a list of values to try is needed, like [1e-4, 3e-4, 1e-3]"
            found.append(ValidationIssue(place, sentence))
        else:
            found += [ValidationIssue(place, message) for message in _refused(key, values)]
    if not grid:
        found.append(ValidationIssue("tune", 'needs a setting to try, like "optimizer.lr" = [1e-4, 3e-4, 1e-3]'))
    tune, mistakes = validate(Tune, own, "tune")
    issues += [*mistakes, *found]
    if found or tune is None:
        return None
    return tune.model_copy(update={"grid": {key: tuple(values) for key, values in grid.items()}})


def _refused(key: str, values: list[Any]) -> list[str]:
    """Why the type or the range of one setting refuses some of `values`."""
    section, _, name = key.partition(".")
    # A setting of one optimizer or target is validated as theirs, whichever the preset has.
    owners = [model for model in SECTIONS[section] if name.split(".")[0] in model.model_fields]
    found = []
    for value in values:
        if TAGS.get(section) == name or not owners:
            _, issues = validate_settings(nested(key, value), complete=False)
        else:
            _, issues = validate(owners[0], nested(name, value), section)
        found += [issue.message for issue in issues if issue.key.startswith(key)]
    return found
