"""The list of presets on New run: by paper, with claim, source, whether its data are here, and the time it took."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.cells import cell_len

from lsc_engine.common.formatting import clock, counted
from lsc_engine.common.safe_io import csv_text
from lsc_engine.common.settings import lookup
from lsc_engine.common.userpaths import home_path
from lsc_engine.config.expand import raw_variants
from lsc_engine.config.load import PresetInfo, own_folder
from lsc_engine.data.dataset import data_set
from lsc_engine.runs.folder.layout import TRIES
from lsc_engine.studies.preset_list import OWN, PAPERS, by_paper, matches
from lsc_tui.data.preset_form import length_ratio
from lsc_tui.data.reports import made_words
from lsc_tui.data.run_view import SPEED, RunView, Store
from lsc_tui.lines import Line, clean, day_text, fit, over, pad, rule, wrap
from lsc_tui.widgets.list_box import ListBox
from lsc_tui.widgets.panel import Sheet

MINI = "-mini"


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


def own_words() -> str:
    """The folder of the user's own presets, as it is shown."""
    words = home_path(own_folder())
    return words if words.startswith(("~", "/")) else f"./{words}"


def entries(infos: Iterable[PresetInfo], words: str, closed: set[str], at_hand: dict[str, bool | None]) -> list[Entry]:
    """Headings with their presets that match `words`; a heading of which none match stays, closed."""
    groups = by_paper(infos)
    # One's own come first; without any, the line that says how to have some comes last.
    groups = {OWN: groups[OWN]} | groups if groups[OWN] else groups
    out: list[Entry] = []
    for group, members in groups.items():
        found = [info for info in members if matches(info, words, at_hand.get(info.dataset))]
        found.sort(key=lambda info: (info.stem.removesuffix(MINI), info.stem))
        shut = group in closed or not found
        out += [Entry(group, None, shut, len(members)), *(Entry(group, info) for info in found if not shut)]
    return out


class About(NamedTuple):
    """What the file of a preset says of the runs that it makes."""

    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    marks: tuple[int, int, int]  # settings that are the paper's, inferred, ours
    tries: int
    try_share: float  # how long a try is, as a share of a run
    duration: str


def about(info: PresetInfo) -> About:
    """Of the tables as they are written, checked or not."""
    raw, whose, grid = info.raw, info.raw.get("provenance"), info.raw.get("tune")
    marks = [str(mark) for mark in whose.values()] if isinstance(whose, dict) else []
    paper, inferred, ours = (sum(m.startswith(word) for m in marks) for word in ("paper", "inferred", "ours"))
    seeds, variants, grid = (
        raw.get("seeds", [raw.get("seed", 0)]),
        raw_variants(raw),
        grid if isinstance(grid, dict) else {},
    )
    points, duration = [len(v) for v in grid.values() if isinstance(v, list)], str(lookup(raw, "train.duration") or "")
    return About(
        tuple(clean(v.get("label") or v.get("name") or "") for v in variants),
        tuple(s for s in seeds if isinstance(s, int)) if isinstance(seeds, list) else (0,),
        (paper, inferred, ours),
        math.prod(points) * max(1, len(variants)) if points else 0,
        length_ratio(str(grid["duration"]), duration) if "duration" in grid else 1.0,
        duration,
    )


def runs_of(info: PresetInfo, views: Iterable[RunView]) -> list[RunView]:
    """The runs of a preset's study that have trained, on any host."""
    return [v for v in views if v.study in (info.name, info.stem) and v.status.seconds]


def time_of(info: PresetInfo, views: Collection[RunView], host: str) -> tuple[float | None, bool]:
    """Training seconds of all variants, seeds and tries of a preset, and whether every one was measured here. Runs of
    another length, in the same unit, count by the length that the preset has now."""
    known, found = about(info), [v for v in runs_of(info, views) if v.status.host == host]
    whole = max(1, len(known.labels)) * max(1, len(known.seeds))
    longer = {v.key: length_ratio(known.duration, str(lookup(v.config, "train.duration"))) for v in found}
    parts = [longer[v.key] * v.status.seconds / v.done for v in found if v.status.seconds and v.done > 0.05]
    if not parts:
        return None, False
    mean, studies = sum(parts) / len(parts), (f"{info.name}{TRIES}", f"{info.stem}{TRIES}")
    tried = [v for v in views if v.study in studies and v.state == "finished" and v.status.host == host]
    all_tried = len(tried) >= known.tries
    tries = mean * known.try_share * known.tries
    if all_tried and known.tries:
        tries = sum(sorted(v.status.seconds or 0.0 for v in tried)[-known.tries :])
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
    here = (v for v in views if v.last(SPEED) and v.status.host == host)
    like = [v for v in here if all(lookup(v.config, key) == config.get(key) for key in keys)]
    like.sort(key=lambda v: v.last(SPEED) or 0.0)
    middle = like[len(like) // 2] if like else None
    return None if middle is None else (float(middle.last(SPEED) or 0.0), middle.study)


def presets_csv(known: PresetList) -> str:
    """The list as CSV, a row per preset."""
    rows: list[list[object]] = [["preset", "title", "source", "claim", "data", "data_here", "seconds_here"]]
    for info in (entry.info for entry in known.rows if entry.info is not None):
        seconds, exact = known.time(info)
        here = {True: "yes", False: "no", None: ""}[known.at_hand.get(info.dataset)]
        took = f"{seconds:.0f}" if exact and seconds is not None else ""
        rows.append([info.name, info.title, info.source, info.claim, info.dataset, here, took])
    return csv_text(rows)


# What stands for the data of a preset that needs none.
KIND_NEEDS = {"vectors": "report", "data": "report", "bench": "benchmark"}


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


def _preset(known: PresetList, info: PresetInfo, title: str, width: int, names: int) -> Line:
    here, stem = known.has_data(info), fit(clean(info.stem), names)
    mark: Line = [(" ", ""), ("*", "accent")] if info.path in known.changed else [("  ", "")]
    glyph, good = {True: "✓", False: "-", None: " "}[here], "good" if here else "dim"
    if known.framed:
        style = "dim" if here is False else ""
        return [(" ", ""), *mark, (f"{stem} ", style), (title, "dim"), (f" {glyph} ", good)]
    if info.fault:
        return [*mark, (f"{stem} {fit(clean(info.fault), width - 18)}", "warn")]
    needs = f" {glyph} {fit(clean(info.dataset or KIND_NEEDS.get(info.kind, '')), 13)}"
    found = re.search(r"(Fig|Table|Tab|Sec|App|Eq)\w*\.?\s*[\w.]+", info.source)
    seconds, exact = known.time(info)
    seconds = 60 * info.minutes if seconds is None and info.minutes else seconds
    time = "?" if seconds is None else f"{'' if exact else '~'}{short_clock(seconds)}"
    where = fit(clean(found[0]) if found else "", 8)
    return [*mark, (f"{stem} {title}  ", ""), (where, "dim"), (needs, good), (fit(time, 6, ">"), "")]


def about_lines(known: PresetList, width: int, height: int) -> list[Line]:
    """claim, runs, known, data, before of the highlighted preset."""
    entry, tall = known.current, height > 6
    if entry is None:
        return []
    info = entry.info
    if info is None:
        words = f"{PAPERS.get(entry.group, ('', ''))[1]}; Enter {'opens' if entry.closed else 'closes'} it"
        if entry.group == OWN:
            words = f"w in a form saves a preset in {own_words()}; $LSC_PRESETS names another folder"
        return [[(f" {line}", "dim")] for line in wrap(words, width - 2)[:height]]
    if info.fault:
        return [[(f"  {line}", "warn")] for line in wrap(clean(info.fault), width - 4)][:height]
    facts, here, data = about(info), known.at_hand.get(info.dataset), f"{clean(info.dataset)} …"
    rows = {"title": title_words(info)} if tall and info.claim else {}
    rows |= {"claim": clean(info.claim or info.title)} | ({"source": clean(info.source)} if tall else {})
    if here:
        data = f"{info.dataset}: here"
    elif info.dataset in known.at_hand and here is None:
        data = f"{clean(info.dataset)}: the form says where it is" if info.dataset else "none"
    elif info.dataset in known.at_hand:
        data = clean(data_set(info.dataset).missing().partition(": ")[2]) + "; or choose spectrum"
    if info.kind != "train":
        made = [r.made for r in known.store.reports if r.study in (info.name, info.stem) and r.made is not None]
        rows["makes"] = f"a report: {', '.join(f'{w} {clean(x)}' for w, x in made_words(info.raw))}"
        rows |= {"data": data} if info.dataset else {}
        rows["before"] = f"made {day_text(max(made))}: 1 Runs, Enter on it reads it" if made else "never made here"
    else:
        paper, inferred, ours = facts.marks
        rows["runs"] = f"{' · '.join(facts.labels)}  × {'seeds' if len(facts.seeds) > 1 else 'seed'} "
        rows["runs"] += f"{' '.join(map(str, facts.seeds))}{', after a small grid' if facts.tries else ''}"
        rows["known"] = "the preset does not say whose its settings are"
        if any(facts.marks):
            who = counted(paper, "setting is", "settings are")
            rows["known"] = f"{who} the paper's, {inferred} inferred, {ours} ours: marked in the form"
        found, (seconds, exact) = runs_of(info, known.views), known.time(info)
        took = f"; {short_clock(60 * info.minutes)} for all elsewhere" if info.minutes else ""
        took = f", {'' if exact else '~'}{short_clock(seconds)} for all" if seconds is not None else took
        names = [v.get("name") for v in raw_variants(info.raw)] or ["default"]
        planned = {(name, seed) for name in names for seed in facts.seeds}
        finished = planned & {(v.variant, v.seed) for v in found if v.state == "finished"}
        done = f"{len(finished)} of {counted(len(planned), 'run')} finished here"
        rows |= {"data": data, "before": f"{done if found else 'never run here'}{took}"}
    out: list[Line] = []
    for name, text in rows.items():
        lines = wrap(text, width - 9) if tall else [text]
        lines = lines if len(lines) <= 3 else [*lines[:2], f"{lines[2]} {lines[3]}"]
        for i, line in enumerate(lines):
            out.append([(fit(f" {name}" if i == 0 else "", 8), "dim"), (fit(line, width - 8), "")])
    return out[:height]


class PresetList(ListBox[Entry]):
    """The presets that match the filter, below their papers; at 80 columns with a header, and with what is known of the
    highlighted one below. `infos`, `words`, `closed` and `at_hand` decide on the rows: `fill` after a change."""

    def __init__(self, store: Store, id: str) -> None:
        super().__init__(id=id, bare=True)
        self.store = store
        self.infos: tuple[PresetInfo, ...] = ()
        self.words = ""
        self.closed: set[str] = set()
        self.at_hand: dict[str, bool | None] = {}
        self.changed: Collection[Path] = ()  # presets whose form the user has changed
        self.active = True

    def fill(self) -> None:
        found = entries(self.infos, self.words, self.closed, self.at_hand) if self.infos else []
        self.put(found, by_user=False)

    def start(self) -> int:
        return next((i for i, entry in enumerate(self.rows) if entry.info is not None), 0)

    @property
    def info(self) -> PresetInfo | None:
        return self.current.info if self.current is not None else None

    @property
    def views(self) -> Collection[RunView]:
        return self.store.runs.values()

    def time(self, info: PresetInfo) -> tuple[float | None, bool]:
        return time_of(info, self.views, self.store.host)

    @property
    def shown(self) -> int:
        return sum(matches(info, self.words, self.at_hand.get(info.dataset)) for info in self.infos)

    def has_data(self, info: PresetInfo) -> bool | None:
        """Whether the data of a preset are at hand; what needs none has them."""
        return True if info.kind != "train" and not info.dataset else self.at_hand.get(info.dataset)

    @property
    def here(self) -> int:
        return sum(self.has_data(info) is True for info in self.infos)

    def sheet(self, width: int, height: int) -> Sheet:
        entry, wide = self.current, self.framed
        tall = 14 if wide else 5
        rows = max(3, height - tall - 2)
        empty = f'no preset matches "{clean(self.words)}". Esc clears' if self.words and not self.shown else ""
        empty = empty if self.infos else "reading the presets …"
        body: list[Line] = [[(f" {line}", "warn")] for line in (wrap(empty, width - 2) if empty else ())]
        infos = [one.info for one in self.rows if one.info is not None]
        names = max([15, *(min(20, len(info.stem)) for info in infos if wide)])
        room = width - names - (7 if wide else 35)
        titles = cut_titles(words_of(infos, wide, room), room)

        def lines(one: Entry, here: bool) -> list[Line]:
            info = one.info
            if info is None:
                line = _heading(self, one, width - wide)
            else:
                line = _preset(self, info, titles[info.name], width, names)
            if here:
                (first, style), *others = pad(line, width)
                line = [("▌", "accent"), (first[1:], style), *others]
            return [over(line, "cursor") if here and self.active else line]

        body += self.body(rows - len(body), lines)
        body += [[] for _ in range(rows - len(body))]
        name, below = "presets", about_lines(self, width, tall)
        if entry is not None:
            name = entry.info.stem if entry.info is not None else entry.group or "start here"
        if wide:
            legend: Line = [(fit(" ✓ runs here now   - misses its data", width), "dim")]
            body += [rule(width, clean(name)), *below, *([] for _ in range(tall - len(below))), legend]
            return "presets", self.more, body
        if entry is not None and entry.info is not None:
            name = fit(f"{name} · {title_words(entry.info)}", width - 6).rstrip()
        title = f"─ presets by paper {f'· {self.more} ' if self.more else ''}"
        head = title + "─" * max(1, width - len(title) - 33) + " SOURCE ─ NEEDS ──────────── TIME"
        return "", "", [[(fit(head, width), "rule")], *body, rule(width, clean(name)), *below]
