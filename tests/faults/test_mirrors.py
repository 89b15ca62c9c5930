"""Mirrors of real runs: kill -9 of the mirror and of the run, a resume, and one that hangs for ever."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.mirrors import supervise
from lsc_engine.mirrors.follow import place_of
from tests.leftovers import end_processes_in, processes_in
from tests.mirrored import assert_same, logged, read_back
from tests.processes import environment

from .harness import PHASES, PRESET, at_steps, go_on, in_slow_phase, launch, outcome, place, run_of, train, until

pytestmark = pytest.mark.slow


def also(tool: str) -> str:
    """The preset, mirrored."""
    return PRESET.replace('every = "3 steps"', f'every = "3 steps"\nalso = ["{tool}"]')


def test_after_kills_of_mirror_and_run_every_step_is_there_once(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "a", also("tensorboard"))
    try:
        held = train(folder, setup=PHASES, env={"FAULT_SLOW": "t20"})
        in_slow_phase(folder, held)
        run = run_of(folder)
        until(lambda: [state.step >= 15 for state in supervise.states(run.path)] == [True])
        # The mirror, all of its processes; then the run, at a later step.
        for pid in set(processes_in(folder)) - {held.pid}:
            os.kill(pid, signal.SIGKILL)
        go_on(folder)
        until(lambda: (run.last().get("lr") is not None and run.status().step >= 21) or held.ended())
        held.kill()
        assert train(folder).wait() == 0
        assert outcome(folder) == straight
        until(lambda: [(state.behind, state.active) for state in supervise.states(run.path)] == [(0, False)])
        assert_same(
            read_back("tensorboard", place_of(run.path, "tensorboard")), logged(run, "tensorboard"), "tensorboard"
        )
    finally:
        end_processes_in(folder)


def test_a_run_that_is_killed_and_resumed_replaces_what_it_logged(tmp_path: Path) -> None:
    folder = place(tmp_path / "a", also("tensorboard"))
    try:
        killed = train(folder, setup=at_steps({20: "os.kill(os.getpid(), 9)"}))
        assert killed.wait() == -signal.SIGKILL
        run = run_of(folder)
        until(lambda: [(state.behind, state.active) for state in supervise.states(run.path)] == [(0, False)])
        assert train(folder).wait() == 0
        until(lambda: [(state.step, state.active) for state in supervise.states(run.path)] == [(36, False)])
        run.poll()
        assert len(run.table.attempt_starts()) == 2
        assert_same(
            read_back("tensorboard", place_of(run.path, "tensorboard")), logged(run, "tensorboard"), "tensorboard"
        )
    finally:
        end_processes_in(folder)


def test_a_mirror_that_hangs_for_ever_does_not_hold_the_run(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "a", also("wandb"))
    (tmp_path / "wandb.py").write_text("import time\nwhile True:\n    time.sleep(9)\n")
    path = os.pathsep.join([environment()["PYTHONPATH"], str(tmp_path)])
    try:
        held = train(folder, setup=PHASES, env={"FAULT_SLOW": "t20", "PYTHONPATH": path})
        in_slow_phase(folder, held)
        # Its process is there, and has written nothing.
        until(lambda: any(b"wandb" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_in(folder)))
        go_on(folder)
        assert held.wait() == 0
        assert outcome(folder) == straight
        assert any(b"mirror" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_in(folder))
        assert not place_of(run_of(folder).path, "wandb").joinpath("mirror.json").exists()
    finally:
        end_processes_in(folder)


def test_a_package_that_is_not_there_is_a_sentence_before_anything_is_made(tmp_path: Path) -> None:
    folder = place(tmp_path / "a", also("mlflow"))
    process = train(folder)
    assert process.wait() == 2
    text = process.log.read_text()
    assert text == "log.also: mlflow is not installed: pip install 'lsc[mlflow]', or pip install mlflow\n"
    assert not (folder / "runs").exists()
    process = train(folder, "--set", "log.also=wandbb")
    assert process.wait() == 2
    assert 'did you mean "wandb"' in process.log.read_text()


@pytest.mark.parametrize("word", ["show", "mirror"])
def test_a_finished_run_is_mirrored_by_a_command(tmp_path: Path, word: str) -> None:
    folder = place(tmp_path / "a")
    assert train(folder).wait() == 0
    written = launch(folder, "mirror", "default", "--to", "tensorboard")
    assert written.wait() == 0
    assert written.log.read_text().endswith("t/default/seed-0: tensorboard up to step 36\n")
    shown = launch(folder, "show", "default", *(["--json"] if word == "show" else []), log=folder / "show.txt")
    assert shown.wait() == 0
    text = shown.log.read_text()
    if word == "show":
        (state,) = json.loads(text)["mirrors"]
        assert state == {"tool": "tensorboard", "step": 36, "behind": 0, "active": False, "error": None}
    else:
        assert "  mirror      tensorboard up to step 36\n" in text
    # The same settings: the study is finished, whatever it is mirrored to.
    assert train(folder, "--set", "log.also=tensorboard").wait() == 0


def test_lines_of_a_run_as_it_happens(tmp_path: Path) -> None:
    folder = place(tmp_path / "a")
    killed = train(folder, setup=at_steps({20: "os.kill(os.getpid(), 9)"}))
    assert killed.wait() == -signal.SIGKILL
    follow = ["show", "default", "--follow", "--json"]
    ended = launch(folder, *follow, log=folder / "lost.txt")
    assert ended.wait() == 0
    lines = [json.loads(line) for line in ended.log.read_text().splitlines()]
    assert lines[-1]["state"] == "lost"
    held = train(folder, setup=PHASES, env={"FAULT_SLOW": "t9"})
    in_slow_phase(folder, held)
    following = launch(folder, *follow, log=folder / "follow.txt")
    until(lambda: '"running"' in following.log.read_text() and following.log.read_text().count("\n") > 5)
    assert not following.ended()
    go_on(folder)
    assert held.wait() == 0
    assert following.wait() == 0
    lines = [json.loads(line) for line in following.log.read_text().splitlines()]
    states = [(line["state"], line["attempt"], line["exit_code"]) for line in lines if line["event"] == "state"]
    assert states == [("running", 2, None), ("finished", 2, 0)]
    assert lines[-1]["event"] == "state"
    metrics = [
        {key: value for key, value in line.items() if key != "event"} for line in lines if line["event"] == "metrics"
    ]
    written = (run_of(folder).path / "metrics.jsonl").read_text().splitlines()
    assert metrics == [json.loads(line) for line in written]
