"""Mirrors of runs in the logs of other tools: every step once, whatever ends the process that writes, or the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsc_engine.common.errors import UsageError
from lsc_engine.mirrors import supervise
from lsc_engine.mirrors.follow import Lines, place_of
from lsc_engine.runs.folder.status import Status, write_status
from lsc_engine.runs.read.run import Run, open_run
from tests.leftovers import end_processes_in
from tests.mirrored import assert_same, logged, metrics_lines, read_back
from tests.trackers import Trackers

from .conftest import MakeRun

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOOLS = ["tensorboard"]
ALL_TOOLS = ["tensorboard", *(pytest.param(name, marks=pytest.mark.slow) for name in ("wandb", "mlflow", "trackio"))]
# Ends like a kill -9 before or after the writes of mirror.json with these numbers.
CRASHING = """
import os, sys
sys.path.append(sys.argv[1])
from lsc_engine.mirrors import follow
from lsc_engine.runs.read.run import open_run
left, when, write = int(sys.argv[4]), sys.argv[5], follow.Position.write
def crash(*words):
    global left
    left -= 1
    if not left and when == "before":
        os._exit(9)
    write(*words)
    if not left:
        os._exit(9)
follow.Position.write = crash
follow.Follower(open_run(sys.argv[2]), sys.argv[3]).follow()
"""


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    end_processes_in(tmp_path)


def ended_run(make: MakeRun, data: bytes, state: str = "finished") -> Run:
    """A run that has ended with these metrics."""
    folder = make()
    (folder / "metrics.jsonl").write_bytes(data)
    write_status(folder, Status(state=state, started=1.7e9, attempt=4, exit_code=0))
    return open_run(folder)


def python_of(request: pytest.FixtureRequest, tool: str) -> str:
    """The Python that has the package of the tool."""
    if tool == "tensorboard":
        return sys.executable
    trackers: Trackers = request.getfixturevalue("trackers")
    trackers.need(tool)
    return str(trackers.python)


def check(run: Run, tool: str, python: str = sys.executable) -> None:
    """The package of the tool finds what was logged."""
    assert_same(read_back(tool, place_of(run.path, tool), python), logged(run, tool), tool)


def test_which_lines_count(make_run: MakeRun) -> None:
    run = ended_run(make_run, b"".join(metrics_lines()))
    lines = Lines(run.path / "metrics.jsonl")
    for _ in lines.new():
        pass
    rows = list(lines.rows(0, len(lines.steps)))
    for name in run.metric_names():
        steps, values = run.history(name)
        kept = [(row.step, row.values[name]) for row in rows if name in row.values]
        assert [step for step, _ in kept] == steps.tolist()
        assert repr([value for _, value in kept]) == repr(values.tolist())


@pytest.mark.parametrize("tool", ALL_TOOLS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_mirror_killed_again_and_again_has_every_step_once(
    make_run: MakeRun, request: pytest.FixtureRequest, tool: str, when: str
) -> None:
    run = ended_run(make_run, b"".join(metrics_lines()))
    python = python_of(request, tool)
    place_of(run.path, tool).mkdir(parents=True)
    # Each process gets further than the one before; wandb begins anew each time.
    for least in (1, 1, 2, 3, 5, 8, 13):
        words = [str(ROOT), str(run.path), tool, str(least), when]
        code = subprocess.run([python, "-W", "ignore", "-c", CRASHING, *words], check=False).returncode
        if code == 0:
            break
        assert code == 9
    assert (code, least >= 3) == (0, True)
    check(run, tool, python)


@pytest.mark.parametrize("tool", ALL_TOOLS)
def test_a_mirror_goes_on_with_a_run_that_was_resumed(
    make_run: MakeRun, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    monkeypatch.setenv(supervise.PYTHON, python := python_of(request, tool))
    lines = list(metrics_lines())
    before = [line for line in lines if json.loads(line)["attempt"] < 4]
    run = ended_run(make_run, b"".join(before), "stopped")
    (state,) = supervise.supervise(run, [tool])
    assert (state.behind, state.error, state.active) == (0, None, False)
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.writelines(lines[len(before) :])
    write_status(run.path, Status(state="finished", started=1.7e9, attempt=4, exit_code=0))
    (state,) = supervise.states(run.path)
    assert state.behind == len(lines) - len(before)
    assert str(state).endswith("lines behind, not running")
    for _ in range(2):
        (state,) = supervise.supervise(run, [tool])
        assert str(state) == f"{tool} up to step 1299"
    check(run, tool, python)


def test_a_torn_tail_is_cut_off_and_a_lost_position_begins_anew(make_run: MakeRun) -> None:
    data = b"".join(metrics_lines())
    run = ended_run(make_run, data[: len(data) // 2])
    (state,) = supervise.supervise(run, TOOLS)
    assert (state.behind, state.error) == (0, None)
    place = place_of(run.path, "tensorboard")
    (file,) = place.glob("*tfevents*")
    whole = file.read_bytes()
    file.write_bytes(whole + whole[100:150])
    (run.path / "metrics.jsonl").write_bytes(data)
    supervise.supervise(run, TOOLS)
    check(run, "tensorboard")
    assert file.read_bytes().startswith(whole)
    (place / "mirror.json").write_text("{")
    supervise.supervise(run, TOOLS)
    check(run, "tensorboard")


def test_a_file_that_cannot_grow_is_a_failure_that_show_has(
    make_run: MakeRun, capfd: pytest.CaptureFixture[str]
) -> None:
    run = ended_run(make_run, b"".join(metrics_lines()))
    supervised = (
        "import sys; from lsc_engine.mirrors.supervise import supervise; from lsc_engine.runs.read.run import open_run;"
        "print(*supervise(open_run(sys.argv[1]), ['tensorboard'], last=0.0))"
    )
    # 8 blocks of 512 or 1024 bytes.
    words = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", sys.executable, "-c", supervised, str(run.path)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert "failed: OSError: [Errno 27] File too large" in done.stdout
    (state,) = supervise.states(run.path)
    assert (state.active, "File too large" in str(state.error)) == (False, True)
    assert state.behind > 0
    (full,) = supervise.supervise(run, TOOLS, last=0.0, least_free=1 << 60)
    assert "MiB are free, which are left to the training" in str(full.error)
    (state,) = supervise.supervise(run, TOOLS)
    assert (state.behind, state.error) == (0, None)
    check(run, "tensorboard")


FULL_DISK = """
import shutil, sys
from pathlib import Path
from lsc_engine.mirrors.supervise import supervise
from lsc_engine.runs.read.run import open_run
source, disk, out = map(Path, sys.argv[1:])
run = open_run(shutil.copytree(source, disk / "run"))
filler = open(disk / "filler", "wb", buffering=0)
try:
    while True:
        filler.write(bytes(1024))
except OSError:
    filler.truncate(filler.tell() - 16384)
print(*supervise(run, ["tensorboard"], last=0.0, least_free=0))
filler.truncate(0)
print(*supervise(run, ["tensorboard"], least_free=0))
shutil.copytree(run.path / "mirrors" / "tensorboard", out)
"""


def test_a_full_disk_stops_a_mirror_until_there_is_room(make_run: MakeRun, tmp_path: Path) -> None:
    """A file system of 2 MB that this test alone sees."""
    run = ended_run(make_run, b"".join(metrics_lines()))
    (tmp_path / "disk").mkdir()
    own = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mounted = f'mount -t tmpfs -o size=2m none "{tmp_path / "disk"}" && '
    if subprocess.run([*own, mounted + "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    words = [sys.executable, "-c", FULL_DISK, str(run.path), str(tmp_path / "disk"), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*own, mounted + 'exec "$@"', "sh", *words], capture_output=True, text=True, check=True, env=environment
    )
    full, whole = done.stdout.splitlines()
    # Where there is room for the cause, it stands before.
    assert full.endswith("lines behind, not running")
    assert whole == "tensorboard up to step 1299"
    assert_same(read_back("tensorboard", tmp_path / "out"), logged(run, "tensorboard"), "tensorboard")


def test_a_mirror_that_hangs_is_ended_and_named(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended_run(make_run, b"".join(metrics_lines()))
    (tmp_path / "wandb.py").write_text("import time\nwhile True:\n    time.sleep(9)\n")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    (state,) = supervise.supervise(run, ["wandb"], hang=1.0, last=0.0)
    assert state.error == "no sign of life for 1 s"
    assert state.behind > 400
    assert str(state).endswith("lines behind, not running")


def test_a_tool_that_is_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"log\.also: mlflow is not installed: pip install 'lsc\[mlflow\]'"):
        supervise.check_tools(["tensorboard", "mlflow"])
    with pytest.raises(UsageError, match=r"^--to: mlflow is not installed"):
        supervise.check_tools(["mlflow"], "--to")
    monkeypatch.setenv(supervise.PYTHON, str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"LSC_MIRROR_PYTHON: .*none cannot be run"):
        supervise.check_tools(["tensorboard"])


def test_settings_are_the_tools_configuration(make_run: MakeRun) -> None:
    run = ended_run(make_run, b"".join(metrics_lines()))
    supervise.supervise(run, TOOLS)
    code = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
log = EventAccumulator(sys.argv[1]); log.Reload()
data = HParamsPluginData.FromString(log.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
found = data.session_start_info.hparams
print(json.dumps([found["run"].string_value, found["target.system"].string_value, found["model.dim"].number_value]))
"""
    place = place_of(run.path, "tensorboard")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(place)], capture_output=True, check=True)
    assert json.loads(done.stdout) == ["group/study/a/seed-0", "V21", 10.0]
