"""The section of a report on layers: which were fixed and when, what that saves, and how far each tells classes apart.

Nearest-class-centre accuracies and neural collapse are those of training/neural_collapse.py (arXiv:2412.00884).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lsc_engine.analysis.compare import Row
from lsc_engine.analysis.levels import place_text
from lsc_engine.analysis.seed_curves import as_series, over_seeds
from lsc_engine.common.formatting import NOTHING, grouped, size
from lsc_engine.report.figures import PLACES, Figure, curve_document, file_word
from lsc_engine.report.markdown import md, plain, table
from lsc_engine.report.sections.results import spread
from lsc_engine.report.study_data import StudyData
from lsc_engine.runs.metrics.columns import FIXED, layers_fixed
from lsc_engine.runs.read.run import Run

_LAYER = re.compile(r"(train|val)/ncc_(\d+)")
_COLLAPSE = ("train/effective_depth", "train/nc1", "train/nc2", "train/nc3", "train/nc4")
_COLLAPSE_NOTE = (
    "Effective depth: the first layer with at most 10 % of training images nearer another class's centre, else the "
    "number of layers. NC1 to NC4 of the last layer: 0 is collapse."
)
_PARAMETERS = "model/parameters"


def layer_tables(data: StudyData, sizes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Tables of what is fixed and what it saves, of accuracies by layer, and of collapse; none without such runs."""
    parts = [_savings(data, sizes)]
    for split, words in (("train", "training"), ("val", "validation")):
        count = max((_layers(row, split) for row in data.rows), default=0)
        names = [f"{split}/ncc_{layer}" for layer in range(1, count + 1)]
        rows = [
            [md(row.label), *(spread(row.last.get(name), 100) for name in names)]
            for row in data.rows
            if _layers(row, split)
        ]
        if rows:
            text = table(("variant", *map(str, range(1, count + 1))), rows, "l" + "r" * count)
            parts.append(f"Nearest class centre, % of {words} images, by layer; the last is the output:\n\n{text}")
    collapsing = [row for row in data.rows if any(name in row.last for name in _COLLAPSE)]
    if collapsing:
        rows = [[md(row.label), *(spread(row.last.get(name)) for name in _COLLAPSE)] for row in collapsing]
        text = table(("variant", "effective depth", "NC1", "NC2", "NC3", "NC4"), rows, "lrrrrr")
        parts.append(f"{_COLLAPSE_NOTE}\n\n{text}")
    return [part for part in parts if part]


def _layers(row: Row, split: str) -> int:
    found = [_LAYER.fullmatch(name) for name in row.last]
    return max((int(m[2]) for m in found if m is not None and m[1] == split), default=0)


# --- what fixed layers save -------------------------------------------------------------------------------------------


def _trained_parameters(row: Row | None, sizes: Mapping[str, Mapping[str, Any]]) -> float:
    """The parameters that are trained at the end, mean over seeds; not a number if that is unknown."""
    if row is None:
        return math.nan
    if _PARAMETERS in row.last:
        return row.last[_PARAMETERS][0]
    known = sizes.get(row.key, {})
    return float(known.get("parameters", math.nan)) + float(known.get("head_parameters", math.nan))


def _savings(data: StudyData, sizes: Mapping[str, Mapping[str, Any]]) -> str:
    if not any(config.model.etf_layers is not None for config in data.configs.values()):
        return ""
    whole = _trained_parameters(data.baseline, sizes)
    rows = []
    for row in data.rows:
        config, now = data.configs.get(row.key), _trained_parameters(row, sizes)
        fixed, moments = NOTHING, math.nan
        if config is not None:
            moments = {"sgd": 1, "adamw": 2}.get(config.optimizer.name, math.nan)
            if config.model.etf_layers is not None:
                fixed = md(f"{config.model.etf_layers}, {config.model.etf_frame}")
        known = math.isfinite(now / whole) and row is not data.baseline
        share = f"{100 * (now / whole - 1):+.1f} %" if known else NOTHING
        rows.append([md(row.label), fixed, md(_when(row.runs)), grouped(now), share, size(4 * moments * now)])
    head = ("variant", "fixed layers, frame", "fixed while training", "parameters trained", "change", "optimizer state")
    return table(head, rows, "lllrrr")


def _when(runs: Sequence[Run]) -> str:
    """When layers were fixed, seed by seed: `2 at epoch 8; 2 at 7.5; never`."""
    if not any(FIXED in run.metric_names() for run in runs):
        return NOTHING
    seeds = [", ".join(f"{count:.0f} at {epoch}" for count, epoch in _events(run)) or "never" for run in runs]
    return "layers at epoch: " + "; ".join(seeds)


def _events(run: Run) -> list[tuple[float, str]]:
    """How many layers were fixed, at which epochs, whenever there were more than before."""
    _, counts, epochs, _ = run.axes(FIXED)
    return [(float(counts[i]), place_text(float(epochs[i]))) for i in layers_fixed(counts)]


# --- figures ----------------------------------------------------------------------------------------------------------


def layer_figures(rows: Sequence[Row]) -> list[Figure]:
    """One figure a variant: the accuracy of every layer against epochs, mean and range over seeds."""
    return [figure for row in rows if (figure := _figure(row)) is not None]


def _figure(row: Row) -> Figure | None:
    series = []
    for layer in range(1, _layers(row, "train") + 1):
        mean = over_seeds(row.runs, f"train/ncc_{layer}")
        if mean.x.size:
            series += as_series(mean, label=f"layer {layer}", colour=layer - 1, scale=100, places=PLACES)
    if not series:
        return None
    marks = sorted({float(epoch) for run in row.runs if FIXED in run.metric_names() for _, epoch in _events(run)})
    document = curve_document("epoch", "nearest class centre (%)", series) | {"marks": marks}
    title = f"{plain(row.label)}: training images nearest their own class's centre, by layer"
    title += "; upright: layers were fixed" if marks else ""
    return Figure(f"ncc-{file_word(row.variant)}", title, document)
