"""Studies of the kinds that do not train: in Runs, in New run, and made from there for real."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lsc_engine.config.load import list_presets
from lsc_engine.studies.prepare import write_study
from lsc_engine.studies.preset_list import OWN
from lsc_tui.data.filters import Filter
from lsc_tui.data.reports import ReportReader, made_words
from lsc_tui.modals import report_lines
from lsc_tui.screens.new_run.preset_list import entries
from tests.tui.tui_helpers import open_app, text_of
from tests.waiting import pause_until

VECTORS = """title = "T"
claim = "C holds"
kind = "vectors"
[vectors]
systems = ["A", "V21"]
n = [8]
classes = [1000]
"""
PAGE = "<!-- x -->\n# Title\n\n| system | n |\n| --- | ---: |\n| A | 8 |\n| V21 | 12 |\n\n![curve](a.svg)\n"


@pytest.fixture
def outcome(tmp_path: Path) -> Path:
    """A runs folder with one report that is there and one that is not."""
    runs = tmp_path / "runs"
    for name in ("lsc/there", "waits"):
        write_study(runs, name, VECTORS)
    page = runs / "lsc" / "there" / "report" / "report.md"
    page.parent.mkdir(parents=True)
    page.write_text(PAGE)
    return runs


def test_studies_without_runs_are_read(outcome: Path) -> None:
    (outcome / ".studies" / "torn.toml").write_text("kind = ")
    (outcome / ".studies" / "trains.toml").write_text('kind = "train"\n')
    os.symlink("/etc/passwd", outcome / ".studies" / "link.toml")
    reader = ReportReader()
    found = {report.study: report for report in reader.scan(0, outcome, {"other"}, False)}
    assert set(found) == {"lsc/there", "waits"}
    assert found["waits"].made is None
    assert found["lsc/there"].files == ("report.md",)
    assert dict(found["waits"].makes)["classes"] == "1 000"
    assert not [r for r in reader.scan(0, outcome, {"waits"}, False) if r.study == "waits"]


@pytest.mark.parametrize("raw", [{"kind": "vectors"}, {"kind": "bench", "bench": 3}, {"kind": "data", "datasets": []},
                                 {"kind": "bench", "bench": {"names": "x", "arguments": {"a": 1}}}])  # fmt: skip
def test_any_table_is_told(raw: dict[str, object]) -> None:
    assert all(isinstance(words, str) for pair in made_words(raw) for words in pair)


def test_a_filter_finds_them_by_words_alone(outcome: Path) -> None:
    one = next(r for r in ReportReader().scan(0, outcome, (), False) if r.study == "waits")
    assert Filter("wai vectors")(one)
    assert Filter("study:waits")(one)
    assert Filter("!there")(one)
    assert not Filter("there")(one)
    assert not Filter("loss<0.3")(one)


def test_a_table_keeps_its_empty_cells() -> None:
    lines = report_lines("|  | a | b |\n| --- | --- | ---: |\n| x |  |  |\n|| y \\| z | 12 |\n| torn", 60)
    assert ["".join(text for text, _ in line).rstrip() for line in lines] == [
        "│       a       b", "│ ────  ─────  ──", "│ x", "│       y | z  12", "│ torn",
    ]  # fmt: skip
    assert [line[0][0] for line in report_lines("| no\n| table\n", 60)] == ["| no", "| table"]


async def test_runs_shows_and_opens_them(outcome: Path) -> None:
    async with open_app(outcome) as (app, pilot):
        assert "≡ lsc/there" in text_of(app)
        assert "no report yet" in text_of(app)
        screen = app.lsc_screen
        screen.table.cursor = next(i for i, row in enumerate(screen.table.rows) if row.study == "lsc/there")
        await pilot.press("S")
        assert "this study is a report" in text_of(app)
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "# Title" in text_of(app)
        assert "V21     12" in text_of(app)
        assert "picture a.svg: curve" in text_of(app)
        assert "<!--" not in text_of(app)
        await pilot.press("escape")
        screen.table.cursor = next(i for i, row in enumerate(screen.table.rows) if row.study == "waits")
        await pilot.press("enter")
        assert "no report yet" in screen.message[0]


@pytest.mark.parametrize("keys", [("a",), ("B", "n", "enter")])
async def test_every_list_has_them(outcome: Path, keys: tuple[str, ...]) -> None:
    async with open_app(outcome) as (app, pilot):
        await pilot.press(*keys)
        await pilot.pause()
        assert "≡ lsc/there" in text_of(app)
        assert "all runs are hidden" not in text_of(app)


async def test_new_run_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    presets = tmp_path / "presets"
    presets.mkdir()
    (presets / "mine.toml").write_text(VECTORS)
    monkeypatch.setenv("LSC_PRESETS", str(presets))
    runs = tmp_path / "runs"
    runs.mkdir()
    async with open_app(runs) as (app, pilot):
        await pilot.press("4")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert app.lsc_screen.preset_list.current.info.stem == "mine"
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "what it makes" in text_of(app)
        assert "A V21" in text_of(app)
        await pilot.press("L", "y")
        report = runs / "mine" / "report" / "report.md"
        await pause_until(pilot, lambda: report.exists() and not app.store.making, lambda: text_of(app))
        await pilot.pause()
        assert "its report is there" in app.lsc_screen.message[0]


def test_own_presets_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSC_PRESETS", str(tmp_path))
    none = entries(list_presets(), "", set(), {})
    assert none[-1].group == OWN
    (tmp_path / "mine.toml").write_text(VECTORS)
    some = entries(list_presets(), "", set(), {})
    assert some[0].group == OWN
    assert some[1].info is not None
    assert some[1].info.stem == "mine"
