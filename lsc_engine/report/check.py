"""`lsc-engine report --check`: every verdict of committed reports, computed again from the values beside it.
Torch-free. The sections of a page that are made of values.csv alone are made again and compared letter by letter; so
are the verdicts in made.json and in the index above, if these exist."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lsc_engine.analysis.claims import ClaimVerdict, judge
from lsc_engine.analysis.study_values import VALUES, from_csv
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.report.page import INDEX, MARK, PAGE, cell, section
from lsc_engine.report.sections.verdict import checked_sections

MADE = "made.json"
_SHOWN = 3


class Checked(NamedTuple):
    """How many reports and verdicts were checked, and a sentence for every difference."""

    reports: int
    verdicts: int
    faults: tuple[str, ...]


def check_reports(folder: Path) -> Checked:
    """Check every report below a folder. UsageError if there is none."""
    pages = sorted(folder.rglob(PAGE)) if folder.is_dir() else []
    if not pages:
        raise UsageError(f"{folder}: there is no {PAGE} in it or below")
    index = _read(folder / INDEX)
    faults: list[str] = []
    count = 0
    for page in pages:
        name = page.parent.relative_to(folder).as_posix()
        try:
            verdicts, found = _check_report(page)
            count += len(verdicts)
            found += _check_index(index, name, verdicts) if (page.parent / MADE).exists() else []
        except LscError as error:
            found = [str(error)]
        faults += [f"{name}: {fault}" for fault in found]
    return Checked(len(pages), count, tuple(faults))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _check_report(page: Path) -> tuple[list[ClaimVerdict], list[str]]:
    """The verdicts of one report by its values, and a clause for each difference on the page and in made.json."""
    text, file = _read(page), page.parent / VALUES
    if MARK not in text[:400]:
        raise LscError(f"{PAGE} is not a report of lsc-engine")
    if not file.is_file():
        raise LscError(f"{VALUES} is missing, so that nothing can be computed again: report it anew")
    values = from_csv(_read(file))
    verdicts = judge(values)
    faults: list[str] = []
    for title, body in checked_sections(values, verdicts).items():
        there = re.search(rf"^## {re.escape(title)}$.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        old, new = there[0].strip() if there is not None else "", section(title, body).strip()
        if old != new:
            faults += _differences(title, old.splitlines(), new.splitlines())
    made, wanted = page.parent / MADE, claims_document(verdicts)
    if made.is_file():
        try:
            kept = json.loads(_read(made))["claims"]
        except (ValueError, KeyError, TypeError):
            return verdicts, [*faults, f"{MADE} cannot be read"]
        bad = [one["text"] for one in wanted if one not in kept]
        faults += [f"{MADE}: {', '.join(bad) or 'the claims'}: the values say otherwise"] if kept != wanted else []
    return verdicts, faults


def _differences(title: str, old: Sequence[str], new: Sequence[str]) -> list[str]:
    lines, lost = [line for line in new if line not in old], [line for line in old if line not in new]
    clauses = [f'{title}: the values say "{line}"' for line in lines[:_SHOWN]]
    clauses += [f'{title}: the page says "{line}"' for line in lost[:_SHOWN]]
    more = len(lines) + len(lost) - len(clauses)
    clauses += [f"{title}: and {more} more lines"] if more > 0 else []
    return clauses or [f"{title}: the lines stand in another order"]


def claims_document(verdicts: Sequence[ClaimVerdict]) -> list[dict[str, Any]]:
    """The verdicts as made.json keeps them."""
    keys = ("text", "source", "accuracy", "loss")
    return [{key: getattr(one, key) for key in keys} | {"details": list(one.details)} for one in verdicts]


def claim_row(one: dict[str, Any]) -> str:
    """A claim, whose it is, and its verdicts as they stand in the rows of an index."""
    whose = str(one.get("source", "")).partition(":")[0]
    text = one["text"] + (f" ({whose})" if whose else "")
    return f"| {cell(text)} | {cell(one.get('accuracy', ''))} | {cell(one.get('loss', ''))} |"


def _check_index(index: str, name: str, verdicts: Sequence[ClaimVerdict]) -> list[str]:
    if not index:
        return []
    lines = index.splitlines()
    start = next((i for i, line in enumerate(lines) if f"]({name}/{PAGE})" in line), None)
    if start is None:
        return [f"{INDEX} does not name it"]
    wanted = claims_document(verdicts)
    rows = lines[start : start + max(1, len(wanted))]
    faults = [
        f"{INDEX}: {one['text']}: the values say otherwise"
        for one, line in zip(wanted, rows, strict=False)
        if claim_row(one) not in line
    ]
    return faults + ([f"{INDEX}: claims are missing"] if len(rows) < len(wanted) else [])
