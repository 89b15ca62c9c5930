"""The recipes of CONTRIBUTING.md, run as they are printed: each is one new file that is found by itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

RECIPES = Path(__file__).parent.parent / "CONTRIBUTING.md"
PRESET = """
[data]
dataset = "digits"
[model]
name = "mlp"
dim = 12
width = 0.1
[target]
method = "lsc"
system = "A"
loss = "squared-sine"
[train]
duration = "2 steps"
batch_size = 32
"""
# A recipe's folder joins the package, as if its file lay there.
MAIN = """
import sys, {package}
{package}.__path__.append({folder!r})
from lsc_engine.cli import build_app
build_app()(sys.argv[1:])
"""


def recipe(folder: str, to: Path) -> None:
    """Write the file of the recipe for a folder of the source."""
    found = re.search(rf"^```python file={folder}/(\S+)\n(.*?)^```", RECIPES.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, folder
    (to / found[1]).write_text(found[2])


def run(package: str, folder: Path, *words: str) -> str:
    """What the command line prints with the recipe's folder in the package."""
    command = [sys.executable, "-c", MAIN.format(package=package, folder=str(folder)), *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def test_a_loss_is_one_file_and_trains(tmp_path: Path) -> None:
    recipe("lsc_engine/heads/losses", tmp_path)
    preset = tmp_path / "sine.toml"
    preset.write_text(PRESET)
    shown = run("lsc_engine.heads.losses", tmp_path, "run", str(preset), "--runs-dir", str(tmp_path / "runs"))
    assert "step 2 of 2" in shown


def test_a_vector_system_is_one_file_counts_and_trains(tmp_path: Path) -> None:
    recipe("lsc_engine/vectors/families", tmp_path)
    shown = run("lsc_engine.vectors.families", tmp_path, "nmin", "10", "--system", "axes")
    assert re.search(r"^axes +5 +10 ", shown, re.MULTILINE)
    preset = tmp_path / "axes.toml"
    preset.write_text(PRESET.replace('"squared-sine"', '"cosine"').replace('"A"', '"axes"'))
    shown = run("lsc_engine.vectors.families", tmp_path, "run", str(preset), "--runs-dir", str(tmp_path / "runs"))
    assert "step 2 of 2" in shown


def test_a_data_set_is_one_file_and_trains(tmp_path: Path) -> None:
    recipe("lsc_engine/data/datasets", tmp_path)
    preset = tmp_path / "stripes.toml"
    preset.write_text(PRESET.replace('"squared-sine"', '"cosine"').replace('"digits"', '"stripes"'))
    shown = run("lsc_engine.data.datasets", tmp_path, "run", str(preset), "--runs-dir", str(tmp_path / "runs"))
    assert "step 2 of 2" in shown
