"""`nmin` and `vectors`: what the predefined vector systems hold, and their vectors."""

from __future__ import annotations

import contextlib
import csv
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from lsc_engine.cli.options import Force, Json, arg, command, new_file, num, opt
from lsc_engine.cli.output import answer, message, print_json, table
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import counted, grouped, parse_count, size
from lsc_engine.common.safe_io import write_csv
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.registry import at_n_min, canonical, facts, listed, n_min, too_few
from lsc_engine.vectors.registry import system as open_system

# More rows than this are written only on request.
MANY_ROWS = 10**6
# Rows shown where the user did not say how many.
FEW_ROWS = 8
# exp of more is no float.
MOST_SCALE = 700.0
ROWS_AT_ONCE = 4096

Scale = Annotated[float, num("--scale", "S", "The scale s of the crowding, the mean of exp(s cos) over pairs.", float)]


@command("nmin")
def nmin(
    classes: Annotated[str, arg("CLASSES", "Number of classes: 300000, 300_000, 300k, 1.28M.")],
    systems: Annotated[list[str] | None, opt("--system -s", "SYSTEM", "List it first; may be repeated.")] = None,
    max_cosine: Annotated[float | None, num("--max-cosine", "X", "Systems beyond it come last, marked.", float)] = None,
    scale: Scale = 16.0,
    as_json: Json = False,
) -> None:
    """Smallest n at which each vector system holds that many classes.

    Example: lsc-engine nmin 300k --max-cosine 0.75
    """
    faults: list[str] = []
    number, requested = 1, []
    try:
        number = parse_count(classes)
    except UsageError as error:
        faults += error.faults
    for name in systems or []:
        try:
            requested.append(canonical(name))
            n_min(requested[-1], 1)
        except UsageError as error:
            faults += [f"--system: {fault.removeprefix('target.system: ')}" for fault in error.faults]
    if max_cosine is not None and not -1 <= max_cosine <= 1:
        faults.append(f"--max-cosine: {max_cosine:g} is not a cosine, -1 to 1")
    faults += _scale_faults(scale)
    if faults:
        raise UsageError(*faults)

    limit = math.inf if max_cosine is None else max_cosine + 1e-12
    wanted = 1.0 if max_cosine is None else max_cosine
    held = [at_n_min(name, number, wanted) for name in requested]
    for name in listed():
        # A family of bounded n that holds fewer is left out.
        with contextlib.suppress(UsageError):
            held += [at_n_min(name, number, wanted)] if name not in requested else []
    rows = [(known.max_cosine > limit, known) for known in held]
    # What was requested comes first, the rest by n, those beyond the limit last.
    rows.sort(key=lambda row: (row[0], (0, 0) if row[1].name in requested else (1, row[1].n)))

    def document() -> dict[str, Any]:
        found = [{**_row(known, number, scale), "beyond_max_cosine": beyond} for beyond, known in rows]
        return {"classes": number, "systems": found}

    answer(as_json, document, lambda: _nmin_text(number, max_cosine, rows, scale))


@command("vectors")
def vectors(
    system: Annotated[str, arg("SYSTEM", "Name of a vector system: A, V21, V22, W2, simplex, file:PATH, ...")],
    n: Annotated[int, num("--n", "N", "Latent dimension.")],
    classes: Annotated[str | None, opt("--classes", "C", "Number of classes (planar and simplex need it).")] = None,
    seed: Annotated[int, num("--seed", "S", "Seed of random systems.")] = 0,
    scale: Scale = 16.0,
    file: Annotated[Path | None, opt("--csv", "FILE", "Write unit rows in index order to FILE ('-': stdout).")] = None,
    limit: Annotated[int | None, num("--limit", "K", "Number of vectors at most.", min=1)] = None,
    force: Force = False,
    as_json: Annotated[bool, opt("--json", None, "Print one JSON document; with --limit, the vectors too.")] = False,
) -> None:
    """Properties of a vector system, and its vectors in index order.

    Example: lsc-engine vectors V21 --n 14 --csv v21.csv
    """
    number = parse_count(classes) if classes is not None else None
    if faults := _scale_faults(scale):
        raise UsageError(*faults)
    if file is not None and str(file) != "-":
        file = new_file("--csv", file, force, ".csv")
    try:
        name = canonical(system)
        if name.startswith("embeddings:"):
            raise UsageError(f"{name}: `lsc-engine embed` writes the class means of a run, then file:PATH shows them")
        # Those of files by reading them.
        known = open_system(name, n, classes=number) if name.startswith("file:") else facts(name, n, number, seed)
    except UsageError as error:
        raise UsageError(*(fault.replace("target.system:", "SYSTEM:", 1) for fault in error.faults)) from error
    if number is not None and (fault := too_few(name, n, number)) is not None:
        raise UsageError(f"--classes: {fault}")
    rows = min(known.choosable, limit if limit is not None else known.choosable)
    if file is not None:
        if rows > MANY_ROWS and limit is None:
            many = f"{name} at n = {n} has {grouped(rows)} vectors"
            raise UsageError(f"--csv: {many}; give --limit for more than 10^6 rows")
        _write_csv(file, _unit_rows(known, rows))
        if str(file) != "-":
            message(f"{file}: {grouped(rows)} rows of {n} numbers")
    if as_json and str(file) != "-":
        low, high = known.neighbours or (None, None)
        near = low if low == high else [low, high]
        document = {**_row(known, number or known.count, scale), "rank": known.rank, "neighbours": near}
        if limit is not None:
            document["vectors"] = list(_unit_rows(known, rows))
        print_json(document)
    elif file is None:
        _print_vectors(known, number, rows if limit is not None else min(rows, FEW_ROWS), scale)


def _scale_faults(scale: float) -> list[str]:
    return [] if 0 < scale <= MOST_SCALE else [f"--scale: {scale:g} is not above 0 and at most {MOST_SCALE:g}"]


def _row(known: VectorSystem, classes: int, scale: float) -> dict[str, Any]:
    crowding, sampled = known.crowding(scale)
    return {
        "system": known.name,
        "n": known.n,
        "count": known.count,
        "max_cosine": _short(known.max_cosine, 4),
        "max_cosine_note": known.max_cosine_note or None,
        "crowding": crowding,
        "crowding_scale": scale,
        "crowding_sampled": sampled,
        "min_angle_deg": _short(known.min_angle_deg, 2),
        "sure_below": _short(known.guaranteed_below, 4),
        "in_use": round(min(1.0, classes / known.count), 4),
        "bytes_per_vector": 4 * known.n,
        "database_bytes": 4 * known.n * min(classes, known.count),
        "label": known.decode,
        "source": known.source,
    }


def _short(value: float, places: int) -> float:
    """Rounded, unless that would make it 0, 1 or -1 when it is not."""
    short = round(value, places)
    return value if short in (0, 1, -1) and short != value and abs(value - short) > 1e-12 else short


def _unit_rows(known: VectorSystem, rows: int) -> Iterator[list[float]]:
    import torch

    # Some families are counted and not computed.
    vectors = known if known.is_table else open_system(known.name, known.n, classes=known.classes, seed=known.seed)
    for start in range(0, rows, ROWS_AT_ONCE):
        block = vectors.vectors(torch.arange(start, min(rows, start + ROWS_AT_ONCE)))
        # Nine digits name a float32 exactly.
        yield from ([float(f"{x:.9g}") + 0.0 for x in row] for row in block.tolist())


def _write_csv(file: Path, unit_rows: Iterator[list[float]]) -> None:
    """Rows of n numbers, no header, so that file:PATH reads them back. The file appears when it is whole."""
    lines = ([f"{x:.9g}" for x in row] for row in unit_rows)
    if str(file) == "-":
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines)
        return
    try:
        write_csv(file, lines)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _nmin_text(classes: int, max_cosine: float | None, rows: list[tuple[bool, VectorSystem]], scale: float) -> str:
    head = ["SYSTEM", "n_min", "VECTORS", "USED", "COS", "CROWD", "ANGLE", "SURE", "B/VEC", "DATABASE", "LABEL"]
    cells = [
        [
            f"! {known.name}" if beyond else known.name,
            grouped(known.n),
            grouped(known.count),
            f"{100 * classes / known.count:.1f}%",
            ("~" if known.max_cosine_note else "") + _cosine(known.max_cosine),
            _crowding(known, scale),
            _number(known.min_angle_deg, 1),
            _number(known.guaranteed_below, 4),
            grouped(4 * known.n),
            size(4 * known.n * classes),
            known.decode,
        ]
        for beyond, known in rows
    ]
    lines = table(head, cells, " rrrrrrrrr").splitlines()
    within = 1 + sum(not beyond for beyond, _ in rows)
    if within < len(lines) and max_cosine is not None:
        lines.insert(within, f"-- ! cosine above {max_cosine:g} --")
    lines.append(f"CROWD: the mean of exp({scale:g} cos) over pairs of vectors; ~ estimated")
    return "\n".join([f"smallest n for {counted(classes, 'class', 'classes')}", *lines])


def _print_vectors(known: VectorSystem, classes: int | None, rows: int, scale: float) -> None:
    near, note = known.neighbours, f", {known.max_cosine_note}" if known.max_cosine_note else ""
    cosine = f"{_cosine(known.max_cosine)} ({_number(known.min_angle_deg, 2)} degrees){note}"
    lines = [
        ("system", f"{known.name} at n = {known.n}"),
        ("vectors", grouped(known.count)),
        ("max cosine", "that of the vectors in use: --classes" if math.isnan(known.max_cosine) else cosine),
        ("crowding", f"{_crowding(known, scale)} (mean of exp({scale:g} cos) over pairs of vectors)"),
        ("sure below", f"{_number(known.guaranteed_below, 4)} (1 - cos of half the smallest angle)"),
        ("rank", grouped(known.rank)),
        ("neighbours", "-" if near is None else " to ".join(grouped(x) for x in dict.fromkeys(near))),
        ("exact label", known.decode),
        ("bytes/vector", grouped(4 * known.n)),
        ("source", known.source),
    ]
    if classes is not None:
        used = known.used_neighbours(classes)
        lines.insert(2, ("in use", f"{grouped(classes)} ({100 * classes / known.count:.3g}%)"))
        if used is not None:
            lines.append(("near in use", " to ".join(f"{x:.4g}" for x in dict.fromkeys(used))))
    for key, value in lines:
        print(f"{key:<13} {value}")
    try:
        found = list(_unit_rows(known, rows))
    except ValueError as error:
        print(f"no vectors shown: {error}")
        return
    print()
    for index, row in enumerate(found):
        # The weights that are not zero with their columns, counted from 0; at most twelve.
        parts = [f"{x:+.4f} [{column}]" for column, x in enumerate(row) if x]
        print(f"{index:>8} {'  '.join(parts[:12])}" + ("  ..." if len(parts) > 12 else ""))
    if rows < known.count:
        print(f"{grouped(known.count - rows)} more: --limit, --csv")


def _crowding(known: VectorSystem, scale: float) -> str:
    value, sampled = known.crowding(scale)
    return "-" if math.isnan(value) else f"{'~' if sampled else ''}{value:.4g}"


def _cosine(value: float) -> str:
    return _number(value, 3).replace("-0.000", "0.000")


def _number(value: float, places: int) -> str:
    return f"{value:.{places}f}".replace("nan", "-")
