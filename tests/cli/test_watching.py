"""Runs of worker processes as the terminal shows them: real workers, log lines with names, bars."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsc_engine.cli.output import Bars, Lines
from lsc_engine.runs.folder.writer import create_run
from lsc_engine.studies.checks import ExecutionOptions
from lsc_engine.studies.gpus import Slot
from lsc_engine.studies.plan import plan_study
from lsc_engine.studies.prepare import StudyRun
from lsc_engine.studies.runner import Queue, run_parallel
from lsc_engine.training.signals import Signals

PRESET = """
data   = { dataset = "digits", labels = "unique", classes = 64 }
model  = { name = "encoder", width = 0.05 }
target = { method = "lsc", system = "V21" }
train  = { duration = "2 epochs", batch_size = 16 }
[[variants]]
name = "first"
[[variants]]
name = "second"
needs = "third"
model.dim = 9
[[variants]]
name = "third"
model.dim = 8
"""


@pytest.mark.slow
@pytest.mark.parametrize("shown", [Lines, Bars])
def test_parallel_runs_are_shown_as_they_go(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], shown: type[Lines] | type[Bars]
) -> None:
    file = tmp_path / "w.toml"
    file.write_text(PRESET)
    runs = {run.config.variant: run for run in plan_study(file).runs}
    folders = {name: create_run(tmp_path / "runs" / run.id, run.config, {}) for name, run in runs.items()}
    # "third" waits for somebody else's command; "second" needs it.
    jobs = [StudyRun(runs[name].id, folders[name], runs[name].config, runs[name].needs) for name in ("first", "second")]
    slots = [Slot("GPU 3", "cpu", {"OMP_NUM_THREADS": "1"})]
    with shown() as display:
        states = run_parallel(Queue(jobs, ExecutionOptions(tmp_path / "runs"), display, Signals()), slots)
    assert states == {"w/first/seed-0": "finished", "w/second/seed-0": "failed"}
    told = capfd.readouterr().err
    assert {"w/first/seed-0", "w/second/seed-0"} <= set(told.replace(":", " ").split())
    assert "needs w/third/seed-0, which is queued" in told.replace("\n", " ")
    if shown is Lines:
        assert "w/first/seed-0: on GPU 3" in told
        assert any("w/first/seed-0: " in line and "step 8 of 8" in line for line in told.splitlines())
        assert "w/first/seed-0: finished" in told
