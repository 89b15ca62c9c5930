"""Images streamed by workers: killed ones are replaced, signals to the group pass them by, vanished files are named."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until

from .harness import Process, at_steps, good, in_slow_phase, outcome, place, run_of, train
from .test_resume import FOLDER, images

pytestmark = pytest.mark.slow

# Nothing fits on the device, so that the images are streamed; two workers.
STREAM = """
from lsc_engine.data import source, stream
source.device_memory = lambda _: 0
stream.default_workers = lambda: 2
"""
LONGER = FOLDER.replace('every = "7 steps"', 'every = "1000 steps"')


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of the straight streamed run."""
    folder = images(place(tmp_path_factory.mktemp("streamed"), LONGER))
    process = train(folder, setup=STREAM)
    assert process.wait() == 0, process.log.read_text()
    return outcome(folder)


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def slow(folder: Path, code: str) -> Process:
    """A streamed run in which `code` runs at step 12."""
    return train(folder, setup=STREAM + at_steps({12: code}))


KILL_ONE = """
import signal
here = os.getpid()
os.kill(int(open(f"/proc/{here}/task/{here}/children").read().split()[0]), signal.SIGKILL)
"""


def test_a_killed_worker_is_replaced_and_nothing_is_lost(streamed: dict[str, Any], tmp_path: Path) -> None:
    folder = images(place(tmp_path / "t", LONGER))
    process = slow(folder, KILL_ONE)
    assert process.wait() == 0, process.log.read_text()
    assert "a data worker ended" in process.log.read_text()
    assert "its work goes to new ones" in process.log.read_text()
    assert outcome(folder) == streamed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_to_the_whole_group_reaches_the_trainer_only(
    streamed: dict[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    folder = images(place(tmp_path / "t", LONGER))
    process = slow(folder, f"import time\nos.killpg(0, {int(number)})\n")
    assert process.wait() == 128 + number, process.log.read_text()
    assert run_of(folder).status().state == "stopped"
    assert good(folder).step == run_of(folder).status().step == 12
    assert train(folder, setup=STREAM).wait() == 0
    assert outcome(folder) == streamed


def test_a_vanished_image_is_named_and_no_step_is_lost(streamed: dict[str, Any], tmp_path: Path) -> None:
    folder = images(place(tmp_path / "t", LONGER))
    process = slow(folder, "os.rename('images/train/a/004.png', 'away.png')\n")
    assert process.wait() == 1, process.log.read_text()
    status = run_of(folder).status()
    assert (status.state, status.exit_code) == ("failed", 1)
    assert "004.png has vanished" in status.message
    # All steps up to the batch that needed it are kept.
    assert good(folder).step == status.step > 12
    os.rename(folder / "away.png", folder / "images/train/a/004.png")
    assert train(folder, setup=STREAM).wait() == 0
    assert outcome(folder) == streamed


def test_a_killed_trainer_takes_its_workers_along_and_goes_on(streamed: dict[str, Any], tmp_path: Path) -> None:
    folder = images(place(tmp_path / "t", LONGER))
    process = slow(folder, "import time\nos.write(_file, b'!')\nwhile True: time.sleep(1)\n")
    in_slow_phase(folder, process)
    workers = children(process.pid)
    assert len(workers) == 2
    for pid in workers:
        # So that they cannot notice by themselves.
        os.kill(pid, signal.SIGSTOP)
    assert process.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the end of the workers")
    assert run_of(folder).status().shown_state == "lost"
    assert train(folder, setup=STREAM).wait() == 0
    assert outcome(folder) == streamed
