"""How well everything can be seen: the contrast of all styles in all themes, and what a terminal is given by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.color import Color as RichColour
from rich.color import ColorType
from rich.style import Style
from samples import make_study
from tui_helpers import make_app, open_app, settle, text_of

from lsc_tui.lines import STATES
from lsc_tui.theme import SERIES, THEMES, ascii_only, few_colours
from lsc_tui.widgets.panel import STYLES, style_table
from lsc_tui.widgets.runs_table import Order, RunsTable, header, layout
from tests.waiting import pause_until

# xterm's own sixteen colours.
XTERM = ["000000", "cd0000", "00cd00", "cdcd00", "0000ee", "cd00cd", "00cdcd", "e5e5e5"]
XTERM += ["7f7f7f", "ff0000", "00ff00", "ffff00", "5c5cff", "ff00ff", "00ffff", "ffffff"]
WORDS = ("key", "warn", "error", "good", "accent", "mark", "title", *(f"state-{s}" for s in STATES))


def styles_of(name: str) -> tuple[dict[str, Style], Style]:
    """The styles of a theme, and plain text on its background with no default colour left."""
    theme = THEMES[name]
    table = style_table(theme.to_color_system().generate() | theme.variables)
    ends = ("e5e5e5", "000000") if theme.dark else ("000000", "ffffff")
    return table, Style(color=f"#{ends[0]}", bgcolor=f"#{ends[1]}")


def luminance(colour: RichColour | None, default: RichColour | None) -> float:
    """Relative luminance as WCAG 2.1 has it."""
    if colour is None or colour.is_default:
        colour = default
    assert colour is not None
    if colour.triplet is None:
        assert colour.number is not None
        colour = RichColour.parse(f"#{XTERM[colour.number]}")
    assert colour.triplet is not None
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour.triplet)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("name", THEMES)
def test_contrast_of_every_style(name: str) -> None:
    table, plain = styles_of(name)

    def contrast(style: str, on: str = "") -> float:
        """Of the cell that Panel draws for a style, on the highlighted row with `on`."""
        cell = table[""] + table.get(f"={style}+{on}", table[style] + (table[on] if on else Style.null()))
        a, b = luminance(cell.color, plain.color), luminance(cell.bgcolor, plain.bgcolor)
        return (max(a, b) + 0.05) / (min(a, b) + 0.05)

    rows: list[tuple[str, float, float]] = []

    def check(what: str, value: float, least: float) -> None:
        rows.append((what, value, least))

    # The palette of xterm has no red of 7 on black, and nothing but black and blue of 7 on white.
    words, dim = (4.5 if THEMES[name].ansi else 7.0), {"dim", "label", "level", "tab", "thread"}
    for style in ("", "bold", *WORDS):
        least = 7.0 if style in ("", "bold") else words
        quiet = table[style].color == table["dim"].color
        check(style or "text", contrast(style), 4.5 if quiet else least)
        check(
            f"{style or 'text'} on the cursor row", contrast(style, "cursor"), 7.0 if least == 7 and not style else 4.5
        )
    for style in sorted(dim):
        check(style, contrast(style), 4.5)
        check(f"{style} on the cursor row", contrast(style, "cursor"), 4.5)
    for style in ("rule", "axis", "bar"):
        check(style, contrast(style), 3.0)
    weak = 5 if name == "lsc-ansi-light" else SERIES
    for i in range(SERIES):
        check(f"curve {i}", contrast(f"series-{i}"), 4.5 if i < weak else 3.0)
        check(f"raw curve {i}", contrast(f"series-{i}-dim"), 3.0)
    row = luminance(table["cursor"].bgcolor, None), luminance(table[""].bgcolor, plain.bgcolor)
    check("cursor row against the others", (max(row) + 0.05) / (min(row) + 0.05), 1.8)
    for what, value, least in rows:
        print(f"{name:15} {what:38} {value:6.2f}  at least {least:g}")
    assert [f"{what}: {value:.2f} < {least}" for what, value, least in rows if value < least] == []
    assert set(STYLES) <= set(table)
    assert len({table[f"series-{i}"].color for i in range(SERIES)}) == SERIES
    states = [table[f"state-{state}"].color for state in ("running", "failed", "stalled", "finished")]
    assert len(set(states)) == 4


def test_a_terminal_of_sixteen_colours_gets_the_theme_of_its_own(tmp_path: Path) -> None:
    for term, few in (
        ("xterm", 1),
        ("linux", 1),
        ("screen", 1),
        ("vt100", 1),
        ("xterm-256color", 0),
        ("xterm-kitty", 0),
    ):
        assert few_colours({"TERM": term}) == bool(few), term
    assert not few_colours({"TERM": "xterm", "COLORTERM": "truecolor"})
    (tmp_path / "runs").mkdir()
    config = tmp_path / "config"
    assert make_app(tmp_path / "runs", config=config).theme == "lsc-dark"
    assert make_app(tmp_path / "runs", config=config, few_colours=True).theme == "lsc-ansi-dark"
    assert make_app(tmp_path / "runs", config=config, few_colours=True, theme="lsc-contrast").theme == "lsc-contrast"
    make_app(tmp_path / "runs", config=config).ui.set(theme="lsc-light")
    assert make_app(tmp_path / "runs", config=config, few_colours=True).theme == "lsc-ansi-light"


@pytest.mark.parametrize(
    ("env", "ascii"),
    [
        ({"TERM": "linux", "LANG": "en_GB.UTF-8"}, True),
        ({"TERM": "screen.linux"}, True),
        ({"TERM": "xterm-256color", "LANG": "en_GB.UTF-8"}, False),
        ({"TERM": "xterm", "LANG": "de_DE.ISO-8859-1"}, True),
        ({"TERM": "xterm", "LC_ALL": "C", "LANG": "en_GB.UTF-8"}, True),
        ({"TERM": "xterm", "LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),  # as Python leaves LANG=C
        ({"TERM": "xterm", "LANG": "de_DE", "LC_CTYPE": "en_GB.utf8"}, False),
        ({"TERM": "xterm"}, False),
    ],
)
def test_ascii_where_the_terminal_has_nothing_else(env: dict[str, str], ascii: bool) -> None:
    assert ascii_only(env) == ascii


@pytest.mark.parametrize("env", [{"TERM": "linux"}, {"TERM": "xterm", "LC_ALL": "C"}])
def test_one_frame_of_such_a_terminal_is_ascii(tmp_path: Path, env: dict[str, str]) -> None:
    env |= {"PYTHONPATH": ":".join(p for p in sys.path if p), "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    words = [sys.executable, "-m", "lsc_tui", "--once", "--runs-dir", str(tmp_path)]
    shown = subprocess.run(words, capture_output=True, env=env, check=True, stdin=subprocess.DEVNULL).stdout
    assert b"Runs" in shown
    assert shown.isascii()


async def test_without_colours_all_is_in_the_terminals_own_two(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR with sixteen colours: no black on black, and the highlighted row is reversed, also that of a study."""
    monkeypatch.setenv("NO_COLOR", "1")
    async with open_app(runs, few_colours=True) as (app, pilot):
        for heading in (False, True):
            await pilot.press("g" if heading else "down")
            await settle(app, pilot)
            rows = app.screen._compositor.render_strips()
            styles = [style for row in rows for _, style, _ in row if style is not None]
            assert {style.color and style.color.type for style in styles} == {ColorType.DEFAULT}
            assert {style.bgcolor and style.bgcolor.type for style in styles} == {ColorType.DEFAULT}
            table = app.screen.query_one(RunsTable)
            assert (table.current is not None and table.current.kind == "study") == heading
            reversed_rows = [y for y, row in enumerate(rows) if y and all(s and s.reverse for _, s, _ in row)]
            assert reversed_rows == [table.region.y + 1 + table.cursor - table.top]


async def test_panels_without_matter_take_one_row_or_none(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    make_study(runs, [("A-384", 0, "queued", 0, 0.2), ("V21-min", 0, "queued", 0, 0.1)])
    for size in ((80, 24), (160, 48)):
        async with open_app(runs, size) as (app, pilot):
            await pause_until(pilot, lambda: "no curve yet: 1st in line" in text_of(app))
            assert app.screen.query_one("#loss").size.height == 1
            await pilot.press("2")
            await settle(app, pilot)
            await pause_until(pilot, lambda: app.screen.query_one("#log").size.height > app.size.height // 2)
            assert app.screen.query_one("#loss").size.height == 1
    (tmp_path / "none").mkdir()
    async with open_app(tmp_path / "none", (160, 48)) as (app, pilot):
        assert not app.screen.query_one("#side").display
        assert "4 New run" in text_of(app).splitlines()[-1]
        await pilot.press("2")
        await settle(app, pilot)
        assert [w.id for w in app.screen.query("#charts, #panels, #log") if w.display] == []


async def test_the_right_column_of_runs_is_full(runs: Path) -> None:
    async with open_app(runs, (160, 48)) as (app, pilot):
        await pilot.press("g", "down")
        await settle(app, pilot)
        panel: Any = app.screen.query_one("#details")
        lines = panel.text().splitlines()
        assert all(line.strip("│ ") for line in lines[-4:])
        assert "more: r shows the TOML" in lines[-2]


def test_a_blank_stands_between_all_columns() -> None:
    for width in range(60, 200):
        words = "".join(text for text, _ in header(layout(Order(), width), width, Order()))
        assert all(name in words.split() for name in ("RUN", "SEED", "ETA", "LOSS", "TRAIN%")), words
