"""Disks that are full, limited or read only, damaged checkpoints, bombs: training goes on, and what is good stays."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.runs.folder import checkpoints
from lsc_engine.training.checkpointing import prune

from .harness import (
    PHASES,
    RUN,
    at_steps,
    begun,
    go_on,
    good,
    in_slow_phase,
    launch,
    outcome,
    place,
    run_of,
    train,
    until,
)

LIMIT = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({}, resource.RLIM_INFINITY))\n"
# What a viewer would read in the middle of the trouble.
LOOK = "import shutil\nshutil.copy('runs/t/default/seed-0/status.json', os.environ['SEEN'])\n"
# Without its capabilities root is refused like everyone else.
POWERLESS = "import ctypes\nctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())\n"
CHMOD = "import subprocess\nfor p in ('', '/checkpoints'): os.chmod('runs/t/default/seed-0' + p, {})\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, where mounting is allowed."""
    disk = tmp_path / "small"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def seen(tmp_path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((tmp_path / "seen.json").read_text())
    return document


def test_no_file_may_grow_then_may(straight: dict[str, Any], tmp_path: Path) -> None:
    """A quota that refuses metrics, log and status too: they wait, and none is lost."""
    folder = place(tmp_path / "t")
    again = LIMIT.format("resource.RLIM_INFINITY") + LOOK
    setup = at_steps({12: LIMIT.format(700), 33: again})
    process = train(folder, setup=setup, env={"SEEN": str(tmp_path / "seen.json")})
    assert process.wait() == 0, process.log.read_text()
    assert seen(tmp_path)["step"] < 12
    assert run_of(folder).status().message == ""
    assert outcome(folder) == straight


@pytest.mark.parametrize("back", [False, True], ids=["for good", "and comes back"])
def test_a_run_folder_that_is_removed(straight: dict[str, Any], tmp_path: Path, back: bool) -> None:
    """A run whose folder stays away ends with a sentence instead of training for nothing; one that is back goes on."""
    folder = place(tmp_path / "t")
    codes = {12: "os.rename('runs/t', 'away')"}
    codes |= {32: "os.rename('away', 'runs/t')"} if back else {}
    patience = f"\nfrom lsc_engine.training import checkpointing\ncheckpointing.GONE_PATIENCE = {100 if back else 0}\n"
    process = train(folder, setup=at_steps(codes) + patience)
    assert process.wait() == (0 if back else 1), process.log.read_text()
    if back:
        assert outcome(folder) == straight
        return
    assert "failed: the run folder runs/t/default/seed-0 is gone, nothing can be kept there" in process.log.read_text()
    assert begun(folder, "t") < 30
    os.rename(folder / "away", folder / "runs/t")
    assert run_of(folder).status().shown_state == "lost"
    assert train(folder).wait() == 0
    assert outcome(folder) == straight


def test_a_run_folder_that_is_read_only_is_refused(stopped_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stopped_run, tmp_path / "t"))
    before = run_of(folder).status()
    for path in (folder / "runs").rglob("*"):
        path.chmod(path.stat().st_mode & 0o555)
    process = launch(folder, "resume", "default", "--device", "cpu", setup=POWERLESS, log=tmp_path / "out.txt")
    assert process.wait() == 1
    assert "runs/t/default/seed-0 cannot be written: Permission denied" in process.log.read_text()
    assert run_of(folder).status() == before


def test_files_may_not_grow_then_may(straight: dict[str, Any], tmp_path: Path) -> None:
    """A quota on file size: checkpoints fail, metrics go on, the state says so, later saves work."""
    folder = place(tmp_path / "t")
    setup = at_steps({3: LIMIT.format(50_000), 23: LOOK, 24: LIMIT.format("resource.RLIM_INFINITY")})
    process = train(folder, setup=setup, env={"SEEN": str(tmp_path / "seen.json")})
    assert process.wait() == 0, process.log.read_text()
    told = seen(tmp_path)
    assert told["state"] == "running"
    assert "not saved since" in told["message"]
    assert "checkpoint step" in told["message"]
    log = run_of(folder).log_path.read_text()
    assert "checkpoint step 20 not written" in log
    assert "checkpoint step 25 written and verified" in log
    assert run_of(folder).status().message == ""
    assert outcome(folder) == straight


def test_a_disk_filled_to_the_last_byte_then_emptied(
    straight: dict[str, Any], tmp_path: Path, small_disk: Path
) -> None:
    folder = place(small_disk / "t")
    fill = (
        "with open('../ballast', 'wb', buffering=0) as ballast:\n"
        "    for size in (65536, 4096, 1):\n"
        "        try:\n"
        "            while True: ballast.write(b'x' * size)\n"
        "        except OSError: pass\n"
    )
    setup = at_steps({12: fill, 34: LOOK, 35: "os.unlink('../ballast')"})
    process = train(
        folder, setup=setup, env={"SEEN": str(tmp_path / "seen.json")}, log=tmp_path / "out.txt"
    )  # fmt: skip
    assert process.wait() == 0, process.log.read_text()
    told = seen(tmp_path)
    assert told["state"] == "running"
    assert "No space left" in told["message"]
    assert "MB needed" in told["message"]
    assert checkpoints.newest_good(folder / "runs" / RUN)[1] == []
    assert outcome(folder) == straight


def test_a_folder_that_is_read_only_for_a_while(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    setup = POWERLESS + at_steps({12: CHMOD.format(0o555), 32: CHMOD.format(0o755)})
    process = train(folder, setup=setup)
    assert process.wait() == 0, process.log.read_text()
    log = run_of(folder).log_path.read_text()
    assert "checkpoint step 15 not written: Permission denied; last good checkpoint step 10" in log
    assert "checkpoint step 35 written and verified" in log
    assert outcome(folder) == straight


def test_output_to_a_full_device_ends_nothing(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    assert train(folder, log=Path("/dev/full")).wait() == 0
    assert outcome(folder) == straight


@pytest.mark.parametrize("stopped", [False, True], ids=["at the end", "when stopped"])
def test_a_last_checkpoint_that_cannot_be_written_is_never_called_done(
    straight: dict[str, Any], tmp_path: Path, stopped: bool
) -> None:
    folder = place(tmp_path / "t")
    codes = {23: LIMIT.format(50_000)}
    if stopped:
        codes[30] = "import signal\nos.kill(os.getpid(), signal.SIGTERM)"
    patience = "\nfrom lsc_engine.training import checkpointing as c\nc.STOP_PATIENCE = c.END_PATIENCE = 0.2\n"
    assert train(folder, setup=at_steps(codes) + patience).wait() == 1
    status = run_of(folder).status()
    assert (status.state, status.exit_code) == ("failed", 1)
    assert "could not be written" in status.message
    assert "last good checkpoint step 20" in status.message
    assert good(folder).step == 20
    assert train(folder).wait() == 0
    assert outcome(folder) == straight


def test_room_for_the_last_checkpoint_is_waited_for(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    process = train(folder, setup=at_steps({34: LIMIT.format(50_000)}))
    until(lambda: process.ended() or "checkpoint step 36 not written" in process.log.read_text())
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert process.wait() == 0, process.log.read_text()
    assert outcome(folder) == straight


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (lambda p: os.truncate(p / "model.safetensors", 4000), "has 4000 bytes"),
    "one bit flipped": (lambda p: flip(p / "state.pt"), "sha256 differs"),
    "manifest missing": (lambda p: (p / "manifest.json").unlink(), "manifest.json is not there"),
}


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped after step 26, with checkpoints of steps 25 and 26."""
    folder = place(tmp_path_factory.mktemp("stopped"))
    stop = at_steps({26: "import signal\nos.kill(os.getpid(), signal.SIGTERM)"})
    assert train(folder, setup=stop).wait() == 143
    assert good(folder).step == 26
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_gives_way(
    straight: dict[str, Any], stopped_run: Path, tmp_path: Path, damage: str
) -> None:
    folder = Path(shutil.copytree(stopped_run, tmp_path / "t"))
    do, sentence = DAMAGES[damage]
    do(folder / "runs" / RUN / "checkpoints/step-00000026")
    process = train(folder)
    assert process.wait() == 0
    log = process.log.read_text()
    assert "checkpoint passed over: step-00000026" in log
    assert sentence in log
    assert "resumed at step 25 of 36" in log
    assert outcome(folder) == straight


def test_the_newest_is_never_removed_for_a_damaged_one_beyond_it(tmp_path: Path) -> None:
    """After falling back from a damaged checkpoint, the next save is the newest, not the damaged one."""
    for step in (10, 20, 30):
        with checkpoints.new_checkpoint(tmp_path, step) as fresh:
            (fresh / "model.safetensors").write_bytes(b"weights")
    flip(tmp_path / "checkpoints/step-00000030/model.safetensors")
    with checkpoints.new_checkpoint(tmp_path, 25) as fresh:
        (fresh / "model.safetensors").write_bytes(b"weights")
    prune(tmp_path, step=25, keep=1, for_good={10})
    assert [c.step for c in checkpoints.list_checkpoints(tmp_path)] == [10, 25]
    found, faults = checkpoints.newest_good(tmp_path)
    assert found is not None
    assert (found.step, faults) == (25, [])


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("signed", [False, True], ids=["as found", "with hashes made to fit"])
def test_a_pickle_bomb_is_refused(stopped_run: Path, tmp_path: Path, signed: bool) -> None:
    folder, mark = Path(shutil.copytree(stopped_run, tmp_path / "t")), tmp_path / "exploded"
    newest = folder / "runs" / RUN / "checkpoints/step-00000026"
    (newest / "state.pt").write_bytes(pickle.dumps({"optimizer": Bomb(mark)}))
    if signed:
        manifest = json.loads((newest / "manifest.json").read_text())
        size, digest = checkpoints.sha256_file(newest / "state.pt")
        manifest["files"]["state.pt"] = {"size": size, "sha256": digest}
        (newest / "manifest.json").write_text(json.dumps(manifest))
    process = train(folder)
    # What nobody signed is passed over like any damage; what was made to be read is refused by name.
    assert process.wait() == (1 if signed else 0)
    assert (
        "not a checkpoint of this program" if signed else "passed over: step-00000026: state.pt has"
    ) in process.log.read_text()
    assert not mark.exists()
    assert run_of(folder).status().state == ("failed" if signed else "finished")


def test_links_in_a_run_folder_are_not_written_through(stopped_run: Path, tmp_path: Path) -> None:
    folder, victim = Path(shutil.copytree(stopped_run, tmp_path / "t")), tmp_path / "victim"
    victim.write_text("mine\n")
    for name in ("log.txt", "metrics.jsonl", "status.json"):
        (folder / "runs" / RUN / name).unlink()
        (folder / "runs" / RUN / name).symlink_to(victim)
    train(folder).wait()
    assert victim.read_text() == "mine\n"


def test_kill_during_a_save_on_resume_of_a_stop(straight: dict[str, Any], tmp_path: Path) -> None:
    """A save that replaces a checkpoint of the same step is killed: the old or the new one is there, whole."""
    folder = place(tmp_path / "t")
    process = train(folder, setup=PHASES, env={"FAULT_SLOW": "s3"})
    in_slow_phase(folder, process)
    process.send(signal.SIGTERM)
    go_on(folder)
    process.wait()
    process = train(folder, setup=PHASES)
    until(lambda: begun(folder, "s") >= 5 or process.ended())
    process.kill()
    assert train(folder).wait() == 0
    assert outcome(folder) == straight
