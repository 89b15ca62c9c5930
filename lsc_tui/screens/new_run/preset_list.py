"""The list of presets on New run: by paper, with claim, source, whether its data are here, and the time it took."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import clock
from lsc_engine.common.safe_io import read_preset_toml
from lsc_engine.common.settings import lookup
from lsc_engine.common.userpaths import home_path
from lsc_engine.config.expand import raw_variants
from lsc_engine.config.load import PresetInfo, own_folder
from lsc_engine.data.dataset import built_in_data_sets
from lsc_engine.runs.folder.layout import TRIES
from lsc_tui.data.preset_form import length_ratio
from lsc_tui.data.reports import Report, made_words
from lsc_tui.data.run_view import RunView
from lsc_tui.lines import Line, clean, day_text, fit, frame, over, pad, rule, wrap

# What stands behind the name of a folder of presets.
PAPERS = {
    "lsc-2025": ("arXiv:2510.04090", "predefined vectors for any number of classes"),
    "vector-systems-2025": ("arXiv:2512.07509", "V21, V22 and the smallest dimension"),
    "etf-2024": ("arXiv:2412.00884", "layers fixed to simplex frames"),
    "beyond": ("", "rows that are in no paper"),
    "": ("", "first steps: these run anywhere"),
}
OWN = "yours"
MINI = "-mini"
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
    tries: int = 0
    try_share: float = 1.0  # how long a try is, as a share of a run
    duration: str = ""
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


def own_words() -> str:
    """The folder of the user's own presets, as it is shown."""
    words = home_path(own_folder())
    return words if words.startswith(("~", "/")) else f"./{words}"


def entries(infos: Iterable[PresetInfo], words: str, closed: set[str], at_hand: dict[str, bool | None]) -> list[Entry]:
    """Headings with their presets that match `words`; a heading of which none match stays, closed."""
    groups: dict[str, list[PresetInfo]] = {OWN: []}
    for info in infos:
        groups.setdefault(group_of(info), []).append(info)
    # One's own come first; without any, the line that says how to have some comes last.
    place = {OWN: 0 if groups[OWN] else 3, "beyond": 2}
    out: list[Entry] = []
    for group in sorted(groups, key=lambda g: (place.get(g, 1), _ORDER.index(g) if g in _ORDER else 9, g)):
        found = [info for info in groups[group] if matches(info, words, at_hand)]
        found.sort(key=lambda info: (info.stem.removesuffix(MINI), info.stem))
        shut = group in closed or not found
        out.append(Entry(group, None, shut, len(groups[group])))
        out += [] if shut else [Entry(group, info) for info in found]
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
        known = built_in_data_sets().get(name)
        try:
            out[name] = None if known is None or name == "folder" else known.locate(data_dir or None) is not None
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
def _about(path: Path, _changed: int) -> About:
    try:
        _, raw = read_preset_toml(path)
    except UsageError:
        return About()
    marks = (
        [str(mark) for mark in raw.get("provenance", {}).values()] if isinstance(raw.get("provenance"), dict) else []
    )
    seeds = raw.get("seeds", [raw.get("seed", 0)])
    variants = raw_variants(raw)
    grid, duration = raw.get("tune"), str(lookup(raw, "train.duration") or "")
    grid = grid if isinstance(grid, dict) else {}
    points = [len(values) for values in grid.values() if isinstance(values, list)]
    return About(
        tuple(clean(v.get("label") or v.get("name") or "") for v in variants),
        tuple(s for s in seeds if isinstance(s, int)) if isinstance(seeds, list) else (0,),
        sum(mark.startswith("paper") for mark in marks),
        sum(mark.startswith("inferred") for mark in marks),
        sum(mark.startswith("ours") for mark in marks),
        math.prod(points) * max(1, len(variants)) if points else 0,
        length_ratio(str(grid["duration"]), duration) if "duration" in grid else 1.0,
        duration,
        ", ".join(dict.fromkeys(str(lookup(raw, key)) for key in ("model.name", "train.duration") if lookup(raw, key))),
        ""
        if raw.get("kind", "train") == "train"
        else "a report: " + ", ".join(f"{what} {clean(words)}" for what, words in made_words(raw)[:-1]),
    )


def runs_of(info: PresetInfo, views: Iterable[RunView], host: str) -> list[RunView]:
    """The runs of a preset's study on this host that have trained."""
    names = (info.name, info.stem)
    return [v for v in views if v.study in names and v.status.host == host and v.status.seconds]


def time_of(info: PresetInfo, views: Sequence[RunView], host: str) -> tuple[float | None, bool]:
    """Training seconds of all variants, seeds and tries of a preset, and whether every one was measured here. Runs of
    another length, in the same unit, count by the length that the preset has now."""
    known = about(info)
    whole = max(1, len(known.labels)) * max(1, len(known.seeds))
    longer = {
        v.key: length_ratio(known.duration, str(lookup(v.config, "train.duration"))) for v in runs_of(info, views, host)
    }
    found = [v for v in views if v.key in longer]
    parts = [longer[v.key] * v.status.seconds / v.done for v in found if v.status.seconds and v.done > 0.05]
    if not parts:
        return None, False
    mean = sum(parts) / len(parts)
    tried = [
        v.status.seconds or 0.0
        for v in views
        if v.study in (f"{info.name}{TRIES}", f"{info.stem}{TRIES}") and v.state == "finished" and v.status.host == host
    ]
    all_tried = len(tried) >= known.tries
    tries = sum(sorted(tried)[-known.tries :]) if all_tried and known.tries else mean * known.try_share * known.tries
    finished = sorted(v.status.seconds or 0.0 for v in found if v.state == "finished" and longer[v.key] == 1)
    if len(finished) >= whole:
        return sum(finished[-whole:]) + tries, all_tried
    return mean * whole + tries, False


def short_clock(seconds: float) -> str:
    """`51 s`, `4m10`, `1h10`, `3d04`."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    return f"{int(seconds) // 60}m{int(seconds) % 60:02d}" if seconds < 3600 else clock(seconds)


def speed_like(config: dict[str, Any], views: Iterable[RunView], host: str) -> tuple[float, str] | None:
    """Images per second of earlier runs here with the same model and image size, and the study they are of."""
    keys = ("model.name", "model.width", "data.image_size", "train.precision")
    like = [
        v
        for v in views
        if v.speed and v.status.host == host and all(lookup(v.config, key) == config.get(key) for key in keys)
    ]
    if not like:
        return None
    like.sort(key=lambda v: v.speed or 0.0)
    middle = like[len(like) // 2]
    return float(middle.speed or 0.0), middle.study


def presets_csv(known: PresetList) -> str:
    """The list as CSV, a row per preset."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(("preset", "title", "source", "claim", "data", "data_here", "seconds_here"))
    for entry in known.entries:
        if entry.info is not None:
            info = entry.info
            seconds, exact = time_of(info, known.views, known.host)
            here = {True: "yes", False: "no", None: ""}[known.at_hand.get(info.dataset)]
            write.writerow(
                (
                    info.name,
                    info.title,
                    info.source,
                    info.claim,
                    info.dataset,
                    here,
                    f"{seconds:.0f}" if exact and seconds is not None else "",
                )
            )
    return out.getvalue()


# What stands for the data of a preset that needs none.
KIND_NEEDS = {"vectors": "report", "data": "report", "bench": "benchmark"}


@dataclass
class PresetList:
    """The presets, the filter, and the cursor. `at_hand` is filled by a worker."""

    infos: tuple[PresetInfo, ...] = ()
    words: str = ""
    closed: set[str] = field(default_factory=set)
    at_hand: dict[str, bool | None] = field(default_factory=dict)
    chosen: str = ""
    top: int = 0
    host: str = ""
    views: Sequence[RunView] = ()
    reports: Sequence[Report] = ()
    changed: Collection[Path] = ()  # presets whose form the user has changed

    @property
    def entries(self) -> list[Entry]:
        return entries(self.infos, self.words, self.closed, self.at_hand)

    @property
    def place(self) -> int:
        """The cursor's line: at first that of the first preset; -1 where the chosen one has gone."""
        found = self.entries
        if not self.chosen:
            return next((i for i, e in enumerate(found) if e.info is not None), 0)
        return next((i for i, e in enumerate(found) if e.key == self.chosen), -1)

    @property
    def current(self) -> Entry | None:
        found = self.entries
        return found[self.place] if found and self.place >= 0 else None

    @property
    def info(self) -> PresetInfo | None:
        """The highlighted preset, None on a heading."""
        entry = self.current
        return entry.info if entry is not None else None

    def move(self, by: int) -> None:
        found = self.entries
        if found:
            self.chosen = found[max(0, min(len(found) - 1, self.place + by))].key

    @property
    def shown(self) -> int:

        return sum(matches(info, self.words, self.at_hand) for info in self.infos)

    def has_data(self, info: PresetInfo) -> bool | None:
        """Whether the data of a preset are at hand; what needs none has them."""
        return True if info.kind != "train" and not info.dataset else self.at_hand.get(info.dataset)

    @property
    def here(self) -> int:
        return sum(self.has_data(info) is True for info in self.infos)

    @property
    def empty(self) -> str:
        return f'no preset matches "{clean(self.words)}". Esc clears' if self.words and not self.shown else ""


def list_lines(known: PresetList, width: int, height: int, *, active: bool, wide: bool) -> list[Line]:
    """The lines of the list that are in sight, `height` of them."""
    found, place = known.entries, known.place
    room = width - 22 if wide else width - 50
    titles = cut_titles(words_of([entry.info for entry in found if entry.info is not None], wide, room), room)
    known.top = max(0, min(known.top, len(found) - height, place), place - height + 1)
    out: list[Line] = []
    for i, entry in enumerate(found[known.top : known.top + height], known.top):
        line = _heading(known, entry, width) if entry.info is None else _preset(known, entry.info, titles, width, wide)
        if i == place:
            line = pad(line, width)
            first, style = line[0]
            line = [("▌", "accent"), (first[1:], style), *line[1:]]
            line = over(line, "cursor") if active else line
        out.append(line)
    return out


def title_words(info: PresetInfo) -> str:
    """The title without the number of the figure, which the name and the source say already."""
    found = re.match(r"(?:Figs?\.|Tables?|Secs?\.)[^:]*?(?P<where> on [^:]*)?: (?P<rest>.+)", info.title)
    if found is None:
        return clean(info.title)
    return clean(found["rest"] + (f",{found['where']}" if found["where"] else ""))


def words_of(infos: Sequence[PresetInfo], wide: bool, room: int) -> dict[str, str]:
    """What stands beside the name of each preset: its claim where that fits, the list is narrow and no other preset has
    the same, else its title."""
    claims = Counter(info.claim for info in infos)
    short = {info.name for info in infos if not wide and 0 < len(info.claim) <= room and claims[info.claim] == 1}
    return {info.name: clean(info.claim) if info.name in short else title_words(info) for info in infos}


def cut_titles(words: Mapping[str, str], width: int) -> dict[str, str]:
    """Each text in `width` cells, by the name of its preset, cut at its end. Where that would make two the same, a
    small preset is named after the one it stands for (`as fig7, on digits`), and of others the words that they begin
    with are left out, as many as are needed for the rest to fit."""
    cut = {name: fit(text, width) for name, text in words.items()}
    alike: dict[str, dict[str, str]] = {}
    for name, text in words.items():
        alike.setdefault(cut[name], {})[name] = text
    for group in (group for group in alike.values() if len(group) > 1):
        for name in [name for name in group if name.removesuffix(MINI) in words and name.endswith(MINI)]:
            large, text = name.removesuffix(MINI), group.pop(name)
            other = text[_shared([words[large], text]) :].lstrip(" ,:") or "smaller"
            cut[name] = fit(f"as {large.rpartition('/')[2]}, {other}", width)
        if len(set(group.values())) > 1 and width > 3:
            texts = list(group.values())
            same, longest = _shared(texts), max(map(cell_len, texts))
            starts = [i for i in range(1, same + 1) if texts[0][i - 1] == " "] or [same]
            start = next((i for i in starts if longest - cell_len(texts[0][:i]) < width), starts[-1])
            tails = cut_titles({name: text[start:] for name, text in group.items()}, width - 1)
            cut |= {name: fit(f"…{tail.removeprefix('…')}", width) for name, tail in tails.items()}
    return cut


def _shared(texts: Sequence[str]) -> int:
    """Where the first word begins in which texts differ."""
    first, last = min(texts), max(texts)
    same = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return same if same == len(first) else first.rfind(" ", 0, same) + 1 or same


def _heading(known: PresetList, entry: Entry, width: int) -> Line:
    name = entry.group or "start here"
    arxiv, words = PAPERS.get(entry.group, ("", ""))
    if entry.group == OWN:
        words = f"{own_words()} ({entry.count})" if entry.count else "none yet, w in the form saves one"
    hidden = "  hidden by filter" if known.words and entry.closed and entry.count else ""
    left = f" {'▸' if entry.closed else '▾'} {clean(name)}"
    gap = max(2, 24 - len(left)) if width < 60 else 3
    text = f"{arxiv}{'  ' if arxiv and words else ''}{words}"
    room = width - len(left) - gap - len(hidden)
    return [(left, "bold"), (" " * gap, ""), (fit(clean(text), max(0, room)), "dim"), (hidden, "dim")]


def _preset(known: PresetList, info: PresetInfo, titles: Mapping[str, str], width: int, wide: bool) -> Line:
    here = known.has_data(info)
    mark: Line = [(" ", ""), ("*", "accent")] if info.path in known.changed else [("  ", "")]
    glyph = {True: "✓", False: "-"}.get(here, " ") if here is not None else " "
    if wide:
        style = "dim" if here is False else ""
        return [
            (" ", ""),
            *mark,
            (fit(clean(info.stem), 15), style),
            (" ", ""),
            (titles[info.name], "dim"),
            (f" {glyph} ", "good" if here else "dim"),
        ]
    needs = f"{glyph} {fit(clean(info.dataset or KIND_NEEDS.get(info.kind, '')), 13)}"
    found = re.search(r"(Fig|Table|Tab|Sec|App|Eq)\w*\.?\s*[\w.]+", info.source)
    seconds, exact = time_of(info, known.views, known.host)
    time = "?" if seconds is None else f"{'' if exact else '~'}{short_clock(seconds)}"
    if info.fault:
        return [*mark, (fit(clean(info.stem), 15), "warn"), (" ", ""), (fit(clean(info.fault), width - 18), "warn")]
    return [
        *mark,
        (fit(clean(info.stem), 15), ""),
        (" ", ""),
        (titles[info.name], ""),
        ("  ", ""),
        (fit(clean(found[0]) if found else "", 8), "dim"),
        (" ", ""),
        (needs, "good" if here else "dim"),
        (fit(time, 6, ">"), ""),
    ]


def about_lines(known: PresetList, width: int, height: int) -> list[Line]:
    """claim, runs, known, data, before of the highlighted preset."""
    entry = known.current
    if entry is None:
        return []
    info = entry.info
    if info is None:
        words = f"{PAPERS.get(entry.group, ('', ''))[1]}; Enter {'opens' if entry.closed else 'closes'} it"
        if entry.group == OWN:
            words = f"w in a form saves a preset in {own_words()}; $LSC_PRESETS names another folder"
        return [[(fit(f" {words}", width), "dim")]]
    if info.fault:
        return [[(f"  {line}", "warn")] for line in wrap(clean(info.fault), width - 4)][:height]
    facts = about(info)
    rows = [("claim", clean(info.claim or info.title))]
    if height > 6 and info.claim:
        rows.insert(0, ("title", title_words(info)))
    if height > 6:
        rows.append(("source", clean(info.source)))
    if facts.makes:
        rows.append(("makes", facts.makes))
        rows += [("data", _data_words(known, info))] if info.dataset else []
        made = [r.made for r in known.reports if r.study in (info.name, info.stem) and r.made is not None]
        words = f"made {day_text(max(made))}: 1 Runs, Enter on it reads it" if made else "never made here"
        rows.append(("before", words))
    else:
        seeds = f"{'seeds' if len(facts.seeds) > 1 else 'seed'} {' '.join(map(str, facts.seeds))}"
        tune = ", after a small grid" if facts.tries else ""
        rows.append(("runs", f"{' · '.join(facts.labels)}  × {seeds}{tune}"))
        rows += [("known", facts.known), ("data", _data_words(known, info)), ("before", _before(known, info))]
    out: list[Line] = []
    for name, text in rows:
        lines = wrap(text, width - 9) if height > 6 else [text]
        for i, line in enumerate(lines[:3]):
            out.append([(fit(f" {name}" if i == 0 else "", 8), "dim"), (fit(line, width - 8), "")])
    return out[:height]


def _data_words(known: PresetList, info: PresetInfo) -> str:
    here = known.at_hand.get(info.dataset)
    if info.dataset not in known.at_hand:
        return f"{clean(info.dataset)} …"
    if here is None:
        return f"{clean(info.dataset)}: the form says where it is" if info.dataset else "none"
    if here:
        return f"{info.dataset}: here"
    from lsc_engine.data.dataset import data_set

    return clean(data_set(info.dataset).missing().partition(": ")[2]) + "; or choose spectrum"


def _before(known: PresetList, info: PresetInfo) -> str:
    found = runs_of(info, known.views, known.host)
    if not found:
        elsewhere = f"; all of it took {short_clock(60 * info.minutes)} where it was measured" if info.minutes else ""
        return f"never run here{elsewhere}"
    seconds, exact = time_of(info, known.views, known.host)
    took = f", {'' if exact else '~'}{short_clock(seconds)} for all" if seconds is not None else ""
    finished = sum(v.state == "finished" for v in found)
    return f"{finished} of {len(found)} runs finished here{took}"


def list_panel(known: PresetList, width: int, height: int, *, active: bool) -> list[Line]:
    """The wide panel: the list above, and what is known of the highlighted preset below it."""
    inner = width - 2
    below = about_lines(known, inner, 14)
    entry = known.current
    name = entry.info.stem if entry is not None and entry.info is not None else "presets"
    legend: list[Line] = [[(fit(" ✓ runs here now   - misses its data", inner), "dim")]]
    rows = max(3, height - 2 - 15 - 1)
    if known.empty:
        body: list[Line] = [[(f" {line}", "warn")] for line in wrap(known.empty, inner - 2)]
        body += list_lines(known, inner, rows - len(body), active=active, wide=True)
    else:
        body = list_lines(known, inner, rows, active=active, wide=True)
    body += [[] for _ in range(rows - len(body))]
    body += [rule(inner, clean(name)), *below]
    body += [[] for _ in range(height - 2 - len(body) - 1)] + legend
    hidden = len(known.entries) - known.top - rows
    return frame(body, width, height, "presets", f"{hidden} more below" if hidden > 0 else "")


def list_narrow(known: PresetList, width: int, height: int) -> list[Line]:
    """The 80-column list with its header, and the highlighted preset below it."""
    entry = known.current
    name = "" if entry is None else entry.group or "start here"
    if entry is not None and entry.info is not None:
        name = fit(f"{entry.info.stem} · {title_words(entry.info)}", width - 6).rstrip()
    rows = height - 1 - 6
    body = list_lines(known, width, rows, active=True, wide=False)
    hidden = len(known.entries) - known.top - rows
    title = "─ presets by paper " + (f"· {hidden} more below " if hidden > 0 else "")
    head = title + "─" * max(1, width - len(title) - 33) + " SOURCE ─ NEEDS ──────────── TIME"
    if known.empty:
        body = [[(fit(f" {known.empty}", width), "warn")], *body[: rows - 1]]
    body += [[] for _ in range(rows - len(body))]
    return [[(fit(head, width), "rule")], *body, rule(width, clean(name)), *about_lines(known, width, 5)]
