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

from lsc_engine.analysis.compare import Row, is_loss
from lsc_engine.analysis.seed_curves import drawn, over_seeds
from lsc_engine.report.material import Material
from lsc_engine.report.results import accuracy_names
from lsc_engine.report.text import plain
from lsc_engine.runs.metrics.parsing import Floats

ENDINGS = (".svg", ".png")
# Points of one curve: more than the width of a figure shows.
PLACES = 240
_WIDTH = 5.6
_AXES = {"time": "training time (min)"}
_TITLES = {"epoch": "epochs", "step": "steps", "time": "minutes of training"}


@dataclass(frozen=True)
class Figure:
    """One figure: its file name without ending, what it shows, and what curves.draw makes it of."""

    name: str
    title: str
    document: dict[str, Any]


def curve_figures(material: Material, sure: Mapping[str, float]) -> list[Figure]:
    """Every accuracy, and every loss by kind, against epochs."""
    rows = material.rows
    return figures_of(rows, [*accuracy_names(rows), "train/loss", "val/loss"], sure)


def figures_of(
    rows: Sequence[Row], metrics: Sequence[str], sure: Mapping[str, float] | None = None, axis: str = "epoch"
) -> list[Figure]:
    """A figure for each metric against `axis` of analysis/seed_curves.py; a loss has one for each kind. `sure`: levels
    by row key."""
    found = []
    for name in metrics:
        logged = [row for row in rows if name in row.last]
        groups = dict.fromkeys(row.group for row in logged) if is_loss(name) else [None]
        kinds: list[str] = []
        for group in groups:
            chosen = [row for row in logged if group is None or row.group == group]
            suffix = ""
            if chosen and is_loss(name):
                # Two distance losses of different radii are two kinds by one letter.
                kinds.append(chosen[0].kind)
                many = kinds.count(chosen[0].kind)
                suffix = f" {chosen[0].kind}{many if many > 1 else ''}"
            levels = (sure or {}) if name == "train/loss" else {}
            found.append(_figure(rows, chosen, name, levels, axis, suffix))
    return [figure for figure in found if figure.document["series"]]


def is_share(name: str) -> bool:
    """Whether a metric is a share, shown in per cent."""
    return "accuracy" in name or name.endswith("/inside") or is_by_layer(name)


def is_by_layer(name: str) -> bool:
    """Whether a metric is a nearest-class-centre accuracy of one layer."""
    return "ncc" in name.rpartition("/")[2]


def _figure(
    all_rows: Sequence[Row], rows: Sequence[Row], metric: str, sure: Mapping[str, float], axis: str, suffix: str
) -> Figure:
    share = is_share(metric)
    colours = {row.key: number for number, row in enumerate(all_rows)}
    series = [one for row in rows if (one := _series(row, metric, axis, colours[row.key], share)) is not None]
    levels = [
        {"y": sure[row.key], "label": f"{row.label}: sure below", "colour": colours[row.key]}
        for row in rows
        if row.key in sure
    ]
    positive = all(v is None or v > 0 for one in series for key in ("y", "low") for v in one.get(key, ()))
    document = {
        "x_label": _AXES.get(axis, axis), "y_label": f"{metric} (%)" if share else f"{metric}{suffix[:2]}",
        "width": _WIDTH, "dpi": 160,
        "log_x": False, "log_y": is_loss(metric) and positive, "levels": levels, "series": series,
    }  # fmt: skip
    name = re.sub(r"[^a-z0-9]+", "-", f"{metric}{suffix}".lower()).strip("-")
    kind = f" ({suffix.strip()[:1]})" if suffix else ""
    several = any(len(row.runs) > 1 for row in rows)
    title = f"{metric}{kind} against {_TITLES.get(axis, axis)}" + (", mean and range over seeds" if several else "")
    title += "; dashed: the loss under which a label is sure" if levels else ""
    return Figure(name, title, document)


def _series(row: Row, metric: str, axis: str, colour: int, share: bool) -> dict[str, Any] | None:
    mean = over_seeds(row.runs, metric, axis)
    if not mean.x.size:
        return None
    label = plain(row.label) + (f" ({len(mean.seeds)} seeds)" if len(mean.seeds) > 1 else "")
    return drawn(mean, label=label, colour=colour, scale=100.0 if share else 1.0, places=PLACES)[0]


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
