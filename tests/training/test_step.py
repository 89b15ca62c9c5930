"""A compiled step: compiled once, equal to the plain one, and on a GPU without waiting for it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lsc_engine.config.derived import derive
from lsc_engine.heads.lsc import LscHead
from lsc_engine.models.backbones.encoder import Encoder
from lsc_engine.registry import LOSSES
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.context import RunContext
from lsc_engine.training.signals import Signals
from lsc_engine.training.step import (
    AdamW,
    MicroBatches,
    graphs_compiled,
    make_loss,
    make_optimizer,
    remove_frozen_params,
    step_optimizer,
)
from lsc_engine.training.trainer import Trainer
from lsc_engine.vectors import system
from lsc_engine.vectors.order import Order

CPU = torch.device("cpu")


def parts(name: str, loss: str) -> tuple[Encoder, LscHead, Tensor, Tensor]:
    made = system(name, 12)
    head = LscHead(
        made,
        Order.make("shuffled", made, 0),
        50,
        LOSSES.built_in[loss](**({"radius": "native"} if name == "A" else {})),
    )
    torch.manual_seed(0)
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Encoder().build(1, 8, 12, 0.1), head, images, head.training_target(torch.arange(8))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "loss"), [("V21", "cosine"), ("A", "distance"), ("A-interp", "cosine+distance")])
@pytest.mark.parametrize("graphs", [False, True])
def test_a_step_is_compiled_once_and_gives_the_plain_loss(
    monkeypatch: pytest.MonkeyPatch, name: str, loss: str, graphs: bool
) -> None:
    compiler = torch.compile

    def without_code(function: Callable[..., Any], dynamic: bool, fullgraph: bool, **choice: str) -> Any:
        return compiler(function, dynamic=dynamic, fullgraph=fullgraph, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", without_code)
    torch.compiler.reset()
    counts = torch._dynamo.utils.counters
    counts.clear()
    model, head, images, target = parts(name, loss)
    plain = make_loss(model, head, dtype=None, device=CPU, compiled=False)
    quick = make_loss(model, head, dtype=None, device=CPU, compiled=True, graphs=graphs)
    for _ in range(3):
        got = quick(images, target)
        got.backward()
        torch.testing.assert_close(got, plain(images, target))
    assert counts["stats"]["unique_graphs"] == 1


def test_gradients_that_add_up_are_not_those_of_replayed_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph's memory is written again by the next call, so parts of a batch go through the compiled loss alone."""
    modes: list[str | None] = []

    def noted(function: Callable[..., Any], dynamic: bool, fullgraph: bool, mode: str | None = None) -> Any:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            modes.append(mode)
            return function(*args)

        return call

    monkeypatch.setattr(torch, "compile", noted)
    model, head, images, target = parts("V21", "cosine")
    loss = make_loss(model, head, dtype=None, device=CPU, compiled=True, graphs=True)
    micro = MicroBatches(torch.nn.ModuleList([model, head]), 8, CPU)
    for _ in range(3):
        micro.backward(loss, images, target)
    assert modes == [None, "reduce-overhead", "reduce-overhead"]
    micro.parts = 2
    micro.backward(loss, images, target)
    assert modes[3:] == [None, None]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("choice", ["off", "on", "graphs"])
@pytest.mark.parametrize("augment", ["none", "light1"])
def test_no_step_between_two_log_points_waits_for_the_gpu(tmp_path: Path, choice: str, augment: str) -> None:
    sets = (f'train.compile="{choice}"', f'data.augment="{augment}"', 'train.duration="2 epochs"')
    (plan,) = plan_study("demo", name="sync", variants=("V21-384",), seeds=(0,), sets=sets).runs
    folder = create_run(tmp_path / plan.id, plan.config, {"command": ["test", str(os.getpid())]})
    cuda = torch.device("cuda")
    with RunWriter.open(folder, device="cuda", total_steps=112, echo=False) as writer:
        trainer = Trainer(RunContext(plan.config, derive(plan.config), writer, Signals(), cuda))
        trainer.model.train()
        batches = trainer.batches.from_step(0)
        try:
            for step in range(40):
                if step == 10:
                    torch.cuda.set_sync_debug_mode("error")
                trainer.loss_sum += trainer.train_step(next(batches))
                trainer.step += 1
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(trainer.loss_sum)


@pytest.mark.parametrize("graphs", [False, True])
def test_the_optimizer_is_torchs_own(graphs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit, as CUDA graphs but for roundings: through a parameter that has no gradient at first, a state that is
    loaded, and parameters that are taken out. Graphs are made anew for other parameters, not for another rate."""
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda work, mode, **how: compiled(work, backend="eager", **how))
    before = graphs_compiled()

    def trained(quick: bool) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (7,), (2, 2))]
        options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01}
        if quick:
            optimizer: torch.optim.Optimizer = AdamW(parameters, **options)
            if graphs:
                optimizer.use_graphs(CPU, pytest.fail)
        else:
            optimizer = torch.optim.AdamW(parameters, fused=True, **options)
        for step in range(12):
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
            for number, parameter in enumerate(parameters):
                if number < 2 or step > 2:
                    parameter.grad = torch.randn(parameter.shape, generator=generator)
            if step == 6:
                optimizer.load_state_dict(optimizer.state_dict())
            if step == 9:
                remove_frozen_params(optimizer, parameters[1:])
            optimizer.step()
            optimizer.zero_grad()
            assert all(p.grad is None for p in optimizer.param_groups[0]["params"])
        steps = [optimizer.state[p]["step"] for p in optimizer.param_groups[0]["params"]]
        return [p.detach() for p in parameters] + steps

    for one, other in zip(trained(True), trained(False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5 * graphs, atol=1e-6 * graphs)
    assert graphs_compiled() - before == 2 * graphs


def test_an_optimizer_that_cannot_be_a_graph_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: refuse)
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    ours, torchs = AdamW(parameters[:1], lr=0.1, weight_decay=0.01), torch.optim.AdamW(parameters[1:], 0.1, fused=True)
    reasons: list[str] = []
    ours.use_graphs(CPU, reasons.append)
    for _ in range(4):
        for parameter, optimizer in zip(parameters, (ours, torchs), strict=True):
            parameter.grad = torch.arange(3.0)
            optimizer.step()
    assert torch.equal(*parameters)
    assert len(reasons) == 1


@pytest.mark.parametrize(("name", "kept"), [("adamw", ("exp_avg", "exp_avg_sq")), ("sgd", ("momentum_buffer",))])
def test_a_step_on_sampled_rows_is_the_optimizer_of_these_rows_alone(name: str, kept: tuple[str, ...]) -> None:
    """Against torch's optimizer of a new parameter of these rows, which is handed their moments at every step."""
    torch.manual_seed(0)
    chosen = {"lr": 0.1, "weight_decay": 0.3}
    part, other = (torch.nn.Parameter(torch.randn(20, 5)), torch.nn.Parameter(torch.randn(4)))
    optimizer = make_optimizer(name, [other, part], momentum=0.9, **chosen)
    moments = {key: torch.zeros(20, 5) for key in kept}
    expected, start = part.detach().clone(), part.detach().clone()
    storage = part.data_ptr()
    for number in range(6):
        # Rows 16 to 19 are never sampled; the gradient of a row that is not sampled is 0.
        rows = torch.randperm(16)[:7].sort().values
        part.grad = torch.zeros(20, 5).index_copy(0, rows, torch.randn(7, 5))
        other.grad = torch.randn(4)
        alone = torch.nn.Parameter(expected[rows])
        alone.grad = part.grad[rows]
        single: torch.optim.Optimizer = torch.optim.AdamW([alone], fused=True, **chosen)
        if name == "sgd":
            single = torch.optim.SGD([alone], momentum=0.9, fused=True, **chosen)
        state = {key: value[rows] for key, value in moments.items()}
        if number or name == "sgd":
            single.state[alone] = state | ({"step": torch.tensor(float(number))} if name == "adamw" else {})
        single.step()
        expected[rows] = alone.detach()
        for key, value in moments.items():
            value[rows] = single.state[alone][key]
        before = other.detach().clone()
        step_optimizer(optimizer, {part: rows})
        assert torch.equal(part, expected)
        assert all(torch.equal(optimizer.state[part][key], value) for key, value in moments.items())
        assert not torch.equal(other, before)
        if number == 2:
            # As a resumed run does.
            resumed = make_optimizer(name, [other, part], momentum=0.9, **chosen)
            resumed.load_state_dict(optimizer.state_dict())
            optimizer = resumed
    assert torch.equal(part[16:], start[16:])
    assert part.data_ptr() == storage
