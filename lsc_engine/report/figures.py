"""Every figure of a report: curves, embeddings, roots and cosines of vector systems, sizes, ROC curves. `python -m
lsc_engine.report.figures OUT.svg < curves.json` draws curves for the viewer, which never loads matplotlib itself. The
document has x_label, y_label, x_range, log_x, log_y, levels [{y, label, colour}], series [{label, colour, x, y, low,
high}] and marks [x], upright lines; null stands for a value that is not finite, a level without colour is grey. The
ending of OUT chooses SVG, PDF or PNG; `width` is in inches (default 3.3), `dpi` that of a PNG (default 300)."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from lsc_engine.analysis.compare import Row
from lsc_engine.analysis.levels import is_loss
from lsc_engine.analysis.seed_curves import as_series, over_seeds
from lsc_engine.common.safe_io import whole_file
from lsc_engine.report.page import plain
from lsc_engine.runs.read.embeddings import Angles, Points

ENDINGS = (".svg", ".png")
DPI = 160
# After Okabe and Ito 2008: apart for the common colour-vision deficiencies, and in grey.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6d31", "#333333")
STYLES = ("-", "--", "-.", ":")
plt.rcParams |= {"font.size": 8, "axes.linewidth": 0.6, "lines.linewidth": 1.0, "legend.fontsize": 7}
plt.rcParams |= {"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "lsc"}
plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False}


def _escaped(text: str) -> str:
    """`text` as matplotlib shows it letter by letter: no part of it is mathematics."""
    return text.replace("$", r"\$")


def _line_style(number: int) -> tuple[str, str]:
    return COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]


def _panels(count: int, width: float, height: float, y_label: str) -> tuple[Any, list[Any]]:
    """A figure over the cosine of up to three panels a row, each `width` x `height` inches, and its panels."""
    columns = min(3, count)
    rows = -(-count // columns)
    size = (width * columns, height * rows + 0.2)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, sharex=True)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    figure.supxlabel("cosine", fontsize=8)
    figure.supylabel(y_label, fontsize=8)
    return figure, list(grid.flat[:count])


def save(figure: Any, paths: Sequence[Path], dpi: float = DPI) -> list[Path]:
    """Write the figure in the format of each path's ending, the same bytes for the same figure; it is closed."""
    for path in paths:
        dated = {".svg": "Date", ".pdf": "CreationDate"}.get(path.suffix)
        with whole_file(path) as part:
            figure.savefig(part, dpi=dpi, metadata={dated: None} if dated else None)
        # Laid out once: a second file is the same picture.
        figure.set_layout_engine("none")
    plt.close(figure)
    return list(paths)


def _save_both(figure: Any, folder: Path, name: str) -> list[Path]:
    return save(figure, [folder / f"{name}{ending}" for ending in ENDINGS])


# Points of one curve: more than the width of a figure shows.
PLACES = 240
WIDTH = 5.6
# With more names than these the legend stands below the axes, where it covers no curve.
_MOST_INSIDE = 6
_AXES = {"time": "training time (min)"}
_TITLES = {"epoch": "epochs", "step": "steps", "time": "minutes of training"}


@dataclass(frozen=True)
class Figure:
    """A figure of curves: its file name without ending, what it shows, and the document to draw."""

    name: str
    title: str
    document: dict[str, Any]

    def write(self, folder: Path) -> list[Path]:
        return draw_curves(self.document, *(folder / f"{self.name}{ending}" for ending in ENDINGS))


def curve_figures(
    rows: Sequence[Row], metrics: Sequence[str], guaranteed: Mapping[str, float] | None = None, axis: str = "epoch"
) -> list[Figure]:
    """A figure for each metric against `axis` of analysis/seed_curves.py, mean and range over seeds; a loss has one
    for each kind. `guaranteed`: row key -> the loss below which a label is right, a dashed line of train/loss."""
    found = []
    for metric in metrics:
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if metric in row.last:
                groups.setdefault(row.group if is_loss(metric) else "", []).append(row)
        kinds: Counter[str] = Counter()
        for chosen in groups.values():
            kind = chosen[0].kind if is_loss(metric) else ""
            kinds[kind] += 1
            # Two distance losses of different radii are two kinds by one letter.
            name = f"{metric} {kind}{kinds[kind] if kinds[kind] > 1 else ''}" if kind else metric
            levels = (guaranteed or {}) if metric == "train/loss" else {}
            figure = _curve_figure(rows, chosen, metric, kind, levels, axis)
            found.append(replace(figure, name=file_word(name)))
    return [figure for figure in found if figure.document["series"]]


def is_share(name: str) -> bool:
    """Whether a metric is a share, shown in per cent: an accuracy, also by layer, or images inside half an angle."""
    return "accuracy" in name or name.endswith("/inside") or "ncc" in name.rpartition("/")[2]


def _curve_figure(
    every: Sequence[Row], rows: Sequence[Row], metric: str, kind: str, guaranteed: Mapping[str, float], axis: str
) -> Figure:
    """The curves of rows in the colours that they have among `every` row; `kind`: the letter of the loss."""
    share = is_share(metric)
    colours = {row.key: number for number, row in enumerate(every)}
    series = []
    for row in rows:
        mean = over_seeds(row.runs, metric, axis)
        if mean.x.size:
            label = plain(row.label) + (f" ({len(mean.seeds)} seeds)" if len(mean.seeds) > 1 else "")
            scale = 100.0 if share else 1.0
            series += as_series(mean, label=label, colour=colours[row.key], scale=scale, places=PLACES)
    below = [(guaranteed[row.key], row) for row in rows if row.key in guaranteed]
    levels = [{"y": y, "label": f"{row.label}: sure below", "colour": colours[row.key]} for y, row in below]
    positive = all(v is None or v > 0 for one in series for key in ("y", "low") for v in one.get(key, ()))
    y_label = f"{metric} (%)" if share else f"{metric} {kind}".rstrip()
    title = f"{metric}{f' ({kind})' if kind else ''} against {_TITLES.get(axis, axis)}"
    title += ", mean and range over seeds" if any(len(row.runs) > 1 for row in rows) else ""
    title += "; dashed: the loss under which a label is sure" if levels else ""
    document = curve_document(_AXES.get(axis, axis), y_label, series)
    return Figure(metric, title, document | {"log_y": is_loss(metric) and positive, "levels": levels})


def curve_document(x_label: str, y_label: str, series: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The document of a figure of a report, on linear axes."""
    labels = {"x_label": x_label, "y_label": y_label}
    return {**labels, "width": WIDTH, "dpi": DPI, "log_x": False, "log_y": False, "levels": [], "series": list(series)}


def file_word(text: str) -> str:
    """`text` as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def draw_curves(document: Mapping[str, Any], *files: Path) -> list[Path]:
    """Draw a document of curves (see the head of this module) to each of `files`."""
    width = float(document.get("width", 3.3))
    # "_" keeps a series out of the legend.
    labels = [
        _escaped(one["label"]) or "_" if any(v is not None and np.isfinite(v) for v in one["y"]) else "_"
        for one in document["series"]
    ]
    named, columns = sum(label != "_" for label in labels), 2 if width > 5 else 1
    below = 0.14 * -(-named // columns) + 0.1 if named > _MOST_INSIDE else 0.0
    figure, axes = plt.subplots(figsize=(width, width * 0.68 + below), layout="constrained")
    for one, label in zip(document["series"], labels, strict=True):
        colour, style = _line_style(int(one["colour"]))
        x = _array(one["x"])
        if "low" in one:
            axes.fill_between(x, _array(one["low"]), _array(one["high"]), color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, _array(one["y"]), style, color=colour, label=label)
    for level in document["levels"]:
        colour = "0.6" if level.get("colour") is None else COLOURS[level["colour"] % len(COLOURS)]
        axes.axhline(level["y"], color=colour, linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
    for place in document.get("marks", ()):
        axes.axvline(place, color="0.4", linewidth=0.6, zorder=0)
    axes.set(xlabel=_escaped(document["x_label"]), ylabel=_escaped(document["y_label"]))
    axes.set(xscale="log" if document["log_x"] else "linear", yscale="log" if document["log_y"] else "linear")
    axes.set_xlim(*document.get("x_range", (None, None)))
    if named > _MOST_INSIDE:
        figure.legend(frameon=False, loc="outside lower center", ncols=columns)
    elif named:
        axes.legend(frameon=False)
    return save(figure, files, document.get("dpi", 300))


def _array(values: Any) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


# Direction from which three dimensions are seen, in degrees; and the plane of sum 0, nearly from the front.
_VIEW, _FRONT = (24.0, 22.0), (42.0, 25.0)


def draw_roots(folder: Path) -> list[list[Path]]:
    """A_2 and A_3 as arXiv:2510.04090 draws them in Figures 1 and 2: the files of A2 and of A3."""
    import torch

    from lsc_engine.vectors import system

    def rows(name: str, n: int) -> np.ndarray:
        found = system(name, n)
        index = torch.arange(found.count)
        return np.asarray((found.vectors(index) * found.native_norm(index).unsqueeze(1)).numpy())

    # The roots themselves: e_i - e_j in three coordinates.
    whole = np.array([np.eye(3)[i] - np.eye(3)[j] for i in range(3) for j in range(3) if i != j])
    dropped, angles = "a coordinate left out", "all angles kept"
    figure = plt.figure(figsize=(6.6, 2.4), layout="constrained")
    _arrows(figure.add_subplot(1, 3, 1, projection="3d"), whole, "roots, 3 coordinates", _FRONT)
    _arrows(figure.add_subplot(1, 3, 2), rows("A", 2), dropped)
    _arrows(figure.add_subplot(1, 3, 3), rows("A-helmert", 2), angles)
    space = plt.figure(figsize=(5.2, 2.7), layout="constrained")
    _arrows(space.add_subplot(1, 2, 1, projection="3d"), rows("A", 3), dropped)
    _arrows(space.add_subplot(1, 2, 2, projection="3d"), rows("A-helmert", 3), angles)
    return [_save_both(figure, folder, "A2"), _save_both(space, folder, "A3")]


def _arrows(axes: Any, points: np.ndarray, title: str, view: tuple[float, float] = _VIEW) -> None:
    space = points.shape[1] == 3
    for point in points:
        axes.plot(*np.stack([np.zeros_like(point), point]).T, color=COLOURS[0], linewidth=0.8)
    axes.plot(*points.T, "o", color=COLOURS[1], markersize=3 if space else 3.5)
    _equal_axes(axes, (1.05 if space else 1.15) * float(np.abs(points).max()), view if space else None)
    if space:
        axes.tick_params(labelsize=6, pad=-3)
        axes.locator_params(nbins=3)
    axes.set_title(title, fontsize=8)


def _equal_axes(axes: Any, limit: float, view: tuple[float, float] | None) -> None:
    """Axes from -limit to limit of equal scale, with a `view` those of three dimensions."""
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
    if view is None:
        axes.set_aspect("equal")
        return
    axes.set_zlim(-limit, limit)
    axes.set_box_aspect((1, 1, 1))
    axes.view_init(*view)


def draw_cosines(panels: Sequence[tuple[str, Sequence[tuple[float, float]]]], folder: Path) -> list[Path]:
    """Per system the number of others at each cosine, counts on a logarithmic axis: cosines.svg."""
    figure, grid = _panels(len(panels), 2.2, 1.5, "others")
    for number, (axes, (title, rows)) in enumerate(zip(grid, panels, strict=True)):
        cosines, counts = zip(*rows, strict=True)
        axes.bar(cosines, counts, width=0.03, color=COLOURS[number % len(COLOURS)], log=True)
        axes.set_xlim(-1.06, 1.06)
        axes.set_title(title, fontsize=7)
    return _save_both(figure, folder, "cosines")


def draw_against_classes(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]], label: str, name: str, folder: Path
) -> list[Path]:
    """A size against the number of classes, both axes logarithmic: one line per (label, points)."""
    figure, axes = plt.subplots(figsize=(5.0, 3.3), layout="constrained")
    for number, (title, points) in enumerate(series):
        colour, style = _line_style(number)
        axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3, color=colour, label=title)
    axes.set(xlabel="classes", ylabel=_escaped(label), xscale="log", yscale="log")
    if len(series) > 1:
        axes.legend(frameon=False)
    return _save_both(figure, folder, name)


# Images shown of one moment.
_IMAGES = 320
_EMBEDDINGS_VIEW = (22.0, -60.0)
_TURN = np.linspace(0, 2 * np.pi, 61)
_CIRCLES = [np.roll(np.stack([np.cos(_TURN), np.sin(_TURN), 0 * _TURN]), axis, axis=0) for axis in range(3)]


def draw_points(shots: Sequence[Points], label: str, folder: Path, name: str) -> list[Path]:
    """Embeddings in the plane or in space, one panel for each moment; colours by class, class means as diamonds."""
    space = shots[0].n == 3
    figure = plt.figure(figsize=(1.75 * len(shots) + 0.2, 2.1), layout="constrained")
    for number, shot in enumerate(shots, 1):
        axes: Any = figure.add_subplot(1, len(shots), number, projection="3d" if space else None)
        _points(axes, shot)
        right = float((shot.predicted == shot.label).mean()) if shot.label.size else 0.0
        axes.set_title(f"epoch {shot.epoch:.3g}, {100 * right:.0f} %", fontsize=7)
    figure.suptitle(_escaped(label), fontsize=8)
    return _save_both(figure, folder, name)


def _points(axes: Any, shot: Points) -> None:
    z, centres = shot.z, shot.centre
    if shot.free_length:
        # Lengths mean nothing: directions are drawn.
        lengths = (np.linalg.norm(rows, axis=1, keepdims=True) for rows in (z, centres))
        z, centres = (rows / np.where(n > 0, n, 1.0) for rows, n in zip((z, centres), lengths, strict=True))
    labels = np.unique(shot.label)
    means = np.array([z[shot.label == label].mean(0) for label in labels]).reshape(len(labels), shot.n)
    palette = plt.get_cmap("tab10" if shot.classes <= 10 else "tab20").colors  # type: ignore[attr-defined]
    if shot.n == 3 and shot.free_length:
        for circle in _CIRCLES:
            axes.plot(*circle, color="0.85", linewidth=0.4)
    shown = np.unique(np.linspace(0, len(z) - 1, min(_IMAGES, len(z))).round().astype(int)) if len(z) else slice(0)
    for colour in range(min(len(palette), shot.classes)):
        # All points of a colour are one path of lines so short that their round ends make a dot.
        ends = np.repeat(z[shown][shot.label[shown] % len(palette) == colour], 3, axis=0)
        ends[1::3, 0] += 1e-4
        ends[2::3] = np.nan
        # Snapped to pixels a line of no length would be lost.
        axes.plot(*ends.T, color=palette[colour], linewidth=1.6, solid_capstyle="round", snap=False)
    diamonds = [palette[i % len(palette)] for i in labels]
    flat: Any = {"depthshade": False} if shot.n == 3 else {}
    axes.scatter(*means.T, s=16, c=diamonds, marker="D", edgecolors="black", linewidths=0.5, **flat)
    if centres.size:
        axes.scatter(*centres.T, s=16, c="black", marker="x", linewidths=0.7, **flat)
    every = np.concatenate([part for part in (z, centres, means) if part.size])
    limit = 1.08 * float(np.quantile(np.abs(every), 0.995)) or 1.0
    axes.tick_params(labelsize=5)
    _equal_axes(axes, limit, _EMBEDDINGS_VIEW if shot.n == 3 else None)
    if shot.n == 3:
        axes.set(xticks=[], yticks=[], zticks=[])


def draw_angles(found: Sequence[tuple[str, Angles]], folder: Path) -> list[Path]:
    """Histograms over the cosine, one panel for each variant: angles.svg."""
    figure, grid = _panels(len(found), 2.3, 1.6, "share of images")
    for axes, (label, shot) in zip(grid, found, strict=True):
        cosines = np.cos(np.radians(np.arange(shot.own.size) + 0.5))
        bins = np.linspace(-1, 1, 61)
        for counts, colour, word in ((shot.other, COLOURS[1], "nearest other"), (shot.own, COLOURS[0], "own")):
            heights, _ = np.histogram(cosines, bins=bins, weights=counts / max(1, counts.sum()))
            axes.stairs(heights, bins, fill=True, color=colour, alpha=0.65, label=word)
        if shot.min_angle is not None:
            axes.axvline(np.cos(np.radians(shot.min_angle / 2)), color="0.4", linewidth=0.6, linestyle=(0, (4, 3)))
        axes.set_title(_escaped(label), fontsize=7)
        axes.set_xlim(-1, 1)
    grid[0].legend(frameon=False)
    return _save_both(figure, folder, "angles")


def draw_roc(curves: Sequence[tuple[str, tuple[Any, Any], tuple[float, float]]], folder: Path) -> list[Path]:
    """Shares of new classes flagged against shares of known ones, a dot for each (label, curve, dot): novelty.svg."""
    figure, axes = plt.subplots(figsize=(3.3, 2.8), layout="constrained")
    for number, (label, curve, dot) in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(*curve, color=colour, label=_escaped(plain(label)))
        axes.plot(*dot, "o", color=colour, markersize=4, clip_on=False)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.6)
    axes.set(xlabel="known flagged", ylabel="new flagged", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="lower right", frameon=False)
    return _save_both(figure, folder, "novelty")


if __name__ == "__main__":
    draw_curves(json.load(sys.stdin), Path(sys.argv[1]))
