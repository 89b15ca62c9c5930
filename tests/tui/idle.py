"""What makes tests of the viewer short: no waiting for a time, no style sheet parsed twice.

After each key Textual's pilot sleeps twice 20 ms and looks whether the processor was used meanwhile. Here the messages
of all widgets, the event loop, the next refresh and the threads of this process are looked at instead.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from textual._context import active_app
from textual.app import App
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet

# As in Textual: what goes on for longer is not waited for; the test does, by what it shows at its end.
SECONDS = 1.0
PAUSE = 0.001


_parse = Stylesheet._parse_rules
_parsed: dict[tuple[Any, ...], list[RuleSet]] = {}


def parse_once(self: Stylesheet, *sheet: Any, **options: Any) -> list[RuleSet]:
    """In place of Stylesheet._parse_rules, which every app calls for the same sheets, and twice."""
    key = (sheet, frozenset(options.items()), frozenset(self._variables.items()))
    if key not in _parsed:
        _parsed[key] = _parse(self, *sheet, **options)
    return _parsed[key]


async def until_idle(*_: float) -> None:
    """In place of textual._wait.wait_for_idle."""
    app, loop = active_app.get(), asyncio.get_running_loop()
    end = loop.time() + SECONDS
    looks = 0
    while looks < 2 and loop.time() < end:
        await asyncio.sleep(0)
        if loop._ready or _messages(app) or _refresh(app):  # type: ignore[attr-defined]
            looks = 0
        else:
            # A new size of the terminal waits for a timer.
            looks = 0 if _threads_run() or app._resize_event is not None else looks + 1
            await asyncio.sleep(PAUSE)


def _messages(app: App[Any]) -> bool:
    """Whether a widget has messages that it has not taken yet; one at work on them is in the event loop."""
    return any(pump._running and not pump._message_queue.empty() for pump in (app, *app._registry))


def _refresh(app: App[Any]) -> bool:
    """Do what waits for the next of 60 refreshes a second; whether there was any."""
    waiting = [screen for screen in app.screen_stack if screen._running and screen._update_timer._active.is_set()]
    for screen in waiting:
        screen._on_timer_update()
    return bool(waiting)


def _threads_run() -> bool:
    """Whether another thread computes or reads a file now."""
    own = threading.get_native_id()
    for task in os.listdir("/proc/self/task"):
        try:
            state = Path(f"/proc/self/task/{task}/stat").read_text().rpartition(") ")[2][:1]
        except OSError:  # it has ended
            continue
        if state in "RD" and int(task) != own:
            return True
    return False
