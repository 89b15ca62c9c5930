"""What a run keeps of its embeddings: the same images each time, true values, nothing that training could notice."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lsc_engine.data.batches import eval_batches, fixed_subset
from lsc_engine.data.dataset import open_source
from lsc_engine.heads.build import build_head
from lsc_engine.models.build import build_model
from lsc_engine.runs.folder.writer import create_run
from lsc_engine.runs.read.embeddings import Angles, Points, list_snapshots, read_snapshot
from lsc_engine.runs.read.run import Run, open_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.training import checkpointing
from lsc_engine.training.embedding_recorder import MOST_CLASSES, own_and_other
from lsc_engine.training.execute import execute
from lsc_engine.training.job import Job
from lsc_engine.training.signals import Signals

PRESET = """
[data]
dataset = "digits"
[model]
name = "encoder"
width = 0.1
dim = 2
[target]
method = "lsc"
system = "planar"
loss = "distance"
[optimizer]
lr = 3e-3
[train]
duration = "4 epochs"
batch_size = 64
[eval]
images = 600
"""
SPHERE = ("model.dim=3", 'target.system="A"', 'target.loss="cosine"')
UNIQUE = ('data.labels="unique"', "data.classes=96", "train.batch_size=16", "eval.images=96")
CE = ('target.method="ce"', "target.bottleneck=3", "model.dim=16")


def preset_for(sets: tuple[str, ...]) -> str:
    """Cross-entropy takes no vectors."""
    return PRESET.replace('system = "planar"\nloss = "distance"\n', "") if CE[0] in sets else PRESET


class At(Signals):
    """SIGTERM when a step is reported."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
        if step >= self._step and self.stop is None:
            os.kill(os.getpid(), signal.SIGTERM)


def run(root: Path, *sets: str, again: bool = False, signals: Signals | None = None, prepare: Any = None) -> Run:
    file = root / "t.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(preset_for(sets))
    plan = plan_study(file, name="t", sets=sets)
    folder = root / "runs" / plan.runs[0].id
    if not again:
        create_run(folder, plan.runs[0].config, {})
    if prepare:
        prepare(folder)
    with signals or Signals() as inside:
        execute(
            Job(folder, root / "runs"), plan.runs[0].config, device=torch.device("cpu"), signals=inside, echo=False,
             progress=inside.update if isinstance(inside, At) else None,
        )  # fmt: skip
    return open_run(folder)


def shots(found: Run) -> list[Points | Angles]:
    return [read_snapshot(path) for _, path in list_snapshots(found.path)]


@pytest.mark.parametrize("sets", [(), SPHERE, CE])
def test_points_are_the_embeddings_of_the_model(tmp_path: Path, sets: tuple[str, ...]) -> None:
    found = run(tmp_path, *sets)
    config = plan_study(tmp_path / "t.toml", name="t", sets=sets).runs[0].config
    assert found.status().state == "finished", found.log_path.read_text()
    made = shots(found)
    steps, accuracy = found.history("train/accuracy")
    assert [shot.step for shot in made] == steps.tolist()
    last = made[-1]
    assert isinstance(last, Points)
    saved = checkpointing.load_newest(found.path, print)
    assert saved is not None
    model = build_model(config.model, channels=1, size=8, dim=int(config.model.dim or 0), seed=0)
    head = build_head(config, classes=10, dim=int(config.model.dim or 0), seed=0)
    checkpointing.restore(torch.nn.ModuleDict({"model": model, "head": head}), saved.tensors)
    model.eval()
    source = open_source(config.data, split="train", data_dir=None, device=torch.device("cpu"))
    index = fixed_subset(source.images, 600)[fixed_subset(600, 512)]
    with torch.no_grad():
        batch = next(eval_batches(source, index, 512))
        z = head.project(model(batch.images))
    assert np.allclose(last.z, z.numpy(), atol=1e-4)
    assert last.label.tolist() == batch.labels.tolist()
    assert last.centre_label.tolist() == list(range(10))
    centres = head.centres(torch.arange(10))
    assert centres is not None
    assert np.allclose(last.centre, centres.detach().numpy(), atol=1e-6)
    shown = float((last.predicted == last.label).mean())
    assert shown == pytest.approx(accuracy[-1], abs=0.03)
    assert last.radius == (0.25 if not sets else None)
    assert last.free_length == bool(sets)
    assert all(path.stat().st_size < 20_000 for _, path in list_snapshots(found.path))
    assert all(np.array_equal(shot.label, last.label) for shot in made if isinstance(shot, Points))


def test_of_many_classes_some_are_shown_with_their_images(tmp_path: Path) -> None:
    found = run(tmp_path, *UNIQUE, "model.dim=3", 'target.system="W16"', 'target.loss="cosine"')
    assert found.status().state == "finished", found.log_path.read_text()
    last = shots(found)[-1]
    assert isinstance(last, Points)
    assert last.classes == 96
    assert last.centre_label.size == last.label.size == MOST_CLASSES
    assert sorted(last.label.tolist()) == last.centre_label.tolist()
    assert not np.isnan(last.own_centre).any()


def test_angles_where_n_is_above_3(tmp_path: Path) -> None:
    found = run(tmp_path, *UNIQUE, "model.dim=8", 'target.system="V21"', 'target.loss="cosine"')
    made = shots(found)
    last = made[-1]
    assert isinstance(last, Angles)
    assert (last.images, last.n, last.classes) == (96, 8, 96)
    assert last.min_angle == pytest.approx(48.19, abs=0.01)
    assert last.inside == pytest.approx(found.last()["train/inside"], abs=1e-6)
    first = made[0]
    assert isinstance(first, Angles)
    assert last.quantile(last.own, 0.5) < first.quantile(first.own, 0.5)


@pytest.mark.parametrize("method", ["lsc", "ce"])
def test_the_nearest_other_centre_is_found_in_parts(tmp_path: Path, method: str, monkeypatch: Any) -> None:
    sets = (
        (*UNIQUE, "model.dim=9", 'target.system="V22"', 'target.loss="cosine"') if method == "lsc" else (*UNIQUE, *CE)
    )
    (tmp_path / "t.toml").write_text(preset_for(sets))
    config = plan_study(tmp_path / "t.toml", name="t", sets=sets).runs[0].config
    head = build_head(config, classes=96, dim=int(config.model.dim or 0), seed=1)
    generator = torch.Generator().manual_seed(3)
    z = head.project(torch.randn(40, int(config.model.dim or 0), generator=generator)).detach()
    labels = torch.randint(0, 96, (40,), generator=generator)
    monkeypatch.setattr("lsc_engine.training.embedding_recorder.COSINES_AT_ONCE", 7 * 40)
    own, other = own_and_other(z, labels, head)
    centres = head.centres(torch.arange(96))
    assert centres is not None
    every = torch.nn.functional.cosine_similarity(z[:, None].double(), centres.detach()[None].double(), dim=2)
    for row, label in enumerate(labels.tolist()):
        assert own[row] == pytest.approx(float(every[row, label]), abs=1e-5)
        rest = torch.cat((every[row, :label], every[row, label + 1 :]))
        assert other[row] == pytest.approx(float(rest.max()), abs=1e-5)


def test_off_keeps_none_and_auto_leaves_out_what_costs_much(tmp_path: Path, monkeypatch: Any) -> None:
    assert not shots(run(tmp_path / "off", 'eval.embeddings="off"'))
    monkeypatch.setattr("lsc_engine.training.embedding_recorder.AUTO_CLASSES", 95)
    high = (*UNIQUE, "model.dim=8", 'target.system="V21"', 'target.loss="cosine"', 'train.duration="1 epochs"')
    assert not shots(run(tmp_path / "auto", *high))
    assert shots(run(tmp_path / "on", *high, 'eval.embeddings="on"'))
    flat = ("model.dim=3", 'target.system="W16"', 'target.loss="cosine"', 'train.duration="1 epochs"')
    assert shots(run(tmp_path / "flat", *UNIQUE, *flat))


@pytest.mark.parametrize("sets", [(), (*UNIQUE, "model.dim=8", 'target.system="V21"', 'target.loss="cosine"')])
def test_training_is_the_same_with_and_without(tmp_path: Path, sets: tuple[str, ...]) -> None:
    on, off = (run(tmp_path / name, *sets, f'eval.embeddings="{name}"') for name in ("on", "off"))
    for name in ("train/loss", "train/accuracy", "train/loss_eval"):
        assert on.history(name)[1].tolist() == off.history(name)[1].tolist()
    weights = [checkpointing.load_newest(found.path, print) for found in (on, off)]
    assert all(torch.equal(weights[0].tensors[k], weights[1].tensors[k]) for k in weights[0].tensors)  # type: ignore[union-attr]


def test_a_resumed_run_keeps_what_a_straight_one_does(tmp_path: Path) -> None:
    straight = run(tmp_path / "straight")
    stopped = run(tmp_path / "stopped", signals=At(50))
    assert stopped.status().state == "stopped"
    at = stopped.checkpoints()[-1].step

    def ahead(folder: Path) -> None:
        # As if the run had gone further before it was killed.
        for step, path in list_snapshots(straight.path):
            if step > at:
                (folder / "embeddings" / path.name).write_bytes(b"of an attempt that is gone")

    resumed = run(tmp_path / "stopped", again=True, prepare=ahead)
    assert resumed.status().state == "finished"
    files = [{path.name: path.read_bytes() for _, path in list_snapshots(found.path)} for found in (straight, resumed)]
    assert files[0] == files[1]
    assert len(files[0]) == 4


def test_what_is_ahead_of_the_checkpoint_is_gone_before_training_goes_on(tmp_path: Path) -> None:
    stopped = run(tmp_path, signals=At(50))
    at = stopped.checkpoints()[-1].step
    (stopped.path / "embeddings" / f"step-{at + 5:08d}.safetensors").touch()
    run(tmp_path, again=True, signals=At(at + 2))
    assert all(step <= at + 2 for step, _ in list_snapshots(stopped.path))


def test_a_disk_that_refuses_is_told_and_training_goes_on(tmp_path: Path) -> None:
    found = run(tmp_path, prepare=lambda folder: (folder / "embeddings").touch())
    status = found.status()
    assert status.state == "finished"
    assert "not saved since" in status.message
    assert "embeddings of step" in status.message
    assert found.last()["train/accuracy"] > 0
