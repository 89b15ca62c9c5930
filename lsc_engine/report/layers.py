"""The section of a report on layers: which were fixed and when, what that saves, and how far each tells classes apart.

Nearest-class-centre accuracies and neural collapse are those of training/collapse.py (arXiv:2412.00884).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from lsc_engine.analysis.compare import Row, number
from lsc_engine.analysis.seed_curves import over_seeds
from lsc_engine.report.figures import PLACES, Figure, listed
from lsc_engine.report.material import Material
from lsc_engine.report.results import spread
from lsc_engine.report.text import grouped, md, plain, size, table
from lsc_engine.runs.metrics.columns import FIXED, layers_fixed
from lsc_engine.runs.read.run import Run

_LAYER = re.compile(r"(train|val)/ncc_(\d+)")
_COLLAPSE = ("train/effective_depth", "train/nc1", "train/nc2", "train/nc3", "train/nc4")
_PARAMETERS = "model/parameters"
_WIDTH = 5.6


def layer_tables(material: Material, sizes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Tables of what is fixed and what it saves, of accuracies by layer, and of collapse; none without such runs."""
    parts = [_savings(material, sizes)]
    for split, words in (("train", "training"), ("val", "validation")):
        count = max((_layers(row, split) for row in material.rows), default=0)
        rows = [
            [md(row.label), *(spread(row.last.get(f"{split}/ncc_{layer}"), 100) for layer in range(1, count + 1))]
            for row in material.rows
            if _layers(row, split)
        ]
        if rows:
            text = table(("variant", *map(str, range(1, count + 1))), rows, "l" + "r" * count)
            parts.append(f"Nearest class centre, % of {words} images, by layer; the last is the output:\n\n{text}")
    parts.append(_collapse(material))
    return [part for part in parts if part]


def _layers(row: Row, split: str) -> int:
    found = [_LAYER.fullmatch(name) for name in row.last]
    return max((int(m[2]) for m in found if m is not None and m[1] == split), default=0)


def _collapse(material: Material) -> str:
    rows = [
        [md(row.label), *(spread(row.last.get(name), 1) for name in _COLLAPSE)]
        for row in material.rows
        if any(name in row.last for name in _COLLAPSE)
    ]
    if not rows:
        return ""
    words = (
        "Effective depth: the first layer with at most 10 % of training images nearer another class's centre, else the "
        "number of layers. NC1 to NC4 of the last layer: 0 is collapse."
    )
    return f"{words}\n\n" + table(("variant", "effective depth", "NC1", "NC2", "NC3", "NC4"), rows, "lrrrrr")


# --- what fixed layers save -------------------------------------------------------------------------------------------


def trained(row: Row, sizes: Mapping[str, Mapping[str, Any]]) -> float:
    """The parameters that are trained at the end, mean over seeds; not a number where that is not known."""
    if _PARAMETERS in row.last:
        return row.last[_PARAMETERS][0]
    known = sizes.get(row.key, {})
    return float(known.get("parameters", math.nan)) + float(known.get("head_parameters", math.nan))


def _savings(material: Material, sizes: Mapping[str, Mapping[str, Any]]) -> str:
    rules = {key: config.model for key, config in material.configs.items()}
    if not any(rule.etf_layers is not None for rule in rules.values()):
        return ""
    base = material.baseline
    whole = trained(base, sizes) if base is not None else math.nan
    rows = []
    for row in material.rows:
        rule, now = rules.get(row.key), trained(row, sizes)
        name = material.configs[row.key].optimizer.name if row.key in material.configs else ""
        fixed = "-" if rule is None or rule.etf_layers is None else md(f"{rule.etf_layers}, {rule.etf_frame}")
        share = f"{100 * (now / whole - 1):+.1f} %" if math.isfinite(now / whole) and row is not base else "-"
        moments = {"sgd": 1, "adamw": 2}.get(name, math.nan)
        rows.append([md(row.label), fixed, md(_when(row)), grouped(now), share, size(4 * moments * now)])
    head = ("variant", "fixed layers, frame", "fixed while training", "parameters trained", "change", "optimizer state")
    return table(head, rows, "lllrrr")


def _when(row: Row) -> str:
    """When layers were fixed, seed by seed: `2 at epoch 8; 2 at 7.5; never`."""
    if not any(FIXED in run.metric_names() for run in row.runs):
        return "-"
    told = []
    for run in row.runs:
        counts = run.history(FIXED)[1]
        events = [f"{counts[i]:.0f} at {epoch}" for i, epoch in _events(run)]
        told.append(", ".join(events) or "never")
    return "layers at epoch: " + "; ".join(told)


def _events(run: Run) -> list[tuple[int, str]]:
    _, counts, epochs, _ = run.axes(FIXED)
    return [(int(i), number(float(epochs[i]))) for i in layers_fixed(counts)]


# --- figures ----------------------------------------------------------------------------------------------------------


def layer_figures(material: Material) -> list[Figure]:
    """One figure a variant: the accuracy of every layer against epochs, mean and range over seeds."""
    return [figure for row in material.rows if (figure := _figure(row)) is not None]


def _figure(row: Row) -> Figure | None:
    count = _layers(row, "train")
    series = []
    for layer in range(1, count + 1):
        mean = over_seeds(row.runs, f"train/ncc_{layer}", "epoch")
        if not mean.x.size:
            continue
        every = max(1, -(-mean.x.size // PLACES))
        one = {"label": f"layer {layer}", "colour": layer - 1, "x": listed(mean.x[::every])}
        one["y"] = listed(100 * mean.mean[::every])
        if len(mean.seeds) > 1:
            one |= {"low": listed(100 * mean.low[::every]), "high": listed(100 * mean.high[::every])}
        series.append(one)
    if not series:
        return None
    marks = sorted({float(epoch) for run in row.runs if FIXED in run.metric_names() for _, epoch in _events(run)})
    document = {
        "x_label": "epoch", "y_label": "nearest class centre (%)", "width": _WIDTH, "dpi": 160, "log_x": False,
        "log_y": False, "levels": [], "series": series, "marks": marks,
    }  # fmt: skip
    name = "ncc-" + re.sub(r"[^a-z0-9]+", "-", row.runs[0].variant.lower()).strip("-")
    title = f"{plain(row.label)}: training images nearest their own class's centre, by layer"
    return Figure(name, title + ("; upright: layers were fixed" if marks else ""), document)
