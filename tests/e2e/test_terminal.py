"""The whole loop in a real terminal: choose a preset, launch it, see its curve move, lose the terminal, come back and
stop the run with a checkpoint."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from terminal import Terminal

from lsc_engine.runs.folder.process import is_alive
from lsc_engine.runs.read.run import Run, list_runs
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

# Modes in which a terminal reports its mouse.
MOUSE = re.compile(rb"\x1b\[\?(9|100[0-36]|1015|1016)h")
PRESET = """
title = "Small and long"
claim = "it goes on"
[data]
dataset = "digits"
labels = "unique"
[model]
name = "mlp"
dim = 24
[target]
method = "lsc"
system = "V21"
[train]
duration = "2000 epochs"
batch_size = 599
[log]
every = "3 steps"
[eval]
every = "100 epochs"
images = 100
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one preset of the user's own."""
    presets = tmp_path / "presets"
    presets.mkdir()
    (presets / "small-and-long.toml").write_text(PRESET)
    monkeypatch.setenv("LSC_PRESETS", str(presets))
    return tmp_path


@pytest.fixture
def started() -> Iterator[list[Run]]:
    """Runs that a test started; whatever happens, none of them outlives it."""
    runs: list[Run] = []
    yield runs
    for run in runs:
        who = run.status().identity
        if who is not None and is_alive(who):
            with suppress(ProcessLookupError):
                os.kill(who.pid, signal.SIGKILL)


def only_run(folder: Path) -> Run:
    """The one run of the folder, once it is at work."""

    def at_work() -> Run | None:
        runs = list_runs([folder])
        return runs[0] if runs and runs[0].status().shown_state == "running" and runs[0].status().step > 0 else None

    found: Run = wait_until(at_work, lambda: f"a run at work: {[(r.id, r.status()) for r in list_runs([folder])]}")
    return found


def launch(terminal: Terminal) -> None:
    """From Runs over New run to a launched run of the user's preset."""
    terminal.keys("4")
    terminal.until("digits-unique")
    terminal.keys("/small-and-long\r")
    terminal.until("1 of ")
    terminal.keys("\r")
    terminal.until("V21")
    terminal.keys("L")
    agree(terminal, "Esc no")


def agree(terminal: Terminal, question: str) -> None:
    """Type y at a question; what is typed before it can have been read is no answer."""
    terminal.until(question)
    while question in terminal.screen.text:
        terminal.keys("y")
        terminal.read(0.5)


def curve(text: str) -> str:
    """The braille of a screen: its charts."""
    return "".join(c for c in text if "⠁" <= c <= "⣿")


def test_a_run_launched_in_a_terminal_outlives_it_and_is_stopped_from_another(home: Path, started: list[Run]) -> None:
    runs = home / "runs"
    runs.mkdir()
    first = Terminal.viewer(runs, home, fresh=True)
    try:
        first.until("No runs in")
        assert MOUSE.search(first.raw) is None, "the mouse belongs to the terminal, which selects text with it"
        launch(first)
        run = only_run(runs)
        started.append(run)
        first.until(lambda text: "● running" in text and "1 Runs" in text)
        first.keys("g\x1b[B\r")
        first.until(lambda text: "img/s" in text and len(curve(text)) > 5)
        before = curve(first.screen.text)
        first.until(lambda text: curve(text) != before)
        viewer = first.pid
        first.hang_up()
        assert not Path(f"/proc/{viewer}").exists()
    finally:
        first.close()
    step = run.status().step
    wait_until(lambda: run.status().step > step, "a step after the end of the terminal")
    assert run.status().shown_state == "running"
    assert viewers_on(runs) == []

    second = Terminal.viewer(runs, home)
    try:
        second.until("● running")
        second.keys("g\x1b[BS")
        agree(second, "y stop")
        second.until("■ stopped")
        second.keys("q")
        wait_until(lambda: second.read(0.05) == 0 and not second.alive, "the end of the viewer after q")
    finally:
        second.close()
    status = run.status()
    assert (status.state, status.exit_code) == ("stopped", 143)
    (*_, last) = run.checkpoints()
    assert last.problem is None
    assert last.step == status.step
    who = status.identity
    wait_until(lambda: who is None or not is_alive(who), "the end of the run's process")


def viewers_on(folder: Path) -> list[int]:
    """Processes of the viewer on a runs folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes()
            if b"lsc_tui" in line and str(folder).encode() in line.split(b"\0"):
                found.append(int(path.parent.name))
    return found


def test_a_run_left_by_the_command_line_is_found_and_its_curve_moves(home: Path, started: list[Run]) -> None:
    runs = home / "runs"
    argv = [sys.executable, "-m", "lsc_engine", "run", "small-and-long", "--detach", "--device", "cpu"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HOME": str(home)}
    subprocess.run([*argv, "--runs-dir", str(runs)], check=True, env=env, timeout=240, capture_output=True)
    run = only_run(runs)
    started.append(run)
    viewer = Terminal.viewer(runs, home, size=(160, 48))
    try:
        viewer.until("● running")
        viewer.keys("g\x1b[B\r")
        viewer.until(lambda text: bool(re.search(r"step [\d ]+ of", text)))
        before = curve(viewer.screen.text)
        viewer.until(lambda text: curve(text) != before)
        assert "\x1b[31m" not in viewer.screen.text
    finally:
        viewer.close()
