"""Own backbones, systems, losses and data sets by --plugin: one file with all four, trained, resumed, refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lsc_engine.runs.read.run import loss_group, loss_kind, open_run
from tests import processes

PLUGIN = """
import torch
from torch import nn

from lsc_engine.data.dataset import Facts
from lsc_engine.data.source import TensorSource
from lsc_engine.plugins import register
from lsc_engine.vectors import system


def stripes(*, split, unique, count, size, path, data_dir, device):
    labels = torch.arange(60 if split == "train" else 12) % 6
    pixels = torch.zeros(len(labels), 1, 6, 6, dtype=torch.uint8)
    pixels[torch.arange(len(labels)), 0, labels] = 255
    kept = torch.arange(len(labels)) < count if unique else labels < count
    return TensorSource(pixels[kept], None if unique else labels[kept], classes=count, device=device, size=size)


sizes = {"images": 60, "val_images": 12, "classes": 6, "size": 6, "channels": 1}
stripes.facts = Facts("stripes", "One bright row", resident=True, **sizes)


class Flat(nn.Module):
    def __init__(self, channels, size, dim, width):
        super().__init__()
        self.line = nn.Linear(channels * size * size, dim)

    def forward(self, images):
        return self.line(images.flatten(1))


def cubed(system):
    return lambda z, index: (1 - system.cosine(z, index)).pow(3)


register("datasets", "stripes", stripes)
register("models", "flat", Flat)
register("losses", "cubed", cubed)
register("systems", "my-roots", lambda n, classes: system("A-helmert", n))
"""
PRESET = """
[data]
dataset = "stripes"
[model]
name = "flat"
dim = 3
[target]
method = "lsc"
system = "my-roots"
loss = "cubed"
[optimizer]
lr = 0.05
[train]
duration = "30 epochs"
batch_size = 10
"""


def call(folder: Path, *words: str, code: int = 0) -> tuple[str, str]:
    done = processes.call(*words, cwd=folder, code=code)
    return done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.toml").write_text(PRESET)
    (tmp_path / "parts.py").write_text(PLUGIN)
    return tmp_path


def test_all_four_kinds_train_and_go_on(folder: Path) -> None:
    told, _ = call(folder, "check", "own.toml", "--plugin", "parts.py", "--json")
    row = json.loads(told)["variants"]["default"]
    assert (row["images"], row["val_images"], row["classes"], row["count"]) == (60, 12, 6, 12)
    assert row["loss_kind"] == "o"

    call(folder, "run", "own.toml", "--plugin", "parts.py")
    run = open_run(folder / "runs/own/default/seed-0")
    assert run.last()["val/accuracy"] == 1.0
    assert (loss_kind(run.config), loss_group(run.config)) == ("o", "o cubed")

    told, _ = call(folder, "predict", "own/default", "--split", "val", "--plugin", "parts.py", "--json")
    assert json.loads(told)["accuracy"] == 1.0
    call(folder, "embed", "own/default", "--split", "val", "--out", "z.npy", "--plugin", "parts.py")
    assert (folder / "z.npy").exists()
    _, err = call(folder, "embed", "own/default", "--split", "val", "--out", "other.npy", code=2)
    assert '"flat"' in err

    call(folder, "fork", "own/default", "--set", 'train.duration="31 epochs"', "--plugin", "parts.py")
    unique, _ = call(folder, "run", "own.toml", "--plugin", "parts.py", "--name", "unique", "--set",
                     "data.labels=unique", "--set", "data.classes=12", "--json")  # fmt: skip
    assert json.loads(unique)["runs"][0]["state"] == "finished"


def test_without_the_plugin_every_name_is_refused_and_nothing_created(folder: Path) -> None:
    _, err = call(folder, "run", "own.toml", code=2)
    for word in ("stripes", "flat", "my-roots", "cubed"):
        assert word in err
    for command in ("check", "run"):
        _, err = call(folder, command, "own.toml", "--plugin", "own.toml", code=2)
        assert err == "--plugin: own.toml is not a Python file, whose name ends in .py\n"
    assert sorted(p.name for p in folder.iterdir()) == ["own.toml", "parts.py"]


def test_a_plugin_that_breaks_its_word_fails_with_a_sentence(folder: Path) -> None:
    text = PLUGIN.replace('"images": 60', '"images": 61').replace(".pow(3)", ".pow(3).mean()")
    (folder / "parts.py").write_text(text)
    _, err = call(folder, "run", "own.toml", "--plugin", "parts.py", code=2)
    assert 'plugin "stripes" opened 60 train images of 1 channels' in err
    (folder / "parts.py").write_text(text.replace('"images": 61', '"images": 60'))
    _, err = call(folder, "run", "own.toml", "--plugin", "parts.py", "--name", "loss", code=1)
    assert "one loss for each image is needed" in err
    (folder / "parts.py").write_text(PLUGIN.replace("stripes.facts =", "facts ="))
    _, err = call(folder, "run", "own.toml", "--plugin", "parts.py", "--name", "facts", code=2)
    assert 'plugin "stripes" needs an attribute facts' in err


def test_classes_of_different_sizes_are_counted_by_the_plugin(folder: Path) -> None:
    # Squares modulo 6: classes 0, 1, 3 and 4 with 10, 20, 10 and 20 images.
    text = PLUGIN.replace(") % 6", ").square() % 6")
    (folder / "parts.py").write_text(text)
    words = ("run", "own.toml", "--plugin", "parts.py", "--set", "data.classes=2")
    _, err = call(folder, *words, code=2)
    assert "facts.class_images" in err
    sizes = '"class_images": (10, 20, 0, 10, 20, 0), "class_val_images": (2, 4, 0, 2, 4, 0), "images": 60'
    (folder / "parts.py").write_text(text.replace('"images": 60', sizes))
    call(folder, *words, "--name", "told")
    assert open_run(folder / "runs/told/default/seed-0").status().total_steps == 90
    (folder / "parts.py").write_text(text.replace('"images": 60', sizes.replace("(2, 4, 0, 2, 4, 0)", "(2, 4)")))
    _, err = call(folder, *words, "--name", "short", code=2)
    assert "tells sizes of 2 of 6 classes" in err
    assert not (folder / "runs/short").exists()


def test_a_viewer_knows_names_without_running_anything(folder: Path) -> None:
    (folder / "parts.py").write_text(PLUGIN + '\nPath = open("ran", "w")\n')
    code = (
        "from pathlib import Path\nfrom lsc_engine import plugins\nfrom lsc_engine.registry import *\n"
        "plugins.look_only([Path('parts.py')])\n"
        "print(MODELS.plugin_names(), LOSSES.plugin_names(), SYSTEMS.plugin_names())\n"
        "from lsc_engine.config.load import check_text\n"
        "text = Path('own.toml').read_text().replace('stripes', 'digits').replace('my-roots', 'V21')\n"
        "text = text.replace('= 3', '= 8')\n"
        "print([f.message for f in check_text(text, 'own')[1]])\n"
        "from lsc_tui.services.form_check import examine\nfrom lsc_tui.data.preset_form import Form\n"
        "form = Form.of(Path('own.toml').read_text(), 'own', 'own', Path('runs'))\n"
        "print([(p.key, p.message) for p in examine(form).faults])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, text=True, capture_output=True, timeout=240, check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    names, fine, refused = done.stdout.splitlines()
    assert names == "['flat'] ['cubed'] ['my-roots']"
    assert fine == "[]"
    assert "comes from a plugin, and viewers run none" in refused
    assert not (folder / "ran").exists()
