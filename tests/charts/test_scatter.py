"""Points in the plane, on the sphere, and two histograms over one axis: what is drawn where, and nothing raises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsc_engine.charts.canvas import AXIS, LEVEL, Rows, series_style
from lsc_engine.charts.scatter import Camera, Tag, mirrored_histogram, plane, sphere, turned
from tests.counting import calls


def grid(rows: Rows) -> list[str]:
    return ["".join(run.text for run in row) for row in rows]


def styles(rows: Rows) -> np.ndarray:
    return np.array([[run.style for run in row for _ in run.text] for row in rows])


def where(rows: Rows, text: str) -> list[tuple[int, int]]:
    return [(r, c) for r, row in enumerate(grid(rows)) for c in range(len(row)) if row[c : c + len(text)] == text]


NONE = np.zeros((0, 2)), np.zeros(0, np.int64)


def test_points_lie_where_they_belong_and_circles_are_round() -> None:
    z = np.array([[0.0, 0.9], [0.9, 0.0], [0.0, -0.9], [-0.9, 0.0]])
    rows = plane(z, np.arange(4), 41, 21, extent=1.0)
    found = styles(rows)
    at = {c: np.argwhere(found == series_style(c)).tolist() for c in range(4)}
    assert all(len(cells) == 1 for cells in at.values())
    up, right, down, left = (at[c][0] for c in range(4))
    assert up[1] == down[1] == 20
    assert abs(right[0] - 10) <= 1
    assert abs(left[0] - 10) <= 1
    # Half a height of 9 cells of 4 dots is as long as 18 cells of 2 dots.
    assert down[0] - up[0] == pytest.approx((right[1] - left[1]) / 2, abs=1)
    assert where(rows, "·") == [(10, 20)]
    ring = np.argwhere(styles(plane(*NONE, 41, 21, extent=1.0, circles=[(0, 0, 0.9)])) == AXIS)
    assert np.ptp(ring[:, 1]) == pytest.approx(2 * np.ptp(ring[:, 0]), abs=2)


def test_a_cell_takes_the_colour_of_most_of_its_points_and_tags_stand_on_them() -> None:
    z = np.zeros((5, 2)) + 0.01
    rows = plane(z, np.array([1, 2, 2, 2, 0]), 20, 10, extent=1.0)
    assert (styles(rows) == series_style(2)).sum() == 1
    tagged = plane(z, np.zeros(5, int), 20, 10, extent=1.0, tags=[Tag((0.0, 0.0), "12", 3)])
    assert where(tagged, "12") == [(5, 10)]
    assert (styles(tagged) == series_style(3)).sum() == 2


def test_zoom_and_moving_look_at_another_part() -> None:
    z = np.array([[0.5, 0.5]])
    whole = np.argwhere(styles(plane(z, np.zeros(1, int), 40, 20, extent=1.0)) == series_style(0))[0]
    near = plane(z, np.zeros(1, int), 40, 20, extent=1.0, camera=Camera(zoom=8.0, x=0.5, y=0.5))
    middle = np.argwhere(styles(near) == series_style(0))[0]
    assert abs(middle - (10, 20)).max() <= 1
    assert whole[0] < middle[0]
    assert whole[1] > middle[1]
    gone = plane(z, np.zeros(1, int), 40, 20, extent=1.0, camera=Camera(zoom=8.0))
    assert not (styles(gone) == series_style(0)).any()


def test_the_sphere_is_turned_and_its_back_is_dim() -> None:
    axes = np.eye(3)
    assert np.allclose(turned(axes, Camera(0, 0)), [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert np.allclose(turned(axes, Camera(90, 0))[:, 2], [0, 1, 0], atol=1e-12)
    assert np.allclose(turned(axes, Camera(0, 90))[2], [0, 0, 1], atol=1e-12)
    views = turned(np.random.default_rng(0).normal(size=(50, 3)), Camera(33, -71))
    lengths = np.linalg.norm(np.random.default_rng(0).normal(size=(50, 3)), axis=1)
    assert np.allclose(np.linalg.norm(views, axis=1), lengths)

    rows = sphere(7 * axes[:1], np.array([2]), 40, 20, camera=Camera(0, 0), tags=[Tag((0, 0, 2.0), "z", 1)])
    front = np.argwhere(styles(rows) == series_style(2))
    assert abs(front[0] - (10, 20)).max() <= 1
    assert where(rows, "z")[0][0] <= 1
    back = sphere(axes[:1], np.array([2]), 40, 20, camera=Camera(180, 0))
    assert (styles(back) == series_style(2, dim=True)).sum() == 1
    assert not (styles(back) == series_style(2)).any()
    both = sphere(np.array([[1.0, 0, 0], [-1.0, 0, 0]]), np.array([2, 4]), 40, 20, camera=Camera(0, 0))
    assert (styles(both) == series_style(2)).sum() == 1
    assert not (styles(both) == series_style(4, dim=True)).any()
    assert not (styles(sphere(np.zeros((3, 3)), np.zeros(3, int), 40, 20)) >= 16).any()


def test_the_back_can_be_told_without_colour() -> None:
    points = np.array([[1.0, 0.2, 0.2], [-1.0, 0.4, 0.4]])
    text = "".join(grid(sphere(points, np.array([0, 1]), 40, 20, camera=Camera(0, 0), mode="ascii")))
    assert text.count("*") == 1
    assert text.count(":") == 1


def test_a_butterfly_shows_both_sides_and_its_marks() -> None:
    up, down = np.zeros(180), np.zeros(180)
    up[20:30], down[80:90] = 4, 1
    rows = mirrored_histogram(up, down, 60, 15, lo=0, hi=120, names=("own", "other"), marks=[(48.2, "48.2°")], unit="°")
    found, text = styles(rows), grid(rows)
    own, other = np.argwhere(found == series_style(0)), np.argwhere(found == series_style(1))
    bars = own[own[:, 0] > 0]
    assert bars[:, 0].max() == 6
    assert {10, 14} == {int(bars[:, 1].min()), int(bars[:, 1].max())}
    assert other[:, 0].min() == 8
    assert other[other[:, 0] < 14][:, 1].min() == 40
    assert "0°" in text[7]
    assert "120°" in text[7]
    assert text[0].endswith("own")
    assert text[-1].endswith("other")
    assert "48.2°" in text[0]
    column = 24
    assert all(row[column] == "┊" for i, row in enumerate(text) if i != 7)
    assert (found == LEVEL).sum() >= 14


def test_a_bin_is_spread_over_its_width_and_zoom_shows_a_part() -> None:
    counts = np.zeros(180)
    counts[10] = 7
    wide = mirrored_histogram(counts, counts * 0, 80, 9, lo=5, hi=15, mode="block")
    bars = np.argwhere(styles(wide) == series_style(0))
    assert (int(bars[:, 1].min()), int(bars[:, 1].max())) == (40, 47)
    assert not (styles(mirrored_histogram(counts, counts, 80, 9, lo=20, hi=30)) >= 16).any()


@given(
    st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 25), st.sampled_from(["braille", "block", "ascii"]),
    st.sampled_from([0.0, 1e-300, 1.0, 1e9, float("inf"), float("nan"), -3.0]),
)  # fmt: skip
@settings(max_examples=120)
def test_nothing_raises_and_all_stays_in_its_box(seed: int, width: int, height: int, mode: str, extent: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(30, 3)) * 10.0 ** rng.integers(-5, 6, (30, 1))
    values[rng.integers(30, size=3), rng.integers(3, size=3)] = rng.choice([np.nan, np.inf, -np.inf, 1e300, 0.0])
    colour = rng.integers(0, 8, 30)
    tags = [Tag(tuple(row), "123", 1) for row in values[:5].tolist()]
    camera = Camera(
        *(rng.normal(size=2) * 400).tolist(), float(10.0 ** rng.integers(-2, 4)), *rng.normal(size=2).tolist()
    )
    counts = np.where(rng.random(180) < 0.5, 0.0, rng.choice([1.0, 1e300, np.nan, -4.0], 180))
    drawn = [
        plane(values[:, :2], colour, width, height, extent=extent, camera=camera, mode=mode,  # type: ignore[arg-type]
              tags=tags, circles=[(0.0, 0.0, abs(extent))]),
        sphere(values, colour, width, height, camera=camera, mode=mode, tags=tags),  # type: ignore[arg-type]
        mirrored_histogram(counts, counts[::-1], width, height, lo=extent, hi=90.0, mode=mode,  # type: ignore[arg-type]
                  names=("a" * 9, "b"), marks=[(extent, "x" * 30), (7.0, "y")], unit="°"),
    ]  # fmt: skip
    for rows in drawn:
        assert [len(row) for row in grid(rows)] == [width] * height
        if mode == "ascii":
            assert "".join(grid(rows)).replace("·", "").replace("°", "").isascii()


def test_the_work_does_not_grow_with_the_points() -> None:
    """Points are drawn by array operations: ten times as many take no further calls."""
    rng = np.random.default_rng(0)
    tags = [Tag(tuple(row), str(i), i % 8) for i, row in enumerate(rng.normal(size=(64, 3)))]

    def work(points: int) -> int:
        z, colour = rng.normal(size=(points, 3)), rng.integers(0, 8, points)
        sphere(z, colour, 80, 30, tags=tags)
        return calls(lambda: sphere(z, colour, 80, 30, tags=tags))

    assert work(50_000) < 1.2 * work(5_000)
