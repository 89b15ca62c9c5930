"""Reports of kinds that do not train: properties of vector systems (arXiv:2512.07509, Table 1; 2510.04090, Table 1 and
Figures 1 and 2), the data sets (2510.04090, Table 2), and benchmarks, kept as JSON in the study's folder."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lsc_engine.analysis.claims import CHECKS, UNITS, quantity
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.formatting import NOTHING, grouped, significant, size
from lsc_engine.common.safe_io import UnreadableError, read_json, replace_json
from lsc_engine.common.userpaths import home
from lsc_engine.config.preset import BenchReport, DatasetsReport, VectorsReport
from lsc_engine.data.dataset import Selection, data_set
from lsc_engine.report import figures
from lsc_engine.report.page import Page, bullets, csv_text, md, plain, table
from lsc_engine.runs.read.studies import Study
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.registry import facts, family_of, n_min

# Histograms of cosines in one figure.
_PANELS = 9
_HEAD = "system|n|vectors|max cosine|smallest angle|before dropping|mean acute angle|rank|neighbours|sure below|"
_HEAD += "exact label|bytes|source"
_LEAST = "classes|system|n_min|vectors|in use %|max cosine|smallest angle|classes so near|bytes|database bytes"
_NOTE = (
    "Smallest angle: of the vectors as they are used. Before dropping: of the roots and midpoints in n + 1 "
    "coordinates, where the family is made by leaving one out. Mean acute angle: over all pairs under 90°. Sure "
    "below: 1 − cos of half the smallest angle. Angles in degrees; bytes of one embedding in float32."
)
_LEAST_NOTE = (
    "Classes so near: expected classes in use at the smallest angle from one class, in shuffled order. Database: one "
    "embedding per class in float32."
)
_PICTURES = (
    "A_2: the roots in the plane of sum 0, a coordinate left out, and with all angles kept",
    "A_3: a coordinate left out, and with all angles kept",
)
_DATA_HEAD = ("data set", "here", "training images", "validation images", "classes", "size", "paper")
_DATA_NOTE = (
    "With labels of its own a data set trains on its training split; with every image its own class there are no "
    "validation images. Counts of folders are those of the files found, else those that the data set is known to have."
)


def add_systems(report: VectorsReport, page: Page) -> None:
    """Tables of properties and of the smallest n, and pictures."""
    known = []
    for n in report.n:
        for name in report.systems:
            # A simplex is made for its classes; the largest that n dimensions hold is the one of its table.
            sizes = {"simplex": n + 1, "planar": max(report.classes, default=128)}
            try:
                known.append(facts(name, n, sizes.get(name)))
            except UsageError as error:
                page.missing.append(f"{name} at n = {n}: {error.faults[0]}")
    rows = [_properties(one) for one in known]
    least = [row for classes in report.classes for row in _least(report.systems, classes, page)]
    for title, name, columns, found, align, note in (
        ("Properties", "systems", _HEAD, rows, "lrrrrrrrrr", _NOTE),
        ("Smallest n", "n_min", _LEAST, least, "rlrrrrrrrr", _LEAST_NOTE),
    ):
        if found:
            head = columns.split("|")
            page.write(f"{name}.csv", csv_text(head, [list(row.values()) for row in found]))
            cells = [[_cell(key, value) for key, value in row.items()] for row in found]
            page.add(title, table(head, cells, align), note)
        page.tables.append((name, found))
    if report.pictures:
        for title, files in zip(_PICTURES, figures.draw_roots(page.folder), strict=True):
            page.add_figure("Pictures", title, files)
    shown = [o for o in known if o.n == max(report.n) and family_of(o.name) is not None and o.name not in ("W6", "W8")]
    panels = [(f"{o.name}, n = {o.n}", cosines) for o in shown[:_PANELS] if (cosines := o.cosine_histogram())]
    if panels:
        title = f"How many of the other vectors lie at each cosine from one vector, n = {max(report.n)}"
        page.add_figure("Pictures", title, figures.draw_cosines(panels, page.folder))


def _properties(known: VectorSystem) -> dict[str, Any]:
    near, undropped = known.neighbours, known.undropped_max_cosine
    row: dict[str, Any] = {"system": known.name, "n": known.n, "vectors": known.count, "max cosine": known.max_cosine}
    row |= {"angle": known.min_angle_deg, "before": None if undropped is None else math.degrees(math.acos(undropped))}
    row |= {"mean": mean_acute_angle(known), "rank": known.rank}
    row["neighbours"] = None if near is None else " to ".join(str(x) for x in dict.fromkeys(near))
    row |= {"sure": known.guaranteed_below, "decode": known.decode, "bytes": 4 * known.n, "source": known.source}
    return row


def mean_acute_angle(system: VectorSystem) -> float | None:
    """The mean angle in degrees over all pairs of vectors whose cosine is above 0; None if there are none."""
    try:
        acute = [(cosine, often) for cosine, often in system.cosine_histogram() if cosine > 1e-12]
    except UsageError:
        return None
    total = sum(often for _, often in acute)
    return sum(math.degrees(math.acos(min(1.0, c))) * often for c, often in acute) / total if total else None


def _least(systems: Sequence[str], classes: int, page: Page) -> list[dict[str, Any]]:
    rows = []
    for name in systems:
        try:
            n = n_min(name, classes)
            known = facts(name, n, classes)
            near = known.used_neighbours(classes)
        except UsageError as error:
            page.missing.append(f"{name} for {classes} classes: {error.faults[0]}")
            continue
        row: dict[str, Any] = {"classes": classes, "system": name, "n_min": n, "vectors": known.count}
        row |= {"in use": round(100 * classes / known.count, 2), "max cosine": known.max_cosine}
        row["angle"] = known.min_angle_deg
        row["near"] = None if near is None else " to ".join(f"{x:.4g}" for x in dict.fromkeys(near))
        rows.append({**row, "bytes": 4 * n, "database": 4 * n * classes})
    return rows


def _cell(key: str, value: Any) -> str:
    if key == "database":
        return size(value)
    if isinstance(value, int):
        return grouped(value)
    if isinstance(value, float):
        return f"{value:.1f}" if key in ("angle", "before", "mean", "in use") else significant(value)
    return NOTHING if value is None else md(value)


def add_datasets(report: DatasetsReport, printed: Mapping[str, str], data_dir: Path | None, page: Page) -> None:
    """Images found of each data set beside the numbers that a paper prints, and how to get the others."""
    rows, how = [], []
    for name in report.names:
        chosen = data_set(name)
        known, made = chosen.facts, chosen.made_from_index
        found = chosen.locate(data_dir) is not None
        if not found:
            sentence = chosen.missing(data_dir).removeprefix("data.dataset: ")
            page.missing.append(sentence if (base := home()) is None else sentence.replace(f"{base}/", "~/"))
        images, val_images = ("any", "any") if made else (NOTHING, NOTHING)
        if not made:
            with contextlib.suppress(LscError):
                counts = chosen.count(Selection(data_dir=data_dir))
                about = "" if counts.exact and (found or known.images is not None) else "about "
                images = f"{about}{grouped(counts.images)}"
                val_images = grouped(counts.val_images) if counts.val_images else NOTHING
        cells = [md(known.title), "made here" if made else "found" if found else "not here", images, val_images]
        cells.append(grouped(known.classes) if known.classes else "any")
        rows.append([*cells, f"{known.size} px" if known.size else "as they are", md(printed.get(name, NOTHING))])
        how += [f"{md(known.title)}: {md(known.how)}"] if known.how else []
    page.add("Images", table(_DATA_HEAD, rows, "llrrrrr"), _DATA_NOTE)
    page.add("How to get them", bullets(how))
    page.tables.append(("data sets", [dict(zip(_DATA_HEAD, row, strict=True)) for row in rows]))


def _kept_result(study: Study, name: str, report: BenchReport) -> dict[str, Any] | None:
    with contextlib.suppress(UnreadableError):
        kept = read_json(study.path / f"bench-{name}.json", 16 << 20)
        if kept.get("arguments") == json.loads(json.dumps(report.arguments.get(name, {}))):
            return kept
    return None


def measure(study: Study, report: BenchReport) -> list[str]:
    """Run the benchmarks that have no result with these arguments; the names of those that ran."""
    from lsc_engine.bench import command_line, run

    ran = [name for name in report.names if _kept_result(study, name, report) is None]
    for name in ran:
        arguments = dict(report.arguments.get(name, {}))
        quick = bool(arguments.pop("quick", False))
        document = run(name, quick=quick, **arguments).document()
        document |= {"command": command_line(name, quick, None, arguments), "arguments": report.arguments.get(name, {})}
        study.path.mkdir(parents=True, exist_ok=True)
        replace_json(study.path / f"bench-{name}.json", document)
    return ran


def add_benches(study: Study, report: BenchReport, page: Page) -> None:
    """A section for each benchmark: its bars, its tables, also as CSV, and figures of sizes against classes."""
    for name in report.names:
        found = _kept_result(study, name, report)
        if found is None:
            page.missing.append(f"benchmark {name} was not run: lsc-engine run {study.name} measures it")
            continue
        section = f"Benchmark {md(name)}"
        title = str(found.get("title", name))
        checks = [row for row in found.get("checks", []) if isinstance(row, dict)]
        page.tables.append((f"{name}{CHECKS}", checks))
        page.add(section, f"{md(title[:1].upper() + title[1:])}.", _rows_table(checks))
        for number, one in enumerate(found.get("tables", []), 1):
            rows = [row for row in one.get("rows", []) if isinstance(row, dict)]
            page.tables.append((f"{name} {number}", rows))
            page.add(section, f"**{md(one.get('title', ''))}**" if one.get("title") else "", _rows_table(rows))
            lines = [list(row.values()) for row in rows]
            page.write(f"{name}-{number}.csv", csv_text(list(rows[0]) if rows else [], lines))
            page.add(section, *size_figures(f"{name}-{number}", rows, page))
        page.add(section, bullets(md(note) for note in found.get("notes", [])))
        machine = found.get("machine")
        if isinstance(machine, dict) and machine:
            where = ", ".join(f"{key} {value}" for key, value in machine.items())
            page.add(section, f"Measured by `{plain(found.get('command', ''))}` on {md(where)}.")


def _rows_table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    from lsc_engine.bench import shown

    numbers = "".join("r" if isinstance(value, int | float) else "l" for value in rows[0].values())
    return table(list(map(md, rows[0])), [[md(shown(row.get(key))) for key in rows[0]] for row in rows], numbers)


def size_figures(name: str, rows: Sequence[dict[str, Any]], page: Page) -> list[str]:
    """A figure for each kind of size that is known for at least three numbers of classes."""
    if len({row.get("classes") for row in rows if isinstance(row.get("classes"), int)}) < 3:
        return []
    # What distinguishes the lines of one column: texts that are sizes in no row.
    names = [key for key in rows[0] if all(isinstance(r.get(key), str) and not size_of(key, r[key]) for r in rows)]
    kinds: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        words = " ".join(row[key] for key in names)
        for key, value in row.items():
            if key != "classes" and (found := size_of(key, value)):
                line = kinds.setdefault(found[1], {}).setdefault(f"{key} {words}".strip(), [])
                line.append((float(row["classes"]), found[0]))
    texts = []
    for kind, lines in kinds.items():
        if series := [(plain(title)[:40], points) for title, points in lines.items() if len(points) > 1]:
            files = figures.draw_against_classes(series, kind, f"{name}-{kind.split()[0]}", page.folder)
            page.files += files
            texts.append(f"![{kind} against classes]({files[0].name})\n\n{kind[:1].upper()}{kind[1:]} against classes.")
    return texts


def size_of(key: str, value: Any) -> tuple[float, str] | None:
    """A positive size and its kind, from a number under a key that names its unit, or from a text like "12.8 MB"."""
    found = quantity(value)
    if found is None:
        return None
    number, unit = found
    unit = unit or next((word for word in re.split(r"[^A-Za-z]+", key) if word in UNITS), "")
    if unit in UNITS and number > 0 and math.isfinite(number):
        factor, kind = UNITS[unit]
        return number * factor, kind
    counted = next((word for word in ("parameters", "batch") if word in key.lower()), None)
    return (number, counted) if counted is not None and not unit and number > 0 else None
