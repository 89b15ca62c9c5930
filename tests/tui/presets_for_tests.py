"""Presets for the tests of New run, so that the pictures do not change with those that ship."""

from __future__ import annotations

from pathlib import Path

import pytest

TINY = """\
title  = "Digits, two systems, in seconds"
source = "arXiv:2510.04090, Fig. 9"
claim  = "n_min learns as fast as n = 24"

[data]
dataset = "digits"
labels  = "unique"
classes = 120

[model]
name  = "mlp"
width = 0.25

[target]
method = "lsc"
system = "V21"

[optimizer]
lr = 1e-3

[train]
duration   = "3 epochs"
batch_size = 32

[compare]
baseline = "wide"

[provenance]
"data.labels"      = "inferred: every image its own class"
"target.loss"      = "paper"
"optimizer.lr"     = "ours: not stated"
"train.batch_size" = "ours: not stated"

[[variants]]
name  = "wide"
label = "V21 n=24"
model.dim = 24

[[variants]]
name  = "least"
label = "V21 n_min"
model.dim = "min"
"""
FIG9 = """\
title  = "Encoder, 300 000 classes"
source = "arXiv:2510.04090, Fig. 9"
claim  = "n_min faster than n=384, 300k"
seeds  = [0, 1, 2]
data = { dataset = "imagenet", labels = "unique", classes = 300_000, image_size = 32 }
model = { name = "encoder" }
target = { method = "lsc", system = "A-interp" }
train = { duration = "200 epochs" }
provenance = { "data.classes" = "paper", "train.duration" = "ours: not stated" }

[[variants]]
name = "n_min"

[[variants]]
name = "n=384"
model.dim = 384
"""
FIG2A = FIG9.replace("2510.04090, Fig. 9", "2512.07509, Fig. 2a").replace("A-interp", "V21").replace(
    "n_min faster than n=384, 300k", "V21 ahead of A, 300k classes")  # fmt: skip


def lay_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped presets below `root`, one's own presets and the data folder beside it."""
    shipped = root / "shipped"
    for name, text in {"tiny": TINY, "lsc-2025/fig9": FIG9, "vector-systems-2025/fig2a": FIG2A}.items():
        path = shipped / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr("lsc_engine.config.load.shipped_folder", lambda: shipped)
    monkeypatch.setattr("lsc_tui.screens.new_run.screen.survives", lambda: ("yes", ""))
    monkeypatch.setenv("LSC_PRESETS", str(root / "presets"))
    monkeypatch.setenv("LSC_DATA", str(root / "data"))
    return shipped
