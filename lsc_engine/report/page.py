"""A report under construction, and its pieces of Markdown, CSV and LaTeX. Text from files is made harmless."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsc_engine.analysis.study_values import Tables
from lsc_engine.common import safe_io
from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import replace_file, writing
from lsc_engine.config.preset import Claim

PAGE, INDEX = "report.md", "index.md"
MARK = "<!-- written by lsc-engine report; a new report replaces this file -->"
_MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\|*_`[]#"} | {"<": "&lt;"})
_LATEX = str.maketrans(
    {mark: f"\\{mark}" for mark in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "×": r"$\times$", ">": "$>$", "<": "$<$"}
)


def plain(text: object) -> str:
    """`text` on one line without control characters."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()


def md(text: object) -> str:
    """`text` as it stands in a Markdown sentence or table cell: nothing in it is markup."""
    return plain(text).translate(_MARKDOWN)


def cell(text: object) -> str:
    """Markdown as one line without bars, for a table cell."""
    return " ".join(str(text).replace("|", "\\|").split())


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> str:
    """A Markdown table of cells that are Markdown already. `right`: one letter per column, `r` to the right."""
    listed = list(rows)
    rule = ["---:" if right[i : i + 1] == "r" else "---" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *listed)) if listed else ""


def section(title: str, *parts: str) -> str:
    """A heading and its paragraphs; nothing where all of them are empty."""
    full = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *full]) if full else ""


def bullets(sentences: Iterable[str]) -> str:
    """A list; "" if there is nothing to list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with `\\n` ends; None and numbers that are not finite are empty."""

    def text(value: object) -> str:
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return ""
        return f"{value:.8g}" if isinstance(value, float) else plain(value)

    return safe_io.csv_text([head, *([text(value) for value in row] for row in rows)])


def tabular(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A LaTeX tabular of the package booktabs, its text typeset letter by letter; `align`: l, c or r per column."""
    lines = [
        " & ".join("".join(c for c in cell if c.isprintable()).translate(_LATEX) for cell in cells) + r" \\"
        for cells in (head, *rows)
    ]
    start = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*start, *lines[1:], r"\bottomrule", r"\end{tabular}", ""])


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
        self.sections.setdefault(title, []).extend(filter(None, paragraphs))

    def add_figure(self, section: str, title: str, files: Sequence[Path], more: str = "") -> None:
        """Add a figure: the SVG is shown, the PNG lies beside it; `more` ends the sentence on what it shows."""
        self.files += files
        self.add(section, f"![{md(title)}]({files[0].stem}.svg)\n\n{md(title)}{more}.")

    def write(self, name: str, text: str) -> None:
        save(self.folder / name, text)
        self.files.append(self.folder / name)

    def text(self, title: str, facts: Mapping[str, str], order: Sequence[str]) -> str:
        """The page: the mark of a report, its heading, sections in `order`, then the others as they were added."""
        top = bullets(f"{key}: {md(value)}" for key, value in facts.items() if value)
        parts = [section(name, *self.sections.get(name, ())) for name in dict.fromkeys([*order, *self.sections])]
        return "\n\n".join([MARK, f"# {md(title)}", top, *filter(None, parts)]) + "\n"


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
