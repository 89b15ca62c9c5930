"""The keys of Monitor's view of embeddings; elsewhere they do what they do for curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsc_engine.runs.read.embeddings import Snapshot
from lsc_engine.runs.read.embeddings_chart import kind_of
from lsc_tui.data.embedding_history import EmbeddingHistory
from lsc_tui.data.run_view import RunView
from lsc_tui.keymap import Command
from lsc_tui.lines import Line
from lsc_tui.screens.chart_screen import ChartCommands
from lsc_tui.screens.monitor import embeddings as draw
from lsc_tui.screens.monitor.charts import MonitorCharts
from lsc_tui.screens.monitor.embeddings import EmbeddingLook

# The page of `m` that has no charts.
EMBEDDINGS: tuple[tuple[str, ...], ...] = ()
_FOOTER = ("metric", "cursor_right", "pan_right", "tilt_up", "zoom_in", "full", "stop", "checkpoint")
_FOOTER_WIDE = (
    "metric", "cursor_left", "cursor_right", "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out",
    "zoom_whole", "full", "stop", "checkpoint", "resume", "fork", "copy", "note", "tag",
)  # fmt: skip
_HELP = {
    "cursor_left": "the epoch before", "cursor_right": "the epoch after; after the last one the newest is followed",
    "pan_left": "turn the sphere, or move, to the left", "pan_right": "turn the sphere, or move, to the right",
    "zoom_in": "nearer", "zoom_out": "farther", "zoom_whole": "as at first, the newest epoch",
    "full": "the embeddings alone",
}  # fmt: skip
_CURVES_ONLY = "embeddings have no such axis; m shows the curves"

if TYPE_CHECKING:

    class _Base(MonitorCharts, ChartCommands): ...
else:
    _Base = object


class EmbeddingCommands(_Base):
    """Mixed into Monitor before the charts and their commands."""

    showing_embeddings = False

    _come = False

    if TYPE_CHECKING:

        @property
        def watched(self) -> RunView | None: ...

    def start_embeddings(self) -> None:
        """The look of a run that was just opened."""
        self.embedding_look, self._come = EmbeddingLook(), False

    @property
    def kept(self) -> EmbeddingHistory | None:
        """The snapshots of the run that is shown, None until they are read."""
        view = self.watched
        return self.app.store.embeddings.get(view.key) if view is not None else None

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot that is shown."""
        kept = self.kept
        at = self.embedding_look.index(kept) if kept is not None else -1
        return kept.shots[at] if kept is not None and at >= 0 else None

    def pages(self, view: RunView) -> list[tuple[tuple[str, ...], ...]]:
        """Embeddings come second, or last where there are none."""
        found = super().pages(view)
        return [found[0], EMBEDDINGS, *found[1:]] if self._come else [*found, EMBEDDINGS]

    def show_embeddings(self, view: RunView) -> None:
        """Lay out for the page that is shown; when the first embeddings come, it stays the same page."""
        pages = self.pages(view)
        page = pages[self.view_number % len(pages)]
        kept = self.kept
        self._come = kept is not None and bool(kept.shots)
        self.view_number = self.pages(view).index(page)
        if self.showing_embeddings != (page == EMBEDDINGS):
            self.showing_embeddings = page == EMBEDDINGS
            self.set_class(self.showing_embeddings, "-embeddings")
            self.call_after_refresh(self.redraw_all)

    def draw_embeddings(self, width: int, height: int) -> list[Line]:
        """The picture."""
        view = self.watched
        if view is None:
            return []
        mode = self.look.mode
        return draw.picture(view, self.kept, self.embedding_look, width, height, framed=self.wide, mode=mode)  # type: ignore[arg-type]

    def draw_classes(self, width: int, height: int) -> list[Line]:
        """The table beside it."""
        view = self.watched
        if view is None:
            return []
        return draw.table(view, self.kept, self.embedding_look, width, height, framed=self.wide)

    def footer(self) -> tuple[tuple[str, ...], dict[str, str]]:
        names, words = super().footer()
        if not self.showing_embeddings:
            return tuple(name for name in names if not name.startswith("tilt")), words
        kind = kind_of(self.snapshot)
        turn = "turn" if kind == "sphere" else "move"
        tilt = "tilt" if kind == "sphere" else "move"
        words = {
            **words, "cursor_right": "epoch", "cursor_left": "epoch", "pan_left": turn, "pan_right": turn,
            "tilt_up": tilt, "tilt_down": tilt, "zoom_whole": "whole",
        }  # fmt: skip
        shown = _FOOTER_WIDE if self.wide else _FOOTER
        return tuple(name for name in shown if not (kind == "angles" and name.startswith("tilt"))), words

    def help_of(self, command: Command) -> str:
        return (_HELP.get(command.id) if self.showing_embeddings else None) or super().help_of(command)

    # --- commands -----------------------------------------------------------------------------------------------

    def _move(self, columns: int) -> None:
        if not self.showing_embeddings:
            super()._move(columns)
        elif self.kept is not None:
            self.embedding_look.move(self.kept, columns)
            self.show()

    def _zoom(self, factor: float) -> None:
        if not self.showing_embeddings:
            super()._zoom(factor)
            return
        self.embedding_look.zoom(draw.NEARER if factor < 1 else 1 / draw.NEARER)
        self.show()

    def do_zoom_whole(self) -> None:
        if not self.showing_embeddings:
            super().do_zoom_whole()
            return
        self.embedding_look.whole()
        self.show()

    def _pan(self, share: float) -> None:
        if not self.showing_embeddings:
            super()._pan(share)
            return
        self._turn(1 if share > 0 else -1, 0)

    def _turn(self, right: int, up: int) -> None:
        self.embedding_look.turn(right, up, flat=kind_of(self.snapshot) != "sphere")
        self.show()

    def do_tilt_up(self) -> None:
        self._turn(0, 1)

    def do_tilt_down(self) -> None:
        self._turn(0, -1)

    def why_not_tilt_up(self) -> str:
        if not self.showing_embeddings:
            return "only embeddings are tilted; m shows them"
        return "angles have one axis only" if kind_of(self.snapshot) == "angles" else ""

    why_not_tilt_down = why_not_tilt_up

    def why_not_pan_left(self) -> str:
        return "" if self.showing_embeddings else super().why_not_pan_left()

    def why_not_pan_right(self) -> str:
        return "" if self.showing_embeddings else super().why_not_pan_right()

    def why_not_zoom_out(self) -> str:
        return "" if self.showing_embeddings else super().why_not_zoom_out()

    def why_not_cursor_left(self) -> str:
        if not self.showing_embeddings or self.snapshot is not None:
            return ""
        return "there are no embeddings yet"

    why_not_cursor_right = why_not_cursor_left

    def why_not_axis(self) -> str:
        return _CURVES_ONLY if self.showing_embeddings else ""

    why_not_log_x = why_not_log_y = why_not_smooth = why_not_clip = why_not_axis
