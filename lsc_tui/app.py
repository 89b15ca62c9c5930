"""lsc-tui: the application. It holds the store, the collector and the keymap; screens show them.

How a screen plugs in: a module `screens/NAME.py`, or a package `screens/NAME` with `screen.py`, which is found by being
there. The class derives from `screens.base.LscScreen` and has
  TAB, TAB_KEY, TAB_WORD   the id, key and word of the command that shows it; its docstring is the help
  FOOTER           the ids of commands in its footer, most important first
  body()           yields its panels and boxes (widgets/panel.py: lines of styled text) and charts (widgets/chart.py)
  show()           gives them what they show; called whenever the store, its size or its state may have changed
  action_NAME()    the method of each action of keymap.py that acts here
  why_not(name)    a reason why a command cannot act now
  self.app.store   all runs, curves and hardware; `self.app.subscribe(...)` asks for the metrics it wants to see
  self.say/ask/prompt   a sentence, a question, a line of text on the last line
Reading and writing files that may be slow belongs in a worker thread that posts back, never in `show`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.style import Style
from textual import events
from textual.app import App
from textual.filter import LineFilter, Monochrome, NoColor
from textual.message import Message

from lsc_engine.common.formatting import counted
from lsc_engine.common.userpaths import config_folder
from lsc_tui import screens
from lsc_tui.data.poller import Poller
from lsc_tui.data.run_view import Store
from lsc_tui.data.ui_state import UiState
from lsc_tui.keymap import Keymap, add_command
from lsc_tui.modals import Overlay
from lsc_tui.screens.base import LscScreen
from lsc_tui.services.verdicts import VerdictService
from lsc_tui.theme import THEMES, light_background
from lsc_tui.widgets.panel import Ascii, style_table

# Tab command id -> module and class. Those listed here are loaded when they are first shown.
SCREENS = {
    "runs": ("lsc_tui.screens.runs.screen", "RunsScreen"),
    "monitor": ("lsc_tui.screens.monitor.screen", "MonitorScreen"),
    "compare_tab": ("lsc_tui.screens.compare.screen", "CompareScreen"),
    "new": ("lsc_tui.screens.new_run.screen", "NewScreen"),
    "vectors": ("lsc_tui.screens.vectors.screen", "VectorsScreen"),
}


def find_screens() -> None:
    """Add the screens in the folder `screens` that `SCREENS` does not list, each with the command that shows it."""
    listed = {module for module, _ in SCREENS.values()}
    for found in pkgutil.iter_modules(screens.__path__):
        name = f"{screens.__name__}.{found.name}{'.screen' if found.ispkg else ''}"
        for item in vars(importlib.import_module(name)).values() if name not in listed else ():
            if isinstance(item, type) and issubclass(item, LscScreen) and item.TAB and item.__module__ == name:
                SCREENS[item.TAB] = (name, item.__name__)
                words = item.TAB_KEY, item.TAB_WORD, item.__doc__ or "", f"go({item.TAB!r})"
                add_command("screens", item.TAB, *words)


class LscApp(App[None], inherit_bindings=False):
    """The viewer. Closing it in any way touches no run."""

    ENABLE_COMMAND_PALETTE = False
    CSS_PATH = "app.tcss"
    TITLE = "lsc"

    class MetricsUpdated(Message):
        """The collector has changes."""

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        ascii: bool = False,
        config: Path | None = None,
        host: str | None = None,
        hardware: bool = True,
        clock: Callable[[], float] = time.time,
        theme: str | None = None,
        demo: bool = False,
        made_later: bool = False,
        plugins: Sequence[Path] = (),
        few_colours: bool = False,
    ) -> None:
        super().__init__()
        find_screens()
        # What is launched gets these; here they are known by name alone.
        self.plugin_words = [word for file in plugins for word in ("--plugin", str(file.absolute()))]
        self.animation_level = "none"
        self.folders = [Path(f) for f in folders]
        self.ascii, self.chart_mode = ascii, "ascii" if ascii else "braille"
        self.demo = demo
        self.clock = clock
        self.config = config or config_folder()
        self.keymap, self._keymap_fault = Keymap.load(self.config / "keys.toml")
        self.keys = self.keymap.keys
        self.set_keymap(self.keymap.for_textual)
        self.ui = UiState(self.folders, self.config)
        self.store = Store(host or socket.gethostname().split(".")[0])
        self.poller = Poller(
            self.folders, lambda: self.post_message(self.MetricsUpdated()), hardware=hardware, made_later=made_later
        )
        self.subscribe = self.poller.subscribe
        self.verdicts = VerdictService()
        self._started: set[str] = set()
        self._before: list[str] = []
        self._leaving = 0.0
        self._left = False
        self._styles_theme, self._styles = "", dict[str, Style]()
        for found in THEMES.values():
            self.register_theme(found)
        wanted = theme or self.ui.get("theme", "lsc-dark")
        if few_colours and theme is None and not str(wanted).startswith("lsc-ansi"):
            # One chosen on another terminal has colours that this one would only guess at.
            light = wanted == "lsc-light" or light_background(os.environ)
            wanted = "lsc-ansi-light" if light else "lsc-ansi-dark"
        self.theme = wanted if wanted in THEMES else "lsc-dark"

    @property
    def styles_of_theme(self) -> dict[str, Style]:
        if self._styles_theme != self.theme:
            self._styles_theme, self._styles = self.theme, style_table(self.theme_variables, no_colour=self.no_color)
        return self._styles

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Those of Textual. With NO_COLOR it makes grey of colours; the terminal's own ones would become black on black
        and are left out instead."""
        own = self.native_ansi_color
        filters = [NoColor() if own and isinstance(one, Monochrome) else one for one in super().get_line_filters()]
        return [*filters, *([Ascii()] if self.ascii else [])]

    async def on_event(self, event: events.Event) -> None:
        """Keys and pasted text are handled here, one after the other, by the screen on top at that moment: what a key
        opens gets the next one, however fast they come."""
        if not isinstance(event, events.Key | events.Paste):
            await super().on_event(event)
        elif self._left or not isinstance(self.screen, LscScreen | Overlay):
            return
        elif isinstance(event, events.Paste):
            self.screen.take_paste(event.text)
        elif event.key == "ctrl+c":
            self.leave_on_second()
        elif event.key.startswith("alt+") and event.character is not None:
            # A terminal, and tmux for half a second, make one key of Esc and the letter behind it. Esc would drop the
            # text of an open field, where such a key is more often meant to move by words: there it does nothing.
            for key, character in (("escape", None), (event.character, event.character)):
                if getattr(self.screen, "field", None) is None:
                    await self.screen.take_key(events.Key(key, character))
        else:
            await self.screen.take_key(event)

    def on_mount(self) -> None:
        def begin() -> None:
            """Once the frame is there: read the runs, which would only have kept it waiting."""
            self.poller.start()
            if not self.is_headless:
                gc.freeze()
                gc.enable()

        self.go("runs")
        self.call_after_refresh(begin)
        if not self.is_headless:
            threading.Thread(target=_end_with_terminal, args=(self.is_web,), name="terminal-watch", daemon=True).start()
        if words := self._keymap_fault or self.ui.key_changes():
            self.call_after_refresh(self.lsc_screen.say, words, "warn" if self._keymap_fault else "")

    def on_unmount(self) -> None:
        self.poller.stop()
        self.verdicts.stop()

    @property
    def lsc_screen(self) -> LscScreen:
        """The screen of the current tab, below any overlay."""
        return next(s for s in reversed(self.screen_stack) if isinstance(s, LscScreen))

    def go(self, tab: str) -> None:
        if tab not in self._started:
            module, name = SCREENS[tab]
            self.add_mode(tab, getattr(importlib.import_module(module), name))
            self._started.add(tab)
        if self.current_mode != tab:
            if self.current_mode in SCREENS:
                self._before = [*self._before[-9:], self.current_mode]
            self.switch_mode(tab)
        else:
            self.lsc_screen.redraw_all()

    def look_at(self, folder: Path) -> None:
        if folder.absolute() not in [known.absolute() for known in self.folders]:
            self.folders.append(folder)
        self.poller.rescan()

    def watch_run(self, key: str) -> None:
        self.store.watched = key
        self.go("monitor")

    def go_back(self) -> None:
        *before, tab = self._before or ["runs"]
        self.go(tab)
        self._before = before

    def leave(self) -> None:
        counts = self.store.counts()
        active = sum(counts[state] for state in ("starting", "running", "stopping", "stalled"))
        words = [f"{counted(active, 'run goes', 'runs go')} on"] if active else []
        words += [f"{counts['queued']} queued"] if counts["queued"] else []
        self._left = True
        # What is played in the demo ends with the viewer.
        self.exit(message=", ".join(words) if words and not self.demo else None)

    def leave_on_second(self) -> None:
        now = time.monotonic()
        if now - self._leaving < 2:
            self.leave()
        self._leaving = now
        self.lsc_screen.say("ctrl+c again leaves; runs go on")

    def call_soon(self, work: Callable[..., object], *args: object) -> None:
        """Call this in the UI thread, without waiting for it; nothing once the viewer is being closed. For threads:
        Textual's call_from_thread leaves a coroutine that nobody awaits where the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self.call_later(self._when_shown, work, *args)

    def _when_shown(self, work: Callable[..., object], *args: object) -> None:
        """Call this while a tab is up: news may come while the last one is being closed."""
        stack = self._screen_stacks.get(self._current_mode, ()) if self.is_running else ()
        if any(isinstance(screen, LscScreen) for screen in stack):
            work(*args)

    def on_lsc_app_metrics_updated(self, message: MetricsUpdated) -> None:
        """Put what the poller found into the store and let the screen redraw it; a bell where a run has ended."""
        before = {view.key for view in self.store.runs.values() if view.status.active and view.state != "stalled"}
        update = self.poller.take()
        first = self.store.apply(update)
        over = ("finished", "failed", "diverged", "lost", "stalled")
        if not self.demo and any(k in self.store.runs and self.store.runs[k].state in over for k in before):
            self.bell()
        if first and not self.is_headless:
            threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
        self._when_shown(lambda: self.lsc_screen.redraw_all())


def _end_with_terminal(web: bool) -> None:
    """End at once when the terminal, or the server of a browser's tab, is gone. A hung-up terminal keeps its descriptor
    but has no foreground process group any more; with SIGHUP ignored, reading from it would spin forever."""
    parent = os.getppid()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        terminal = -1 if web else sys.__stdin__.fileno()  # type: ignore[union-attr]
        while os.getppid() == parent if web else os.tcgetpgrp(terminal) and (os.getppid() > 1 or os.isatty(terminal)):
            time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(2.0)
    os._exit(129)


def _warm_up() -> None:
    """Load the modules of the other screens in the background."""
    time.sleep(0.5)
    for module, _ in SCREENS.values():
        importlib.import_module(module)
