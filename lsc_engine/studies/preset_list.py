"""Presets as they are listed, by the command line and by viewers: the papers they are of, filters, data at hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lsc_engine.config.load import PresetInfo
from lsc_engine.data.dataset import built_in_data_sets

OWN = "yours"
# Folder of shipped presets -> its paper, and what it is about.
PAPERS = {
    "": ("", "first steps: these run anywhere"),
    "lsc-2025": ("arXiv:2510.04090", "predefined vectors for any number of classes"),
    "vector-systems-2025": ("arXiv:2512.07509", "V21, V22 and the smallest dimension"),
    "etf-2024": ("arXiv:2412.00884", "layers fixed to simplex frames"),
    "beyond": ("", "rows that are in no paper"),
}


def by_paper(infos: Iterable[PresetInfo]) -> dict[str, list[PresetInfo]]:
    """The presets of each folder in the order of `PAPERS`, one's own under `OWN` at the end."""
    groups: dict[str, list[PresetInfo]] = {name: [] for name in PAPERS}
    for info in infos:
        groups.setdefault(OWN if info.own else info.folder, []).append(info)
    own = groups.pop(OWN, [])
    return {name: found for name, found in groups.items() if found} | {OWN: own}


def data_found(dataset: str, data_dir: str | Path | None) -> bool | None:
    """Whether a data set is at hand; None where only the preset knows its folder. May be slow on a network disk."""
    known = built_in_data_sets().get(dataset)
    try:
        return None if known is None or dataset == "folder" else known.locate(data_dir or None) is not None
    except OSError:
        return False


def matches(info: PresetInfo, words: str, found: bool | None = None) -> bool:
    """Whether a preset holds all words; `data:here` (by `found`), `data:digits`, `kind:train` are conditions."""
    about = (info.name, info.title, info.claim, info.source, info.dataset, OWN if info.own else info.folder)
    text = " ".join(about).lower()
    for word in words.lower().split():
        key, _, value = word.partition(":")
        if word == "data:here":
            holds = found is not False
        elif key in ("data", "kind") and ":" in word:
            holds = value in (info.dataset if key == "data" else info.kind)
        else:
            holds = word in text
        if not holds:
            return False
    return True
