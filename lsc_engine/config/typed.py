"""What is typed on the command line or in a field becomes a value of the setting that it is for.

Numbers are read as TOML, Python and this program write them (1e-4, .001, 1., 1_000, +3, 10 240); settings that hold
texts keep what was typed, also where it looks like a number.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from datetime import date, time
from typing import Any

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import number, parse_count, quoted
from lsc_engine.common.settings import Table, merge, nested
from lsc_engine.config.schema import SECTIONS, SEED_MAX, fields, setting_keys

# What stands in a list or table: texts in quotes, and everything between its signs.
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^\s,\[\]{}="\']+')
# Of at most 40 digits: Python refuses to read thousands of them.
_SEED = re.compile(r"\+?[0-9](?:_?[0-9]){0,39}")
_MOST_SEEDS = 1000
_TEXTS = ("text", "choice", "system", "duration")
_TOP_TEXTS = ("title", "source", "claim", "kind", "compare.baseline", "tune.duration", "tune.by")
_ALWAYS_TEXT = ("model.name", "target.order", *_TOP_TEXTS)
# The keys of these tables have dots of their own.
_TABLES = ("provenance.", "compare.levels.", "tune.")
_FREE = (*_TABLES, "model.args.", "bench.arguments.")

TOP_TABLES = ("compare", "provenance", "tune", "paper", "vectors", "datasets", "bench", "analysis")
TOP_WORDS = ("title", "source", "claim", "kind", "seed", "seeds")
_REPORT_KEYS = ("vectors.systems", "vectors.n", "vectors.classes", "vectors.pictures", "datasets.names", "bench.names")


def parse_value(text: str) -> Any:
    """A TOML value, a number, True or False, or the text itself where it is none (so that quotes may be left out)."""

    def as_toml(part: re.Match[str]) -> str:
        found = number(part[0]) if _toml(part[0]) is None else None
        return part[0] if found is None else repr(found)

    text = text.strip()
    if text in ("True", "False"):
        return text == "True"
    value = _toml(text)
    if value is None and (value := number(text)) is None and text[:1] in ("[", "{"):
        value = _toml(_PART.sub(as_toml, text))
    return text if value is None or isinstance(value, date | time) else value


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"] if "\n" not in text else None
    except (tomllib.TOMLDecodeError, ValueError, RecursionError, KeyError):
        return None


def typed_value(key: str, text: str) -> Any:
    """The value that `text` means for the setting `key`. UsageError for seeds that are none; what else the setting
    refuses is found when the preset is checked."""
    text = text.strip()
    if key == "seeds":
        return list(parse_seeds(text, key))
    if key in ("seed", "tune.seed"):
        seeds = parse_seeds(text, key)
        if len(seeds) > 1:
            raise UsageError(f"{key}: {quoted(text)} is not one seed, but {len(seeds)}")
        return seeds[0]
    if key.startswith("tune.") and key not in _ALWAYS_TEXT:
        inner = key.removeprefix("tune.")
        return parse_value(text) if text.startswith("[") else [typed_value(inner, part) for part in split(text)]
    kind = {setting.key: setting.kind for setting in fields()}.get(key, "")
    if kind in _TEXTS or key in _ALWAYS_TEXT or key.startswith("provenance."):
        value = _toml(text)
        return value if isinstance(value, str) else text
    if kind == "integer":
        try:
            return parse_count(text)
        except UsageError:
            return parse_value(text)
    if kind in ("list", "durations", "names") or key.startswith("compare.levels."):
        if text.startswith("[") or not text:
            return parse_value(text)
        return [part if kind in ("durations", "names") else parse_value(part) for part in split(text)]
    return parse_value(text)


def split(text: str) -> list[str]:
    """The parts of a text between its commas, but for those in brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for c in text:
        if quote or c in "\"'":
            quote = ("" if c == quote else quote) if quote else c
        depth += 0 if quote else (c in "[{") - (c in "]}")
        if c == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts]


def parse_seeds(text: str, what: str) -> tuple[int, ...]:
    """Seeds as typed: `0,1,2`, `0 1 2` or `0-4`, different whole numbers from 0 to SEED_MAX. UsageError with `what`,
    the name of the option or setting, where they are none."""
    inner = text.strip()
    if inner[:1] == "[" and inner[-1] == "]":
        inner = inner[1:-1].strip()
    seeds: list[int] = []
    for part in re.split(r"\s*,\s*|\s+", inner) if inner else []:
        first, dash, last = part.partition("-")
        ends = [first, last] if dash and first else [part]
        if not all(map(_SEED.fullmatch, ends)) or max(map(int, ends)) > SEED_MAX:
            whole = f"{quoted(part)} is not a whole number from 0 to {SEED_MAX}"
            raise UsageError(f"{what}: {whole}; write seeds like 0,1,2 or 0-4")
        low, high = int(ends[0]), int(ends[-1])
        if not low <= high < low + _MOST_SEEDS:
            raise UsageError(f"{what}: {quoted(part)} is not a range of at most {_MOST_SEEDS} seeds, like 0-4")
        seeds += range(low, high + 1)
    if fault := seeds_fault(seeds):
        raise UsageError(f"{what}: {fault}")
    return tuple(seeds)


def seeds_fault(seeds: Iterable[int]) -> str | None:
    """Why a list of seeds cannot be trained, or None where it can."""
    known: set[int] = set()
    for seed in seeds:
        if not 0 <= seed <= SEED_MAX:
            return f"{quoted(seed)} is not a whole number from 0 to {SEED_MAX}"
        if seed in known:
            return f"seed {seed} is given twice"
        known.add(seed)
    return None if known else "needs at least one seed, like 0,1,2"


def parse_assignment(text: str, option: str) -> tuple[str, str]:
    """Key and right side of `a.b=value`. UsageError where the key is no setting."""
    key, equals, value = text.partition("=")
    key = key.replace('"', "").strip()
    if not equals or not key:
        example = "1e-3" if option == "--set" else "1e-4,1e-3"
        raise UsageError(f"{option} {quoted(text)}: write it like optimizer.lr={example}")
    known = [*setting_keys(), *TOP_WORDS, *_REPORT_KEYS]
    free = key.startswith(_FREE) or key in ("compare.baseline", "compare.levels")
    if key not in known and not (free and all(key.split("."))):
        raise UsageError(f"{option} {key}: no setting has this name; {_nearest_key(key, known)}")
    return key, value.strip()


def _nearest_key(key: str, known: list[str]) -> str:
    """A clause that names the keys with the last part of `key`, else those like it."""
    section, _, last = key.rpartition(".")
    parts = {one.rpartition(".")[2] for one in known}
    # The nearest key of the same section reads better than that of another one.
    if section in SECTIONS and last not in parts:
        return did_you_mean(key, [one for one in known if one.startswith(f"{section}.")])
    near = difflib.get_close_matches(last, sorted(parts), 1, 0.7)
    keys = [quoted(one) for one in dict.fromkeys(known) if one.rpartition(".")[2] in near]
    return f"did you mean {' or '.join(keys)}?" if keys else "settings are written like optimizer.lr"


def parse_sets(texts: Iterable[str]) -> Table:
    """All --set options as one table. UsageError with every option that cannot be read."""
    table: Table = {}
    faults: list[str] = []
    for text in texts:
        try:
            key, words = parse_assignment(text, "--set")
            value = typed_value(key, words)
        except UsageError as error:
            faults += [fault if fault.startswith("--set") else f"--set {fault}" for fault in error.faults]
            continue
        free = next((table for table in _TABLES if key.startswith(table)), None)
        path = nested(free[:-1], {key[len(free) :]: value}) if free else nested(key, value)
        table = merge(table, path)
    if faults:
        raise UsageError(*faults)
    return table


def parse_sweeps(texts: Iterable[str]) -> list[tuple[str, tuple[Any, ...]]]:
    """Every --sweep option as key and values. UsageError with every option that cannot be read."""
    sweeps: list[tuple[str, tuple[Any, ...]]] = []
    faults: list[str] = []
    for text in texts:
        try:
            key, value = parse_assignment(text, "--sweep")
        except UsageError as error:
            faults += error.faults
            continue
        head = key.split(".")[0]
        if head not in SECTIONS and key != "start_from":
            faults.append(f"--sweep {key}: only the settings of a variant can be swept")
            continue
        if key in (known for known, _ in sweeps):
            faults.append(f"--sweep {key}: given twice; put all values into one")
        values = tuple(typed_value(key, part) for part in split(value))
        if not values or "" in values:
            faults.append(f"--sweep {key}: needs values, like {key}=1,2")
        elif twice := [value for value in values if values.count(value) > 1]:
            faults.append(f"--sweep {key}: {quoted(twice[0])} is given twice")
        sweeps.append((key, values))
    if faults:
        raise UsageError(*faults)
    return sweeps
