"""The real program in a real terminal: its first frame, and its end when the terminal is gone."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest


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


def _read_until(terminal: int, words: bytes, seen: bytes = b"", seconds: float = 30.0) -> bytes:
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


def _ends(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


@pytest.mark.parametrize("ignore_hangup", [False, True])
def test_the_viewer_ends_with_its_terminal(runs: Path, ignore_hangup: bool) -> None:
    pid, terminal = _start(runs, ignore_hangup=ignore_hangup)
    _read_until(terminal, b"12 runs")
    os.close(terminal)
    assert _ends(pid, 5.0), "the viewer lives on without a terminal"


def test_q_leaves_and_says_that_runs_go_on(runs: Path) -> None:
    pid, terminal = _start(runs)
    _read_until(terminal, b"12 runs")
    os.write(terminal, b"q")
    seen = _read_until(terminal, b"2 runs go on")
    assert b"\x1b[?1049l" in seen
    assert _ends(pid, 5.0)
    os.close(terminal)


def test_first_frame_with_a_hundred_runs(made_runs: Path, tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Startup: first painted frame with 100 runs in 0.8 s on 2 idle cores. The figure is printed; the test
    looks at processor time to all rows, since other work may share the machine."""
    root = tmp_path / "runs"
    for i in range(100):
        shutil.copytree(made_runs / "mine/A-384/seed-0", root / f"study-{i // 10}/A-384/seed-{i % 10}")
    taken, rows, busy = [], [], []
    for _ in range(3):
        started = time.perf_counter()
        pid, terminal = _start(root)
        seen = _read_until(terminal, b"Monitor")
        taken.append(time.perf_counter() - started)
        _read_until(terminal, b"100 runs", seen)
        rows.append(time.perf_counter() - started)
        os.kill(pid, signal.SIGKILL)
        used = os.wait4(pid, 0)[2]
        busy.append(used.ru_utime + used.ru_stime)
        os.close(terminal)
    figure(f"lsc-tui, 100 runs: first frame {min(taken):.2f} s, all rows {min(rows):.2f} s (bar 0.8)")
    assert min(busy) < 2 * 0.8
