"""A detached process: own session, no hang-up, no input, its output in a file; and a real full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsc_engine.common.errors import LscError
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.detach import detach
from tests.waiting import wait_until

from .conftest import MakeRun

TELL = """
import json, os, signal, sys
print(json.dumps({"session": os.getsid(0), "pid": os.getpid(), "input": sys.stdin.read(),
    "hangup": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, "mark": os.environ.get("LSC_DETACHED"),
    }), flush=True)
"""


def test_detached(tmp_path: Path) -> None:
    log = tmp_path / "logs/out.txt"
    child = detach([sys.executable, "-c", TELL], log)
    assert child.wait() == 0
    told = json.loads(log.read_text())
    assert told == {
        "session": child.pid, "pid": child.pid, "input": "", "hangup": True, "mark": "1",
    }  # fmt: skip


def test_it_outlives_whoever_started_it(tmp_path: Path) -> None:
    sleeping = "import time; time.sleep(1000)"
    code = (
        "import sys; from pathlib import Path; from lsc_engine.studies.detach import detach\n"
        f"print(detach([sys.executable, '-c', {sleeping!r}], Path(sys.argv[1]) / 'out').pid)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    pid = int(done.stdout)
    try:
        wait_until(lambda: sleeping.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
        os.kill(pid, signal.SIGHUP)
        time.sleep(0.1)
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "SRD"
    finally:
        os.kill(pid, signal.SIGKILL)


def test_what_cannot_start_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LscError, match="cannot be written"):
        detach(["true"], tmp_path / "file/log")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, where mounting is allowed."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_really_full_disk_is_reported_and_overcome(small_disk: Path, make_run: MakeRun) -> None:
    folder = make_run(root=small_disk / "runs")
    writer = RunWriter.open(folder, device="cpu", total_steps=9, echo=False)
    writer.status(state="running")
    writer.metrics(1, 0.0, 0.0, {"x": 1.0})
    ballast = small_disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                break
    for step in range(2, 200):
        writer.metrics(step, 0.0, 0.0, {"x": float(step)})
        writer.message("a line")
    writer.status()
    status = open_run(folder).status()
    assert status.shown_state == "running"
    assert status.step == 199
    assert "not saved since" in status.message
    assert "No space left" in status.message
    ballast.unlink()
    writer.metrics(200, 0.0, 0.0, {"x": 200.0})
    writer.message("again")
    writer.finish("finished", 0, "done")
    run = open_run(folder)
    assert run.history("x")[0].tolist() == list(range(1, 201))
    assert (run.status().shown_state, run.status().message) == ("finished", "done")
