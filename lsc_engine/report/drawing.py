"""Figures that are no curves: roots in two and three dimensions, cosines, embeddings, sizes against classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from lsc_engine.report.curves import COLOURS, STYLES, escaped
from lsc_engine.report.svg import tidy
from lsc_engine.runs.files import whole_file

STYLE: Any = {
    "font.size": 8, "axes.linewidth": 0.6, "lines.linewidth": 1.0, "legend.fontsize": 7, "svg.fonttype": "none",
    "svg.hashsalt": "lsc", "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip
DPI = 160
# Direction from which three dimensions are seen, in degrees.
_VIEW = (24.0, 22.0)
# The plane of sum 0, nearly from the front.
_FRONT = (42.0, 25.0)


def save(figure: Any, folder: Path, name: str) -> list[Path]:
    """The figure as SVG and PNG, the same bytes for the same figure; it is closed."""
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    for path in paths:
        with whole_file(path) as part:
            figure.savefig(part, dpi=DPI, metadata={"Date": None} if path.suffix == ".svg" else None)
            if path.suffix == ".svg":
                tidy(part)
        # Laid out once: the second file is the same picture.
        figure.set_layout_engine("none")
    plt.close(figure)
    return paths


def draw_roots(folder: Path) -> list[Path]:
    """A_2 and A_3 as arXiv:2510.04090 draws them in Figures 1 and 2: A2.svg and A3.svg."""
    import torch

    from lsc_engine.vectors import system

    def rows(name: str, n: int) -> np.ndarray:
        made = system(name, n)
        index = torch.arange(made.count)
        return np.asarray((made.vectors(index) * made.native_norm(index).unsqueeze(1)).numpy())

    # The roots themselves: e_i - e_j in three coordinates.
    whole = np.array([np.eye(3)[i] - np.eye(3)[j] for i in range(3) for j in range(3) if i != j])
    written = []
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(6.6, 2.4), layout="constrained")
        _space(figure.add_subplot(1, 3, 1, projection="3d"), whole, "roots, 3 coordinates", _FRONT)
        _plane(figure.add_subplot(1, 3, 2), rows("A", 2), "a coordinate left out")
        _plane(figure.add_subplot(1, 3, 3), rows("A-helmert", 2), "all angles kept")
        written += save(figure, folder, "A2")
        figure = plt.figure(figsize=(5.2, 2.7), layout="constrained")
        _space(figure.add_subplot(1, 2, 1, projection="3d"), rows("A", 3), "a coordinate left out")
        _space(figure.add_subplot(1, 2, 2, projection="3d"), rows("A-helmert", 3), "all angles kept")
        written += save(figure, folder, "A3")
    return written


def _plane(axes: Any, points: np.ndarray, title: str) -> None:
    for x, y in points:
        axes.plot([0, x], [0, y], color=COLOURS[0], linewidth=0.8)
    axes.plot(points[:, 0], points[:, 1], "o", color=COLOURS[1], markersize=3.5)
    limit = 1.15 * float(np.abs(points).max())
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=title)
    axes.title.set_fontsize(8)


def _space(axes: Any, points: np.ndarray, title: str, view: tuple[float, float] = _VIEW) -> None:
    for point in points:
        axes.plot(*np.stack([np.zeros(3), point]).T, color=COLOURS[0], linewidth=0.8)
    axes.plot(*points.T, "o", color=COLOURS[1], markersize=3)
    limit = 1.05 * float(np.abs(points).max())
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), zlim=(-limit, limit), title=title)
    axes.set_box_aspect((1, 1, 1))
    axes.view_init(*view)
    axes.tick_params(labelsize=6, pad=-3)
    axes.locator_params(nbins=3)
    axes.title.set_fontsize(8)


def draw_cosines(panels: Sequence[tuple[str, Sequence[tuple[float, float]]]], folder: Path) -> list[Path]:
    """Per system the number of others at each cosine, counts on a logarithmic axis: cosines.svg."""
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            lines, columns, figsize=(2.2 * columns, 1.5 * lines + 0.2), layout="constrained", squeeze=False, sharex=True
        )
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for number, (axes, (title, rows)) in enumerate(zip(grid.flat, panels, strict=False)):
            cosines, counts = [cosine for cosine, _ in rows], [often for _, often in rows]
            axes.bar(cosines, counts, width=0.03, color=COLOURS[number % len(COLOURS)], log=True)
            axes.set(xlim=(-1.06, 1.06), title=title)
            axes.title.set_fontsize(7)
        figure.supxlabel("cosine", fontsize=8)
        figure.supylabel("others", fontsize=8)
        return save(figure, folder, "cosines")


def draw_against_classes(
    series: Sequence[tuple[str, Sequence[float], Sequence[float]]], label: str, name: str, folder: Path
) -> list[Path]:
    """A size against the number of classes, both axes logarithmic: one line per (label, classes, values)."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.0, 3.3), layout="constrained")
        for number, (title, classes, values) in enumerate(series):
            style = STYLES[number // len(COLOURS) % len(STYLES)]
            axes.plot(
                classes, values, style, marker="o", markersize=3, color=COLOURS[number % len(COLOURS)], label=title
            )
        axes.set(xlabel="classes", ylabel=escaped(label), xscale="log", yscale="log")
        if len(series) > 1:
            axes.legend(frameon=False)
        return save(figure, folder, name)
