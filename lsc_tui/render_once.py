"""One frame of the program as text: `lsc-tui --once`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from lsc_engine.common.streams import is_terminal
from lsc_tui.app import LscApp
from lsc_tui.widgets.panel import Panel

if TYPE_CHECKING:
    from textual.pilot import Pilot

# By then a frame is shown as it is.
SECONDS = 60.0


def one_frame(app: LscApp, width: int, height: int) -> str:
    """The first complete frame; with colours on a terminal, unless NO_COLOR is set."""
    colour = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")

    async def run() -> str:
        async with app.run_test(size=(width, height)) as pilot:
            await wait_until_settled(app, pilot)
            return screen_text(app, colour)

    return asyncio.run(run())


async def wait_until_settled(app: LscApp, pilot: Pilot[Any], seconds: float = SECONDS) -> bool:
    """Wait until everything requested is on the screen and two looks at it are the same; False after `seconds`."""
    before, deadline = "", time.monotonic() + seconds
    while time.monotonic() < deadline:
        await pilot.pause(0.02)
        text = ""
        if app.store.loaded and settled(app):
            await pilot.pause()
            text = screen_text(app)
            if text == before and settled(app):
                return True
        before = text
    return False


def settled(app: LscApp) -> bool:
    """Whether all requested curves and embeddings have come and every panel is drawn for its size."""
    store, poller, key = app.store, app.poller, app.poller.watched
    return (
        not poller.update_waiting
        and (key not in store.runs or key in store.embeddings)
        and all(panel.drawn for panel in app.screen.query(Panel) if panel.is_on_screen)
        and getattr(app.lsc_screen, "settled", True)
        and all(k in store.curves and not store.curves[k].behind for k in poller.subscribed if k in store.runs)
    )


def screen_text(app: LscApp, colour: bool = False) -> str:
    """What is on the screen now, line by line."""
    strips = app.screen._compositor.render_strips()
    if not colour:
        return "\n".join(strip.text.rstrip() for strip in strips)
    from rich.console import Console

    console = Console(color_system="truecolor", force_terminal=True)
    return "\n".join(strip.render(console) for strip in strips)
