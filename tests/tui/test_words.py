"""Words of messages and lists: plurals, what was done, and sentences that end."""

from __future__ import annotations

from pathlib import Path

from comparable import make_comparable
from samples import fix
from tui_helpers import open_app, settle, text_of


async def test_taking_a_tag_away_says_so(runs: Path) -> None:
    async with open_app(runs, (160, 48)) as (app, pilot):
        for words in ("tagged", "good taken away from"):
            await pilot.press("t", *"good", "enter")
            await settle(app, pilot)
            assert app.lsc_screen.message[0].startswith(words)


async def test_an_unknown_name_gets_a_whole_sentence(runs: Path) -> None:
    async with open_app(runs, (160, 48)) as (app, pilot):
        for key, typed in (("O", " qqqq"), ("B", "qqqq")):
            await pilot.press(key, *typed, "enter")
            assert app.lsc_screen.message[0].endswith("; Tab completes a name, r shows the settings of a run")


async def test_the_palette_finds_keys_by_name_and_says_that_nothing_matches(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press(":", *"shift")
        await pilot.pause()
        assert "1 command " in text_of(app)
        assert "shift+tab pane" in text_of(app)
        await pilot.press("q")
        await pilot.pause()
        assert 'no command holds "shiftq"' in text_of(app)


async def test_only_levels_set_by_hand_are_called_so(tmp_path: Path) -> None:
    make_comparable(tmp_path / "runs", tmp_path / "fig1a.toml")
    async with open_app(tmp_path / "runs", (160, 48)) as (app, pilot):
        await pilot.press("g", "enter")
        await settle(app, pilot)
        await pilot.press("v", *"200", "enter")
        assert "is no level" in app.lsc_screen.message[0]
        await pilot.press("v", *"50", "enter")
        await settle(app, pilot)
        assert "50% set here" in text_of(app)
        assert " fixed in the preset" in text_of(app).partition("50% set here")[2].partition("─")[0]


async def test_an_exit_code_stands_apart_from_its_sentence(runs: Path) -> None:
    folder = runs / "etf-2024/mlp/V21-384/seed-0"
    fix(folder, exit_code=1, message="1 of 12 images cannot be used")
    async with open_app(runs, (160, 48)) as (app, pilot):
        app.watch_run("0:etf-2024/mlp/V21-384/seed-0")
        await settle(app, pilot)
        assert "exit 1: 1 of 12 images" in text_of(app)
