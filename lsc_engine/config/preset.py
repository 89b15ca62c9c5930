"""A whole preset, and the parts of it that no variant changes: title, kind, seeds, compare, provenance, tune, and what
it says for its report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import name_fault, study_fault
from lsc_engine.common.settings import Table, flatten, nested
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
    setting_keys,
)
from lsc_engine.config.typed import seeds_fault
from lsc_engine.config.validation_errors import ValidationIssue, not_a_table, unknown, validate, validate_settings
from lsc_engine.config.values import DATASET_NAMES, DIM_MAX, Meta, checked, listed, system

Part = TypeVar("Part", bound=Section)
# The table that each kind of report is made of.
TABLE_OF = {"vectors": "vectors", "data": "datasets", "bench": "bench"}
MARKS = "paper | inferred: why | ours | ours: why"
_MARK = re.compile(r"paper(:\s*\S.*)?|ours(:\s*\S.*)?|inferred:\s*\S.*")
_METRIC = re.compile(r"[a-z][a-z0-9_]*(/[a-z0-9_.@-]+)+")
_BENCH = re.compile(r"[a-z][a-z0-9_-]*")
_SETS = tuple(name for name in DATASET_NAMES if name != "folder")


def level_fault(metric: str, levels: Sequence[float]) -> str | None:
    """What is wrong with levels of a metric, if anything."""
    if metric not in METRICS:
        return f"is not a metric with levels; {did_you_mean(metric, METRICS)}"
    if not levels:
        return "needs at least one level"
    if metric.endswith("accuracy") and not all(0 < level <= 1 for level in levels):
        return "an accuracy is above 0 and at most 1"
    if metric.endswith("loss") and not all(level > 0 for level in levels):
        return "a loss is above 0"
    return None


def _text(fine: Callable[[str], object], sentence: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(checked(fine, sentence))


Seed = Annotated[int, Field(ge=0, le=SEED_MAX)]
AsTuple = BeforeValidator(listed)
Text = Annotated[str, _text(str.strip, lambda _: "is empty; a text with at least one character is needed")]
Metric = Annotated[str, _text(_METRIC.fullmatch, lambda text: f"is not a metric; {did_you_mean(text, METRICS)}")]
Mark = Annotated[str, _text(_MARK.fullmatch, lambda _: f"is not allowed. Allowed: {MARKS}")]
DataSet = Annotated[str, _text(_SETS.__contains__, lambda text: f"is not a data set; {did_you_mean(text, _SETS)}")]
Bench = Annotated[str, _text(_BENCH.fullmatch, lambda _: "is not the name of a benchmark, such as decode")]
System = Annotated[
    str,
    AfterValidator(system),
    _text(
        lambda text: not text.startswith(("file:", "embeddings:")),
        lambda _: "has no properties of its own; name a system, such as V21",
    ),
]


AnalysisName = Literal["database", "novelty", "calibration"]


class TopLevelKeys(Section):
    """The top-level keys of a preset that are no tables."""

    title: str | None = None
    source: str = ""
    claim: str = ""
    kind: Literal["train", "vectors", "data", "bench"] = "train"
    seed: Seed | None = None
    seeds: Annotated[tuple[Seed, ...] | None, AsTuple] = None


class Record(Section):
    """[run], written into a run's preset.toml: study, variant and label of the run where it was made."""

    study: str
    variant: str
    label: str


class Paper(Section):
    """[paper]: the figures that the source prints, as printed."""

    metric: Metric = "train/accuracy"
    """The metric of the figures."""
    values: dict[str, Text] = Field({})
    """The printed figure of each variant, as text."""
    note: str = ""
    """What else must be known to read them."""


class Claim(Section):
    """[[claims]]: one sentence that the runs are judged by."""

    text: Text
    """The sentence."""
    variant: Text
    """The variant that it is about."""
    against: Text | None = None
    """The variant it is compared with; the baseline where none is named."""
    result: Literal["faster", "better", "similar", "equal", "fails", "works"] = Field(..., alias="is")
    """What is claimed of it: faster to the levels; better at the end; similar: at the end not worse by more than the
    margin; equal: within the margin either way; works and fails: the final value against the threshold."""
    metric: Metric | None = None
    """The final values that are compared; with /lowest behind it, the lowest on the way; for faster, the metric whose
    levels count."""
    margin: Annotated[float | None, Field(ge=0)] = None
    """The difference that counts, in units of the metric; of a speed, a share."""
    threshold: Annotated[float | None, Field(ge=0)] = None
    """The final value from which on it works, below which it fails (for a loss the other way round), from the words of
    the claim and the paper's figure."""
    source: Mark | None = None
    """Whose sentence it is: the paper's, with place and words, or ours."""


class VectorsReport(Section):
    """[vectors]: properties of vector systems, for kind = "vectors"."""

    systems: Annotated[tuple[System, ...], AsTuple, Field(min_length=1)]
    """The systems to describe."""
    n: Annotated[tuple[Annotated[int, Field(ge=1, le=DIM_MAX)], ...], AsTuple] = ()
    """Latent dimensions to describe them at."""
    classes: Annotated[tuple[Annotated[int, Field(ge=2, le=2**62)], ...], AsTuple] = ()
    """Numbers of classes to give the smallest n for."""
    pictures: bool = False
    """Draw A_2 and A_3, dropped and with all angles kept."""


class DatasetsReport(Section):
    """[datasets]: what is found of data sets here, for kind = "data"."""

    names: Annotated[tuple[DataSet, ...], AsTuple, Field(min_length=1)]
    """The data sets to look for."""


class BenchClaim(Section):
    """[[bench.claims]]: one sentence that every row of the benchmarks' tables with these columns is judged by."""

    text: Text
    """The sentence."""
    column: Text
    """The column of the tables that it is about."""
    at_least: float | None = None
    """Lower bound of every value."""
    at_most: float | None = None
    """Upper bound of every value."""
    relative_to: Text | None = None
    """A column that every value is divided by first."""
    spread: Annotated[float | None, Field(ge=1)] = None
    """Upper bound of the largest value divided by the smallest."""


class BenchReport(Section):
    """[bench]: benchmarks to run, for kind = "bench"."""

    names: Annotated[tuple[Bench, ...], AsTuple, Field(min_length=1)]
    """The benchmarks to run."""
    arguments: dict[str, dict[str, Any]] = Field({})
    """Arguments by the benchmark's name."""
    claims: Annotated[tuple[BenchClaim, ...], AsTuple] = ()
    """The sentences that its tables are judged by."""


class Analysis(Section):
    """[analysis]: what a report measures on trained networks, for kind = "train"."""

    names: Annotated[tuple[AnalysisName, ...], AsTuple, Field(min_length=1), Meta(choices=get_args(AnalysisName))]
    """database: bytes and recall of a database of embeddings; novelty: unseen classes flagged by unused vectors;
    calibration: probabilities beside the share that is right."""


class Reporting(Section):
    """Everything a preset says for its report."""

    paper: Paper | None = None
    claims: tuple[Claim, ...] = ()
    vectors: VectorsReport | None = None
    datasets: DatasetsReport | None = None
    bench: BenchReport | None = None
    analysis: Analysis | None = None


_REPORTS: dict[str, type[Section]] = {
    "paper": Paper,
    "vectors": VectorsReport,
    "datasets": DatasetsReport,
    "bench": BenchReport,
    "analysis": Analysis,
}
_OTHERS = ("start_from", "run", "compare", "provenance", "tune", "claims", *_REPORTS)
TOP_KEYS = (*TopLevelKeys.model_fields, *_OTHERS, *SECTIONS, "variants")


@dataclass(frozen=True)
class PresetFile:
    """A preset file as read: where it is, the study name it stands for, its text and tables."""

    path: Path
    name: str
    text: str
    raw: Table


@dataclass(frozen=True)
class Variant:
    """One variant of a preset, resolved. `needs` names the variants whose runs it takes something from; `origin`, of a
    try of [tune]: the variant it is a try of, and the values it tries."""

    name: str
    label: str
    needs: tuple[str, ...]
    settings: Settings
    origin: tuple[str, Mapping[str, Any]] = ("", {})


@dataclass(frozen=True)
class Preset:
    """A preset. `variants` is empty where `kind` is not "train"; `text` is the file as written; `record`: of a run's
    preset.toml, the run where it was written. `tries`: those of [tune], compared with `tries_baseline`."""

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
    tries: tuple[Variant, ...] = ()
    tries_baseline: str | None = None

    def variant(self, name: str) -> Variant:
        """The variant called `name`. KeyError without one."""
        return {v.name: v for v in self.variants}[name]

    def run_config(self, settings: Settings, seed: int, *, study: str, variant: str, label: str) -> RunConfig:
        """One run with these settings, which are not validated again."""
        own: dict[str, Any] = {key: getattr(self, key) for key in ("title", "source", "claim", "compare", "provenance")}
        names: dict[str, Any] = {"study": study, "variant": variant, "label": label, "seed": seed}
        return RunConfig.model_construct(**vars(settings), **names, **own)


def read_header(file: PresetFile) -> tuple[Preset, list[ValidationIssue]]:
    """Everything of a preset but its variants, and the mistakes in that."""
    raw, issues = file.raw, list[ValidationIssue]()

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
        if fault := level_fault(metric, levels):
            issue(key, fault)
    provenance = _provenance(raw.get("provenance", {}), issue)
    tune = _tune(raw["tune"], issues) if "tune" in raw else None
    reports: dict[str, Any] = {name: part(model, name) for name, model in _REPORTS.items()}
    reporting = Reporting.model_construct(**reports, claims=_claims(raw.get("claims", []), issues))
    _check_kind(raw, top.kind, reporting, issue)
    record = part(Record, "run")
    if record is not None:
        names = {"run.study": study_fault(record.study), "run.variant": name_fault(record.variant)}
        issues += [ValidationIssue(key, message) for key, message in names.items() if message]
    if "run" in raw and "variants" in raw:
        issue("run", "is the record of one run and does not go with [[variants]]; leave it out")
    title = top.title if top.title is not None else file.name.rsplit("/", 1)[-1]
    seeds = top.seeds or (top.seed if top.seed is not None else 0,)
    about = (title, top.source, top.claim, top.kind, seeds, compare, provenance, tune, reporting)
    return Preset(file.name, str(file.path), *about, text=file.text, record=record), issues


def _provenance(table: Any, issue: Callable[[str, str], None]) -> dict[str, str]:
    if not isinstance(table, dict):
        issue("provenance", not_a_table("provenance", table).message)
        return {}
    # What can have a mark: a setting, a section, or something of the whole preset.
    whole = ("variants", "seeds", "title", "source", "claim", "kind", "compare", "compare.baseline", "compare.levels")
    known, free = (*setting_keys(), *SECTIONS, *whole, "tune"), ("model.args.", "tune.", "variants.", "compare.levels.")
    result: dict[str, str] = {}
    for key, mark in flatten(table).items():
        place = f"provenance.{quoted(key)}"
        if key not in known and (not key.startswith(free) or key.endswith(".")):
            issue(place, f"no setting has this name; {did_you_mean(key, setting_keys())}")
        if not isinstance(mark, str) or not _MARK.fullmatch(mark):
            issue(place, f"{quoted(mark)} is not allowed. Allowed: {MARKS}")
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
    example = 'needs a setting to try, like "optimizer.lr" = [1e-4, 3e-4, 1e-3]'
    found = [] if grid else [ValidationIssue("tune", example)]
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


def _check_kind(raw: Table, kind: str, reporting: Reporting, issue: Callable[[str, str], None]) -> None:
    """Issues in report tables that do not go with the kind of the preset, or lack what they are made of."""
    for of, name in TABLE_OF.items():
        if name in raw and kind != of:
            issue(name, f'goes with kind = "{of}", this preset has kind = "{kind}"')
        elif name not in raw and kind == of:
            key = "systems" if of == "vectors" else "names"
            issue(name, f'kind = "{kind}" needs the table [{name}] with {key} = […]')
    vectors = reporting.vectors
    if vectors is not None and not vectors.n and not vectors.classes and not vectors.pictures:
        issue("vectors.n", "is missing: give n = [8, 384], or classes = [1000], or both")
    if "analysis" in raw and kind != "train":
        issue("analysis", f'is made of trained networks; kind = "{kind}" has none')
    if "claims" in raw and kind != "train":
        issue("claims", f'are judged by runs; kind = "{kind}" has none')


def _claims(given: Any, issues: list[ValidationIssue]) -> tuple[Claim, ...]:
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        issues.append(ValidationIssue("claims", "a list of tables is needed: write [[claims]] before each"))
        return ()
    found = []
    fitting = {"margin": ("better", "similar", "equal"), "threshold": ("works", "fails")}
    for number, table in enumerate(given, 1):
        claim, mistakes = validate(Claim, table, "claims")
        issues += [one.in_entry(number) for one in mistakes]
        if claim is not None:
            found.append(claim)
            for key, results in fitting.items():
                if getattr(claim, key) is not None and claim.result not in results:
                    sentence = f"goes with is = {' or '.join(map(quoted, results))}"
                    issues.append(ValidationIssue(f"claims.{key}", sentence).in_entry(number))
    return tuple(found)


def name_issues(reporting: Reporting, kind: str, variants: Sequence[str]) -> list[ValidationIssue]:
    """Variants, or data sets, that the report tables name and the preset does not have."""
    found: list[ValidationIssue] = []
    if reporting.paper is not None and kind in ("train", "data"):
        known = list(reporting.datasets.names) if reporting.datasets is not None else list(variants)
        what = "variant" if kind == "train" else "data set"
        for name in reporting.paper.values:
            if name not in known:
                sentence = f"no {what} of this preset has this name; {did_you_mean(name, known)}"
                found.append(ValidationIssue(f"paper.values.{quoted(name)}", sentence))
    for number, claim in enumerate(reporting.claims, 1):
        for key, named in (("variant", claim.variant), ("against", claim.against)):
            if named is not None and named not in variants:
                sentence = f"no variant {quoted(named)}; {did_you_mean(named, variants)}"
                found.append(ValidationIssue(f"claims.{key}", sentence).in_entry(number))
        if claim.against == claim.variant:
            issue = ValidationIssue("claims.against", "a variant cannot be compared with itself")
            found.append(issue.in_entry(number))
    if (bench := reporting.bench) is not None:
        for number, bound in enumerate(bench.claims, 1):
            if bound.at_least is None and bound.at_most is None and bound.spread is None:
                issue = ValidationIssue("bench.claims", "needs a bound: at_least, at_most or spread")
                found.append(issue.in_entry(number))
        for name in bench.arguments:
            if name not in bench.names:
                sentence = f"bench.names does not name it; {did_you_mean(name, bench.names)}"
                found.append(ValidationIssue(f"bench.arguments.{quoted(name)}", sentence))
    return found
