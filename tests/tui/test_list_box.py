"""The cursor of a list, and which rows are in sight."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lsc_tui.lines import Line
from lsc_tui.widgets.list_box import ListBox


@dataclass(frozen=True)
class Row:
    key: str
    height: int = 1


def filled(*keys: str) -> ListBox[Row]:
    box = ListBox[Row]()
    box.put([Row(key) for key in keys])
    return box


def seen(box: ListBox[Row], height: int, drawn: list[str] | None = None) -> list[str]:
    """The keys of the lines in sight, that of the highlighted row with a `>`."""

    def lines(row: Row, here: bool) -> list[Line]:
        if drawn is not None:
            drawn.append(row.key)
        return [[(f"{'>' * here}{row.key}", "")]] * row.height

    return [line[0][0] for line in box.body(height, lines)]


def test_the_cursor_stays_on_its_key() -> None:
    box = filled("a", "b", "c")
    box.move(1)
    box.put([Row("c"), Row("x"), Row("b")])
    assert box.current == Row("b")
    box.put([Row("c"), Row("x")])
    assert box.current == Row("x"), "near, as the user wanted another list"
    box.put([Row("c")], by_user=False)
    assert box.current is None
    assert seen(box, 3) == ["c"]
    box.put([Row("c"), Row("x")], by_user=False)
    assert box.current == Row("x"), "it is there again"


@pytest.mark.parametrize(("by", "key"), [(1, "c"), (-1, "a")])
def test_from_what_has_gone_it_moves_on(by: int, key: str) -> None:
    box = filled("a", "b", "c")
    box.move(1)
    box.put([Row("a"), Row("c")], by_user=False)
    box.move(by)
    assert box.current == Row(key)


def test_an_empty_list_highlights_nothing_and_the_row_comes_back() -> None:
    box = filled("a", "b")
    box.move(1)
    box.put([])
    box.move(5)
    assert box.current is None
    box.put([Row("a"), Row("b")])
    assert box.current == Row("b")
    box.clear()
    box.put([Row("a"), Row("b")])
    assert box.current == Row("a")


def test_it_passes_over_rows_without_a_key() -> None:
    box = filled("a", "", "b")
    box.move(1)
    assert box.current == Row("b")
    box.move(-1)
    assert box.current == Row("a")


def test_only_rows_in_sight_are_drawn() -> None:
    box, drawn = filled(*map(str, range(100_000))), list[str]()
    assert seen(box, 3, drawn) == [">0", "1", "2"]
    box.move(4)
    assert seen(box, 3, drawn) == ["2", "3", ">4"]
    assert box.more == "99995 more below"
    box.move(-1)
    assert seen(box, 3, drawn) == ["2", ">3", "4"]
    box.move(10**9)
    assert seen(box, 3, drawn)[-1] == ">99999"
    assert (box.more, len(drawn)) == ("", 12)


def test_a_row_of_several_lines_is_in_sight_with_all_of_them() -> None:
    box = ListBox[Row]()
    box.put([Row("a"), Row("b"), Row("c", 2), Row("d", 2)])
    assert seen(box, 3) == [">a", "b", "c"]
    assert box.more == "2 more below", "a line and a row"
    box.move(2)
    assert seen(box, 3) == ["b", ">c", ">c"]
    box.move(1)
    assert seen(box, 3) == ["c", ">d", ">d"]
    assert not box.more
