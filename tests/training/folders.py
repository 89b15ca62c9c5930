"""Folders of small pictures whose classes differ in colour, presets that train on them, and the command line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer.testing
from PIL import Image

from lsc_engine.cli import build_app
from lsc_engine.common.errors import LscError
from lsc_engine.runs.read.run import Run, open_run

COLOURS = {
    "ant": (250, 10, 10), "bee": (10, 250, 10), "cat": (10, 10, 250), "dog": (240, 240, 10), "eel": (240, 10, 240),
}  # fmt: skip

PRESET = """
[data]
dataset = "folder"
image_size = 66
path = "{path}"
[model]
name = "mlp"
width = 0.125
dim = 8
[target]
{target}
[optimizer]
lr = 1e-3
[train]
duration = "{steps} steps"
batch_size = 8
[eval]
every = "{steps} steps"
[log]
every = "{steps} steps"
{more}
"""
LSC, CE = 'method = "lsc"\nsystem = "V21"', 'method = "ce"'


def colours(folder: Path, *names: str, of: Sequence[str] = (), each: int = 12, seed: int = 0) -> Path:
    """`each` pictures for every class folder of `names`, in the colours of the classes `of` (their own names)."""
    for name, colour in zip(names, of or names, strict=True):
        draw = np.random.default_rng([seed, *colour.encode()])
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            pixels = np.clip(np.array(COLOURS[colour]) + draw.normal(0, 8, (16, 16, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int


def call(root: Path, *words: str | Path, code: int = 0, stdin: str | None = None) -> Outcome:
    """`lsc-engine WORDS` in `root`, in this process; its exit code must be `code`."""
    before = Path.cwd()
    os.chdir(root)
    try:
        data = {"LSC_RUNS": str(root / "runs"), "LSC_DATA": str(root / "data")}
        result = typer.testing.CliRunner().invoke(build_app(), [str(word) for word in words], env=data, input=stdin)
    finally:
        os.chdir(before)
    error = result.exception
    if error is not None and not isinstance(error, LscError | SystemExit):
        raise error
    found = error.exit_code if isinstance(error, LscError) else result.exit_code
    outcome = Outcome(result.stdout, result.stderr + (str(error) if isinstance(error, LscError) else ""), found)
    assert outcome.code == code, outcome
    return outcome


def train(
    root: Path,
    path: str = "pics",
    *words: str,
    steps: int = 80,
    target: str = LSC,
    more: str = "",
    name: str = "s",
    code: int = 0,
) -> Run:
    """The run of a preset on the folder `path` of `root`, trained by the command line."""
    preset(root, path, steps=steps, target=target, more=more)
    call(root, "run", "p.toml", "--name", name, "--device", "cpu", *words, code=code)
    return open_run(root / "runs" / name / "default" / "seed-0")


def preset(root: Path, path: str = "pics", *, steps: int = 80, target: str = LSC, more: str = "") -> Path:
    (root / "p.toml").write_text(PRESET.format(path=path, steps=steps, target=target, more=more))
    return root / "p.toml"


def names_printed(outcome: Outcome) -> list[str]:
    """The class names of printed predictions, in order."""
    return [line.split()[2] for line in outcome.out.splitlines()]


def broken_off(run: Run, step: int) -> Run:
    """A finished run as it was after checkpoint `step`, when its process was stopped."""
    for found in run.checkpoints():
        if found.step > step:
            shutil.rmtree(found.path)
    path = run.path / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "stopped", "exit_code": 143, "step": step}))
    return run
