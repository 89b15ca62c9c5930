"""Tui: what the viewer costs when nothing happens, what it sends, and how it stands many runs and long files.

Everything is measured from outside, on the real program behind a pty of 160 x 48 cells.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from lsc_engine.bench import Check, Result, Table

from .runs import RunAtWork, long_run, many_runs, new_run
from .terminal import Terminal


def run(*, quick: bool = False, seconds: float = 15.0, runs: int = 1000, lines: int = 1_000_000) -> Result:
    """`seconds` of looking for what is measured over time."""
    if quick:
        seconds, runs, lines = 0.2, 5, 2_000
    told = not quick
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        busy, idle_rate = _idle(root / "idle", seconds, min(100, runs))
        rate = _live(root / "live", seconds)
        keys, whole = _many(root / "many", runs, 1 if quick else 10)
        opened, blocked = _long(root / "long", lines, 1 if quick else 5)
    checks = [
        Check("idle, processor time", f"{100 * busy:.1f} % of a core", "at most 2 %", busy <= 0.02 if told else None),
        Check("Monitor, one run at work", f"{rate / 1000:.1f} kB/s", "at most 15 kB/s", rate <= 15e3 if told else None),
        Check(f"keys with {runs:,} runs", f"{1000 * keys:.0f} ms", "at most 100 ms", keys <= 0.1 if told else None),
        Check(f"file of {lines:,} lines: curves", f"{opened:.2f} s", "at most 1.5 s", opened <= 1.5 if told else None),
        Check("keys while it is read", f"{1000 * blocked:.0f} ms", "at most 100 ms", blocked <= 0.1 if told else None),
    ]
    rows = [
        {"what": f"idle with {min(100, runs)} finished runs, bytes a second", "figure": idle_rate},
        {"what": f"{runs:,} runs: seconds until all are listed", "figure": whole},
    ]
    notes = ["A key's answer is the first thing that the program writes after it, a median of several keys."]
    return Result("tui", checks, [Table("Beside the bars", rows)], notes)


def _help_keys(terminal: Terminal, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        taken.append(terminal.answer("?"))
        terminal.read(0.1)
        terminal.keys("\x1b")
        terminal.read(0.2)
    return taken


def _idle(root: Path, seconds: float, runs: int) -> tuple[float, float]:
    """Share of a core and bytes a second while nothing happens."""
    many_runs(root / "runs", root / "one", runs)
    terminal = Terminal.viewer(root / "runs", root)
    try:
        terminal.until(f"{runs} runs")
        terminal.read(min(6.0, 10 * seconds))
        busy, sent, began = terminal.cpu(), terminal.sent, time.monotonic()
        terminal.read(seconds)
        passed = time.monotonic() - began
        return (terminal.cpu() - busy) / passed, (terminal.sent - sent) / passed
    finally:
        terminal.close()


def _live(root: Path, seconds: float) -> float:
    """Bytes a second of Monitor with four charts, five log points a second, log and status moving."""
    at_work = RunAtWork(new_run(root / "runs", "live"), 600, 1200, 5)
    at_work.start()
    terminal = Terminal.viewer(root / "runs", root)
    try:
        terminal.until("running")
        terminal.keys("g\x1b[B")
        terminal.keys("\r")
        terminal.until("m next")
        terminal.keys("m")
        terminal.read(min(4.0, 10 * seconds))
        sent, began = terminal.sent, time.monotonic()
        terminal.read(seconds)
        return (terminal.sent - sent) / (time.monotonic() - began)
    finally:
        terminal.close()
        at_work.stop()


def _many(root: Path, runs: int, keys: int) -> tuple[float, float]:
    """Seconds of a key's answer among `runs` runs, and until all are listed."""
    many_runs(root / "runs", root / "one", runs)
    terminal = Terminal.viewer(root / "runs", root)
    try:
        terminal.until(f"{runs} runs", 120)
        whole = time.perf_counter() - terminal.started
        terminal.read(2.0 if runs > 100 else 0.3)
        taken = []
        for key in ("jjjjjjjjGg" * keys)[:keys]:
            taken.append(terminal.answer(key))
            terminal.read(0.2)
        return statistics.median(taken), whole
    finally:
        terminal.close()


def _long(root: Path, lines: int, keys: int) -> tuple[float, float]:
    """Seconds until the curve of a long file stands in Monitor, and of a key's answer meanwhile."""
    long_run(root / "runs", lines)
    terminal = Terminal.viewer(root / "runs", root)
    try:
        terminal.until("1 run")
        terminal.keys("g\x1b[B")
        terminal.read(0.05)
        terminal.keys("\r")
        # The end of the epochs' axis: the curve over the whole training.
        opened = terminal.until("epoch 60.0")
        return opened, statistics.median(_help_keys(terminal, keys))
    finally:
        terminal.close()
