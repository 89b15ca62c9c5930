"""`lsc-engine report --check`: every verdict of committed reports, computed again from the values beside it.

Torch-free. The sections of a page that are made of values.csv alone are made again and compared letter by letter; so
are the verdicts in made.json and in the index above, where these exist.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsc_engine.analysis.claims import Judged, findings, judge
from lsc_engine.analysis.values import VALUES, from_csv
from lsc_engine.errors import LscError, UsageError
from lsc_engine.report.results import checked_sections
from lsc_engine.report.text import cell, section

PAGE, INDEX, MADE = "report.md", "index.md", "made.json"
MARK = "<!-- written by lsc-engine report; a new report replaces this file -->"
_SHOWN = 3


@dataclass(frozen=True)
class Checked:
    """What a check came to: how many reports and verdicts were looked at, and a sentence for every difference."""

    reports: int
    verdicts: int
    faults: tuple[str, ...]


def check_reports(folder: Path) -> Checked:
    """Check every report below a folder. UsageError where there is none."""
    pages = sorted(folder.rglob(PAGE)) if folder.is_dir() else []
    if not pages:
        raise UsageError(f"{folder}: there is no {PAGE} in it or below")
    index = _read(folder / INDEX)
    faults: list[str] = []
    verdicts = 0
    for page in pages:
        name = page.parent.relative_to(folder).as_posix()
        try:
            judged, found = _check_report(page)
            verdicts += len(judged)
            found += _in_index(index, name, judged) if (page.parent / MADE).exists() else []
        except LscError as error:
            found = [str(error)]
        faults += [f"{name}: {fault}" for fault in found]
    return Checked(len(pages), verdicts, tuple(faults))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _check_report(page: Path) -> tuple[list[Judged], list[str]]:
    """The verdicts of one report as its values tell them, and a clause for each that stands there otherwise."""
    text, values = _read(page), page.parent / VALUES
    if MARK not in text[:400]:
        raise LscError(f"{PAGE} is not a report of lsc-engine")
    if not values.is_file():
        raise LscError(f"{VALUES} is missing, so that nothing can be computed again: report it anew")
    found = findings(from_csv(_read(values)))
    judged = judge(found)
    faults = []
    for title, body in checked_sections(found, judged).items():
        if (wanted := section(title, body).strip()) != (stands := _section(text, title)):
            faults += _differences(title, stands, wanted)
    return judged, faults + _in_made(page.parent / MADE, judged)


def _section(text: str, title: str) -> str:
    """The section of a page under a heading; "" where it has none."""
    found = re.search(rf"^## {re.escape(title)}$.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[0].strip() if found is not None else ""


def _differences(title: str, stands: str, wanted: str) -> list[str]:
    """A clause for each line that differs."""
    old, new = stands.splitlines(), wanted.splitlines()
    lines = [line for line in new if line not in old]
    lost = [line for line in old if line not in new]
    clauses = [f'{title}: the values say "{line}"' for line in lines[:_SHOWN]]
    clauses += [f'{title}: the page says "{line}"' for line in lost[:_SHOWN]]
    more = len(lines) + len(lost) - len(clauses)
    clauses += [f"{title}: and {more} more lines"] if more > 0 else []
    return clauses or [f"{title}: the lines stand in another order"]


def claims_document(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """The verdicts as made.json keeps them."""
    return [
        {
            "text": one.text,
            "source": one.source,
            "accuracy": one.accuracy,
            "loss": one.loss,
            "details": list(one.details),
        }
        for one in judged
    ]


def _in_made(file: Path, judged: Sequence[Judged]) -> list[str]:
    if not file.is_file():
        return []
    try:
        kept = json.loads(_read(file))["claims"]
    except (ValueError, KeyError, TypeError):
        return [f"{MADE} cannot be read"]
    told = claims_document(judged)
    if kept == told:
        return []
    bad = [one["text"] for one in told if one not in kept]
    return [f"{MADE}: {', '.join(bad) or 'the claims'}: the values say otherwise"]


def claim_row(one: dict[str, Any]) -> str:
    """A claim, whose it is, and its verdicts as they stand in the rows of an index."""
    whose = str(one.get("source", "")).partition(":")[0]
    text = one["text"] + (f" ({whose})" if whose else "")
    return f"| {cell(text)} | {cell(one.get('accuracy', ''))} | {cell(one.get('loss', ''))} |"


def _in_index(index: str, name: str, judged: Sequence[Judged]) -> list[str]:
    """A clause for every verdict that the index of the folder above tells otherwise."""
    if not index:
        return []
    lines = index.splitlines()
    start = next((i for i, line in enumerate(lines) if f"]({name}/{PAGE})" in line), None)
    if start is None:
        return [f"{INDEX} does not name it"]
    rows = lines[start : start + max(1, len(judged))]
    told = claims_document(judged)
    return [
        f"{INDEX}: {one['text']}: the values say otherwise"
        for one, line in zip(told, rows, strict=False)
        if claim_row(one) not in line
    ] + ([f"{INDEX}: claims are missing"] if len(rows) < len(told) else [])
