"""A study to compare, of a preset with levels of accuracy and of loss; curves are given by formulas, not by chance."""

from __future__ import annotations

from pathlib import Path

from samples import START, fix

from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import plan_study

PRESET = """
title  = "Three systems"
source = "arXiv:2512.07509, Fig. 1a"
claim  = "V21 is fastest"
[data]
dataset = "spectrum"
labels  = "unique"
classes = 5000
[model]
name  = "encoder"
width = 0.25
dim   = 384
[target]
method = "lsc"
system = "A"
[optimizer]
lr = 1e-3
[train]
duration = "100 epochs"
batch_size = 250
[compare]
baseline = "A"
levels   = { "train/accuracy" = [0.5, 0.9], "train/loss" = [0.8, 0.4] }
[provenance]
"data.dataset" = "ours: images that need no download"
[[variants]]
name = "V21"
label = "V21 n=384"
target.system = "V21"
[[variants]]
name = "A"
label = "A n=384"
[[variants]]
name = "V21-min"
label = "V21 n_min"
target.system = "V21"
model.dim = "min"
[[variants]]
name = "CE"
target.method = "ce"
optimizer.lr = 3e-4
"""
# variant: epochs to full accuracy, loss per epoch
SPEEDS = {"A": (100.0, 0.006), "V21": (50.0, 0.012), "V21-min": (80.0, 0.03), "CE": (30.0, 0.02)}
ENDS = {("V21-min", 1): (12, "diverged"), ("CE", 2): (60, "running")}
STUDY = "vs/fig1a"


def make_comparable(root: Path, preset: Path, *, name: str = STUDY, classes: int | None = None) -> None:
    """Four variants with three seeds each; V21-min seed 1 diverged, CE seed 2 still runs."""
    preset.write_text(PRESET)
    plan = plan_study(preset, name=name, seeds=(0, 1, 2), sets=() if classes is None else (f"data.classes={classes}",))
    for number, run in enumerate(plan.runs):
        variant, seed = run.config.variant, run.config.seed
        folder = root / run.id
        create_run(folder, run.config, {"command": ["lsc-engine", "run", "fig1a"]})
        until, state = ENDS.get((variant, seed), (100, "finished"))
        writer = RunWriter.open(folder, device="cuda:0", owner="ada", total_steps=2000, echo=False)
        whole, slope = SPEEDS[variant]
        for epoch in range(1, until + 1):
            pace = 1 + 0.04 * (seed - 1)
            accuracy = min(1.0, (epoch * pace / whole) ** 2)
            writer.metrics(epoch * 20, float(epoch), epoch * 0.25, {
                "train/loss": 1 - min(0.95, slope * epoch * pace), "train/accuracy": accuracy * 0.99,
            })  # fmt: skip
        if state == "running":
            writer.close()
        else:
            writer.finish(state, 0 if state == "finished" else 3)
        fix(folder, state=state, started=START + number, heartbeat=START, pace=1e12, seconds=until * 0.25)
