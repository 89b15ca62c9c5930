"""The list of studies and runs: which rows it has, a row as a line (both pure), and the panel that scrolls them.

Only the rows in sight are formatted, so a thousand runs cost what twenty cost.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len

from lsc_engine.common.formatting import clock, grouped, natural, number, percent
from lsc_engine.common.safe_io import number_of
from lsc_engine.common.settings import lookup
from lsc_tui.data.filters import value_of
from lsc_tui.data.reports import KINDS, Report
from lsc_tui.data.run_view import ACCURACIES, ACCURACY, LOSS, SPEED, RunView, finite, gpu_number, value_text
from lsc_tui.lines import (
    STATES,
    Line,
    clean,
    day_text,
    ends,
    fit,
    fit_ends,
    loss_text,
    over,
    pad,
    progress,
    trend,
    width_of,
    wrap,
)
from lsc_tui.widgets.chart import place_words
from lsc_tui.widgets.list_box import ListBox
from lsc_tui.widgets.panel import Panel, Sheet

# Head at 80 columns and in the wide list, width in both; a negative one is that of a text, which stands at the left.
COLUMNS: dict[str, tuple[tuple[str, str], tuple[int, int]]] = {
    "run": (("RUN", "RUN"), (-12, -12)),
    "seed": (("SEED", "SEED"), (4, 4)),
    "done": (("%", "DONE"), (1, 4)),
    "eta": (("ETA", "ETA"), (6, 6)),
    "loss": (("LOSS", "LOSS"), (7, 7)),
    "best": (("BEST", "BEST"), (7, 7)),
    "acc": (("", ""), (6, 6)),
    "best_acc": (("BEST", "BEST"), (5, 5)),
    "speed": (("IMG/S", "IMG/S"), (7, 7)),
    "trend": (("TREND", "LOSS TREND"), (-8, -12)),
    "where": (("WHERE", "WHERE"), (-8, -11)),
    "reason": (("REASON", "REASON"), (-16, -16)),
    "tag": (("TAGS", "TAGS"), (-12, -12)),
    "note": (("NOTE", "NOTE"), (-16, -16)),
}
DEFAULT = {
    False: ("run", "seed", "done", "eta", "loss", "acc", "trend", "where"),
    True: ("run", "seed", "done", "eta", "loss", "best", "acc", "best_acc", "speed", "trend", "where", "reason"),
}
WIDE = 108
_SEEN_FIRST = ("unreadable", "diverged", "failed", "lost", "stalled", "running", "starting", "stopping")
PIN = "|"  # in a choice of columns: those before it stay where the others are moved


@dataclass(frozen=True)
class Row:
    """A line of the list: a study (its runs in `views`), a run, or the folded seeds of a variant."""

    key: str
    kind: str  # study | run | fold | report (no runs)
    views: tuple[RunView, ...]
    closed: bool = False
    other: str = ""  # the folder's name where it is another's
    done: tuple[int, int] = (0, 0)  # of a study: finished runs and runs, those hidden by a filter included
    report: Report | None = None
    title: str = ""  # of a group of runs that have a setting in common
    name: str = ""  # of a run, where no heading names its study

    @property
    def study(self) -> str:
        return self.report.study if self.report is not None else self.views[0].study


@dataclass
class Order:
    """How the list is ordered and what is folded."""

    sort: str = "started"
    inverted: bool = False
    folded: bool = False
    closed: set[str] = field(default_factory=set)
    accuracy: str = ACCURACY  # the metric in the column of accuracies, the same for all runs
    flat: bool = False  # one list over all studies
    group: str = ""  # a name of filters.FIELDS or a setting: grouped by its values, not by study
    columns: tuple[str, ...] = ()  # chosen by the user; those before `PIN` stay in sight
    shift: int = 0  # how many of the others are out of sight at the left

    @property
    def arrow(self) -> str:
        """Which way the values go: at first the newest come first, and of all others the least."""
        return "↑" if (self.sort == "started") == self.inverted else "↓"

    @property
    def sorts(self) -> tuple[str, ...]:
        shown = self.columns or DEFAULT[True]
        return ("started", "state", *(name for name in shown if name not in (PIN, "state", "trend", "reason")))


def _sorted(views: list[RunView], order: Order) -> list[RunView]:
    """In order, losses of different kinds apart; those that have no value of it come last either way."""
    sort = order.sort

    def value(view: RunView) -> tuple[Any, ...]:
        status = view.status
        if sort == "started":
            return (-(status.started or status.changed or 0.0), natural(view.variant), view.seed)
        if sort == "run":
            return (natural(view.study), natural(view.variant), view.seed)
        if sort in ("state", "where"):
            glyph = list(STATES).index(view.state) if view.state in STATES else 99
            where = (view.state != "queued", view.place, (status.host, status.device))
            return (glyph, view.place) if sort == "state" else where
        known = {"eta": finite(status.eta), "best_acc": finite(view.best(order.accuracy))}
        found = known[sort] if sort in known else value_of(view, sort, order.accuracy)
        size = number_of(found)
        return (view.loss_group if sort in ("loss", "best") else "", size is None, size or 0.0, str(found))

    views = sorted(views, key=value, reverse=order.inverted)
    plain = sort in ("started", "run", "state", "where", "eta", "best_acc")
    return views if plain else sorted(views, key=lambda view: value_of(view, sort, order.accuracy) is None)


def group_value(view: RunView, key: str) -> str:
    """The value that a group of runs has in common, in words."""
    return clean(value_text(value_of(view, key)))


def build_rows(
    views: Iterable[RunView],
    order: Order,
    names: Callable[[int], str] = lambda root: "",
    every: Iterable[RunView] | None = None,
    reports: Iterable[Report] = (),
) -> list[Row]:
    """Studies, newest first, or groups by their value, each with its runs below it unless it is closed; a flat list has
    no headings. `every`: all runs, if `views` are few. `reports`: the studies without runs, a row each among the other
    studies, else at the end."""
    views, sort = list(views), order.sort
    by_key = {report.key: report for report in reports}
    without_runs = {key: Row(key, "report", (), other=names(one.root), report=one) for key, one in by_key.items()}
    if order.flat:
        return [*_runs(_sorted(views, order), order, named=True), *without_runs.values()]
    states = [(heading_key(view, order), view.state) for view in (views if every is None else every)]
    total, done = Counter(key for key, _ in states), Counter(key for key, state in states if state == "finished")
    groups: dict[str, list[RunView]] = {}
    for view in views:
        groups.setdefault(heading_key(view, order), []).append(view)
    newest = {key: max(v.status.started or v.status.changed or 0.0 for v in group) for key, group in groups.items()}
    newest |= {key: max(report.begun, report.made or 0.0) for key, report in by_key.items()}

    def rank(key: str) -> tuple[Any, ...]:
        if order.group:
            found = number(text := group_value(groups[key][0], order.group))
            return (found is None, found or 0.0, text)
        return natural(key.partition(":")[2]) if sort == "run" else (-newest[key], natural(key))

    among = {} if order.group else without_runs
    keys = sorted((*groups, *among), key=rank, reverse=order.inverted and sort in ("started", "run"))
    rows: list[Row] = []
    for key in keys:
        if key in among:
            rows.append(among[key])
            continue
        group = sorted(groups[key], key=lambda v: (natural(v.study), natural(v.variant), v.seed))
        # At first what waits comes last, in the order of its queue.
        group = sorted(group, key=lambda v: (v.state == "queued") * (1 + v.place)) if sort == "started" else group
        group = group if sort in ("started", "run") else _sorted(group, order)
        closed, other = key in order.closed, "" if order.group else names(group[0].root)
        title = f"{order.group} = {group_value(group[0], order.group)}" if order.group else ""
        rows.append(Row(key, "study", tuple(group), closed, other, (done[key], total[key]), title=title))
        rows += [] if closed else _runs(group, order, named=bool(order.group))
    return rows if among else [*rows, *without_runs.values()]


def heading_key(view: RunView, order: Order) -> str:
    """The key of the row that a run stands below."""
    if order.group:
        return f"group:{order.group}={group_value(view, order.group)}"
    return f"study:{view.root}:{view.study}"


def _runs(group: list[RunView], order: Order, *, named: bool) -> list[Row]:
    """A row per run, or per variant with its seeds folded. `named`: with the study in the name."""
    variants: dict[tuple[int, str, str, int], list[RunView]] = {}
    for view in group:
        variants.setdefault((view.root, view.study, view.variant, -1 if order.folded else view.seed), []).append(view)
    rows = []
    for members in variants.values():
        view, many = members[0], len(members) > 1
        key = f"fold:{heading_key(view, order)}:{view.root}:{view.study}/{view.variant}" if many else view.key
        name = f"{view.study.rpartition('/')[2]} {view.label}" if named else ""
        rows.append(Row(key, "fold" if many else "run", tuple(members), name=name))
    return rows


Layout = list[tuple[str, int]]  # names of columns, widths in cells; a blank stands before each


def layout(order: Order, width: int) -> Layout:
    """The columns for one width of the list: what is left goes to the name of the run, then to reasons; of those that
    were chosen as many as there is room for."""
    wide = width >= WIDE
    # The state stands first in every row, chosen or not.
    names = [name for name in order.columns or DEFAULT[wide] if name != "state"]
    sizes = {name: min(16, max(8, len(name.rpartition(".")[2]))) for name in names}
    sizes |= {name: abs(COLUMNS[name][1][wide]) for name in names if name in COLUMNS}
    if order.columns:
        place = names.index(PIN) if PIN in names else 0
        left, moved = width - 12, names[place + (PIN in names) :]
        names, kept = [], [*names[:place], *moved[min(order.shift, max(0, len(moved) - 1)) :]]
        for name in kept:
            if left <= sizes[name]:
                break
            names.append(name)
            left -= sizes[name] + 1
        if "run" in names:
            sizes["run"] += max(0, left)
        return [(name, sizes[name]) for name in names]
    room = width - 13 - sum(sizes[name] + 1 for name in names if name not in ("run", "reason"))
    if room < 12:
        sizes["trend"] = max(0, sizes["trend"] - (12 - room))
        room = max(4, width - 13 - sum(sizes[name] + 1 for name in names if name not in ("run", "reason")))
    sizes["run"], sizes["reason"] = (32, room - 33) if wide and room > 48 else (room, 0)
    return [(name, sizes[name]) for name in names if name != "reason" or sizes[name] > 0]


def header(columns: Layout, width: int, order: Order) -> Line:
    """The names of the columns, with units, the one that the list is sorted by with an arrow."""
    wide, arrow = width >= WIDE, order.arrow
    line: Line = [(f"  STATE{arrow}     ", "accent") if order.sort == "state" else ("  STATE      ", "dim")]
    for at, (name, size) in enumerate(columns):
        head = COLUMNS[name][0][wide] if name in COLUMNS else name.rpartition(".")[2].upper()
        head = ACCURACIES[order.accuracy] if name == "acc" else head
        right = name in COLUMNS and COLUMNS[name][1][0] > 0
        before = " " if at else ""
        if name == order.sort and len(head) < size:
            head = f"{arrow}{head}" if right else f"{head}{arrow}"
        elif name == order.sort and before:
            before = arrow
        line.append((before + fit(head, size, ">" if right else "<"), "accent" if name == order.sort else "dim"))
    return line


def where_text(view: RunView) -> str:
    """`gpu07:2`, a Slurm job, why Slurm lets it wait, or the place in the queue."""
    if view.state == "queued":
        if (job := view.status.scheduler) is not None:
            return clean(job.reason or "Slurm")
        return "held" if view.held else place_words(view.place) if view.place else ""
    job = view.source.get("slurm_job_id")
    if view.status.active and isinstance(job, str | int):
        return f"j{clean(job)}"
    host = clean(view.status.host).split(".")[0]
    gpu = gpu_number(view.status.device)
    return f"{host}:{gpu}" if view.status.active and gpu is not None else host


def run_line(
    row: Row,
    columns: Layout,
    width: int,
    *,
    letter: str = "",
    pinned: bool = False,
    marked: bool = True,
    accuracy: str = ACCURACY,
) -> Line:
    """A run, or the mean over folded seeds. `letter`: of its curve; dim unless it is marked."""
    view = row.views[0]
    states = {view.state for view in row.views}
    # Of folded seeds what needs to be seen comes first.
    first = (s for s in _SEEN_FIRST if s in states)
    state = next(first, "") or min(states, key=lambda s: s == "finished")
    glyph, style = (STATES[state][0], f"state-{state}") if state in STATES else ("✗", "error")
    line: Line = [
        (" ", ""),
        ("*" if pinned else letter or " ", "mark" if marked or pinned else "dim"),
        (f"{glyph} {fit(state, 9)}", style),
    ]
    if state == "unreadable":
        where = f"{glyph} {state} {view.study}/{view.variant}/s{view.seed}: {view.status.message}"
        return pad([*line[:2], (fit(clean(where), width - 2), "error")], width)
    for at, (name, size) in enumerate(columns):
        text, look = _cell(row, name, size, state, accuracy, wide=width >= WIDE)
        line += [(" ", "")] if at and name == "run" else []
        if name == "run":
            line += _name_cell(row, size, described=any(other in ("reason", "note", "tag") for other, _ in columns))
        else:
            right = name in COLUMNS and COLUMNS[name][1][0] > 0
            line.append((f"{' ' if at else ''}{fit(clean(text), size, '>' if right else '<')}", look))
    return pad(line, width)


def _name_cell(row: Row, width: int, *, described: bool) -> Line:
    """The name of a run; beside it its tags and its note, where there is room and no column for them."""
    view, name = row.views[0], clean(row.name or row.views[0].label)
    words = "" if described or row.kind == "fold" else clean(view.remarks)
    if not words or width < 18:
        return [(fit_ends(name, width), "")]
    left = max(min(3, cell_len(words)), width - cell_len(name) - 1)
    return [(f"{fit_ends(name, width - left - 1)} ", ""), (fit(words, left), "dim")]


def _cell(row: Row, name: str, size: int, state: str, accuracy: str, *, wide: bool) -> tuple[str, str]:
    view, kind = row.views[0], row.views[0].loss_kind

    def mean(values: Callable[[RunView], float | None]) -> float | None:
        """Of the finite values; NaN where there are only others."""
        found = [value for v in row.views if (value := values(v)) is not None]
        good = [value for value in found if math.isfinite(value)]
        return sum(good) / len(good) if good else (math.nan if found else None)

    match name:
        case "run":
            return "", ""
        case "seed":
            lost = sum(1 for v in row.views if v.state in ("diverged", "failed"))
            many = f"{len(row.views) - lost}/{len(row.views)}" if lost else f"×{len(row.views)}"
            return (f"s{view.seed}" if row.kind == "run" else many), "dim"
        case "done":
            done = mean(lambda v: v.done) or 0.0
            text = f"{100 * done:3.0f}%" if wide else progress(done)
            return text, "dim" if state == "finished" else f"state-{state}"
        case "eta":
            known = [v.status.eta for v in row.views if v.status.active and v.status.eta is not None]
            return {"stalled": "?", "lost": "-"}.get(state) or (clock(max(known)) if known else "-"), ""
        case "loss":
            loss = mean(lambda v: v.last(LOSS))
            return loss_text(loss, kind), "" if loss is None or math.isfinite(loss) else "error"
        case "best":
            return loss_text(mean(lambda v: v.best(LOSS))), "dim"
        case "acc":
            return percent(mean(lambda v: v.last(accuracy))), ""
        case "best_acc":
            return percent(mean(lambda v: v.best(accuracy))), "dim"
        case "speed":
            return grouped(mean(lambda v: v.last(SPEED))), ""
        case "trend":
            return (trend(view.trend, size) if size else ""), f"state-{state}" if state == "diverged" else "dim"
        case "where":
            return where_text(view), "dim"
        case "reason":
            waits = state == "queued" and view.status.scheduler is not None
            ill = waits | (state in ("failed", "diverged", "lost", "stalled", "stopped"))
            return (view.status.news if ill else view.remarks), "dim"
    values = dict.fromkeys(value_text(value_of(v, name, accuracy)) for v in row.views)
    return ", ".join(values) or "-", ""


def study_line(row: Row, width: int, *, wide: bool, standing: str = "", at_work: bool = False) -> Line:
    """A study: its name, what it is about, how much is done; of one without runs, when its report was made."""
    report, glyph = row.report, "▸" if row.closed else "▾"
    right: Line = [(f"{row.done[0]}/{row.done[1]} done", "")]
    if row.title:
        return pad([*ends([(f"{glyph} {row.title}", "bold")], right, width - 1), (" ", "")], width)
    if report is not None:
        glyph, name, claim, about = "≡", report.study, report.claim, KINDS.get(report.kind, report.kind)
        right = [("no report yet", "warn") if report.made is None else (f"report {day_text(report.made)}", "")]
        right = [("● being made", "state-running")] if at_work else right
        read_only = report.read_only
    else:
        view = row.views[0]
        name, claim, about, read_only = view.study, view.config.get("claim") or "", about_study(view), view.read_only
    right += [(", read only", "")] if read_only else []
    right += [(f" · {standing}", "")] if wide and standing else []
    words = f"{clean(claim)} · {about}" if wide and claim else about
    left = f"{glyph} {clean(f'{row.other}: ' if row.other else '')}{clean(name)}"
    room = width - width_of(right) - 2
    head = fit(left, min(len(left), max(4, room)))
    return pad([(head, "bold"), (fit(f"  {words}", max(0, room - len(head))), "dim"), (" ", ""), *right], width)


def about_study(view: RunView) -> str:
    """`encoder, imagenet 300k unique`"""
    count = lookup(view.config, "data.classes")
    classes = "" if not isinstance(count, int) else f"{count // 1000}k" if count >= 10_000 else str(count)
    labels = lookup(view.config, "data.labels")
    tail = "unique" if labels == "unique" else "classes" if classes else ""
    parts = [lookup(view.config, "model.name"), f"{lookup(view.config, 'data.dataset') or ''} {classes} {tail}"]
    return clean(", ".join(" ".join(str(p).split()) for p in parts if p))


class RunsTable(ListBox[Row]):
    """The list with the letters of marked runs."""

    def __init__(self, standing: Callable[[RunView], str] = lambda view: "", *, id: str = "") -> None:
        super().__init__(id=id, bare=True)
        self.standing = standing
        self.letters: dict[str, str] = {}  # of the runs in the charts
        self.marked: Collection[str] = ()
        self.pinned = self.below = ""
        self.order = Order()
        self.dimmed = False
        self.empty: list[str] = []
        self.making: Collection[str] = ()
        self.hidden: Collection[str] = ()

    def on_resize(self) -> None:
        """The head of the screen counts the rows out of sight."""
        self.screen.query_one("#where", Panel).redraw()

    def start(self) -> int:
        return next((i for i, row in enumerate(self.rows) if row.views and row.kind != "study"), 0)

    def near(self, before: Row) -> int:
        """A row with the runs that the cursor was on."""
        runs = {view.key for view in before.views}
        holding = (i for i, row in enumerate(self.rows) if runs & {view.key for view in row.views})
        return next((i for i in holding if self.rows[i].kind != "study" or self.rows[i].closed), self.cursor)

    def go_to_study(self, study: str) -> bool:
        """The cursor to a study and its rows into sight; False while it is not there."""
        kinds = ("study", "report")
        found = self.go(next((row.key for row in self.rows if row.kind in kinds and row.study == study), ""))
        self.top = self.cursor if found else self.top
        return found

    @property
    def page(self) -> int:
        return max(1, self.size.height - (3 if self.framed else 1))

    def sheet(self, width: int, height: int) -> Sheet:
        """The rows around the cursor, a run with the heading above it."""
        columns, cursor = layout(self.order, width), self.cursor
        above = 0 < cursor <= self.top and self.rows[cursor - 1].kind == "study"
        lines = [header(columns, width, self.order)]
        lines += self.body(self.page, lambda row, here: [self._row_line(row, here, columns, width)], above)
        sentences = map(clean, self.empty if not self.rows else ())
        words = [line for text in sentences for line in (wrap(text, width - 2) if len(text) > width - 2 else [text])]
        lines += [[(f" {line}", "dim")] for line in words]
        right = (self.below, self.more, f"{len(self.marked)} marked" * bool(self.marked))
        return "runs", " · ".join(filter(None, right)), lines

    def _row_line(self, row: Row, here: bool, columns: Layout, width: int) -> Line:
        heading, letter = row.kind in ("study", "report"), ""
        if heading:
            standing = "" if row.title or row.report else self.standing(row.views[0])
            line = study_line(row, width, wide=self.framed, standing=standing, at_work=row.key in self.making)
        else:
            key, one, accuracy = row.views[0].key, row.kind == "run", self.order.accuracy
            letter, pinned = self.letters.get(key, "") if one else "", one and key == self.pinned
            marked = key in self.marked
            line = run_line(row, columns, width, letter=letter, pinned=pinned, marked=marked, accuracy=accuracy)
        if self.dimmed or (row.views and all(view.key in self.hidden for view in row.views)):
            line = [(text, "dim") for text, _ in line]
        if here:
            (first, style), *rest = line
            return over([(first[:1] if heading else "▌", "accent"), (first[1:], style), *rest], "cursor")
        return line
