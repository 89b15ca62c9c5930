"""A snapshot of embeddings drawn in cells: Monitor and `lsc-engine show --plot` are this one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from lsc_engine.charts.canvas import Mode, Rows
from lsc_engine.charts.scatter import Camera, Tag, mirrored_histogram, plane, sphere
from lsc_engine.runs.read.embeddings import Angles, Floats, Points, Snapshot

# Colours that stay apart, as the themes have them.
COLOURS = 8
# Half a turn is the widest angle there is.
_WIDEST = 180.0


def kind_of(shot: Snapshot | None) -> str:
    """plane, sphere or angles; "" for None."""
    if shot is None:
        return ""
    return "angles" if isinstance(shot, Angles) else "sphere" if shot.n == 3 else "plane"


def snapshot_rows(
    shot: Snapshot,
    width: int,
    height: int,
    *,
    camera: Camera | None = None,
    mode: Mode = "braille",
    shots: Sequence[Snapshot] = (),
) -> Rows:
    """A snapshot as rows of styled cells: plane for n <= 2, sphere for n = 3, histograms of angles above.

    `shots`: those that are looked at one after the other; the axis of angles is as wide as all of them need.
    """
    camera = camera or Camera()
    if isinstance(shot, Angles):
        return _angles([shot, *shots], shot, camera, width, height, mode)
    colours = class_colours(shot)
    colour = np.array([colours[label] for label in shot.label.tolist()], np.int64)
    extent, places = _plane_size(shot) if shot.n < 3 else (1.0, shot.centre)
    names = shot.centre_label.tolist()
    if not names:
        # Where the method has no centres, a name stands in the middle of its images.
        names = np.unique(shot.label).tolist()
        means = np.array([shot.z[shot.label == label].mean(0) for label in names]).reshape(-1, shot.n)
        places = _two(means) if shot.n < 3 else means
    tags = [Tag(tuple(at), str(name), colours[name]) for name, at in zip(names, places.tolist(), strict=True)]
    if shot.n == 3:
        return sphere(shot.z, colour, width, height, camera=camera, mode=mode, tags=tags)
    circles = [(tag.at[0], tag.at[1], shot.radius) for tag in tags] if shot.radius else []
    moved = replace(camera, x=camera.x * extent, y=camera.y * extent)
    z = _two(shot.z)
    return plane(z, colour, width, height, extent=extent, camera=moved, mode=mode, tags=tags, circles=circles)


@lru_cache(maxsize=8)
def class_colours(shot: Points) -> dict[int, int]:
    """A colour for each class: in turn; with more classes than colours and centres that do not move, the one whose
    other classes are farthest away."""
    places = dict(zip(shot.centre_label.tolist(), shot.centre, strict=True)) if shot.min_angle is not None else {}
    out: dict[int, int] = {}
    used: list[list[Floats]] = [[] for _ in range(COLOURS)]
    for number, label in enumerate(np.union1d(shot.label, shot.centre_label).tolist()):
        place = places.get(label)
        colour = number % COLOURS
        if place is not None and number >= COLOURS:
            gaps = [min((float(np.linalg.norm(place - other)) for other in group), default=np.inf) for group in used]
            colour = int(np.argmax(gaps))
        if place is not None:
            used[colour].append(place)
        out[label] = colour
    return out


def _two(z: Floats) -> Floats:
    """Two coordinates: those of a line lie on it."""
    return z if z.shape[1] == 2 else np.pad(z, ((0, 0), (0, 2 - z.shape[1])))


def _plane_size(shot: Points) -> tuple[float, Floats]:
    """Half the width of the picture, and where the names of the classes stand [k, 2]. Where only directions count they
    stand around most of the images."""
    length = np.linalg.norm(shot.z, axis=1)
    far = float(np.quantile(length, 0.98)) if length.size else 1.0
    places = _two(shot.centre)
    norm = np.linalg.norm(places, axis=1, keepdims=True)
    if shot.free_length:
        return 1.15 * far or 1.0, np.where(norm > 0, places / np.where(norm > 0, norm, 1.0), 0.0) * (1.05 * far or 1.0)
    most = float(norm.max()) if norm.size else far
    return max(1.15 * most, min(1.05 * far, 2 * most)) or 1.0, places


def _angles(shots: Sequence[Snapshot], shot: Angles, camera: Camera, width: int, height: int, mode: Mode) -> Rows:
    histograms = [one for one in shots if isinstance(one, Angles)]
    last = max(int(np.flatnonzero(one.own + one.other).max(initial=0)) for one in histograms) + 1
    whole = min(_WIDEST, max(30.0, 10.0 * np.ceil(1.02 * last / 10)))
    span = min(_WIDEST, whole / camera.zoom)
    lo = max(0.0, min(_WIDEST - span, camera.x * whole))
    degree = "" if mode == "ascii" else "°"
    marks = []
    if shot.min_angle is not None:
        half, least = shot.min_angle / 2, shot.min_angle
        marks = [(half, f"{half:.1f}{degree} half"), (least, f"{least:.1f}{degree} least")]
    return mirrored_histogram(
        shot.own,
        shot.other,
        width,
        height,
        lo=lo,
        hi=lo + span,
        mode=mode,
        unit=degree,
        marks=marks,
        names=("own centre", "nearest other"),
    )
