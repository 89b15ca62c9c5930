"""The charts of Runs: the curves of what is marked and highlighted, letters first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsc_engine.charts.series import Series
from lsc_tui.data.run_view import ACCURACIES, LETTERS, LOSS, RunView, colour_of
from lsc_tui.lines import Line, clean, width_of
from lsc_tui.widgets.chart import UNITS, Chart
from lsc_tui.widgets.series import curve_series, loss_word, missing_words

if TYPE_CHECKING:
    from lsc_tui.screens.base import LscScreen
    from lsc_tui.widgets.chart import Look
    from lsc_tui.widgets.runs_rows import Order
    from lsc_tui.widgets.runs_table import RunsTable

    _Base = LscScreen
else:
    _Base = object

MOST_CURVES = 12
Charted = tuple[RunView, str, int]


class RunsCharts(_Base):
    """Mixed into Runs, which has `look`, `order` and `table`."""

    look: Look
    order: Order

    @property
    def table(self) -> RunsTable:
        """The list."""
        raise NotImplementedError

    def _charted(self) -> list[Charted]:
        """Runs with letter and colour: the marked ones and what is highlighted, that last, so it lies on top."""
        store, row = self.app.store, self.table.current
        chosen = {key: store.runs[key] for key in store.marked if key in store.runs}
        out = [(view, store.letter(key), colour_of(store.letter(key))) for key, view in chosen.items()]
        if row is not None and row.views:
            fresh = [view for view in row.views if view.key not in chosen]
            if len(row.views) > 1 or row.kind == "study":
                free = [letter for letter in LETTERS if letter not in store.marked.values()]
                out += [(view, free[i % len(free)], colour_of(free[i % len(free)])) for i, view in enumerate(fresh)]
            else:
                free_colour = next(i for i in range(60) if i not in [colour for _, _, colour in out])
                out += [(view, "+" if chosen else "", free_colour) for view in fresh]
            here = row.views[0].key
            if row.kind == "run":
                out.sort(key=lambda item: item[0].key == here)
        return out[-MOST_CURVES:]

    def show_charts(self) -> None:
        look = self.look
        chosen = self._charted()
        self.app.subscribe({view.key: frozenset((LOSS, *ACCURACIES)) for view, _, _ in chosen})
        lead = chosen[-1][0] if chosen else None
        same = [item for item in chosen if lead is not None and item[0].loss_group == lead.loss_group]
        legend: Line = []
        for view, letter, colour in sorted(same, key=lambda item: item[1]):
            style = f"series-{colour % 8}"
            legend += [("  " if legend else "", ""), (f"{letter} {clean(view.label)} s{view.seed}".strip(), style)]
        study = lead.study.rpartition("/")[2] if lead else ""
        kind = loss_word(lead.loss_group) if lead else ""
        words = [study, LOSS, kind, "log y" if look.log_y else "", look.axis]
        if look.smoothing:
            words.append(f"smooth {look.smoothing:g}".replace("0.", "."))
        # The letters tell more than the words: these give way.
        room = self.size.width // (2 if self.wide else 1) - 8 - width_of(legend)
        for word in (look.axis, study, "log y"):
            if len(" · ".join(w for w in words if w)) > room and word in words:
                words.remove(word)
        framed = self.wide
        curves = self.app.store.curves.get(lead.key) if lead else None
        series, key = self._series(same, LOSS)
        self.query_one("#loss", Chart).put(
            series, look.view(), key=key, title=clean(" · ".join(w for w in words if w)), right=legend, framed=framed,
            empty=missing_words(lead, curves, LOSS) if lead else self._no_curve(),
        )  # fmt: skip
        if self.wide:
            name = self.order.accuracy
            series, key = self._series(chosen, name, scale=100.0)
            empty = missing_words(lead, curves, name) if lead else self._no_curve()
            others = len(chosen) - len(same)
            words = [f"{name} %", "eval mode"] + ([f"{others} with another loss only here"] if others else [])
            self.query_one("#accuracy", Chart).put(
                series, look.view(log_y=False, y0=0, y1=100, smooth=False), key=key, title=" · ".join(words),
                right=[(UNITS[look.axis], "dim")], framed=framed, empty=empty,
            )  # fmt: skip

    def _no_curve(self) -> str:
        row = self.table.current
        return "a report has no curves; Enter reads it" if row is not None and row.report is not None else ""

    def _series(
        self, chosen: list[tuple[RunView, str, int]], name: str, scale: float = 1.0
    ) -> tuple[list[Series], object]:
        store = self.app.store
        series = [
            s
            for view, letter, colour in chosen
            if (s := curve_series(view, store.curves.get(view.key), name, self.look.axis, letter, colour, scale))
        ]
        key = tuple((view.key, id(store.curves.get(view.key)), letter, colour) for view, letter, colour in chosen)
        return series, (key, name, self.look.axis)
