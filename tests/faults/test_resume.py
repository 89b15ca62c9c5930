"""Going on with something else than before is refused with the difference; two processes never train one run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .harness import PHASES, PRESET, RUN, at_steps, go_on, good, in_slow_phase, launch, outcome, place, run_of, train

STOP = at_steps({20: "import signal\nos.kill(os.getpid(), signal.SIGTERM)"})


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = place(tmp_path_factory.mktemp("stopped"))
    assert train(folder, setup=STOP).wait() == 143
    return folder


CHANGES = {
    "order": ('order = "shuffled"', 'order = "sequential"', "target.order was 'shuffled' and is 'sequential'"),
    "classes": ("classes = 96", "classes = 80", "data.classes was 96 and is 80"),
    "rate": ("lr = 0.003", "lr = 0.001", "optimizer.lr was 0.003 and is 0.001"),
    "vectors": ('system = "V21"', 'system = "V22"', "target.system was 'V21' and is 'V22'"),
    "seed": ("\nseed = 0", "\nseed = 1", "seed was 0 and is 1"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_edited_preset_is_refused_with_the_difference(stopped_run: Path, tmp_path: Path, change: str) -> None:
    folder = Path(shutil.copytree(stopped_run, tmp_path / "t"))
    old, new, sentence = CHANGES[change]
    preset = folder / "runs" / RUN / "preset.toml"
    text = preset.read_text()
    assert old in text, text
    preset.write_text(text.replace(old, new))
    process = launch(folder, "resume", "default", "--device", "cpu")
    assert process.wait() == 2, process.log.read_text()
    assert sentence in process.log.read_text()
    assert good(folder).step == 20


def test_the_same_study_with_other_settings_is_refused_with_the_difference(stopped_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stopped_run, tmp_path / "t"))
    process = train(folder, "--set", "optimizer.lr=0.001")
    assert process.wait() == 2
    assert "optimizer.lr is 0.003 there, 0.001 here" in process.log.read_text()
    assert run_of(folder).status().state == "stopped"


FOLDER = (
    PRESET.replace('dataset = "digits"', 'dataset = "folder"\npath = "images"\nimage_size = 72')
    .replace("classes = 96\n", "")
    .replace('augment = "light1"\n', "")
    .replace("batch_size = 16", "batch_size = 10")
)


def images(folder: Path, seed: int = 0) -> Path:
    """60 images of noise in two classes, each with a grey level of its own."""
    draw = np.random.default_rng(seed)
    for number in range(60):
        path = folder / f"images/train/{'ab'[number % 2]}/{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        level = draw.integers(0, 200)
        Image.fromarray((level + draw.integers(0, 50, (72, 72, 3))).astype(np.uint8)).save(path)
    return folder


def test_other_images_in_the_same_place_are_refused_and_the_same_elsewhere_are_not(tmp_path: Path) -> None:
    folder = images(place(tmp_path / "t", FOLDER))
    assert train(folder, setup=STOP).wait() == 143
    kept = Path(shutil.move(folder / "images", folder / "kept"))
    images(folder, seed=1)
    process = launch(folder, "resume", "default", "--device", "cpu")
    assert process.wait() == 2, process.log.read_text()
    assert "images looked at are other images" in process.log.read_text()

    shutil.rmtree(folder / "images")
    preset = folder / "runs" / RUN / "preset.toml"
    preset.write_text(preset.read_text().replace(str(folder / "images"), str(kept)))
    process = launch(folder, "resume", "default", "--device", "cpu")
    assert process.wait() == 0, process.log.read_text()
    assert "resumed at step 20" in process.log.read_text()


PACKED = FOLDER.replace("image_size = 72", "image_size = 32")


def swap_names(folder: Path) -> None:
    """Two images of one class, as far apart as can be, exchange their names."""
    first, last = folder / "images/train/a/002.png", folder / "images/train/a/058.png"
    first.rename(folder / "x.png")
    last.rename(first)
    (folder / "x.png").rename(last)


def same_size(folder: Path) -> None:
    """One image is replaced by another of as many bytes, in a class folder of uncompressed images."""
    path = folder / "images/train/b/003.bmp"
    with Image.open(path) as image:
        pixels = np.asarray(image)
    Image.fromarray(pixels[::-1].copy()).save(path)


@pytest.mark.parametrize("change", [swap_names, same_size], ids=lambda change: change.__name__)
def test_a_run_never_goes_on_with_one_changed_image(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Also where the mean grey levels of the images looked at are the same."""
    folder = images(place(tmp_path / "t", PACKED))
    for path in (folder / "images").rglob("003.png"):
        with Image.open(path) as image:
            image.convert("RGB").save(path.with_suffix(".bmp"))
        path.unlink()
    assert train(folder, "--data-dir", "data", setup=STOP).wait() == 143
    change(folder)
    process = launch(folder, "resume", "default", "--device", "cpu", "--data-dir", "data")
    assert process.wait() == 2, process.log.read_text()
    assert "is made anew: images have changed" in process.log.read_text()
    assert "is of another training" in process.log.read_text()


def test_a_run_goes_on_with_a_copy_of_its_images_made_at_another_time(tmp_path: Path) -> None:
    folder = images(place(tmp_path / "t", PACKED))
    assert train(folder, "--data-dir", "data", setup=STOP).wait() == 143
    shutil.copytree(folder / "images", folder / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(folder / "images")
    words = ("resume", "default", "--set", f"data.path={folder / 'copy'}", "--device", "cpu", "--data-dir", "data")
    process = launch(folder, *words)
    assert process.wait() == 0, process.log.read_text()
    assert "resumed at step 20" in process.log.read_text()


def test_of_many_processes_on_one_run_one_trains(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    racers = [train(folder, setup=PHASES, log=folder / f"{number}.txt") for number in range(4)]
    codes = [racer.wait() for racer in racers]
    winners = [racer for racer, code in zip(racers, codes, strict=True) if code == 0]
    assert winners, [racer.log.read_text() for racer in racers]
    assert set(codes) <= {0, 1, 2}
    for racer, code in zip(racers, codes, strict=True):
        told = racer.log.read_text()
        assert "Traceback" not in told
        if code:
            assert "trains it: " in told, told
    assert run_of(folder).status().attempt == 1
    assert outcome(folder) == straight


def test_resume_beside_a_running_process_is_refused(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    first = train(folder, setup=PHASES, env={"FAULT_SLOW": "t16"})
    in_slow_phase(folder, first)
    second = launch(folder, "resume", "default", "--device", "cpu", log=folder / "second.txt")
    assert second.wait() == 2
    assert f"pid {first.pid} on" in second.log.read_text()
    assert "trains it: running at step" in second.log.read_text()
    go_on(folder)
    assert first.wait() == 0
    assert outcome(folder) == straight


def test_a_clock_that_jumps_changes_nothing(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    jump = "import time\n_now = time.time\ntime.time = lambda: _now() {}\n"
    process = train(folder, setup=at_steps({10: jump.format("- 86400"), 20: jump.format("+ 3 * 86400")}))
    assert process.wait() == 0
    assert 0 < run_of(folder).status().seconds < 86400
    assert outcome(folder) == straight
