"""Words of messages and lists: plurals, what was done, and sentences that end."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparable import make_comparable
from samples import fix
from tui_helpers import open_app, settle, text_of

from lsc_engine.runs.read.notes import add_note, add_tag
from lsc_tui.data.run_view import Store
from lsc_tui.lines import wrap
from lsc_tui.screens.new_run.preset_list import PresetList


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
            assert "; the nearest of " in app.lsc_screen.message[0]


async def test_the_palette_finds_keys_by_name_and_says_that_nothing_matches(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("5", ":", *"shift")
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
        await pilot.press("escape", "v", *"50", "enter")
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


def test_lines_break_between_words_not_within_numbers() -> None:
    assert wrap("classes 10, 84, 1 000", 18) == ["classes 10, 84,", "1 000"]
    assert wrap("seen at n = 128", 12) == ["seen at", "n = 128"]


def test_the_list_of_presets_says_that_it_is_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for wide in (False, True):
        presets = PresetList(Store("here"), "presets")
        monkeypatch.setattr(PresetList, "framed", wide)
        presets.fill()
        lines = presets.sheet(52, 30)[2]
        text = "\n".join("".join(part for part, _ in line) for line in lines)
        assert "reading the presets" in text
        assert "yours" not in text


async def test_the_line_of_counts_is_of_the_filter(runs: Path) -> None:
    async with open_app(runs, (160, 48)) as (app, pilot):
        await pilot.press("/", *"state:stopped", "enter")
        await settle(app, pilot)
        assert "1 of 12 runs in 3 studies" in text_of(app)


async def test_a_short_details_panel_keeps_the_note_and_the_path(runs: Path) -> None:
    folder = runs / "etf-2024/mlp/V21-384/seed-1"
    add_note(folder, "a note that is longer than one line of the panel and is read whole, to its end")
    async with open_app(runs, (160, 48)) as (app, pilot):
        await pilot.press("/", *"state:stopped", "enter", "down", "down")
        await settle(app, pilot)
        side = "\n".join(line[114:] for line in text_of(app).splitlines())
        for words in ("to its end", "lsc-engine log", "seed-1"):
            assert words in side


async def test_a_long_tag_leaves_the_name_of_the_run(runs: Path) -> None:
    add_tag(runs / "etf-2024/mlp/V21-384/seed-1", "finalist")
    async with open_app(runs) as (app, pilot):
        name = app.store.runs["0:etf-2024/mlp/V21-384/seed-1"].label
        await pilot.press("/", *"state:stopped", "enter")
        await settle(app, pilot)
        line = next(line for line in text_of(app).splitlines() if "stopped" in line and "#" in line)
        assert f"{name} #" in line


async def test_an_empty_log_and_charts_without_a_curve(runs: Path) -> None:
    run = "lsc-2025/fig9/V21-min/seed-1"
    (runs / run / "log.txt").write_text("")
    for path in (runs / run).glob("metrics*"):
        path.unlink()
    async with open_app(runs, (160, 48)) as (app, pilot):
        app.watch_run(f"0:{run}")
        await settle(app, pilot)
        assert "log.txt is empty" in text_of(app)
        assert app.lsc_screen.has_class("-no-curve")
    async with open_app(runs) as (app, pilot):
        app.watch_run(f"0:{run}")
        await settle(app, pilot)
        assert "─ train/loss " in text_of(app)


async def test_a_long_line_of_the_log_is_broken_between_words(runs: Path) -> None:
    run = "etf-2024/mlp/V21-384/seed-0"
    (runs / run / "log.txt").write_text("04:00:00 " + "x" * 66 + " together\n")
    async with open_app(runs) as (app, pilot):
        app.watch_run(f"0:{run}")
        await settle(app, pilot)
        await pilot.pause()
        assert any(line.split() == ["together"] for line in text_of(app).splitlines())


async def test_the_cursor_leaves_the_number_of_a_tick_whole(runs: Path) -> None:
    async with open_app(runs, (160, 48)) as (app, pilot):
        app.watch_run("0:lsc-2025/fig9/A-384/seed-0")
        await settle(app, pilot)
        app.lsc_screen.look.cursor = 100.0
        app.lsc_screen.show()
        await settle(app, pilot)
        assert "─100─" in text_of(app)
