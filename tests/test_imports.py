"""What is really loaded: viewers, the command line at start, and every torch-free package, in a fresh process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

HEAVY = ("torch", "timm", "torchvision", "sklearn", "matplotlib", "scipy")
PROBES = {
    "cli": "import lsc_engine.cli; lsc_engine.cli.build_app()",
    "config": "from lsc_engine.config import load_preset, plan_study, derive; plan_study('demo')",
    "runs": "from lsc_engine.runs import open_run, list_runs, RunWriter; from lsc_engine.runs import compare",
    "charts": "import lsc_engine.charts",
    "n_min": "from lsc_engine.vectors import n_min; assert n_min('V21', classes=1000) == 14",
    "tui": "import lsc_tui.app, lsc_tui.__main__",
}


@pytest.mark.parametrize("what", PROBES)
def test_nothing_heavy_is_loaded(what: str) -> None:
    code = f"{PROBES[what]}\nimport sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_help_is_quick(figure: Callable[[str], None]) -> None:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "lsc_engine", "--help"], check=True, capture_output=True, timeout=60)
        took.append(time.perf_counter() - began)
    figure(f"lsc-engine --help: {min(took):.2f} s (best of 5; bar 0.35 s on two idle cores)")
    # Twice the bar: a suite that runs in parallel on a busy machine measures the machine too.
    assert min(took) < 0.7
