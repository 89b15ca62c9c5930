"""Starting the viewer in a test and reading what it shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from lsc_tui.app import LscApp
from lsc_tui.render_once import screen_text, wait_until_settled
from tests.waiting import LIMIT

NOW = 1_795_010_000.0


def make_app(folder: Path | list[Path], config: Path | None = None, **options: Any) -> LscApp:
    """The viewer with a fixed host and clock, no hardware, and its own config folder."""
    folders = folder if isinstance(folder, list) else [folder]
    config = config or folders[0].parent / "config"
    return LscApp(folders, config=config, host="gpu07", hardware=False, clock=lambda: NOW, **options)


async def settle(app: LscApp, pilot: Pilot[Any]) -> None:
    """Wait until every run has been read and every requested curve has come."""
    assert await wait_until_settled(app, pilot, LIMIT), "the screen did not come to rest"


@asynccontextmanager
async def open_app(
    folder: Path | list[Path], size: tuple[int, int] = (80, 24), **options: Any
) -> AsyncIterator[tuple[LscApp, Pilot[Any]]]:
    """The running viewer, settled."""
    app = make_app(folder, **options)
    async with app.run_test(size=size) as pilot:
        await settle(app, pilot)
        yield app, pilot


def text_of(app: LscApp) -> str:
    """The screen as text."""
    return screen_text(app)
