"""The shell of the viewer: tabs, keys, questions, messages; asserted on state, then on text."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from textual.screen import Screen
from tui_helpers import open_app, settle, text_of

from lsc_engine.runs.folder.status import read_status, write_status
from lsc_tui.keymap import FORBIDDEN, NAMES, Keymap
from lsc_tui.screens.base import LscScreen
from lsc_tui.screens.runs.screen import RunsScreen
from tests.waiting import pause_until


async def test_first_screen_is_runs_with_its_tabs_and_keys(runs: Path) -> None:
    async with open_app(runs) as (app, _):
        assert app.current_mode == "runs"
        lines = text_of(app).splitlines()
        assert len(lines) == 24
        assert lines[0].startswith(" 1 Runs  2 Monitor  3 Compare  4 New run  5 Vectors")
        assert lines[-1].endswith("? help")
        assert max(map(len, lines)) <= 80


async def test_help_and_palette_come_from_the_command_table(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        await pilot.press("question_mark")
        await pilot.pause()
        assert "stop the run" in text_of(app)
        await pilot.press("escape")
        await pilot.press("colon")
        await pilot.press(*"smooth")
        await pilot.pause()
        assert "1 command" in text_of(app)
        screen = app.lsc_screen
        assert isinstance(screen, RunsScreen)
        assert screen.look.smoothing == 0.0
        await pilot.press("enter")
        await pilot.pause()
        assert screen.look.smoothing == 0.6


async def test_a_key_that_cannot_act_says_why(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("g", "down", "R")
        await pilot.pause()
        assert "R: it is finished" in text_of(app).splitlines()[-1]


async def test_a_question_defaults_to_no_and_names_the_run(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("g", "down", "down", "S")
        await pilot.pause()
        last = text_of(app).splitlines()[-1]
        assert last.startswith("stop fig9 A shuffled n=384 s1 on")
        assert "Esc no" in last
        folder = app.lsc_screen.targets()[0].run.path
        await pilot.press("x")
        await pilot.pause()
        assert not (folder / "stop.request").exists()
        await pilot.press("S", "y")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert (folder / "stop.request").exists()


async def test_tiny_windows_say_what_is_needed(runs: Path) -> None:
    async with open_app(runs, size=(38, 10)) as (app, pilot):
        assert text_of(app).splitlines()[0] == "lsc needs 40×12, this is 38×10"
        await pilot.resize_terminal(40, 12)
        await pause_until(pilot, lambda: "STATE" in text_of(app))


async def test_ascii_mode_shows_ascii_only(runs: Path) -> None:
    async with open_app(runs, ascii=True, size=(160, 48)) as (app, pilot):
        assert text_of(app).isascii()
        await pilot.press("question_mark")
        await pilot.pause()
        assert "keys of runs" in text_of(app)
        assert text_of(app).isascii()


async def test_a_text_scrolls_both_ways_and_closes(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("g", "down", "r")
        await app.workers.wait_for_complete()
        await pilot.pause()

        async def scrolled(*keys: str) -> tuple[float, float]:
            await pilot.press(*keys)
            await pilot.pause()
            pages = app.screen.query_one("Pages")
            return pages.scroll_x, pages.scroll_y

        assert await scrolled("down", "j", "up", "k", "down") == (0, 1)
        assert (await scrolled("right"))[0] > 0
        assert await scrolled("left", "home") == (0, 0)
        end = (await scrolled("end"))[1]
        assert 10 < (await scrolled("home", "pagedown"))[1] < end
        assert (await scrolled("x", "G")) == (0, end)
        await pilot.press("q")
        await pilot.pause()
        assert app.screen is app.lsc_screen


async def test_leaving_says_that_runs_go_on(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("q")
        await pilot.pause()
        assert app._exit_renderables == ["2 runs go on"] or "2 runs go on" in str(app._exit_renderables)


def test_every_command_is_done_by_some_screen_and_every_method_is_a_command() -> None:
    import importlib

    from lsc_tui.app import SCREENS

    methods = set(dir(LscScreen))
    for module, name in SCREENS.values():
        methods |= set(dir(getattr(importlib.import_module(module), name)))
    found = {method.removeprefix("action_") for method in methods - set(dir(Screen)) if method.startswith("action_")}
    assert found == {action for action, _ in NAMES}


async def test_the_five_tabs_switch(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        for key, tab in (("2", "monitor"), ("3", "compare_tab"), ("4", "new"), ("5", "vectors"), ("1", "runs")):
            await pilot.press(key)
            await pilot.pause()
            assert app.current_mode == tab
            # New run and Vectors may have a text field in focus, in which a digit is text.
            await pilot.press("escape")


def test_keys_are_unique_and_leave_the_terminal_its_own() -> None:
    keys = [key for keys in Keymap().keys.values() for key in keys]
    assert len(keys) == len(set(keys))
    assert not FORBIDDEN & set(keys)


def test_keys_can_be_changed_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('stop = ["K"]\nquit = "Q"\nnonsense = "x"\nfork = "ctrl+b"\n')
    keymap, fault = Keymap.load(file)
    assert keymap.keys["stop"] == ["K"]
    assert keymap.keys["earlier"] == []
    assert keymap.keys["quit"] == ["Q"]
    assert "nonsense is no command" in fault
    assert "ctrl+b" in fault
    file.write_text("not = [toml")
    assert "not read" in Keymap.load(file)[1]
    assert Keymap.load(tmp_path / "absent.toml")[1] == ""


async def test_palette_finds_by_any_word(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press(":", *"logarithmic y")
        assert "1 command" in text_of(app)
        assert "y: loss logarithmic" in text_of(app)


@pytest.mark.parametrize("module", ["lsc_tui.app", "lsc_tui.__main__", "lsc_tui.screens.runs.screen"])
def test_the_viewer_loads_neither_torch_nor_plotting(module: str) -> None:
    code = (
        f"import {module}, sys; "
        "bad = {'torch', 'timm', 'torchvision', 'sklearn', 'matplotlib', 'pandas'} & set(sys.modules); "
        "sys.exit(f'loaded {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


async def test_the_toml_of_a_run_is_shown_and_closes(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("g", "down", "r")
        await app.workers.wait_for_complete()
        await pilot.pause()
        text = text_of(app)
        assert "lsc-2025/fig9/A-384/seed-0 · preset.toml" in text
        assert "[run]" in text
        await pilot.press("end")
        await pilot.pause()
        assert '"train.batch_size" = ' in text_of(app)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, RunsScreen)


async def test_metrics_and_screen_are_written_as_files(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    async with open_app(runs) as (app, pilot):
        await pilot.press("g", "down", "e", "c", "enter")
        await app.workers.wait_for_complete()
        lines = (tmp_path / "fig9-A-384-seed-0.csv").read_text().splitlines()
        assert lines[0] == "run,step,epoch,time,train/loss,lr,speed/images_per_second,train/accuracy"
        assert len(lines) == 201
        assert lines[1].startswith("lsc-2025/fig9/A-384/seed-0,4,1.0,14.0,")
        for word in ("new", "old"):  # what is there is replaced only after a question
            (tmp_path / "fig9-A-384-seed-0.csv").write_text(word)
            await pilot.press("e", "c", "enter")
            await pause_until(pilot, lambda: "is there already" in text_of(app))
            await pilot.press("y" if word == "new" else "escape")
            await app.workers.wait_for_complete()
        assert (tmp_path / "fig9-A-384-seed-0.csv").read_text() == "old"
        (tmp_path / "elsewhere").mkdir()
        await pilot.press("e", "c", "ctrl+u", *"elsewhere", "enter")
        await app.workers.wait_for_complete()
        assert (tmp_path / "elsewhere/fig9-A-384-seed-0.csv").read_text().splitlines() == lines
        await pilot.press("e", "c", "ctrl+u", *"none/x", "enter")
        assert "none is not there; nothing was written" in text_of(app)
        await pilot.press("escape", "e", "s", "enter")
        await app.workers.wait_for_complete()
        assert "wrote ~/fig9-A-384-seed-0-figures" in text_of(app)
        svg = next(tmp_path.glob("fig9-A-384-seed-0-figures/*train-loss*.svg"))
        assert "train/loss" in svg.read_text()
        svg.write_text("mine")
        await pilot.press("e", "s", "enter")
        await pause_until(pilot, lambda: "is there already" in text_of(app))
        assert svg.read_text() == "mine"
        await pilot.pause()
        await pilot.press("y")
        await app.workers.wait_for_complete()
        assert "train/loss" in svg.read_text()
        await pilot.press("e", "i", "enter")
        await app.workers.wait_for_complete()
        assert (tmp_path / "fig9-A-384-seed-0-screen.svg").read_text().startswith("<svg")


async def test_a_runs_folder_that_is_made_at_the_first_launch(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """./runs is not there before the first launch: no fault. It appears with its runs; its end is reported."""
    monkeypatch.setattr("lsc_tui.data.poller.SCAN_SECONDS", 0.2)
    folder = runs.parent / "later"
    async with open_app(folder, made_later=True) as (app, pilot):
        assert "No runs in ~/later." in text_of(app)
        assert "not there" not in text_of(app)
        shutil.copytree(runs, folder)
        await pause_until(pilot, lambda: len(app.store.runs) == 12)
        await pause_until(pilot, lambda: "12 runs" in text_of(app))
        begun = [view for view in app.store.runs.values() if view.status.step]
        await pause_until(pilot, lambda: all(app.store.runs[view.key].trend for view in begun))
        await settle(app, pilot)
        rows = text_of(app).splitlines()[2:]
        folder.rename(folder.with_name("gone"))
        await pause_until(pilot, lambda: "~/later is not there" in text_of(app))
        app.poller.rescan()
        await settle(app, pilot)
        assert text_of(app).splitlines()[2:] == rows, "the rows and the chart are those that were read last"


async def test_a_long_name_of_a_host_gives_way_to_what_goes_on_there(runs: Path) -> None:
    folder = runs / "lsc-2025/fig9/A-384/seed-1"
    write_status(folder, replace(read_status(folder), state="lost"))
    async with open_app(runs) as (app, pilot):
        for host, shown in (("gpu07", True), ("gpu-node-a100-with-a-long-name", False)):
            app.store.host = host
            app.lsc_screen.redraw_all()
            await pilot.pause()
            line = text_of(app).splitlines()[0]
            assert (host in line) == shown
            assert "?1" in line, "a lost run needs to be seen"


def give_val(folder: Path, value: float) -> None:
    """A run that is evaluated on a validation set."""
    status = read_status(folder)
    write_status(folder, replace(status, metrics={**status.metrics, "val/accuracy": value}))


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_the_column_of_accuracies_is_the_same_for_all_runs(runs: Path, size: tuple[int, int]) -> None:
    fig9 = runs / "lsc-2025/fig9"
    async with open_app(runs, size) as (app, pilot):
        before = [line[:75] for line in text_of(app).splitlines() if "✓" in line or "●" in line]
        assert "TRAIN%" in text_of(app)
        for run, value in (("A-384/seed-0", 0.1234), ("V21-min/seed-0", 0.4321)):
            give_val(fig9 / run, value)
        app.poller.rescan()
        key = "0:lsc-2025/fig9/V21-min/seed-0"
        await pause_until(pilot, lambda: "val/accuracy" in app.store.runs[key].status.metrics)
        await pilot.pause()
        assert [line[:75] for line in text_of(app).splitlines() if "✓" in line or "●" in line] == before
        await pilot.press("m")
        text = text_of(app)
        assert "VAL%" in text
        assert "TRAIN%" not in text
        assert "12.3" in text
        assert "43.2" in text
        assert "92.0" not in "\n".join(text.splitlines()[2:10])
        await pilot.press("slash", *"acc<20", "enter")
        assert {view.id for row in app.lsc_screen.table.rows for view in row.views} == {"lsc-2025/fig9/A-384/seed-0"}  # type: ignore[attr-defined]
    async with open_app(runs, size) as (app, _):
        assert "VAL%" in text_of(app), "kept for the next time"


async def test_path_and_error_of_a_run_go_to_the_clipboard(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        app.watch_run("0:etf-2024/mlp/V21-384/seed-0")
        await settle(app, pilot)
        await pilot.press("Y", "e")
        assert app.clipboard == "CUDA out of memory: 41.2 GB wanted"
        await pilot.press("Y", "p")
        assert app.clipboard == str(runs / "etf-2024/mlp/V21-384/seed-0")


async def test_a_bell_rings_when_a_run_ends(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[int] = []
    monkeypatch.setattr("lsc_tui.app.LscApp.bell", lambda self: rung.append(1))
    async with open_app(runs) as (app, pilot):
        assert not rung
        folder = runs / "lsc-2025/fig9/V21-min/seed-0"
        write_status(folder, replace(read_status(folder), state="finished"))
        app.poller.rescan()
        await pause_until(pilot, lambda: rung)
