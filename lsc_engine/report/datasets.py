"""The report of kind "data": images found of each data set beside the printed numbers (arXiv:2510.04090, Table 2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsc_engine.config import DATASETS, locate, missing_sentence
from lsc_engine.config.datasets import count, facts_of
from lsc_engine.config.reporting import DatasetsReport
from lsc_engine.errors import LscError
from lsc_engine.report.text import bullets, grouped, md, section, table
from lsc_engine.userpaths import home


def data_sections(
    asked: DatasetsReport, printed: Mapping[str, str], data_dir: Path | None, missing: list[str]
) -> tuple[list[str], list[tuple[str, list[dict[str, Any]]]]]:
    """The page's sections, and the rows of its table; data that is not here is a sentence in `missing`, with how to get
    it."""
    rows = []
    for name in asked.names:
        facts = facts_of(name)
        found = name == "spectrum" or locate(name, data_dir) is not None
        if not found:
            missing.append(_where(missing_sentence(name, data_dir)))
        rows.append([
            md(DATASETS[name].title), "made here" if name == "spectrum" else "found" if found else "not here",
            *_counted(name, data_dir, found), grouped(facts.classes) if facts.classes else "any",
            f"{facts.size} px" if facts.size else "as they are", md(printed.get(name, "-")),
        ])  # fmt: skip
    head = ("data set", "here", "training images", "validation images", "classes", "size", "paper")
    how = [f"{md(DATASETS[name].title)}: {md(facts_of(name).how)}" for name in asked.names if facts_of(name).how]
    parts = [
        section("Images", table(head, rows, "llrrrrr"), _NOTE),
        section("How to get them", bullets(how)),
    ]
    return parts, [("data sets", [dict(zip(head, row, strict=True)) for row in rows])]


_NOTE = (
    "With labels of its own a data set trains on its training split; with every image its own class there are no "
    "validation images. Counts of folders are those of the files found, else those that the data set is known to have."
)


def _counted(name: str, data_dir: Path | None, found: bool) -> list[str]:
    if name == "spectrum":
        return ["any", "any"]
    try:
        counts = count(name, "class", None, data_dir=data_dir)
    except LscError:
        return ["-", "-"]
    about = "" if counts.exact and (found or DATASETS[name].images is not None) else "about "
    return [f"{about}{grouped(counts.images)}", grouped(counts.val_images) if counts.val_images else "-"]


def _where(sentence: str) -> str:
    """The sentence without the folder of this user."""
    base = home()
    shown = sentence if base is None else sentence.replace(f"{base}/", "~/")
    return shown.removeprefix("data.dataset: ")
