"""On a GPU: labels and losses as on the CPU, runs that are killed and go on, batches that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lsc_engine import bench
from lsc_engine.heads.lsc import LscHead
from lsc_engine.vectors import n_min, system
from lsc_engine.vectors.order import Order

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SYSTEMS = ("A", "Ap", "A-mid", "A-interp", "A-helmert", "V11", "V21", "V21pm", "V22", "V33", "W4", "rademacher")
# Cosines of labels that rounding makes equal.
ROUNDING = 2e-6
LOSSES: list[tuple[str, ...]] = [
    *((f'target.loss="{loss}"',) for loss in ("cosine", "distance", "cosine+distance", "squared", "dot", "softmax")),
    ('target.loss="batch-softmax"',),
    ('target.system="A"', 'target.loss="distance"', 'target.radius="native"'),
    ('target.method="ce"',),
    *(('target.method="ce"', f'target.loss="{loss}"') for loss in ("normalized", "cosface", "arcface")),
    ('target.method="ce"', "target.share=0.1"),
]


def trainer(sets: tuple[str, ...], device: torch.device, variant: str = "V21-384") -> Any:
    few = ('train.duration="8 steps"', 'eval.every="8 steps"', "eval.images=64", "model.dim=48", *sets)
    return bench.load("throughput").trainer("demo", variant, few, device)


@pytest.mark.parametrize("classes", [1_000, 100_000])
@pytest.mark.parametrize("name", SYSTEMS)
def test_vectors_and_labels_are_those_of_the_cpu(name: str, classes: int) -> None:
    for n in (n_min(name, classes), 96):
        made = system(name, n)
        if made.count < classes:
            continue
        head = LscHead(made, Order.make("shuffled", made, 0), classes)
        index = head.order.index(torch.arange(0, classes, 97))
        assert torch.equal(made.vectors(index.to(GPU)).cpu(), made.vectors(index))
        z = torch.randn(300, made.n, generator=torch.Generator().manual_seed(0))
        ours, theirs = head.predict(z.to(GPU)).cpu(), head.predict(z)
        cosines = [made.cosine(z.double(), head.order.index(labels)) for labels in (ours, theirs)]
        assert float((cosines[0] - cosines[1]).abs().max()) < ROUNDING


@pytest.mark.parametrize("sets", LOSSES, ids=" ".join)
def test_a_step_of_every_head_is_that_of_the_cpu(sets: tuple[str, ...]) -> None:
    found: list[tuple[Tensor, Tensor]] = []
    for device in (CPU, GPU):
        with trainer((*sets, 'train.precision="float32"', 'train.compile="off"'), device) as one:
            one.model.train()
            batches = one.batches.from_step(0)
            losses = []
            for _ in range(2):
                losses.append(one.train_step(next(batches)))
                one.step += 1
            weights = torch.cat([p.detach().flatten() for p in one.network.parameters()]).cpu()
        found.append((torch.stack(losses).cpu(), weights))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=2e-3, atol=2e-4)
    # AdamW's first steps move a weight by about the rate, whatever the size of its gradient.
    assert float((found[1][1] - found[0][1]).abs().mean()) < 2e-4


def test_a_killed_run_ends_as_the_straight_one(tmp_path: Path) -> None:
    found = bench.load("gpu").kill_and_resume(tmp_path, "cuda", 300)
    assert found["weights that differ"] == 0
    assert found["resumed"]
    assert 0 < found["killed after step"] < 300


def test_a_batch_that_does_not_fit_is_halved() -> None:
    # No batch statistics, which would be those of a part.
    vit = ('model.name="timm:vit_tiny_patch16_224"', "data.image_size=32", 'optimizer.warmup="0 steps"')
    sets = ("train.batch_size=1024", 'train.compile="off"', *vit)
    losses, peaks = [], []
    for limited in (False, True):
        torch.cuda.empty_cache()
        with trainer(sets, GPU) as one:
            one.model.train()
            batch = next(one.batches.from_step(0))
            if limited:
                torch.cuda.empty_cache()
                allowed = torch.cuda.memory_allocated() + 0.7 * peaks[0]
                torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(GPU).total_memory)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            try:
                losses.append(float(one.train_step(batch)))
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
            peaks.append(torch.cuda.max_memory_allocated() - before)
            assert (one.micro_batches.parts > 1) == limited
            assert bool(one.writer.source().get("numerics")) == limited
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
