"""The recipes of CONTRIBUTING.md, run as they are printed: each is one new file that is found by itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import plan_study

pytestmark = pytest.mark.slow

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

SCREEN = """
import asyncio, sys
from pathlib import Path
import lsc_tui.screens
lsc_tui.screens.__path__.append(sys.argv[1])
sys.path += [sys.argv[3], f"{sys.argv[3]}/tests/tui"]
from samples import make_study
from tui_helpers import open_app, text_of

async def main():
    make_study(Path(sys.argv[2]))
    async with open_app(Path(sys.argv[2])) as (app, pilot):
        print(text_of(app))
        await pilot.press("6")
        await pilot.pause()
        print(text_of(app))
        await pilot.press("question_mark")
        await pilot.pause()
        print(text_of(app))
        await pilot.press("escape", "1")
        await pilot.pause()
        assert app.current_mode == "runs"

asyncio.run(main())
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


def test_a_backbone_is_one_file_and_trains(tmp_path: Path) -> None:
    recipe("lsc_engine/models/backbones", tmp_path)
    preset = tmp_path / "linear.toml"
    preset.write_text(PRESET.replace('"squared-sine"', '"cosine"').replace('"mlp"', '"linear"'))
    words = "run", str(preset), "--set", "model.args.bias=false", "--runs-dir", str(tmp_path / "runs")
    assert "step 2 of 2" in run("lsc_engine.models.backbones", tmp_path, *words)


def test_a_screen_is_one_file_and_opens(tmp_path: Path) -> None:
    recipe("lsc_tui/screens", tmp_path)
    command = [sys.executable, "-c", SCREEN, str(tmp_path), str(tmp_path / "runs"), str(RECIPES.parent)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 Hosts" in done.stdout.splitlines()[0]
    assert re.search(r"gpu07  \d+ runs", done.stdout)
    assert "the machines, and how many runs each has" in done.stdout


def test_a_command_is_one_file_with_options_help_and_json(tmp_path: Path) -> None:
    recipe("lsc_engine/cli/commands", tmp_path)
    package, runs = "lsc_engine.cli.commands", tmp_path / "runs"
    preset = tmp_path / "p.toml"
    preset.write_text(PRESET.replace('"squared-sine"', '"cosine"'))
    planned = plan_study(str(preset), seeds=(0, 1, 2)).runs
    for one, state in zip(planned, ("stopped", "finished", "finished"), strict=True):
        folder = create_run(runs / one.id, one.config, {})
        with RunWriter.open(folder, device="cpu", total_steps=2, echo=False) as writer:
            writer.finish(state, 0)
    assert re.search(r"^ *states +Number of runs in each state", run(package, tmp_path, "--help"), re.MULTILINE)
    shown = run(package, tmp_path, "states", "--runs-dir", str(runs))
    assert shown.split() == ["finished", "2", "stopped", "1"]
    assert json.loads(run(package, tmp_path, "states", "--runs-dir", str(runs), "--json"))["finished"] == 2
