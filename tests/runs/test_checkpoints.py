"""Checkpoint folders: whole or absent, hashes, the newest good one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lsc_engine.runs.folder import checkpoints


def save(folder: Path, step: int, content: bytes = b"weights") -> None:
    with checkpoints.new_checkpoint(folder, step) as fresh:
        (fresh / "model.safetensors").write_bytes(content * 100)
        (fresh / "state.pt").write_bytes(content)


def test_written_listed_and_verified(tmp_path: Path) -> None:
    before = time.time()
    for step in (20, 3, 1000):
        save(tmp_path, step)
    found = checkpoints.list_checkpoints(tmp_path)
    assert [c.step for c in found] == [3, 20, 1000]
    assert found[0].path.name == "step-00000003"
    assert all(checkpoints.verify(c) is None for c in found)
    assert found[0].size == 707
    # The clock of a file system ticks some milliseconds behind.
    assert before - 1 <= (found[0].written or 0) <= time.time()
    newest, faults = checkpoints.newest_good(tmp_path)
    assert newest is not None
    assert (newest.step, faults) == (1000, [])
    at, _ = checkpoints.newest_good(tmp_path, at=20)
    assert at is not None
    assert at.step == 20


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda p: flip(p / "model.safetensors"), "model.safetensors is not what was written (sha256 differs)"),
        (lambda p: os.truncate(p / "state.pt", 3), "state.pt has 3 bytes, 7 were written"),
        (lambda p: (p / "state.pt").unlink(), "state.pt is not there"),
        (lambda p: (p / "manifest.json").unlink(), "manifest.json is not there"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest.json is not JSON (line 1)"),
        (lambda p: (p / "manifest.json").write_text('{"step": 9, "files": {}}'), "manifest.json does not belong"),
        (
            lambda p: (p / "manifest.json").write_text('{"step":9,"files":{"../../x":{"size":1,"sha256":""}}}'),
            "manifest.json is damaged",
        ),
    ],
    ids=["flip", "truncate", "file gone", "manifest gone", "manifest torn", "empty", "climbing"],
)
def test_a_damaged_newest_is_passed_over_with_a_sentence(tmp_path: Path, damage: object, sentence: str) -> None:
    save(tmp_path, 5)
    save(tmp_path, 9)
    assert callable(damage)
    damage(tmp_path / "checkpoints/step-00000009")
    newest, faults = checkpoints.newest_good(tmp_path)
    assert newest is not None
    assert newest.step == 5
    assert len(faults) == 1
    assert sentence in faults[0]
    assert "step-00000009" in faults[0]


def test_a_failed_save_leaves_nothing_and_the_next_works(tmp_path: Path) -> None:
    save(tmp_path, 5)

    def failing() -> None:
        with checkpoints.new_checkpoint(tmp_path, 9) as fresh:
            (fresh / "model.safetensors").write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        failing()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    save(tmp_path, 9)
    save(tmp_path, 9, b"WEIGHTS")
    newest, _ = checkpoints.newest_good(tmp_path)
    assert newest is not None
    assert (newest.path / "state.pt").read_bytes() == b"WEIGHTS"
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


SAVER = """
import sys
from pathlib import Path
from lsc_engine.runs.folder import checkpoints
folder = Path(sys.argv[1])
step = 0
print("ready", flush=True)
while True:
    step += 1
    with checkpoints.new_checkpoint(folder, step % 3 + 1) as fresh:
        (fresh / "model.safetensors").write_bytes(b"x" * 300_000)
"""


def test_killed_while_saving_there_is_always_a_good_one(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for round_ in range(8):
        child = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        with child.stdout:
            child.stdout.readline()
        time.sleep(0.02 + 0.013 * round_)
        child.kill()
        child.wait()
        checkpoints.sweep(tmp_path)
        found = checkpoints.list_checkpoints(tmp_path)
        assert found
        assert [checkpoints.verify(c) for c in found] == [None] * len(found)
        assert all(p.name.startswith("step-") for p in (tmp_path / "checkpoints").iterdir())
