"""The report of kind "vectors": properties of systems (arXiv:2512.07509, Table 1; 2510.04090, Table 1), smallest n per
number of classes, and pictures of A_2 and A_3 (2510.04090, Figures 1 and 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsc_engine.config.reporting import VectorsReport
from lsc_engine.errors import UsageError
from lsc_engine.report.text import bullets, csv_text, grouped, md, section, short, size, table
from lsc_engine.runs.files import write_whole
from lsc_engine.vectors import patterns
from lsc_engine.vectors.counting import SystemFacts, cosine_histogram, facts, n_min, near_in_use, parse

# Pairs of angles are averaged up to this n only: it takes time that grows with the pattern, not with n.
_PANELS = 9


def vector_sections(
    asked: VectorsReport, folder: Path, missing: list[str]
) -> tuple[list[str], list[Path], list[tuple[str, list[dict[str, Any]]]]]:
    """The page's sections, the files written into `folder`, and the rows of its tables by name; what cannot be had goes
    to `missing`."""
    known = _all_facts(asked, missing)
    rows = [_row(one) for one in known]
    least = [row for classes in asked.classes for row in _least(asked.systems, classes, missing)]
    files = [_write(folder / "systems.csv", _HEAD, [list(row.values()) for row in rows])] if rows else []
    files += [_write(folder / "n_min.csv", _LEAST, [list(row.values()) for row in least])] if least else []
    drawn, pictures = _pictures(asked, known, folder)
    parts = [
        section("Properties", table(_HEAD, map(_shown, rows), "lrrrrrrrrr"), _NOTE) if rows else "",
        section("Smallest n", table(_LEAST, map(_shown, least), "rlrrrrrrrr"), _LEAST_NOTE) if least else "",
        section("Pictures", *drawn),
    ]
    return [part for part in parts if part], files + pictures, [("systems", rows), ("n_min", least)]


_HEAD = ("system", "n", "vectors", "max cosine", "smallest angle", "before dropping", "mean acute angle", "rank",
         "neighbours", "sure below", "exact label", "bytes", "source")  # fmt: skip
_LEAST = ("classes", "system", "n_min", "vectors", "in use %", "max cosine", "smallest angle", "classes so near",
          "bytes", "database bytes")  # fmt: skip
_NOTE = (
    "Smallest angle: of the vectors as they are used. Before dropping: of the roots and midpoints in n + 1 "
    "coordinates, where the family is made by leaving one out. Mean acute angle: over all pairs under 90°. Sure "
    "below: 1 − cos of half the smallest angle. Angles in degrees; bytes of one embedding in float32."
)
_LEAST_NOTE = (
    "Classes so near: expected classes in use at the smallest angle from one class, in shuffled order. Database: one "
    "embedding per class in float32."
)


def _all_facts(asked: VectorsReport, missing: list[str]) -> list[SystemFacts]:
    found = []
    for n in asked.n:
        for name in asked.systems:
            try:
                # A simplex is made for its classes; the largest that n dimensions hold is the one of its table.
                found.append(facts(name, n, n + 1 if parse(name).family == "simplex" else _planar(name, asked)))
            except UsageError as error:
                missing.append(f"{name} at n = {n}: {error.faults[0]}")
    return found


def _planar(name: str, asked: VectorsReport) -> int | None:
    return max(asked.classes, default=128) if parse(name).family == "planar" else None


def _row(known: SystemFacts) -> dict[str, Any]:
    near = known.neighbours
    return {
        "system": known.system,
        "n": known.n,
        "vectors": known.count,
        "max cosine": known.max_cosine,
        "angle": known.min_angle_deg,
        "before": before_dropping(known.system, known.n),
        "mean": mean_acute_angle(known.system, known.n, known.count),
        "rank": known.rank,
        "neighbours": None if near is None else " to ".join(str(x) for x in dict.fromkeys(near)),
        "sure": known.sure_below,
        "decode": known.decode,
        "bytes": 4 * known.n,
        "source": known.source,
    }


def before_dropping(name: str, n: int) -> float | None:
    """The smallest angle in degrees of a family of A before a coordinate is left out; None for other families."""
    roots, middle = patterns.orbit(1, -1), patterns.orbit(1, 1, -2)
    middles = (middle, patterns.negative(middle))
    orbits = {"A": (roots,), "Ap": (roots,), "A-mid": middles, "A-interp": (roots, *middles)}.get(parse(name).family)
    if orbits is None:
        return None
    seen = [max(cosines) for _, cosines in patterns.spectra(orbits, n + 1) if cosines]
    return math.degrees(math.acos(patterns.root(max(seen)))) if seen else None


def mean_acute_angle(name: str, n: int, count: int) -> float | None:
    """The mean angle in degrees over all pairs of vectors whose cosine is above 0; None where there are none."""
    try:
        cosines = cosine_histogram(name, n, count if parse(name).family in ("simplex", "planar") else None)
    except UsageError:
        return None
    acute = [(cosine, often) for cosine, often in cosines if cosine > 1e-12]
    total = sum(often for _, often in acute)
    return sum(math.degrees(math.acos(min(1.0, c))) * often for c, often in acute) / total if total else None


def _least(systems: Sequence[str], classes: int, missing: list[str]) -> list[dict[str, Any]]:
    rows = []
    for name in systems:
        try:
            n = n_min(name, classes)
            known, near = facts(name, n, classes), near_in_use(name, n, classes)
        except UsageError as error:
            missing.append(f"{name} for {classes} classes: {error.faults[0]}")
            continue
        rows.append({
            "classes": classes, "system": name, "n_min": n, "vectors": known.count,
            "in use": round(100 * classes / known.count, 2), "max cosine": known.max_cosine,
            "angle": known.min_angle_deg,
            "near": None if near is None else " to ".join(f"{x:.4g}" for x in dict.fromkeys(near)),
            "bytes": 4 * n, "database": 4 * n * classes,
        })  # fmt: skip
    return rows


def _shown(row: dict[str, Any]) -> list[str]:
    cells = []
    for key, value in row.items():
        if key == "database":
            cells.append(size(value))
        elif isinstance(value, int):
            cells.append(grouped(value))
        elif isinstance(value, float):
            cells.append(f"{value:.1f}" if key in ("angle", "before", "mean", "in use") else short(value))
        else:
            cells.append("-" if value is None else md(value))
    return cells


def _write(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    write_whole(path, csv_text(head, rows))
    return path


# --- pictures ---------------------------------------------------------------------------------------------------------


def _pictures(asked: VectorsReport, known: Sequence[SystemFacts], folder: Path) -> tuple[list[str], list[Path]]:
    from lsc_engine.report import drawing

    texts, files = [], []
    if asked.pictures:
        titles = {
            "A2": "A_2: the roots in the plane of sum 0, a coordinate left out, and with all angles kept",
            "A3": "A_3: a coordinate left out, and with all angles kept",
        }
        files += drawing.draw_roots(folder)
        texts += [f"![{md(title)}]({name}.svg)\n\n{md(title)}." for name, title in titles.items()]
    panels = [
        (f"{one.system}, n = {one.n}", cosine_histogram(one.system, one.n, _own(one)))
        for one in known
        if one.n == max(asked.n) and parse(one.system).family != "plugin" and one.system not in ("W6", "W8")
    ][:_PANELS]
    panels = [(title, rows) for title, rows in panels if rows]
    if panels:
        files += drawing.draw_cosines(panels, folder)
        title = f"How many of the other vectors lie at each cosine from one vector, n = {max(asked.n)}"
        texts.append(f"![{md(title)}](cosines.svg)\n\n{md(title)}.")
    return texts, files


def _own(known: SystemFacts) -> int | None:
    return known.count if parse(known.system).family in ("simplex", "planar") else None


def paper_section(values: dict[str, str], note: str, metric: str) -> str:
    """What the source prints, for pages without runs."""
    rows = [[md(key), md(value)] for key, value in values.items()]
    return section("The paper's figures", table(("", md(metric)), rows), bullets([md(note)] if note else []))
