"""The real program in a real terminal: its end when the terminal is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.waiting import LIMIT, wait_until


def _start(runs: Path, *, ignore_hangup: bool = False) -> tuple[int, int]:
    """The viewer in a terminal of 80 x 24; process id and terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        if ignore_hangup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.environ.update(TERM="xterm-256color", XDG_CONFIG_HOME=str(runs.parent / "config"))
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        os.execv(sys.executable, [sys.executable, "-m", "lsc_tui", "--runs-dir", str(runs)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    return pid, terminal


def _read_until(terminal: int, words: bytes, seen: bytes = b"", seconds: float = LIMIT) -> bytes:
    """What the terminal was sent until the words are in it."""
    deadline = time.monotonic() + seconds
    while words not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                break
    assert words in seen, seen[-2000:]
    return seen


def _end_of(pid: int) -> None:
    """Wait until the process has ended; it is ended in any case."""
    try:
        wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], "the end of the viewer")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


@pytest.mark.parametrize("ignore_hangup", [False, True])
def test_the_viewer_ends_with_its_terminal(runs: Path, ignore_hangup: bool) -> None:
    pid, terminal = _start(runs, ignore_hangup=ignore_hangup)
    _read_until(terminal, b"12 runs")
    os.close(terminal)
    _end_of(pid)


def test_q_leaves_and_says_that_runs_go_on(runs: Path) -> None:
    pid, terminal = _start(runs)
    _read_until(terminal, b"12 runs")
    os.write(terminal, b"q")
    seen = _read_until(terminal, b"2 runs go on")
    assert b"\x1b[?1049l" in seen
    _end_of(pid)
    os.close(terminal)


def test_the_log_is_read_in_the_pager_and_the_toml_copied_to_the_editor(runs: Path) -> None:
    program = runs.parent / "program"
    program.write_text('#!/bin/sh\nprintf "%s reads %s, " "$1" "$(basename "$2")"\necho changed >> "$2"\nsleep 0.2\n')
    program.chmod(0o755)
    log = runs / "etf-2024/mlp/V21-384/seed-0/log.txt"
    preset = log.parent / "preset.toml"
    before = preset.read_bytes()
    os.environ.update(PAGER=f"{program} pager", EDITOR=f"{program} editor")
    os.environ.pop("VISUAL", None)
    pid, terminal = _start(runs)
    _read_until(terminal, b"12 runs")
    os.write(terminal, b"/mlp/V21-384/seed-0\rj")
    for key, words in ((b"l", b"pager reads log.txt"), (b"T", b"editor reads preset.toml")):
        os.write(terminal, b"E")
        seen = _read_until(terminal, b"or a copy in")
        while words not in seen:  # a key typed before the question was seen is no answer
            os.write(terminal, key)
            with contextlib.suppress(AssertionError):
                seen = _read_until(terminal, words, seconds=1)
    os.write(terminal, b"q")
    _end_of(pid)
    os.close(terminal)
    assert log.read_text().endswith("changed\n"), "the file itself"
    assert preset.read_bytes() == before, "a copy"
