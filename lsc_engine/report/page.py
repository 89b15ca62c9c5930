"""A report under construction: its sections as Markdown, the files beside the page, and what its sections measured."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsc_engine.analysis.study_values import Tables
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import replace_file
from lsc_engine.config.reporting import Claim
from lsc_engine.report.markdown import bullets, image, md, section

PAGE, INDEX = "report.md", "index.md"
MARK = "<!-- written by lsc-engine report; a new report replaces this file -->"


@dataclass(frozen=True)
class Heading:
    """Title, source, claim, and whose claim it is, as Markdown of the top of a page."""

    title: str = ""
    source: str = ""
    claim: str = ""
    whose: str = ""

    def markdown(self, study: str) -> str:
        """The mark of a report, the title, and a list of what is known; `study` stands in for a missing title."""
        facts = [("Study", study), ("Source", self.source), ("Claim", self.claim), ("Whose", self.whose)]
        lines = [MARK, f"# {md(self.title or study)}", bullets(f"{key}: {md(value)}" for key, value in facts if value)]
        return "\n\n".join(lines)


@dataclass
class Page:
    """A report in `folder`. `missing`: sentences on what could not be used; `tables`: rows for values.csv by name;
    `values`: run id -> metrics that the report measured itself, and the `claims` on them."""

    folder: Path
    missing: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    sections: dict[str, list[str]] = field(default_factory=dict)
    tables: Tables = field(default_factory=list)
    values: defaultdict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    claims: list[Claim] = field(default_factory=list)

    def add(self, title: str, *paragraphs: str) -> None:
        """Add paragraphs of Markdown to a section; empty ones are left out."""
        self.sections.setdefault(title, []).extend(filter(None, paragraphs))

    def figure(self, title: str, files: Sequence[Path], more: str = "") -> str:
        """A figure in a page: the SVG is shown, the PNG lies beside it. `files` become files of the report."""
        self.files += files
        return image(files[0].stem, title, more)

    def write(self, name: str, text: str) -> None:
        """Write one file of the report."""
        save(self.folder / name, text)
        self.files.append(self.folder / name)

    def text(self, heading: str, order: Sequence[str]) -> str:
        """The page: sections in `order`, then the others as they were added."""
        titles = dict.fromkeys([*order, *self.sections])
        parts = [heading, *(section(title, *self.sections.get(title, ())) for title in titles)]
        return "\n\n".join(part for part in parts if part) + "\n"


@contextlib.contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """LscError instead of OSError for what cannot be written."""
    try:
        yield
    except OSError as error:
        raise LscError(f"{path} cannot be written: {error.strerror or error}{advice}") from None


def save(path: Path, text: str) -> None:
    """Write one file. LscError if it cannot be written."""
    with writing(path):
        replace_file(path, text.encode(), durable=False)


def open_folder(folder: Path) -> None:
    """Make the folder of a report. UsageError if it holds a page that is not a report."""
    page = folder / PAGE
    with writing(folder, "; give another --out"):
        if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace")[:400]:
            raise UsageError(f"{page} is not a report of lsc-engine and is not overwritten: give another --out")
        folder.mkdir(parents=True, exist_ok=True)
