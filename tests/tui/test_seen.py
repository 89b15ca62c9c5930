"""Keys act on what is seen: a run, a row, a preset that has gone gives its place to no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from comparable import make_comparable
from presets_for_tests import lay_out
from samples import fill
from textual.pilot import Pilot
from tui_helpers import open_app, settle, text_of

from lsc_engine.runs.folder.status import read_status, write_status
from lsc_tui.app import LscApp
from lsc_tui.screens.monitor.screen import MonitorScreen
from lsc_tui.screens.runs.screen import RunsScreen
from tests.waiting import pause_until

FIG9 = "lsc-2025/fig9"
SIZES = [(80, 24), (160, 48)]
ACTS = ("S", "R", "C", "D", "n", "t", "F", "N", "e")


def marks(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, to see whether anything was changed."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def gone(app: LscApp, pilot: Pilot[Any], *runs: str) -> None:
    """Remove run folders as another program would, and wait until the viewer knows."""
    for run in runs:
        shutil.rmtree(app.folders[0] / run)
    app.poller.rescan()
    await pause_until(pilot, lambda: all(f"0:{run}" not in app.store.runs for run in runs))
    await pilot.pause()


async def nothing_acts(app: LscApp, pilot: Pilot[Any], keys: tuple[str, ...] = ACTS) -> None:
    """None of the keys that act on a run asks or opens anything, and no file changes."""
    before, tab = marks(app.folders[0]), app.current_mode
    for key in keys:
        await pilot.press(key)
        assert app.lsc_screen.idle, key
        assert app.current_mode == tab, key
        assert text_of(app).count("y ") == 0 or "Esc no" not in text_of(app), key
    await app.workers.wait_for_complete()
    assert marks(app.folders[0]) == before


def runs_screen(app: LscApp) -> RunsScreen:
    assert isinstance(app.lsc_screen, RunsScreen)
    return app.lsc_screen


def highlighted(app: LscApp) -> str:
    """The id of the highlighted run, or the name of the study; "" where nothing is highlighted."""
    row = runs_screen(app).table.current
    return "" if row is None else row.views[0].id if row.kind == "run" else row.study


async def highlight(app: LscApp, pilot: Pilot[Any], run: str) -> None:
    await pilot.press("g")
    while highlighted(app) != run:
        await pilot.press("j")


# --- Monitor ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("run", ["V21-min/seed-0", "A-384/seed-0", "CE-384/seed-0"])
async def test_monitor_stays_empty_when_its_run_has_gone(runs: Path, run: str, size: tuple[int, int]) -> None:
    async with open_app(runs, size) as (app, pilot):
        app.watch_run(f"0:{FIG9}/{run}")
        await settle(app, pilot)
        await gone(app, pilot, f"{FIG9}/{run}")
        assert f"run {FIG9}/{run} is no longer there" in text_of(app)
        await nothing_acts(app, pilot)
        assert f"run {FIG9}/{run} is no longer there" in text_of(app)
        await pilot.press("1", "enter")
        await settle(app, pilot)


async def test_monitor_keeps_the_run_it_chose_itself(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("2")
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, MonitorScreen)
        first = screen.watched
        assert first is not None
        # A newer run begins: what is shown stays.
        folder = runs / FIG9 / "CE-384/seed-0"
        fill(folder, points=3, total=800, end=0.5, seed=1).close()
        app.poller.rescan()
        await pause_until(pilot, lambda: app.store.runs[f"0:{FIG9}/CE-384/seed-0"].state != "queued")
        assert screen.watched is not None
        assert screen.watched.key == first.key
        await gone(app, pilot, first.id)
        assert screen.watched is None
        await nothing_acts(app, pilot)


async def test_a_run_that_comes_back_is_shown_again(runs: Path, tmp_path: Path) -> None:
    run = f"{FIG9}/V21-384/seed-0"
    shutil.copytree(runs / run, tmp_path / "kept")
    async with open_app(runs) as (app, pilot):
        app.watch_run(f"0:{run}")
        await settle(app, pilot)
        await gone(app, pilot, run)
        shutil.copytree(tmp_path / "kept", runs / run)
        app.poller.rescan()
        await pause_until(pilot, lambda: "V21 n=384 · s0" in text_of(app))


# --- Runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [f"{FIG9}/A-384/seed-1", "mine/A-384/seed-2", "etf-2024/mlp/V21-384/seed-0"])
async def test_no_other_row_is_highlighted_when_one_has_gone(runs: Path, run: str) -> None:
    async with open_app(runs) as (app, pilot):
        await highlight(app, pilot, run)
        await gone(app, pilot, run)
        assert highlighted(app) == ""
        assert f"run {run} is no longer there" in text_of(app)
        assert "▌" not in text_of(app)
        await nothing_acts(app, pilot)
        await pilot.press("j")
        assert highlighted(app) != ""


async def test_a_study_that_has_gone(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await highlight(app, pilot, "etf-2024/mlp")
        await gone(app, pilot, *(f"etf-2024/mlp/{r}" for r in ("A-384/seed-0", "V21-384/seed-0", "V21-384/seed-1")))
        assert "study etf-2024/mlp is no longer there" in text_of(app)
        await nothing_acts(app, pilot)


@pytest.mark.parametrize("words", ["zzz", "loss<0", "state:stalled"])
async def test_a_filter_without_a_match_leaves_nothing_for_keys(runs: Path, words: str) -> None:
    async with open_app(runs) as (app, pilot):
        await highlight(app, pilot, f"{FIG9}/A-384/seed-1")
        await pilot.press("slash", *words, "enter")
        assert highlighted(app) == ""
        assert "no run matches" in text_of(app)
        assert "running  " not in "\n".join(text_of(app).splitlines()[2:])
        await nothing_acts(app, pilot, (*ACTS, "space", "asterisk", "enter", "p"))
        assert not app.store.marked
        # The message first, then the filter.
        await pilot.press("escape", "escape")
        assert highlighted(app) == f"{FIG9}/A-384/seed-1"


async def test_a_run_that_leaves_the_filter_by_itself(runs: Path) -> None:
    run = f"{FIG9}/V21-min/seed-0"
    async with open_app(runs) as (app, pilot):
        await pilot.press("slash", *"state:running", "enter")
        await highlight(app, pilot, run)
        status = read_status(runs / run)
        write_status(runs / run, type(status)(**{**vars_of(status), "state": "finished", "exit_code": 0}))
        app.poller.rescan()
        await pause_until(pilot, lambda: app.store.runs[f"0:{run}"].state == "finished")
        await pilot.pause()
        assert highlighted(app) == ""
        assert f"run {run} is no longer in this list" in text_of(app)
        await nothing_acts(app, pilot)


def vars_of(status: Any) -> dict[str, Any]:
    return {name: getattr(status, name) for name in status.__dataclass_fields__}


async def test_the_cursor_follows_the_run_when_the_order_changes(runs: Path) -> None:
    run = f"{FIG9}/V21-min/seed-0"
    async with open_app(runs, (160, 48)) as (app, pilot):
        while runs_screen(app).order.sort != "loss":
            await pilot.press("full_stop")
        await highlight(app, pilot, run)
        place = runs_screen(app).table.cursor
        status = read_status(runs / run)
        metrics = {**status.metrics, "train/loss": 99.0}
        write_status(runs / run, type(status)(**{**vars_of(status), "metrics": metrics}))
        app.poller.rescan()
        await pause_until(pilot, lambda: app.store.runs[f"0:{run}"].last("train/loss") == 99.0)
        await pilot.pause()
        assert runs_screen(app).table.cursor != place
        assert highlighted(app) == run
        await pilot.press("i")
        assert highlighted(app) == run


async def test_closing_a_study_or_folding_seeds_highlights_what_holds_the_run(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await highlight(app, pilot, "mine/A-384/seed-1")
        await pilot.press("b")
        row = runs_screen(app).table.current
        assert row is not None
        assert (row.kind, row.study) == ("fold", "mine")
        await pilot.press("b")
        assert highlighted(app).startswith("mine/A-384/")
        runs_screen(app).table.go_to_study("mine")
        await pilot.press("left")
        assert highlighted(app) == "mine"


async def test_a_question_is_about_the_run_that_it_names(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await highlight(app, pilot, "mine/A-384/seed-1")
        await pilot.press("D")
        assert "delete mine A shuffled n=384 s1" in text_of(app)
        await gone(app, pilot, "mine/A-384/seed-0")
        runs_screen(app).table.move(1)
        await pilot.press("y")
        await app.workers.wait_for_complete()
        assert not (runs / "mine/A-384/seed-1").exists()
        assert (runs / "mine/A-384/seed-2").is_dir()
        await highlight(app, pilot, "mine/A-384/seed-2")
        await pilot.press("D")
        await gone(app, pilot, "mine/A-384/seed-2")
        before = marks(runs)
        await pilot.press("y")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert {name for name in marks(runs) if ".trash" not in name} == {
            name for name in before if ".trash" not in name
        }


@pytest.mark.parametrize(("key", "text"), [("n", "what I saw"), ("t", "seen")])
async def test_what_is_typed_goes_to_the_run_that_the_prompt_names(runs: Path, key: str, text: str) -> None:
    async with open_app(runs) as (app, pilot):
        await highlight(app, pilot, "mine/A-384/seed-1")
        await pilot.press(key, *text)
        await gone(app, pilot, "mine/A-384/seed-0")
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        (found,) = runs.rglob("notes.json")
        assert found.parent == runs / "mine/A-384/seed-1"
        assert text in json.dumps(json.loads(found.read_text()))


# --- Compare and New run ----------------------------------------------------------------------------------------------


async def test_no_other_row_of_compare_is_highlighted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_comparable(tmp_path / "runs", tmp_path / "fig1a.toml")
    async with open_app(tmp_path / "runs", (160, 48)) as (app, pilot):
        await pilot.press("g", "enter")
        await settle(app, pilot)
        await pilot.press("down")
        screen: Any = app.lsc_screen
        row = screen.table.current
        await gone(app, pilot, *(run.id for run in row.runs))
        await pause_until(pilot, lambda: row.key not in [r.key for r in screen.found.rows])
        assert screen.table.current is None
        assert "is no longer there" in screen.message[0]
        await pilot.press("p", "enter")
        assert app.store.pinned == ""
        assert app.current_mode == "compare_tab"
        await pilot.press("down", "p")
        assert app.store.pinned != ""
        await gone(app, pilot, *(view.id for view in screen.views()))
        await pause_until(pilot, lambda: screen.found is None)


async def test_a_preset_that_has_gone(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = lay_out(tmp_path, monkeypatch)
    async with open_app(runs) as (app, pilot):
        await pilot.press("4")
        screen: Any = app.lsc_screen
        await pause_until(pilot, lambda: screen.preset_list.infos)
        await pilot.press("slash", *"fig9", "enter")
        await pilot.press("escape")
        screen.preset_list.go(next(e.key for e in screen.preset_list.rows if e.info and e.info.stem == "fig9"))
        (shipped / "lsc-2025" / "fig9.toml").unlink()
        screen.reload()
        await pause_until(pilot, lambda: len(screen.preset_list.infos) == 2)
        assert screen.preset_list.current is None
        assert "preset lsc-2025/fig9 is no longer there" in text_of(app)
        await pilot.press("enter", "r")
        assert screen.form is None
        await pilot.press("down")
        assert screen.preset_list.current is not None
