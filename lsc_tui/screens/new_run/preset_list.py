"""The list of presets on New run, and what is told of the highlighted one."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsc_engine.config.load import PresetInfo
from lsc_tui.data.reports import Report
from lsc_tui.data.run_view import RunView
from lsc_tui.lines import Line, clean, day_text, fit, frame, over, pad, rule, wrap
from lsc_tui.screens.new_run.presets import (
    OWN,
    PAPERS,
    Entry,
    about,
    entries,
    matches,
    own_words,
    place_of,
    runs_of,
    short_clock,
    time_of,
    time_words,
)

# What stands for the data of a preset that needs none.
KIND_NEEDS = {"vectors": "report", "data": "report", "bench": "benchmark"}


@dataclass
class Shelf:
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
        """The lines of the list."""
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
        """The highlighted line."""
        found = self.entries
        return found[self.place] if found and self.place >= 0 else None

    def move(self, by: int) -> None:
        """The cursor by lines."""
        found = self.entries
        if found:
            self.chosen = found[max(0, min(len(found) - 1, self.place + by))].key

    @property
    def shown(self) -> int:
        """Presets that match."""

        return sum(matches(info, self.words, self.at_hand) for info in self.infos)

    def has_data(self, info: PresetInfo) -> bool | None:
        """Whether the data of a preset are at hand; what needs none has them."""
        return True if info.kind != "train" and not info.dataset else self.at_hand.get(info.dataset)

    @property
    def here(self) -> int:
        """Presets whose data are at hand."""
        return sum(self.has_data(info) is True for info in self.infos)

    @property
    def empty(self) -> str:
        """The sentence where nothing matches."""
        return f'no preset matches "{clean(self.words)}". Esc clears' if self.words and not self.shown else ""


def shelf_lines(shelf: Shelf, width: int, height: int, *, active: bool, wide: bool) -> list[Line]:
    """The lines of the list that are in sight, `height` of them."""
    found, place = shelf.entries, shelf.place
    shelf.top = max(0, min(shelf.top, len(found) - height, place), place - height + 1)
    out: list[Line] = []
    for i, entry in enumerate(found[shelf.top : shelf.top + height], shelf.top):
        line = _heading(shelf, entry, width) if entry.info is None else _preset(shelf, entry.info, width, wide)
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


def _heading(shelf: Shelf, entry: Entry, width: int) -> Line:
    name = entry.group or "start here"
    arxiv, words = PAPERS.get(entry.group, ("", ""))
    if entry.group == OWN:
        words = f"{own_words()} ({entry.count})" if entry.count else "none yet, w in the form saves one"
    hidden = "  hidden by filter" if shelf.words and entry.closed and entry.count else ""
    left = f" {'▸' if entry.closed else '▾'} {clean(name)}"
    gap = max(2, 24 - len(left)) if width < 60 else 3
    text = f"{arxiv}{'  ' if arxiv and words else ''}{words}"
    room = width - len(left) - gap - len(hidden)
    return [(left, "bold"), (" " * gap, ""), (fit(clean(text), max(0, room)), "dim"), (hidden, "dim")]


def _preset(shelf: Shelf, info: PresetInfo, width: int, wide: bool) -> Line:
    here = shelf.has_data(info)
    mark: Line = [(" ", ""), ("*", "accent")] if info.path in shelf.changed else [("  ", "")]
    glyph = {True: "✓", False: "-"}.get(here, " ") if here is not None else " "
    if wide:
        style = "dim" if here is False else ""
        return [(" ", ""), *mark, (fit(clean(info.stem), 16), style), (fit(title_words(info), width - 22), "dim"),
                (f" {glyph} ", "good" if here else "dim")]  # fmt: skip
    words = info.claim if 0 < len(info.claim) <= width - 49 else title_words(info)
    needs = f"{glyph} {fit(clean(info.dataset or KIND_NEEDS.get(info.kind, '')), 13)}"
    place = place_of(info)
    if info.fault:
        return [*mark, (fit(clean(info.stem), 15), "warn"), (fit(clean(info.fault), width - 17), "warn")]
    return [
        *mark, (fit(clean(info.stem), 15), ""), (fit(clean(words), width - 49), ""), ("  ", ""),
        (fit(place, 8), "dim"), (" ", ""), (needs, "good" if here else "dim"),
        (fit(time_words(info, shelf.views, shelf.host), 6, ">"), ""),
    ]  # fmt: skip


def about_lines(shelf: Shelf, width: int, height: int) -> list[Line]:
    """claim, runs, known, data, before of the highlighted preset."""
    entry = shelf.current
    if entry is None or entry.info is None:
        return _about_group(entry, width)
    info = entry.info
    if info.fault:
        return [[(f"  {line}", "warn")] for line in wrap(clean(info.fault), width - 4)][:height]
    known = about(info)
    rows = [("claim", clean(info.claim or info.title))]
    if height > 6:
        rows.append(("source", clean(info.source)))
    seeds = " ".join(map(str, known.seeds))
    tune = ", after a small grid" if known.tune else ""
    if known.makes:
        rows.append(("makes", known.makes))
        rows += [("data", _data_words(shelf, info))] if info.dataset else []
        rows.append(("before", _report_before(shelf, info)))
        return _about_rows(rows, width, height)
    rows.append(("runs", f"{' · '.join(known.labels)}  × {'seeds' if len(known.seeds) > 1 else 'seed'} {seeds}{tune}"))
    rows += [("known", known.known), ("data", _data_words(shelf, info)), ("before", _before(shelf, info))]
    return _about_rows(rows, width, height)


def _about_rows(rows: Sequence[tuple[str, str]], width: int, height: int) -> list[Line]:
    out: list[Line] = []
    for name, text in rows:
        lines = wrap(text, width - 9) if height > 6 else [text]
        for i, line in enumerate(lines[:3]):
            out.append([(fit(f" {name}" if i == 0 else "", 8), "dim"), (fit(line, width - 8), "")])
    return out[:height]


def _about_group(entry: Entry | None, width: int) -> list[Line]:
    if entry is None:
        return []
    if entry.group == OWN:
        folder = f"w in a form saves a preset in {own_words()}; $LSC_PRESETS names another folder"
        return [[(fit(f" {folder}", width), "dim")]]
    _, words = PAPERS.get(entry.group, ("", ""))
    return [[(fit(f" {words}; Enter {'opens' if entry.closed else 'closes'} it", width), "dim")]]


def _data_words(shelf: Shelf, info: PresetInfo) -> str:
    here = shelf.at_hand.get(info.dataset)
    if info.dataset not in shelf.at_hand:
        return f"{clean(info.dataset)} …"
    if here is None:
        return f"{clean(info.dataset)}: the form says where it is" if info.dataset else "none"
    if here:
        return f"{info.dataset}: here"
    from lsc_engine.config.datasets import missing_sentence

    return clean(missing_sentence(info.dataset).partition(": ")[2]) + "; or choose spectrum"


def _report_before(shelf: Shelf, info: PresetInfo) -> str:
    found = [report for report in shelf.reports if report.study in (info.name, info.stem) and report.made is not None]
    made = max((report.made or 0.0 for report in found), default=None)
    return "never made here" if made is None else f"made {day_text(made)}: 1 Runs, Enter on it reads it"


def _before(shelf: Shelf, info: PresetInfo) -> str:
    found = runs_of(info, shelf.views, shelf.host)
    if not found:
        elsewhere = f"; all of it took {short_clock(60 * info.minutes)} where it was measured" if info.minutes else ""
        return f"never run here{elsewhere}"
    seconds, exact = time_of(info, shelf.views, shelf.host)
    took = f", {'' if exact else '~'}{short_clock(seconds)} for all" if seconds is not None else ""
    finished = sum(v.state == "finished" for v in found)
    return f"{finished} of {len(found)} runs finished here{took}"


def shelf_panel(shelf: Shelf, width: int, height: int, *, active: bool) -> list[Line]:
    """The wide panel: the list above, what is told of the highlighted preset below."""
    inner = width - 2
    told = about_lines(shelf, inner, 14)
    entry = shelf.current
    name = entry.info.stem if entry is not None and entry.info is not None else "presets"
    legend: list[Line] = [[(fit(" ✓ runs here now   - misses its data", inner), "dim")]]
    rows = max(3, height - 2 - 15 - 1)
    if shelf.empty:
        body: list[Line] = [[(f" {line}", "warn")] for line in wrap(shelf.empty, inner - 2)]
        body += shelf_lines(shelf, inner, rows - len(body), active=active, wide=True)
    else:
        body = shelf_lines(shelf, inner, rows, active=active, wide=True)
    body += [[] for _ in range(rows - len(body))]
    body += [rule(inner, clean(name)), *told]
    body += [[] for _ in range(height - 2 - len(body) - 1)] + legend
    return frame(body, width, height, "presets", "Tab next pane" if active else "")


def shelf_narrow(shelf: Shelf, width: int, height: int) -> list[Line]:
    """The 80-column list with its header, and the highlighted preset below it."""
    entry = shelf.current
    name = entry.info.stem if entry is not None and entry.info is not None else group_name(entry)
    head = "─ presets by paper " + "─" * max(1, width - 19 - 33) + " SOURCE ─ NEEDS ──────────── TIME"
    rows = height - 1 - 6
    body = shelf_lines(shelf, width, rows, active=True, wide=False)
    if shelf.empty:
        body = [[(fit(f" {shelf.empty}", width), "warn")], *body[: rows - 1]]
    body += [[] for _ in range(rows - len(body))]
    return [[(fit(head, width), "rule")], *body, rule(width, clean(name)), *about_lines(shelf, width, 5)]


def group_name(entry: Entry | None) -> str:
    """The heading's name."""
    return (entry.group or "start here") if entry is not None else ""
