"""The bundled example runs: real, small, without a trace of where they were made, at work without a process."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import sys
import tarfile
import tempfile
import termios
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tui_helpers import make_app, settle, text_of

from lsc_engine.runs.read.embeddings import list_snapshots
from lsc_engine.runs.read.run import list_runs
from lsc_tui import demo
from lsc_tui.demo import ARCHIVE, HOST, Replay, demo_folder, move_times
from tests.waiting import LIMIT, pause_until, wait_until


def replayed() -> list[str]:
    """Ids of the runs of one study that are played, in their order."""
    with tarfile.open(ARCHIVE) as archive:
        file = archive.extractfile("replay.json")
        assert file is not None
        return [key for key in json.load(file) if key.startswith("spectrum-2k/")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The examples, unpacked and not played."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "runs"


def test_the_archive_is_small_and_names_no_machine(folder: Path) -> None:
    assert ARCHIVE.stat().st_size < 1_500_000
    runs = list_runs([folder])
    assert len(runs) >= 12
    for run in runs:
        assert run.status().host == HOST
        assert run.source["host"] == HOST
        assert run.config
        assert not run.checkpoints()
        text = (run.path / "status.json").read_text() + (run.path / "source.json").read_text()
        assert "/tmp" not in text
        assert "root" not in text
    states = {run.status().state for run in runs}
    assert {"finished", "diverged"} <= states
    assert {run.study for run in runs} >= {"spectrum-2k"}


def test_times_are_moved_near_now(folder: Path) -> None:
    now = time.time()
    move_times(folder, now - 60)
    statuses = [run.status() for run in list_runs([folder])]
    assert max(s.heartbeat or 0 for s in statuses) == pytest.approx(now - 60, abs=1)
    assert all((s.started or 0) <= (s.heartbeat or 0) for s in statuses)
    assert all(s.changed == pytest.approx(s.heartbeat, abs=1) for s in statuses)


def test_a_recorded_run_is_at_work_without_a_process_and_the_next_waits(folder: Path) -> None:
    first, second = replayed()
    recorded = (folder / first / "metrics.jsonl").read_bytes()
    runs = {run.id: run for run in list_runs([folder])}
    ended = runs[first].status()
    replay = Replay(folder, {first: 0.5, second: 0.0}, pause=0.005)
    before = runs[first].status()
    assert (before.shown_state, before.pid, before.host) == ("running", None, HOST)
    assert 0 < before.step < ended.step
    assert "recorded" in before.message
    assert runs[second].status().shown_state == "queued"
    assert (folder / second / "metrics.jsonl").read_bytes() == b""
    replay.start()
    wait_until(lambda: runs[second].status().state == "finished")
    replay.join(LIMIT)
    assert (folder / first / "metrics.jsonl").read_bytes() == recorded
    for key in (first, second):
        assert runs[key].status().shown_state == "finished"
    after = runs[first].status()
    assert (after.step, after.metrics, after.best) == (ended.step, ended.metrics, ended.best)


def test_embeddings_come_with_the_lines_that_are_played(folder: Path) -> None:
    key = "digits-sphere/A-3/seed-0"
    recorded = {step: path.read_bytes() for step, path in list_snapshots(folder / key)}
    assert len(recorded) >= 20
    replay = Replay(folder, {key: 0.3}, pause=0.003)
    run = next(run for run in list_runs([folder]) if run.id == key)
    before = [step for step, _ in list_snapshots(folder / key)]
    assert before == [step for step in recorded if step <= run.status().step]
    assert 0 < len(before) < len(recorded)
    replay.start()
    replay.join(LIMIT)
    assert {step: path.read_bytes() for step, path in list_snapshots(folder / key)} == recorded


def test_each_start_has_a_copy_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    users = tmp_path / "users"
    users.mkdir()
    monkeypatch.setenv("LSC_RUNS", str(users))
    one, other = demo_folder(pause=60.0), demo_folder(pause=60.0)
    assert one is not None
    assert other is not None
    assert one != other
    assert one.parent.parent == tmp_path
    assert os.listdir(users) == []
    demo._remove(one.parent)
    assert not one.exists()


@pytest.mark.parametrize("end", ["key", "hangup", "terminate", "terminal"])
def test_its_folder_goes_with_the_demo(tmp_path: Path, end: str) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", TMPDIR=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path / "config"))
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        os.execv(sys.executable, [sys.executable, "-m", "lsc_tui", "--demo"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen = b""
    while b"running" not in seen:
        seen += os.read(terminal, 65536)
    assert list(tmp_path.glob(f"{demo.PREFIX}*"))
    if end == "key":
        os.write(terminal, b"q")
    elif end == "terminal":
        os.close(terminal)
    else:
        os.kill(pid, signal.SIGHUP if end == "hangup" else signal.SIGTERM)
    wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], "the end of the demo")
    assert not list(tmp_path.glob(f"{demo.PREFIX}*"))


async def test_the_examples_are_shown_and_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    lines = threading.Semaphore(0)
    monkeypatch.setattr(demo, "time", SimpleNamespace(time=time.time, sleep=lambda seconds: lines.acquire()))
    folder = demo_folder(pause=3600.0)
    assert folder is not None
    app = make_app(folder)
    async with app.run_test(size=(160, 48)) as pilot:
        await settle(app, pilot)
        text = text_of(app)
        assert "● running" in text
        assert "○ queued" in text
        assert "✓ finished" in text
        key = f"0:{replayed()[0]}"
        step = app.store.runs[key].status.step
        lines.release(3)
        await pause_until(pilot, lambda: app.store.runs[key].status.step > step)
        assert app.store.runs[key].status.step > step
        assert app.store.runs[key].state == "running"


async def test_the_demo_starts_nothing_and_changes_its_own_copy_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that start, end and change runs: no process is begun, and every file changed lies in the copy."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    place = demo_folder(pause=0.05)
    assert place is not None
    started: list[object] = []

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.kill"):
            started.append(arguments)

    app = make_app(place, config=tmp_path / "config", demo=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(app, pilot)
        watching = [True]
        sys.addaudithook(lambda event, arguments: audit(event, arguments) if watching else None)
        screen: Any = app.lsc_screen
        for state, key in (("finished", "R"), ("stopped", "R"), ("running", "C"), ("running", "S"), ("queued", "R")):
            table = screen.table
            found = (i for i, row in enumerate(table.rows) if row.kind == "run" and row.views[0].state == state)
            table.cursor = next(found, table.cursor)
            await pilot.press(key)
            assert screen.idle
            assert f"{key}: the demo replays recorded runs and trains nothing" in text_of(app).replace("\n", " ")
        table.cursor = next(i for i, row in enumerate(table.rows) if row.kind == "run")
        run = table.current.views[0].id
        await pilot.press("n", *"kept here", "enter")
        await app.workers.wait_for_complete()
        assert "kept here" in (place / run / "notes.json").read_text()
        await pilot.press("D", "y")
        await app.workers.wait_for_complete()
        assert not (place / run).exists()
        assert list((place / ".trash").rglob("notes.json"))
        assert started == []
        watching.clear()
        await pilot.press("4")
        form: Any = app.lsc_screen
        await pause_until(pilot, lambda: form.preset_list.infos)
        await pilot.press("enter")
        await pause_until(pilot, lambda: form.form is not None and not form.checking)
        watching.append(True)
        for key in ("L", "f5"):
            await pilot.press(key)
            assert form.idle
            assert "L: the demo replays recorded runs" in text_of(app)
        watching.clear()
    assert {path.name for path in tmp_path.iterdir()} <= {"tmp", "config"}
