"""Snapshots of embeddings: written whole, thinned evenly, and nothing that is not one is taken for one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.runs.read.embeddings import (
    MOST_KEPT,
    Angles,
    Points,
    drop_after,
    list_snapshots,
    read_snapshot,
    thin,
    write_snapshot,
)


def points(step: int = 40, **changes: Any) -> Points:
    values: dict[str, Any] = {
        "step": step, "epoch": step / 10, "classes": 3, "min_angle": 90.0, "free_length": True, "radius": None,
        "z": np.array([[3.0, 0.1], [0.1, 2.0], [1.0, 1.1], [-1.0, 0.2]]), "label": np.array([0, 1, 0, 2]),
        "predicted": np.array([0, 1, 1, 2]), "centre_label": np.array([2, 0, 1]),
        "centre": np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
    }  # fmt: skip
    return Points(**{**values, **changes})


def angles(step: int = 40) -> Angles:
    own, other = np.zeros(180, np.int64), np.zeros(180, np.int64)
    own[10], own[20], other[80] = 30, 10, 40
    return Angles(step, 4.0, 1797, 48.2, 384, own, other, 0.75, 0.1)


def test_points_are_read_back_and_judged(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, points())
    assert path.stat().st_size < 1000
    found = read_snapshot(path)
    assert isinstance(found, Points)
    assert (found.step, found.epoch, found.classes, found.n) == (40, 4.0, 3, 2)
    assert np.allclose(found.z, points().z, atol=1e-6)
    assert found.own_centre.tolist() == [[1, 0], [0, 1], [1, 0], [-1, 0]]
    # Half of 90 degrees: the third image stands at 47.7 degrees from its centre.
    assert found.inside is not None
    assert found.inside.tolist() == [True, True, False, True]
    assert found.by_class() == [(0, 2, 0.5, 0.5), (1, 1, 1.0, 1.0), (2, 1, 1.0, 1.0)]


def test_inside_is_the_radius_where_there_is_one_and_nothing_where_centres_are_learned(tmp_path: Path) -> None:
    found = read_snapshot(write_snapshot(tmp_path, points(radius=1.2, free_length=False)))
    assert isinstance(found, Points)
    assert found.inside is not None
    assert found.inside.tolist() == [False, True, True, True]
    assert points(min_angle=None).inside is None
    alone = read_snapshot(write_snapshot(tmp_path, points(centre=np.zeros((0, 2)), centre_label=np.zeros(0, np.int64))))
    assert isinstance(alone, Points)
    assert alone.inside is None
    assert np.isnan(alone.own_centre).all()


def test_angles_are_read_back(tmp_path: Path) -> None:
    found = read_snapshot(write_snapshot(tmp_path, angles()))
    assert isinstance(found, Angles)
    assert (found.images, found.n, found.inside, found.wrong, found.min_angle) == (40, 384, 0.75, 0.1, 48.2)
    assert found.quantile(found.own, 0.5) == pytest.approx(10 + 20 / 30)
    assert found.quantile(found.other, 0.0) <= 80
    assert found.quantile(np.zeros(180, np.int64), 0.5) == 0.0


@pytest.mark.parametrize("evaluations", [1, 59, 60, 61, 119, 2345])
def test_few_are_kept_evenly_spread_whatever_was_stopped_between(tmp_path: Path, evaluations: int) -> None:
    every = 7
    last = evaluations * every + 3
    steps = [*range(every, last, every), last]
    place = tmp_path / "embeddings"
    place.mkdir()
    kept: list[int] = []
    for number, step in enumerate(steps):
        # The writing itself is tested elsewhere; thousands of files are only named here.
        (place / f"step-{step:08d}.safetensors").touch()
        if number == len(steps) // 2:
            (place / ".step-00000007.safetensors.12.tmp").touch()
            thin(tmp_path, step, every)
            drop_after(tmp_path, step - 2 * every)
            for again in steps[max(0, number - 2) : number + 1]:
                (place / f"step-{again:08d}.safetensors").touch()
        if number % 40 == 0 or step == last:
            thin(tmp_path, step, every)
            kept = [found for found, _ in list_snapshots(tmp_path)]
            assert len(kept) <= MOST_KEPT
            assert kept[-1] == step
    gaps = np.diff([0, *kept[:-1]])
    assert len(set(gaps.tolist())) <= 1
    assert len(kept) >= min(len(steps), MOST_KEPT // 2 - 1)
    assert not [name for name in os.listdir(place) if name.startswith(".")]


def test_snapshots_beyond_a_step_are_dropped(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        write_snapshot(tmp_path, points(step))
    drop_after(tmp_path, 20)
    assert [step for step, _ in list_snapshots(tmp_path)] == [10, 20]
    drop_after(tmp_path / "nothing here", 0)


def test_what_is_no_snapshot_is_not_listed(tmp_path: Path) -> None:
    assert list_snapshots(tmp_path) == []
    place = tmp_path / "embeddings"
    write_snapshot(tmp_path, points())
    for name in ("step-1.safetensors", "step-00000010.npz", "step-99999999999999999999.safetensors", ".step-0"):
        (place / name).touch()
    assert [step for step, _ in list_snapshots(tmp_path)] == [40]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/embeddings").symlink_to(place)
    assert list_snapshots(tmp_path / "other") == []


def _remade(path: Path, change: Any) -> None:
    """Write the file again with another header."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["snapshot"])
    change(header, facts)
    header["__metadata__"] = {"snapshot": json.dumps(facts)}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


FORGED = {
    "another dtype": lambda h, f: h["z"].update(dtype="F16"),
    "a huge shape": lambda h, f: h["z"].update(shape=[2**40, 2]),
    "a negative shape": lambda h, f: h["z"].update(shape=[-4, -2]),
    "more axes": lambda h, f: h["z"].update(shape=[2, 2, 2]),
    "another shape": lambda h, f: h["z"].update(shape=[2, 4]),
    "offsets outside": lambda h, f: h["z"].update(data_offsets=[0, 10**9]),
    "offsets of text": lambda h, f: h["z"].update(data_offsets=["0", "32"]),
    "offsets overlap the end": lambda h, f: h["z"].update(data_offsets=[32, 0]),
    "no z": lambda h, f: h.pop("z"),
    "z of whole numbers": lambda h, f: h.update(z=dict(h["label"], shape=[2, 2])),
    "a boolean step": lambda h, f: f.update(step=True),
    "no step": lambda h, f: f.pop("step"),
    "another step": lambda h, f: f.update(step=41),
    "a step of text": lambda h, f: f.update(step="40"),
    "an infinite epoch": lambda h, f: f.update(epoch=float("inf")),
    "NaN": lambda h, f: f.update(min_angle=float("nan")),
    "an angle of 400": lambda h, f: f.update(min_angle=400),
    "another kind": lambda h, f: f.update(kind="\x1b[31m"),
    "free_length 1": lambda h, f: f.update(free_length=1),
    "radius -1": lambda h, f: f.update(radius=-1),
    "no classes": lambda h, f: f.update(classes=0),
    "too many classes": lambda h, f: f.update(classes=10**30),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_headers_are_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    path = write_snapshot(tmp_path, points())
    _remade(path, FORGED[name])
    with pytest.raises(UnreadableError) as error:
        read_snapshot(path)
    assert path.name in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("not finite", {"z": np.full((4, 2), np.nan)}),
        ("not finite", {"centre": np.array([[np.inf, 0], [0, 1], [1, 0]])}),
        ("far too large", {"z": np.full((4, 2), 1e30)}),
        ("4 dimensions", {"z": np.zeros((4, 4)), "centre": np.zeros((3, 4))}),
        ("3 dimensions", {"centre": np.zeros((3, 3))}),
        ("equal length", {"label": np.array([0, 1])}),
        ("equal length", {"centre_label": np.array([0, 1])}),
        ("two centres", {"centre_label": np.array([1, 1, 0])}),
        ("256 is the most", {"centre": np.ones((300, 2)), "centre_label": np.arange(300)}),
        ("list of classes", {"label": np.array([0, -7, 1, 1])}),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    path = write_snapshot(tmp_path, points(**change))
    with pytest.raises(UnreadableError, match=name):
        read_snapshot(path)


@pytest.mark.parametrize("made", [points(), angles()], ids=["points", "angles"])
def test_torn_and_flipped_files_never_raise_anything_else(tmp_path: Path, made: Any) -> None:
    path = write_snapshot(tmp_path, made)
    whole = path.read_bytes()
    for size in range(0, len(whole), 13):
        path.write_bytes(whole[:size])
        with pytest.raises(UnreadableError):
            read_snapshot(path)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 3):
            data[at] = rng.integers(256)
        path.write_bytes(bytes(data))
        try:
            found = read_snapshot(path)
        except UnreadableError:
            refused += 1
        else:
            assert found.step == 40
    assert refused > 50


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "embeddings"
    place.mkdir()
    path = place / "step-00000040.safetensors"
    with pytest.raises(UnreadableError, match="is not there"):
        read_snapshot(path)
    path.write_bytes(b"\x00" * (1 << 20))
    with pytest.raises(UnreadableError, match="larger than"):
        read_snapshot(path)
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(UnreadableError, match="header"):
        read_snapshot(path)
    path.write_bytes((400).to_bytes(8, "little") + b"[" * 400)
    with pytest.raises(UnreadableError, match="header"):
        read_snapshot(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnreadableError, match="not a regular file"):
        read_snapshot(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UnreadableError, match="is a link"):
        read_snapshot(path)
