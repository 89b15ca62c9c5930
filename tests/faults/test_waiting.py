"""Images that do not come: workers that hang, stops while images are waited for, and little shared memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.processes import environment
from tests.waiting import wait_until

from .harness import good, launch, outcome, place, run_of, train
from .test_readers import LONGER, STREAM, children
from .test_resume import images

pytestmark = pytest.mark.slow

# While the file "stuck" is there, reading in a worker does not come back; "waiting" tells that one began to.
STUCK = """
import os, time
from lsc_engine.data import imagefiles
_trainer = os.getpid()
def _slow(function):
    def read(*words):
        while os.getpid() != _trainer and os.path.exists("stuck"):
            open("waiting", "w").close()
            time.sleep(0.05)
        return function(*words)
    return read
imagefiles.FileReader.read = _slow(imagefiles.FileReader.read)
imagefiles.FileReader.read_usable = _slow(imagefiles.FileReader.read_usable)
"""
# From its 12th step on.
LATER = """
from lsc_engine.training import trainer
_rate, _steps = trainer.learning_rate, []
def _counting(*words, **more):
    _steps.append(0)
    if len(_steps) == 12:
        open("stuck", "w").close()
    return _rate(*words, **more)
trainer.learning_rate = _counting
"""


def many(folder: Path, count: int = 600) -> Path:
    """More images than are read without workers, of 72 px."""
    for number in range(count):
        path = folder / f"images/train/{'ab'[number % 2]}/{number:03d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number % 251, np.uint8)).save(path)
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_stop_while_a_batch_is_waited_for_keeps_the_steps_done(tmp_path: Path, number: int) -> None:
    straight = images(place(tmp_path / "straight", LONGER))
    assert train(straight, setup=STREAM).wait() == 0
    folder = images(place(tmp_path / "t", LONGER))
    process = train(folder, setup=STREAM + STUCK + LATER)
    wait_until(lambda: (folder / "waiting").exists(), process.log.read_text)
    workers = children(process.pid)
    process.send(number)
    assert process.wait() == 128 + number, process.log.read_text()
    status = run_of(folder).status()
    assert status.state == "stopped"
    assert good(folder).step == status.step >= 12
    # Workers that hang do not outlive the run.
    assert workers
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the end of the workers")
    (folder / "stuck").unlink()
    assert train(folder, setup=STREAM).wait() == 0
    assert outcome(folder) == outcome(straight)


@pytest.mark.parametrize("size", [72, 32], ids=["reading", "packing"])
def test_a_stop_while_images_are_read_at_the_start(tmp_path: Path, size: int) -> None:
    folder = many(place(tmp_path / "t", LONGER.replace("image_size = 72", f"image_size = {size}")))
    (folder / "stuck").touch()
    process = train(folder, "--data-dir", "data", setup=STUCK)
    wait_until(lambda: (folder / "waiting").exists(), process.log.read_text)
    process.send(signal.SIGTERM)
    assert process.wait() == 143, process.log.read_text()
    assert run_of(folder).status().state == "stopped"
    assert run_of(folder).status().shown_state == "stopped"


def test_a_request_to_stop_is_honoured_while_images_are_read(tmp_path: Path) -> None:
    folder = many(place(tmp_path / "t", LONGER))
    (folder / "stuck").touch()
    process = train(folder, setup=STUCK)
    wait_until(lambda: (folder / "waiting").exists(), process.log.read_text)
    asked = launch(folder, "stop", "default", log=folder / "stop.txt")
    assert asked.wait() == 0, asked.log.read_text()
    assert process.wait() == 143, process.log.read_text()
    assert run_of(folder).status().state == "stopped"


def test_a_run_that_waits_for_images_shows_signs_of_life(tmp_path: Path) -> None:
    folder = many(place(tmp_path / "t", LONGER))
    (folder / "stuck").touch()
    process = train(folder, setup=STUCK)
    wait_until(lambda: (folder / "waiting").exists(), process.log.read_text)
    before = run_of(folder).status().heartbeat
    assert before is not None
    wait_until(lambda: (run_of(folder).status().heartbeat or 0) > before + 1, "a later heartbeat")
    process.send(signal.SIGTERM)
    assert process.wait() == 143


def test_a_worker_that_dies_while_images_are_read_at_the_start_is_noticed(tmp_path: Path) -> None:
    folder = many(place(tmp_path / "t", LONGER))
    (folder / "stuck").touch()
    process = train(folder, setup=STUCK)
    wait_until(lambda: (folder / "waiting").exists(), process.log.read_text)
    for pid in children(process.pid):
        os.kill(pid, signal.SIGKILL)
    assert process.wait() == 1, process.log.read_text()
    assert "a data worker ended" in run_of(folder).status().message


# ------------------------------------------------------------------------------------------------------ Shared memory
def little(size: str, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command that has `size` of shared memory. Skips where mounts cannot be made."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    inner = f'mount -t tmpfs -o size={size} none /dev/shm || exit 77; exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", inner, "bash", *command],
        capture_output=True, text=True, timeout=280, cwd=cwd, env=environment(NO_COLOR="1"),
    )  # fmt: skip
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounts cannot be made here")
    return done


def test_little_shared_memory_trains_the_same(tmp_path: Path) -> None:
    """Images of 224 px in batches of 10 take 1.5 MB a batch."""
    preset = LONGER.replace("image_size = 72", "image_size = 224").replace('"6 epochs"', '"4 steps"')
    preset = preset.replace('every = "1000 steps"', 'every = "1000 steps"\nimages = 20', 1)
    preset = preset.replace('warmup = "6 steps"', 'warmup = "1 steps"')
    wide = many(place(tmp_path / "wide", preset))
    assert train(wide).wait() == 0
    folder = many(place(tmp_path / "little", preset))
    done = little("200k", sys.executable, "-m", "lsc_engine", "run", "t.toml", "--device", "cpu", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert outcome(folder) == outcome(wide)
    assert "Traceback" not in done.stderr
    folder = many(place(tmp_path / "none", preset))
    done = little("4k", sys.executable, "-m", "lsc_engine", "run", "t.toml", "--device", "cpu", cwd=folder)
    assert done.returncode == 1
    assert "data workers cannot be started: No space left on device; make room in /dev/shm" in done.stderr
    assert "Traceback" not in done.stderr


def test_large_batches_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from lsc_engine.data import stream

    class Reader:
        channels, size = 1, 8

        def read(self, index: Any) -> Any:
            return index.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()

    monkeypatch.setattr(stream, "BLOCK", 5)
    sizes = [3, 12, 1, 5, 7]
    plan = [torch.arange(size) + 10 * number for number, size in enumerate(sizes)]
    for batch, index in zip(stream.stream(Reader(), plan, workers=2), plan, strict=True):
        assert torch.equal(batch[:, 0, 0, 0], index.to(torch.uint8))
