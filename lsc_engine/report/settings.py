"""The sections of a report that tell what was done: data, settings with their marks, the tries, the vectors in use."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lsc_engine.analysis.compare import Row
from lsc_engine.config import RunConfig, derive, fields
from lsc_engine.config.build import raw_variants, sections_of
from lsc_engine.config.derived import is_table
from lsc_engine.config.schema import flatten
from lsc_engine.config.summary import summary
from lsc_engine.errors import LscError
from lsc_engine.report.material import Material
from lsc_engine.report.results import NEVER, spread
from lsc_engine.report.text import bullets, code, grouped, md, short, table

DEFAULT_MARK = "ours: default"
# Settings that say when things are looked at, not what is trained; told where they are marked or differ.
_LOOKING = ("log.", "checkpoint.", "eval.", "train.compile")
# Rows of a table whose cosines are all compared.
_MOST_ROWS = 8192
_BY_ITSELF = ("eval.class_means",)
# Settings that act only where another one has one of these values.
_DISTANCE = ("target.loss", ("distance", "cosine+distance"))
IDLE = {
    "data.augment_per": ("data.augment", ("light1",)), "target.radius": _DISTANCE, "target.cluster_radius": _DISTANCE,
    "target.weights": ("target.loss", ("cosine+distance",)), "target.bottleneck": ("target.method", ("ce",)),
    "optimizer.gamma": ("optimizer.schedule", ("steps",)),
}  # fmt: skip


def data_text(material: Material) -> str:
    """What was trained on, one line for each data set."""
    lines: dict[str, None] = {}
    for config in material.configs.values():
        lines[_data_line(config, material)] = None
    return bullets(lines)


def _data_line(config: RunConfig, material: Material) -> str:
    data = config.data
    try:
        derived = derive(config, material.data_dir)
        about = "" if derived.counted else "about "
        images, classes, size = f"{about}{grouped(derived.images)}", derived.classes, derived.image_size
        held = f", {grouped(derived.val_images)} validation images" if derived.val_images else ""
    except LscError:
        images, classes, size, held = "?", data.classes or 0, data.image_size or 0, ""
    labels = "every image its own class" if data.labels == "unique" else "the data set's classes"
    memory = " (training accuracy is memorisation here)" if data.labels == "unique" else ""
    other = f", validated on {md(config.eval.dataset)}" if config.eval.dataset else ""
    views = "" if data.augment == "none" else f", augmentation {data.augment}"
    return (
        f"{md(data.dataset)}: {images} images of {size} px, {grouped(classes)} classes, {labels}{memory}"
        f"{held}{other}{views}"
    )


def setting_table(material: Material) -> str:
    """Every setting with its value, per variant where they differ, and its mark: paper, inferred or ours."""
    marks = material.provenance()
    rows = []
    tables = {row.key: row.settings for row in material.rows}
    given = _given(material)
    for key in _told_keys(tables, marks):
        values = {row.label: table.get(key) for row, table in zip(material.rows, tables.values(), strict=True)}
        rows.append([code(key), _value_words(values), md(_mark(key, marks, given))])
    seeds = sorted({run.seed for row in material.rows for run in row.runs})
    rows.append([code("seeds"), ", ".join(map(str, seeds)), md(marks.get("seeds", "ours"))])
    return table(("setting", "value", "mark"), rows)


def _told_keys(tables: Mapping[str, Mapping[str, Any]], marks: Mapping[str, str]) -> list[str]:
    order = {setting.key: place for place, setting in enumerate(fields())}
    keys = dict.fromkeys(key for one in tables.values() for key in one)

    def told(key: str) -> bool:
        if key in marks:
            return True
        if key in IDLE and not any(one.get(IDLE[key][0]) in IDLE[key][1] for one in tables.values()):
            return False
        values = [one.get(key) for one in tables.values()]
        differs = any(value != values[0] for value in values[1:])
        return key not in _BY_ITSELF and (differs or not key.startswith(_LOOKING))

    return sorted((key for key in keys if told(key)), key=lambda key: (order.get(key, len(order)), key))


def _value_words(values: Mapping[str, Any]) -> str:
    listed = list(values.values())
    if all(value == listed[0] for value in listed):
        return md(_word(listed[0]))
    by_value: dict[str, list[str]] = {}
    for label, value in values.items():
        by_value.setdefault(_word(value), []).append(label)
    return "; ".join(f"{md(value)} ({md(', '.join(labels))})" for value, labels in by_value.items())


def _word(value: Any) -> str:
    if value is None:
        return NEVER
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_word, value)) or "none"
    if isinstance(value, int):
        return grouped(value) if abs(value) >= 10_000 else str(value)
    return "none" if value == {} else str(value)


def _given(material: Material) -> set[str]:
    """The settings that the preset names itself."""
    if material.preset is None:
        return set()
    try:
        raw = tomllib.loads(material.preset.text)
    except tomllib.TOMLDecodeError:
        return set()
    return {key for table in (raw, *raw_variants(raw)) for key in flatten(sections_of(table))}


def _mark(key: str, marks: Mapping[str, str], given: Collection[str]) -> str:
    """A setting's mark: its own, its section's, or ours: a choice of the preset, or a default."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        found = marks.get(".".join(parts[:length]))
        if found is not None:
            return found
    return "ours" if key in given else DEFAULT_MARK


# --- vectors ----------------------------------------------------------------------------------------------------------


def vector_table(material: Material) -> str:
    """Per variant: the system, its vectors and the share in use, the smallest angle, the classes in use there, and the
    loss under which an image's label is sure. They say why loss and accuracy can disagree."""
    head = ("variant", "system", "n", "vectors", "in use", "smallest angle", "classes so near", "sure below",
            "train loss", "exact label")  # fmt: skip
    rows = []
    for row in material.rows:
        config = material.configs.get(row.key)
        if config is None or config.target.method != "lsc":
            continue
        known = summary(config, material.data_dir) | _measured(config, row)
        near = known.get("near_in_use")
        sure = known.get("sure_below")
        angle = known.get("min_angle_deg")
        share = known.get("in_use")
        system = str(row.settings.get("target.system"))
        rows.append([
            md(row.label), md(system), grouped(known.get("n")), grouped(known.get("count")),
            f"{100 * share:.3g} %" if share is not None else NEVER, f"{angle:.1f}°" if angle is not None else NEVER,
            _range(near) if near else NEVER, short(sure) if sure is not None and row.kind == "c" else NEVER,
            spread(row.last.get("train/loss"), 1), md(known.get("decode") or NEVER),
        ])  # fmt: skip
    text = table(head, rows, "llrrrrrrr")
    if not text:
        return ""
    told = (
        "Classes so near: how many classes in use lie at the smallest angle from one class, expected. Sure below: "
        "1 − cos of half the smallest angle; an image whose own cosine loss is under it has the right label whatever "
        "the others do. With few near classes labels come right while the loss is still above it."
    )
    return f"{text}\n\n{told}"


def _measured(config: RunConfig, row: Row) -> dict[str, Any]:
    """Angle and sure loss of a table of vectors, measured on its rows (of the first seed's, where they differ)."""
    if not is_table(config.target.system):
        return {}
    import torch

    from lsc_engine.training.trained import head_of

    classes = config.data.classes or 0
    if not 2 <= classes <= _MOST_ROWS:
        return {}
    try:
        head = head_of(config, row.runs[0], classes=classes, dim=None)
    except (LscError, OSError):
        return {}
    rows = head.centres(torch.arange(classes))
    assert rows is not None
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-1.0)
    largest = min(1.0, float(cosines.max()))
    near = (cosines >= largest - 1e-6).sum(1)
    return {
        "sure_below": 1 - math.sqrt((1 + largest) / 2),
        "min_angle_deg": math.degrees(math.acos(largest)),
        "near_in_use": [int(near.min()), int(near.max())],
    }


def _range(pair: Sequence[float]) -> str:
    low, high = (f"{x:.3g}" if x < 1000 else grouped(round(x)) for x in pair)
    return low if low == high else f"{low} to {high}"


def sure_levels(material: Material) -> dict[str, float]:
    """Row key -> the cosine loss under which a label is sure."""
    found = {}
    for row in material.rows:
        config = material.configs.get(row.key)
        if config is not None and row.kind == "c":
            sure = (summary(config, material.data_dir) | _measured(config, row)).get("sure_below")
            if sure is not None and math.isfinite(sure):
                found[row.key] = float(sure)
    return found


def sizes(material: Material) -> dict[str, dict[str, Any]]:
    """Row key -> parameters of the network and of the class layer; rows that cannot be built here are left out."""
    from lsc_engine.models import describe

    found: dict[str, dict[str, Any]] = {}
    for key, config in material.configs.items():
        try:
            d = derive(config, material.data_dir)
            found[key] = describe(config, channels=d.channels, size=d.image_size, dim=d.n, classes=d.classes)
        except (LscError, ImportError, RuntimeError):
            continue
    return found


def made_with(material: Material) -> str:
    """Where the runs were trained: device, versions of what computed, commit; no name of a machine or a person."""
    found: dict[str, None] = {}
    for row in material.rows:
        for run in row.runs:
            source = run.source
            versions = source.get("versions") if isinstance(source.get("versions"), dict) else {}
            code_at = source.get("code") if isinstance(source.get("code"), dict) else {}
            assert isinstance(versions, dict)
            assert isinstance(code_at, dict)
            parts = [run.status().device or "an unknown device"]
            threads = source.get("threads")
            parts += [f"{threads} CPU threads"] if isinstance(threads, int) and parts[0] == "cpu" else []
            parts += [f"{name} {versions[name]}" for name in ("lsc", "torch", "python") if versions.get(name)]
            commit = code_at.get("commit")
            parts += [f"commit {str(commit)[:12]}{' with changes' if code_at.get('dirty') else ''}"] if commit else []
            found[", ".join(map(str, parts))] = None
    return bullets(md(line) for line in found)
