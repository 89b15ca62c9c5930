"""The chart of the terminal: a panel around lsc_engine.charts, the view that all charts of a screen share, and the
series from the curves of a run."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np

from lsc_engine.analysis.seed_curves import AXES
from lsc_engine.charts.canvas import AXIS, CURSOR, FIRST_SERIES, LABEL, LEVEL, MARK
from lsc_engine.charts.chart import Level, Mark, Picture, Series, View, Window, draw
from lsc_engine.charts.scales import SMOOTHING
from lsc_engine.common.safe_io import number_of
from lsc_engine.common.settings import LOSS_WORDS, lookup
from lsc_tui.data.run_view import LOSS, Curves, RunView, Store
from lsc_tui.lines import Line, clean, fit, flow, rule, width_of, wrap
from lsc_tui.theme import SERIES
from lsc_tui.widgets.panel import Box, Sheet

_NAMES = {AXIS: "axis", LABEL: "label", LEVEL: "level", CURSOR: "cursor", MARK: "mark"}
UNITS = {"epoch": "epoch", "step": "step", "time": "min", "images": "images"}
MAGNIFIED_MOST = 64.0
_Y_SCALES = ((True, False), (True, True), (False, False))  # loss logarithmic, share logit
_SHARES = ("accuracy", "inside", "data_wait", "ncc_", "machine/cpu", "gpu_use", "gpu_throttled")


def is_share(name: str) -> bool:
    """Whether a metric is a share from 0 to 1, shown in per cent."""
    return any(word in name for word in _SHARES)


def scale_of(name: str) -> float:
    """What the values of a metric are multiplied by where they are drawn."""
    return 100.0 if is_share(name) else 1.0


def style_name(style: int) -> str:
    """The panel's name of a chart style."""
    if style < FIRST_SERIES:
        return _NAMES.get(style, "")
    colour, dim = divmod(style - FIRST_SERIES, 2)
    return f"series-{colour % SERIES}" + ("-dim" if dim else "")


@dataclass
class Look:
    """How the charts of a screen are looked at. x values are in units of the axis. Heights fit what is in sight, or
    are magnified around the curve at the cursor, each chart around its own."""

    axis: str = "epoch"
    log_x: bool = False
    log_y: bool = True  # of a loss
    logit: bool = False  # of a share
    magnify: float = 1.0
    shift: float = 0.0
    smoothing: float = 0.0
    clip: bool = False
    x0: float | None = None
    x1: float | None = None
    cursor: float | None = None
    mode: str = "braille"
    ends: tuple[float, float] = (-math.inf, math.inf)  # of the whole curve, as it was when zooming in began

    def view(self, name: str, end: float | None = None) -> View:
        """The options of the chart of a metric. A share is measured over fixed images, so it is not smoothed. `end`:
        what a linear x axis reaches to."""
        share, whole = is_share(name), end is not None and self.x1 is None and not self.log_x
        return View(
            Window(self.x0 or 0.0, end) if whole else Window(self.x0, self.x1),
            self.log_x,
            self.log_y and name.endswith("/loss"),
            self.mode,  # type: ignore[arg-type]
            0.0 if share else self.smoothing,
            self.clip,
            self.cursor,
            logit=self.logit and share,
            within=(0.0, 100.0) if share else None,
            magnify=self.magnify,
            shift=self.shift,
        )

    def y_words(self, name: str) -> str:
        """`log y`, `logit y`, `y ×4`, for the title of the chart of a metric; "" where the heights are as usual."""
        view = self.view(name)
        scale = "log y" if view.log_y else "logit y" if view.logit else ""
        return f"{scale or 'y'} ×{self.magnify:g}" if self.magnify > 1 else scale

    def zoom_y(self, factor: float) -> None:
        """The heights magnified by a factor, at most to the whole and to `MAGNIFIED_MOST`."""
        self.magnify = min(MAGNIFIED_MOST, max(1.0, self.magnify * factor))
        self.shift = 0.0 if self.magnify == 1 else self.shift

    @property
    def smoothing_words(self) -> str:
        """`smooth .6`, `smooth off`"""
        return f"smooth {self.smoothing:g}".replace("0.", ".") if self.smoothing else "smooth off"

    def change(self, what: str) -> str:
        """The next x axis, scale of x or y, smoothing, clipping; returns the words for it."""
        match what:
            case "axis":  # zoom and cursor belong to the old one
                self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
                self.whole()
                return f"x: {self.axis}"
            case "log_x":
                self.log_x, self.x0, self.x1 = not self.log_x, None, None
                return f"x {'logarithmic' if self.log_x else 'linear'}"
            case "log_y":
                place = _Y_SCALES.index((self.log_y, self.logit)) if (self.log_y, self.logit) in _Y_SCALES else -1
                self.log_y, self.logit = _Y_SCALES[(place + 1) % len(_Y_SCALES)]
                words = "logarithmic" if self.log_y else "linear", "logit" if self.logit else "linear"
                return f"y: loss {words[0]}, accuracy {words[1]}"
            case "smooth":
                self.smoothing = SMOOTHING[(SMOOTHING.index(self.smoothing) + 1) % len(SMOOTHING)]
                return self.smoothing_words.replace("smooth", "smoothing")
        self.clip = not self.clip
        return f"outliers {'clipped' if self.clip else 'shown'}"

    def move(self, picture: Picture, columns: int) -> None:
        """The cursor by plot columns; the first move puts it in the middle, an edge pans the window."""
        last = picture.plot_width - 1
        at = picture.column_of(self.cursor) if self.cursor is not None else None
        if at is None or not 0 <= at <= last:
            self.cursor = picture.x_at(last // 2)
            return
        target = at + columns
        if not 0 <= target <= last and self.x0 is not None:
            self.pan(picture, 0.25 if columns > 0 else -0.25)
        self.cursor = picture.x_at(min(last, max(0, target)))

    def zoom(self, picture: Picture, factor: float) -> None:
        """The window narrower or wider around the cursor (else around its middle); never wider than the whole."""
        scale = picture.x
        if self.x0 is None:
            if factor > 1:
                return
            self.ends = (scale.lo, scale.hi)
        middle = float(scale.unit(np.array([self.cursor]))[0]) if self.cursor is not None else 0.5
        middle = middle if 0 <= middle <= 1 else 0.5
        first, last = map(float, scale.unit(np.array(self.ends)))
        lo = max(first, min(middle - middle * factor, last - factor))
        whole = factor > 0.999 * (last - first)
        self.x0, self.x1 = (None, None) if whole else (scale.at(lo), scale.at(lo + factor))

    def pan(self, picture: Picture, share: float) -> None:
        """The window to the side; not to before the curve, while its end may grow."""
        share = max(share, float(picture.x.unit(np.array([self.ends[0]]))[0])) if share < 0 else share
        self.x0, self.x1 = picture.x.at(share), picture.x.at(1 + share)

    def whole(self) -> None:
        self.x0 = self.x1 = self.cursor = None
        self.magnify, self.shift = 1.0, 0.0

    @property
    def changed(self) -> bool:
        """Whether a part is shown, or a cursor."""
        return self.cursor is not None or self.x0 is not None or self.magnify > 1


class Chart(Box):
    """A titled chart. `put` gives it its matter; it draws again only when that, or its size, is new."""

    def __init__(self, *, id: str = "") -> None:
        super().__init__(id=id)
        self.series: list[Series] = []
        self.view = View()
        self.levels: list[Level] = []
        self.title = self.empty = ""
        self.right: Line = []
        self.legend: list[Line] = []
        self.foot: Line | None = None
        self.picture: Picture | None = None
        self._key: Hashable = None

    def put(
        self,
        series: list[Series],
        view: View,
        *,
        key: Hashable,
        title: str,
        right: Line | None = None,
        levels: list[Level] | None = None,
        legend: list[Line] | None = None,
        foot: Line | None = None,
        chosen: bool = False,
        empty: str = "",
    ) -> None:
        """Show these series. `key` stands for all data in them: while it is the same, nothing is computed. `legend`
        stands beside the title where there is room, else below it. `chosen`: the pane that keys act on."""
        lines = (tuple(right or ()), tuple(levels or ()), None if foot is None else tuple(foot))
        whole = (key, view, title, lines, tuple(map(tuple, legend or ())), self.framed, chosen, empty)
        if whole != self._key:
            self._key, self.series, self.view, self.levels = whole, series, view, levels or []
            self.title, self.right, self.foot, self.empty = title, right or [], foot, empty
            self.legend, self.edge = legend or [], "accent" if chosen else "rule"
            self.redraw()

    @property
    def has_curve(self) -> bool:
        """Whether a finite value is drawn."""
        return any(series.lowest is not None for series in self.series)

    def draw(self, width: int, height: int) -> list[Line]:
        if height > 1:
            return super().draw(width, height)
        name = self.title.partition(" · ")[0]
        room = width - len(name) - 6
        words = self.empty if len(self.empty) <= room else self.empty.rpartition(": ")[2]
        return [rule(width, name, fit(words, min(room, len(words))) if room > 8 else "")]

    def sheet(self, width: int, height: int) -> Sheet:
        right, body = self.right, list[Line]()
        beside = [cell for piece in self.legend for cell in [("  ", ""), *piece]][1:]
        if width_of(beside) + width_of(right) + len(self.title) + 10 <= width:
            right = [*beside, *([("  ", ""), *right] if beside and width_of(right) else right)]
        elif height >= 8:
            body = flow([], self.legend, width, 0)[: height // 4]
        rows = height - (self.foot is not None) - len(body)
        if rows > 0:
            self.picture = draw(self.series, width, rows, self.view, self.levels)
            if self.has_curve:
                body += [[(run.text, style_name(run.style)) for run in row] for row in self.picture.rows]
            else:
                # Axes without a curve would promise one: what is missing is named instead.
                words = wrap(self.empty, max(8, width - 4))
                body = [*([] for _ in range((rows - len(words)) // 3)), *([(f"  {text}", "dim")] for text in words)]
                body = (body + [[] for _ in range(rows - len(body))])[:rows]
        return self.title, right, body + ([self.foot] if self.foot is not None else [])


def loss_word(group: str) -> str:
    """The word for a group of losses (loss_group): `cosine`; a plugin's by its own name; "" if unknown."""
    return clean(group[2:]) if group.startswith("o ") else LOSS_WORDS.get(group[:1], "")


def curve_series(
    view: RunView,
    curves: Curves | None,
    name: str,
    axis: str,
    letter: str = "",
    colour: int = 0,
    scale: float = 1.0,
    *,
    dim: bool = False,
) -> Series | None:
    """One metric as a series, with `R` where the run was resumed, `|` where layers were fixed, `×` where a loss was not
    finite."""
    curve = curves.curves.get(name) if curves is not None else None
    if curves is None or curve is None:
        return None
    per_step = number_of(lookup(view.config, "train.batch_size")) or 1.0
    label = f"{view.label} s{view.seed}"
    key = (name, axis, letter, colour, scale, dim, per_step, label)
    if key not in curves.drawn:
        x, marks = curve.x(axis, per_step), list[Mark]()
        for glyph, places in (("R", curves.resumed), ("|", curves.fixed)):
            for step, epoch, time in places:
                at = {"epoch": epoch, "time": time / 60, "images": step * per_step}.get(axis, step)
                marks.append(Mark(at, glyph))
        if name == LOSS:
            marks += [Mark(float(at), "×") for at in x[~np.isfinite(curve.value)][:20]]
        with np.errstate(over="ignore"):
            y = curve.value * scale
        curves.drawn[key] = Series(x, y, letter, colour, dim, marks=tuple(marks), name=label)
    return curves.drawn[key]


def shown_axis(axis: str, runs: Iterable[Curves | None]) -> str:
    """The x axis that all of the runs have: `step` in place of `epoch` where one was logged by step alone."""
    alone = any(curves is not None and curves.without_epochs for curves in runs)
    return "step" if axis == "epoch" and alone else axis


def parent_key(store: Store, view: RunView) -> str:
    """The key of the run that this one was forked from, if it is known here; else ""."""
    parent = view.source.get("parent")
    name = parent.get("id") if isinstance(parent, dict) else parent
    if not isinstance(name, str):
        return ""
    found = [key for key, other in store.runs.items() if other.id == name]
    return f"{view.root}:{name}" if f"{view.root}:{name}" in found else next(iter(found), "")


def whole_x(view: RunView, axis: str) -> float | None:
    """Where the x axis ends when the run is done; None if that is not known."""
    total = view.status.total_steps
    if axis == "epoch":
        return view.epochs
    if total is None or axis == "time":
        return None
    batch = number_of(lookup(view.config, "train.batch_size"))
    return total * (batch if axis == "images" and batch else 1.0)


def missing_words(view: RunView, curves: Curves | None, name: str) -> str:
    """Why there is no curve of this metric, and when one comes."""
    if curves is None:
        return "reading …"
    curve = curves.curves.get(name)
    if curve is not None and curve.value.size:
        first = int(curve.step[~np.isfinite(curve.value)][0]) if not np.isfinite(curve.value).all() else 0
        return f"no finite value: not finite from step {first} on"
    if view.state == "queued":
        return f"no curve yet: {waiting_words(view)}"
    if view.state == "starting":
        return "no curve yet: reading data, compiling the model"
    if not view.status.active:
        return f"no curve: {view.state} before the first value"
    every = lookup(view.config, "log.every" if name == LOSS else "eval.every")
    what = "loss is logged" if name == LOSS else "it is evaluated"
    return f"no curve yet: {what} every {clean(every)}" if isinstance(every, str) else "no curve yet"


def waiting_words(view: RunView) -> str:
    """What a queued run waits for: `Slurm 123_4: Priority`, to be let go, or its turn, as in `12th in line`."""
    if view.status.scheduler:
        return clean(view.status.news)
    return "held, Q lets it go" if view.held else f"{place_words(view.place)} in line"


def place_words(place: int) -> str:
    """A place in the queue: `1st`, `2nd`, `3rd`, `12th`."""
    return f"{place}{'th' if 10 <= place % 100 <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th')}"
