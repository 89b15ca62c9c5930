"""The chart commands, for every screen that shows charts: one look, all its charts move together."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lsc_engine.charts.reduction import SMOOTHING
from lsc_tui.keymap import Command
from lsc_tui.screens.base import LscScreen
from lsc_tui.widgets.chart import AXES, Chart, Look
from lsc_tui.widgets.panel import Panel

if TYPE_CHECKING:
    from lsc_engine.charts.chart import Picture

_KEPT = ("axis", "log_x", "log_y", "logit", "smoothing", "clip")


class ChartScreen(LscScreen):
    """A screen with charts; axes and smoothing are kept in the user's view file."""

    LOOK: ClassVar[str] = "look"  # name under which they are kept

    def __init__(self) -> None:
        super().__init__()
        self.look = Look(mode=self.app.chart_mode)
        kept = self.app.ui.get(self.LOOK, {})
        for name in _KEPT:
            if type(kept.get(name)) is type(getattr(self.look, name)):
                setattr(self.look, name, kept[name])
        self.look.axis = self.look.axis if self.look.axis in AXES else "epoch"
        self.look.smoothing = self.look.smoothing if self.look.smoothing in SMOOTHING else 0.0

    def _look_changed(self, words: str) -> None:
        self.app.ui.set(**{self.LOOK: {name: getattr(self.look, name) for name in _KEPT}})
        self.show()
        self.say(words)

    @property
    def _picture(self) -> Picture | None:
        """What the first chart with curves shows."""
        shown = (c.picture for c in self.query(Chart) if c.display and c.picture is not None and c.series)
        return next(shown, None)

    def why_not(self, command: Command) -> str:
        if command.id in ("tilt_up", "tilt_down", "zoom_y_out") and self.look.magnify <= 1:
            return "the whole height is shown, > magnifies it"
        if command.id in ("pan_left", "pan_right", "zoom_out") and self.look.x0 is None:
            return "the whole curve is shown, + zooms in"
        return super().why_not(command)

    def clicked(self, panel: Panel, x: int, y: int) -> None:
        if isinstance(panel, Chart) and panel.picture is not None and panel.series:
            column = x - panel.framed - panel.picture.left
            if 0 <= column < panel.picture.plot_width:
                self.look.cursor = panel.picture.x_at(column)
                self.show()

    def move_cursor(self, columns: int) -> None:
        if (picture := self._picture) is not None:
            self.look.move(picture, columns)
            self.show()

    def zoom(self, factor: float) -> None:
        """A window narrower (below 1) or wider."""
        if (picture := self._picture) is not None:
            self.look.zoom(picture, factor)
            self.show()

    def pan(self, share: float) -> None:
        """The window to the side by a share of its width."""
        if (picture := self._picture) is not None and self.look.x0 is not None:
            self.look.pan(picture, share)
            self.show()

    def zoom_y(self, factor: float) -> None:
        """The heights magnified more (above 1) or less."""
        self.look.zoom_y(factor)
        self.show()

    def tilt(self, up: int) -> None:
        """Magnified heights: the window up or down by a quarter."""
        self.look.shift = max(-self.look.magnify, min(self.look.magnify, self.look.shift + up / 4))
        self.show()

    def do_zoom_whole(self) -> None:
        self.look.whole()
        self.show()

    def do_axis(self) -> None:
        self.look.next_axis()
        self._look_changed(f"x: {self.look.axis}")

    def do_log_x(self) -> None:
        self.look.log_x = not self.look.log_x
        self.look.x0 = self.look.x1 = None
        self._look_changed(f"x {'logarithmic' if self.look.log_x else 'linear'}")

    def do_log_y(self) -> None:
        self._look_changed(self.look.next_y())

    def do_smooth(self) -> None:
        self._look_changed(self.look.next_smoothing())

    def do_clip(self) -> None:
        self.look.clip = not self.look.clip
        self._look_changed(f"outliers {'clipped' if self.look.clip else 'shown'}")
