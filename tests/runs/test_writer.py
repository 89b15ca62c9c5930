"""The one writer: attempts, lock, requests, full disks, ends; with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.runs.folder import process, requests
from lsc_engine.runs.folder.status import Status, read_status, write_status
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.runs.read.notes import add_note, add_tag
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies import control
from tests.waiting import LIMIT, wait_until

from .conftest import MakeRun, Settings

CHILD = """
import sys, time
from lsc_engine.runs.folder.writer import RunWriter
w = RunWriter.open(sys.argv[1], device="cpu", total_steps=1000, echo=False)
w.status(state="running")
step = 0
print("ready", flush=True)
while True:
    step += 1
    w.metrics(step, step / 10, step * 0.01, {"train/loss": 1 / step})
    w.heartbeat(step)
    time.sleep(0.005)
    if "stop" in w.requests():
        w.finish("stopped", 143, "asked to stop")
        break
"""


def start_child(folder: Path, code: str = CHILD) -> subprocess.Popen[str]:
    """A process that writes the run, after its first word."""
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "ready\n"
    return child


def test_a_run_from_queued_to_finished(make_run: MakeRun) -> None:
    folder = make_run()
    run = open_run(folder)
    assert run.id == "group/study/a/seed-0"
    assert run.status().shown_state == "queued"
    with RunWriter.open(folder, device="cpu", total_steps=20, echo=False) as writer:
        assert run.status().shown_state == "starting"
        writer.status(state="running")
        for step in (5, 10):
            writer.metrics(step, step / 5, step * 0.1, {"train/loss": 1 / step, "train/accuracy": step / 20})
        writer.heartbeat(10, eta=3.0)
        status = run.status()
        assert (status.shown_state, status.step, status.total_steps, status.pid) == ("running", 10, 20, os.getpid())
        assert status.best == {"train/loss": 0.1, "train/accuracy": 0.5}
        writer.finish("finished", 0, "done")
    status = run.status()
    assert (status.shown_state, status.exit_code, status.message, status.attempt) == ("finished", 0, "done", 1)
    steps, values = run.history("train/loss")
    np.testing.assert_array_equal(steps, [5, 10])
    np.testing.assert_array_equal(values, [0.2, 0.1])
    assert run.last() == {"train/loss": 0.1, "train/accuracy": 0.5}
    assert run.config["optimizer"]["lr"] == 1e-3
    assert run.source["command"] == "test"


def test_creating_twice_or_in_the_wrong_place_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    with pytest.raises(UsageError, match="not empty"):
        make_run()
    foreign = tmp_path / "runs/group/study/b/seed-0"
    foreign.mkdir(parents=True)
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        make_run(variant="b")
    assert [p.name for p in foreign.iterdir()] == ["thesis.tex"]
    with pytest.raises(UsageError, match="not the place"):
        create_run(tmp_path / "elsewhere", Settings(), {})
    assert not (tmp_path / "elsewhere").exists()
    assert [p.name for p in folder.parent.iterdir()] == ["seed-0"]


def at_once(work: Callable[[int], int]) -> list[int]:
    """What `work(i)` gives in four processes that begin at the same moment, as exit codes."""
    gate, children = os.pipe(), []
    for number in range(4):
        child = os.fork()
        if child == 0:
            code = 99
            with contextlib.suppress(BaseException):
                os.close(gate[1])
                os.read(gate[0], 1)
                code = work(number)
            os._exit(code)
        children.append(child)
    os.close(gate[0])
    os.close(gate[1])
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_of_processes_that_create_the_same_runs_at_once_each_run_has_one_maker(tmp_path: Path) -> None:
    def work(number: int) -> int:
        made = 0
        for seed in range(20):
            with contextlib.suppress(UsageError):
                create_run(tmp_path / f"group/study/a/seed-{seed}", Settings(seed=seed), {"maker": number})
                made += 1
        return made

    assert sum(at_once(work)) == 20
    assert len(list((tmp_path / "group/study/a").iterdir())) == 20


def test_notes_of_many_at_once_are_all_kept(make_run: MakeRun) -> None:
    folder = make_run()

    def work(number: int) -> int:
        for i in range(10):
            add_note(folder, f"note {i} of {number}")
        add_tag(folder, f"tag-{number}")
        return 0

    assert at_once(work) == [0] * 4
    run = open_run(folder)
    assert len({note.text for note in run.notes}) == 40
    assert set(run.tags) == {f"tag-{number}" for number in range(4)}


def test_kill_minus_nine_reads_lost_and_the_next_attempt_goes_on(make_run: MakeRun) -> None:
    folder = make_run()
    run = open_run(folder)
    child = start_child(folder)
    wait_until(lambda: run.status().step > 1)
    assert run.status().shown_state == "running"
    child.kill()
    child.wait()
    assert run.status().state == "running"
    assert run.status().shown_state == "lost"
    assert "gone" in run.status().news
    with RunWriter.open(folder, device="cpu", total_steps=1000, echo=False) as writer:
        assert writer.attempt == 2
        assert run.status().shown_state == "starting"
        writer.metrics(1, 0.1, 0.01, {"train/loss": 7.0})
        writer.finish("finished", 0)
    steps, values = run.history("train/loss")
    assert values[0] == 7.0
    assert len(set(steps)) == len(steps)


def test_a_zombie_counts_as_gone(make_run: MakeRun) -> None:
    folder = make_run()
    child = start_child(folder)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert open_run(folder).status().shown_state == "lost"
    child.wait()


def test_a_second_process_is_refused_with_a_sentence(make_run: MakeRun) -> None:
    folder = make_run()
    child = start_child(folder)
    try:
        before = (folder / "status.json").read_bytes()
        with pytest.raises(
            UsageError, match=rf"pid {child.pid} on .* trains it: running at step \d+ of 1000, last sign of life"
        ):
            RunWriter.open(folder, device="cpu", total_steps=1, echo=False)
        assert json.loads(before)["attempt"] == read_status(folder).attempt == 1
        assert open_run(folder).status().shown_state == "running"
    finally:
        child.kill()
        child.wait()


def test_the_same_process_twice_is_refused(make_run: MakeRun) -> None:
    folder = make_run()
    with (
        RunWriter.open(folder, device="cpu", total_steps=1, echo=False),
        pytest.raises(UsageError, match=f"pid {os.getpid()} on .* trains it"),
    ):
        RunWriter.open(folder, device="cpu", total_steps=1, echo=False)


def test_a_forked_helper_does_not_keep_the_lock(make_run: MakeRun) -> None:
    folder = make_run()
    code = CHILD.replace(
        "step = 0\n", "step = 0\nimport os\nif os.fork() == 0:\n    time.sleep(60)\n    os._exit(0)\n", 1
    )
    child = start_child(folder, code)
    child.kill()
    child.wait()
    RunWriter.open(folder, device="cpu", total_steps=1, echo=False).close()


def test_a_fresh_heartbeat_from_another_host_is_refused_even_without_locks(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lsc_engine.runs.folder.lock.WATCH", 1.0)
    folder = make_run()
    status = Status(state="running", host="elsewhere", pid=1, pid_start=1.0, boot_id="x", heartbeat=time.time())
    write_status(folder, status)
    with pytest.raises(UsageError, match="pid 1 on elsewhere"):
        RunWriter.open(folder, device="cpu", total_steps=1, echo=False)
    old = time.time() - 3600
    os.utime(folder / "status.json", (old, old))
    RunWriter.open(folder, device="cpu", total_steps=1, echo=False).close()


def test_requests_are_answered_once_and_stop_is_shown(make_run: MakeRun) -> None:
    folder = make_run()
    child = start_child(folder)
    requests.request(folder, "stop")
    assert child.wait(240) == 0
    status = open_run(folder).status()
    assert (status.shown_state, status.exit_code) == ("stopped", 143)
    assert requests.pending(folder) == set()


def test_requests_for_a_past_attempt_are_dropped_and_for_a_queued_run_kept(make_run: MakeRun) -> None:
    folder = make_run()
    requests.request(folder, "stop")
    writer = RunWriter.open(folder, device="cpu", total_steps=1, echo=False)
    assert writer.requests() == {"stop"}
    assert writer.state == "stopping"
    requests.request(folder, "stop")
    requests.request(folder, "checkpoint")
    writer.finish("stopped", 143)
    writer = RunWriter.open(folder, device="cpu", total_steps=1, echo=False)
    assert writer.requests() == set()
    writer.close()


def test_kill_from_another_host_is_a_request_that_ends_the_process(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run()
    child = start_child(folder)
    monkeypatch.setattr(process, "is_alive", lambda who: None)
    ended = control.kill(folder)
    assert (ended.state, ended.exit_code, ended.message) == ("stopped", 137, "stopped on request: killed")
    assert child.wait(240) == 137


def test_kill_ends_only_the_right_process(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run()
    monkeypatch.setattr(control, "REMOTE_SECONDS", 0.2)
    child = start_child(folder)
    try:
        os.kill(child.pid, signal.SIGSTOP)
        # Until it stands still it may write its status once more.
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        good = read_status(folder)
        # A reused pid: same number, other start time.
        from dataclasses import replace

        write_status(folder, replace(good, pid_start=good.pid_start - 500))
        assert open_run(folder).status().shown_state == "lost"
        write_status(folder, replace(good, host="elsewhere", boot_id="x"))
        with pytest.raises(LscError, match="elsewhere does not answer"):
            control.kill(folder)
        assert requests.take(folder) == {"kill"}
        assert child.poll() is None
        write_status(folder, good)
        os.kill(child.pid, signal.SIGCONT)
        ended = control.kill(folder, grace=LIMIT)
        assert child.wait(240) == -signal.SIGTERM
        assert (ended.state, ended.exit_code) == ("stopped", 137)
    finally:
        child.kill()
        child.wait()
    with pytest.raises(UsageError, match="no process"):
        control.kill(folder)


def test_an_exception_leaves_an_exit_record(make_run: MakeRun) -> None:
    folder = make_run()
    with contextlib.suppress(RuntimeError), RunWriter.open(folder, device="cpu", total_steps=1, echo=False):
        raise RuntimeError("boom")
    status = open_run(folder).status()
    assert (status.shown_state, status.exit_code, status.message) == ("failed", 1, "RuntimeError: boom")


def test_messages_go_to_the_log(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run()
    with RunWriter.open(folder, device="cpu", total_steps=1) as writer:
        writer.message("epoch 1\nepoch 2")
        writer.finish("finished", 0)
    lines = (folder / "log.txt").read_text().splitlines()
    assert [line[9:] for line in lines] == ["epoch 1", "epoch 2"]
    assert capsys.readouterr().err == "epoch 1\nepoch 2\n"


def test_a_full_disk_does_not_raise_and_nothing_is_lost(make_run: MakeRun) -> None:
    """RLIMIT_FSIZE stands for the full disk: writes beyond the limit fail with an error."""
    folder = make_run()
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = RunWriter.open(folder, device="cpu", total_steps=9, echo=False)
    try:
        writer.status(state="running")
        for step in range(1, 101):
            writer.metrics(step, 0.0, 0.0, {"train/loss": 1 / step})
        size = (folder / "metrics.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, limits[1]))
        for step in range(101, 201):
            writer.metrics(step, 0.0, 0.0, {"train/loss": 1 / step})
            writer.heartbeat(step)
        assert "metrics" in writer.troubles
        assert (folder / "metrics.jsonl").stat().st_size == size
        writer.status()
        assert "not saved since" in open_run(folder).status().message
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        writer.metrics(201, 0.0, 0.0, {"train/loss": 1.0})
        assert writer.troubles == {}
        writer.finish("finished", 0, "done")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    steps, _ = open_run(folder).history("train/loss")
    np.testing.assert_array_equal(steps, np.arange(1, 202))
    assert open_run(folder).status().message == "done"


def test_a_torn_line_of_a_crash_does_not_swallow_the_next(make_run: MakeRun) -> None:
    folder = make_run()
    with RunWriter.open(folder, device="cpu", total_steps=9, echo=False) as writer:
        writer.metrics(1, 0.0, 0.0, {"x": 1.0})
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'{"step":2,"epo')
    with RunWriter.open(folder, device="cpu", total_steps=9, echo=False) as writer:
        writer.metrics(2, 0.0, 0.0, {"x": 2.0})
        writer.finish("finished", 0)
    run = open_run(folder)
    np.testing.assert_array_equal(run.history("x")[1], [1.0, 2.0])
    assert run.table.garbage == 1


def test_values_that_are_not_finite(make_run: MakeRun) -> None:
    folder = make_run()
    with RunWriter.open(folder, device="cpu", total_steps=9, echo=False) as writer:
        writer.metrics(1, 0.0, 0.0, {"a": float("nan"), "b": float("-inf"), "c": 1.0})
        writer.finish("diverged", 3, "loss is nan")
    text = (folder / "metrics.jsonl").read_text()
    assert json.loads(text)["nonfinite"] == {"a": "nan", "b": "-inf"}
    assert "NaN" not in text + (folder / "status.json").read_text()
    run = open_run(folder)
    assert np.isnan(run.history("a")[1][0])
    assert run.history("b")[1][0] == -np.inf
    with pytest.raises(ValueError, match="not a metric name"):
        writer.metrics(2, 0.0, 0.0, {"step": 1.0})
