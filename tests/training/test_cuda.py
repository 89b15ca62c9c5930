"""Steps on a real GPU: CUDA graphs that fail and their memory, when something is compiled, float32 and equal bits.

Runs where torch and pydantic are all there is.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from lsc_engine.heads.base import Head
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.lsc import LscHead
from lsc_engine.models.backbones.encoder import Encoder
from lsc_engine.training import devices, step
from lsc_engine.vectors import system
from lsc_engine.vectors.order import Order

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
CUDA, BATCH, DIM = torch.device("cuda"), 32, 32


@pytest.fixture(autouse=True)
def _flags() -> Iterator[None]:
    yield
    devices.set_numerics(CUDA, None, False)
    torch.compiler.reset()


def made(name: str = "V21") -> tuple[nn.Module, Head]:
    torch.manual_seed(0)
    head: Head = CrossEntropyHead(DIM, 500, None, 0)
    if name != "ce":
        vectors = system(name, DIM)
        head = LscHead(vectors, Order.make("shuffled", vectors, 0), 500)
    return Encoder().build(3, 16, DIM, 0.25).to(CUDA), head.to(CUDA)


class Training:
    """Steps as the trainer takes them; `compiled` counts what was compiled or recorded before each."""

    def __init__(self, model: nn.Module, head: Head, dtype: torch.dtype | None = torch.bfloat16, **how: bool) -> None:
        self.model, self.head, self.dtype = model, head, dtype
        network = nn.ModuleDict({"model": model, "head": head})
        self.micro = step.MicroBatches(network, BATCH, CUDA)
        self.optimizer = step.AdamW(list(network.parameters()), lr=1e-3, weight_decay=0)
        self.compiled, self.count = list[int](), 0
        self.loss = self.make(**how)

    def make(self, **how: bool) -> step.BatchLoss:
        self.optimizer.use_graphs(CUDA, pytest.fail if how.get("graphs") else None)
        return step.make_loss(
            self.model, self.head, dtype=self.dtype, device=CUDA, on_compile=self.noted, **{"compiled": True, **how}
        )

    def noted(self) -> None:
        self.compiled.append(self.count)

    def __call__(self, number: int) -> list[float]:
        losses = []
        for _ in range(number):
            generator = torch.Generator().manual_seed(self.count)
            images = torch.randn(BATCH, 3, 16, 16, generator=generator).to(CUDA)
            target = self.head.training_target(torch.randint(500, (BATCH,), generator=generator).to(CUDA))
            losses.append(self.micro.backward(self.loss, images, target).clone())
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.count += 1
        return torch.stack(losses).tolist()  # type: ignore[no-any-return]


def test_graphs_compute_what_the_compiled_step_does_and_are_recorded_in_three_steps() -> None:
    graphs = Training(*made(), graphs=True)
    found = graphs(8)
    # Not one of the steps that the trainer counts as replayed compiles or records.
    assert set(graphs.compiled) <= set(range(step.CudaGraphLoss.UNTIL_REPLAYED))
    assert max(graphs.compiled) == step.CudaGraphLoss.UNTIL_REPLAYED - 1
    torch.testing.assert_close(found, Training(*made())(8), rtol=1e-2, atol=1e-3)


def too_large() -> None:
    torch.empty(2**50, dtype=torch.uint8, device=CUDA)


@pytest.mark.parametrize("refuse", [torch.cuda.synchronize, too_large])
def test_a_failing_record_is_recognised_its_memory_returned_and_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, refuse: Callable[[], None]
) -> None:
    """CUDA itself refuses what is done while it records."""
    from torch._inductor.cudagraph_trees import CUDAGraphNode

    record = CUDAGraphNode._record

    def refused(node: Any, model: Callable[[Any], Any], inputs: Any) -> Any:
        return record(node, lambda given: (refuse(), model(given))[1], inputs)

    training = Training(*made(), graphs=True)
    training(2)
    monkeypatch.setattr(CUDAGraphNode, "_record", refused)
    weights = copy.deepcopy(training.model.state_dict())
    reason = ""
    try:
        training(1)
    except step.GraphsFailedError as error:
        reason = str(error)
    assert reason.startswith("CUDA graphs failed: "), reason
    assert all(p.grad is None for p in training.model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in training.model.state_dict().items())
    held = torch.cuda.memory_reserved()
    del training.loss
    step.release_graphs(CUDA)
    assert torch.cuda.memory_reserved() <= held
    training.loss = training.make()
    assert all(loss < 2 for loss in training(6))


def test_the_memory_of_graphs_that_ran_is_returned() -> None:
    training = Training(*made(), graphs=True)
    training(5)
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    del training.loss
    step.release_graphs(CUDA)
    assert torch.cuda.memory_reserved() < held


def test_float32_is_float32() -> None:
    devices.set_numerics(CUDA, None, False)
    generator = torch.Generator().manual_seed(0)
    images, kernel = torch.randn(8, 64, 32, 32, generator=generator), torch.randn(64, 64, 3, 3, generator=generator)
    left, right = torch.randn(512, 1024, generator=generator), torch.randn(1024, 512, generator=generator)
    for call, given in ((nn.functional.conv2d, (images, kernel)), (torch.matmul, (left, right))):
        exact = call(*(x.double() for x in given))  # type: ignore[operator]
        found = call(*(x.to(CUDA) for x in given)).double().cpu()  # type: ignore[operator]
        assert (found - exact).norm() / exact.norm() < 2e-6


@pytest.mark.parametrize("name", ["V21", "W4", "A-helmert", "ce"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, None])
@pytest.mark.parametrize("compiled", [False, True])
def test_deterministic_training_ends_with_equal_bits(name: str, dtype: torch.dtype | None, compiled: bool) -> None:
    """And by no operation that torch has no such kernel for, whose warning would be an error here."""
    devices.set_numerics(CUDA, dtype, True)
    model, head = made(name)
    ends: list[dict[str, Any]] = []
    for _ in range(2):
        training = Training(copy.deepcopy(model), copy.deepcopy(head), dtype, compiled=compiled)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*deterministic.*")
            training(12)
        ends.append({**training.model.state_dict(), **training.head.state_dict()})
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
