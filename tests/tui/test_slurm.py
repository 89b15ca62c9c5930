"""Runs that Slurm trains, as the viewer sees them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lsc_engine.runs.folder import slurm
from lsc_engine.runs.folder.status import Status, read_status, write_status
from lsc_tui.data.poller import Poller
from lsc_tui.data.run_view import Curves, RunView
from lsc_tui.widgets.chart import missing_words
from lsc_tui.widgets.runs_table import where_text
from tests.waiting import wait_until


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[slurm.Jobs | None]:
    """The answers of squeue so far; the next is `answer`, if there is one."""
    answers: list[slurm.Jobs | None] = []

    def query() -> slurm.Jobs | None:
        job = slurm.Scheduler("9_4", state="PENDING", reason="Priority")
        answers.append(slurm.Jobs(2e9, {"9_4": job}) if not answers else None)
        return answers[-1]

    monkeypatch.setattr(slurm, "query", query)
    return answers


def view_of(poller: Poller, run: str) -> RunView:
    poller._all_until = float("inf")
    poller._next_look = 0.0
    poller.round()
    return next(t.view for t in poller._tracked.values() if t.run.id.endswith(run) and t.view is not None)


def test_squeue_is_asked_only_for_runs_of_slurm_and_seldom(runs: Path, requested: list[slurm.Jobs | None]) -> None:
    poller = Poller([runs], lambda: None, hardware=False)
    run = next(runs.glob("**/mlp/A-384/seed-0")).parents[2] / "mlp" / "V21-384" / "seed-1"
    view_of(poller, "V21-384/seed-1")
    assert requested == []
    waiting = Status(state="queued", scheduler=slurm.Scheduler("9_4"))
    write_status(run, waiting)
    view_of(poller, "V21-384/seed-1")
    wait_until(lambda: requested)
    wait_until(lambda: poller._jobs)
    view = view_of(poller, "mlp/V21-384/seed-1")
    assert (view.state, view.status.news, where_text(view)) == ("queued", "Slurm 9_4: Priority", "Priority")
    assert missing_words(view, Curves(), "train/loss") == "no curve yet: Slurm 9_4: Priority"
    assert len(requested) == 1
    # An answer that fails later changes nothing.
    poller._slurm_queried = float("-inf")
    view_of(poller, "V21-384/seed-1")
    wait_until(lambda: len(requested) == 2)
    assert view_of(poller, "mlp/V21-384/seed-1").status.news == "Slurm 9_4: Priority"
    write_status(run, replace(read_status(run), scheduler=slurm.Scheduler("1_1")))
    assert view_of(poller, "mlp/V21-384/seed-1").state == "lost"
