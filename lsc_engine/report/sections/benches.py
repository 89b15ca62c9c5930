"""The report of kind "bench": benchmarks run once, kept as JSON in the study's folder, and shown from there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsc_engine.analysis.claims import CHECKS
from lsc_engine.analysis.quantities import UNITS, quantity
from lsc_engine.common.safe_io import UnreadableError, read_json, replace_json
from lsc_engine.config.reporting import BenchReport
from lsc_engine.report import figures
from lsc_engine.report.markdown import bullets, csv_text, md, plain, table
from lsc_engine.report.page import Page
from lsc_engine.runs.read.studies import Study


def result_file(study: Study, name: str) -> Path:
    """Where the result of one benchmark of a study is kept."""
    return study.path / f"bench-{name}.json"


def known_result(study: Study, name: str, report: BenchReport) -> dict[str, Any] | None:
    """The kept result, if it was measured with these arguments."""
    try:
        kept = read_json(result_file(study, name), 16 << 20)
    except UnreadableError:
        return None
    return kept if kept.get("arguments") == json.loads(json.dumps(report.arguments.get(name, {}))) else None


def measure(study: Study, report: BenchReport) -> list[str]:
    """Run the benchmarks that have no result with these arguments; the names of those that ran."""
    from lsc_engine.bench import command_line, run

    ran = []
    for name in report.names:
        if known_result(study, name, report) is not None:
            continue
        arguments = dict(report.arguments.get(name, {}))
        quick = bool(arguments.pop("quick", False))
        result = run(name, quick=quick, **arguments)
        document = result.document() | {"command": command_line(name, quick, arguments)}
        study.path.mkdir(parents=True, exist_ok=True)
        replace_json(result_file(study, name), document | {"arguments": report.arguments.get(name, {})})
        ran.append(name)
    return ran


def add_benches(study: Study, report: BenchReport, page: Page) -> None:
    """A section for each benchmark: its bars, its tables, also as CSV, and figures of sizes against classes."""
    for name in report.names:
        found = known_result(study, name, report)
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

    head = list(rows[0])
    numbers = "".join("r" if isinstance(rows[0][key], int | float) else "l" for key in head)
    return table([md(key) for key in head], [[md(shown(row.get(key))) for key in head] for row in rows], numbers)


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
        series = [
            (plain(title)[:40], [x for x, _ in points], [y for _, y in points])
            for title, points in lines.items()
            if len(points) > 1
        ]
        if series:
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
