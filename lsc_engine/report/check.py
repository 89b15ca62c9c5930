"""`lsc-engine report --check`: every verdict of committed reports, computed again from the values beside it.
Torch-free. The sections of a page that are made of values.csv alone are made again and compared letter by letter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lsc_engine.analysis.claims import ClaimVerdict, judge
from lsc_engine.analysis.study_values import VALUES, from_csv
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.report.page import MARK, PAGE, section
from lsc_engine.report.sections.verdict import checked_sections

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
    faults: list[str] = []
    count = 0
    for page in pages:
        name = page.parent.relative_to(folder).as_posix()
        try:
            verdicts, found = _check_report(page)
            count += len(verdicts)
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
    """The verdicts of one report by its values, and a clause for each difference on the page."""
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
    return verdicts, faults


def _differences(title: str, old: Sequence[str], new: Sequence[str]) -> list[str]:
    lines, lost = [line for line in new if line not in old], [line for line in old if line not in new]
    clauses = [f'{title}: the values say "{line}"' for line in lines[:_SHOWN]]
    clauses += [f'{title}: the page says "{line}"' for line in lost[:_SHOWN]]
    more = len(lines) + len(lost) - len(clauses)
    clauses += [f"{title}: and {more} more lines"] if more > 0 else []
    return clauses or [f"{title}: the lines stand in another order"]
