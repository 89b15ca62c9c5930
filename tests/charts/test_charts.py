"""The chart renderer: what is drawn where, that nothing makes it raise or leave its box, and how much work it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lsc_engine.charts.canvas import AXIS, CURSOR, FIRST_SERIES, LEVEL, MARK, series_style
from lsc_engine.charts.chart import Level, Mark, Picture, Series, View, Window, draw, readout, to_text
from lsc_engine.charts.scales import Scale, short, smooth, ticks
from tests.counting import calls


def text_rows(picture: Picture) -> list[str]:
    return ["".join(run.text for run in row) for row in picture.rows]


def cells_of(picture: Picture, style: int) -> int:
    return sum(len(run.text) for row in picture.rows for run in row if run.style == style)


def braille_dots(picture: Picture) -> np.ndarray:
    """Pixels [4 rows, 2 columns] of the plot, decoded from the characters."""
    bits = np.array([[1, 8], [2, 16], [4, 32], [64, 128]])
    out = np.zeros((4 * picture.plot_height, 2 * picture.plot_width), bool)
    for r, row in enumerate(text_rows(picture)[: picture.plot_height]):
        for c, char in enumerate(row[picture.left :]):
            if 0x2800 <= ord(char) <= 0x28FF:
                out[4 * r : 4 * r + 4, 2 * c : 2 * c + 2] = (ord(char) - 0x2800) & bits > 0
    return out


def test_a_straight_line_has_one_dot_per_column_where_it_belongs() -> None:
    x = np.arange(0, 101.0)
    picture = draw([Series(x, x)], 60, 20, View(window=Window(0, 100, 0, 100), axes=False))
    dots = braille_dots(picture)
    assert dots.sum(axis=0).min() >= 1
    assert dots.sum(axis=0).max() <= 2
    height, width = dots.shape
    middle = dots.argmax(axis=0)
    expected = (1 - np.arange(width) / (width - 1)) * (height - 1)
    assert np.abs(middle - expected).max() <= 1.5


def test_a_peak_of_one_point_among_a_million_is_drawn() -> None:
    y = np.zeros(1_000_000)
    y[654_321] = 1.0
    dots = braille_dots(draw([Series(np.arange(y.size), y)], 80, 10, View(axes=False)))
    column = round(654_321 / 999_999 * (dots.shape[1] - 1))
    # Two per cent of padding lie above it.
    assert dots[:2, column].any()
    assert dots[:2].sum(axis=0).astype(bool).sum() <= 2


def test_nan_and_a_step_back_break_the_line() -> None:
    x = np.arange(5.0)
    gap = draw([Series(x, [1, 1, np.nan, 1, 1])], 41, 3, View(axes=False))
    columns = braille_dots(gap).any(axis=0)
    assert columns[0]
    assert columns[-1]
    assert not columns[25:58].any()
    whole = draw([Series(x, [1, 1, 1, 1, 1])], 41, 3, View(axes=False))
    assert braille_dots(whole).any(axis=0).all()
    back = draw([Series([0, 1, 0.5, 1.5], [0, 0, 1, 1])], 41, 5, View(axes=False))
    first_half_of_upper = braille_dots(back)[: 4 * 2].any(axis=0)
    assert not first_half_of_upper[:20].any(), "no line leads back"


def test_log_axis_leaves_out_what_has_no_logarithm() -> None:
    picture = draw([Series([0, 1, 2, 3], [-1, 0, 1, 10]), Series([0, 1], [0, -5])], 40, 10, View(log_y=True))
    assert picture.y.log
    assert 0 < picture.y.lo <= 1
    assert picture.y.hi >= 10


def test_logit_axis_spreads_what_is_near_the_whole() -> None:
    scale = Scale.over(1, 99.9, logit=True)
    odds = [np.log(p / (100 - p)) for p in (1, 99.9, 97)]
    assert scale.place(97) == pytest.approx((odds[2] - odds[0]) / (odds[1] - odds[0]))
    assert scale.at(scale.place(42.0)) == pytest.approx(42.0)
    picture = draw([Series([0, 1, 2, 3], [0, 5, 99, 100])], 40, 20, View(logit=True))
    assert (picture.y.lo, picture.y.hi) == (5, 99.99)
    assert braille_dots(picture)[:, -1].any(), "100 per cent lies at the edge"
    labels = [row.partition("┤")[0].strip() for row in text_rows(picture) if "┤" in row]
    assert labels == ["99.99", "99.9", "99", "90", "50", "10"]


def test_heights_fit_what_is_in_sight_and_stay_within_their_limits() -> None:
    series = [Series(np.arange(101.0), np.arange(101.0))]
    whole = draw(series, 60, 20, View(within=(0, 100)))
    assert (whole.y.lo, whole.y.hi) == (0, 100)
    part = draw(series, 60, 20, View(Window(40, 60), within=(0, 100)))
    assert 38 <= part.y.lo < 40
    assert 60 < part.y.hi <= 62


def test_heights_are_magnified_around_the_curve_at_the_cursor() -> None:
    series = [Series(np.arange(101.0), np.arange(101.0))]
    for cursor, middle in ((30.0, 30), (60.0, 60), (None, 87.5)):
        y = draw(series, 80, 20, View(within=(0, 100), cursor=cursor, magnify=4.0)).y
        assert y.hi - y.lo == pytest.approx(25)
        assert (y.hi + y.lo) / 2 == pytest.approx(middle, abs=2)
    up = draw(series, 80, 20, View(within=(0, 100), cursor=30.0, magnify=4.0, shift=1.0)).y
    assert (up.hi + up.lo) / 2 == pytest.approx(55, abs=2)
    log = draw([Series(np.arange(1.0, 101), np.arange(1.0, 101))], 80, 20, View(log_y=True, magnify=2.0)).y
    assert log.log
    assert np.log10(log.hi / log.lo) == pytest.approx(1.04, abs=0.01)


def test_labels_axis_marks_levels_and_letters() -> None:
    x = np.linspace(0, 200, 101)
    series = [Series(x, np.exp(-x / 80), "a", 0, marks=(Mark(70, "R"), Mark(150, "×")))]
    picture = draw(series, 80, 12, View(log_y=True), [Level(0.3, "level .30")])
    rows = text_rows(picture)
    assert all(len(row) == 80 for row in rows)
    assert rows[0].startswith(" 1.0┤") or rows[1].startswith(" 1.0┤")
    assert all(row[4] in "┤│" for row in rows[:-1])
    assert rows[-1].startswith("    └0─")
    assert "100" in rows[-1]
    assert rows[-1].endswith("200")
    assert "R" in rows[-1]
    assert "×" in rows[-1]
    assert any(row.endswith("level .30") and "╌ ╌" in row for row in rows)
    assert sum("a" in row for row in rows) == 1
    assert cells_of(picture, MARK) == 2
    assert cells_of(picture, LEVEL) > 60
    assert cells_of(picture, AXIS) >= 11


def test_letters_of_curves_that_end_together_do_not_hide_each_other() -> None:
    x = np.linspace(0, 1, 50)
    picture = draw([Series(x, x, "abcd"[i], i) for i in range(4)], 60, 12)
    text = picture.to_text()
    assert all(text.count(letter) == 1 for letter in "abcd")


def test_the_later_series_lies_on_top_and_bright_covers_dim() -> None:
    x = np.arange(10.0)
    first, second = Series(x, x, colour=0), Series(x, x, colour=1)
    assert cells_of(draw([first, second], 40, 10), series_style(0)) == 0
    dim = Series(x, x, colour=1, dim=True)
    assert cells_of(draw([first, dim], 40, 10), series_style(1, True)) == 0


def test_smoothing_draws_raw_dim_and_smooth_bright() -> None:
    rng = np.random.default_rng(0)
    series = [Series(np.arange(500.0), rng.normal(size=500), colour=2)]
    picture = draw(series, 60, 16, View(smoothing=0.97))
    assert cells_of(picture, series_style(2)) > 0
    assert cells_of(picture, series_style(2, True)) > cells_of(picture, series_style(2))


@pytest.mark.parametrize("weight", [0.6, 0.9, 0.97, 0.999])
def test_smoothing_is_the_recursion_divided_by_its_mass(weight: float) -> None:
    values = np.random.default_rng(1).normal(size=3000)
    values[[5, 700, 701]] = np.nan
    total = mass = 0.0
    expected = []
    for v in values:
        if np.isfinite(v):
            total, mass = weight * total + (1 - weight) * v, weight * mass + (1 - weight)
            expected.append(total / mass)
        else:
            expected.append(np.nan)
    np.testing.assert_allclose(smooth(values, weight), expected, rtol=1e-9, atol=1e-12)
    assert smooth(values, 0.0) is values


def test_clipping_leaves_the_outlier_out_of_the_heights() -> None:
    y = np.ones(1000) + 0.1 * np.sin(np.arange(1000))
    y[500] = 1e6
    series = [Series(np.arange(1000), y)]
    assert draw(series, 80, 20).y.hi > 1e5
    assert draw(series, 80, 20, View(clip=True)).y.hi < 2


def test_band_covers_from_lowest_to_highest() -> None:
    x = np.linspace(0, 1, 100)
    picture = draw([Series(x, x * 0 + 0.5, low=x * 0 + 0.2, high=x * 0 + 0.8)], 60, 20, View(window=Window(y0=0, y1=1)))
    styled = cells_of(picture, series_style(0, True))
    assert 0.4 < styled / (picture.plot_width * picture.plot_height) < 0.75


def test_ascii_is_ascii() -> None:
    x = np.linspace(0, 10, 100)
    series = [Series(x, np.sin(x), "a", marks=(Mark(3, "×"),))]
    assert draw(series, 60, 12, View(mode="ascii", cursor=5), [Level(0, "zero")]).to_text().isascii()


def test_text_from_files_cannot_carry_escapes() -> None:
    picture = draw([Series([0, 1], [0, 1], "\x1b")], 40, 8, None, [Level(0.5, "\x1b[31mred\n漢")])
    assert all(c.isprintable() for row in text_rows(picture) for c in row)


def test_cursor_readout_is_the_last_point_before_it() -> None:
    series = Series([0, 10, 20], [1.0, 2.0, 3.0])
    assert readout(series, 15)[:2] == (10.0, 2.0)
    assert readout(series, -5)[:2] == (0.0, 1.0)
    assert np.isnan(readout(Series([], []), 1.0)[1])


def test_the_foot_of_the_cursor_leaves_the_numbers_of_the_axis_whole() -> None:
    series = Series([0, 10, 20], [1.0, 2.0, 3.0])
    for x, foot in ((7.0, "┃"), (10.0, "1")):
        picture = draw([series], 60, 10, View(cursor=x))
        cells = [(char, run.style) for run in picture.rows[-1] for char in run.text]
        assert "─10─" in "".join(char for char, _ in cells)
        assert cells[picture.left + picture.column_of(x)] == (foot, CURSOR)


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="as many x as y"):
        Series([0, 1], [0])


def test_plain_text_has_title_and_legend_in_its_box() -> None:
    x = np.arange(10.0)
    text = to_text([Series(x, x, "a", name="n=384"), Series(x, x / 2, "b", name="n_min")], 60, 14, title="train/loss")
    lines = text.splitlines()
    assert len(lines) == 14
    assert lines[0].startswith("─ train/loss ─")
    assert lines[-1] == "a n=384  b n_min"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.052, ".052"), (0.1, ".10"), (1.0, "1.0"), (10, "10"), (100, "100"), (1500, "1.5k"), (1e7, "10M"),
     (3e-5, "3e-5"), (-0.5, "-.50"), (float("nan"), "NaN"), (1e18, "1e18")],
)  # fmt: skip
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


@given(st.floats(allow_nan=True), st.floats(allow_nan=True), st.booleans(), st.integers(1, 30))
@settings(max_examples=300)
def test_any_limits_give_a_scale_with_few_rising_ticks(lo: float, hi: float, log: bool, count: int) -> None:
    scale = Scale.over(lo, hi, log=log)
    assert scale.lo < scale.hi
    values = ticks(scale, count)
    assert values == sorted(values)
    assert len(values) <= 4 * count + 2


FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)


@given(
    data=st.data(),
    width=st.integers(1, 60),
    height=st.integers(1, 24),
    mode=st.sampled_from(["braille", "block", "ascii"]),
    log_x=st.booleans(),
    log_y=st.booleans(),
    clip=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.6, 0.97]),
    points=st.booleans(),
    logit=st.booleans(),
    magnify=st.sampled_from([1.0, 4.0, 64.0]),
)
@settings(max_examples=400, suppress_health_check=[HealthCheck.data_too_large])
def test_any_values_in_any_box_never_raise_and_never_leave_it(
    data: st.DataObject, width: int, height: int, mode: str, log_x: bool, log_y: bool, clip: bool, smoothing: float,
    points: bool, logit: bool, magnify: float,
) -> None:  # fmt: skip
    series = []
    for i in range(data.draw(st.integers(0, 3))):
        n = data.draw(st.integers(0, 40))
        arrays = [data.draw(hnp.arrays(np.float64, n, elements=FLOATS)) for _ in range(4)]
        x = np.sort(arrays[0]) if data.draw(st.booleans()) else arrays[0]
        band = {"low": arrays[2], "high": arrays[3]} if data.draw(st.booleans()) else {}
        series.append(Series(x, arrays[1], "ab\x1b"[i], i, points=points, marks=(Mark(float(i), "R"),), **band))
    window = Window(*[data.draw(st.none() | FLOATS) for _ in range(4)])
    heights = {"logit": logit and not log_y, "magnify": magnify, "shift": data.draw(st.floats(-9, 9))}
    view = View(window, log_x, log_y, mode, smoothing, clip, data.draw(st.none() | FLOATS), unit="epoch", **heights)  # type: ignore[arg-type]
    picture = draw(series, width, height, view, [Level(data.draw(FLOATS), "level")])
    rows = text_rows(picture)
    assert len(rows) == height
    assert all(len(row) == width for row in rows)
    assert all(c.isprintable() for row in rows for c in row)
    assert all(run.text for row in picture.rows for run in row)
    if mode == "ascii":
        assert all(row.isascii() for row in rows)


@pytest.mark.parametrize("view", [View(log_y=True), View(smoothing=0.9)], ids=["log", "smoothed"])
def test_the_work_of_a_redraw_does_not_grow_with_the_points(view: View) -> None:
    rng = np.random.default_rng(0)

    def work(points: int) -> int:
        x = np.arange(points)
        ten = [Series(x, np.exp(-x / 3e4) + 0.1 * rng.random(x.size) + 0.01, "abcdefghij"[i], i) for i in range(10)]
        draw(ten, 160, 40, view)
        return calls(lambda: draw(ten, 160, 40, view))

    assert work(100_000) < 1.2 * work(10_000)


def test_styles_of_series_do_not_meet_those_of_the_frame() -> None:
    assert FIRST_SERIES > MARK
    assert series_style(0) != series_style(0, True) != series_style(1)
