"""The Vectors screen: the table, the limits as typed, every sentence, what Enter hands on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot
from tui_helpers import make_app, open_app, settle, text_of

from lsc_engine.common.errors import UsageError
from lsc_engine.vectors import VectorSystem
from lsc_engine.vectors.registry import family_of
from lsc_tui.app import LscApp
from lsc_tui.lines import short
from lsc_tui.screens.vectors import systems as drawing
from lsc_tui.screens.vectors.screen import VectorsScreen
from lsc_tui.screens.vectors.systems import (
    CROWDING,
    Limits,
    none_within,
    ordered,
    rows_of,
    sure_below,
    table_csv,
    wanted,
)
from tests import processes
from tests.waiting import pause_until

SIZES = [(80, 24), (160, 48)]


def screen_of(app: LscApp) -> VectorsScreen:
    screen = app.lsc_screen
    assert isinstance(screen, VectorsScreen)
    return screen


async def enter(app: LscApp, pilot: Pilot[Any], *keys: str) -> VectorsScreen:
    """The screen after `5` and some keys."""
    for key in ("5", *keys):
        await pilot.press(key)
        await pilot.pause()
    return screen_of(app)


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_rows_at_300_000_classes_are_those_of_the_papers() -> None:
    limits = Limits()
    rows = ordered(rows_of(limits), "n", False)
    got = [(r.system, r.n, r.known.count) for r in rows if not r.outside]
    assert got == [
        ("V22", 35, 314_160), ("V31", 39, 329_004), ("bch", 64, 2**24), ("V21pm", 68, 300_696), ("V21", 86, 307_020),
        ("A", 548, 300_852), ("A-helmert", 548, 300_852), ("V11", 549, 300_852), ("Ap", 775, 300_700),
        ("kerdock", 1024, 1_050_624),
    ]  # fmt: skip
    v21 = next(r for r in rows if r.system == "V21")
    assert v21.near is not None
    assert round(v21.near[0]) == 243
    assert v21.database == 4 * 86 * 300_000
    assert all(r.outside for r in rows[10:])


def test_sure_below_of_each_loss_is_the_loss_at_half_the_angle() -> None:
    known = next(r.known for r in rows_of(Limits()) if r.system == "V21")
    half = math.radians(known.min_angle_deg / 2)
    assert sure_below(known, "cosine") == pytest.approx(1 - math.cos(half))
    # The nearest point of the ray at that angle is sin(half) from the centre.
    assert sure_below(known, "distance") == pytest.approx(math.exp(math.sin(half)) - 1)
    both = sure_below(known, "cosine+distance")
    assert both == pytest.approx(sure_below(known, "cosine") + sure_below(known, "distance"))


@pytest.mark.parametrize(
    ("field", "text", "sentence"),
    [
        ("classes", "1.5", "classes: 1.5 is not a whole number"),
        ("classes", "many", 'classes: "many" is not a number'),
        ("cosine", "1.2", "cosine: 1.2 is above 1, where all vectors may be equal"),
        ("cosine", "x", "cosine: x is not a number from -1 to 1"),
        ("cosine", "-2", "cosine: -2 is below -1"),
        ("most", "0", "n: 0 is too few"),
        ("bytes", "3", "bytes per number: 3 is none of 1, 2, 4, 8"),
        ("loss", "hinge", "loss: hinge is none of cosine, distance, cosine+distance"),
    ],
)
def test_what_cannot_be_meant_is_said(field: str, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        Limits().typed(field, text)
    assert str(caught.value).startswith(sentence)


def test_no_system_within_the_limits_names_the_closest() -> None:
    limits = Limits(classes=3, cosine=-0.9)
    rows = rows_of(limits)
    assert (
        none_within(rows, limits) == "No system holds 3 classes at cosine <= -0.9. The closest: simplex, -0.5 at n = 2"
    )


@pytest.mark.parametrize("classes", [1, 2, 10**9, 10**18, 10**25])
def test_any_number_of_classes_can_be_shown(classes: int) -> None:
    limits = Limits(classes=classes, cosine=1.0, most=10**30)
    for row in rows_of(limits):
        for wide in (False, True):
            line = drawing.row_line(row, wide, False, 158 if wide else 80)
            assert sum(len(text) for text, _ in line) == (158 if wide else 80)
        if drawing.counted(row):
            drawing.cosines(row, 80, 7, False)
            drawing.examples(row, 62, 13)
    assert short(2**64, 11) == "> 9e18"


def test_other_systems_by_name_and_the_csv_holds_exact_numbers() -> None:
    assert "V41" in wanted("V41")
    assert wanted("A-") == ("A-mid", "A-interp", "A-helmert")
    limits = Limits()
    lines = table_csv(rows_of(limits), limits).splitlines()
    assert lines[0].startswith("system,n,count,in_use,max_cosine")
    assert any(line.startswith("V21,86,307020,0.977") for line in lines)


def test_example_vectors_are_those_of_the_shuffled_order() -> None:
    import torch

    from lsc_engine.vectors import system
    from lsc_engine.vectors.order import Order

    made = system("V21", 86)
    order = Order.make("shuffled", made, 0)
    row = made.vectors(order.index(torch.tensor([1])))[0]
    words = drawing.example("V21", 86, made.count, 300_000, 1).split()
    signed = {int(words[i + 1]): 1 if words[i] == "+" else -1 for i in range(0, len(words), 2)}
    assert {int(c): int(row[c].sign()) for c in row.nonzero().flatten()} == signed


# --- the screen -------------------------------------------------------------------------------------------------------


async def test_the_sorted_column_has_an_arrow_and_crowding_is_that_of_the_command_line(
    runs: Path,
) -> None:
    printed = json.loads(processes.call("nmin", 300000, "--max-cosine", 0.75, "--json", code=0).stdout)
    expected = {found["system"]: found["crowding"] for found in printed["systems"]}
    CROWDING.clear()
    async with open_app(runs) as (app, pilot):
        screen = await enter(app, pilot, *["full_stop"] * 4)
        assert screen.column == "crowd"
        assert "↑CROWD" in text_of(app)
        got = {row.system: row.crowding[0] for row in screen.table.rows if row.crowding}
        assert got == {name: value for name, value in expected.items() if name in got}
        assert expected.keys() - got.keys() == {"W2", "W4", "bch"}
        known = [row.crowding[0] for row in screen.table.rows if row.crowding and not row.outside]
        assert known == sorted(known)
        drawing.HISTOGRAMS.clear()
        screen.table.go("W4")
        screen.show()
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert next(row.crowding for row in screen.table.rows if row.system == "W4") == (expected["W4"], False)
        await pilot.press("i")
        await pilot.pause()
        assert "↓CROWD" in text_of(app)


async def test_tab_goes_through_the_limits_and_numbers_are_typed_as_people_write_them(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        screen = await enter(app, pilot, "tab", *"1.28M")
        assert screen.limits.classes == 1_280_000
        await pilot.press("tab", *"0.7")
        assert screen.limits.cosine == 0.7
        await pilot.press("tab", *"200", "tab")
        await pilot.pause()
        assert screen.limits.most == 200
        assert screen.focused is None
        assert "classes [1 280 000 ]" in text_of(app)
        assert [r.system for r in screen.table.rows if not r.outside] == ["bch", "V21pm", "V21"]


async def test_a_field_that_is_wrong_says_so_and_escape_leaves_it(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        screen = await enter(app, pilot, "tab", *"1.5", "enter")
        assert "classes: 1.5 is not a whole number" in text_of(app)
        assert text_of(app).splitlines()[-1] == "1.5"
        await pilot.press("escape")
        await pilot.pause()
        assert screen.focused is None
        assert app.current_mode == "vectors"


async def test_sort_invert_and_what_is_highlighted_stays(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        screen = await enter(app, pilot)
        assert screen.table.current.key == "V21"
        await pilot.press("full_stop")
        assert screen.column == "vectors"
        await pilot.press("i")
        inside = [r.known.count for r in screen.table.rows if not r.outside]
        assert inside == sorted(inside, reverse=True)
        assert screen.table.current.key == "V21"
        await pilot.press("G")
        assert screen.table.cursor == len(screen.table.rows) - 1


async def test_a_system_that_no_n_makes_large_enough_says_so(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        screen = await enter(app, pilot, "tab", *"1G", "enter", "slash", *"kerdock", "enter")
        assert screen.table.rows == []
        assert "kerdock: no n up to 4096 holds 1 000 000 000 classes" in text_of(app)


async def test_enter_hands_system_and_n_to_new_run(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await enter(app, pilot)
        await pilot.press("enter")
        await pause_until(pilot, lambda: app.current_mode == "new")
        assert app.lsc_screen.pending == ("V21", "86")  # type: ignore[attr-defined]


async def test_arrows_change_the_number_of_classes_and_y_the_axis(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        screen = await enter(app, pilot, "right")
        assert screen.limits.classes == 400_000
        await pilot.press("left", "left")
        assert screen.limits.classes == 250_000
        assert "log log" in text_of(app)
        await pilot.press("y")
        await pilot.pause()
        assert "log x" in text_of(app)


async def test_filter_and_export(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_app(runs) as (app, pilot):
        screen = await enter(app, pilot, "slash", *"V41", "enter", "e", "enter")
        await app.workers.wait_for_complete()
        assert [r.system for r in screen.table.rows] == ["V41"]
        assert (tmp_path / "vectors-300000.csv").read_text().splitlines()[1].startswith("V41,")
        await pilot.press("slash", *"zzz", "enter")
        await pilot.pause()
        assert 'no system matches "V41zzz"' in text_of(app)
        await pilot.press("escape")
        await pilot.pause()
        assert len(screen.table.rows) == 20


async def test_a_vector_file_is_read_by_the_engine(runs: Path, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 8))
    rows[204] = rows[17]
    np.save(tmp_path / "my.npy", rows)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(tmp_path / "other.npy", np.delete(unit, 204, axis=0))
    unit = np.delete(unit, 204, axis=0)
    async with open_app(runs) as (app, pilot):
        screen = await enter(app, pilot)
        screen._filter(f"file:{tmp_path / 'other.npy'}")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert screen.table.rows[0].crowding == (
            pytest.approx(np.exp(16 * unit @ unit.T)[~np.eye(299, dtype=bool)].mean(), rel=1e-5),
            False,
        )
        screen._filter(f"file:{tmp_path / 'my.npy'}")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "rows 17 and 204 of my.npy are equal: 2 classes would share a centre" in text_of(app)


def test_the_table_comes_before_the_words_of_codes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting them takes as long as all else; the cell is filled once the row is highlighted."""
    limits, key = Limits(classes=1797), "bch"

    def fails(*_: int) -> None:
        raise AssertionError("counted while the screen waits")

    monkeypatch.setattr("lsc_engine.vectors.families.codes._weights", fails)
    drawing.HISTOGRAMS.clear()
    row = next(row for row in rows_of(limits) if row.system == key)
    assert row.near is None
    assert drawing.COLUMNS["near"].text(row, True) == "…"
    monkeypatch.undo()
    counted = drawing.histogram(key, row.n, row.classes)
    row = next(row for row in rows_of(limits) if row.system == key)
    assert row.near is not None
    assert row.near == row.known.used_neighbours(row.classes)
    assert row.near[0] == counted[0][1]


async def test_the_source_of_a_system_is_whole_in_the_wide_layout(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        await enter(app, pilot)
        assert "2510.04090 Fig. 2b " in text_of(app)


@pytest.mark.slow
async def test_no_key_waits_for_a_long_histogram(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving through the systems and sorting them counts nothing long in this process, which answers keys."""
    counted: list[str] = []
    count = VectorSystem.cosine_histogram

    def counting(system: VectorSystem, classes: int | None = None) -> list[tuple[float, float]]:
        counted.append(system.name)
        return count(system, classes)

    monkeypatch.setattr(VectorSystem, "cosine_histogram", counting)
    drawing.HISTOGRAMS.clear()
    seen = set()
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        screen = await enter(app, pilot)
        for name in (*["down"] * 16, *["cursor_right"] * 4, *["sort_right"] * 4, *["up"] * 4):
            await screen.perform(name)
            await pilot.pause()
            seen.add(screen.table.current.key)
    slow = {name for name in seen | set(counted) if (family := family_of(name)) and family.slow_histogram}
    assert slow & seen
    assert counted
    assert not slow & set(counted)


async def test_a_long_histogram_is_counted_elsewhere(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        screen = await enter(app, pilot)
        drawing.HISTOGRAMS.clear()
        screen.table.go("W4")
        screen.show()
        assert "counting …" in text_of(app)
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "more, down to -1" in text_of(app)


@pytest.mark.parametrize("theme", ["lsc-dark", "lsc-light"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_vectors_looks(runs: Path, snap_compare: Any, size: tuple[int, int], theme: str) -> None:
    # What other tests have counted.
    CROWDING.clear()
    drawing.HISTOGRAMS.clear()
    app = make_app(runs, theme=theme)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        await pilot.press("5")
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=before)
