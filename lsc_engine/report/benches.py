"""The report of kind "bench": benchmarks run once, kept as JSON in the study's folder, and told from there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsc_engine.analysis.claims import CHECKS
from lsc_engine.analysis.quantities import UNITS, quantity
from lsc_engine.config.reporting import BenchReport
from lsc_engine.report.text import bullets, csv_text, md, plain, section, table
from lsc_engine.runs.files import UnreadableError, read_json, replace_json, write_whole
from lsc_engine.runs.read.studies import Study


def result_file(study: Study, name: str) -> Path:
    """Where the result of one benchmark of a study is kept."""
    return study.path / f"bench-{name}.json"


def known_result(study: Study, name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """The kept result, if it was measured with these arguments."""
    try:
        kept = read_json(result_file(study, name), 16 << 20)
    except UnreadableError:
        return None
    return kept if kept.get("arguments") == json.loads(json.dumps(arguments)) else None


def measure(study: Study, asked: BenchReport) -> list[str]:
    """Run the benchmarks that have no result with these arguments; the names of those that ran."""
    from lsc_engine.bench import command_line, run

    ran = []
    for name in asked.names:
        arguments = dict(asked.arguments.get(name, {}))
        if known_result(study, name, arguments) is not None:
            continue
        quick = bool(arguments.pop("quick", False))
        result = run(name, quick=quick, **arguments)
        document = result.document() | {"command": command_line(name, quick, arguments)}
        study.path.mkdir(parents=True, exist_ok=True)
        replace_json(result_file(study, name), document | {"arguments": asked.arguments.get(name, {})})
        ran.append(name)
    return ran


def bench_sections(
    study: Study, asked: BenchReport, folder: Path, missing: list[str]
) -> tuple[list[str], list[Path], list[tuple[str, list[dict[str, Any]]]]]:
    """The page's sections, the files written, and the rows of every table by benchmark and number."""
    parts: list[str] = []
    files: list[Path] = []
    tables: list[tuple[str, list[dict[str, Any]]]] = []
    for name in asked.names:
        found = known_result(study, name, dict(asked.arguments.get(name, {})))
        if found is None:
            missing.append(f"benchmark {name} was not run: lsc-engine run {study.name} measures it")
            continue
        checks = [row for row in found.get("checks", []) if isinstance(row, dict)]
        tables.append((f"{name}{CHECKS}", checks))
        texts = [md(str(found.get("title", name))[:1].upper() + str(found.get("title", name))[1:]) + "."]
        texts.append(_rows_table(checks))
        for number, one in enumerate(found.get("tables", [])):
            rows = [row for row in one.get("rows", []) if isinstance(row, dict)]
            tables.append((f"{name} {number + 1}", rows))
            texts += [f"**{md(one.get('title', ''))}**" if one.get("title") else "", _rows_table(rows)]
            file = folder / f"{name}-{number + 1}.csv"
            write_whole(file, csv_text(list(rows[0]) if rows else [], [list(row.values()) for row in rows]))
            drawn, pictures = _figures(name, number, rows, folder)
            files += [file, *pictures]
            texts += drawn
        texts.append(bullets(md(note) for note in found.get("notes", [])))
        machine = found.get("machine")
        told = ", ".join(f"{k} {v}" for k, v in machine.items()) if isinstance(machine, dict) else ""
        texts.append(f"Measured by `{plain(found.get('command', ''))}` on {md(told)}." if told else "")
        parts.append(section(f"Benchmark {md(name)}", *texts))
    return parts, files, tables


def _rows_table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    from lsc_engine.bench import shown

    head = list(rows[0])
    numbers = "".join("r" if isinstance(rows[0][key], int | float) else "l" for key in head)
    return table([md(key) for key in head], [[md(shown(row.get(key))) for key in head] for row in rows], numbers)


def _figures(bench: str, number: int, rows: Sequence[dict[str, Any]], folder: Path) -> tuple[list[str], list[Path]]:
    """A figure for each kind of size that is told for three numbers of classes at least."""
    texts: list[str] = []
    files: list[Path] = []
    if len({row.get("classes") for row in rows if isinstance(row.get("classes"), int)}) < 3:
        return texts, files
    from lsc_engine.report.drawing import draw_against_classes

    # What tells the lines of one column apart: texts that are sizes in no row.
    names = [key for key in rows[0] if all(isinstance(r.get(key), str) and not _size(key, r[key]) for r in rows)]
    kinds: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        sizes = {key: found for key, value in row.items() if key != "classes" and (found := _size(key, value))}
        words = " ".join(row[key] for key in names)
        for key, (value, kind) in sizes.items():
            place = kinds.setdefault(kind, {}).setdefault(f"{key} {words}".strip(), [])
            place.append((float(row["classes"]), value))
    for kind, series in kinds.items():
        shown = [
            (plain(title)[:40], [x for x, _ in points], [y for _, y in points]) for title, points in series.items()
        ]
        shown = [one for one in shown if len(one[1]) > 1]
        if shown:
            name = f"{bench}-{number + 1}-{kind.split()[0]}"
            files += draw_against_classes(shown, kind, name, folder)
            texts.append(f"![{kind} against classes]({name}.svg)\n\n{kind[:1].upper()}{kind[1:]} against classes.")
    return texts, files


def _size(key: str, value: Any) -> tuple[float, str] | None:
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
