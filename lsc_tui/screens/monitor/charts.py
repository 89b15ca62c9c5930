"""The charts of Monitor: the pages of `m`, which series stand on which chart, titles and readouts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lsc_engine.charts.scales import short
from lsc_engine.charts.series import Series, readout
from lsc_engine.common.formatting import grouped
from lsc_engine.runs.metrics.columns import FIXED
from lsc_tui.data.run_view import ACCURACY, LOSS, RunView, setting
from lsc_tui.lines import Line, clean, fit, loss_text
from lsc_tui.widgets.chart import UNITS, Chart
from lsc_tui.widgets.series import curve_series, loss_word, missing_words, parent_key, whole_x

if TYPE_CHECKING:
    from lsc_tui.screens.base import LscScreen
    from lsc_tui.widgets.chart import Look

    _Base = LscScreen
else:
    _Base = object

CHARTS = ("loss", "accuracy", "third", "fourth")
# What is drawn beside the first of them, on one chart.
_BESIDE = {LOSS: ("val/loss",), ACCURACY: ("val/accuracy", "train/accuracy_augmented")}
_FIRST = ("speed/images_per_second", "lr", "speed/data_wait")
# A metric per layer, and one of the classes known before and of the new ones, share a chart.
_ONE_OF_MANY = re.compile(r"^(.*?)[_/.-]?(\d+|old|new)$")
_SHARES = ("accuracy", "inside", "data_wait", "ncc_")


def is_share(name: str) -> bool:
    """Whether a metric is a share from 0 to 1, shown in per cent."""
    return any(word in name for word in _SHARES)


def families(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The metrics that share a chart, loss and accuracy first, then speed and learning rate, then the others."""
    out = [(first, *(n for n in beside if n in names)) for first, beside in _BESIDE.items()]
    taken = {name for family in out for name in family}
    many: dict[str, list[str]] = {}
    for name in sorted(n for n in names if n not in taken):
        found = _ONE_OF_MANY.match(name)
        many.setdefault(found[1] if found else name, []).append(name)
    rest = [tuple(sorted(group, key=_number)) for group in many.values()]
    rest.sort(key=lambda group: (_FIRST.index(group[0]) if group[0] in _FIRST else len(_FIRST), group[0]))
    return out + rest


def _number(name: str) -> tuple[int, str]:
    found = re.search(r"(\d+)$", name)
    return (int(found[1]) if found else -1, name)


def letter_of(name: str, family: tuple[str, ...]) -> str:
    """What stands at the end of a curve that shares its chart: t, v, the number of the layer, o, n."""
    if len(family) < 2 or name.endswith("augmented"):
        return ""
    found = _ONE_OF_MANY.match(name)
    if found and found[1] == getattr(_ONE_OF_MANY.match(family[0]), "group", lambda _: "")(1):
        return found[2] if found[2].isdigit() else found[2][0]
    return {"train": "t", "val": "v"}.get(name.partition("/")[0], "")


class MonitorCharts(_Base):
    """Mixed into Monitor, which has `watched`, `look` and `view_number`, the number of the page."""

    look: Look
    view_number: int

    def pages(self, view: RunView) -> list[tuple[tuple[str, ...], ...]]:
        """The pages of `m`, each the families of its charts: two by two; wide also the first four at once."""
        curves = self.app.store.curves.get(view.key)
        found = families(curves.names if curves is not None else ())
        pairs = [tuple(found[i : i + 2]) for i in range(0, len(found), 2)]
        four = [tuple(found[:4])] if self.wide and len(found) > 2 else []
        return [*pairs[:1], *four, *pairs[1:]]

    def page(self, view: RunView) -> tuple[tuple[str, ...], ...]:
        """The families that are shown now."""
        pages = self.pages(view)
        return pages[self.view_number % len(pages)]

    def wished(self, view: RunView) -> frozenset[str]:
        """The metrics to be read: those of the page, the loss, and what tells of marks."""
        return frozenset(name for family in self.page(view) for name in family) | {LOSS, FIXED}

    # --- what is drawn ------------------------------------------------------------------------------------------

    def show_charts(self, view: RunView | None) -> None:
        """Put the page's series into the charts."""
        store, look = self.app.store, self.look
        charts = [self.query_one(f"#{name}", Chart) for name in CHARTS]
        if view is None:
            for chart in charts:
                chart.put([], look.view(), key="none", title="", framed=self.wide)
            return
        pages, page = self.pages(view), self.page(view)
        self.set_class(len(page) > 2, "-four")
        curves = store.curves.get(view.key)
        key = (view.key, id(curves), id(store.curves.get(parent_key(store, view))), look.axis)
        number = f"{self.view_number % len(pages) + 1} of {len(pages)}: m next" if len(pages) > 1 and self.wide else ""
        if curves is not None and curves.sampled:
            number = "a sample, reading on"
        end = whole_x(view, look.axis)
        for place, chart in enumerate(charts):
            family = page[place] if place < len(page) else ()
            if place > 1 and not family:
                continue
            name = family[0] if family else ""
            series = self.family_series(view, family)
            options = look.view() if name == LOSS else look.view(log_y=False, smooth=name != ACCURACY)
            if is_share(name):
                options = look.view(log_y=False, y0=0, y1=100, smooth=False)
            if look.x1 is None and end is not None and not look.log_x:
                options = look.until(options, end)
            chart.put(
                series, options, key=(key, family), title=self._title(view, family) if name else "", framed=self.wide,
                right=[(number if place == 0 else "", "dim")],
                foot=self.foot(view, family, series) if self.wide else None,
                empty=missing_words(view, curves, name) if name else "",
            )  # fmt: skip

    def family_series(self, view: RunView, family: tuple[str, ...]) -> list[Series]:
        """The curves of one chart, the fork's parent dim below."""
        store, look = self.app.store, self.look
        if not family:
            return []
        first, scale = family[0], 100.0 if is_share(family[0]) else 1.0
        there = tuple(name for name in family if self._has(view, name))
        out: list[Series] = []
        parent = store.runs.get(parent_key(store, view))
        if parent is not None and first in (LOSS, ACCURACY) and parent.loss_group == view.loss_group:
            below = curve_series(parent, store.curves.get(parent.key), first, look.axis, "", 7, scale, dim=True)
            out += [below] if below is not None else []
        for i, name in enumerate(family):
            letter = letter_of(name, there)
            found = curve_series(view, store.curves.get(view.key), name, look.axis, letter, i, scale)
            out += [found] if found is not None else []
        return out

    def _has(self, view: RunView, name: str) -> bool:
        curves = self.app.store.curves.get(view.key)
        return curves is not None and name in curves.curves

    # --- words --------------------------------------------------------------------------------------------------

    def _title(self, view: RunView, family: tuple[str, ...]) -> str:
        look, name = self.look, family[0]
        if name == LOSS:
            words = [name, loss_word(view.loss_group), "log y" if look.log_y else ""]
            if look.smoothing:
                words.append(f"smooth {look.smoothing:g}".replace("0.", ".") + (", raw dim" if self.wide else ""))
        elif name == ACCURACY:
            count = setting(view.config, "eval.images")
            images = f", {grouped(count)} fixed images" if isinstance(count, int) else ""
            words = [f"{name} %", f"eval mode{images}"] if self.wide else ["accuracy %"]
        else:
            found = _ONE_OF_MANY.match(name) if len(family) > 1 else None
            ends = f" {letter_of(name, family)}…{letter_of(family[-1], family)}" if found else ""
            words = [clean(found[1] if found else name) + ends + (" %" if is_share(name) else "")]
        words.append(look.axis if look.axis != "epoch" else "")
        return " · ".join(word for word in words if word)

    def foot(self, view: RunView, family: tuple[str, ...], series: list[Series]) -> Line:
        """The readout under a chart of the wide layout."""
        lead = next((s for s in series if not s.dim), None)
        if lead is None or not lead.ys.size:
            return [("", "")]
        look, name = self.look, family[0]
        cursor = look.cursor
        x, value, smoothed = readout(lead, cursor if cursor is not None else float("inf"), smoothing=look.smoothing)
        if cursor is None:
            x, value = float(lead.xs[-1]), float(lead.ys[-1])
        at = f"{x:.1f}" if look.axis == "epoch" else short(x)
        place = f" {'┃' if cursor is not None else ' '} {UNITS[look.axis]} {at}"
        if name == LOSS:
            both = bool(look.smoothing) and cursor is not None
            words = [f"smooth {loss_text(smoothed)}  raw {loss_text(value)}" if both else f"loss {loss_text(value)}"]
            best = lead.lowest
            if best is not None:
                words.append(f"min {loss_text(float(lead.ys[best]))} at {lead.xs[best]:.1f}")
        elif name == ACCURACY:
            words = [f"train {value:.1f}", f"best {lead.ys[lead.highest]:.1f}" if lead.highest is not None else ""]
            words.append(self._validation(view, cursor))
        elif len(series) > 1:
            words = [f"{s.letter} {_at(s, cursor)}" for s in series if s.letter]
        else:
            words = [f"{value:.1f}" if is_share(name) else short(value)]
        return [(place, "accent" if cursor is not None else "dim"), ("   " + "   ".join(w for w in words if w), "")]

    def _validation(self, view: RunView, cursor: float | None) -> str:
        if self._has(view, "val/accuracy"):
            series = curve_series(
                view, self.app.store.curves.get(view.key), "val/accuracy", self.look.axis, scale=100.0
            )
            if series is not None:
                return f"val {_at(series, cursor)}"
        return "val none: labels unique" if setting(view.config, "data.labels") == "unique" else ""

    def readout_line(self, view: RunView, width: int) -> Line:
        """The readout of both charts at 80 columns."""
        feet = [self.foot(view, family, self.family_series(view, family)) for family in self.page(view)[:2]]
        texts = ["".join(t for t, _ in foot).strip().replace("   ", "  ") for foot in feet]
        if len(texts) < 2:
            return [(texts[0] if texts else "", "")]
        right = texts[1].partition("  ")[2].strip().replace("val none: labels unique", "val none")
        room = width - len(right) - 3
        return [(fit(texts[0], max(width // 2, room)), ""), (f" ┃ {right}", "")]


def _at(series: Series, cursor: float | None) -> str:
    value = readout(series, cursor, smoothing=0.0)[1] if cursor is not None else float(series.ys[-1])
    return f"{value:.1f}" if abs(value) < 1e4 else short(value)
