"""Run folders for the viewer's tests."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from idle import parse_once, until_idle
from samples import START, make_study

from tests.processes import popen

# Times of day in pictures are those of one place.
os.environ["TZ"] = "UTC"
time.tzset()


@pytest.fixture(autouse=True)
def _messages_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that ends by itself could be gone before a slow test looks."""
    monkeypatch.setattr("lsc_tui.screens.base.MESSAGE_SECONDS", 3600.0)


@pytest.fixture(autouse=True)
def _shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textual.css.stylesheet.Stylesheet._parse_rules", parse_once)
    for module in ("app", "pilot"):
        monkeypatch.setattr(f"textual.{module}.wait_for_idle", until_idle)


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the viewer starts (verdicts, checks, figures) need not load Python and torch each time."""
    monkeypatch.setattr("subprocess.Popen", popen)


@pytest.fixture(autouse=True)
def _no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are those of a machine without Slurm."""
    monkeypatch.setattr("lsc_engine.runs.folder.slurm.installed", lambda: False)


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies, made once."""
    root = tmp_path_factory.mktemp("made") / "runs"
    make_study(root)
    rows = [("A-384", 0, "finished", 200, 0.3), ("V21-384", 0, "failed", 60, 0.2), ("V21-384", 1, "stopped", 60, 0.2)]
    make_study(root, rows, name="etf-2024/mlp", started=START - 9000)
    make_study(root, [("A-384", s, "finished", 200, 0.3) for s in range(3)], name="mine", started=START - 90_000)
    return root


@pytest.fixture
def runs(made_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them that a test may change, shown as ~/runs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "runs"
    shutil.copytree(made_runs, folder)
    return folder
