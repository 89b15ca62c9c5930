"""Several processes on one study, and a writer that is suspended while another host takes its run over."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.common.safe_io import read_toml
from lsc_engine.runs.folder.checkpoints import newest_good
from lsc_engine.runs.read.run import list_runs, open_run
from tests.tiny import tiny

from .harness import PHASES, RUN, Process, begun, files, go_on, launch, outcome, place, run_of, train, until

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("LSC_FAULT_ROUNDS", "3"))
SEED = int(os.environ.get("LSC_FAULT_SEED", "0"))

STUDY = tiny(
    {
        "seeds": [0, 1],
        "optimizer.lr": 1e-4,
        "train.duration": "4 epochs",
        "log.every": "1 steps",
        "eval.every": "4 steps",
        "checkpoint.every": "3 steps",
        "variants": [{"name": "a", "model": {"dim": 8}}, {"name": "b", "start_from": "@a", "model": {"dim": 8}}],
        "tune": {"optimizer.lr": [0.0001, 0.001, 0.01], "duration": "2 epochs", "by": "train/loss"},
    }
)


def said(process: Process) -> str:
    """What a process has printed so far."""
    return process.log.read_text() if process.log.exists() else ""


def results(folder: Path) -> dict[str, tuple[str, Any]]:
    """The weights and the rate of every run of a study that is done, tries included."""
    found = {}
    for run in list_runs([folder / "runs"]):
        status = run.status()
        assert (status.shown_state, status.exit_code) == ("finished", 0), (run.id, status)
        newest, _ = newest_good(run.path)
        assert newest is not None
        rate = read_toml(run.path / "preset.toml")["optimizer"]["lr"]
        found[run.id] = (newest.files["model.safetensors"][1], rate)
    return found


def attempts_of(run_folder: Path) -> int:
    """How many attempts a run took. Each begins where a checkpoint of the one before it ends, and goes on step by
    step: no step is trained twice beyond that."""
    steps: dict[int, list[int]] = {}
    for line in (run_folder / "metrics.jsonl").read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "train/loss" in row:
            steps.setdefault(row["attempt"], []).append(row["step"])
    resumed = [int(step) for step in re.findall(r"resumed at step (\d+) ", (run_folder / "log.txt").read_text())]
    begins = [own[0] for number, own in sorted(steps.items()) if number > 1]
    for own in steps.values():
        assert own == list(range(own[0], own[0] + len(own)))
    assert set(begins) <= {1, *(step + 1 for step in resumed)}
    return open_run(run_folder).status().attempt


@dataclass(frozen=True)
class Alone:
    """What one process makes of the study, and the steps that it takes."""

    results: dict[str, tuple[str, Any]]
    steps: int


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    folder = place(tmp_path_factory.mktemp("alone"), STUDY)
    assert train(folder, setup=PHASES).wait() == 0
    found = Alone(results(folder), begun(folder, "t"))
    # Tries, and what is trained with the best of them.
    assert len({rate for name, (_, rate) in found.results.items() if name.startswith("t.tune/")}) >= 3
    assert {name for name in found.results if name.startswith("t/")}
    return found


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_two_processes_and_a_kill_make_what_one_makes(alone: Alone, tmp_path: Path, round_: int) -> None:
    draw = random.Random(f"{SEED} {round_}")
    folder = place(tmp_path / "t", STUDY)

    def start(number: int) -> Process:
        return train(folder, "--wait", setup=PHASES, log=folder / f"{number}.txt")

    first = start(1)
    # The second begins at the same moment, or after some steps of the first.
    late, due = draw.choice([0, draw.randint(1, alone.steps // 2)]), draw.randint(1, alone.steps - 10)
    until(lambda: begun(folder, "t") >= late)
    second = start(2)
    victim, other = (first, second) if draw.random() < 0.5 else (second, first)
    until(lambda: begun(folder, "t") >= max(late, due) or victim.ended())
    killed = victim.kill()
    assert other.wait() == 0, said(other)
    assert results(folder) == alone.results
    attempts = Counter({run.id: attempts_of(run.path) for run in list_runs([folder / "runs"])})
    # What the killed process was at, and nothing else, took a second attempt.
    assert sum(attempts.values()) <= len(alone.results) + killed, attempts
    assert "Traceback" not in said(first) + said(second)


def test_no_rate_is_chosen_while_a_try_is_held_elsewhere(alone: Alone, tmp_path: Path) -> None:
    folder = place(tmp_path / "t", STUDY)
    # The first process stays in the middle of its first try; the other does what is left, and waits by itself.
    first = train(folder, setup=PHASES, env={"FAULT_SLOW": "t4"}, log=folder / "1.txt")
    until(lambda: begun(folder, "!"))
    second = train(folder, setup=PHASES, log=folder / "2.txt")
    until(lambda: "waiting for it" in said(second))
    told = said(second)
    assert re.search(
        rf"t.tune/\S+: pid {first.pid} on \S+ trains it: running at step \d+ of 8, last sign of life", told
    )
    assert "is the best of its grid" not in told
    assert not (folder / "runs/t").exists()
    go_on(folder)
    assert {first.wait(), second.wait()} <= {0, 1}
    assert train(folder, log=folder / "3.txt").wait() == 0
    assert results(folder) == alone.results
    assert all(attempts_of(run.path) == 1 for run in list_runs([folder / "runs"]))


def test_a_stopped_try_leaves_the_choice_open(tmp_path: Path) -> None:
    folder = place(tmp_path / "t", STUDY)
    first = train(folder, setup=PHASES, env={"FAULT_SLOW": "t4"})
    until(lambda: begun(folder, "!"))
    (run,) = [run for run in list_runs([folder / "runs"]) if run.status().state == "running"]
    assert launch(folder, "stop", run.id, log=folder / "stop.txt").wait() == 0
    # Requests are looked for about twice a second: at the next step the time has come for sure.
    began = time.monotonic()
    until(lambda: time.monotonic() > began + 1.0)
    go_on(folder)
    assert first.wait() == 1
    assert f"no rate is chosen while a try has not ended: {run.id} is stopped" in said(first)
    assert not (folder / "runs/t").exists()


def test_a_run_that_is_ended_now_is_not_continued_by_who_waits_for_it(tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    slow = PHASES + "_rate = trainer.learning_rate\n"
    slow += "trainer.learning_rate = lambda step, **more: (time.sleep(0.5), _rate(step, **more))[1]\n"
    first = train(folder, setup=slow, log=folder / "1.txt")
    until(lambda: begun(folder, "t") > 0)
    second = train(folder, "--wait", log=folder / "2.txt")
    until(lambda: "waiting for it" in said(second))
    assert launch(folder, "stop", RUN, "--now", log=folder / "stop.txt").wait() == 0
    first.wait(), second.wait()
    status = run_of(folder).status()
    assert (status.state, status.attempt) == ("stopped", 1), said(second)
    assert status.message.startswith("stopped on request at step ")


# ------------------------------------------------------------------------------------------------ From host to host
# A process that sees the folder from another machine, where the locks of this one do not reach.
ELSEWHERE = """
import fcntl
from lsc_engine.runs.folder import lock, process
fcntl.flock = lambda *words: None
process.boot_id = lambda: "another boot"
process.host_name = lambda: "gpu-b"
"""
QUICK = ELSEWHERE + "lock.SILENCE, lock.WATCH = 1.0, 1.0\n"
# In the middle of a checkpoint too, when its first file is written.
MIDWAY = PHASES + "import torch\ntorch.save = _telling('m', torch.save)\n"


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of the run, and when it was written; the lock file is touched while the run lives."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in files(folder / "runs" / RUN)
        if path.name != ".lock"
    }


@pytest.mark.parametrize("moment", ["d1", "t1", "t17", "e2", "s2", "m3"])
def test_a_suspended_writer_ends_without_a_word_in_the_run_that_was_taken_over(
    straight: dict[str, Any], tmp_path: Path, moment: str
) -> None:
    folder = place(tmp_path / "t")
    first = train(folder, setup=MIDWAY, env={"FAULT_SLOW": moment}, log=folder / "1.txt")
    until(lambda: begun(folder, "!"))
    first.send(signal.SIGSTOP)
    second = launch(folder, "resume", "default", "--device", "cpu", "--wait", setup=QUICK, log=folder / "2.txt")
    assert second.wait() == 0, said(second)
    assert outcome(folder) == straight
    status = run_of(folder).status()
    assert status.attempt == 2
    assert f"attempt 1 ended without a record in state {'starting' if moment == 'd1' else 'running'}" in status.earlier
    assert f"pid {first.pid} on" in status.earlier
    assert status.earlier in run_of(folder).log_path.read_text()
    before = tree(folder)
    go_on(folder)
    first.send(signal.SIGCONT)
    # The run is finished: that another process finished it is no failure.
    assert first.wait() == 0, said(first)
    assert "was suspended for so long that" in said(first)
    assert tree(folder) == before


def test_a_suspended_writer_ends_beside_the_one_that_goes_on(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    first = train(folder, setup=PHASES, env={"FAULT_SLOW": "t12"}, log=folder / "1.txt")
    until(lambda: begun(folder, "!") == 1)
    first.send(signal.SIGSTOP)
    slow = QUICK + PHASES.replace('"go-on"', '"go-on-2"')
    words = ("resume", "default", "--device", "cpu", "--wait")
    second = launch(folder, *words, setup=slow, env={"FAULT_SLOW": "t9"}, log=folder / "2.txt")
    until(lambda: begun(folder, "!") == 2)
    go_on(folder)
    first.send(signal.SIGCONT)
    assert first.wait() == 1, said(first)
    assert "on gpu-b has taken the run over" in said(first)
    (folder / "go-on-2").touch()
    assert second.wait() == 0, said(second)
    assert outcome(folder) == straight


def test_a_live_writer_is_left_alone_from_host_to_host(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    first = train(folder, setup=PHASES, env={"FAULT_SLOW": "t12"}, log=folder / "1.txt")
    until(lambda: begun(folder, "!"))
    for words, code in ((("resume", "default"), 2), (("run", "t.toml"), 1)):
        refused = launch(folder, *words, "--device", "cpu", setup=ELSEWHERE, log=folder / f"{words[0]}.txt")
        assert refused.wait() == code
        told = said(refused)
        assert re.search(
            rf"pid {first.pid} on \S+ trains it: running at step \d+ of 36, last sign of life \d+ s ago", told
        )
        assert re.search(r"when there is none for another \d+ s: try again then, or give --wait", told)
    waiter = launch(folder, "run", "t.toml", "--wait", "--device", "cpu", setup=ELSEWHERE, log=folder / "waiter.txt")
    until(lambda: "waiting for it" in said(waiter))
    go_on(folder)
    assert first.wait() == 0
    assert waiter.wait() == 0, said(waiter)
    assert run_of(folder).status().attempt == 1
    assert outcome(folder) == straight


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("command", ["run t.toml", "resume default"])
def test_waiting_ends_with_a_signal_and_touches_nothing(
    straight: dict[str, Any], tmp_path: Path, number: signal.Signals, code: int, command: str
) -> None:
    folder = place(tmp_path / "t")
    first = train(folder, setup=PHASES, env={"FAULT_SLOW": "t12"}, log=folder / "1.txt")
    until(lambda: begun(folder, "!"))
    waiter = launch(folder, *command.split(), "--wait", "--device", "cpu", log=folder / "2.txt")
    until(lambda: "waiting for it" in said(waiter))
    waiter.send(number)
    assert waiter.wait() == code
    assert run_of(folder).status().shown_state == "running"
    go_on(folder)
    assert first.wait() == 0
    assert outcome(folder) == straight
