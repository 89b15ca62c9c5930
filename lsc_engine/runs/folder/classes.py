"""classes.json, the names of a run's classes in the order of its labels: {"names": ["ant", "bee", …]}. Classes of other
data are matched with them by name (`lsc_engine/data/class_folders.py`)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from lsc_engine.common.safe_io import UnreadableError, read_json, replace_file
from lsc_engine.data.class_folders import same_form, without
from lsc_engine.runs.folder.layout import CLASSES

_MAX_BYTES = 256 << 20
_MAX_LISTED = 6


def write_classes(folder: Path, names: Sequence[str]) -> None:
    """Keep the names in the run folder, bytes that are not UTF-8 among them. Raises OSError."""
    replace_file(folder / CLASSES, (json.dumps({"names": list(names)}) + "\n").encode("ascii"))


def read_classes(folder: Path) -> tuple[str, ...]:
    """The kept names in the order of the labels; empty without a file. UnreadableError if it is damaged."""
    if not os.path.lexists(folder / CLASSES):
        return ()
    names = read_json(folder / CLASSES, _MAX_BYTES).get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnreadableError(f"{CLASSES} does not hold the names of classes")
    return tuple(names)


def changed_classes(before: Sequence[str], now: Sequence[str], count: int | None = None) -> str | None:
    """A clause on how the first `count` classes `now` (None: all) differ from `before`; None if they do not."""
    if [same_form(name) for name in before] == [same_form(name) for name in now[:count]]:
        return None
    added, gone = without(now, before), without(before, now)
    clauses = [f"new: {listed(added)}"] if added else []
    clauses += [f"not there any more: {listed(gone)}"] if gone else []
    return "; ".join(clauses) or "the same names in another order"


def other_classes(folder: Path, where: Path | str, changed: str) -> str:
    """The sentence that refuses to train the run in `folder` further on other classes (`changed_classes`)."""
    return (
        f"{folder} was trained on other classes than {where} has ({changed}): labels would shift. Put the class "
        "folders back as they were; or train a new run on these, with start_from to begin with its weights"
    )


def listed(names: Sequence[str]) -> str:
    """A few of the names, and the number of the others."""
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more:,} more" if more > 0 else "")
