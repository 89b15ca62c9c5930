"""The sections of a report that show what was done: data, settings with their marks, and where it was trained."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Collection, Mapping
from typing import Any

from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import NOTHING, grouped
from lsc_engine.common.settings import flatten
from lsc_engine.config.derived import derive
from lsc_engine.config.expand import raw_variants, sections_of
from lsc_engine.config.schema import acts, fields
from lsc_engine.report.page import bullets, md, plain, table
from lsc_engine.report.study_data import StudyData

DEFAULT_MARK = "ours: default"
# Settings that say when things are measured, not what is trained; shown if they are marked or differ.
_LOOKING = ("log.", "checkpoint.", "eval.", "train.compile")
_BY_ITSELF = ("eval.class_means",)


def data_text(data: StudyData) -> str:
    """What was trained on, one line for each data set."""
    lines: dict[str, None] = {}
    for config in data.configs.values():
        own = config.data
        try:
            derived = derive(config, data.data_dir)
            images = f"{'' if derived.counted else 'about '}{grouped(derived.images)}"
            classes, size = derived.classes, derived.image_size
            held = f", {grouped(derived.val_images)} validation images" if derived.val_images else ""
        except LscError:
            images, classes, size, held = "?", own.classes or 0, own.image_size or 0, ""
        unique = "every image its own class (training accuracy is memorisation here)"
        labels = unique if own.labels == "unique" else "the data set's classes"
        other = f", validated on {md(config.eval.dataset)}" if config.eval.dataset else ""
        views = "" if own.augment == "none" else f", augmentation {own.augment}"
        what = f"{images} images of {size} px, {grouped(classes)} classes, {labels}"
        lines[f"{md(own.dataset)}: {what}{held}{other}{views}"] = None
    return bullets(lines)


def setting_table(data: StudyData) -> str:
    """Every setting with its value, per variant where they differ, and its mark: paper, inferred or ours."""
    marks, named = data.provenance(), set[str]()
    with contextlib.suppress(tomllib.TOMLDecodeError):
        raw = tomllib.loads(data.preset.text if data.preset is not None else "")
        named = {key for table in (raw, *raw_variants(raw)) for key in flatten(sections_of(table))}
    tables = {row.label: row.settings for row in data.rows}
    rows = []
    for key in _shown_keys([row.settings for row in data.rows], marks):
        values = {label: settings.get(key) for label, settings in tables.items()}
        parts = key.split(".")
        # Its own mark or its section's, else a choice of the preset or a default.
        sections = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        mark = next((marks[name] for name in sections if name in marks), "ours" if key in named else DEFAULT_MARK)
        rows.append([_code(key), _value_words(values), md(mark)])
    seeds = sorted({run.seed for row in data.rows for run in row.runs})
    rows.append([_code("seeds"), ", ".join(map(str, seeds)), md(marks.get("seeds", "ours"))])
    return table(("setting", "value", "mark"), rows)


def _code(text: str) -> str:
    """A code span, which a table cell can hold."""
    return f"`{plain(text).replace('`', chr(39)).replace('|', '¦')}`"


def _shown_keys(tables: Collection[Mapping[str, Any]], marks: Mapping[str, str]) -> list[str]:
    order = {setting.key: place for place, setting in enumerate(fields())}

    def shown(key: str) -> bool:
        if key in marks:
            return True
        if not any(acts(key, one.get) for one in tables):
            return False
        values = [one.get(key) for one in tables]
        differs = any(value != values[0] for value in values[1:])
        return key not in _BY_ITSELF and (differs or not key.startswith(_LOOKING))

    keys = dict.fromkeys(key for one in tables for key in one)
    return sorted(filter(shown, keys), key=lambda key: (order.get(key, len(order)), key))


def _value_words(values: Mapping[str, Any]) -> str:
    first, *others = values.values()
    if all(value == first for value in others):
        return md(_word(first))
    by_value: dict[str, list[str]] = {}
    for label, value in values.items():
        by_value.setdefault(_word(value), []).append(label)
    return "; ".join(f"{md(value)} ({md(', '.join(labels))})" for value, labels in by_value.items())


def _word(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_word, value)) or "none"
    if isinstance(value, int):
        return grouped(value) if abs(value) >= 10_000 else str(value)
    return "none" if value == {} else str(value)


def made_with(data: StudyData) -> str:
    """Where the runs were trained: device, versions of what computed, commit; no name of a machine or a person."""
    found: dict[str, None] = {}
    for run in (run for row in data.rows for run in row.runs):
        source = run.source
        versions, code_at = source.get("versions"), source.get("code")
        parts = [run.status().device or "an unknown device"]
        threads = source.get("threads")
        parts += [f"{threads} CPU threads"] if isinstance(threads, int) and parts[0] == "cpu" else []
        if isinstance(versions, dict):
            parts += [f"{name} {versions[name]}" for name in ("lsc", "torch", "python") if versions.get(name)]
        if isinstance(code_at, dict) and code_at.get("commit"):
            parts.append(f"commit {str(code_at['commit'])[:12]}{' with changes' if code_at.get('dirty') else ''}")
        found[", ".join(parts)] = None
    return bullets(md(line) for line in found)


def sizes(data: StudyData) -> dict[str, dict[str, Any]]:
    """Row key -> parameters of the network and of the class layer; rows that cannot be built here are left out."""
    from lsc_engine.heads.model_sizes import model_sizes

    found: dict[str, dict[str, Any]] = {}
    for key, config in data.configs.items():
        try:
            d = derive(config, data.data_dir)
            found[key] = model_sizes(config, channels=d.channels, size=d.image_size, dim=d.n, classes=d.classes)
        except (LscError, ImportError, RuntimeError):
            continue
    return found
