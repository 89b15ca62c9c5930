"""The section on layers: what fixed layers save, when they were fixed, and what each layer can tell apart."""

from __future__ import annotations

import re

import pytest

from lsc_engine.report.report import PAGE, write_report
from lsc_engine.report.study_data import collect
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.runs.metrics.reader import FIXED
from lsc_engine.runs.read.studies import find_study
from lsc_engine.studies.plan import plan_study
from lsc_engine.studies.prepare import write_study

PRESET = """
title = "layers"
seeds = [0, 1]
[data]
dataset = "digits"
[model]
name = "mlp"
width = 0.1
args = { layers = 3, class_layer = true }
[target]
method = "ce"
[optimizer]
name = "sgd"
[train]
duration = "10 epochs"
[eval]
ncc = true
[[variants]]
name = "baseline"
[[variants]]
name = "two"
label = "last two"
model.etf_layers = 2
model.etf_frame = "random"
[[variants]]
name = "adaptive"
model.etf_layers = "adaptive"
"""
# 64 pixels, 40 wide, batch norm, 10 classes.
WHOLE, TWO = 64 * 40 + 40 + 80 + 1600 + 40 + 80 + 410, 64 * 40 + 40 + 80 + 40 + 80 + 10


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of three variants, of which one fixed its last two layers at epoch 4, and at 6 in the second seed."""
    tmp_path = tmp_path_factory.mktemp("layers")
    file = tmp_path / "layers.toml"
    file.write_text(PRESET)
    plan = plan_study(file)
    root = tmp_path / "runs"
    for run in plan.runs:
        folder = create_run(root / run.id, run.config, {})
        variant, seed = run.config.variant, run.config.seed
        with RunWriter.open(folder, device="cpu", total_steps=50, echo=False) as writer:
            for epoch in range(1, 11):
                values = {"train/loss": 1 / epoch, "train/accuracy": 1 - 0.5 / epoch}
                values |= {f"train/ncc_{i}": 0.3 * i + 0.01 * seed for i in (1, 2, 3)}
                values |= {f"val/ncc_{i}": 0.2 * i for i in (1, 2, 3)} | {
                    "train/effective_depth": 3.0,
                    "train/nc1": 2.0,
                }
                late = epoch >= 4 + 2 * seed
                if variant == "adaptive":
                    values |= {FIXED: 2.0 * late, "model/parameters": TWO if late else WHOLE}
                elif variant == "two":
                    values["model/parameters"] = TWO
                writer.metrics(5 * epoch, float(epoch), float(epoch), values)
            writer.finish("finished", 0)
    write_study(root, "layers", plan.to_toml())
    made = write_report(find_study("layers", [root]), tmp_path / "out")
    names = {path.name for path in made.files}
    assert {"ncc-baseline.svg", "ncc-two.svg", "ncc-adaptive.png"} <= names
    assert collect(find_study("layers", [root])).missing == []
    return (tmp_path / "out" / PAGE).read_text()


def rows(page: str, first: str) -> list[list[str]]:
    found = re.search(r"^## Layers$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found
    lines = [line for line in found[1].splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines]


def test_the_report_shows_what_is_saved_and_when(page: str) -> None:
    saved = {name: rows(page, name)[0] for name in ("baseline", "last two", "adaptive")}
    assert saved["baseline"] == ["-", "-", f"{WHOLE:,}".replace(",", " "), "-", f"{WHOLE * 4 / 1000:.3g} kB"]
    change = f"{100 * (TWO / WHOLE - 1):+.1f} %"
    assert saved["last two"] == ["2, random", "-", f"{TWO:,}".replace(",", " "), change, f"{TWO * 4 / 1000:.3g} kB"]
    assert saved["adaptive"][:2] == ["adaptive, canonical", "layers at epoch: 2 at 4; 2 at 6"]
    assert saved["adaptive"][3] == change


def test_the_report_shows_the_accuracy_of_each_layer(page: str) -> None:
    _, train, val, collapse = rows(page, "baseline")
    assert train == ["30.5 ± 0.7", "60.5 ± 0.7", "90.5 ± 0.7"]
    assert val == ["20.0 ± 0.0", "40.0 ± 0.0", "60.0 ± 0.0"]
    assert collapse == ["3 ± 0", "2 ± 0", "-", "-", "-"]
    assert "upright: layers were fixed" in page
