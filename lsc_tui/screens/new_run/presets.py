"""The presets there are: by paper folder, with claim, source, data at hand or not, and the time they took here."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lsc_engine.common.formatting import clock
from lsc_engine.common.settings import lookup
from lsc_engine.common.toml import read_toml
from lsc_engine.config.datasets import DATASETS, locate
from lsc_engine.config.expand import raw_variants
from lsc_engine.config.load import PresetInfo, own_folder
from lsc_engine.errors import UsageError
from lsc_engine.userpaths import home_path
from lsc_tui.data.reports import made_words
from lsc_tui.data.run_view import RunView, setting
from lsc_tui.lines import clean

# What stands behind the name of a folder of presets.
PAPERS = {
    "lsc-2025": ("arXiv:2510.04090", "predefined vectors for any number of classes"),
    "vector-systems-2025": ("arXiv:2512.07509", "V21, V22 and the smallest dimension"),
    "etf-2024": ("arXiv:2412.00884", "layers fixed to simplex frames"),
    "beyond": ("", "rows that are in no paper"),
    "": ("", "first steps: these run anywhere"),
}
OWN = "yours"
_ORDER = ("", "lsc-2025", "vector-systems-2025", "etf-2024")


@dataclass(frozen=True)
class Entry:
    """A line of the list: the heading of a folder, or a preset."""

    group: str
    info: PresetInfo | None = None
    closed: bool = False
    count: int = 0

    @property
    def key(self) -> str:
        return f"group:{self.group}" if self.info is None else f"{self.group}:{self.info.name}"


@dataclass(frozen=True)
class About:
    """What is read of a preset's file to tell of it."""

    labels: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    paper: int = 0
    inferred: int = 0
    ours: int = 0
    tune: bool = False
    size: str = ""
    makes: str = ""  # of a kind that does not train

    @property
    def known(self) -> str:
        """`2 settings are the paper's, 10 inferred, 6 ours: marked in the form`"""
        if not self.paper + self.inferred + self.ours:
            return "the preset does not say whose its settings are"
        verb = "setting is" if self.paper == 1 else "settings are"
        return f"{self.paper} {verb} the paper's, {self.inferred} inferred, {self.ours} ours: marked in the form"


def group_of(info: PresetInfo) -> str:
    """The heading under which a preset stands."""
    return OWN if info.own else info.folder


def entries(infos: Iterable[PresetInfo], words: str, closed: set[str], at_hand: dict[str, bool | None]) -> list[Entry]:
    """Headings with their presets that match `words`; a heading of which none match stays, closed."""
    groups: dict[str, list[PresetInfo]] = {}
    for info in infos:
        groups.setdefault(group_of(info), []).append(info)
    groups.setdefault(OWN, [])
    # One's own come first; without any, the line that says how to have some comes last.
    own = 0 if groups[OWN] else 3
    place = {OWN: own, "beyond": 2}
    order = sorted(groups, key=lambda g: (place.get(g, 1), _ORDER.index(g) if g in _ORDER else 9, g))
    out: list[Entry] = []
    for group in order:
        found = [info for info in groups[group] if matches(info, words, at_hand)]
        shut = group in closed or not found
        out.append(Entry(group, None, shut, len(groups[group])))
        if not shut:
            out += [Entry(group, info) for info in found]
    return out


def matches(info: PresetInfo, words: str, at_hand: dict[str, bool | None]) -> bool:
    """Whether a preset holds all words; `data:here`, `data:digits`, `kind:train` are conditions."""
    text = f"{info.name} {info.title} {info.claim} {info.source} {info.dataset} {group_of(info)}".lower()
    for word in words.lower().split():
        key, colon, value = word.partition(":")
        if colon and key == "data":
            if value == "here" and at_hand.get(info.dataset) is False:
                return False
            if value != "here" and value not in info.dataset:
                return False
        elif colon and key == "kind":
            if value not in info.kind:
                return False
        elif word not in text:
            return False
    return True


def find_data(infos: Iterable[PresetInfo], data_dir: str) -> dict[str, bool | None]:
    """Whether each data set is at hand; None where only the preset knows its folder. May be slow on a network disk."""
    out: dict[str, bool | None] = {}
    for name in {info.dataset for info in infos}:
        if name not in DATASETS or name == "folder":
            out[name] = None
            continue
        try:
            out[name] = locate(name, data_dir or None) is not None
        except OSError:
            out[name] = False
    return out


def about(info: PresetInfo) -> About:
    """Variants, seeds and marks of a preset's file; empty where it cannot be read."""
    try:
        return _about(info.path, info.path.stat().st_mtime_ns)
    except OSError:
        return About()


@lru_cache(maxsize=256)
def _about(path: Path, changed: int) -> About:
    try:
        _, raw = read_toml(path)
    except UsageError:
        return About()
    marks = (
        [str(mark) for mark in raw.get("provenance", {}).values()] if isinstance(raw.get("provenance"), dict) else []
    )
    seeds = raw.get("seeds", [raw.get("seed", 0)])
    variants = raw_variants(raw)
    return About(
        tuple(clean(v.get("label") or v.get("name") or "") for v in variants),
        tuple(s for s in seeds if isinstance(s, int)) if isinstance(seeds, list) else (0,),
        sum(mark.startswith("paper") for mark in marks), sum(mark.startswith("inferred") for mark in marks),
        sum(mark.startswith("ours") for mark in marks), "tune" in raw,
        ", ".join(dict.fromkeys(str(lookup(raw, key)) for key in ("model.name", "train.duration") if lookup(raw, key))),
        "" if raw.get("kind", "train") == "train" else "a report: "
        + ", ".join(f"{what} {clean(words)}" for what, words in made_words(raw)[:-1]),
    )  # fmt: skip


def place_of(info: PresetInfo) -> str:
    """`Fig. 9` of a preset's source; the paper itself stands in the heading."""
    found = re.search(r"(Fig|Table|Tab|Sec|App|Eq)\w*\.?\s*[\w.]+", info.source)
    return clean(found[0]) if found else ""


def own_words() -> str:
    """Where one's own presets are."""
    words = home_path(own_folder())
    return words if words.startswith(("~", "/")) else f"./{words}"


# --- time ------------------------------------------------------------------------------------------------------------


def runs_of(info: PresetInfo, views: Iterable[RunView], host: str) -> list[RunView]:
    """The runs of a preset's study on this host that have trained."""
    names = (info.name, info.stem)
    return [v for v in views if v.study in names and v.status.host == host and v.status.seconds]


def time_words(info: PresetInfo, views: Sequence[RunView], host: str) -> str:
    """`4m10` measured here for all runs one after the other, `~4h42` told from some of them, `?` never."""
    seconds, exact = time_of(info, views, host)
    return "?" if seconds is None else ("" if exact else "~") + short_clock(seconds)


def time_of(info: PresetInfo, views: Sequence[RunView], host: str) -> tuple[float | None, bool]:
    """Training seconds of all variants and seeds of a preset, and whether every one was measured here."""
    known = about(info)
    whole = max(1, len(known.labels)) * max(1, len(known.seeds))
    parts = [v.status.seconds / v.done for v in runs_of(info, views, host) if v.status.seconds and v.done > 0.05]
    if not parts:
        return None, False
    finished = [v for v in runs_of(info, views, host) if v.state == "finished"]
    if len(finished) >= whole:
        return sum(sorted(v.status.seconds or 0.0 for v in finished)[-whole:]), True
    return sum(parts) / len(parts) * whole, False


def short_clock(seconds: float) -> str:
    """`51 s`, `4m10`, `1h10`, `3d04`."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    return f"{int(seconds) // 60}m{int(seconds) % 60:02d}" if seconds < 3600 else clock(seconds)


def speed_like(config: dict[str, Any], views: Iterable[RunView], host: str) -> tuple[float, str] | None:
    """Images per second of earlier runs here with the same model and image size, and the study they are of."""
    keys = ("model.name", "model.width", "data.image_size", "train.precision")
    like = [
        v for v in views
        if v.speed and v.status.host == host and all(setting(v.config, key) == config.get(key) for key in keys)
    ]  # fmt: skip
    if not like:
        return None
    like.sort(key=lambda v: v.speed or 0.0)
    middle = like[len(like) // 2]
    return float(middle.speed or 0.0), middle.study


def shelf_csv(found: Iterable[Entry], at_hand: dict[str, bool | None], views: Sequence[RunView], host: str) -> str:
    """The list as CSV."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(("preset", "title", "source", "claim", "data", "data_here", "seconds_here"))
    for entry in found:
        if entry.info is not None:
            info = entry.info
            seconds, exact = time_of(info, views, host)
            here = {True: "yes", False: "no", None: ""}[at_hand.get(info.dataset)]
            write.writerow((info.name, info.title, info.source, info.claim, info.dataset, here,
                            f"{seconds:.0f}" if exact and seconds is not None else ""))  # fmt: skip
    return out.getvalue()
