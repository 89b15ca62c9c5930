"""The example runs: real recordings without names of a machine, and one that is played."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from samples import make_study
from tui_helpers import open_app, text_of

from lsc_engine.runs import control
from lsc_engine.runs.run import Run, list_runs
from lsc_tui import demo


def test_the_bundled_runs_are_whole_and_name_no_machine() -> None:
    folder = demo.demo_folder(play=False)
    assert folder is not None
    runs = list_runs([folder])
    assert len(runs) >= 3
    for run in runs:
        assert run.status().shown_state == "finished"
        steps, values = run.history("train/loss")
        assert steps.size > 50
        assert values[-1] < values[0]
        said = json.dumps(run.source) + (run.path / "status.json").read_text()
        assert "/" not in str(run.source.get("command")).replace(run.study, "")
        for word in ("/tmp", "/home", "/root", "platform"):
            assert word not in said
    played = (folder.parent / demo.PLAYED).read_text().strip()
    assert played in [run.id for run in runs]
    assert demo.ARCHIVE.stat().st_size < 1_000_000


async def test_demo_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = demo.demo_folder(play=False)
    assert folder is not None
    async with open_app(folder) as (app, _):
        assert app.store.counts()["finished"] >= 3
        assert "✓ finished" in text_of(app)


def test_a_recording_is_played_to_its_end_and_can_be_stopped(tmp_path: Path) -> None:
    folders = make_study(tmp_path, [("A-384", s, "finished", 40, 0.3) for s in range(2)], name="rec", fixed=False)
    to_end, stopped = folders.values()
    before = Run(to_end, "rec/A-384/seed-0", tmp_path).history("train/loss")
    demo.play(to_end, os.getppid(), pace=0.0)
    after = Run(to_end, "rec/A-384/seed-0", tmp_path)
    assert after.status().state == "finished"
    assert after.history("train/loss")[1].tolist() == before[1].tolist()
    thread = threading.Thread(target=demo.play, args=(stopped, os.getppid()), kwargs={"pace": 0.1})
    thread.start()
    run = Run(stopped, "rec/A-384/seed-1", tmp_path)
    deadline = time.monotonic() + 20
    while run.status().state != "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    control.request(stopped, "stop")
    thread.join(20)
    assert run.status().state == "stopped"
    assert run.history("train/loss")[0].size < 40


def test_recording_leaves_out_what_is_not_finished(tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    archive = tmp_path / "out.tar.xz"
    assert demo.record(tmp_path / "runs", ["lsc-2025/fig9"], archive) == 2
    assert archive.stat().st_size > 1000
