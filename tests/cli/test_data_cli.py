"""`pack` and `doctor` as a user runs them, and doctor's judgement of logout."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lsc_engine.cli import doctor
from tests import processes


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return processes.call(*arguments, **more)


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
        (["folder", "--size", "8"], "data.path (--path): is required for folder: data.path names a folder with"),
        (["folder", "--size", "8", "--path", "none"], "data.path: folder is not in none: data.path names"),
        (["imagenet", "--size", "0"], "--size: 0 is not a size in pixels, 4 to 1024"),
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


def test_doctor_takes_no_file_for_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").touch()
    done = run("doctor", "--data-dir", str(tmp_path / "mine.toml"))
    (line,) = [line for line in done.stdout.splitlines() if "data folder" in line]
    assert line.startswith("!!")
    assert line.endswith("no folder that can be written to, name another one")


@pytest.mark.slow
def test_doctor_for_reading_names_everything(tmp_path: Path) -> None:
    done = run("doctor", "--data-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for word in ("Python", "torch", "GPU", "fashion-mnist", "spectrum", "runs folder", "data folder", "logout"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout


def test_doctor_without_torch_reports_it_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = run("doctor", "--json", fresh=True)
    assert done.returncode == 1
    assert "no torch here" in json.loads(done.stdout)["torch"]["message"]


STUB_TORCH = """
class version: cuda = {built_for!r}
class cuda:
    is_available = staticmethod(lambda: {works})
    get_device_capability = staticmethod(lambda: {capability})
    get_arch_list = staticmethod(lambda: {kernels!r}.split())
__version__ = "2.11.0+stub"
get_num_threads = lambda: 4
"""
STUB_NVML = """
from types import SimpleNamespace
class NVMLError(Exception): ...
nvmlMemory_v2 = 2
def nvmlInit(): ...
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetName(handle): return b"NVIDIA stub"
def nvmlDeviceGetUUID(handle): return "GPU-a"
def nvmlDeviceGetMemoryInfo(handle, version=1):
    return SimpleNamespace(total={memory} * 2**30, used=600 * 2**20 if version == 1 else 0)
def nvmlDeviceGetMigMode(handle): return [{divided}, {divided}]
def nvmlDeviceGetComputeRunningProcesses(handle): return [1] * {processes}
def nvmlDeviceGetCudaComputeCapability(handle): return {capability}
def nvmlSystemGetDriverVersion(): return "535.54.03"
def nvmlSystemGetCudaDriverVersion(): return {driver}
"""
MODERN = {"built_for": "13.0", "works": True, "capability": (9, 0), "kernels": "sm_80 sm_90 sm_100 compute_120",
          "memory": 80, "divided": 0, "processes": 0, "driver": 13000}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"capability": (8, 6)}, []),
        ({"capability": (7, 5), "kernels": "sm_75"}, ["no bf16, train.precision = auto is float32"]),
        ({"capability": (6, 1)}, ["no kernels for it", "no bf16", "Triton needs 7.0, steps are not compiled"]),
        ({"capability": (12, 1)}, []),
        ({"memory": 8}, ["8.0 GB: batches of ViT presets are computed in parts"]),
        ({"divided": 1, "memory": 8}, ["divided by MIG: a run gets one instance"]),
        ({"processes": 2}, ["processes on it: 2; --gpus auto leaves it out"]),
        ({"works": False, "driver": 12020}, []),
    ],
    ids=str,
)
def test_doctor_names_what_is_slow_or_missing_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], expected: list[str]
) -> None:
    (tmp_path / "triton.py").touch()
    (tmp_path / "torch.py").write_text(STUB_TORCH.format_map(MODERN | changes))
    (tmp_path / "pynvml.py").write_text(STUB_NVML.format_map(MODERN | changes))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(doctor, "built_in_data_sets", list)
    monkeypatch.setattr(doctor, "_missing_for_triton", lambda torch: None)
    found = doctor.examine(tmp_path, tmp_path)
    (gpu,) = found["gpus"]
    assert len(gpu["remarks"]) == len(expected), gpu["remarks"]
    for remark, part in zip(gpu["remarks"], expected, strict=True):
        assert part in remark
    # The memory that the driver keeps for itself is not in use.
    assert gpu["used"] == 0
    rows = [line for line in doctor.lines(found) if "GPU 0" in line]
    assert len(rows) == 1 + len(expected)
    assert rows[0].startswith("!!" if "works" in changes else "ok")
    old = "driver 535.54.03 (CUDA 12.2) is too old for this torch (CUDA 13.0): update it, or install a torch built for"
    assert (f"{old} CUDA 12" in rows[0]) == ("works" in changes)


def test_doctor_names_what_triton_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def lacks(**torch: object) -> str | None:
        return doctor._missing_for_triton({"triton": True, **torch})

    (tmp_path / "cc").touch(0o755)
    (tmp_path / "Python.h").touch()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(doctor.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", "")
    assert "no C compiler (apt install gcc, or set CC)" in str(lacks())
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    assert lacks() is None
    assert lacks(triton=False) == "Triton is not installed (pip install triton)"
    (tmp_path / "Python.h").unlink()
    assert f"no {tmp_path}/Python.h (apt install python3-dev)" in str(lacks())
    gpu = {"capability": [9, 0], "memory": 80 * 2**30}
    assert doctor.remarks(gpu, {"cuda": True}, "no Python.h") == [
        "steps are not compiled, which is slower: no Python.h"
    ]
    # What does not answer is not judged.
    assert doctor.remarks({"capability": None, "memory": None, "processes": None}, {}, None) == []


def test_doctor_never_hangs() -> None:
    # None of these ever answers.
    assert doctor._probe("import time; time.sleep(1e6)", 0.5) == {"message": "no answer within 0.5 s"}
    never = threading.Event()
    assert doctor._within(0.2, never.wait) is None
    never.set()
    assert doctor._run(["sleep", "infinity"], 0.5) == ("", "no answer within 0.5 s")


def test_doctor_loads_no_torch() -> None:
    code = "import sys, lsc_engine.cli.doctor, lsc_engine.cli.commands.data; print('torch' in sys.modules)"
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
    monkeypatch.setattr(doctor.os, "getuid", lambda: 987_654_321)  # whose manager does not run this process
    found = doctor.logout()
    assert (found.survive, found.do) == (
        "no",
        "Start with: systemd-run --user --scope lsc-engine run … --detach",
    )


# ------------------------------------------------------------------------------------------------ Folders of images
PRESET = """
[data]
dataset = "folder"
image_size = {size}
path = "pics"
{more}
[model]
name = "mlp"
width = 0.125
dim = 8
[target]
method = "lsc"
system = "V21"
[train]
duration = "3 steps"
batch_size = 4
"""


def pictures(folder: Path, *classes: str, size: int = 16, more: str = "") -> Path:
    """A preset p.toml and class folders of six pictures each in pics/train."""
    (folder / "p.toml").write_text(PRESET.format(size=size, more=more))
    for label in classes:
        (folder / "pics/train" / label).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pics/train" / label / f"{number}.png")
    return folder


def test_check_and_run_note_what_is_not_used(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "ant", "bee")
    for name in ("train/empty", "train/__MACOSX", "test/ant"):
        (folder / "pics" / name).mkdir(parents=True)
    (folder / "pics/train/ant/photo.heic").write_bytes(b"x")
    wanted = [
        "test: not used: neither trained nor validated on",
        "hidden or foreign folders are not classes: __MACOSX",
        "1 of 3 classes have no images: empty",
        "not images by their names: 1 .heic",
    ]
    checked = run("check", "p.toml", cwd=folder)
    trained = run("run", "p.toml", "--data-dir", "data", cwd=folder)
    assert (checked.returncode, trained.returncode) == (0, 0), trained.stderr
    for told in (checked.stderr, trained.stderr, (folder / "runs/p/default/seed-0/log.txt").read_text()):
        notes = [line for line in told.splitlines() if "note: " in line]
        assert len(notes) == len(wanted)
        assert all(any(sentence in note for note in notes) for sentence in wanted)
    document = json.loads(run("check", "p.toml", "--json", cwd=folder).stdout)
    assert len(document["variants"]["default"]["notes"]) == len(wanted)


def test_a_class_without_training_images_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "ant", "bee")
    shutil.copytree(folder / "pics/train/ant", folder / "pics/val/fox")
    for command in (("check", "p.toml"), ("run", "p.toml", "--data-dir", "data")):
        done = run(*command, cwd=folder)
        assert done.returncode == 2
        assert f"data.path: {folder}/pics/val: class fox is not among the training classes of {folder}" in done.stderr
    assert not (folder / "runs").exists()
    assert not (folder / "data").exists()


@pytest.mark.parametrize("size", [16, 72])
def test_a_run_lists_all_bad_images_of_both_splits_at_once_and_skip_bad_trains(tmp_path: Path, size: int) -> None:
    folder = pictures(tmp_path, "ant", "bee", size=size)
    shutil.copytree(folder / "pics/train", folder / "pics/val")
    bad = ["train/ant/1.png", "train/bee/2.png", "train/bee/5.png", "val/ant/3.png"]
    (folder / "pics" / bad[0]).write_text("<html>")
    (folder / "pics" / bad[1]).write_bytes(b"")
    (folder / "pics" / bad[2]).write_bytes((folder / "pics" / bad[2]).read_bytes()[:200])
    (folder / "pics" / bad[3]).write_text("no")
    refused = run("run", "p.toml", "--data-dir", "data", cwd=folder)
    assert refused.returncode == 1
    status = json.loads((folder / "runs/p/default/seed-0/status.json").read_text())
    assert status["state"] == "failed"
    assert all(f"pics/{name} " in status["message"] for name in bad)
    assert "3 of 12 images cannot be used" in status["message"]
    assert "1 of 12 images cannot be used" in status["message"]
    # Known now: check says it too.
    assert "3 of 12 images cannot be used" in run("check", "p.toml", "--data-dir", "data", cwd=folder).stderr

    words = ("p.toml", "--data-dir", "data", "--set", "data.skip_bad=true")
    trained = run("run", *words, "--name", "kept", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    assert "data.skip_bad: 3 of 12 images" in trained.stderr
    source = json.loads((folder / "runs/kept/default/seed-0/source.json").read_text())
    assert source["pictures"]["files"]["left_out"] == 3
    assert source["pictures"]["data"]["images"] == 9
    assert "skip_bad = true" in (folder / "runs/kept/default/seed-0/preset.toml").read_text()
    checked = run("check", *words, "--json", cwd=folder)
    row = json.loads(checked.stdout)["variants"]["default"]
    assert (row["images"], row["val_images"], row["images_counted"], row["classes"]) == (9, 11, True, 2)
    # The same command again finds its run finished: no setting depends on what was known of the images.
    again = run("run", *words, "--name", "kept", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "1 of 1 runs are done already" in again.stderr


def test_skip_bad_with_unique_labels_numbers_the_images_kept(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "ant", more='labels = "unique"\nskip_bad = true')
    (folder / "pics/train/ant/0.png").write_text("no")
    (folder / "pics/train/ant/4.png").write_text("no")
    done = run("run", "p.toml", "--data-dir", "data", cwd=folder)
    assert done.returncode == 0, done.stderr
    source = json.loads((folder / "runs/p/default/seed-0/source.json").read_text())
    assert source["pictures"]["data"] == {"images": 4, "classes": 4, "size": 16}


def test_skip_bad_belongs_to_image_files(tmp_path: Path) -> None:
    done = run("check", "demo", "--set", "data.skip_bad=true", cwd=tmp_path)
    assert done.returncode == 2
    assert "data.skip_bad" in done.stderr
    assert "belongs to data sets of image files" in done.stderr


# Without rights of its own: as the user that root of a user namespace is mapped from no more.
_UNPRIVILEGED = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]


@pytest.mark.parametrize("place", ["pics/train/bee", "pics/train", "pics"])
def test_a_folder_that_may_not_be_read_is_a_sentence(tmp_path: Path, place: str) -> None:
    folder = pictures(tmp_path, "ant", "bee")
    at = folder / place
    at.chmod(0)
    before = _UNPRIVILEGED if os.access(at, os.R_OK) else []
    if before and subprocess.run([*before, "ls", str(at)], capture_output=True).returncode == 0:
        at.chmod(0o755)
        pytest.skip("rights do not bind here")
    try:
        for words in (["check", "p.toml"], ["run", "p.toml", "--runs-dir", str(tmp_path / "r")]):
            command = [*before, sys.executable, "-m", "lsc_engine", *words]
            # This user has no home folder unless HOME is set.
            environment = {**os.environ, "LSC_DATA": str(tmp_path / "data")}
            done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=folder, env=environment)
            assert done.returncode == 2, done.stderr
            assert "Permission denied" in done.stderr
            assert str(at) in done.stderr
            assert "data.path" in done.stderr
            assert "Traceback" not in done.stderr
    finally:
        at.chmod(0o755)


@pytest.mark.slow
def test_files_that_may_not_be_read_are_listed_together(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "ant", "bee")
    names = ["ant/1.png", "bee/0.png", "bee/3.png"]
    for name in names:
        (folder / "pics/train" / name).chmod(0)
    before = _UNPRIVILEGED if os.access(folder / "pics/train/ant/1.png", os.R_OK) else []
    probe = [*before, "cat", str(folder / "pics/train/ant/1.png")]
    if before and subprocess.run(probe, capture_output=True).returncode == 0:
        pytest.skip("rights do not bind here")
    (folder / "data").mkdir(mode=0o777)
    (folder / "data").chmod(0o777)
    command = [*before, sys.executable, "-m", "lsc_engine", "pack", "folder", "--size", "8", "--path", "pics"]
    done = subprocess.run(
        [*command, "--data-dir", "data"], capture_output=True, text=True, timeout=240, cwd=folder
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "3 of 12 images cannot be used" in done.stderr
    assert all(f"pics/train/{name} cannot be read: Permission denied" in done.stderr for name in names)
    assert "Traceback" not in done.stderr


def test_a_class_folder_that_is_a_link_to_nothing_is_refused_by_check_and_run(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "ant", "bee")
    (folder / "pics/train/cat").symlink_to("/mnt/elsewhere/cat")
    for words in (["check", "p.toml"], ["run", "p.toml"]):
        done = run(*words, cwd=folder)
        assert done.returncode == 2
        assert "pics/train/cat is a link to /mnt/elsewhere/cat, which is not there" in done.stderr
    assert not (folder / "runs").exists()


def test_a_missing_image_of_a_known_data_set_is_reported_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "data/imagenet/train/n01440764").mkdir(parents=True)
    preset = PRESET.format(size=32, more="").replace('"folder"', '"imagenet"').replace('path = "pics"\n', "")
    preset = preset.replace("dim = 8", "dim = 14")
    (tmp_path / "p.toml").write_text(preset)
    done = run("run", "p.toml", "--data-dir", "data", cwd=tmp_path)
    assert done.returncode == 2
    assert "1,281,167 of 1,281,167 training images are missing" in done.stderr
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "data/packed").exists()
