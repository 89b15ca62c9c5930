"""Runs on a device that is not the CPU: no tensor is left behind, no step waits, and the losses are those of the CPU.

The device is pretended (pretended.py); what a GPU computes, and how fast, only a GPU shows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

from lsc_engine.data.dataset import data_set

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
# Every head, target, augmentation and way of beginning; the runs that others need stand before them.
RUNS = {
    "heads": ("demo:V21-384,CE-384", "lsc-2025/table5-mini:512-both", "lsc-2025/sec6.4-mini:kld,gaussian"),
    "systems": ("vector-systems-2025/fig1a-mini:A-interp", "lsc-2025/fig6-mini:10"),
    "data": ("lsc-2025/table6-mini:A+aug",),
    "stages": (
        "lsc-2025/sec6.6-mini:ssl,ssl-nearest",
        "lsc-2025/fig7-mini:ce-five,ce-nine",
        "lsc-2025/sec6.5-mini:teacher,student-embeddings,student-logits",
    ),
    "fixed layers": ("etf-2024/mlp-mini:adaptive",),
}
LONG = ("heads", "data", "stages")


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch knows no backends written in Python",
)
@pytest.mark.parametrize("part", [pytest.param(p, marks=pytest.mark.slow) if p in LONG else p for p in RUNS])
def test_training_is_the_same_on_another_device_and_never_waits_for_it(tmp_path: Path, part: str) -> None:
    if part == "fixed layers" and data_set("fashion-mnist").locate() is None:
        pytest.skip("Fashion-MNIST is not on this machine")
    done = subprocess.run(
        [sys.executable, "tests/training/rehearsal.py", tmp_path, *RUNS[part]],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for name, ends in json.loads(done.stdout).items():
        here, there = ends["cpu"], ends["pretended"]
        assert here["state"] == there["state"] == "finished", f"{name}: {there['message'] or here['message']}"
        assert not there["broken"], name
        # Attention takes other kernels on it, which round differently.
        assert there["loss"] == pytest.approx(here["loss"], rel=0.01), name
        assert there["measured"] == pytest.approx(here["measured"], abs=0.06), name
        assert ends["waits"] == [], name


def test_batches_of_some_classes_wait_for_nothing_when_a_block_or_an_epoch_begins() -> None:
    """The numbers of the images from data.first_class on are kept on the device."""
    code = """
import torch
from pretended import Everywhere, register, waits
from lsc_engine.data import batches
from lsc_engine.data.source import TensorSource
batches.BLOCK_SAMPLES, device = 32, register()
pixels = torch.arange(200, dtype=torch.uint8).view(200, 1, 1, 1).expand(200, 1, 4, 4).contiguous()
labels = torch.arange(200) % 10

def numbers(device, augment):
    source = TensorSource(pixels, labels, classes=10, device=device)
    subset = batches.images_from_class(source, 4)
    made = batches.Batches(source, 16, 0, device=device, subset=subset, augment=augment, target=lambda x: x + 1)
    waits.clear()
    # Seven steps an epoch, two a block.
    found = [batch.index for batch, _ in zip(made.from_step(0), range(20))]
    seen = list(waits)
    return [index.tolist() for index in found], seen

with Everywhere():
    for augment in ("none", "light1"):
        (here, _), (there, seen) = numbers(torch.device("cpu"), augment), numbers(device, augment)
        assert seen == [], seen
        assert here == there
        assert {number % 10 for row in there for number in row} == {4, 5, 6, 7, 8, 9}
print("equal")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "equal\n", done.stderr[-2000:]


def test_the_pretended_device_refuses_what_a_gpu_refuses_and_counts_what_waits() -> None:
    code = """
import torch
from pretended import Everywhere, register, waits
device = register()
with Everywhere():
    there = torch.arange(4.0, device=device)
    assert there.device == device and (there + 1).device == device
    assert waits == []
    there.sum().item(); there[there > 1]; there.nonzero(); torch.ones(4).to(device); there.cpu()
    assert len(waits) == 5, waits
    try:
        there + torch.ones(4)
    except RuntimeError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert "on the CPU among tensors on the device" in done.stdout, done.stderr[-2000:]
