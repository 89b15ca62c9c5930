"""The parts of a preset that no variant changes: title, kind, seeds, compare, provenance, tune."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import name_fault, study_fault
from lsc_engine.config.catalogue import setting_keys
from lsc_engine.config.faults import Fault, unknown, validated
from lsc_engine.config.merge import Table, nested
from lsc_engine.config.reporting import MARKS, Reporting, is_mark, name_faults, read_reporting
from lsc_engine.config.schema import flatten
from lsc_engine.config.sections import KINDS, METRICS, SECTIONS, SEED_MAX, Compare, Section, Tune
from lsc_engine.config.typed import seeds_fault
from lsc_engine.errors import did_you_mean

Seed = Annotated[int, Field(ge=0, le=SEED_MAX)]


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Words(Section):
    """The top-level keys."""

    title: str | None = None
    source: str = ""
    claim: str = ""
    kind: Literal["train", "vectors", "data", "bench"] = "train"
    seed: Seed | None = None
    seeds: Annotated[tuple[Seed, ...] | None, BeforeValidator(_listed)] = None
    start_from: str | None = Field(default=None, min_length=1)


class Record(Section):
    """[run], written into a run's preset.toml: what the run was called where it was made."""

    study: str
    variant: str
    label: str


@dataclass
class Head:
    """What was read, and its faults."""

    kind: str = "train"
    top: Words = field(default_factory=lambda: Words())
    compare: Compare = field(default_factory=Compare)
    provenance: dict[str, str] = field(default_factory=dict)
    tune: Tune | None = None
    reporting: Reporting = field(default_factory=Reporting)
    record: Record | None = None
    faults: list[Fault] = field(default_factory=list)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs."""
        return self.top.seeds or (self.top.seed if self.top.seed is not None else 0,)

    def words(self, name: str) -> dict[str, Any]:
        """The fields of Preset that come from here."""
        title = self.top.title if self.top.title is not None else name.rsplit("/", 1)[-1]
        return {
            "title": title,
            "source": self.top.source,
            "claim": self.top.claim,
            "kind": self.kind,
            "seeds": self.seeds,
            "compare": self.compare,
            "provenance": self.provenance,
            "tune": self.tune,
            "reporting": self.reporting,
        }

    def check_names(self, variants: list[str], *, record: bool) -> list[Fault]:
        """The baseline, and what the report tables name, must be variants, except in a run's own record, whose
        baseline is one of its study."""
        faults = name_faults(self.reporting, self.kind, variants)
        baseline = self.compare.baseline
        if baseline is None or record or self.kind != "train" or baseline in variants:
            return faults
        return [
            *faults,
            Fault("compare.baseline", f"no variant {quoted(baseline)}; {did_you_mean(baseline, variants)}"),
        ]


def check_head(raw: Table) -> Head:
    """Read everything but the settings. Faults are collected in the result."""
    head = Head()
    plain = {key: raw[key] for key in Words.model_fields if key in raw}
    top = _read(Words, plain, "", head.faults)
    if isinstance(top, Words):
        head.top, head.kind = top, top.kind
        _check_seeds(top, head.faults)
    elif raw.get("kind") in KINDS:
        head.kind = raw["kind"]
    if "compare" in raw:
        compare = _read(Compare, raw["compare"], "compare", head.faults)
        if isinstance(compare, Compare):
            head.compare = compare
            head.faults += _level_faults(compare)
    if "provenance" in raw:
        head.provenance = _provenance(raw["provenance"], head.faults)
    if "tune" in raw:
        head.tune = _tune(raw["tune"], head.faults)
    head.reporting = read_reporting(raw, head.kind, head.faults)
    if "run" in raw:
        record = _read(Record, raw["run"], "run", head.faults)
        if isinstance(record, Record):
            head.record = record
            names = {"run.study": study_fault(record.study), "run.variant": name_fault(record.variant)}
            head.faults += [Fault(key, message) for key, message in names.items() if message]
        if "variants" in raw:
            head.faults.append(Fault("run", "is the record of one run and does not go with [[variants]]; leave it out"))
    return head


def _read(model: type[Section], table: Any, name: str, faults: list[Fault]) -> Section | None:
    if not isinstance(table, dict):
        faults.append(Fault(name, f"a table is needed, not {quoted(table)}"))
        return None
    part, found = validated(model, table, name)
    faults += [Fault(f.key.lstrip("."), f.message) for f in found]
    return part


def _check_seeds(top: Words, faults: list[Fault]) -> None:
    if top.seed is not None and top.seeds is not None:
        faults.append(Fault("seeds", "stands for seed; give one of them"))
    if top.seeds is not None and (fault := seeds_fault(top.seeds)):
        faults.append(Fault("seeds", fault))


def _level_faults(compare: Compare) -> list[Fault]:
    faults = []
    for metric, levels in compare.levels.items():
        key = f"compare.levels.{quoted(metric)}"
        if metric not in METRICS:
            faults.append(Fault(key, f"is not a metric with levels; {did_you_mean(metric, METRICS)}"))
        elif not levels:
            faults.append(Fault(key, "needs at least one level"))
        elif metric.endswith("accuracy") and not all(0 < level <= 1 for level in levels):
            faults.append(Fault(key, "an accuracy is above 0 and at most 1"))
        elif metric.endswith("loss") and not all(level > 0 for level in levels):
            faults.append(Fault(key, "a loss is above 0"))
    return faults


def known_key(key: str) -> bool:
    """Whether a dotted key can have a provenance: a setting, a section, or something of the whole preset."""
    whole = ("variants", "seeds", "title", "source", "claim", "kind", "compare", "compare.baseline", "compare.levels")
    if key in (*setting_keys(), *SECTIONS, *whole, "tune"):
        return True
    return key.startswith(("model.args.", "tune.", "variants.", "compare.levels.")) and not key.endswith(".")


def _provenance(table: Any, faults: list[Fault]) -> dict[str, str]:
    if not isinstance(table, dict):
        faults.append(Fault("provenance", f"a table is needed, not {quoted(table)}"))
        return {}
    result: dict[str, str] = {}
    for key, mark in flatten(table).items():
        place = f"provenance.{quoted(key)}"
        if not known_key(key):
            faults.append(Fault(place, f"no setting has this name; {did_you_mean(key, setting_keys())}".rstrip("; ")))
        if not isinstance(mark, str) or not is_mark(mark):
            faults.append(Fault(place, f"{quoted(mark)} is not allowed. Allowed: {MARKS}"))
        else:
            result[key] = mark
    return result


def _tune(table: Any, faults: list[Fault]) -> Tune | None:
    if not isinstance(table, dict):
        faults.append(Fault("tune", f"a table is needed, not {quoted(table)}"))
        return None
    own = {key: value for key, value in table.items() if key in Tune.model_fields and key != "grid"}
    # Dotted keys may stand with quotes or, as nested tables, without; a table is a value for model.args alone.
    grid = flatten({key: value for key, value in table.items() if key not in own})
    found: list[Fault] = []
    for key, values in grid.items():
        section = key.split(".")[0]
        if key not in setting_keys() and not key.startswith("model.args."):
            choices = [*setting_keys(), *(name for name in Tune.model_fields if name != "grid")]
            found.append(Fault(f"tune.{quoted(key)}", unknown(key, choices).rstrip("; ")))
        elif section not in SECTIONS:
            found.append(Fault(f"tune.{quoted(key)}", "only settings of a variant can be tried"))
        elif not isinstance(values, list) or not values:
            found.append(Fault(f"tune.{quoted(key)}", "a list of values to try is needed, like [1e-4, 3e-4, 1e-3]"))
        else:
            found += _value_faults(key, values)
    if not grid:
        found.append(Fault("tune", 'needs a setting to try, like "optimizer.lr" = [1e-4, 3e-4, 1e-3]'))
    tune = _read(Tune, own, "tune", faults)
    faults += found
    if found or not isinstance(tune, Tune):
        return None
    return tune.model_copy(update={"grid": {key: tuple(values) for key, values in grid.items()}})


def _value_faults(key: str, values: list[Any]) -> list[Fault]:
    """Values of one setting that its type or range refuses."""
    section, name = key.split(".", 1)
    found: list[Fault] = []
    for value in values:
        inner = nested(name, value)
        _, faults = validated(SECTIONS[section], inner, section, required=False)
        found += [Fault(f"tune.{quoted(key)}", f.message) for f in faults]
    return found
