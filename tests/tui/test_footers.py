"""Every key in a footer changes what is shown, and a footer uses the room that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from comparable import make_comparable
from embedded import HIGH, SPHERE, make_embedded
from textual.pilot import Pilot
from tui_helpers import open_app, settle, text_of

from lsc_tui.app import LscApp
from lsc_tui.keymap import COMMANDS, shown
from lsc_tui.screens.base import LscScreen
from lsc_tui.widgets.panel import Panel

pytestmark = pytest.mark.slow

# Seen only where there are outliers, in the run, or in the list of runs.
WORDS_ALONE = ("clip", "checkpoint", "pin", "earlier", "later", "hold")


def seen(app: LscApp) -> tuple[object, ...]:
    """What is on screen, but for the message."""
    screen = app.screen
    if not isinstance(screen, LscScreen):
        return (screen,)
    panels = [p.text() for p in screen.query(Panel) if p.id not in ("message", "foot") and p.region.area]
    return screen, screen._question is None, screen.field is None, panels


def offered(app: LscApp) -> list[str]:
    """The commands in the footer, as far as they fit."""
    screen = app.lsc_screen
    if screen.message[0]:
        screen.say("")
    names, words = screen.footer()
    entries = {name: f"{shown(app.keys[name][0])} {words.get(name, COMMANDS[name].description)}" for name in names}
    line = screen.query_one("#foot", Panel).text()
    return [name for name, entry in entries.items() if screen.acts(name) and entry in line]


async def every_key_acts(app: LscApp, pilot: Pilot[Any]) -> None:
    """Press each key of the footer, and take back what it opened."""
    tab = app.lsc_screen.TAB
    names = offered(app)
    assert names
    for name in names:
        if not app.lsc_screen.acts(name) or name in WORDS_ALONE:
            continue
        before = seen(app)
        await pilot.press(app.keys[name][0])
        await settle(app, pilot)
        await pilot.pause()
        assert seen(app) != before, f"{name} changed nothing"
        if seen(app)[:3] != before[:3]:
            await pilot.press("escape")
        if name == "metric":
            await pilot.press("M")
        app.go(tab)
        await settle(app, pilot)


SIZES = [(80, 24), (160, 48)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("run", ["A-384/seed-0", "V21-min/seed-1", "CE-384/seed-0"])
async def test_monitor(runs: Path, run: str, size: tuple[int, int]) -> None:
    async with open_app(runs, size) as (app, pilot):
        app.watch_run(f"0:lsc-2025/fig9/{run}")
        await settle(app, pilot)
        await every_key_acts(app, pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_runs_without_a_match(runs: Path, size: tuple[int, int]) -> None:
    async with open_app(runs, size) as (app, pilot):
        await pilot.press("/", *"zzz", "enter")
        await settle(app, pilot)
        assert offered(app) == ["new", "filter"]
        assert text_of(app).count("no run matches") == 1
        await pilot.press("escape")
        await settle(app, pilot)
        await every_key_acts(app, pilot)


@pytest.mark.parametrize("run", [HIGH, SPHERE])
async def test_embeddings(tmp_path: Path, run: str) -> None:
    make_embedded(tmp_path / "runs")
    async with open_app(tmp_path / "runs", (160, 48)) as (app, pilot):
        app.watch_run(f"0:emb/{run}")
        await settle(app, pilot)
        await pilot.press("m")
        await settle(app, pilot)
        assert "zoom_whole" not in offered(app)
        await every_key_acts(app, pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    monkeypatch.chdir(tmp_path)
    make_comparable(tmp_path / "runs", tmp_path / "fig1a.toml")
    async with open_app(tmp_path / "runs", size) as (app, pilot):
        await pilot.press("3")
        await settle(app, pilot)
        assert offered(app) == ["runs"]
        await pilot.press("1", "g", "enter")
        await settle(app, pilot)
        await every_key_acts(app, pilot)


async def test_vectors_without_a_match(runs: Path) -> None:
    async with open_app(runs, (160, 48)) as (app, pilot):
        await pilot.press("5", "/", *"zzz", "enter")
        await settle(app, pilot)
        assert offered(app) == ["next_pane", "filter", "cursor_left", "cursor_right"]
        await every_key_acts(app, pilot)


async def test_a_search_without_a_hit_leaves_n_the_note(runs: Path) -> None:
    async with open_app(runs, (160, 48)) as (app, pilot):
        app.watch_run("0:etf-2024/mlp/V21-384/seed-0")
        await settle(app, pilot)
        await pilot.press("/", *"zzz", "enter")
        await pilot.pause()
        assert 'the log holds no "zzz"' in text_of(app)
        await pilot.press("escape")
        await pilot.pause()
        assert "n note" in text_of(app)
        assert "next hit" not in text_of(app)


async def test_the_footer_uses_its_room(runs: Path) -> None:
    """What acts and is left out would not fit."""
    for size in SIZES:
        async with open_app(runs, size) as (app, pilot):
            app.watch_run("0:lsc-2025/fig9/A-384/seed-0")
            await settle(app, pilot)
            line = app.lsc_screen.query_one("#foot", Panel).text()
            assert "n note" in line
            assert " " * 18 not in line
