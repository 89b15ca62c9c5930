"""Runs spread over slots with a real worker process each, and runs that wait for their turn."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.runs.folder import requests
from lsc_engine.runs.folder.status import ELSEWHERE
from lsc_engine.runs.folder.writer import create_run
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies import control
from lsc_engine.studies.checks import ExecutionOptions
from lsc_engine.studies.gpus import Slot
from lsc_engine.studies.plan import plan_study
from lsc_engine.studies.prepare import StudyRun
from lsc_engine.studies.runner import Queue, exit_code, run_parallel, run_sequential
from lsc_engine.training.signals import Signals
from tests.tiny import tiny
from tests.waiting import wait_until

PRESET = tiny({"log.every": "1 steps"})
LONG = 'train.duration = "100000 epochs"'
SLOTS = [Slot("place 0", "cpu", {"OMP_NUM_THREADS": "1"}), Slot("place 1", "cpu", {"OMP_NUM_THREADS": "1"})]


class Shown:
    """What the scheduler shows, in order; `on_update` is called with every update, `on_note` with every note."""

    prints_logs = False

    def __init__(
        self, on_update: Callable[[str], None] = lambda name: None, on_note: Callable[[str], None] = lambda text: None
    ) -> None:
        self.begun: list[str] = []
        self.ended: dict[str, str] = {}
        self.notes: list[str] = []
        self.together = 0
        self._on_update, self._on_note = on_update, on_note

    def begin(self, name: str) -> None:
        self.begun.append(name)
        self.together = max(self.together, len(set(self.begun) - set(self.ended)))

    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
        self._on_update(name)

    def end(self, name: str, state: str, message: str) -> None:
        self.ended[name] = state

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._on_note(text)


def study(root: Path, variants: str) -> list[StudyRun]:
    file = root / "s.toml"
    file.write_text(PRESET + variants)
    plan = plan_study(file)
    return [
        StudyRun(run.id, create_run(root / "runs" / run.id, run.config, {}), run.config, run.needs) for run in plan.runs
    ]


def variant(name: str, *lines: str) -> str:
    return "\n".join(["[[variants]]", f'name = "{name}"', *lines, ""])


def queue(root: Path, jobs: list[StudyRun], shown: Shown, signals: Signals | None = None, **options: Any) -> Queue:
    return Queue(jobs, ExecutionOptions(root / "runs", **options), shown, signals or Signals())


def spread(root: Path, jobs: list[StudyRun], shown: Shown, signals: Signals | None = None) -> dict[str, str]:
    return run_parallel(queue(root, jobs, shown, signals), SLOTS)


def kill_once_running(folder: Path) -> Callable[[str], None]:
    def look(name: str) -> None:
        status = open_run(folder).status()
        if folder.is_relative_to(folder.parents[2] / name) and status.state == "running":
            assert status.pid is not None
            assert status.pid != os.getpid()
            # A last look comes after its end.
            with contextlib.suppress(ProcessLookupError):
                os.kill(status.pid, signal.SIGKILL)

    return look


@pytest.mark.slow
def test_slots_are_filled_needs_come_first_and_a_killed_worker_stops_nobody_else(tmp_path: Path) -> None:
    jobs = study(tmp_path, variant("a", "model.dim = 7") + variant("b", "model.dim = 8")
                 + variant("killed", "model.dim = 9", LONG) + variant("after-b", 'start_from = "@b"', "model.dim = 8")
                 + variant("after-killed", 'needs = "killed"', "model.dim = 10"))  # fmt: skip
    ids = {job.folder.parent.name: job.id for job in jobs}
    killed = tmp_path / "runs" / ids["killed"]
    shown = Shown(kill_once_running(killed))
    states = spread(tmp_path, jobs, shown)

    want = {"a": "finished", "b": "finished", "killed": "failed", "after-b": "finished", "after-killed": "failed"}
    assert states == {ids[name]: state for name, state in want.items()} == shown.ended
    for name, state in want.items():
        assert open_run(tmp_path / "runs" / ids[name]).status().shown_state == state
    assert "killed by signal 9" in open_run(killed).status().message
    assert ids["killed"] in open_run(tmp_path / "runs" / ids["after-killed"]).status().message
    assert set(shown.begun) == set(ids.values()) - {ids["after-killed"]}
    assert shown.together == 2
    assert shown.begun.index(ids["after-b"]) > shown.begun.index(ids["b"])
    assert exit_code(states.values(), None) == 1


@pytest.mark.slow
def test_a_signal_reaches_every_worker_and_what_waits_stays_queued(tmp_path: Path) -> None:
    jobs = study(tmp_path, "".join(variant(f"v{n}", f"model.dim = {n}", LONG) for n in (7, 8, 9)))
    signals = Signals()

    def when_both_run() -> None:
        wait_until(lambda: sum(open_run(job.folder).status().step > 0 for job in jobs) == 2)
        signals.stop = signal.SIGTERM

    threading.Thread(target=when_both_run, daemon=True).start()
    states = spread(tmp_path, jobs, Shown(), signals)
    assert states == {jobs[0].id: "stopped", jobs[1].id: "stopped"}
    for job in jobs[:2]:
        assert open_run(job.folder).checkpoints()
        assert open_run(job.folder).status().exit_code == 143
    assert open_run(jobs[2].folder).status().state == "queued"
    assert exit_code(states.values(), signals.stop) == 143


def test_a_worker_that_cannot_start_leaves_a_failed_run_with_the_reason(tmp_path: Path) -> None:
    jobs = study(tmp_path, variant("a"))
    states = run_parallel(queue(tmp_path, jobs, Shown(), plugins=(Path("missing.py"),)), SLOTS)
    assert states == {jobs[0].id: "failed"}
    assert open_run(jobs[0].folder).status().state == "failed"
    assert "missing.py is not a file" in (jobs[0].folder / "log.txt").read_text()


def test_a_queued_run_with_a_stop_request_is_never_started(tmp_path: Path) -> None:
    jobs = study(tmp_path, variant("a", "model.dim = 7") + variant("b", "model.dim = 8"))
    requests.request(jobs[1].folder, "stop")
    trained: list[str] = []
    shown = Shown()

    def execute(job: StudyRun) -> str:
        trained.append(job.id)
        return control.record_exit(job.folder, "finished", 0, "").state

    states = run_sequential(queue(tmp_path, jobs, shown), execute)
    assert trained == [jobs[0].id]
    assert states == {jobs[0].id: "finished", jobs[1].id: "stopped"}
    assert (shown.begun, shown.ended[jobs[1].id]) == ([jobs[0].id], "stopped")
    assert open_run(jobs[1].folder).status().state == "stopped"
    assert not requests.pending(jobs[1].folder)


def test_turns_change_the_order_and_a_held_run_waits_until_it_is_let_go(tmp_path: Path) -> None:
    jobs = study(tmp_path, "".join(variant(name, f"model.dim = {n}") for n, name in enumerate("abcd", 7)))
    requests.request(jobs[0].folder, "hold")
    requests.set_turn(jobs[3].folder, -2)
    requests.set_turn(jobs[2].folder, -1)
    trained: list[str] = []
    # Once nothing else is left it says so, and goes on when the run is let go.
    shown = Shown(on_note=lambda text: requests.withdraw(jobs[0].folder, "hold"))

    def execute(job: StudyRun) -> str:
        trained.append(job.folder.parent.name)
        return control.record_exit(job.folder, "finished", 0, "").state

    states = run_sequential(queue(tmp_path, jobs, shown), execute)
    assert trained == ["d", "c", "b", "a"]
    assert set(states.values()) == {"finished"}
    assert shown.notes == ["s/a/seed-0: held by a user until it is let go, with Q in lsc-tui"]
    (jobs[0].folder / requests.TURN).write_text('{"turn": "x"}')
    assert requests.turn(jobs[0].folder) == 0


WRITER = """
import sys
from lsc_engine.runs.folder.writer import RunWriter
writer = RunWriter.open(sys.argv[1], device="cpu", total_steps=7, echo=False)
writer.status(state="running")
print("ready", flush=True)
word = sys.stdin.readline().split()
if word:
    writer.finish(word[0], int(word[1]), "as given")
"""


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Callable[[str], None]]:
    """Another process that writes a run; what is given back ends it: "finished 0", or "" for one that just dies."""
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"

    def end(word: str) -> None:
        if child.stdin is not None and not child.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(f"{word}\n")
                child.stdin.close()

    try:
        yield end
    finally:
        end("")
        child.wait(60)
        child.stdout.close()


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path: Path) -> None:
    jobs = study(tmp_path, variant("a", "model.dim = 7") + variant("b", "model.dim = 8"))
    trained: list[str] = []
    shown = Shown()

    def execute(job: StudyRun) -> str:
        trained.append(job.id)
        return control.record_exit(job.folder, "finished", 0, "").state

    with writing(jobs[0].folder):
        states = run_sequential(queue(tmp_path, jobs, shown), execute)
        assert open_run(jobs[0].folder).status().state == "running"
    assert trained == [jobs[1].id]
    assert states == {jobs[0].id: ELSEWHERE, jobs[1].id: "finished"}
    assert len(shown.notes) == 1
    who = r"pid \d+ on \S+ trains it: running at step 0 of 7, last sign of life \d+ s ago"
    assert re.match(f"{jobs[0].id}: {who}", shown.notes[0])
    assert exit_code(states.values(), None) == 1


@pytest.mark.parametrize(
    ("word", "patient", "want"),
    [
        ("finished 0", False, {"a": "finished", "b": "finished", "c": "finished"}),
        # The process dies: what it left is trained here, and then what needs it.
        ("", False, {"a": "finished", "b": "finished", "c": "finished"}),
        ("failed 1", False, {"a": "failed", "b": "failed", "c": "finished"}),
        ("diverged 3", True, {"a": "diverged", "b": "failed", "c": "finished"}),
    ],
)
def test_a_run_waits_for_what_it_needs_of_another_process(
    tmp_path: Path, word: str, patient: bool, want: dict[str, str]
) -> None:
    jobs = study(tmp_path, variant("a", "model.dim = 7") + variant("b", 'needs = "a"', "model.dim = 8")
                 + variant("c", "model.dim = 9"))  # fmt: skip
    trained: list[str] = []

    def execute(job: StudyRun) -> str:
        trained.append(job.folder.parent.name)
        return control.record_exit(job.folder, "finished", 0, "").state

    with writing(jobs[0].folder) as end:
        shown = Shown(on_note=lambda text: end(word))
        states = run_sequential(queue(tmp_path, jobs, shown, wait=patient), execute)
    assert states == {f"s/{name}/seed-0": state for name, state in want.items()}
    # What needs nobody is trained first, and nothing while its need goes on elsewhere.
    assert trained == ["c", *(["a"] if not word else []), *(["b"] if want["a"] == "finished" else [])]
    assert len(shown.notes) == 1
    assert "s/a/seed-0: pid" in shown.notes[0]
    assert "waiting for it" in shown.notes[0]


def test_waiting_ends_with_a_signal(tmp_path: Path) -> None:
    jobs = study(tmp_path, variant("a"))
    signals = Signals()

    def stop(text: str) -> None:
        signals.stop = signal.SIGTERM

    with writing(jobs[0].folder):
        shown = Shown(on_note=stop)
        states = run_sequential(queue(tmp_path, jobs, shown, signals, wait=True), lambda job: "")
        assert open_run(jobs[0].folder).status().state == "running"
    assert states == {}
    assert exit_code(states.values(), signals.stop) == 143


@pytest.mark.slow
def test_slots_wait_for_what_another_process_trains(tmp_path: Path) -> None:
    jobs = study(tmp_path, variant("a", "model.dim = 7") + variant("b", 'start_from = "@a"', "model.dim = 7"))
    with writing(jobs[0].folder) as end:
        shown = Shown(on_note=lambda text: end(""))
        states = run_parallel(queue(tmp_path, jobs, shown), SLOTS)
    assert states == {job.id: "finished" for job in jobs}
    assert open_run(jobs[0].folder).status().attempt == 2
    assert "attempt 1 ended without a record in state running" in open_run(jobs[0].folder).status().earlier
