"""The report of kind "data": images found of each data set beside the printed numbers (arXiv:2510.04090, Table 2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import NOTHING, grouped
from lsc_engine.common.userpaths import home
from lsc_engine.config.reporting import DatasetsReport
from lsc_engine.data.dataset import DataSet, data_set
from lsc_engine.report.markdown import bullets, md, table
from lsc_engine.report.page import Page

_HEAD = ("data set", "here", "training images", "validation images", "classes", "size", "paper")
_NOTE = (
    "With labels of its own a data set trains on its training split; with every image its own class there are no "
    "validation images. Counts of folders are those of the files found, else those that the data set is known to have."
)


def add_datasets(report: DatasetsReport, printed: Mapping[str, str], data_dir: Path | None, page: Page) -> None:
    """What is found of each data set, and how to get the others."""
    rows = []
    for name in report.names:
        chosen = data_set(name)
        facts = chosen.facts
        found = chosen.locate(data_dir) is not None
        if not found:
            page.missing.append(_without_home(chosen.missing(data_dir)))
        here = "made here" if chosen.made_from_index else "found" if found else "not here"
        rows.append([
            md(facts.title), here, *_counts(chosen, data_dir, found),
            grouped(facts.classes) if facts.classes else "any",
            f"{facts.size} px" if facts.size else "as they are", md(printed.get(name, NOTHING)),
        ])  # fmt: skip
    every = [data_set(name).facts for name in report.names]
    how = [f"{md(facts.title)}: {md(facts.how)}" for facts in every if facts.how]
    page.add("Images", table(_HEAD, rows, "llrrrrr"), _NOTE)
    page.add("How to get them", bullets(how))
    page.tables.append(("data sets", [dict(zip(_HEAD, row, strict=True)) for row in rows]))


def _counts(chosen: DataSet, data_dir: Path | None, found: bool) -> list[str]:
    """Training and validation images in words."""
    if chosen.made_from_index:
        return ["any", "any"]
    try:
        counts = chosen.count("class", None, data_dir=data_dir)
    except LscError:
        return [NOTHING, NOTHING]
    about = "" if counts.exact and (found or chosen.facts.images is not None) else "about "
    return [f"{about}{grouped(counts.images)}", grouped(counts.val_images) if counts.val_images else NOTHING]


def _without_home(sentence: str) -> str:
    """The sentence without the folder of this user."""
    base = home()
    shown = sentence if base is None else sentence.replace(f"{base}/", "~/")
    return shown.removeprefix("data.dataset: ")
