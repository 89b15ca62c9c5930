"""The list of studies and runs: which rows it has, a row as a line (both pure), and the panel that scrolls them.

Only the rows in sight are formatted, so a thousand runs cost what twenty cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from lsc_engine.common.formatting import clock, grouped, percent
from lsc_engine.common.settings import lookup
from lsc_tui.data.reports import KINDS, Report
from lsc_tui.data.run_view import ACCURACIES, ACCURACY, RunView, finite, gpu_number
from lsc_tui.lines import (
    STATES,
    Line,
    clean,
    day_text,
    fit,
    fit_ends,
    frame,
    loss_text,
    over,
    pad,
    progress,
    trend,
    width_of,
)
from lsc_tui.widgets.panel import Panel

SORTS = ("started", "state", "run", "seed", "done", "eta", "loss", "best", "acc", "where")


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


def study_key(view: RunView) -> str:
    """The key of the row of a run's study."""
    return f"study:{view.root}:{view.study}"


def _sort_value(view: RunView, order: Order) -> tuple[object, ...]:
    """What a run is sorted by inside its study; losses of different kinds stay apart, what is missing comes last."""
    number: float | None
    sort = order.sort
    if sort in ("loss", "best"):
        number = finite(view.loss if sort == "loss" else view.best_loss)
        return (view.loss_group, number is None, number or 0.0)
    if sort in ("acc", "eta"):
        number = finite(view.last(order.accuracy) if sort == "acc" else view.status.eta)
        return (number is None, number or 0.0)
    if sort == "done":
        return (view.done,)
    if sort == "state":
        return (list(STATES).index(view.state) if view.state in STATES else 99,)
    if sort == "where":
        return (view.status.host, view.status.device)
    return (view.seed,) if sort == "seed" else ()


def build_rows(
    views: Iterable[RunView], order: Order, names: Callable[[int], str] = lambda root: "",
    every: Iterable[RunView] | None = None, reports: Iterable[Report] = (),
) -> list[Row]:  # fmt: skip
    """Studies, newest first, each with its runs below it unless it is closed. `every`: all runs, if `views` are few.
    `reports`: the studies without runs, a row each among the others."""
    views = list(views)
    counts: dict[str, tuple[int, int]] = {}
    for view in views if every is None else every:
        finished, total = counts.get(study_key(view), (0, 0))
        counts[study_key(view)] = (finished + (view.state == "finished"), total + 1)
    studies: dict[str, list[RunView]] = {}
    for view in views:
        studies.setdefault(study_key(view), []).append(view)
    newest = {key: max(v.status.started or v.status.changed or 0.0 for v in group) for key, group in studies.items()}
    by_key = {report.key: report for report in reports}
    newest |= {key: max(report.begun, report.made or 0.0) for key, report in by_key.items()}
    by_name = order.sort == "run"
    keys = sorted((*studies, *by_key), key=lambda k: (k.partition(":")[2],) if by_name else (-newest[k], k))
    if order.inverted and order.sort in ("started", "run"):
        keys.reverse()
    rows: list[Row] = []
    for key in keys:
        if key in by_key:
            rows.append(Row(key, "report", (), other=names(by_key[key].root), report=by_key[key]))
            continue
        group = sorted(studies[key], key=lambda v: (v.variant, v.seed))
        if order.sort not in ("started", "run"):
            group.sort(key=lambda v: _sort_value(v, order), reverse=order.inverted)
        closed = key in order.closed
        rows.append(Row(key, "study", tuple(group), closed, names(group[0].root), counts.get(key, (0, 0))))
        if closed:
            continue
        if order.folded:
            variants: dict[str, list[RunView]] = {}
            for view in group:
                variants.setdefault(view.variant, []).append(view)
            for variant, members in variants.items():
                if len(members) > 1:
                    rows.append(Row(f"fold:{key}:{variant}", "fold", tuple(members)))
                else:
                    rows.append(Row(members[0].key, "run", tuple(members)))
        else:
            rows += [Row(view.key, "run", (view,)) for view in group]
    return rows


@dataclass(frozen=True)
class Columns:
    """Widths of the columns for one width of the list; 0 leaves a column out."""

    run: int
    best: bool
    trend: int
    where: int
    reason: int = 0

    @staticmethod
    def of(width: int) -> Columns:
        """From about 108 columns also best loss, best accuracy and images/s; the rest goes to names, then to reasons.
        A blank stands before every column."""
        best = width >= 108
        fixed = 13 + 5 + (5 + 7 + 8 + 8 + 7 + 6 + 8 if best else 2 + 7 + 8 + 7)
        where = 11 if best else 8
        trend = 12 if best else 8
        run = width - fixed - trend - 1 - where - 1
        if run < 12:
            trend = max(0, trend - (12 - run))
            run = max(4, width - fixed - trend - 1 - where - 1)
        reason = run - 32 if best and run > 48 else 0
        return Columns(run - reason, best, trend, where, reason)


def header(columns: Columns, accuracy: str = ACCURACY) -> Line:
    """The names of the columns, with units."""
    acc = f"{ACCURACIES[accuracy]:>7}"
    numbers = (
        f" DONE{'ETA':>7}{'LOSS':>8}{'BEST':>8}{acc}{'BEST':>6}{'IMG/S':>8}"
        if columns.best
        else (f" %{'ETA':>7}{'LOSS':>8}{acc}")
    )
    word = fit("LOSS TREND" if columns.best else "TREND", columns.trend)
    text = f"  STATE      {fit('RUN', columns.run)} SEED{numbers} {word} {fit('WHERE', columns.where)}"
    return [(text + (f" {fit('REASON', columns.reason - 1)}" if columns.reason else ""), "dim")]


def where_text(view: RunView) -> str:
    """`gpu07:2`, a Slurm job, or the place in the queue."""
    if view.state == "queued":
        return f"{_ordinal(view.place)}" if view.place else ""
    job = view.source.get("slurm_job_id")
    if view.status.active and isinstance(job, str | int):
        return f"j{clean(job)}"
    host = clean(view.status.host).split(".")[0]
    number = gpu_number(view.status.device)
    return f"{host}:{number}" if view.status.active and number is not None else host


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def run_line(
    row: Row, columns: Columns, width: int, *, letter: str = "", pinned: bool = False, accuracy: str = ACCURACY
) -> Line:
    """A run, or the mean over folded seeds."""
    view = row.views[0]
    state = _state_of(row)
    glyph, style = (STATES[state][0], f"state-{state}") if state in STATES else ("✗", "error")
    mark = letter or " "
    line: Line = [(" ", ""), ("*" if pinned else mark, "mark"), (f"{glyph} {fit(state, 9)}", style)]
    if state == "unreadable":
        where = f"{view.study}/{view.variant}/s{view.seed}: {view.status.message}"
        return pad([*line, (fit(clean(where), width - 13), "error")], width)
    seed = f"s{view.seed}" if row.kind == "run" else f"×{len(row.views)}"
    lost = sum(1 for v in row.views if v.state in ("diverged", "failed"))
    if row.kind == "fold" and lost:
        seed = f"{len(row.views) - lost}/{len(row.views)}"
    eta = [v.status.eta for v in row.views if v.status.active]
    loss = _mean([v.loss for v in row.views])
    kind = view.loss_kind
    done = sum(v.done for v in row.views) / len(row.views)
    quiet = "dim" if state == "finished" else ""
    line += [
        (fit_ends(clean(view.label), columns.run), ""),
        (f" {fit(seed, 4, '>')}", "dim"),
        (f" {100 * done:3.0f}%" if columns.best else f" {progress(done)}", quiet or style),
        (f" {fit(_eta_text(state, eta), 6, '>')}", ""),
        (f" {fit(loss_text(loss, kind), 7, '>')}", "" if loss is None or math.isfinite(loss) else "error"),
    ]
    if columns.best:
        line.append((f" {fit(loss_text(_mean([v.best_loss for v in row.views])), 7, '>')}", "dim"))
    line.append((f" {fit(percent(_mean([v.last(accuracy) for v in row.views])), 6, '>')}", ""))
    if columns.best:
        line += [
            (f" {fit(percent(_mean([v.best(accuracy) for v in row.views])), 5, '>')}", "dim"),
            (f" {fit(grouped(_mean([v.speed for v in row.views])), 7, '>')}", ""),
        ]
    shape = trend(view.trend, columns.trend) if columns.trend else ""
    line += [(f" {fit(shape, columns.trend)}", style if state == "diverged" else "dim")]
    line.append((f" {fit(where_text(view), columns.where)}", "dim"))
    if columns.reason:
        news = view.status.news if state in ("failed", "diverged", "lost", "stalled", "stopped") else view.note
        line.append((f" {fit(clean(news), columns.reason - 1)}", "dim"))
    return pad(line, width)


def _eta_text(state: str, eta: list[float | None]) -> str:
    if state in ("stalled", "lost"):
        return "?" if state == "stalled" else "-"
    known = [e for e in eta if e is not None]
    return clock(max(known)) if known else "-"


def _state_of(row: Row) -> str:
    """The state of folded seeds: what needs to be seen comes first."""
    states = {view.state for view in row.views}
    for state in ("unreadable", "diverged", "failed", "lost", "stalled", "running", "starting", "stopping"):
        if state in states:
            return state
    return next(iter(sorted(states, key=lambda s: s == "finished")))


def _mean(values: list[float | None]) -> float | None:
    """The mean of the finite values; NaN where there are only others."""
    found = [v for v in values if v is not None]
    good = [v for v in found if math.isfinite(v)]
    return sum(good) / len(good) if good else (math.nan if found else None)


def study_line(row: Row, width: int, *, wide: bool, standing: str = "") -> Line:
    """A study: its name, what it is about, how much is done."""
    view = row.views[0]
    right = f"{row.done[0]}/{row.done[1]} done" + (", read only" if view.read_only else "")
    right += f" · {standing}" if wide and standing else ""
    owner = f"{row.other}: " if row.other else ""
    about = about_study(view)
    claim = clean(view.config.get("claim") or "")
    words = f"{claim} · {about}" if wide and claim else about
    left = f"{'▸' if row.closed else '▾'} {clean(owner + view.study)}"
    room = width - len(right) - 2
    head = fit(left, min(len(left), max(4, room)))
    rest = fit(f"  {words}", max(0, room - len(head)))
    return pad([(head, "bold"), (rest, "dim"), (" ", ""), (right, "")], width)


def report_line(report: Report, width: int, *, wide: bool, other: str = "", at_work: bool = False) -> Line:
    """A study without runs: what it is about, and when its report was made."""
    if at_work:
        right: Line = [("● being made", "state-running")]
    elif report.made is None:
        right = [("no report yet", "warn")]
    else:
        right = [(f"report {day_text(report.made)}", "")]
    right += [(", read only", "")] if report.read_only else []
    words = KINDS.get(report.kind, report.kind)
    words = f"{clean(report.claim)} · {words}" if wide and report.claim else words
    left = f"≡ {clean(f'{other}: ' if other else '')}{clean(report.study)}"
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


class RunsTable(Panel):
    """The rows in sight, a cursor, and the letters of marked runs."""

    def __init__(self, standing: Callable[[RunView], str] = lambda view: "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.standing = standing
        self.rows: list[Row] = []
        self.cursor = 0
        self.gone: Row | None = None  # what was highlighted and is no longer there; nothing takes its place
        self.top = 0
        self.letters: dict[str, str] = {}
        self.pinned = ""
        self.accuracy = ACCURACY
        self.dimmed = False
        self.empty: list[str] = []
        self.below = ""
        self.framed = False
        self.making: Collection[str] = ()

    @property
    def current(self) -> Row | None:
        """The highlighted row, None where nothing is."""
        return self.rows[self.cursor] if self.gone is None and 0 <= self.cursor < len(self.rows) else None

    def put(self, rows: list[Row], *, by_user: bool = True) -> None:
        """New rows; the cursor stays on what it was on. Where that is not among them, it goes near if the user wanted
        another list (a filter, folded seeds, a closed study), else nowhere until it is moved."""
        before = self.gone or self.current
        place = None if before is None else next((i for i, row in enumerate(rows) if row.key == before.key), None)
        if place is None and before is not None and by_user:
            runs = {view.key for view in before.views}
            holding = (i for i, row in enumerate(rows) if runs & {view.key for view in row.views})
            place = next(
                (i for i in holding if rows[i].kind != "study" or rows[i].closed), min(self.cursor, len(rows) - 1)
            )
        elif before is None:
            place = next((i for i, row in enumerate(rows) if row.kind not in ("study", "report")), 0)
        self.rows = rows
        self.gone = before if place is None or not rows else None
        self.cursor = place if place is not None else min(self.cursor, max(0, len(rows) - 1))
        self.redraw()

    @property
    def in_sight(self) -> list[Row]:
        return self.rows[self.top : self.top + self.page]

    def go_to_study(self, study: str) -> bool:
        """The cursor to a study and its rows into sight; False while it is not there."""
        place = next(
            (i for i, row in enumerate(self.rows) if row.kind in ("study", "report") and row.study == study), None
        )
        if place is not None:
            self.cursor, self.top, self.gone = place, place, None
            self.redraw()
        return place is not None

    def move(self, by: int) -> None:
        """The cursor by rows; where what it was on has gone, on from the row that stands there now."""
        if self.gone is not None and self.rows:
            self.gone, by = None, by - (by > 0)
        self.cursor = max(0, min(len(self.rows) - 1, self.cursor + by))
        self.redraw()

    @property
    def page(self) -> int:
        """Rows in sight."""
        return max(1, self.size.height - (3 if self.framed else 1))

    def draw(self, width: int, height: int) -> list[Line]:
        inner = width - 2 if self.framed else width
        page = self.page
        columns = Columns.of(inner)
        self.top = max(0, min(self.top, len(self.rows) - page))
        if self.cursor < self.top:
            self.top = self.cursor
        if self.cursor == self.top and self.cursor > 0 and self.rows[self.cursor - 1].kind == "study":
            self.top = self.cursor - 1
        if self.cursor >= self.top + page:
            self.top = self.cursor - page + 1
        lines = [header(columns, self.accuracy)]
        for i, row in enumerate(self.rows[self.top : self.top + page], self.top):
            lines.append(self._row_line(row, i == self.cursor and self.gone is None, columns, inner))
        if not self.rows:
            lines += [[(f" {clean(text)}", "dim")] for text in self.empty]
        if self.framed:
            marked = sum(1 for key in self.letters if key)
            hidden = len(self.rows) - self.top - page
            right = f"{marked} marked" if marked else ""
            below = f"{hidden} more below" if hidden > 0 else ""
            right = " · ".join(part for part in (self.below, below, right) if part)
            return frame(lines, width, height, "runs", right)
        return lines

    def _row_line(self, row: Row, here: bool, columns: Columns, width: int) -> Line:
        if row.report is not None:
            at_work = row.key in self.making
            line = report_line(row.report, width, wide=self.framed, other=row.other, at_work=at_work)
            letter_on = False
        elif row.kind == "study":
            line = study_line(row, width, wide=self.framed, standing=self.standing(row.views[0]))
            letter_on = False
        else:
            letter = self.letters.get(row.views[0].key, "") if row.kind == "run" else ""
            pinned = bool(self.pinned) and row.kind == "run" and row.views[0].key == self.pinned
            line = run_line(row, columns, width, letter=letter, pinned=pinned, accuracy=self.accuracy)
            letter_on = bool(letter)
        if self.dimmed:
            line = [(text, "dim") for text, _ in line]
        if here:
            rest = line[1:] if line[0][0] == " " else [(line[0][0][1:], line[0][1]), *line[1:]]
            glyph = line[0][0][:1] if row.kind in ("study", "report") else "▌"
            line = over([(glyph, "accent"), *rest], "cursor")
        elif letter_on:
            line = [(" ", ""), *line[1:]]
        return line
