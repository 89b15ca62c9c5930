"""Startup: the command line's help, and the first frame of the viewer with 100 runs; neither loads torch.

Measured as they start once installed: their modules compiled, which the first round, not counted, sees to.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from lsc_engine.bench import Check, Result, Table
from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import grouped
from lsc_engine.runs.folder.process import python_command

from .runs import many_runs
from .terminal import Terminal

HEAVY = ("torch", "timm", "torchvision", "sklearn", "matplotlib")
LOADS = {
    "lsc-engine": "import lsc_engine.cli; lsc_engine.cli.build_app()",
    "lsc-tui": "import lsc_tui.__main__, lsc_tui.app",
}


def run(*, quick: bool = False, rounds: int = 7, runs: int = 100) -> Result:
    """`runs`: in the folder that the viewer opens."""
    if quick:
        rounds, runs = 1, 3
    helped, bare = [], []
    _seconds(python_command("-m", "lsc_engine", "--help"))
    for _ in range(rounds):
        helped.append(_seconds(python_command("-m", "lsc_engine", "--help")))
        bare.append(_seconds(python_command("-c", "pass")))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        many_runs(root / "runs", root / "one", runs)
        frames = [_first_frame(root, runs) for _ in range(rounds + 1)][1:]
    first, whole = (statistics.median(column) for column in zip(*frames, strict=True))
    loaded = [module for code in LOADS.values() for module in _loaded(code)]
    helping = statistics.median(helped)
    checks = [
        Check("lsc-engine --help", f"{helping:.2f} s", "at most 0.35 s", None if quick else helping <= 0.35),
        Check(f"lsc-tui, first frame, {runs} runs", f"{first:.2f} s", "at most 0.8 s", None if quick else first <= 0.8),
        Check("torch loaded by either", ", ".join(loaded) or "no", "no", not loaded),
    ]
    rows = [
        {"what": "python -c pass", "seconds": statistics.median(bare)},
        {"what": "lsc-engine --help", "seconds": helping},
        {"what": f"lsc-tui, {runs} runs: first frame", "seconds": first},
        {"what": f"lsc-tui, {runs} runs: all rows", "seconds": whole},
    ]
    return Result("startup", checks, [Table(f"Median of {rounds}", rows)])


def _seconds(argv: list[str]) -> float:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True, timeout=60, env=env)
    return time.perf_counter() - began


def _first_frame(root: Path, runs: int) -> tuple[float, float]:
    terminal = Terminal.viewer(root / "runs", root)
    try:
        terminal.until("Monitor")
        first = time.perf_counter() - terminal.started
        terminal.until(f"{grouped(runs)} runs")
        return first, time.perf_counter() - terminal.started
    finally:
        terminal.close()


def _loaded(code: str) -> list[str]:
    probe = f"{code}\nimport sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(python_command("-c", probe), capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise LscError(f"the probe ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.split()
