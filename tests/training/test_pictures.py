"""What a run keeps of its images: names of classes, and enough to go on when the folder has moved or is gone."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from lsc_engine.runs.folder.classes import read_classes
from lsc_engine.runs.read.run import Run, open_run
from lsc_engine.training.job import Job

from .folders import CE, LSC, broken_off, call, colours, names_printed, preset, train

ROOT = Path(__file__).parents[2]
RUN = "s/default/seed-0"


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that tells bee, cat and dog by their colours, half of whose training can be done again."""
    root = tmp_path_factory.mktemp("learnt")
    colours(root / "pics", "bee", "cat", "dog")
    train(root, steps=120, more='[checkpoint]\nalso_at = ["60 steps"]')
    return root


@pytest.fixture
def root(learnt: Path, tmp_path: Path) -> Path:
    copied = Path(shutil.copytree(learnt, tmp_path / "t", symlinks=True))
    text = (run_of(copied).path / "preset.toml").read_text()
    (run_of(copied).path / "preset.toml").write_text(text.replace(str(learnt), str(copied)))
    return copied


def run_of(root: Path, name: str = RUN) -> Run:
    return open_run(root / "runs" / name)


def rows_of(file: Path) -> list[dict[str, str]]:
    """The lines of a CSV file; bytes of file names that are not UTF-8 stand as Python has them in paths."""
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
        return list(csv.DictReader(opened))


# ------------------------------------------------------------------------------------------------ Names of classes
def added(root: Path) -> None:
    colours(root / "pics", "ant")


def renamed(root: Path) -> None:
    (root / "pics/bee").rename(root / "pics/wasp")


def swapped(root: Path) -> None:
    (root / "pics/bee").rename(root / "pics/x")
    (root / "pics/dog").rename(root / "pics/bee")
    (root / "pics/x").rename(root / "pics/dog")


def removed(root: Path) -> None:
    shutil.rmtree(root / "pics/bee")


def gone(root: Path) -> None:
    shutil.rmtree(root / "pics")


def emptied(root: Path) -> None:
    for file in (root / "pics").glob("*/*.png"):
        file.unlink()


def a_file(root: Path) -> None:
    gone(root)
    (root / "pics").write_text("no folder any more")


@pytest.mark.parametrize("change", [added, renamed, swapped, removed, gone, emptied, a_file])
def test_a_trained_run_labels_pictures_by_what_it_keeps_whatever_became_of_its_folder(
    root: Path, change: Callable[[Path], None]
) -> None:
    colours(root / "new", "b", "c", "d", of=("bee", "cat", "dog"), each=1, seed=1)
    change(root)
    outcome = call(root, "predict", RUN, "new/b/0.png", "new/c/0.png", "new/d/0.png")
    assert names_printed(outcome) == ["bee", "cat", "dog"]
    assert "note" not in outcome.err


def test_lines_of_standard_input_are_answered_one_by_one(root: Path) -> None:
    colours(root / "new", "b", "c", of=("bee", "cat"), each=1, seed=1)
    lines = ["new/b/0.png", "", '{"image": "new/c/0.png"}', "new/none.png", '{"picture": 1}', "{", "setup.cfg"]
    (root / "setup.cfg").write_text("no image")
    outcome = call(root, "predict", RUN, "--stdin", stdin="\n".join(lines))
    answers = [json.loads(line) for line in outcome.out.splitlines()]
    assert [answer.get("name") for answer in answers] == ["bee", "cat", None, None, None, None]
    images = ["new/b/0.png", "new/c/0.png", "new/none.png", '{"picture": 1}', "{", "setup.cfg"]
    assert [answer["image"] for answer in answers] == images
    assert ["error" in answer for answer in answers] == [False, False, True, True, True, True]
    refused = call(root, "predict", RUN, "new/b/0.png", "--stdin", code=2)
    assert refused.err.startswith("--stdin takes the names of images")


def test_names_are_kept_byte_by_byte_and_none_for_images_that_are_classes_of_their_own(tmp_path: Path) -> None:
    odd = ["a\nb", os.fsdecode(b"se\xf1or"), "日本", "cafe\u0301"]
    colours(tmp_path / "pics", *odd, of=("ant", "bee", "cat", "dog"))
    run = train(tmp_path, steps=40)
    assert read_classes(run.path) == tuple(sorted(odd))
    outcome = json.loads(call(tmp_path, "predict", RUN, "--split", "train", "--json").out)
    assert outcome["accuracy"] > 0.9
    unique = train(tmp_path, "pics", "--set", "data.labels=unique", name="u", steps=8)
    assert read_classes(unique.path) == ()
    assert not (unique.path / "classes.json").exists()


def test_another_folder_is_matched_by_name_and_what_does_not_match_is_told(root: Path) -> None:
    colours(root / "test", "aaa", "cat", "dog", "zebra", of=("ant", "cat", "dog", "eel"), each=3, seed=2)
    outcome = json.loads(call(root, "predict", RUN, "--path", "test", "--json").out)
    assert outcome["images"] == 12
    assert outcome["accuracy"] == 1
    assert {(row["true_name"], row["true"]) for row in outcome["labels"]} == {
        ("aaa", None), ("cat", 1), ("dog", 2), ("zebra", None),
    }  # fmt: skip
    notes = " ".join(outcome["notes"])
    assert "2 classes that the run does not know: aaa, zebra" in notes
    assert "no images of 1 class of the run: bee" in notes


def test_a_test_folder_of_one_class_and_one_in_another_order_are_right(root: Path) -> None:
    colours(root / "one", "dog", each=3, seed=3)
    assert json.loads(call(root, "predict", RUN, "--path", "one", "--json").out)["accuracy"] == 1
    # A class that looks otherwise is wrong, and shifts no other.
    colours(root / "two", "cat", "dog", of=("cat", "bee"), each=3, seed=3)
    assert json.loads(call(root, "predict", RUN, "--path", "two", "--json").out)["accuracy"] == 0.5


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_one_word_in_both_unicode_forms(tmp_path: Path, form: str) -> None:
    words = ("Käfer", "Ñandú")
    colours(tmp_path / "pics", *(unicodedata.normalize(form, word) for word in words), of=("ant", "bee"))
    train(tmp_path)
    other = "NFD" if form == "NFC" else "NFC"
    colours(tmp_path / "test", *(unicodedata.normalize(other, word) for word in words), of=("ant", "bee"), each=2)
    outcome = json.loads(call(tmp_path, "predict", RUN, "--path", "test", "--json").out)
    assert (outcome["accuracy"], outcome["notes"]) == (1, [])


def forget_names(root: Path) -> None:
    """The run as an earlier version left it."""
    run = run_of(root)
    (run.path / "classes.json").unlink()
    source = json.loads((run.path / "source.json").read_text())
    (run.path / "source.json").write_text(
        json.dumps({key: source[key] for key in source if key not in ("pictures", "channels")})
    )


def test_labels_of_runs_of_earlier_versions_are_numbers(root: Path) -> None:
    forget_names(root)
    colours(root / "new", "b", of=("bee",), each=1, seed=1)
    outcome = call(root, "predict", RUN, "new/b/0.png", "--json")
    assert json.loads(outcome.out)["labels"][0]["name"] is None
    assert "kept no names of classes: labels are numbers" in outcome.err
    # Nor is the accuracy on another folder made up.
    colours(root / "test", "bee", "cat", "dog", each=2)
    outcome = call(root, "predict", RUN, "--path", "test", "--json")
    assert "accuracy" not in json.loads(outcome.out)


def test_a_damaged_record_of_names_is_not_used(root: Path) -> None:
    (run_of(root).path / "classes.json").write_text('{"names": ["cat", "bee"]}')
    colours(root / "new", "b", of=("bee",), each=1, seed=1)
    outcome = call(root, "predict", RUN, "new/b/0.png", "--json")
    assert json.loads(outcome.out)["labels"][0]["name"] is None
    assert "names 2 classes, the checkpoint has 3" in outcome.err
    (run_of(root).path / "classes.json").write_text("[")
    assert "classes.json is not JSON" in call(root, "predict", RUN, "new/b/0.png").err


def test_embeddings_of_another_folder_have_the_labels_of_the_run(root: Path) -> None:
    colours(root / "test", "aaa", "dog", of=("ant", "dog"), each=2)
    outcome = call(root, "embed", RUN, "--path", "test", "--out", "e.safetensors")
    labels = load_file(root / "e.safetensors")["labels"]
    assert labels.tolist() == [3, 3, 2, 2]
    with safe_open(root / "e.safetensors", "np") as file:
        assert json.loads(file.metadata()["classes"]) == ["bee", "cat", "dog", "aaa"]
    assert "does not know: aaa" in outcome.err
    assert "no images of 2 classes of the run: bee, cat" in outcome.err


def test_another_data_set_validates_by_name(tmp_path: Path) -> None:
    colours(tmp_path / "pics", "dog", "frog", "zebra", of=("dog", "bee", "eel"))
    cinic = tmp_path / "data/cinic10"
    colours(cinic / "train", "airplane", "dog", "frog", of=("ant", "dog", "bee"), each=1)
    colours(cinic / "valid", "airplane", "dog", "frog", of=("ant", "dog", "bee"), each=4, seed=1)
    run = train(tmp_path, "pics", "--set", "eval.dataset=cinic10", steps=120)
    assert run.last()["val/accuracy"] == 1
    log = run.log_path.read_text()
    assert "does not have such classes: airplane" in log
    assert "no images of zebra" in log
    shutil.rmtree(cinic)
    colours(cinic / "train", "airplane", "truck", of=("ant", "bee"), each=1)
    colours(cinic / "valid", "airplane", "truck", of=("ant", "bee"), each=1)
    outcome = train(tmp_path, "pics", "--set", "eval.dataset=cinic10", name="none", steps=8, code=2)
    assert "none of its classes is one of this run" in outcome.status().message


# --------------------------------------------------------------------------------- Runs that go on, and their images
@pytest.mark.parametrize("change", [added, renamed, swapped])
def test_a_run_never_goes_on_with_shifted_labels(root: Path, change: Callable[[Path], None]) -> None:
    run = broken_off(run_of(root), 60)
    change(root)
    before = run.status()
    outcome = call(root, "resume", RUN, code=2)
    assert ("trained on other classes" in outcome.err) == (change is not swapped), outcome.err
    if change is not swapped:
        assert run.status() == before
        outcome = call(root, "fork", RUN, "--set", "optimizer.lr=1e-4", code=2)
        assert "trained on other classes" in outcome.err
        assert not (root / "runs/s/default+fork1").exists()
    else:
        assert "images looked at are other images" in outcome.err or "other labels" in run.status().message
    assert run_of(root).checkpoints()[-1].step == 60
    assert read_classes(run.path) == ("bee", "cat", "dog")


@pytest.mark.parametrize("size", [16, 66])
def test_a_class_behind_those_of_the_run_does_not_concern_it(tmp_path: Path, size: int) -> None:
    colours(tmp_path / "pics", "bee", "cat", "dog")
    more = '[checkpoint]\nalso_at = ["40 steps"]'
    run = broken_off(train(tmp_path, "pics", "--set", f"data.image_size={size}", more=more), 40)
    colours(tmp_path / "pics", "eel")
    call(tmp_path, "resume", RUN)
    assert run.status().state == "finished"
    assert read_classes(run.path) == ("bee", "cat", "dog")
    # One in front of them would take the place of the first.
    broken_off(run, 40)
    added(tmp_path)
    outcome = call(tmp_path, "resume", RUN, code=2)
    assert "(new: ant, eel)" in outcome.err


def move(root: Path) -> None:
    shutil.move(root / "pics", root / "elsewhere")


def test_a_run_goes_on_where_its_images_are_now(root: Path) -> None:
    run = broken_off(run_of(root), 60)
    move(root)
    outcome = call(root, "resume", RUN, code=2)
    assert f"lsc-engine resume {RUN} --set data.path=DIR" in outcome.err
    call(root, "resume", RUN, "--set", "data.path=elsewhere")
    assert run.status().state == "finished"
    again = run_of(root)
    assert again.config["data"]["path"] == str(root / "elsewhere")
    moves = again.source["moved"]
    assert [(one["from"].rpartition("/")[2], one["to"].rpartition("/")[2]) for one in moves] == [("pics", "elsewhere")]
    assert "resumed at step 60" in run.log_path.read_text()


def test_the_same_command_goes_on_with_a_new_place_and_other_seeds_are_compared(root: Path) -> None:
    # As the study was started with relative paths.
    preset(root, steps=120, more='[checkpoint]\nalso_at = ["60 steps"]')
    broken_off(run_of(root), 60)
    config = (run_of(root).path / "preset.toml").read_text()
    old = root / "pics"
    move(root)
    call(root, "run", "p.toml", "--name", "s", "--set", "data.path=elsewhere", "--seeds", "0,1")
    for seed in (0, 1):
        assert run_of(root, f"s/default/seed-{seed}").status().state == "finished"
    assert run_of(root).config["data"]["path"] == str(root / "elsewhere")
    # A seed that was trained at the old place vouches for the new one.
    (run_of(root).path / "preset.toml").write_text(config)
    colours(root / "others", "bee", "cat", "dog", seed=9, of=("cat", "bee", "dog"))
    call(root, "run", "p.toml", "--name", "s", "--set", "data.path=others", "--seeds", "2", code=2)
    wrong = run_of(root, "s/default/seed-2").status()
    assert wrong.state == "failed"
    assert "does not hold the images that" in wrong.message
    outcome = call(root, "run", "p.toml", "--name", "s", "--set", "data.path=others")
    assert f"was trained on the images in {old}" in outcome.err


def fewer(folder: Path) -> None:
    (folder / "bee/3.png").unlink()


def others(folder: Path) -> None:
    shutil.rmtree(folder)
    colours(folder, "bee", "cat", "dog", of=("ant", "eel", "cat"))


@pytest.mark.parametrize("change", [fewer, others])
@pytest.mark.parametrize("forgotten", [False, True])
def test_other_images_at_a_new_place_are_refused(root: Path, change: Callable[[Path], None], forgotten: bool) -> None:
    run = broken_off(run_of(root), 60)
    if forgotten:
        forget_names(root)
    shutil.copytree(root / "pics", root / "elsewhere")
    change(root / "elsewhere")
    outcome = call(root, "fork", RUN, "--name", "f", "--set", "data.path=elsewhere", code=2)
    assert "does not hold the images" in outcome.err or "is more than" in outcome.err
    assert not (root / "runs/s/f").exists()
    call(root, "resume", RUN, "--set", "data.path=elsewhere", code=2)
    assert "does not hold the images" in run.status().message
    assert run_of(root).config["data"]["path"] == str(root / "pics")
    call(root, "resume", RUN)
    assert run.status().state == "finished"


def test_a_fork_may_read_the_same_images_elsewhere(root: Path) -> None:
    move(root)
    call(root, "fork", RUN, "--name", "f", "--at", "60", "--set", "data.path=elsewhere")
    made = run_of(root, "s/f/seed-0")
    assert made.status().state == "finished"
    assert made.config["data"]["path"] == str(root / "elsewhere")
    assert read_classes(made.path) == ("bee", "cat", "dog")


@pytest.mark.parametrize("given", ["optimizer.lr=1e-4", "data.classes=2", "train.batch_size=4", "seed=1"])
def test_what_goes_on_keeps_all_other_settings(root: Path, given: str) -> None:
    run = broken_off(run_of(root), 60)
    before = run.status()
    outcome = call(root, "resume", RUN, "--set", given, code=2)
    assert f"--set {given.split('=')[0]}: a run that goes on keeps its settings" in outcome.err
    assert run.status() == before


def test_another_data_folder_with_the_same_images_goes_on_and_labels_need_none(tmp_path: Path) -> None:
    colours(tmp_path / "data/imagenet/train", "n02", "n01", of=("bee", "cat"))
    preset(tmp_path, steps=120, more='[checkpoint]\nalso_at = ["60 steps"]')
    text = (tmp_path / "p.toml").read_text().replace('dataset = "folder"', 'dataset = "imagenet"\nclasses = 2')
    # Small enough to be packed beside the images.
    text = text.replace("image_size = 66", "image_size = 16").replace('path = "pics"\n', "")
    (tmp_path / "p.toml").write_text(text)
    call(tmp_path, "run", "p.toml", "--name", "s")
    run = broken_off(run_of(tmp_path), 60)
    shutil.move(tmp_path / "data", tmp_path / "data2")
    outcome = call(tmp_path, "resume", RUN, "--set", "data.path=data2/imagenet", code=2)
    assert "name another by --data-dir" in outcome.err
    call(tmp_path, "resume", RUN, "--data-dir", "data2")
    assert run.status().state == "finished"
    assert "moved" not in run_of(tmp_path).source
    shutil.rmtree(tmp_path / "data2")
    colours(tmp_path / "new", "b", of=("bee",), each=1, seed=1)
    assert names_printed(call(tmp_path, "predict", RUN, "new")) == ["n02"]


def test_a_study_may_name_a_place_where_the_data_folder_was_meant(tmp_path: Path) -> None:
    colours(tmp_path / "data/imagenet/train", "n02", "n01", of=("bee", "cat"))
    preset(tmp_path, steps=120, more='[checkpoint]\nalso_at = ["60 steps"]')
    text = (tmp_path / "p.toml").read_text().replace('dataset = "folder"', 'dataset = "imagenet"\nclasses = 2')
    (tmp_path / "p.toml").write_text(text.replace('path = "pics"\n', ""))
    call(tmp_path, "run", "p.toml", "--name", "s")
    broken_off(run_of(tmp_path), 60)
    shutil.move(tmp_path / "data", tmp_path / "else")
    call(tmp_path, "run", "p.toml", "--name", "s", "--set", "data.path=else/imagenet")
    moves = run_of(tmp_path).source["moved"]
    assert [(one["from"], one["to"]) for one in moves] == [("the data folder", str(tmp_path / "else/imagenet"))]
    assert run_of(tmp_path).config["data"]["path"] == str(tmp_path / "else/imagenet")


@pytest.mark.slow
def test_a_worker_is_given_the_new_place_too(root: Path) -> None:
    broken_off(run_of(root), 60)
    move(root)
    folder = run_of(root).path
    for place, code in ((root / "nowhere", 1), (root / "elsewhere", 0)):
        job = Job(folder, root / "runs", "cpu", like=folder, changes={"data.path": str(place)})
        words = [sys.executable, "-m", "lsc_engine.training.run_worker", job.to_json()]
        done = subprocess.run(words, cwd=ROOT, timeout=600)
        assert (done.returncode == 0) == (code == 0)
    assert run_of(root).status().state == "finished"
    assert run_of(root).config["data"]["path"] == str(root / "elsewhere")


# ---------------------------------------------------------------------------------- What is taken from other runs
def test_a_class_layer_is_taken_over_by_name(tmp_path: Path) -> None:
    colours(tmp_path / "pics", "bee", "cat", "dog")
    first = train(tmp_path, target=CE, steps=200)
    colours(tmp_path / "pics", "ant")
    more = train(tmp_path, "pics", "--set", f'start_from="{first.id}"', target=CE, steps=8, name="more")
    steps, values = more.history("train/accuracy")
    # The three old classes are right from the first step on; of the new one nothing is known.
    assert (int(steps[0]), float(values[0])) == (0, pytest.approx(0.75, abs=0.26))
    log = more.log_path.read_text()
    assert "layer.weight (3 of 4 rows)" in log
    assert "classes have other numbers than there" in log
    assert float(values[0]) >= 0.74


def test_class_means_of_another_folder_are_centres_of_the_same_classes(tmp_path: Path) -> None:
    colours(tmp_path / "pics", "ant", "bee", "cat")
    means = train(tmp_path, "pics", "--set", "eval.class_means=true", target=CE, steps=60)
    table = load_file(means.path / "class_means.safetensors")["class_means"]
    colours(tmp_path / "fewer", "bee", "cat")
    target = f'method = "lsc"\nsystem = "embeddings:{means.id}"\norder = "sequential"'
    run = train(tmp_path, "fewer", "--set", f'start_from="{means.id}"', target=target, steps=8, name="fewer")
    # Begun with the weights that made the means, the centres fit from the first step on.
    assert float(run.history("train/accuracy")[1][0]) == 1
    import torch

    from lsc_engine.training.trained_run import open_trained

    centres = open_trained(run, device=torch.device("cpu")).head.centres(torch.arange(2))
    assert centres is not None
    unit = torch.nn.functional.normalize(table[1:], dim=1)
    assert torch.allclose(torch.nn.functional.normalize(centres, dim=1), unit, atol=1e-5)
    colours(tmp_path / "strange", "bee", "eel")
    wrong = train(tmp_path, "strange", target=target, steps=8, name="strange", code=2)
    assert "lacks eel" in wrong.status().message


# --------------------------------------------------------------------------------------------- What predict takes
def test_folders_may_be_named_and_the_paths_are_in_the_file(root: Path) -> None:
    colours(root / "new", "b", "d", of=("bee", "dog"), each=2, seed=1)
    colours(root / "new/deep/er", "c", of=("cat",), each=1, seed=1)
    (root / "new/deep/back").symlink_to(root / "new")
    (root / "new/readme.txt").write_text("not a picture")
    call(root, "predict", RUN, "new", "--csv", "p.csv")
    rows = rows_of(root / "p.csv")
    assert [(row["image"], row["name"]) for row in rows] == [
        ("new/b/0.png", "bee"), ("new/b/1.png", "bee"), ("new/d/0.png", "dog"), ("new/d/1.png", "dog"),
        ("new/deep/er/c/0.png", "cat"),
    ]  # fmt: skip
    call(root, "predict", RUN, "--split", "train", "--csv", "own.csv")
    rows = rows_of(root / "own.csv")
    assert {row["image"] for row in rows} == {str(path) for path in (root / "pics").glob("*/*.png")}
    (root / "nothing").mkdir()
    assert "holds no images" in call(root, "predict", RUN, "nothing", code=2).err


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("not a picture")


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.png")


@pytest.mark.parametrize("spoil", [truncated, empty, text, dangling])
def test_a_damaged_picture_fails_alone(root: Path, spoil: Callable[[Path], None]) -> None:
    colours(root / "new", "bee", "cat", "dog", each=1, seed=1)
    spoil(root / "new/cat/0.png")
    for words in (("new",), ("new/bee/0.png", "new/cat/0.png", "new/dog/0.png"), ("--path", "new")):
        outcome = call(root, "predict", RUN, *words, "--csv", "p.csv", "--force", code=1)
        assert "cat/0.png" in outcome.err
        assert "2 images" in outcome.err
        rows = rows_of(root / "p.csv")
        assert [row["name"] for row in rows] == ["bee", "dog"]
    document = json.loads(call(root, "predict", RUN, "new", "--json", code=1).out)
    assert [one["image"] for one in document["failed"]] == ["new/cat/0.png"]


def test_a_class_folder_that_leads_nowhere_fails_alone(root: Path) -> None:
    colours(root / "new", "bee", "dog", each=1, seed=1)
    (root / "new/cat").symlink_to("/not/mounted/cat")
    outcome = json.loads(call(root, "predict", RUN, "--path", "new", "--json", code=1).out)
    assert (outcome["images"], outcome["accuracy"]) == (2, 1)
    assert [one["image"] for one in outcome["failed"]] == ["new/cat"]
    outcome = json.loads(call(root, "predict", RUN, "new", "new/gone.png", "--json", code=1).out)
    assert [one["image"] for one in outcome["failed"]] == ["new/cat", "new/gone.png"]
    assert "/not/mounted/cat" in outcome["failed"][0]["error"]


def test_a_file_name_that_is_not_text_keeps_its_bytes(root: Path) -> None:
    names = [b"se\xf1or.png", b"\xff\xfe.png", "ünï.png".encode()]
    (root / "new").mkdir()
    for name in names:
        shutil.copy(root / "pics/bee/0.png", os.fsencode(root / "new") + b"/" + name)
    (root / "p.csv").write_text("old\n")
    call(root, "predict", RUN, "new", "--csv", "p.csv", "--force")
    rows = rows_of(root / "p.csv")
    assert {os.fsencode(Path(row["image"]).name) for row in rows} == set(names)
    call(root, "predict", RUN, "new")
    assert len(json.loads(call(root, "predict", RUN, "new", "--json").out)["labels"]) == 3


@pytest.mark.parametrize("change", ["image before", "image renamed", "one out, one in"])
def test_unique_labels_are_compared_with_the_images_of_the_training_alone(tmp_path: Path, change: str) -> None:
    colours(tmp_path / "pics", "bee", "cat")
    train(tmp_path, "pics", "--set", "data.labels=unique")
    pics, line = tmp_path / "pics", ("predict", "s", "--split", "train", "--json")
    assert "accuracy" in json.loads(call(tmp_path, *line).out)
    if change == "image renamed":
        (pics / "bee/1.png").rename(pics / "bee/zz.png")
    else:
        shutil.copy(pics / "cat/0.png", pics / "0.png")
    if change == "one out, one in":
        (pics / "cat/3.png").unlink()
    outcome = json.loads(call(tmp_path, *line).out)
    assert "accuracy" not in outcome
    assert "labels are not compared" in outcome["notes"][0]
    assert all("true" not in row for row in outcome["labels"])


@pytest.mark.parametrize("change", [added, renamed, removed])
def test_another_seed_of_a_study_has_the_classes_of_the_first(root: Path, change: Callable[[Path], None]) -> None:
    first = json.loads((run_of(root).path / "classes.json").read_text())["names"][:2]
    (root / "few.toml").write_text((root / "p.toml").read_text().replace("[data]", "[data]\nclasses = 2"))
    call(root, "run", "few.toml", "--name", "few")
    change(root)
    outcome = call(root, "run", "few.toml", "--name", "few", "--seeds", "0,1", code=2)
    assert "was trained on other classes" in outcome.err
    assert read_classes(root / "runs/few/default/seed-0") == tuple(first)
    assert not (root / "runs/few/default/seed-1").exists()


def test_another_seed_of_a_study_has_the_images_of_the_first(root: Path) -> None:
    (root / "pics/dog/3.png").write_bytes((root / "pics/bee/3.png").read_bytes())
    outcome = call(root, "run", "p.toml", "--name", "s", "--seeds", "0,1", code=2)
    assert "1 of 36 images looked at are other images" in outcome.err
    assert "another --name" in outcome.err


@pytest.mark.parametrize("held", ["val/ant/0.png", "a/b/0.png", "readme.txt", "ant/notes.txt"])
@pytest.mark.parametrize("more", ["data.labels=class", "data.labels=unique", "data.skip_bad=true"])
def test_a_folder_without_training_images_is_told_as_such(tmp_path: Path, held: str, more: str) -> None:
    file = tmp_path / "pics" / held
    file.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(file, "png")
    preset(tmp_path)
    for words in (("check", "p.toml"), ("run", "p.toml", "--name", "s")):
        outcome = call(tmp_path, *words, "--set", more, code=2)
        assert "no images in" in outcome.err
        assert "batch_size" not in outcome.err
        assert "model.dim" not in outcome.err
    assert not (tmp_path / "runs").exists()


def test_a_run_does_not_go_on_in_an_empty_place(root: Path) -> None:
    run = broken_off(run_of(root), 60)
    (root / "empty").mkdir()
    for place, why in (("empty", "no images in"), ("", "name a folder"), ("pics/bee", "no images in")):
        assert why in call(root, "resume", "s", "--set", f"data.path={place}", code=2).err
        assert run.status().state == "stopped"


def test_what_is_no_regular_file_fails_alone(root: Path) -> None:
    os.mkfifo(root / "pics/bee/pipe.png")
    (root / "pics/cat/zero.jpg").symlink_to("/dev/zero")
    for words in (("--path", "pics", "--split", "train"), ("pics",), ("pics/bee/pipe.png", "pics/cat", "pics/dog")):
        outcome = json.loads(call(root, "predict", "s", *words, "--json", code=1).out)
        assert len(outcome["labels"]) == 36 - 12 * (len(words) == 3)
        assert {row["error"].rpartition(" is ")[2] for row in outcome["failed"]} == {"not a regular file"}


def test_unique_labels_of_other_images_are_not_compared(root: Path) -> None:
    train(root, "pics", "--set", "data.labels=unique", name="u", steps=8)
    run = "u/default/seed-0"
    own = json.loads(call(root, "predict", run, "--split", "train", "--json").out)
    assert "accuracy" in own
    (root / "pics/bee/3.png").unlink()
    for words in (("--split", "train"), ("--path", "pics")):
        outcome = json.loads(call(root, "predict", run, *words, "--json").out)
        assert "accuracy" not in outcome
        assert "not compared" in " ".join(outcome["notes"])
    # Some of the classes: of the folders, as for `embed`.
    words = (run, "--split", "train", "--classes", "2")
    outcome = json.loads(call(root, "predict", *words, "--json").out)
    assert (outcome["images"], "accuracy" in outcome) == (23, False)
    assert json.loads(call(root, "embed", *words, "--out", "e.npy", "--json").out)["images"] == 23


def test_a_grey_run_takes_pictures_in_colour(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(
        '[data]\ndataset = "digits"\n[model]\nname = "mlp"\nwidth = 0.1\ndim = 8\n[target]\n'
        f'{LSC}\n[train]\nduration = "20 steps"\nbatch_size = 32\n'
    )
    call(tmp_path, "run", "p.toml", "--name", "s")
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "x.png")
    outcome = json.loads(call(tmp_path, "predict", RUN, "x.png", "--json").out)
    assert outcome["labels"][0]["nearest"] in range(10)
    assert read_classes(run_of(tmp_path).path) == tuple("0123456789")
    numbers = json.loads(call(tmp_path, "predict", RUN, "--split", "val", "--limit", "3", "--json").out)
    assert [row["image"] for row in numbers["labels"]] == [0, 1, 2]
