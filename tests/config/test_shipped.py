"""Every preset of the papers' folders passes `check`; the small ones stay small, and every setting says whose it is."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import pytest

from lsc_engine.config import StudyPlan, derive, plan_study, shipped_presets
from lsc_engine.config.load import PresetInfo
from lsc_engine.config.schema import RunConfig, flatten

FOLDERS = ("lsc-2025", "vector-systems-2025", "etf-2024", "beyond")
# Rows of the papers; the names of one row that train the same share the first.
ROWS = {
    "lsc-2025": "fig1 helmert table2 fig3 fig4 table3 table4 fig6 fig7 table5 table6 table7 table8 fig9 table9 table10 "
    "sec5.3 sec6.3 sec6.4 sec6.5 sec6.6",
    "vector-systems-2025": "table1 fig1a fig1b fig2a fig2b fig3a fig3b fig4 fig5a fig5b dbsize",
    "etf-2024": "mlp transformer early",
    "beyond": "labels-fast new-class no-table v21pm smallest-n fashion-unique-50k",
}
INFOS = [info for info in shipped_presets() if info.folder in FOLDERS]
MINIS = [info for info in INFOS if info.stem.endswith("-mini") and info.kind == "train"]
TRAINED = [info for info in INFOS if info.kind == "train"]
# Seconds an image takes on one core: a transformer of depth 4 on 4 to 16 patches, an encoder at a quarter of its width
# on 64 pixels, a perceptron at a quarter of its width on 784. Measured, and generous.
TRANSFORMER, ENCODER, PERCEPTRON = 1 / 700, 1 / 2500, 1 / 50_000
LONGEST = 300.0


@cache
def plan(name: str) -> StudyPlan:
    return plan_study(name)


def test_every_row_has_a_preset_at_the_papers_scale_and_a_small_one() -> None:
    there = {info.name for info in INFOS}
    wanted = {f"{folder}/{row}" for folder, rows in ROWS.items() for row in rows.split()}
    assert wanted | {f"{name}-mini" for name in wanted} <= there


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_check_passes(info: PresetInfo) -> None:
    made = plan(info.name)
    assert not made.warnings
    assert info.title
    assert info.source
    assert info.claim
    assert info.kind != "train" or (made.runs and made.preset.reporting.claims)


@pytest.mark.parametrize("info", TRAINED, ids=lambda info: info.name)
def test_verdicts_stand_on_three_seeds_and_one_grid(info: PresetInfo) -> None:
    made = plan(info.name)
    assert made.preset.seeds == (0, 1, 2)
    # Of images a second no rate decides.
    learned = [c for c in made.preset.reporting.claims if not (c.metric or "").startswith("speed/")]
    compared = any(claim.result in ("faster", "better", "similar") for claim in learned)
    rates = {run.config.optimizer.lr for run in made.runs}
    # Without a grid the learning rate itself is what is compared, or the source says it.
    said = made.preset.provenance.get("optimizer.lr", "ours")
    assert not compared or made.tune is not None or len(rates) > 1 or not said.startswith("ours")
    if made.tune is not None:
        assert list(made.tune.grid) == ["optimizer.lr"]
        assert set(made.preset.provenance) >= {"tune", "seeds"}


@pytest.mark.parametrize("info", TRAINED, ids=lambda info: info.name)
def test_every_setting_says_whose_it_is(info: PresetInfo) -> None:
    raw = tomllib.loads(info.path.read_text())
    given: set[str] = set()
    for table in (raw, *raw.get("variants", [])):
        own = {name: table[name] for name in ("data", "model", "target", "optimizer", "train") if name in table}
        given |= {key for key in flatten(own) if not key.startswith("model.args.")}
    assert given <= set(raw["provenance"])


@pytest.mark.parametrize("info", MINIS, ids=lambda info: info.name)
def test_small_presets_train_for_minutes_on_data_at_hand(info: PresetInfo) -> None:
    made = plan(info.name)
    runs = [run.config for run in (*made.runs, *(made.tune.runs if made.tune else ()))]
    assert {run.data.dataset for run in runs} <= {"digits", "fashion-mnist", "spectrum"}
    assert sum(map(seconds, runs)) <= LONGEST


def seconds(config: RunConfig) -> float:
    """A guess at the time of one run, from its steps."""
    derived = derive(config)
    images = derived.total_steps * config.train.batch_size
    size = derived.image_size
    if config.model.name.startswith("timm:"):
        return images * TRANSFORMER * (size / config.model.args["patch_size"]) ** 2 / 4
    if config.model.name == "mlp":
        # Weights against those of the perceptron 5x100 at 28 px; a class layer of many classes outweighs the rest.
        hidden = 400 * config.model.width
        weights = size * size * hidden + 3 * hidden**2
        head = derived.classes * (derived.n or hidden) if config.target.method == "ce" else 0
        return images * PERCEPTRON * (weights + head) / (28 * 28 * 100 + 3 * 100**2)
    return images * ENCODER * max(1.0, (size / 8) ** 2 * (config.model.width / 0.25) ** 2)


def test_small_presets_are_not_for_a_paper_they_do_not_name() -> None:
    for info in INFOS:
        assert "arXiv" in info.source or "papers" in info.source, info.name
        assert Path(info.path).stem == info.stem
