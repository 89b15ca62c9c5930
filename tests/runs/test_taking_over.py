"""Who writes a run, seen from another container or another host, and when it may be taken over."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lsc_engine.common.errors import LscError
from lsc_engine.runs.folder import lock, process, requests
from lsc_engine.runs.folder.lock import RunLock, TakenError, holder
from lsc_engine.runs.folder.status import Status, read_status, write_status
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies import control
from tests.waiting import wait_until

from .conftest import MakeRun

WRITER = """
import sys
from lsc_engine.runs.folder.writer import RunWriter
writer = RunWriter.open(sys.argv[1], device="cpu", total_steps=50, echo=False)
writer.status(state=sys.argv[2])
print(writer.state, flush=True)
sys.stdin.read()
"""
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts")


@contextmanager
def writing(folder: Path, state: str, *before: str, code: str = WRITER) -> Iterator[subprocess.Popen[str]]:
    """A process, started through the command `before`, that has put the run into `state` and waits."""
    child = subprocess.Popen(
        [*before, sys.executable, "-c", code, str(folder), state], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == f"{state}\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def contained() -> bool:
    return os.geteuid() == 0 and subprocess.run([*CONTAINER, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not contained(), reason="namespaces are not allowed here")
@pytest.mark.parametrize("state", ["starting", "running", "stopping"])
def test_a_run_of_a_killed_container_goes_on_at_once_in_another(make_run: MakeRun, state: str) -> None:
    folder = make_run()
    named = ("sh", "-c", 'hostname pod-a; exec "$@"', "sh")
    with writing(folder, state, *CONTAINER, *named):
        status = open_run(folder).status()
        assert (status.host, status.shown_state) == ("pod-a", state)
        assert status.alive() is None
        held = holder(folder)
        assert held is not None
        assert held.at_work
        assert re.match(rf"pid \d+ on pod-a trains it: {state} at step 0 of 50, last sign of life", held.sentence())
        with pytest.raises(TakenError, match="pod-a trains it"):
            RunWriter.open(folder, device="cpu", total_steps=1, echo=False)
    # The kernel ends what is left of the container in its own time.
    wait_until(lambda: open_run(folder).status().shown_state == "lost")
    assert holder(folder) is None
    with RunWriter.open(folder, device="cpu", total_steps=50, echo=False, watch=never) as writer:
        assert writer.attempt == 2
        told = f"attempt 1 ended without a record in state {state}: pid {status.pid} on pod-a is gone"
        assert open_run(folder).status().earlier.startswith(told)
        writer.finish("finished", 0)
    assert told in open_run(folder).log_path.read_text()


def never(seconds: float) -> None:
    raise AssertionError("there was no need to watch it")


def elsewhere(folder: Path, **changes: object) -> None:
    """Say that the process which writes the run is on another machine."""
    status = replace(read_status(folder), host="gpu7", boot_id="another", machine="another", **changes)  # type: ignore[arg-type]
    write_status(folder, status)


def aged(folder: Path, seconds: float) -> None:
    """As if the last sign of life had come `seconds` ago."""
    then = time.time() - seconds
    for name in ("status.json", ".lock"):
        os.utime(folder / name, (then, then))


def test_a_writer_on_another_host_is_watched_before_its_run_is_taken_over(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run()
    RunWriter.open(folder, device="cpu", total_steps=50, echo=False).close()
    elsewhere(folder, state="running", step=7)
    looks: list[float] = []

    def watch(seconds: float) -> None:
        looks.append(seconds)

    held = holder(folder)
    assert held is not None
    assert held.free_in is not None
    assert lock.SILENCE < held.free_in <= lock.SILENCE + lock.WATCH
    assert "gpu7 trains it: running at step 7 of 50" in held.sentence()
    assert re.search(
        r"taken over when there is none for another \d+ s: try again then, or give --wait$", held.sentence()
    )
    with pytest.raises(TakenError, match="gpu7 trains it"):
        RunLock(folder, watch=watch)
    assert looks == []

    # Old enough: still not without a look, and a move while it is watched is a sign of life.
    aged(folder, 60)
    assert holder(folder) is None
    with pytest.raises(TakenError, match="gpu7"):
        RunLock(folder)

    def touched(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 5:
            os.utime(folder / ".lock")

    with pytest.raises(TakenError, match="gpu7 trains it"):
        RunLock(folder, watch=touched)
    assert len(looks) == 5

    aged(folder, 60)
    looks.clear()
    taken = RunLock(folder, watch=watch)
    assert sum(looks) >= lock.WATCH
    assert "gave no sign of life, also while it was watched" in taken.earlier
    taken.release()


def test_a_status_is_changed_only_where_nobody_may_write_the_run(make_run: MakeRun) -> None:
    """Nothing that is done in passing watches a writer, so it never takes a run over."""
    folder = make_run()
    RunWriter.open(folder, device="cpu", total_steps=50, echo=False).close()
    for seconds in (0, 3600):
        elsewhere(folder, state="running")
        aged(folder, seconds)
        assert control.enqueue(folder, 1, process.this_process()).state == "running"
        assert control.record_exit(folder, "failed", 1, "no").state == "running"


def test_a_stop_of_a_run_that_waits_holds_where_it_begins_meanwhile(make_run: MakeRun) -> None:
    folder = make_run()
    control.enqueue(folder, 0, process.this_process())
    control.stop(folder, read_status(folder))
    assert (read_status(folder).state, read_status(folder).exit_code) == ("stopped", 143)
    with RunWriter.open(folder, device="cpu", total_steps=50, echo=False) as writer:
        assert requests.pending(folder) == {"stop"}
        writer.finish("stopped", 143, requests.STOPPED)
    control.enqueue(folder, 1, process.this_process())
    assert not requests.pending(folder), "whoever continues it wants it to run"


def test_a_copied_folder_does_not_prove_that_its_writer_is_gone(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    with RunWriter.open(folder, device="cpu", total_steps=50, echo=False) as writer:
        writer.status(state="running")
        status = replace(read_status(folder), pid_namespace="pid:[1]")
        record = json.loads((folder / ".lock").read_text())
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        for place in (folder, copy):
            write_status(place, status)
        (copy / ".lock").write_text(json.dumps({**record, "pid_namespace": "pid:[1]"}))
        # The lock of the copy is free, and says nothing of the process that holds the other one.
        assert not lock.gone(copy, read_status(copy))
        assert not lock.gone(folder, read_status(folder))
        assert holder(copy) is not None
        write_status(folder, replace(status, pid_namespace=process.pid_namespace()))


NO_LOCKS = """
import errno, fcntl
def flock(*words):
    raise OSError(errno.ENOLCK, "no locks")
fcntl.flock = flock
"""


def test_without_locks_signs_of_life_guard(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run()
    with writing(folder, "running", code=NO_LOCKS + WRITER) as child:
        assert json.loads((folder / ".lock").read_text())["file"] is None
        # On its own machine the process itself is seen; from another only what it touches.
        with pytest.raises(TakenError, match=f"pid {child.pid} on"):
            RunLock(folder)
        monkeypatch.setattr(process, "boot_id", lambda: "another")
        monkeypatch.setattr(process, "host_name", lambda: "gpu-b")
        aged(folder, 60)
        before = os.stat(folder / ".lock").st_mtime
        wait_until(lambda: os.stat(folder / ".lock").st_mtime > before)
        with pytest.raises(TakenError, match=f"pid {child.pid} on"):
            RunLock(folder, watch=never)
    aged(folder, 60)
    RunLock(folder, watch=lambda seconds: None).release()


def test_a_run_cannot_be_taken_over_where_the_record_cannot_be_written(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suspended writer would not find it."""
    folder = make_run()
    RunWriter.open(folder, device="cpu", total_steps=50, echo=False).close()
    elsewhere(folder, state="running")
    aged(folder, 60)

    def full(*words: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LscError, match="cannot be taken over: No space left"):
        RunLock(folder, watch=lambda seconds: None)
    # A run that nobody writes goes on, record or not.
    write_status(folder, Status(state="stopped"))
    RunLock(folder).release()


def test_a_finished_run_is_not_begun_again(make_run: MakeRun) -> None:
    folder = make_run()
    with RunWriter.open(folder, device="cpu", total_steps=5, echo=False) as writer:
        writer.finish("finished", 0)
    with pytest.raises(LscError, match="is finished"):
        RunWriter.open(folder, device="cpu", total_steps=5, echo=False)
    assert control.enqueue(folder, 1, process.this_process()).state == "finished"
    assert control.record_exit(folder, "failed", 1, "late").state == "finished"
