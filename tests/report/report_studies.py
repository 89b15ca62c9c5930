"""Studies to report on: one whose curves are given by formulas, and one that is really trained."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from typer.testing import CliRunner

from lsc_engine.cli import build_app
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import StudyPlan, plan_study
from lsc_engine.studies.prepare import write_study
from tests import processes

PRESET = """
title = "n_min against n = 48"
source = "arXiv:2510.04090, Fig. 9"
claim = "n_min is faster"
seeds = [0, 1, 2]
[data]
dataset = "digits"
labels = "unique"
[model]
name = "mlp"
dim = 48
width = 0.1
[target]
method = "lsc"
system = "A"
[train]
duration = "10 epochs"
[compare]
baseline = "n=48"
levels = { "train/accuracy" = [0.5, 0.9], "train/loss" = [0.6] }
[provenance]
"model.dim" = "paper"
"optimizer.lr" = "inferred: from the text"
[paper]
values = { "n=48" = "87.1", n_min = "91.4|" }
note = "Encoder."
[[claims]]
text = "n_min is faster"
variant = "n_min"
is = "faster"
[[claims]]
text = "both end alike"
variant = "n_min"
is = "similar"
margin = 0.05
[[claims]]
text = "CE is better"
variant = "ce"
is = "better"
[[claims]]
text = "CE fails"
variant = "ce"
is = "fails"
threshold = 0.4
[[variants]]
name = "n=48"
[[variants]]
name = "n_min"
label = "n min"
model.dim = "min"
[[variants]]
name = "ce"
target.method = "ce"
model.dim = 48
"""
# Variant: epochs to full accuracy.
SPEEDS = {"n=48": 10.0, "n_min": 5.0, "ce": 8.0}
# Images a second where they are not 1000.
PACES = {"ce": 100.0}
Curve = Callable[[str, int, float], tuple[float, float]]


def curve(variant: str, seed: int, epoch: float) -> tuple[float, float]:
    """Accuracy and loss at an epoch: a square, and a line."""
    share = min(1.0, epoch * (1 + 0.02 * seed) / SPEEDS[variant])
    return share**2, (7.4 if variant == "ce" else 1.0) * (1 - 0.9 * share)


def stuck(variant: str, seed: int, epoch: float) -> tuple[float, float]:
    """As `curve`, with CE at ln 1797."""
    return (1 / 1797, 7.494) if variant == "ce" else curve(variant, seed, epoch)


def make_study(
    root: Path, text: str = PRESET, *, name: str = "paper/fig9", curve: Curve = curve,
    ends: Mapping[tuple[str, int], str] | None = None, leave_out: tuple[tuple[str, int], ...] = (),
    at_end: Callable[[str, int], dict[str, float]] = lambda variant, seed: {},
) -> StudyPlan:  # fmt: skip
    """The runs of a preset, with curves in place of training. `ends`: other states than finished; `at_end`: metrics
    of a variant and seed after its last epoch."""
    file = root.parent / "fig9.toml"
    file.write_text(text)
    plan = plan_study(file, name=name)
    write_study(root, name, plan.to_toml())
    for run in plan.runs:
        variant, seed = run.config.variant, run.config.seed
        if (variant, seed) in leave_out:
            continue
        folder = create_run(root / run.id, run.config, {"versions": {"torch": "2"}, "code": {"commit": "c0ffee"}})
        state = (ends or {}).get((variant, seed), "finished")
        with RunWriter.open(folder, device="cpu", total_steps=70, echo=False) as writer:
            for epoch in range(1, 11 if state == "finished" else 4):
                accuracy, loss = curve(variant, seed, epoch)
                values = {
                    "train/accuracy": accuracy,
                    "train/loss": loss,
                    "speed/images_per_second": PACES.get(variant, 1000.0),
                }
                writer.metrics(epoch * 7, float(epoch), epoch * 0.5, values)
            if more := at_end(variant, seed):
                writer.metrics(70, 10.0, 5.0, more)
            if state != "running":
                writer.finish(state, 0 if state == "finished" else 3, "")
    return plan


TRAINED = """
title = "class means"
seeds = [0, 1]
[data]
dataset = "digits"
[model]
name = "mlp"
dim = 3
width = 0.1
[target]
method = "lsc"
system = "A"
[optimizer]
lr = 1e-2
[train]
duration = "3 epochs"
batch_size = 64
[compare]
baseline = "ce"
levels = { "train/accuracy" = [0.3] }
[tune]
"optimizer.lr" = [1e-3, 1e-2]
duration = "1 epochs"
[[variants]]
name = "ce"
target.method = "ce"
[[variants]]
name = "means"
needs = "ce"
target.system = "embeddings:@ce"
target.order = "sequential"
[[variants]]
name = "A"
"""


def lsc(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return processes.call(*words, env=environment)


def call(*words: str | Path) -> str:
    """What a command prints on stdout, in this process; its error, if any, is raised."""
    done = CliRunner().invoke(build_app(), [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout
