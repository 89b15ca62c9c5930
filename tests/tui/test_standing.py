"""The word of a study in the list of runs: that of its verdicts, renewed when a run ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparable import STUDY, make_comparable
from tui_helpers import open_app, text_of

from lsc_engine.analysis.compare import compare
from lsc_engine.analysis.verdict import verdicts
from lsc_engine.report.claims import standing
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.runs.read.run import list_runs
from tests.waiting import pause_until


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standing")
    make_comparable(folder / "runs", folder / "fig1a.toml")
    return folder / "runs"


def test_it_sums_up_the_verdicts(study: Path) -> None:
    runs = list_runs([study])
    outcome = {v.result for v in verdicts(compare(runs)) if not v.note}
    assert len(outcome) > 1
    assert standing(runs) == "verdicts differ"
    pair = [run for run in runs if run.variant in ("A", "V21")]
    assert {v.result for v in verdicts(compare(pair))} == {"holds"}
    assert standing(pair) == "holds"
    assert standing(runs[:1]) == ""


def test_nothing_decided_is_open(study: Path, tmp_path: Path) -> None:
    by_variant = {run.variant: run for run in list_runs([study]) if run.seed == 0}
    from lsc_engine.config.load import load_run_config

    for variant in ("A", "V21"):
        folder = tmp_path / STUDY / variant / "seed-0"
        create_run(folder, load_run_config(by_variant[variant].path / "preset.toml"), {})
        with RunWriter.open(folder, device="cpu", total_steps=100, echo=False) as writer:
            writer.metrics(1, 0.1, 1.0, {"train/loss": 1.0, "train/accuracy": 0.0})
            writer.status(state="running")
    assert standing(list_runs([tmp_path])) == "verdict open"


async def test_the_wide_list_shows_it(study: Path) -> None:
    async with open_app(study, size=(160, 48)) as (app, pilot):
        await pause_until(pilot, lambda: app.lsc_screen.settled)
        line = next(line for line in text_of(app).splitlines() if STUDY in line and "done" in line)
        assert "done · verdicts differ" in line
