"""Snapshots of embeddings in a run folder, some evaluation images after each evaluation, and their pictures in cells. A
file is `embeddings/step-00001000.safetensors`, some 20 kB, written whole or not at all. Nothing is unpickled, sizes are
bounded, and every number is checked before it is used. Loads no torch."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from lsc_engine.charts.canvas import Mode, Rows
from lsc_engine.charts.scatter import Camera, Tag, mirrored_histogram, plane, sphere
from lsc_engine.common.safe_io import UnreadableError, opened, replace_file
from lsc_engine.runs.folder.layout import EMBEDDINGS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Snapshots kept of a run; every second one is removed before there are more.
MOST_KEPT = 60
BINS = 180
_MOST_BYTES = 256 << 10
_MOST_NAMES = 10_000
_MOST_VALUES, _MOST_CENTRES = 3 * 1024, 256
_LARGEST = 1e15
_NAME = re.compile(r"step-([0-9]{8,18})\.safetensors")


@dataclass(frozen=True, eq=False)
class _Measured:
    """`classes` in all; `min_angle` between two centres in degrees, None if the centres are learned."""

    step: int
    epoch: float
    classes: int
    min_angle: float | None


@dataclass(frozen=True, eq=False)
class Points(_Measured):
    """Embeddings of B images in n <= 3 dimensions, and the centres of their k classes. `free_length`: only directions
    count (cosine, cross-entropy), so the lengths of the centres mean nothing. `radius`: the distance from the centre
    within which the loss is 0, or None. `centre` is empty [0, n] if the method has none."""

    free_length: bool
    radius: float | None
    z: Floats
    label: Ints
    predicted: Ints
    centre_label: Ints
    centre: Floats

    @property
    def n(self) -> int:
        return int(self.z.shape[1])

    @cached_property
    def own_centre(self) -> Floats:
        """The centre of each image's class [B, n]; NaN if it is not kept."""
        out = np.full(self.z.shape, np.nan)
        order = np.argsort(self.centre_label)
        if order.size:
            at = order[np.minimum(np.searchsorted(self.centre_label[order], self.label), order.size - 1)]
            known = self.centre_label[at] == self.label
            out[known] = self.centre[at[known]]
        return out

    @cached_property
    def inside(self) -> Bools | None:
        """[B]: closer to its centre than the radius, or than half the smallest angle; None without either."""
        own = self.own_centre
        if self.radius is not None:
            return np.asarray(np.linalg.norm(self.z - own, axis=1) <= self.radius)
        if self.min_angle is None or not self.centre.size:
            return None
        length = np.linalg.norm(self.z, axis=1) * np.linalg.norm(own, axis=1)
        inner = (self.z * own).sum(1)
        return np.asarray(inner > length * math.cos(math.radians(self.min_angle / 2)))

    def by_class(self) -> list[tuple[int, int, float, float | None]]:
        """(class, images, share labelled right, share inside) of the classes that images are kept of, rising."""
        out = []
        for label in np.unique(self.label).tolist():
            rows = self.label == label
            inside = None if self.inside is None else float(self.inside[rows].mean())
            out.append((label, int(rows.sum()), float((self.predicted[rows] == label).mean()), inside))
        return out


@dataclass(frozen=True, eq=False)
class Angles(_Measured):
    """Angles of some images to their own and to their nearest other centre, in n > 3 dimensions. `own`, `other`: counts
    [180] by degree. `inside`: share closer to the own centre than half the smallest angle (None where centres are
    learned), `wrong`: share closer to another centre than to their own."""

    n: int
    own: Ints
    other: Ints
    inside: float | None
    wrong: float

    @property
    def images(self) -> int:
        return int(self.own.sum())

    @staticmethod
    def quantile(counts: Ints, share: float) -> float:
        """The angle in degrees below which this share of the images lies, by linear interpolation in its bin."""
        total = np.concatenate(([0.0], np.cumsum(counts)))
        wanted = share * total[-1]
        at = int(np.clip(np.searchsorted(total, wanted) - 1, 0, counts.size - 1))
        return float(at + (wanted - total[at]) / max(1, counts[at]))


Snapshot = Points | Angles
Shots = Sequence[Snapshot]
# Colours that stay apart, as the themes have them.
COLOURS = 8
# Half a turn is the widest angle there is.
_WIDEST = 180.0
# The facts of a snapshot: their types, the least and the largest value; and its arrays. Both in the order of the file.
_HEAD: dict[str, tuple[tuple[type, ...], float, float]] = {
    "step": ((int,), 0, 10**18),
    "epoch": ((float, int), 0, _LARGEST),
    "classes": ((int,), 1, 2**63),
    "min_angle": ((float, int, NoneType), 0, 180),
}
_SHARES = {"inside": ((float, int, NoneType), 0, 1), "wrong": ((float, int), 0, 1)}
_FACTS = {
    "points": {**_HEAD, "free_length": ((bool,), 0, 1), "radius": ((float, int, NoneType), 0, _LARGEST)},
    "angles": {**_HEAD, "n": ((int,), 1, 10**9), **_SHARES},
}
_ARRAYS = {
    "points": {"z": "<f4", "centre": "<f4", "label": "<i8", "predicted": "<i8", "centre_label": "<i8"},
    "angles": {"own": "<i8", "other": "<i8"},
}


def list_snapshots(folder: Path) -> list[tuple[int, Path]]:
    """Step and path of the snapshots of a run folder, rising; the newest ones if there are far too many."""
    place, found = folder / EMBEDDINGS, list[tuple[int, Path]]()
    if not place.is_symlink():
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            names = [_NAME.fullmatch(entry.name) for entry in islice(entries, _MOST_NAMES)]
            found = [(int(name[1]), place / name[0]) for name in names if name is not None]
    return sorted(found)[-4 * MOST_KEPT :]


def read_snapshot(path: Path) -> Snapshot:
    """The snapshot in a file. UnreadableError, one sentence, for anything that is not one."""
    with opened(path) as descriptor:
        if os.fstat(descriptor).st_size > _MOST_BYTES:
            raise UnreadableError(f"{path.name} is larger than {_MOST_BYTES} bytes")
        try:
            # The open file, not the path, where another file may lie by now.
            with safe_open(f"/dev/fd/{descriptor}", "numpy") as file:
                facts = json.loads(file.metadata()["snapshot"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
            facts, arrays = None, {}
    if not isinstance(facts, dict) or any(array.ndim > 2 or array.size > _MOST_VALUES for array in arrays.values()):
        raise UnreadableError(f"{path.name} is not a snapshot of embeddings: its header or data are damaged")
    try:
        snapshot = _checked(facts, arrays)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise UnreadableError(f"{path.name} is not a snapshot of embeddings: {what}") from None
    if (name := _NAME.fullmatch(path.name)) is not None and int(name[1]) != snapshot.step:
        raise UnreadableError(f"{path.name} holds step {snapshot.step}")
    return snapshot


def _checked(facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Snapshot:
    """The snapshot of these facts and arrays. KeyError for what is missing, ValueError for what is wrong."""
    kind = facts.get("kind")
    if kind not in _FACTS:
        raise ValueError(f"its kind is {str(kind)[:40]!r}")
    values: dict[str, Any] = {}
    for name, (types, low, high) in _FACTS[kind].items():
        value = facts[name]
        if type(value) not in types or (value is not None and not low <= value <= high):
            raise ValueError(f"{name} is {str(value)[:40]!r}")
        values[name] = float(value) if float in types and value is not None else value
    for name, dtype in _ARRAYS[kind].items():
        array = arrays[name]
        if array.dtype.kind != dtype[1] or array.ndim != (2 if dtype == "<f4" else 1):
            raise ValueError(f"{name} is not {'a table of numbers' if dtype == '<f4' else 'a list of whole numbers'}")
        if not np.isfinite(array).all() or np.abs(array).max(initial=0) > _LARGEST:
            raise ValueError(f"{name} holds values that are not finite or far too large")
        values[name] = array.astype(np.float64 if dtype == "<f4" else np.int64)
    if kind == "angles":
        counts = {name: values[name] for name in _ARRAYS[kind]}
        if bad := [name for name, c in counts.items() if c.shape != (BINS,) or c.min() < 0 or c.max() > 1e9]:
            raise ValueError(f"{bad[0]} is not a count for each of {BINS} degrees")
        return Angles(**values)
    shot = Points(**values)
    dims = shot.centre.shape[1]
    lengths = len(shot.z) == len(shot.label) == len(shot.predicted) and len(shot.centre) == len(shot.centre_label)
    labels = min(values[name].min(initial=0) for name in ("label", "predicted", "centre_label"))
    faults = {
        f"embeddings of {shot.n} and centres of {dims} dimensions": not 1 <= shot.n <= 3 or dims != shot.n,
        "its arrays are not of equal length": not lengths,
        f"{len(shot.centre)} centres, and {_MOST_CENTRES} is the most": len(shot.centre) > _MOST_CENTRES,
        "a class has two centres": len(np.unique(shot.centre_label)) != len(shot.centre_label),
        "a label below -1 is in a list of classes": labels < -1,
    }
    if fault := next((sentence for sentence, found in faults.items() if found), None):
        raise ValueError(fault)
    return shot


def write_snapshot(folder: Path, snapshot: Snapshot) -> Path:
    """Write a snapshot into the run folder, whole or not at all. Raises OSError."""
    from safetensors.numpy import save

    kind = "points" if isinstance(snapshot, Points) else "angles"
    facts = {"kind": kind, **{name: getattr(snapshot, name) for name in _FACTS[kind]}}
    arrays = {name: getattr(snapshot, name).astype(dtype) for name, dtype in _ARRAYS[kind].items()}
    path = folder / EMBEDDINGS / f"step-{snapshot.step:08d}.safetensors"
    path.parent.mkdir(exist_ok=True)
    replace_file(path, bytes(save(arrays, {"snapshot": json.dumps(facts, allow_nan=False)})), durable=False)
    return path


def thin(folder: Path, newest: int, every: int) -> None:
    """Remove snapshots so that at most `MOST_KEPT` evenly spread ones up to step `newest` are left, by the steps alone,
    so that a resumed run keeps the same. `every`: steps between evaluations. Files of a killed writer go too."""
    stride = every
    while newest // stride > MOST_KEPT - 2:
        stride *= 2
    _remove(folder, lambda step: step != newest and (step % stride != 0 or step > newest))


def drop_after(folder: Path, step: int) -> None:
    """Remove the snapshots beyond `step`, from which the run goes on."""
    _remove(folder, lambda other: other > step)


def _remove(folder: Path, gone: Callable[[int], bool]) -> None:
    place = folder / EMBEDDINGS
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in list(entries):
            name = _NAME.fullmatch(entry.name)
            if gone(int(name[1])) if name is not None else entry.name.startswith(".step-"):
                with contextlib.suppress(OSError):
                    os.unlink(place / entry.name)


def kind_of(shot: Snapshot | None) -> str:
    """plane, sphere or angles; "" for None."""
    if shot is None:
        return ""
    return "angles" if isinstance(shot, Angles) else "sphere" if shot.n == 3 else "plane"


def snapshot_rows(
    shot: Snapshot, width: int, height: int, *, camera: Camera | None = None, mode: Mode = "braille", shots: Shots = ()
) -> Rows:
    """A snapshot as rows of styled cells: plane (n <= 2), sphere (3), else histograms, as wide as `shots` need."""
    camera = camera or Camera()
    if isinstance(shot, Angles):
        return _angles([shot, *shots], shot, camera, width, height, mode)
    colours = class_colours(shot)
    colour = np.array([colours[label] for label in shot.label.tolist()], np.int64)
    extent, places = _plane_size(shot) if shot.n < 3 else (1.0, shot.centre)
    if not (names := shot.centre_label.tolist()):
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
    """A colour for each class: in turn; of many fixed centres the one whose other classes are farthest away."""
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
    """Half the width of the picture, and where the names of the classes stand [k, 2]."""
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
    degree, least = "" if mode == "ascii" else "°", shot.min_angle
    marks = (
        [(least * by, f"{least * by:.1f}{degree} {name}") for by, name in ((0.5, "half"), (1, "least"))]
        if least
        else []
    )
    look: dict[str, Any] = {"mode": mode, "unit": degree, "marks": marks, "names": ("own centre", "nearest other")}
    return mirrored_histogram(shot.own, shot.other, width, height, lo=lo, hi=lo + span, **look)
