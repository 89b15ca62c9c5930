"""Detached starts: what lies in the current folder, a process that dies at once, runs whose process is gone."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.runs.read.run import open_run
from lsc_tui.data.run_cache import TrackedRun
from tests import processes
from tests.tiny import tiny
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

PRESET = tiny({"data.classes": 48})
LONG = ("--set", 'train.duration="100000 epochs"')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(PRESET)
    return tmp_path


def call(folder: Path, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return processes.call(*words, cwd=folder, **options)


# Python's own modules, imported early and late; what the engine is made of; and what a worker imports.
HIDING = ("json.py", "secrets.py", "torch.py", "typer.py", "numpy/__init__.py")


@pytest.mark.parametrize("safe", [False, True])
def test_nothing_is_imported_from_the_current_folder(folder: Path, safe: bool) -> None:
    """`python -m` itself imports types from there before the engine begins; the installed command does not."""
    more, env = (("types.py", "enum.py"), {"PYTHONSAFEPATH": "1"}) if safe else ((), {})
    for name in (*HIDING, *more):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text('raise SystemExit("this is not Python\'s own")\n')
    done = call(folder, "run", "tiny.toml", "--detach", "--device", "cpu", "--json", fresh=True, env=env)
    assert done.returncode == 0, done.stderr
    run = open_run(folder / "runs/tiny/default/seed-0")
    wait_until(lambda: run.status().shown_state in ("finished", "failed", "lost"))
    assert run.status().shown_state == "finished", run.status().news
    assert not list(folder.rglob("__pycache__"))


DEATHS = {
    # code of a plugin, which the detached process loads too -> how it ends, and what is left of it in the log
    "a sentence": ('sys.exit("no licence on this node")', "ended at once with exit code 1: no licence on this node"),
    "an import": (
        "import not_there",
        "ended at once with exit code 2: --plugin: own.py: ModuleNotFoundError: No module named",
    ),
    "a kill": ('print("so far", flush=True)\n    os.kill(os.getpid(), 9)', "was killed by signal 9: so far"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_detached_process_that_dies_at_once_is_reported_with_its_last_line(folder: Path, death: str) -> None:
    code, told = DEATHS[death]
    (folder / "own.py").write_text(f'import os, sys\nif os.environ.get("LSC_DETACHED"):\n    {code}\n')
    done = call(folder, "run", "tiny.toml", "--detach", "--device", "cpu", "--plugin", "own.py", "--json")
    assert done.returncode in (1, 2), done
    assert f"the detached process {told}" in done.stderr
    assert done.stdout == ""
    status = open_run("tiny/default/seed-0", [folder / "runs"]).status()
    assert status.shown_state == "lost"
    last = told.partition(": ")[2]
    assert re.search(rf"the process that was to train it \(pid \d+\) is gone; its log ends: {last}", status.news)
    # The same command without the fault goes on.
    (folder / "own.py").write_text("")
    done = call(folder, "run", "tiny.toml", "--device", "cpu", "--plugin", "own.py")
    assert done.returncode == 0, done.stderr


def test_what_waits_for_a_killed_process_reads_lost_in_every_view(folder: Path) -> None:
    done = call(folder, "run", "tiny.toml", *LONG, "--seeds", "0,1", "--detach", "--device", "cpu", "--json")
    pid = json.loads(done.stdout)["pid"]
    first, second = (open_run(f"tiny/default/seed-{seed}", [folder / "runs"]) for seed in (0, 1))
    try:
        wait_until(lambda: first.status().state == "running")
        assert second.status().shown_state == "queued"
        assert second.status().pid == pid
        tracked = TrackedRun("0:x", second, 0, False)
        assert tracked.look(short="x", place=1, with_trend=False)
        assert tracked.view is not None
        assert tracked.view.state == "queued"
    finally:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: first.status().shown_state == "lost")
    assert second.status().shown_state == "lost"
    assert tracked.look(short="x", place=1, with_trend=False)
    assert tracked.view.state == "lost"
    listed = {one["id"]: one for one in json.loads(call(folder, "list", "--json").stdout)}
    assert [listed[run.id]["state"] for run in (first, second)] == ["lost", "lost"]
    assert f"(pid {pid}) is gone" in listed[second.id]["message"]


def test_a_stopped_process_leaves_what_waited_queued_for_whoever_goes_on(folder: Path) -> None:
    done = call(folder, "run", "tiny.toml", *LONG, "--seeds", "0,1", "--detach", "--device", "cpu", "--json")
    pid = json.loads(done.stdout)["pid"]
    first, second = (open_run(f"tiny/default/seed-{seed}", [folder / "runs"]) for seed in (0, 1))
    wait_until(lambda: first.status().state == "running")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: first.status().state == "stopped" and second.status().pid is None)
    assert second.status().shown_state == "queued"


def test_a_queued_run_is_stopped_at_once_and_its_queue_goes_on_without_it(folder: Path) -> None:
    steps = ("--set", 'train.duration="100000 epochs"', "--seeds", "0-2", "--device", "cpu")
    call(folder, "run", "tiny.toml", *steps, "--detach", code=0)
    runs = [open_run(f"tiny/default/seed-{seed}", [folder / "runs"]) for seed in range(3)]
    wait_until(lambda: runs[0].status().state == "running")
    done = call(folder, "stop", "tiny/default/seed-1", "--json", code=0)
    assert json.loads(done.stdout)["state"] == "stopped"
    assert [run.status().state for run in runs] == ["running", "stopped", "queued"]
    call(folder, "stop", "tiny/default/seed-0", code=0)
    wait_until(lambda: runs[2].status().state == "running")
    assert (runs[1].status().state, runs[1].status().attempt) == ("stopped", 0)
    call(folder, "stop", "tiny/default/seed-2", code=0)
    wait_until(lambda: runs[2].status().state == "stopped")


def test_files_and_folders_have_the_rights_that_the_umask_leaves(folder: Path) -> None:
    text = PRESET + '[eval]\nclass_means = true\nembeddings = "on"\n[tune]\n"optimizer.lr" = [1e-3, 3e-3]\n'
    (folder / "tiny.toml").write_text(text + 'duration = "1 epochs"\n')
    # Leaves rights that nobody would set by hand.
    umask = 0o005
    rights = {"umask": umask}
    assert call(folder, "run", "tiny.toml", "--device", "cpu", **rights).returncode == 0
    done = call(folder, "fork", "tiny/default/seed-0", "--set", "train.duration=3 epochs", "--device", "cpu",
                "--detach", **rights)  # fmt: skip
    assert done.returncode == 0, done.stderr
    fork = open_run("tiny/default+fork1/seed-0", [folder / "runs"])
    wait_until(lambda: fork.status().state == "finished")
    for words in (("note", fork.id, "seen"), ("tag", fork.id, "good"), ("delete", fork.id, "--yes")):
        assert call(folder, *words, **rights).returncode == 0
    seen = {path: stat.S_IMODE(path.lstat().st_mode) for path in (folder / "runs").rglob("*")}
    assert {"model.safetensors", "state.pt", "class_means.safetensors", "notes.json", ".lock", "tiny.log"} <= {
        path.name for path in seen
    }
    for path, mode in seen.items():
        assert mode == (0o777 if path.is_dir() else 0o666) & ~umask, (path, oct(mode))
