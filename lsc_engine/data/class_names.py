"""Classes of one data set matched with those of another by name, never by place. Torch-free.

Names are compared in one Unicode form, NFC: the same word typed on macOS and on Linux may differ in its bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence


def same_form(name: str) -> str:
    """`name` in the form in which names are compared."""
    return unicodedata.normalize("NFC", name)


def labels_of(names: Iterable[str], own: Sequence[str]) -> list[int]:
    """For each of `names` its label among the classes `own`, -1 where no class of them has that name.

    The same bytes come first; else the same word, where one class alone is called so.
    """
    exact = {name: label for label, name in enumerate(own)}
    alike: dict[str, int] = {}
    for label, name in enumerate(own):
        form = same_form(name)
        alike[form] = -1 if form in alike else label
    return [exact.get(name, alike.get(same_form(name), -1)) for name in names]


def without(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of `names` that are not among `others`."""
    return [name for name, label in zip(names, labels_of(names, others), strict=True) if label < 0]
