"""Data set glyphs, with the fonts that matplotlib brings: four families that anyone has who has the engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib.ft2font
import numpy as np
import pytest
import torch

from lsc_engine.common.errors import UsageError
from lsc_engine.data.dataset import Selection, data_set, open_source
from lsc_engine.data.datasets import digits, glyphs
from lsc_engine.runs.read.run import open_run
from lsc_engine.training import run_images
from tests.training.folders import call
from tests.training.stages import BASE, train_one

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "cmr10")


def fonts_in(folder: Path, names: tuple[str, ...] = FONTS) -> Path:
    folder.mkdir()
    there = digits.PrintedDigits().locate()
    assert there is not None
    for name in names:
        shutil.copy(there / f"{name}.ttf", folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fonts_in(tmp_path_factory.mktemp("glyphs") / "fonts")


def test_validation_is_a_whole_family_that_training_never_sees(settings: Any, folder: Path, tmp_path: Path) -> None:
    data = settings("glyphs", classes=30, path=str(folder))
    train, val = (open_source(data, split=split, data_dir=tmp_path) for split in ("train", "val"))
    assert val is not None
    fonts = glyphs.find_fonts(folder)
    assert fonts.families == 4, "DejaVu Sans, its bold and its mono are one"
    drawn = glyphs.draw(fonts, 32, classes=30)
    families = np.array([face.family for face in fonts.faces])[drawn.faces]
    assert set(families[drawn.val]) == set(fonts.held_out)
    assert not set(families[drawn.val]) & set(families[~drawn.val])
    for label in range(30):
        assert len(set(families[~drawn.val & (drawn.labels == label)])) >= 2
        assert (drawn.val & (drawn.labels == label)).any()
    counts = data_set("glyphs").count(Selection(classes=30, path=folder, data_dir=tmp_path))
    assert (counts.images, counts.classes, counts.val_images) == (train.images, 30, val.images)
    assert (train.channels, train.size, train.classes, len(train.class_names)) == (1, 32, 30, 30)
    assert train.class_names == val.class_names == drawn.characters


def test_every_font_has_what_is_drawn_of_it_and_nothing_is_blank_or_twice(folder: Path) -> None:
    fonts = glyphs.find_fonts(folder)
    drawn = glyphs.draw(fonts, 32, classes=60)
    tables = [matplotlib.ft2font.FT2Font(face.file).get_charmap() for face in fonts.faces]
    seen = set()
    for pixels, label, face in zip(drawn.pixels, drawn.labels, drawn.faces, strict=True):
        assert ord(drawn.characters[label]) in tables[face]
        assert pixels.max() > 100
        seen.add((face, pixels.tobytes()))
    assert len(seen) == len(drawn.pixels), "no font draws two classes alike"
    assert not {" ", "\u00a0", "\u212b"} & {chr(code) for code in fonts.order}, "blank, or replaced by NFKC"
    for i in range(60):
        looks = [pixels.tobytes() for pixels, label in zip(drawn.pixels, drawn.labels, strict=True) if label == i]
        assert len(looks) == len(set(looks))


def test_the_first_classes_are_the_same_whatever_their_number(folder: Path) -> None:
    fonts = glyphs.find_fonts(folder)
    few, many = (glyphs.draw(fonts, 32, classes=count) for count in (10, 25))
    assert many.characters[:10] == few.characters
    assert np.array_equal(many.pixels[: len(few.pixels)], few.pixels)
    coverage = [len({f.family for f in fonts.faces if code in f.characters}) for code in fonts.order]
    assert coverage == sorted(coverage, reverse=True)


def test_a_glyph_stands_in_the_middle_at_any_size(settings: Any, folder: Path, tmp_path: Path) -> None:
    for size in (16, 64):
        data = settings("glyphs", classes=40, image_size=size, path=str(folder))
        source = open_source(data, split="train", data_dir=tmp_path)
        rows = torch.arange(source.images)
        images = source.fetch(rows[[source.class_names[i] == "H" for i in source.labels(rows).tolist()]]).float()
        assert images.shape[1:] == (1, size, size)
        mass = images.sum((0, 1))
        centre = (mass.sum(0) * torch.arange(size)).sum() / mass.sum() + 0.5
        assert abs(centre / size - 0.5) < 0.06
        inked = mass.sum(1).nonzero()
        assert abs((int(inked.max()) + 1) / size - 0.75) < 0.07, "the base line"


def test_unique_labels_are_the_first_training_images(settings: Any, folder: Path, tmp_path: Path) -> None:
    data = settings("glyphs", "unique", classes=50, path=str(folder))
    source = open_source(data, split="train", data_dir=tmp_path)
    assert (source.images, source.classes, source.class_names) == (50, 50, ())
    assert open_source(data, split="val", data_dir=tmp_path) is None
    assert data_set("glyphs").count(Selection(True, 50, folder, data_dir=tmp_path)).images == 50


def test_what_was_drawn_is_read_again(
    settings: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = settings("glyphs", classes=12, path=str(folder))
    first = open_source(data, split="train", data_dir=tmp_path)
    glyphs._kept.cache_clear()
    monkeypatch.setattr(glyphs, "draw", None)
    again = open_source(data, split="train", data_dir=tmp_path)
    assert torch.equal(first.fetch(torch.arange(first.images)), again.fetch(torch.arange(again.images)))
    assert first.record == again.record


def test_too_few_fonts_are_refused_with_the_packages_to_install(settings: Any, tmp_path: Path) -> None:
    few = fonts_in(tmp_path / "few", ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif"))
    (few / "broken.ttf").write_bytes(b"no font")
    with pytest.raises(UsageError, match=r"3 fonts of 2 families draw 0 characters.*fonts-noto-cjk"):
        open_source(settings("glyphs", path=str(few)), split="train", data_dir=tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"glyphs is not in .*none: install fonts"):
        open_source(settings("glyphs", path=str(tmp_path / "none")), split="train", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("DejaVu Sans Mono", "DejaVu Sans"),
        ("DejaVu Sans Condensed", "DejaVu Sans"),
        ("Noto Serif CJK JP", "Noto Serif"),
        ("Noto Sans Arabic UI", "Noto Sans"),
        ("AR PL UMing", "AR PL UMing"),
        ("Liberation Mono", "Liberation Mono"),
        ("cmtt10", "Computer Modern"),
    ],
)
def test_parts_of_a_design_are_one_family(name: str, family: str) -> None:
    assert glyphs.design(name) == family


def test_images_are_estimated_until_they_are_drawn_and_a_run_counts_them(folder: Path, tmp_path: Path) -> None:
    data = f'dataset = "glyphs"\nclasses = 40\nimage_size = 8\npath = "{folder}"'
    preset = BASE.replace('dataset = "digits"', data).replace("dim = 4", "dim = 9").replace("3 epochs", "1 epochs")
    (tmp_path / "p.toml").write_text(preset)
    words = ("check", "p.toml", "--json")
    before = json.loads(call(tmp_path, *words).out)["variants"]["default"]
    call(tmp_path, "run", "p.toml", "--name", "s", "--device", "cpu")
    after = json.loads(call(tmp_path, *words).out)["variants"]["default"]
    assert (before["images_counted"], after["images_counted"]) == (False, True)
    drawn = glyphs.draw(glyphs.find_fonts(folder), 32, classes=40)
    assert before["images"] >= after["images"] == (~drawn.val).sum()
    run = open_run(tmp_path / "runs/s/default/seed-0")
    assert run.status().state == "finished"
    assert run.status().total_steps == after["images"] // 64
    (tmp_path / "p.toml").write_text(preset.replace("classes = 40", "classes = 100_000").replace("dim = 9", "dim = 60"))
    outcome = call(tmp_path, "run", "p.toml", "--name", "t", "--device", "cpu", code=2).err
    assert "the preset wants 100,000; take fewer, or install fonts" in outcome
    assert not (tmp_path / "runs/t").exists()


def test_a_run_is_evaluated_on_other_classes_that_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_images, "MADE_CLASSES", 20)
    run = train_one(tmp_path, BASE.replace("3 epochs", "1 epochs"))
    outcome = json.loads(call(tmp_path, "evaluate", run.id, "--on", "glyphs", "--json").out)
    assert outcome["metrics"]["eval/knn"] > 0.1  # twice as good as chance, whatever fonts are here
    assert 0 < outcome["metrics"]["ood/auroc"] <= 1
