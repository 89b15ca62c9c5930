"""What a preset says for its report: the paper's figures, the claims to judge, and what the kinds that do not train
make a report of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.settings import Table
from lsc_engine.config.schema import METRICS, Section
from lsc_engine.config.validation_errors import ValidationIssue as Issue
from lsc_engine.config.validation_errors import validate
from lsc_engine.config.values import DATASET_NAMES, DIM_MAX, listed, system

# The table that each kind of report is made of.
TABLE_OF = {"vectors": "vectors", "data": "datasets", "bench": "bench"}
REPORT_TABLES = ("paper", "claims", "analysis", *TABLE_OF.values())
ANALYSES = ("database", "novelty", "calibration")
MARKS = "paper | inferred: why | ours | ours: why"
_MARK = re.compile(r"paper(:\s*\S.*)?|ours(:\s*\S.*)?|inferred:\s*\S.*")


def _checked(fine: Callable[[str], object], sentence: Callable[[str], str]) -> AfterValidator:
    """Keeps a text that is `fine`, refuses another with the sentence about it."""

    def check(value: str) -> str:
        if fine(value):
            return value
        raise ValueError(sentence(value))

    return AfterValidator(check)


def is_mark(value: str) -> bool:
    """Whether a text states where a setting or a claim is from."""
    return _MARK.fullmatch(value) is not None


_SETS = tuple(name for name in DATASET_NAMES if name != "folder")
Metric = Annotated[
    str,
    _checked(
        re.compile(r"[a-z][a-z0-9_]*(/[a-z0-9_.@-]+)+").fullmatch,
        lambda value: f"{quoted(value)} is not a metric; {did_you_mean(value, METRICS)}",
    ),
]
Mark = Annotated[str, _checked(is_mark, lambda value: f"{quoted(value)} is not allowed. Allowed: {MARKS}")]
Text = Annotated[str, _checked(str.strip, lambda _: "a text with at least one character is needed, not an empty one")]
System = Annotated[
    str,
    AfterValidator(system),
    _checked(
        lambda value: not value.startswith(("file:", "embeddings:")),
        lambda value: f"{quoted(value)} has no properties of its own; name a system, such as V21",
    ),
]
DataSet = Annotated[
    str, _checked(_SETS.__contains__, lambda value: f"{quoted(value)} is not a data set; {did_you_mean(value, _SETS)}")
]
Bench = Annotated[
    str,
    _checked(
        re.compile(r"[a-z][a-z0-9_-]*").fullmatch,
        lambda value: f"{quoted(value)} is not the name of a benchmark, such as decode",
    ),
]
AnalysisName = Annotated[
    str,
    _checked(
        ANALYSES.__contains__, lambda value: f"{quoted(value)} is not an analysis; {did_you_mean(value, ANALYSES)}"
    ),
]
AsTuple = BeforeValidator(listed)


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
    """Every value is at least so large."""
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

    names: Annotated[tuple[AnalysisName, ...], AsTuple, Field(min_length=1)]
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


def read_reporting(raw: Table, kind: str, issues: list[Issue]) -> Reporting:
    """The report tables of a preset file; mistakes are added to `issues`."""
    parts: dict[str, Any] = {}
    tables: dict[str, type[Section]] = {
        "paper": Paper,
        "vectors": VectorsReport,
        "datasets": DatasetsReport,
        "bench": BenchReport,
    }
    for name, model in (tables | {"analysis": Analysis}).items():
        if name in raw:
            parts[name], found = validate(model, raw[name], name)
            issues += found
    for of, name in TABLE_OF.items():
        if name in raw and kind != of:
            issues.append(Issue(name, f'goes with kind = "{of}", this preset has kind = "{kind}"'))
        elif name not in raw and kind == of:
            key = "systems" if of == "vectors" else "names"
            issues.append(Issue(name, f'kind = "{kind}" needs the table [{name}] with {key} = […]'))
    vectors = parts.get("vectors")
    if vectors is not None and not vectors.n and not vectors.classes and not vectors.pictures:
        issues.append(Issue("vectors.n", "is missing: give n = [8, 384], or classes = [1000], or both"))
    if "analysis" in raw and kind != "train":
        issues.append(Issue("analysis", f'is made of trained networks; kind = "{kind}" has none'))
    if "claims" in raw:
        parts["claims"] = _claims(raw["claims"], kind, issues)
    return Reporting(**parts)


def _claims(given: Any, kind: str, issues: list[Issue]) -> tuple[Claim, ...]:
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        issues.append(Issue("claims", "a list of tables is needed: write [[claims]] before each"))
        return ()
    if kind != "train":
        issues.append(Issue("claims", f'are judged by runs; kind = "{kind}" has none'))
    found = []
    for number, table in enumerate(given, 1):
        claim, mistakes = validate(Claim, table, f"claims.{number}")
        issues += mistakes
        if claim is not None:
            found.append(claim)
            if claim.margin is not None and claim.result not in ("better", "similar", "equal"):
                issues.append(Issue(f"claims.{number}.margin", 'goes with is = "better", "similar" or "equal"'))
            if claim.threshold is not None and claim.result not in ("works", "fails"):
                issues.append(Issue(f"claims.{number}.threshold", 'goes with is = "works" or "fails"'))
    return tuple(found)


def name_issues(reporting: Reporting, kind: str, variants: Sequence[str]) -> list[Issue]:
    """Variants, or data sets, that the report tables name and the preset does not have."""
    issues = []
    if reporting.paper is not None and kind in ("train", "data"):
        known = list(reporting.datasets.names) if reporting.datasets is not None else list(variants)
        what = "variant" if kind == "train" else "data set"
        for name in reporting.paper.values:
            if name not in known:
                sentence = f"no {what} of this preset has this name; {did_you_mean(name, known)}"
                issues.append(Issue(f"paper.values.{quoted(name)}", sentence))
    for number, claim in enumerate(reporting.claims, 1):
        for key, named in (("variant", claim.variant), ("against", claim.against)):
            if named is not None and named not in variants:
                sentence = f"no variant {quoted(named)}; {did_you_mean(named, variants)}"
                issues.append(Issue(f"claims.{number}.{key}", sentence))
        if claim.against == claim.variant:
            issues.append(Issue(f"claims.{number}.against", "a variant cannot be compared with itself"))
    if reporting.bench is not None:
        for number, bound in enumerate(reporting.bench.claims, 1):
            if bound.at_least is None and bound.at_most is None and bound.spread is None:
                issues.append(Issue(f"bench.claims.{number}", "needs a bound: at_least, at_most or spread"))
        for name in reporting.bench.arguments:
            if name not in reporting.bench.names:
                sentence = f"bench.names does not name it; {did_you_mean(name, reporting.bench.names)}"
                issues.append(Issue(f"bench.arguments.{quoted(name)}", sentence))
    return issues
