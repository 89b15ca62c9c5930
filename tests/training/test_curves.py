"""Stored loss curves of small runs: a change in numerics is noticed, whatever it comes from.

Where torch and the processor are those of the stored curve, the curve must be equal to the last bit, at one thread;
elsewhere kernels round differently, and the curve must be near. LSC_WRITE_CURVES=1 stores the curves of this machine.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest
import torch

from lsc_engine.config.load import shipped_presets
from lsc_engine.data.dataset import data_set
from lsc_engine.runs.folder.writer import create_run
from lsc_engine.runs.read.run import open_run
from lsc_engine.runs.settings import differences, settings_of
from lsc_engine.studies.plan import RunPlan, plan_study
from lsc_engine.training.execute import execute
from lsc_engine.training.job import Job
from lsc_engine.training.signals import Signals
from tests.tiny import tiny

CURVES = Path(__file__).with_name("curves")
SHORT = (
    'train.duration="8 steps"', 'log.every="1 steps"', "eval.images=256", 'checkpoint.every="1000 steps"',
)  # fmt: skip
SHORT_MINI = ('train.duration="4 steps"', 'log.every="1 steps"', "eval.images=64", 'checkpoint.every="1000 steps"')
SHORT_TOO = {
    "etf-2024/transformer-mini": ('optimizer.warmup="2 steps"',),
    "lsc-2025/fig6-mini": ('optimizer.schedule="steps"', 'optimizer.milestones=["2 steps"]'),
}
SMALL = tiny({"train.duration": "8 steps"})
# Name -> what differs from SMALL; the variants of the shipped demo are taken as they are.
OWN: dict[str, tuple[str, ...]] = {
    "light1-cosine-warmup": ('data.augment="light1"', 'optimizer.schedule="cosine"', 'optimizer.warmup="3 steps"'),
    "distance-native": ('target.system="A"', "model.dim=40", 'target.loss="distance"', 'target.radius="native"'),
    "both-losses": ('target.loss="cosine+distance"', "target.radius=2.0"),
    "planar": ('target.system="planar"', 'target.loss="distance"'),
    "simplex-sequential": ('target.system="simplex"', 'target.order="sequential"'),
    "sgd-steps": (
        'optimizer.name="sgd"', 'optimizer.schedule="steps"', 'optimizer.milestones=["4 steps"]', "optimizer.lr=0.05",
    ),
    "mlp": ('model.name="mlp"', "model.width=0.25"),
    "by-class": ('data.labels="class"', "data.classes=10"),
}  # fmt: skip
DEMO = ("A-384", "V21-384", "V21-min", "CE-384")
# The images are those of the fonts that a machine has.
FONTS = ("glyphs-mini",)
# The small presets of the papers: the first and the last variant that stand on no other run.
MINIS = tuple(
    info.name
    for info in shipped_presets()
    if info.stem.endswith("-mini") and info.kind == "train" and info.stem not in FONTS
)
# Of presets with variants that cannot be so short, or take long to begin.
SOME = {"beyond/init-mini": ("init", "CE"), "beyond/init-20k-mini": ("CE-n_min",)}
RELATIVE = 0.02


def machine() -> dict[str, Any]:
    """What decides how sums are rounded."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": names[0] if names else platform.processor(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
    }


def curve(
    root: Path, preset: str, sets: tuple[str, ...], variant: str | None
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """The series of a run, and its settings."""
    plan = plan_study(preset, name="t", sets=sets, variants=(variant,) if variant else ())
    return trained(root, plan.runs[0])


def trained(root: Path, plan: RunPlan) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Train one run as planned."""
    config = plan.config
    folder = create_run(root / "runs" / plan.id, config, {})
    with Signals() as signals:
        state = execute(Job(folder, root / "runs"), config, device=torch.device("cpu"), signals=signals, echo=False)
    assert state == "finished", open_run(folder).log_path.read_text()
    run = open_run(folder)
    names = ("train/loss", "train/accuracy", "train/loss_eval", "val/loss")
    series = {name: run.history(name)[1].tolist() for name in names if name in run.metric_names()}
    return series, json.loads(json.dumps(settings_of(config.to_table())))


@pytest.mark.parametrize("name", [*(f"demo-{variant}" for variant in DEMO), *OWN])
def test_the_curve_is_the_stored_one(tmp_path: Path, name: str) -> None:
    stored = CURVES / f"{name}.json"
    if name.startswith("demo-"):
        found, settings = curve(tmp_path, "demo", SHORT, name.removeprefix("demo-"))
    else:
        preset = tmp_path / "t.toml"
        preset.write_text(SMALL)
        found, settings = curve(tmp_path, str(preset), (*SHORT, *OWN[name]), None)
    assert len(found["train/loss"]) == 8
    same_as_stored(stored, found, settings)


@pytest.mark.parametrize("name", MINIS)
def test_the_curves_of_a_small_preset_are_the_stored_ones(tmp_path: Path, name: str) -> None:
    sets = (*SHORT_MINI, *SHORT_TOO.get(name, ()))
    plan = plan_study(name, name="t", sets=sets, seeds=(0,), variants=SOME.get(name, ()))
    if plan.runs[0].config.data.dataset == "fashion-mnist" and data_set("fashion-mnist").locate() is None:
        pytest.skip("Fashion-MNIST is not on this machine")
    alone = [run for run in plan.runs if not run.needs]
    for run in alone[:1] + alone[1:][-1:]:
        found, settings = trained(tmp_path, run)
        assert len(found["train/loss"]) == 4
        same_as_stored(CURVES / name / f"{run.config.label}.json", found, settings)


def same_as_stored(stored: Path, found: dict[str, list[float]], settings: dict[str, Any]) -> None:
    """Compare with the stored curve, or store it if LSC_WRITE_CURVES is set."""
    assert found["train/loss"][-1] != found["train/loss"][0]
    if os.environ.get("LSC_WRITE_CURVES"):
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_text(json.dumps({"machine": machine(), "settings": settings, "curve": found}, indent=1) + "\n")
    known = json.loads(stored.read_text())
    changed = differences(known["settings"], settings)
    assert not changed, f"the preset has changed ({changed}): store its curve anew with LSC_WRITE_CURVES=1"
    if known["machine"] == machine():
        assert found == known["curve"], "numerics have changed"
        return
    # Stored on another machine or by another torch: sums are rounded otherwise.
    assert found.keys() == known["curve"].keys()
    assert found["train/loss"] == pytest.approx(known["curve"]["train/loss"], rel=RELATIVE)


def test_a_small_change_of_numerics_is_noticed(tmp_path: Path) -> None:
    """The comparison has teeth: one part in a million of the rate shows."""
    known = json.loads((CURVES / "mlp.json").read_text())
    preset = tmp_path / "t.toml"
    preset.write_text(SMALL)
    other, _ = curve(tmp_path, str(preset), (*SHORT, *OWN["mlp"], "optimizer.lr=0.003000003"), None)
    same, _ = curve(tmp_path / "same", str(preset), (*SHORT, *OWN["mlp"]), None)
    assert other["train/loss"] != same["train/loss"]
    if known["machine"] == machine():
        assert same == known["curve"]
