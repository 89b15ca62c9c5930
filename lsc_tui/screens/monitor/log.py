"""The keys of Monitor's log: scroll, search, follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsc_tui.widgets.log import LogPane

if TYPE_CHECKING:
    from lsc_tui.screens.base import LscScreen

    _Base = LscScreen
else:
    _Base = object


class LogCommands(_Base):
    """Mixed into a screen that has a log pane `#log`."""

    @property
    def log_pane(self) -> LogPane:
        """The log."""
        return self.query_one("#log", LogPane)

    def do_page_up(self) -> None:
        log = self.log_pane
        log.scroll(-log.page)

    def do_page_down(self) -> None:
        log = self.log_pane
        log.scroll(log.page)

    def do_first(self) -> None:
        log = self.log_pane
        log.scroll(-log.count)

    def do_last(self) -> None:
        log = self.log_pane
        log.scroll(log.count)

    def do_follow(self) -> None:
        log = self.log_pane
        if log.follow:
            log.follow = False
            log.redraw()
        else:
            self.do_last()

    def do_filter(self) -> None:
        def done(text: str) -> None:
            if not self.log_pane.find(text):
                self.say(f'the log holds no "{text}" above here', "warn")

        self.prompt("search the log upwards", done, value=self.log_pane.words)
