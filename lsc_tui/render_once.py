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
        if not (app.store.loaded and settled(app)):
            before = ""
            continue
        await pilot.pause()
        text = screen_text(app)
        if text == before and settled(app):
            return True
        before = text
    return False


def settled(app: LscApp) -> bool:
    """Whether all requested curves and embeddings have come and every panel is drawn for its size."""
    if app.poller.update_waiting:
        return False
    key = app.poller.subscribed_embeddings
    if key in app.store.runs and key not in app.store.embeddings:
        return False
    if not all(panel.drawn for panel in app.screen.query(Panel) if panel.is_on_screen):
        return False
    return getattr(app.lsc_screen, "settled", True) and all(
        key in app.store.curves and not app.store.curves[key].behind
        for key in app.poller.subscribed
        if key in app.store.runs
    )


def screen_text(app: LscApp, colour: bool = False) -> str:
    """What is on the screen now, line by line."""
    from rich.console import Console

    lines = []
    console = Console(color_system="truecolor" if colour else None, force_terminal=colour, width=10_000)
    for strip in app.screen._compositor.render_strips():
        if colour:
            with console.capture() as capture:
                console.print(*[], end="")
                for segment in strip:
                    console.print(segment.text, style=segment.style, end="", highlight=False, markup=False)
            lines.append(capture.get())
        else:
            lines.append(strip.text.rstrip())
    return "\n".join(lines)
