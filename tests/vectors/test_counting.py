"""Counts, smallest n and angles against listing, the papers' tables and the numbers of the Vectors screen."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import parse_count
from lsc_engine.vectors.registry import canonical, facts, family_of, is_known, listed, n_min, too_few
from tests.vectors.brute import SMALL, native, unit

COLUMNS = ("V11", "A", "Ap", "A-mid", "A-interp", "V21", "V21pm", "V22")
TABLE = {
    10: "4:12 | 3:12 | 4:10 | 3:24 | 2:12 | 4:12 | 4:24 | 5:30",
    84: "10:90 | 9:90 | 13:91 | 5:120 | 5:150 | 7:105 | 6:120 | 6:90",
    1000: "33:1056 | 32:1056 | 45:1035 | 11:1320 | 10:1100 | 14:1092 | 12:1320 | 10:1260",
    5000: "72:5112 | 71:5112 | 100:5050 | 18:5814 | 17:5202 | 23:5313 | 19:5814 | 14:6006",
    10_000: "101:10100 | 100:10100 | 141:10011 | 22:10626 | 22:11132 | 29:10962 | 23:10626 | 16:10920",
    50_000: "225:50400 | 224:50400 | 316:50086 | 37:50616 | 37:52022 | 48:51888 | 38:50616 | 23:53130",
    100_000: "317:100172 | 316:100172 | 447:100128 | 47:103776 | 47:106032 | 60:102660 | 48:103776 | 27:105300",
    147_000: "384:147072 | 383:147072 | 542:147153 | 53:148824 | 53:151686 | 68:150348 | 54:148824 | 30:164430",
    300_000: "549:300852 | 548:300852 | 775:300700 | 67:300696 | 67:305252 | 86:307020 | 68:300696 | 35:314160",
    600_000: "776:601400 | 775:601400 | 1095:600060 | 85:614040 | 85:621350 | 108:612468 | 86:614040 | 41:607620",
    1_281_167: "1133:1282556 | 1132:1282556 | 1601:1282401 | 109:1294920 | 109:1306910 | 138:1285608 | 110:1294920"
    " | 50:1381800",
}


@pytest.mark.parametrize("classes", TABLE)
def test_n_min_table(classes: int) -> None:
    for name, cell in zip(COLUMNS, TABLE[classes].split(" | "), strict=True):
        n, count = map(int, cell.split(":"))
        assert n_min(name, classes) == n, name
        assert facts(name, n).count == count, name
        assert facts(name, n - 1).count < classes if n > 2 else True


@pytest.mark.parametrize(("name", "n"), SMALL)
def test_against_listing(name: str, n: int) -> None:
    rows = unit(native(name, n))
    known = facts(name, n)
    assert known.count == len(rows)
    assert known.rank == np.linalg.matrix_rank(rows)
    if len(rows) < 2:
        assert known.max_cosine == -1.0
        return
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -2.0)
    assert known.max_cosine == pytest.approx(cosines.max(), abs=1e-12)
    assert known.max_cosine < 1 - 1e-9
    near = (cosines > cosines.max() - 1e-9).sum(axis=1)
    assert known.neighbours == (near.min(), near.max())
    assert known.min_angle_deg == pytest.approx(math.degrees(math.acos(max(-1, cosines.max()))))
    assert known.guaranteed_below == pytest.approx(1 - math.cos(math.radians(known.min_angle_deg / 2)))


@pytest.mark.parametrize(("name", "n"), [case for case in SMALL if case[0] != "W6"])
def test_histogram_against_listing(name: str, n: int) -> None:
    rows = unit(native(name, n))
    seen: dict[float, float] = {}
    for value in (rows @ rows.T)[~np.eye(len(rows), dtype=bool)]:
        seen[round(float(value), 9) + 0.0] = seen.get(round(float(value), 9) + 0.0, 0) + 1 / len(rows)
    got = facts(name, n).cosine_histogram()
    assert [c for c, _ in got] == sorted((c for c, _ in got), reverse=True)
    assert {round(c, 9) + 0.0: pytest.approx(often) for c, often in got} == seen


@given(st.sampled_from([name for name in listed() if family_of(name).position < 60]), st.integers(1, 10**30))
@settings(max_examples=300)
def test_n_min_is_the_smallest(name: str, classes: int) -> None:
    n = n_min(name, classes)
    assert facts(name, n).count >= classes
    if n > family_of(name).least_n(name, 1):
        assert facts(name, n - 1).count < classes


def test_screen_numbers() -> None:
    """The Vectors screen at 300 000 classes: n, count, cosine, angle, sure below, near in use."""
    expected = {
        "V22": (35, 314160, 0.750, 41.4, 0.0646, 118),
        "V31": (39, 329004, 0.750, 41.4, 0.0646, 128),
        "V21pm": (68, 300696, 0.667, 48.2, 0.0871, 324),
        "V21": (86, 307020, 0.667, 48.2, 0.0871, 243),
        "A": (548, 300852, 0.707, 45.0, 0.0761, None),
        "A-helmert": (548, 300852, 0.500, 60.0, 0.1340, 1091),
        "V11": (549, 300852, 0.500, 60.0, 0.1340, 1091),
        "Ap": (775, 300700, 0.707, 45.0, 0.0761, None),
        "V33": (18, 371280, 0.833, 33.6, 0.0426, 58),
        "W2": (34, 315282, 0.866, 30.0, 0.0341, None),
        "W4": (11, 322190, 0.971, 13.9, 0.0073, None),
        "A-mid": (67, 300696, 0.913, 24.1, 0.0220, None),
        "simplex": (299999, 300000, 0.000, 90.0, 0.2929, 299999),
    }
    for name, (n, count, cosine, angle, sure, near) in expected.items():
        assert n_min(name, 300_000) == n
        known = facts(name, n, 300_000)
        assert (known.count, round(known.max_cosine, 3), round(known.min_angle_deg, 1)) == (count, cosine, angle), name
        assert round(known.guaranteed_below, 4) == sure
        if near is not None:
            low, high = known.used_neighbours(300_000) or (0, 0)
            assert round(low) == round(high) == near
    assert facts("A", 548).neighbours == (2, 547)
    for n, numbers in ((86, (243, 16626, 269665, 13303, 162)), (384, (12, 3865, 293021, 3092, 8))):
        rows = facts("V21", n).cosine_histogram(300_000)
        assert [round(c * 3) for c, _ in rows] == [2, 1, 0, -1, -2]
        assert tuple(round(often) for _, often in rows) == numbers
        assert sum(often for _, often in rows) == pytest.approx(299_999)
    assert [n_min(name, 10**9) for name in ("A", "V22", "V33")] == [31623, 253, 60]
    assert n_min("V21", 10**9) == 1261


def test_classes_decide_planar_and_simplex() -> None:
    assert [facts("planar", 2, c).count for c in (1, 4, 5, 10, 84)] == [4, 4, 8, 16, 128]
    assert facts("planar", 2, 84).min_angle_deg == pytest.approx(2.8125)
    assert facts("planar", 2, 8).cosine_histogram()[0] == (pytest.approx(math.sqrt(0.5)), 2)
    assert facts("simplex", 9, 10).max_cosine == pytest.approx(-1 / 9)
    assert (facts("simplex", 384, 10).rank, facts("simplex", 1, 1).count) == (9, 1)
    assert n_min("simplex", 3, max_cosine=-0.5) == 2
    for bad in (
        ("planar", 3, 10),
        ("simplex", 8, 10),
        ("simplex", 8, None),
        ("planar", 2, None),
        ("V22", 3, None),
        ("A", 0, None),
    ):
        with pytest.raises(UsageError):
            facts(*bad)


def test_max_cosine_bounds_n_min() -> None:
    assert n_min("V21", 1000, max_cosine=2 / 3) == 14
    with pytest.raises(UsageError, match=r"no n holds 1000 classes at cosine <= 0.6"):
        n_min("V21", 1000, max_cosine=0.6)


def test_names() -> None:
    assert canonical(" V21pm ") == "V21pm"
    assert all(is_known(name) for name in (*listed(), "planar", "V99", "V12pm", "W16", "file:a.npy", "embeddings:@ce"))
    assert not any(is_known(name) for name in ("V10", "V01", "V2", "V111", "W3", "W1", "W", "a", "", "file:", "V21PM"))
    with pytest.raises(UsageError, match='did you mean "A-helmert"'):
        canonical("A-helmet")
    with pytest.raises(UsageError, match="contains its negatives"):
        canonical("V22pm")


def test_too_few_says_what_would_do() -> None:
    assert too_few("A", 384, 300_000) == (
        "A at n = 384 has 147 840 vectors, 300 000 are needed. Take n >= 548, or A-interp from n = 67"
    )
    assert too_few("A", 548, 300_000) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("300000", 300000),
        ("300_000", 300000),
        ("300k", 300000),
        ("1.28M", 1280000),
        ("300 000", 300000),
        ("1G", 10**9),
        ("1e6", 10**6),
    ],
)
def test_counts_as_people_write_them(text: str, value: int) -> None:
    assert parse_count(text) == value


@pytest.mark.parametrize("text", ["1.5", "0", "-3", "many", "", "nan", "inf", "1.2345k", "1e999", "0x10", "_1"])
def test_bad_counts(text: str) -> None:
    with pytest.raises(UsageError, match=r"^classes: "):
        parse_count(text)


def test_loads_no_torch() -> None:
    code = (
        "import sys; from lsc_engine.vectors import n_min; from lsc_engine.vectors.registry import facts, listed;"
        "assert n_min('V21', classes=1000) == 14; [facts(name, n_min(name, 5), 5).count for name in listed()];"
        "assert not {'torch', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
