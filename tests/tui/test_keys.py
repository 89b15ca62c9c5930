"""The user's own keys: the example of docs/terminal.md works, `--keys` prints a file to read, faults are named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tui_helpers import open_app, text_of

from lsc_tui.keymap import Keymap

DOCS = Path(__file__).parents[2] / "docs/terminal.md"


def test_the_example_of_the_readme_is_a_keymap(tmp_path: Path) -> None:
    (example,) = re.findall(r"keys\.toml.*?```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    path = tmp_path / "keys.toml"
    path.write_text(example)
    keymap, fault = Keymap.load(path)
    assert fault == ""
    assert {name: keys for name, keys in keymap.keys.items() if keys != Keymap().keys[name]} == {
        "quit": ["Q"],
        "hold": [],
        "stop": ["S", "f8"],
        "smooth": ["~"],
    }


def test_printed_keys_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "lsc" / "keys.toml"
    path.parent.mkdir()
    path.write_text('quit = "Q"\n')
    env = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-m", "lsc_tui", "--keys"], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(path) in done.stdout.splitlines()[0]
    path.write_text(done.stdout)
    keymap, fault = Keymap.load(path)
    assert fault == ""
    # Whose key another command got has none.
    assert keymap.keys == Keymap().keys | {"quit": ["Q"], "hold": []}


def test_every_key_survives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(Keymap().as_toml())
    assert Keymap.load(path)[0].keys == Keymap().keys


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('quit = "Z"\nstop = "Z"', "stop: Z is quit's already"),
        ('stop = "ctrl+s"', "stop: ctrl+s belongs to the terminal"),
        ('stpo = "S"', 'stpo is no command, did you mean "stop"'),
        ("stop = 3", "stop needs a key"),
        ("stop = ", "not read"),
    ],
)
def test_mistakes_are_told_and_the_rest_holds(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    keymap, fault = Keymap.load(path)
    assert words in fault
    assert keymap.keys["stop"] == ["S"]


async def test_changed_keys_act_and_stand_in_the_footer(runs: Path) -> None:
    config = runs.parent / "config"
    config.mkdir()
    (config / "keys.toml").write_text('filter = "&"\n')
    async with open_app(runs, config=config) as (app, pilot):
        assert "& filter" in text_of(app)
        await pilot.press("/")
        assert app.lsc_screen.focused is None
        await pilot.press("ampersand")
        assert app.lsc_screen.focused is not None


async def test_a_key_taken_by_another_command_leaves_its_twin(runs: Path) -> None:
    config = runs.parent / "config"
    config.mkdir()
    (config / "keys.toml").write_text('stop = "j"\nquit = "Q"\nsort_left = ";"\n')
    async with open_app(runs, config=config) as (app, pilot):
        table = app.lsc_screen.table  # type: ignore[attr-defined]
        before = table.cursor
        await pilot.press("j", "escape", "q", "S", "comma")
        assert (table.cursor, app.is_running, table.order.sort) == (before, True, "started")
        await pilot.press("down")
        assert table.cursor == before + 1
        await pilot.press("semicolon")
        assert table.order.sort == "where"
        await pilot.press("Q")
        await pilot.pause()
        assert app._exit


async def test_help_is_wrapped_again_for_a_resized_window_and_gives_a_shared_reason_once(runs: Path) -> None:
    async with open_app(runs, (160, 48)) as (app, pilot):
        await pilot.press("g", "down", "down", "down", "down", "down", "down")
        app.watch_run("0:lsc-2025/fig9/CE-384/seed-0")
        await pilot.pause()
        reason = app.lsc_screen.why_not("smooth")
        assert reason
        await pilot.press("question_mark")
        await pilot.pause()
        assert 0 < text_of(app).count(reason) <= 2, "not at every key of charts"
        for width in (80, 100, 160):
            await pilot.resize_terminal(width, 48)
            await pilot.pause()
            await pilot.pause()
            lines = text_of(app).splitlines()
            assert {len(line) for line in lines} == {width}
            assert ("chart cursor" in lines[1]) == (width == 160), "two columns where there is room"
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen is app.lsc_screen


async def test_help_over_a_prompt_lists_what_acts_there(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        await pilot.press("n", "f1")
        await pilot.pause()
        assert "F1" in text_of(app)
        assert "write a note" not in text_of(app)
        await pilot.press("escape", "x", "f5")
        # A function key of another screen drops nothing.
        assert app.lsc_screen.field is not None
        assert app.lsc_screen.field.value == "x"


async def test_the_mouse_chooses_tabs_rows_and_places_in_charts(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        table = app.lsc_screen.table  # type: ignore[attr-defined]
        await pilot.click("#table", offset=(20, 3))
        assert table.cursor == 2
        assert app.lsc_screen.look.cursor is None  # type: ignore[attr-defined]
        await pilot.click("#loss", offset=(40, 2))
        assert app.lsc_screen.look.cursor is not None  # type: ignore[attr-defined]
        await pilot.press("n")
        await pilot.click("#table", offset=(20, 5))
        assert table.cursor == 2, "nothing behind an open field is chosen"
        await pilot.press("escape")
        await pilot.click("#tabs", offset=(12, 0))
        assert app.current_mode == "monitor"
        assert app.store.watched == table.current.key, "Monitor shows the highlighted run"
        await pilot.press("1", "down", "2")
        assert app.store.watched == table.rows[3].key


def test_the_key_file_turns_the_mouse_on(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text('mouse = true\nquit = "Q"\n')
    keymap, fault = Keymap.load(path)
    assert (keymap.mouse, keymap.keys["quit"], fault) == (True, ["Q"], "")
    assert not Keymap.load(tmp_path / "none.toml")[0].mouse


async def test_textuals_own_keys_do_nothing(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        before = text_of(app)
        await pilot.press("ctrl+q", "ctrl+backslash")
        await pilot.pause()
        assert app.is_running
        assert app.return_code is None
        assert len(app.screen_stack) == 1 or app.screen is app.lsc_screen
        assert text_of(app) == before


def test_a_key_file_with_a_byte_order_mark_and_one_of_another_encoding(tmp_path: Path) -> None:
    """As Notepad and PowerShell save them."""
    path = tmp_path / "keys.toml"
    path.write_text('quit = "Q"\n', encoding="utf-8-sig")
    keymap, fault = Keymap.load(path)
    assert fault == ""
    assert keymap.keys["quit"] == ["Q"]
    path.write_text('quit = "Q"\n', encoding="utf-16")
    keymap, fault = Keymap.load(path)
    assert fault == "keys.toml is UTF-16 text; save it as UTF-8"
    assert keymap.keys == Keymap().keys
    # A home that is no folder has no key file.
    assert Keymap.load(Path("/dev/null/lsc/keys.toml"))[1] == ""
