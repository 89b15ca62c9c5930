"""Tui: what the viewer costs when nothing happens, what it sends, and how it stands many runs and long files.

The bars are measured from outside, on the real program behind a pty of 160 x 48 cells; beside them stands what its
parts take alone: listing runs, looking at them again, reading a long file.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

from lsc_engine.bench import Check, Result, Table
from lsc_engine.common.formatting import grouped
from lsc_engine.runs.metrics.reader import MetricsTail
from lsc_engine.runs.read.run import list_runs, short_ids

from .runs import RunAtWork, long_run, many_runs, new_run
from .terminal import Terminal


def run(*, quick: bool = False, seconds: float = 15.0, runs: int = 1000, lines: int = 1_000_000) -> Result:
    """`seconds` of looking for what is measured over time."""
    if quick:
        seconds, runs, lines = 0.2, 5, 2_000
    full = not quick
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        busy, idle_rate = _idle(root / "idle", seconds, min(100, runs))
        rates = _live(root / "live", seconds)
        keys, early, whole = _many(root / "many", runs, 1 if quick else 10)
        listed, looked = _listing(root / "many" / "runs")
        vectors = _vectors(root / "idle", 1 if quick else 10)
        opened, blocked, after = _long(root / "long", lines, 1 if quick else 5)
        by_columns, by_lines = _reading(root / "long" / "runs")
    rate = max(rates.values())
    checks = [
        Check("idle, processor time", f"{100 * busy:.1f} % of a core", "at most 2 %", busy <= 0.02 if full else None),
        Check(
            "one run at work, busiest screen",
            f"{rate / 1000:.1f} kB/s",
            "at most 15 kB/s",
            rate <= 15e3 if full else None,
        ),
        Check(f"keys with {runs:,} runs", f"{1000 * keys:.0f} ms", "at most 100 ms", keys <= 0.1 if full else None),
        Check(f"file of {lines:,} lines: curves", f"{opened:.2f} s", "at most 1.5 s", opened <= 1.5 if full else None),
        Check("keys while it is read", f"{1000 * blocked:.0f} ms", "at most 100 ms", blocked <= 0.1 if full else None),
    ]
    rows = [
        {"what": f"idle with {min(100, runs)} finished runs, bytes a second", "figure": idle_rate},
        *({"what": f"one run at work, {name}: bytes a second", "figure": figure} for name, figure in rates.items()),
        {"what": f"{runs:,} runs: seconds until all are listed", "figure": whole},
        {"what": f"{runs:,} runs: ms of a key while they are read", "figure": 1000 * early},
        {"what": f"{runs:,} runs: seconds of list_runs with states, last values and tags", "figure": listed},
        {"what": f"{runs:,} ended runs: ms of processor to look at them again, once a second", "figure": 1000 * looked},
        {"what": "Vectors: ms of a key", "figure": 1000 * vectors},
        {"what": f"file of {lines:,} lines: ms of a key once it is read", "figure": 1000 * after},
        {"what": f"file of {lines:,} lines: seconds of one metric, without the viewer", "figure": by_columns},
        {"what": f"file of {lines:,} lines: seconds of the JSON parser on every line", "figure": by_lines},
    ]
    notes = [
        "A key's answer is the first thing that the program writes after it; while much is read, the whole help page. "
        "Medians of several keys."
    ]
    return Result("tui", checks, [Table("Beside the bars", rows)], notes)


def _help_keys(terminal: Terminal, times: int) -> float:
    return statistics.median(terminal.help_page() for _ in range(times))


def _idle(root: Path, seconds: float, runs: int) -> tuple[float, float]:
    """Share of a core and bytes a second while nothing happens."""
    many_runs(root / "runs", root / "one", runs)
    terminal = Terminal.viewer(root / "runs", root)
    try:
        terminal.until(f"{grouped(runs)} runs")
        terminal.read(min(6.0, 10 * seconds))
        busy, sent, began = terminal.cpu(), terminal.sent, time.monotonic()
        terminal.read(seconds)
        passed = time.monotonic() - began
        return (terminal.cpu() - busy) / passed, (terminal.sent - sent) / passed
    finally:
        terminal.close()


def _live(root: Path, seconds: float) -> dict[str, float]:
    """Bytes a second of screens with up to four charts: five log points a second, log and status moving."""
    at_work = RunAtWork(new_run(root / "runs", "live"), 600, 1200, 5)
    at_work.start()
    terminal = Terminal.viewer(root / "runs", root)
    try:
        terminal.until("running")
        rates = {}
        for name, keys in (("Runs", "g\x1b[B"), ("Monitor", "\r"), ("Monitor, four charts", "#"), ("Compare", "1g\r")):
            terminal.keys(keys)
            terminal.read(min(4.0, 10 * seconds))
            sent, began = terminal.sent, time.monotonic()
            terminal.read(seconds)
            rates[name] = (terminal.sent - sent) / (time.monotonic() - began)
        return rates
    finally:
        terminal.close()
        at_work.stop()


def _many(root: Path, runs: int, keys: int) -> tuple[float, float, float]:
    """Seconds of a key's answer among `runs` runs, of one while they are read, and until all are listed."""
    many_runs(root / "runs", root / "one", runs)
    terminal = Terminal.viewer(root / "runs", root)
    try:
        terminal.until("Monitor")
        early = _help_keys(terminal, min(3, keys))
        terminal.until(f"{grouped(runs)} runs", seconds=120)
        whole = time.perf_counter() - terminal.started
        terminal.read(2.0 if runs > 100 else 0.3)
        taken = []
        for key in ("jjjjjjjjGg" * keys)[:keys]:
            taken.append(terminal.answer(key))
            terminal.read(0.2)
        return statistics.median(taken), early, whole
    finally:
        terminal.close()


def _listing(folder: Path) -> tuple[float, float]:
    """Seconds to list all runs of a folder as `lsc-engine list` does, and of processor time to look at them again."""
    from lsc_tui.data.poller import Poller

    began = time.perf_counter()
    runs = list_runs([folder])
    for run in runs:
        status = run.status()
        _ = status.shown_state, run.last(status), run.tags
    short_ids(runs)
    listed = time.perf_counter() - began
    collector = Poller([folder], lambda: None, hardware=False)
    collector.round()
    taken = []
    for _ in range(5):
        busy = time.process_time()
        collector.round()
        taken.append(time.process_time() - busy)
    return listed, statistics.median(taken)


def _vectors(root: Path, keys: int) -> float:
    """Seconds of a key's answer among the vector systems."""
    terminal = Terminal.viewer(root / "runs", root)
    try:
        terminal.until("Monitor")
        terminal.keys("5")
        terminal.until("n_min")
        terminal.read(0.5)
        taken = []
        for key in itertools.islice(itertools.cycle("jjjjkk"), keys):
            taken.append(terminal.answer(key))
            terminal.read(0.2)
        return statistics.median(taken)
    finally:
        terminal.close()


def _long(root: Path, lines: int, keys: int) -> tuple[float, float, float]:
    """Seconds until the curve of a long file stands in Monitor, of a key's answer meanwhile, and afterwards."""
    long_run(root / "runs", lines)
    terminal = Terminal.viewer(root / "runs", root)
    try:
        terminal.until("1 run")
        terminal.keys("g\x1b[B")
        terminal.read(0.05)
        terminal.keys("\r")
        # The end of the epochs' axis: the curve over the whole training.
        opened = terminal.until("epoch 60.0")
        blocked = _help_keys(terminal, keys)
        terminal.read(lines / 1e5)
        return opened, blocked, _help_keys(terminal, keys)
    finally:
        terminal.close()


def _reading(folder: Path) -> tuple[float, float]:
    """Seconds to read one metric of the one run of a folder, and to parse its lines one by one."""
    (run,) = list_runs([folder])
    path = run.path / "metrics.jsonl"
    began = time.perf_counter()
    tail = MetricsTail(path)
    tail.poll()
    tail.table.series("train/loss")
    by_columns = time.perf_counter() - began
    began = time.perf_counter()
    with path.open("rb") as file:
        for line in file:
            json.loads(line)
    return by_columns, time.perf_counter() - began
