"""Fixtures for every test: one torch thread, no colour, no user folders."""

from __future__ import annotations

import os
import sys

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
