"""Runs whose layers are fixed as they go on: the mark in the charts, a chart of all layers, the event in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tui_helpers import open_app, settle, text_of

from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.runs.metrics.reader import FIXED, layers_fixed
from lsc_engine.studies.plan import plan_study
from lsc_tui.screens.monitor.panels import families
from tests import processes

PRESET = """
data.dataset = "digits"
model = { name = "mlp", args = { layers = 3, class_layer = true }, etf_layers = "adaptive" }
target.method = "ce"
train = { duration = "10 epochs", batch_size = 64 }
"""
SAID = "step 115: layers 2 to 3 are fixed to a simplex ETF from here on: layer 2 has told classes apart"


@pytest.fixture
def adaptive(tmp_path: Path) -> Path:
    """A runs folder with a run of 10 epochs that fixed two layers at epoch 5 and the first at epoch 8."""
    file = tmp_path / "adaptive.toml"
    file.write_text(PRESET)
    plan = plan_study(file).runs[0]
    root = tmp_path / "runs"
    folder = create_run(root / plan.id, plan.config, {"command": ["lsc-engine", "run", "adaptive"]})
    with RunWriter.open(folder, device="cpu", total_steps=230, echo=False) as writer:
        for epoch in range(1, 11):
            values = {"train/loss": 1 / epoch, "train/accuracy": 1 - 1 / (epoch + 2)}
            values |= {f"train/ncc_{layer}": 1 - 1 / (epoch + layer) for layer in (1, 2, 3)}
            values[FIXED] = 0.0 if epoch < 5 else 2.0 if epoch < 8 else 3.0
            if epoch == 5:
                writer.message(SAID)
            writer.metrics(23 * epoch, float(epoch), 2.0 * epoch, values)
        writer.finish("finished", 0, "")
    return root


async def test_fixed_layers_are_marked_in_the_charts(adaptive: Path) -> None:
    key = "0:adaptive/default/seed-0"
    async with open_app(adaptive, size=(160, 48)) as (app, pilot):
        app.watch_run(key)
        await settle(app, pilot)
        curves = app.store.curves[key]
        assert [(step, epoch) for step, epoch, _ in curves.fixed] == [(115.0, 5.0), (184.0, 8.0)]
        axis = next(line for line in text_of(app).splitlines() if "└0" in line)
        loss_axis = axis.partition("└")[2].partition("└")[0]
        assert loss_axis.count("|") == 2
        text = text_of(app)
        assert "| layers fixed in the charts" in text
        assert "mlp, ETF adaptive canonical" in text
        assert "layers 2 to 3 are fixed" in text
        for _ in range(6):
            if "train/ncc 1…3 %" in text_of(app):
                break
            await pilot.press("m")
            await settle(app, pilot)
        assert "train/ncc 1…3 %" in text_of(app)


def test_a_chart_holds_all_layers() -> None:
    names = ("train/ncc_10", "train/ncc_1", "train/ncc_2", "train/loss", "val/ncc_1")
    assert families(names)[2:] == [("train/ncc_1", "train/ncc_2", "train/ncc_10"), ("val/ncc_1",)]


def test_show_plot_marks_them_too(adaptive: Path) -> None:
    shown = processes.call("show", "adaptive", "--plot", "--runs-dir", adaptive, env={"COLUMNS": "80"})
    assert shown.returncode == 0, shown.stderr
    axis = next(line for line in shown.stdout.splitlines() if "└" in line)
    assert axis.count("|") == 2


def test_only_rises_count() -> None:
    assert layers_fixed(np.array([0.0, 2.0, 2.0, np.nan, 2.0, 3.0])).tolist() == [1, 5]
    assert layers_fixed(np.array([1.0, 1.0])).tolist() == [0]
    assert layers_fixed(np.empty(0)).tolist() == []
