"""Every preset of the papers' folders passes `check`; the small ones stay small, and every setting says whose it is."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from lsc_engine.common.settings import flatten
from lsc_engine.config.derived import derive
from lsc_engine.config.load import PresetInfo, shipped_presets
from lsc_engine.config.schema import RunConfig, acts
from lsc_engine.data.datasets.glyphs import find_fonts
from lsc_engine.studies.plan import StudyPlan, plan_study

FOLDERS = ("lsc-2025", "vector-systems-2025", "etf-2024", "beyond")
# Rows of the papers; the names of one row that train the same share the first.
ROWS = {
    "lsc-2025": "fig1 helmert table2 fig3 fig4 table3 table4 fig6 fig7 table5 table6 table7 table8 fig9 table9 table10 "
    "sec5.3 sec6.3 sec6.4 sec6.5 sec6.6",
    "vector-systems-2025": "table1 fig1a fig1b fig2a fig2b fig3a fig3b fig4 fig5a fig5b dbsize",
    "etf-2024": "mlp transformer early",
    "beyond": "labels-fast new-class no-table v21pm smallest-n fashion-unique-50k codes init random",
}
INFOS = [info for info in shipped_presets() if info.folder in FOLDERS]
MINIS = [info for info in INFOS if info.stem.endswith("-mini") and info.kind == "train"]
TRAINED = [info for info in INFOS if info.kind == "train"]
EVERY = list(shipped_presets())
LARGE = [info for info in TRAINED if re.search(r"image_size +?= 224", info.path.read_text())]
# The settings that decide what is trained.
ACTING = ("data", "model", "target", "optimizer", "train")
# Variants of two presets that are one experiment, and the settings in which they differ.
SHARED = [
    ("lsc-2025/fig3/ce", "lsc-2025/table4/ce", set()),
    ("lsc-2025/table8/enc-300k", "lsc-2025/fig9/300k-n=384", set()),
    ("lsc-2025/table8/enc-1281k", "lsc-2025/fig9/1281k-n=384", set()),
    ("lsc-2025/table8/enc-300k", "lsc-2025/sec5.3/lr=1e-5", set()),
    ("lsc-2025/table7/CE+aug", "lsc-2025/sec6.5/teacher", set()),
    ("lsc-2025/table7/A-shuffled", "lsc-2025/sec6.6/random", {"data.augment_per"}),
    ("lsc-2025/table5/9-cosine", "lsc-2025/sec6.4/none", {"target.order"}),
    ("lsc-2025/table5/9-cosine", "lsc-2025/helmert/A-9", {"target.order"}),
    ("lsc-2025/fig6/10", "lsc-2025/fig7/nine", {"data.classes"}),
    ("vector-systems-2025/fig1a/V21", "vector-systems-2025/fig1b/V21", {"target.loss", "target.radius"}),
    ("vector-systems-2025/fig2a/V21", "vector-systems-2025/fig2b/V21", {"data.classes"}),
    ("vector-systems-2025/fig3b/V21", "vector-systems-2025/fig5a/n_min", set()),
    ("etf-2024/mlp/baseline", "etf-2024/early/baseline", set()),
    ("etf-2024/mlp/etf-3", "etf-2024/mlp-steps/etf-3",
     {"optimizer.schedule", "optimizer.milestones", "optimizer.gamma"}),
]  # fmt: skip
# Seconds an image takes on one core: a transformer of depth 4 on 4 to 16 patches, an encoder at a quarter of its width
# on 64 pixels, a perceptron at a quarter of its width on 784. Measured, and generous.
TRANSFORMER, ENCODER, PERCEPTRON = 1 / 700, 1 / 7000, 1 / 50_000
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
    assert not made.preset.warnings
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
    assert {run.data.dataset for run in runs} <= {"digits", "fashion-mnist", "spectrum", "glyphs"}
    if any(run.data.dataset == "glyphs" for run in runs) and len(find_fonts().order) < 1000:
        pytest.skip("the fonts of this machine draw fewer than 1 000 characters")
    # A title that names minutes may take longer.
    minutes = re.search(r"about (\d+) minutes", info.title)
    assert sum(map(seconds, runs)) <= (60.0 * 1.2 * int(minutes[1]) if minutes else LONGEST)


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


# Where a mark says the words or the setting stand.
PLACE = re.compile(r"(Sec|Tab|Fig|Figs)\. ?\d|Table \d|abstract|summary|captions? of Fig")
# Settings that decide nothing where they have these values, and how a step is computed.
DECIDES_NOTHING = {"target.bottleneck": ("none",), "model.width": (1.0,), "model.args": ({},)}
HOW = ("train.precision", "train.compile", "start_from")


@pytest.mark.parametrize("info", EVERY, ids=lambda info: info.name)
def test_every_claim_says_whose_it_is(info: PresetInfo) -> None:
    raw = tomllib.loads(info.path.read_text())
    claims = [raw["provenance"].get("claim"), *(claim.get("source") for claim in raw.get("claims", []))]
    assert all(claims), "a claim without a mark"
    for mark in [*claims, *raw["provenance"].values()]:
        assert not mark.startswith("paper") or PLACE.search(mark), f"{mark}: where does the paper say so?"
        # Beyond the papers' own folders a section alone does not name the paper.
        assert info.folder in FOLDERS[:3] or not mark.startswith("paper") or "arXiv:" in mark, mark


@pytest.mark.parametrize("info", [info for info in EVERY if info.kind == "train"], ids=lambda info: info.name)
def test_no_setting_that_acts_is_without_a_mark(info: PresetInfo) -> None:
    made = plan(info.name)
    tables = [variant.settings.flat() for variant in made.preset.variants]
    for key in sorted({key for table in tables for key in table if key.split(".")[0] in ACTING} - set(HOW)):
        values = [table[key] for table in tables if key in table]
        if not any(acts(key, table.get) for table in tables):
            continue
        if all(value in DECIDES_NOTHING.get(key, ()) for value in values):
            continue
        parents = {key.rsplit(".", number)[0] for number in range(key.count(".") + 1)}
        assert parents & made.preset.provenance.keys(), f"{key} = {values[0]} has no mark"


@pytest.mark.parametrize(("one", "other", "apart"), SHARED, ids=lambda value: value if isinstance(value, str) else "")
def test_runs_of_the_same_experiment_have_the_same_settings(one: str, other: str, apart: set[str]) -> None:
    tables = []
    for name in (one, other):
        preset, variant = name.rsplit("/", 1)
        table = plan(preset).preset.variant(variant).settings.flat()
        tables.append({key: value for key, value in table.items() if key.split(".")[0] in ACTING})
    differing = {key for key in tables[0].keys() | tables[1].keys() if tables[0].get(key) != tables[1].get(key)}
    assert differing == apart


@pytest.mark.parametrize("info", LARGE, ids=lambda info: info.name)
def test_full_presets_at_224_pixels_fit_the_papers_card(info: PresetInfo) -> None:
    from lsc_engine.heads.model_sizes import model_sizes

    seen = set()
    for run in plan(info.name).runs:
        config = run.config
        key = (config.model.name, config.data.image_size, config.train.batch_size, config.target.method)
        if key not in seen:
            seen.add(key)
            size = model_sizes(config, channels=3, size=config.data.image_size or 32, dim=384, classes=1000)
            assert size["memory_bytes"] < 40e9, f"{run.id}: {size['memory_bytes'] / 1e9:.0f} GB"


def test_small_presets_are_not_for_a_paper_they_do_not_name() -> None:
    for info in INFOS:
        assert "arXiv" in info.source or "papers" in info.source, info.name
        assert Path(info.path).stem == info.stem
