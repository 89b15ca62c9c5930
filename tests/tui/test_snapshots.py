"""Pictures of Runs and Monitor at the two sizes of the design, dark and light; host, times and folders are fixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from tui_helpers import make_app, settle

SIZES = [(80, 24), (160, 48)]
THEMES = ["lsc-dark", "lsc-light"]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_runs(runs: Path, snap_compare: Any, size: tuple[int, int], theme: str) -> None:
    app = make_app(runs, theme=theme)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        await pilot.press("g", "down", "space", "down", "down", "space")
        await settle(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_monitor(runs: Path, snap_compare: Any, size: tuple[int, int], theme: str) -> None:
    app = make_app(runs, theme=theme)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        app.watch_run("0:lsc-2025/fig9/V21-min/seed-0")
        await settle(app, pilot)
        await pilot.press("left", "left")
        await settle(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_help(runs: Path, snap_compare: Any, size: tuple[int, int], theme: str) -> None:
    app = make_app(runs, theme=theme)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        await pilot.press("question_mark")
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=before)


@pytest.mark.parametrize("theme", THEMES)
def test_palette(runs: Path, snap_compare: Any, theme: str) -> None:
    app = make_app(runs, theme=theme)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        await pilot.press("colon", *"check")
        await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=before)


def test_four_charts(runs: Path, snap_compare: Any) -> None:
    app = make_app(runs)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        app.watch_run("0:lsc-2025/fig9/V21-min/seed-0")
        await settle(app, pilot)
        await pilot.press("number_sign", "left")
        await settle(app, pilot)
        assert len([chart for chart in app.screen.query("Chart") if chart.display and chart.series]) == 4

    assert snap_compare(app, terminal_size=(160, 48), run_before=before)
