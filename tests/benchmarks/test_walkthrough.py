"""The whole job in one terminal session at each size: empty folder, training, comparison, note, figure, report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_whole_job_is_done_by_keys_and_recorded(tmp_path: Path) -> None:
    argv = [sys.executable, str(HERE / "benchmarks/walkthrough.py"), "--out", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "walkthrough-80x24.cast",
        "walkthrough-160x48.cast",
        "walkthrough.md",
    }
    page = (tmp_path / "walkthrough.md").read_text()
    for words in ("6 runs: 6 done", "wrote ~/walkthrough.svg", "noted on walkthrough A n=384 s0", "## Verdict"):
        assert words in page
