"""Fixtures for the tests of reports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from report_studies import TRAINED, lsc

from lsc_engine.report import figures


@pytest.fixture
def svg_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports draw each figure once: drawing is what their tests take longest for."""
    monkeypatch.setattr(figures, "ENDINGS", (".svg",))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a study of three variants and two seeds, trained after tries."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "means.toml").write_text(TRAINED)
    done = lsc("run", str(folder / "means.toml"), "--runs-dir", str(folder / "runs"))
    assert done.returncode == 0, done.stderr
    return folder / "runs"
