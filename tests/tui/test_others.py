"""Folders of others, the queue, and keys typed ahead of the program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from samples import make_study
from textual import events
from tui_helpers import open_app, text_of

from lsc_tui.data.run_view import Folder, Store
from tests.waiting import pause_until


def test_new_runs_go_to_a_folder_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("here")
    first = tmp_path / "anna"
    assert store.own_folder(first) == first
    store.folders = (Folder(first, read_only=True), Folder(tmp_path / "mine"))
    assert store.own_folder(first) == tmp_path / "mine"
    store.folders = (Folder(first, read_only=True), Folder(tmp_path / "gone", problem="gone"))
    assert store.own_folder(first) == tmp_path / "gone"
    store.folders = (Folder(first, read_only=True),)
    monkeypatch.setenv("LSC_RUNS", str(tmp_path / "default"))
    assert store.own_folder(first) == tmp_path / "default"


async def test_keys_on_runs_of_others_say_why_not(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        app.poller.stop()
        store = app.store
        store.runs = {key: replace(view, read_only=True) for key, view in store.runs.items()}
        store.folders = tuple(replace(folder, read_only=True) for folder in store.folders)
        store.version += 1
        app.lsc_screen.show()
        for key in "SCRDnt":
            await pilot.press(key)
            assert f"{key}: ada's folder is read only" in text_of(app), key
            await pilot.press("escape")
        await pilot.press("F")
        assert "F: ada's folder is read only; N makes a new run with its settings" in text_of(app)


async def test_a_waiting_run_may_be_started_out_of_its_turn(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        table = app.lsc_screen.table  # type: ignore[attr-defined]
        table.cursor = next(
            i for i, row in enumerate(table.rows) if row.kind == "run" and row.views[0].state == "queued"
        )
        await pilot.press("R")
        assert "out of its turn?" in text_of(app)
        await pilot.press("escape")
        assert "R start" in text_of(app)


async def test_a_study_that_waits_starts_no_run_that_nobody_chose(tmp_path: Path) -> None:
    make_study(tmp_path / "runs", [("A-384", seed, "queued", 0, 1.0) for seed in range(3)], name="one")
    async with open_app(tmp_path / "runs", size=(160, 48)) as (app, pilot):
        assert all(words in text_of(app) for words in ("R start", "K earlier", "J later", "Q hold"))
        await pilot.press("g", "R")
        assert app.lsc_screen.message[0] == "R: highlight the run to start out of its turn"
        assert "R start" not in text_of(app)
        # What was said of one row does not stand over another.
        await pilot.press("down")
        assert not app.lsc_screen.message[0]


async def test_a_filter_that_is_dropped_leaves_the_highlight_where_it_was(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        table = app.lsc_screen.table  # type: ignore[attr-defined]
        before = table.current.key
        await pilot.press("slash", *"mine")
        assert table.current.key != before
        await pilot.press("escape")
        assert table.current.key == before
        await pilot.press("slash", *"mine", "enter", "escape")
        assert "mine" in table.current.key, "a filter that was used"


async def test_a_waiting_run_is_taken_out_of_the_queue_at_once(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        table, key = app.lsc_screen.table, "0:lsc-2025/fig9/CE-384/seed-0"  # type: ignore[attr-defined]
        table.cursor = next(i for i, row in enumerate(table.rows) if row.key == key)
        await pilot.press("S")
        await pilot.pause()
        assert "stop fig9 CE n=384 s0?   y take it out of the queue  Esc no" in text_of(app)
        await pilot.press("k")
        assert app.store.runs[key].state == "queued"
        await pilot.press("S")
        await pilot.pause()
        await pilot.press("y")
        await pause_until(pilot, lambda: app.store.runs[key].state == "stopped")
        assert app.lsc_screen.message[0] == "stopped: fig9 CE n=384 s0"


async def test_what_is_typed_ahead_of_enter_is_not_lost(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("slash")
        folded = app.lsc_screen.order.folded  # type: ignore[attr-defined]
        for key in ("n", "enter", "b"):
            app.post_message(events.Key(key, key if len(key) == 1 else "\r"))
        await pilot.pause()
        await pilot.pause()
        assert app.lsc_screen.filter.text == "n"  # type: ignore[attr-defined]
        assert app.lsc_screen.order.folded is not folded  # type: ignore[attr-defined]


async def test_a_new_filter_takes_the_place_of_the_old_one(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("slash", "x", "x", "enter")
        assert app.lsc_screen.filter.text == "xx"  # type: ignore[attr-defined]
        await pilot.press("slash", "n", "enter")
        assert app.lsc_screen.filter.text == "n"  # type: ignore[attr-defined]


async def test_a_long_sentence_is_shown_whole(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        words = "launch: " + "one more word of a sentence that names what would do instead, " * 2
        app.lsc_screen.say(words, "error")
        await pilot.pause()
        shown = " ".join(line.strip() for line in text_of(app).splitlines()[-2:])
        assert words.strip() in shown
        await pilot.press("escape")
        await pilot.pause()
        assert "? help" in text_of(app).splitlines()[-1]
