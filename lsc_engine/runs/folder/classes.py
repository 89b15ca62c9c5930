"""The names of a run's classes in the order of its labels, kept in its folder.

    classes.json    {"names": ["ant", "bee", …]}    of data sets whose classes have names; not with unique labels

Classes of other data are matched with them by name, never by place. Names are compared in one Unicode form, NFC: the
same word typed on macOS and on Linux may differ in its bytes.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsc_engine.common.safe_io import UnreadableError, read_json, replace_file
from lsc_engine.runs.folder.layout import CLASSES

_MAX_BYTES = 256 << 20
_MAX_LISTED = 6


def write_classes(folder: Path, names: Sequence[str]) -> None:
    """Keep the names of the run in `folder`; bytes of names that are not UTF-8 are read back unchanged. Raises
    OSError."""
    replace_file(folder / CLASSES, (json.dumps({"names": list(names)}) + "\n").encode("ascii"))


def read_classes(folder: Path) -> tuple[str, ...]:
    """The names kept in `folder`, in the order of the labels; empty without a file. UnreadableError if it is
    damaged."""
    try:
        (folder / CLASSES).lstat()
    except OSError:
        return ()
    names = read_json(folder / CLASSES, _MAX_BYTES).get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnreadableError(f"{CLASSES} does not hold the names of classes")
    return tuple(names)


def _normalized(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def labels_of(names: Iterable[str], own: Sequence[str]) -> list[int]:
    """For each of `names` its label among the classes `own`, or -1.

    The same bytes match first; then the same word, if only one class has it.
    """
    exact = {name: label for label, name in enumerate(own)}
    words: dict[str, int] = {}
    for label, name in enumerate(own):
        word = _normalized(name)
        words[word] = -1 if word in words else label
    return [exact.get(name, words.get(_normalized(name), -1)) for name in names]


def changed_classes(before: Sequence[str], now: Sequence[str], count: int | None = None) -> str | None:
    """A clause on how the first `count` classes `now` (None: all) differ from those `before`; None if every label has
    the same name."""
    if [_normalized(name) for name in before] == [_normalized(name) for name in now[:count]]:
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


def without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of `names` that are not among `others`."""
    return [name for name, label in zip(names, labels_of(names, others), strict=True) if label < 0]


def listed(names: Sequence[str]) -> str:
    """A few of the names, and the number of the others."""
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more:,} more" if more > 0 else "")


@dataclass(frozen=True)
class Match:
    """How the classes of other data are those of a run. `labels`: for each class there its label in the run, or -1;
    `only_there`: names of classes that the run does not have."""

    labels: tuple[int, ...]
    only_there: tuple[str, ...]


def match(there: Sequence[str], own: Sequence[str]) -> Match:
    """The classes `there` by the names of the classes `own`."""
    return Match(tuple(labels_of(there, own)), tuple(without(there, own)))
