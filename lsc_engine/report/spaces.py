"""Embeddings in a report, from the snapshots that a run keeps (runs/embeddings.py): in the plane or on the sphere over
training where n <= 3, else the cosines to the own and to the nearest other centre at the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from lsc_engine.analysis.compare import Row
from lsc_engine.report.curves import COLOURS, escaped
from lsc_engine.report.drawing import STYLE, save
from lsc_engine.report.material import Material
from lsc_engine.report.text import md, plain
from lsc_engine.runs.files import UnreadableError
from lsc_engine.runs.read.embeddings import Angles, Points, Snapshot, list_snapshots, read_snapshot
from lsc_engine.runs.read.run import Run

# Moments of training shown of one variant, fewer where there are many classes to draw, and images shown of each.
MOMENTS = 4
_MANY = 40
_IMAGES = 320
_VIEW = (22.0, -60.0)
_TURN = np.linspace(0, 2 * np.pi, 61)
_CIRCLES = [np.roll(np.stack([np.cos(_TURN), np.sin(_TURN), 0 * _TURN]), axis, axis=0) for axis in range(3)]


def snapshots_of(run: Run, most: int = MOMENTS) -> list[Snapshot]:
    """Up to `most` snapshots spread over the training, the first and the last among them; damaged ones are skipped."""
    listed = list_snapshots(run.path)
    if not listed:
        return []
    found = []
    for place in np.unique(np.linspace(0, len(listed) - 1, min(most, len(listed))).round().astype(int)):
        try:
            found.append(read_snapshot(listed[int(place)][1]))
        except UnreadableError:
            continue
    return found


def space_figures(material: Material, folder: Path) -> tuple[list[str], list[Path]]:
    """Figures of every variant whose first seed kept snapshots: the lines of the page, and the files."""
    texts: list[str] = []
    files: list[Path] = []
    angles: list[tuple[str, Angles]] = []
    for row in material.rows:
        shots = snapshots_of(row.runs[0])
        points = [shot for shot in shots if isinstance(shot, Points) and shot.n in (2, 3)]
        if points and points[0].classes > _MANY:
            points = [points[0], points[len(points) // 2], points[-1]] if len(points) > 2 else points
        if points:
            name = f"embeddings-{_file_word(row)}"
            files += draw_points(points, plain(row.label), folder, name)
            where = "in the plane" if points[0].n == 2 else "on the sphere"
            title = f"{row.label}: embeddings {where} over training, class means as diamonds, centres as crosses"
            texts.append(f"![{md(title)}]({name}.svg)\n\n{md(title)}.")
        elif shots and isinstance(shots[-1], Angles):
            angles.append((plain(row.label), shots[-1]))
    if angles:
        files += draw_angles(angles, folder)
        title = "Cosines of images to their own centre and to the nearest other one, at the end"
        texts.append(f"![{md(title)}](angles.svg)\n\n{md(title)}; the dashed line is half the smallest angle.")
    return texts, files


def _file_word(row: Row) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", row.runs[0].variant).strip("-").lower() or "run"


def _directions(shot: Points, rows: np.ndarray) -> np.ndarray:
    """Rows as they are drawn: their directions where lengths mean nothing."""
    if not shot.free_length or not rows.size:
        return rows
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0))


def _means(shot: Points) -> np.ndarray:
    """The mean of the drawn images of each class."""
    z = _directions(shot, shot.z)
    labels = np.unique(shot.label)
    return np.array([z[shot.label == label].mean(0) for label in labels]).reshape(len(labels), shot.n)


def draw_points(shots: Sequence[Points], label: str, folder: Path, name: str) -> list[Path]:
    """One panel for each moment; colours by class."""
    space = shots[0].n == 3
    with plt.rc_context(STYLE):
        size = (1.75 * len(shots) + 0.2, 2.1)
        figure = plt.figure(figsize=size, layout="constrained")
        for number, shot in enumerate(shots, 1):
            axes: Any = figure.add_subplot(1, len(shots), number, projection="3d" if space else None)
            _panel(axes, shot)
            right = float((shot.predicted == shot.label).mean()) if shot.label.size else 0.0
            axes.set_title(f"epoch {shot.epoch:.3g}, {100 * right:.0f} %", fontsize=7)
        figure.suptitle(escaped(label), fontsize=8)
        return save(figure, folder, name)


def _panel(axes: Any, shot: Points) -> None:
    z, centres, means = _directions(shot, shot.z), _directions(shot, shot.centre), _means(shot)
    palette = plt.get_cmap("tab10" if shot.classes <= 10 else "tab20").colors  # type: ignore[attr-defined]
    if shot.n == 3 and shot.free_length:
        for circle in _CIRCLES:
            axes.plot(*circle, color="0.85", linewidth=0.4)
    shown = np.unique(np.linspace(0, len(z) - 1, min(_IMAGES, len(z))).round().astype(int)) if len(z) else slice(0)
    for colour in range(min(len(palette), shot.classes)):
        _dots(axes, z[shown][shot.label[shown] % len(palette) == colour], palette[colour])
    diamonds = [palette[i % len(palette)] for i in np.unique(shot.label)]
    flat: Any = {"depthshade": False} if shot.n == 3 else {}
    axes.scatter(*means.T, s=16, c=diamonds, marker="D", edgecolors="black", linewidths=0.5, **flat)
    if centres.size:
        axes.scatter(*centres.T, s=16, c="black", marker="x", linewidths=0.7, **flat)
    every = np.concatenate([part for part in (z, centres, means) if part.size])
    limit = 1.08 * float(np.quantile(np.abs(every), 0.995)) or 1.0
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    axes.tick_params(labelsize=5)
    if shot.n == 3:
        axes.set_zlim(-limit, limit)
        axes.set_box_aspect((1, 1, 1))
        axes.view_init(*_VIEW)
        axes.set(xticks=[], yticks=[], zticks=[])
    else:
        axes.set_aspect("equal")


def _dots(axes: Any, points: np.ndarray, colour: Any) -> None:
    """All points [k, n] of one colour as one path: lines so short that their round ends make a dot."""
    ends = np.repeat(points, 3, axis=0)
    ends[1::3, 0] += 1e-4
    ends[2::3] = np.nan
    # Snapped to pixels a line of no length would be lost.
    axes.plot(*ends.T, color=colour, linewidth=1.6, solid_capstyle="round", snap=False)


def draw_angles(found: Sequence[tuple[str, Angles]], folder: Path) -> list[Path]:
    """Histograms over the cosine, one panel for each variant: angles.svg."""
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            lines, columns, figsize=(2.3 * columns, 1.6 * lines + 0.2), layout="constrained", squeeze=False, sharex=True
        )
        for axes in grid.flat[len(found) :]:
            axes.set_visible(False)
        for axes, (label, shot) in zip(grid.flat, found, strict=False):
            cosines = np.cos(np.radians(np.arange(shot.own.size) + 0.5))
            bins = np.linspace(-1, 1, 61)
            for counts, colour, word in ((shot.other, COLOURS[1], "nearest other"), (shot.own, COLOURS[0], "own")):
                share = counts / max(1, counts.sum())
                heights, _ = np.histogram(cosines, bins=bins, weights=share)
                axes.stairs(heights, bins, fill=True, color=colour, alpha=0.65, label=word)
            if shot.min_angle is not None:
                axes.axvline(np.cos(np.radians(shot.min_angle / 2)), color="0.4", linewidth=0.6, linestyle=(0, (4, 3)))
            axes.set_title(escaped(label), fontsize=7)
            axes.set_xlim(-1, 1)
        grid.flat[0].legend(frameon=False)
        figure.supxlabel("cosine", fontsize=8)
        figure.supylabel("share of images", fontsize=8)
        return save(figure, folder, "angles")
