"""Fixtures for every test: one torch thread, no colour, no user folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

# Timings and bit-equality hold at one thread; the variable also reaches child processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LSC_RUNS", "LSC_DATA", "LSC_PRESETS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Keeps a measured figure; all of them are printed at the end of the run, from parallel workers too."""
    return lambda text: record_property("figure", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [r for reports in terminalreporter.stats.values() for r in reports if isinstance(r, pytest.TestReport)]
    figures = [value for r in reports if r.when == "call" for name, value in r.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures measured")
        for text in figures:
            terminalreporter.line(str(text))
