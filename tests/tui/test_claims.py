"""The claims of a preset in Runs and Compare: the words of its report, from a process that judges."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparable import PRESET, STUDY, make_comparable
from tui_helpers import open_app, text_of

from lsc_engine.report.claims import OPEN, makes_claims, short_verdicts, word_of
from lsc_engine.runs.read.run import list_runs
from lsc_engine.studies.prepare import write_study
from lsc_tui.app import LscApp
from tests.waiting import pause_until

CLAIMS = """
[[claims]]
text = "V21 beats the baseline to the levels"
variant = "V21"
is = "faster"

[[claims]]
text = "A is like itself"
variant = "A"
is = "works"
"""


@pytest.fixture
def claimed(tmp_path: Path) -> Path:
    """A study whose runs have all ended and whose preset makes two claims."""
    runs = tmp_path / "runs"
    make_comparable(runs, tmp_path / "fig1a.toml")
    for run in list_runs([runs]):
        if run.status().state == "running":
            status = (run.path / "status.json").read_text()
            (run.path / "status.json").write_text(status.replace('"running"', '"stopped"'))
    write_study(runs, STUDY, PRESET + CLAIMS)
    return runs


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        ((), ""),
        (("open", "open"), OPEN),
        (("holds",), "holds"),
        (("by loss: holds", "holds"), "all 2 claims hold"),
        (("does not hold",), "does not hold"),
        (("by accuracy: does not hold, by loss: holds",), "holds in part"),
        (("holds", "differs by seed", "open"), "1 of 3 claims hold"),
    ],
)
def test_the_word_sums_up_the_claims(verdicts: tuple[str, ...], word: str) -> None:
    assert word_of(verdicts) == word


def test_whether_a_preset_makes_claims(claimed: Path) -> None:
    assert makes_claims(claimed, STUDY)
    assert not makes_claims(claimed, "no-such-study")
    (claimed / ".studies" / f"{STUDY}.toml").write_text("claims = [")
    assert not makes_claims(claimed, STUDY)


async def until(app: LscApp, pilot: object, words: str) -> str:
    """The screen once these words are there."""
    await pause_until(pilot, lambda: words in text_of(app))
    return text_of(app)


async def test_runs_and_compare_say_what_the_report_says(claimed: Path) -> None:
    expected = [(one["claim"], one["verdict"]) for one in short_verdicts(claimed, STUDY)]
    async with open_app(claimed, size=(160, 48)) as (app, pilot):
        word = word_of([verdict for _, verdict in expected])
        assert f"done · {word}" in await until(app, pilot, f"done · {word}")
        await pilot.press("g", "enter")
        shown = await until(app, pilot, "▸ V21 beats the baseline")
        lines = shown.splitlines()
        for text, verdict in expected:
            assert any(text in line and verdict in line for line in lines), shown
