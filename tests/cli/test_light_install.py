"""A light installation: what looks at runs works; the rest ends with one sentence before anything is created."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The packages that are left out cannot be found.
START = """
import importlib.util, sys
from lsc_engine.common.errors import FULL
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in FULL else find(name, *more)
sys.modules.update(dict.fromkeys(FULL))
from lsc_engine.cli import main
main()
"""
RUN, RUNS = "demo/A-384/seed-0", ("--runs-dir", "runs")
LOOKING = (
    ("list", *RUNS), ("show", RUN, "--plot", *RUNS), ("nmin", "1000"), ("compare", "demo", *RUNS), ("log", RUN, *RUNS),
    ("report", "--check", str(ROOT / "docs/results/beyond")), ("doctor", *RUNS),
    ("export", RUN, "--to", "csv", "--out", "x.csv", *RUNS),
)  # fmt: skip
REST = (
    ("run", "demo", "--runs-dir", "new"), ("check", "demo"), ("evaluate", RUN, *RUNS), ("resume", RUN, *RUNS),
    ("report", "demo", *RUNS), ("export", RUN, "--to", "svg", *RUNS),
)  # fmt: skip


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A folder with the runs that `lsc-tui --demo` shows."""
    with tarfile.open(ROOT / "lsc_tui/demo_runs.tar.xz") as file:
        file.extractall(tmp_path / "demo", filter="data")
    return tmp_path / "demo"


def outcome(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


def assert_lacks_a_package(folder: Path, words: tuple[str, ...], *start: str | Path) -> None:
    before = sorted(folder.rglob("*"))
    done = outcome(folder, *start, *words)
    assert (done.returncode, done.stdout) == (2, ""), words
    package = "matplotlib" if words[0] in ("report", "export") else "torch"
    assert done.stderr.startswith(f"lsc-engine {words[0]} needs {package}, "), done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("words", REST, ids=lambda words: words[0])
def test_what_needs_a_package_ends_with_one_sentence(demo: Path, words: tuple[str, ...]) -> None:
    assert_lacks_a_package(demo, words, sys.executable, "-c", START)


def test_verdicts_are_checked_without_matplotlib(tmp_path: Path) -> None:
    done = outcome(tmp_path, sys.executable, "-c", START, "report", "--check", ROOT / "docs/results/beyond")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_fresh_environment_without_torch_looks_at_runs(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of docs/ecosystem.md, in an environment of its own."""
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)  # pip itself warns
    section = (ROOT / "docs/ecosystem.md").read_text().split("## Light install")[1]
    lines = re.findall(r"^pip (install .*)$", section, re.M)
    assert len(lines) == 2
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    place = tmp_path / "env/bin"
    for line in lines:
        done = outcome(ROOT, place / "pip", *line.split())
        if done.returncode and re.search("No matching distribution|Could not find a version", done.stderr):
            pytest.skip(f"the packages cannot be installed here: {done.stderr[-200:]}")
        assert done.returncode == 0, done.stderr
    assert outcome(demo, place / "python", "-c", "import torch").returncode == 1
    for words in (("lsc-tui", "--demo", "--once"), *(("lsc-engine", *words) for words in LOOKING)):
        done = outcome(demo, place / words[0], *words[1:])
        # doctor ends with 1 where something is missing, here torch.
        assert (done.returncode, done.stderr) == (int("doctor" in words), ""), words
        assert done.stdout, words
    for words in REST:
        assert_lacks_a_package(demo, words, place / "lsc-engine")
