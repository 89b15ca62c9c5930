"""The report of kind "vectors": properties of systems (arXiv:2512.07509, Table 1; 2510.04090, Table 1), smallest n per
number of classes, and pictures of A_2 and A_3 (2510.04090, Figures 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import NOTHING, grouped, significant, size
from lsc_engine.config.reporting import VectorsReport
from lsc_engine.report import figures
from lsc_engine.report.markdown import csv_text, md, table
from lsc_engine.report.page import Page
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.registry import facts, family_of, n_min

# Histograms of cosines in one figure.
_PANELS = 9
_HEAD = ("system", "n", "vectors", "max cosine", "smallest angle", "before dropping", "mean acute angle", "rank",
         "neighbours", "sure below", "exact label", "bytes", "source")  # fmt: skip
_LEAST = ("classes", "system", "n_min", "vectors", "in use %", "max cosine", "smallest angle", "classes so near",
          "bytes", "database bytes")  # fmt: skip
_ONE_DIGIT = ("angle", "before", "mean", "in use")
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


def add_systems(report: VectorsReport, page: Page) -> None:
    """Tables of properties and of the smallest n, and pictures."""
    known = _all_facts(report, page)
    rows = [_row(one) for one in known]
    least = [row for classes in report.classes for row in _least(report.systems, classes, page)]
    for title, name, head, found, align, note in (
        ("Properties", "systems", _HEAD, rows, "lrrrrrrrrr", _NOTE),
        ("Smallest n", "n_min", _LEAST, least, "rlrrrrrrrr", _LEAST_NOTE),
    ):
        if found:
            page.write(f"{name}.csv", csv_text(head, [list(row.values()) for row in found]))
            page.add(title, table(head, map(_cells, found), align), note)
        page.tables.append((name, found))
    _add_pictures(report, known, page)


def _all_facts(report: VectorsReport, page: Page) -> list[VectorSystem]:
    found = []
    for n in report.n:
        for name in report.systems:
            # A simplex is made for its classes; the largest that n dimensions hold is the one of its table.
            sizes = {"simplex": n + 1, "planar": max(report.classes, default=128)}
            try:
                found.append(facts(name, n, sizes.get(name)))
            except UsageError as error:
                page.missing.append(f"{name} at n = {n}: {error.faults[0]}")
    return found


def _row(known: VectorSystem) -> dict[str, Any]:
    near = known.neighbours
    return {
        "system": known.name,
        "n": known.n,
        "vectors": known.count,
        "max cosine": known.max_cosine,
        "angle": known.min_angle_deg,
        "before": before_dropping(known),
        "mean": mean_acute_angle(known),
        "rank": known.rank,
        "neighbours": None if near is None else " to ".join(str(x) for x in dict.fromkeys(near)),
        "sure": known.guaranteed_below,
        "decode": known.decode,
        "bytes": 4 * known.n,
        "source": known.source,
    }


def before_dropping(system: VectorSystem) -> float | None:
    """The smallest angle in degrees of a family of A before a coordinate is left out; None for other families."""
    largest = system.undropped_max_cosine
    return None if largest is None else math.degrees(math.acos(largest))


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
        rows.append({
            "classes": classes, "system": name, "n_min": n, "vectors": known.count,
            "in use": round(100 * classes / known.count, 2), "max cosine": known.max_cosine,
            "angle": known.min_angle_deg,
            "near": None if near is None else " to ".join(f"{x:.4g}" for x in dict.fromkeys(near)),
            "bytes": 4 * n, "database": 4 * n * classes,
        })  # fmt: skip
    return rows


def _cells(row: dict[str, Any]) -> list[str]:
    cells = []
    for key, value in row.items():
        if key == "database":
            cells.append(size(value))
        elif isinstance(value, int):
            cells.append(grouped(value))
        elif isinstance(value, float):
            cells.append(f"{value:.1f}" if key in _ONE_DIGIT else significant(value))
        else:
            cells.append(NOTHING if value is None else md(value))
    return cells


def _add_pictures(report: VectorsReport, known: Sequence[VectorSystem], page: Page) -> None:
    if report.pictures:
        for title, files in zip(_PICTURES, figures.draw_roots(page.folder), strict=True):
            page.add("Pictures", page.figure(title, files))
    panels = [
        (f"{one.name}, n = {one.n}", one.cosine_histogram())
        for one in known
        if one.n == max(report.n) and family_of(one.name) is not None and one.name not in ("W6", "W8")
    ][:_PANELS]
    if panels := [(title, rows) for title, rows in panels if rows]:
        title = f"How many of the other vectors lie at each cosine from one vector, n = {max(report.n)}"
        page.add("Pictures", page.figure(title, figures.draw_cosines(panels, page.folder)))
