"""The curves of a study as figures: accuracy and loss against epochs, mean and range over seeds, as SVG and PNG.

Loss figures hold one kind of loss each, with the "sure below" level of each variant as a dashed line of its colour.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lsc_engine.report.material import Material
from lsc_engine.report.results import accuracy_names
from lsc_engine.report.text import plain
from lsc_engine.runs.compare import Row, is_loss
from lsc_engine.runs.rows import Floats
from lsc_engine.runs.seeds import over_seeds

ENDINGS = (".svg", ".png")
# Points of one curve: more than the width of a figure shows.
PLACES = 240
_WIDTH = 5.6


@dataclass(frozen=True)
class Figure:
    """One figure: its file name without ending, what it shows, and what curves.draw makes it of."""

    name: str
    title: str
    document: dict[str, Any]


def curve_figures(material: Material, sure: Mapping[str, float]) -> list[Figure]:
    """Every accuracy, and every loss by kind, against epochs."""
    axis = "epoch"
    found = []
    for name in accuracy_names(material.rows):
        rows = [row for row in material.rows if name in row.last]
        found.append(_figure(material, rows, name, axis, {}))
    for metric in ("train/loss", "val/loss"):
        groups = dict.fromkeys(row.group for row in material.rows if metric in row.last)
        for number, group in enumerate(groups):
            rows = [row for row in material.rows if row.group == group and metric in row.last]
            suffix = f" {rows[0].kind}{number if len(groups) > 1 else ''}"
            levels = sure if metric == "train/loss" else {}
            found.append(_figure(material, rows, metric, axis, levels, suffix))
    return [figure for figure in found if figure.document["series"]]


def _figure(
    material: Material, rows: Sequence[Row], metric: str, axis: str, sure: Mapping[str, float], suffix: str = ""
) -> Figure:
    loss = is_loss(metric)
    colours = {row.key: number for number, row in enumerate(material.rows)}
    series = [one for row in rows if (one := _series(row, metric, axis, colours[row.key], loss)) is not None]
    levels = [
        {"y": sure[row.key], "label": f"{row.label}: sure below", "colour": colours[row.key]}
        for row in rows
        if row.key in sure
    ]
    positive = all(v is None or v > 0 for one in series for key in ("y", "low") for v in one.get(key, ()))
    document = {
        "x_label": axis, "y_label": f"{metric}{suffix[:2]}" if loss else f"{metric} (%)", "width": _WIDTH, "dpi": 160,
        "log_x": False, "log_y": loss and positive, "levels": levels, "series": series,
    }  # fmt: skip
    name = re.sub(r"[^a-z0-9]+", "-", f"{metric}{suffix}".lower()).strip("-")
    kind = f" ({suffix.strip()[:1]})" if suffix else ""
    several = any(len(row.runs) > 1 for row in rows)
    title = f"{metric}{kind} against {axis}s" + (", mean and range over seeds" if several else "")
    title += "; dashed: the loss under which a label is sure" if levels else ""
    return Figure(name, title, document)


def _series(row: Row, metric: str, axis: str, colour: int, loss: bool) -> dict[str, Any] | None:
    mean = over_seeds(row.runs, metric, axis)
    if not mean.x.size:
        return None
    chosen = np.unique(np.linspace(0, mean.x.size - 1, min(mean.x.size, PLACES)).round().astype(int))
    scale = 1.0 if loss else 100.0
    label = plain(row.label) + (f" ({len(mean.seeds)} seeds)" if len(mean.seeds) > 1 else "")
    one: dict[str, Any] = {"label": label, "colour": colour}
    one |= {"x": listed(mean.x[chosen]), "y": listed(mean.mean[chosen] * scale)}
    if len(mean.seeds) > 1:
        one |= {"low": listed(mean.low[chosen] * scale), "high": listed(mean.high[chosen] * scale)}
    return one


def listed(values: Floats) -> list[float | None]:
    """Numbers as a document holds them, None for what is not finite."""
    return [float(v) if math.isfinite(v) else None for v in values]


def write_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Draw every figure as SVG and PNG into `folder`; the files written."""
    if not figures:
        return []
    from lsc_engine.report.curves import draw

    written: list[Path] = []
    for figure in figures:
        paths = [folder / f"{figure.name}{ending}" for ending in ENDINGS]
        draw(figure.document, *paths)
        written += paths
    return written
