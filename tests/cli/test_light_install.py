"""A light installation: training commands end with one sentence before anything is created."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# torch cannot be found, as where it is not installed.
START = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else find(name, *more)
sys.modules["torch"] = None
from lsc_engine.cli import main
main()
"""


@pytest.mark.parametrize("words", [("run", "demo", "--runs-dir", "runs"), ("check", "demo")])
def test_what_needs_torch_ends_with_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", START, *words], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("torch is not installed; ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
