"""`pack` and `doctor` as a user runs them, and doctor's judgement of logout."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lsc_engine.cli import doctor


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lsc_engine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **more)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for label in ("n01", "n02"):
            folder = tmp_path / "data" / "imagenet" / split / label
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.JPEG")
    return tmp_path / "data"


def test_pack_prints_json_and_checks_the_hash_when_repeated(data_dir: Path) -> None:
    arguments = ("pack", "imagenet", "--size", "8", "--data-dir", str(data_dir), "--json")
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(row["split"], row["images"], row["bytes"]) for row in report["splits"]] == [
        ("train", 6, 1152),
        ("val", 6, 1152),
    ]
    packed = Path(report["splits"][0]["file"])
    assert hashlib.sha256(packed.read_bytes()).hexdigest() == report["splits"][0]["sha256"]
    content = packed.read_bytes()
    packed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = run(*arguments)
    assert json.loads(again.stdout) == report
    assert "packed again" in again.stderr
    assert packed.read_bytes() == content


def test_pack_without_json_prints_the_files(data_dir: Path) -> None:
    done = run("pack", "folder", "--size", "8", "--path", str(data_dir / "imagenet"), "--data-dir", str(data_dir))
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_file() for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digits", "--size", "8"], "digits is not a data set of image files"),
        (["imagnet", "--size", "8"], 'did you mean "imagenet"'),
        (["imagenet", "--size", "8"], "imagenet is not in"),
        (["folder", "--size", "8"], "folder"),
    ],
)
def test_pack_refuses_in_a_sentence_and_creates_nothing(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = run("pack", *arguments, "--data-dir", str(tmp_path / "absent"))
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "absent").exists()


def test_pack_names_a_bad_image(data_dir: Path) -> None:
    (data_dir / "imagenet" / "train" / "n02" / "1.JPEG").write_bytes(b"no")
    done = run("pack", "imagenet", "--size", "8", "--data-dir", str(data_dir))
    assert done.returncode == 1
    assert "n02/1.JPEG cannot be read as an image" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_as_json(tmp_path: Path) -> None:
    done = run("doctor", "--json", "--runs-dir", str(tmp_path / "runs"), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert found["torch"]["version"]
    assert {row["name"]: row["found"] for row in found["data"]}.items() >= {
        "digits": True,
        "spectrum": True,
        "imagenet": False,
        "cifar10": False,
    }.items()
    imagenet = next(row for row in found["data"] if row["name"] == "imagenet")
    assert str(tmp_path / "data") in imagenet["how"]
    assert all(row["writable"] and row["free"] > 0 for row in found["disk"])
    assert found["logout"]["survive"] in ("yes", "no", "unknown")
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "data").exists()


def test_doctor_for_reading_names_everything(tmp_path: Path) -> None:
    done = run("doctor", "--data-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for word in ("Python", "torch", "GPU", "fashion-mnist", "spectrum", "runs folder", "data folder", "logout"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout


def test_doctor_without_torch_says_so_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = run("doctor", "--json")
    assert done.returncode == 1
    assert "no torch here" in json.loads(done.stdout)["torch"]["message"]


def test_doctor_never_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    # None of these ever answers.
    assert doctor._probe("import time; time.sleep(1e6)", 0.5) == {"message": "no answer within 0.5 s"}
    never = threading.Event()
    assert doctor._within(0.2, never.wait) is None
    never.set()
    monkeypatch.setattr(doctor, "_SECONDS", 0.3)
    assert doctor._output(["sleep", "infinity"]) is None


def test_doctor_loads_no_torch() -> None:
    code = "import sys, lsc_engine.cli.doctor, lsc_engine.cli.data; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize(
    ("kill", "linger", "excluded", "manager", "survive", "do"),
    [
        (None, None, False, False, "unknown", "tmux"),
        (False, False, False, False, "yes", None),
        (True, False, True, False, "yes", None),
        (True, False, False, False, "no", "enable-linger"),
        (True, True, False, False, "no", "systemd-run --user --scope"),
        (True, True, False, True, "yes", None),
        (False, False, False, True, "no", "enable-linger"),
    ],
)
def test_logout(
    kill: bool | None, linger: bool | None, excluded: bool, manager: bool, survive: str, do: str | None
) -> None:
    found = doctor.judge_logout(kill, linger, excluded=excluded, under_user_manager=manager)
    assert found.survive == survive
    assert found.do is None if do is None else do in (found.do or "")


def test_logind_answers_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With programs in the place of systemd's that print what systemd prints."""
    answers = {"KillUserProcesses": "b true", "KillExcludeUsers": 'as 1 "nobody-else"', "KillOnlyUsers": "as 0"}
    cases = "\n".join(f"{name}) echo '{answer}';;" for name, answer in answers.items())
    (tmp_path / "busctl").write_text(f'#!/bin/sh\ncase "$5" in\n{cases}\nesac\n')
    (tmp_path / "loginctl").write_text("#!/bin/sh\necho yes\n")
    for name in ("busctl", "loginctl"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(doctor, "_under_user_manager", lambda: False)
    found = doctor.logout()
    assert (found.survive, found.do) == (
        "no",
        "Start with: systemd-run --user --scope lsc-engine run … --detach",
    )
