"""The chart commands, for every screen that shows charts: one look, all its charts move together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsc_tui.widgets.chart import Chart, Look

if TYPE_CHECKING:
    from lsc_engine.charts.chart import Picture
    from lsc_tui.screens.base import LscScreen

    _Base = LscScreen
else:
    _Base = object


class ChartCommands(_Base):
    """Mixed into a screen that has `look`; it redraws in `show`. State goes to the user's view file."""

    look: Look
    LOOK = "look"  # name under which the look is kept

    def load_look(self) -> None:
        """The axes and smoothing of the last time."""
        kept = self.app.ui.get(self.LOOK, {})
        self.look = Look(mode=self.app.chart_mode)
        for name in ("axis", "log_x", "log_y", "smoothing", "clip"):
            if type(kept.get(name)) is type(getattr(self.look, name)):
                setattr(self.look, name, kept[name])
        from lsc_engine.charts.reduction import SMOOTHING
        from lsc_tui.widgets.chart import AXES

        self.look.axis = self.look.axis if self.look.axis in AXES else "epoch"
        self.look.smoothing = self.look.smoothing if self.look.smoothing in SMOOTHING else 0.0

    def _changed(self, words: str = "") -> None:
        kept = {name: getattr(self.look, name) for name in ("axis", "log_x", "log_y", "smoothing", "clip")}
        self.app.ui.set(**{self.LOOK: kept})
        self.show()
        if words:
            self.say(words)

    def _picture(self) -> Picture | None:
        for chart in self.query(Chart):
            if chart.display and chart.picture is not None and chart.series:
                picture: Picture = chart.picture
                return picture
        return None

    def do_cursor_left(self) -> None:
        self._move(-1)

    def do_cursor_right(self) -> None:
        self._move(1)

    def _move(self, columns: int) -> None:
        picture = self._picture()
        if picture is not None:
            self.look.move(picture, columns)
            self.show()

    def do_zoom_in(self) -> None:
        self._zoom(0.5)

    def do_zoom_out(self) -> None:
        self._zoom(2.0)

    def _zoom(self, factor: float) -> None:
        picture = self._picture()
        if picture is not None:
            self.look.zoom(picture, factor)
            self.show()

    def do_zoom_whole(self) -> None:
        self.look.whole()
        self.look.cursor = None
        self.show()

    def do_pan_left(self) -> None:
        self._pan(-0.25)

    def do_pan_right(self) -> None:
        self._pan(0.25)

    def _pan(self, share: float) -> None:
        picture = self._picture()
        if picture is not None and self.look.x0 is not None:
            self.look.pan(picture, share)
            self.show()

    def why_not_pan_left(self) -> str:
        return "" if self.look.x0 is not None else "the whole curve is shown, + zooms in"

    why_not_pan_right = why_not_zoom_out = why_not_pan_left

    def do_axis(self) -> None:
        self.look.next_axis()
        self._changed(f"x: {self.look.axis}")

    def do_log_x(self) -> None:
        self.look.log_x = not self.look.log_x
        self.look.whole()
        self._changed(f"x {'logarithmic' if self.look.log_x else 'linear'}")

    def do_log_y(self) -> None:
        self.look.log_y = not self.look.log_y
        self._changed(f"y of the loss {'logarithmic' if self.look.log_y else 'linear'}")

    def do_smooth(self) -> None:
        self._changed(self.look.next_smoothing())

    def do_clip(self) -> None:
        self.look.clip = not self.look.clip
        self._changed(f"outliers {'clipped' if self.look.clip else 'shown'}")
