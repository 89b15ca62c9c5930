"""Compiling, recording CUDA graphs and trying again never count as training seconds; a step that fails is done again.

Time is a number that the fakes advance: a step takes a second, what must not count a thousand. CUDA graphs are recorded
and replayed by a stand-in, since nothing but a GPU has them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lsc_engine.training import evaluator, step, trainer

from .stages import BASE, train_one

LONG = 1000.0
MLP = BASE.replace('name = "encoder"\nwidth = 0.1', 'name = "mlp"\nwidth = 0.1')
STEPS = ('train.duration="12 steps"', 'log.every="1 steps"', 'eval.every="12 steps"', "eval.images=64")


class Time:
    """The seconds since the start."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(trainer, "time", made)
    whole = trainer.Trainer.train_step

    def train_step(self: trainer.Trainer, batch: Any) -> torch.Tensor:
        made.now += 1
        return whole(self, batch)

    monkeypatch.setattr(trainer.Trainer, "train_step", train_step)
    return made


@pytest.fixture
def compiles(time: Time, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """torch's own tracer; a graph takes long to compile, and runs as it is. The steps at which it was done."""
    steps: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        time.now += LONG
        steps.append(int(time.now % LONG))
        return graph.forward

    monkeypatch.setattr(step, "BACKEND", backend)
    return steps


def seconds(run: Any) -> list[float]:
    """The clock at every log line."""
    return run.axes("train/loss")[3].tolist()  # type: ignore[no-any-return]


class Changing(torch.nn.Module):
    """A network that is another one once it is `later`."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.later = network, False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.network(images)
        return out + 0 if self.later else out


def test_compiling_never_counts(tmp_path: Path, compiles: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and where torch compiles again in the middle, here for a network that has changed."""
    networks: list[Changing] = []
    build = trainer.build_model
    monkeypatch.setattr(
        trainer, "build_model", lambda *a, **k: networks.append(Changing(build(*a, **k))) or networks[0]
    )
    count = trainer.Trainer._log

    def log(self: trainer.Trainer, rate: float) -> None:
        count(self, rate)
        if self.step == 6:
            networks[0].later = True

    monkeypatch.setattr(trainer.Trainer, "_log", log)
    run = train_one(tmp_path, MLP, *STEPS, "train.compile=on")
    assert run.status().state == "finished", run.status().message
    # At 12 it is the evaluation.
    assert compiles == [1, 7, 12]
    assert seconds(run) == list(range(12))
    # Rates are of timed steps alone: 64 images, a second each.
    assert set(run.history("speed/images_per_second")[1].tolist()) == {64.0}
    assert run.source["graphs"] == 2


def test_a_new_loss_and_smaller_micro_batches_begin_untimed(
    tmp_path: Path, compiles: list[int], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulate = step.MicroBatches._accumulate
    refused: list[int] = []

    def full(self: step.MicroBatches, *given: Any) -> torch.Tensor:
        if time.now % LONG == 5 and not refused:
            refused.append(self.parts)
            time.now += LONG
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return accumulate(self, *given)

    monkeypatch.setattr(step.MicroBatches, "_accumulate", full)
    run = train_one(tmp_path, MLP, *STEPS, "train.compile=on")
    assert refused == [1]
    assert "micro-batches of 32 from here on" in run.log_path.read_text()
    assert compiles == [1, 5, 12]
    # The memory was found too small a thousand seconds into the step.
    assert seconds(run) == [0, 1, 2, 3, 1004, *range(1005, 1012)]


class Graphs:
    """In place of torch.compile with CUDA graphs: a call compiles, the next one records, the others replay."""

    def __init__(self, time: Time, fails: Callable[[int, list[str]], None] = lambda call, held: None) -> None:
        self.time, self.fails, self.calls, self.held = time, fails, list[str](), list[str]()

    def compile(self, loss: Callable[..., Any], dynamic: bool, fullgraph: bool, **how: str) -> Callable[..., Any]:
        name = "graphs" if how.get("mode") == "reduce-overhead" else "plain"
        times = 0

        def call(*args: Any) -> Any:
            nonlocal times
            times += 1
            self.calls.append(name)
            if times <= (2 if name == "graphs" else 1):
                self.time.now += LONG
            if name == "graphs":
                self.held.append("pool")
            self.fails(len(self.calls), self.held)
            return loss(*args)

        return call


@pytest.fixture
def graphs(time: Time, monkeypatch: pytest.MonkeyPatch) -> Graphs:
    made = Graphs(time)
    monkeypatch.setattr(torch, "compile", made.compile)
    monkeypatch.setattr(step, "GRAPH_DEVICES", ("cpu",))
    monkeypatch.setattr(step.AdamW, "use_graphs", lambda *_: None)
    monkeypatch.setattr(evaluator, "make_embedding", lambda model, *_: model)
    monkeypatch.setattr(step, "graphs_compiled", lambda: min(1, len(made.calls)))
    return made


def test_recording_graphs_does_not_count(tmp_path: Path, graphs: Graphs) -> None:
    run = train_one(tmp_path, MLP, *STEPS, "train.compile=graphs")
    assert graphs.calls == ["plain"] + ["graphs"] * 11
    assert seconds(run) == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("at", "error", "says"),
    [
        (2, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "Tried to allocate 2.00 GiB"),
        (
            3,
            torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing\nhint"),
            "is capturing",
        ),
        (5, RuntimeError("CUDA error: operation failed due to a previous error during capture"), "during capture"),
    ],
)
def test_graphs_that_fail_are_given_back_and_the_step_is_done_without(
    tmp_path: Path, graphs: Graphs, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str, at: int
) -> None:
    """With the weights that the run has without graphs: at the same micro-batch, and nothing of the failed try."""
    order: list[str] = []

    def fails(call: int, held: list[str]) -> None:
        if call == at:
            raise error

    def reset() -> None:
        graphs.held.clear()
        order.append("reset")

    graphs.fails = fails
    monkeypatch.setattr(torch.compiler, "reset", reset)
    release = step.release_graphs
    monkeypatch.setattr(step, "release_graphs", lambda device: (order.append("release"), release(device)))
    run = train_one(tmp_path, MLP, *STEPS, "train.compile=graphs", name="failed")
    assert run.status().state == "finished", run.log_path.read_text()
    # Made; given back, the pools with the compiler's state; made anew without graphs.
    assert order == ["reset", "release", "reset", "reset"]
    assert graphs.held == []
    assert graphs.calls[at:] == ["plain"] * (13 - at)
    (line,) = [line for line in run.log_path.read_text().splitlines() if "CUDA graphs failed" in line]
    assert f"step {at - 1}: CUDA graphs failed: " in line
    assert says in line
    assert "hint" not in line
    assert line.endswith("the run goes on without them, slower")
    assert run.source["compiled"] is True
    assert "numerics" not in run.source
    monkeypatch.undo()
    straight = train_one(tmp_path, MLP, *STEPS, name="straight")
    assert run.history("train/loss")[1].tolist() == straight.history("train/loss")[1].tolist()


def test_a_batch_that_does_not_fit_is_found_before_any_graph(tmp_path: Path, graphs: Graphs) -> None:
    def fails(call: int, held: list[str]) -> None:
        if call == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    graphs.fails = fails
    run = train_one(tmp_path, MLP, *STEPS, "train.compile=graphs")
    assert "micro-batches of 32 from here on" in run.log_path.read_text()
    # Parts of a batch add up: without graphs.
    assert graphs.calls == ["plain"] * (1 + 2 * 12)


def test_memory_of_graphs_is_returned_after_the_compiler_was_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: order.append("reset"))
    monkeypatch.setattr(step, "gc", SimpleNamespace(collect=lambda: order.append("collect")))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: order.append("empty"))
    step.release_graphs(torch.device("cuda"))
    assert order == ["reset", "collect", "empty"]


def raised_in(module: str, error: Exception) -> Exception:
    """`error` with the traceback of a function of `module`."""
    scope: dict[str, Any] = {"__name__": module, "error": error}
    exec("def build():\n    raise error", scope)
    try:
        scope["build"]()
    except Exception as found:
        return found
    raise AssertionError


def test_what_triton_cannot_build_is_recognised() -> None:
    """Its launcher needs a C compiler and Python's header files, and is built at the first launch."""
    import subprocess

    missing = "Failed to find C compiler. Please specify via CC environment variable"
    header = subprocess.CalledProcessError(1, ["gcc", "cuda_utils.c"])
    assert step.compile_failed(raised_in("triton.runtime.build", RuntimeError(missing)))
    assert step.compile_failed(raised_in("triton.runtime.build", header))
    assert step.compile_failed(raised_in("triton.compiler.compiler", RuntimeError("ptxas")))
    assert not step.compile_failed(raised_in("triton.runtime.driver", RuntimeError("an illegal memory access")))
    assert not step.compile_failed(raised_in("lsc_engine.heads.lsc", RuntimeError(missing)))


def test_short_runs_gain_less_than_compiling_takes() -> None:
    digits, vit = 32 * 2 * 10**6, 512 * 9 * 10**9
    # The demo; a day of ViT-S/16 at 224 px, and its first 500 steps.
    assert not step.worth_compiling(digits, 2_800)
    assert step.worth_compiling(digits, 100_000)
    assert step.worth_compiling(vit, 200_000)
    assert not step.worth_compiling(vit, 500)


@pytest.mark.parametrize("idle", [True, False])
def test_graphs_are_taken_where_the_device_waits_for_the_host(
    tmp_path: Path, graphs: Graphs, monkeypatch: pytest.MonkeyPatch, idle: bool
) -> None:
    monkeypatch.setattr(trainer.Trainer, "_why_eager", lambda _: None)
    monkeypatch.setattr(step, "device_idle", lambda _: idle)
    monkeypatch.setattr(step, "worth_compiling", lambda _operations, steps: steps >= 8)
    monkeypatch.setattr(step.HostWatch, "STEPS", 4)
    run = train_one(tmp_path, MLP, *STEPS)
    log = run.log_path.read_text()
    if not idle:
        assert graphs.calls == ["plain"] * 12
        assert "waits for the host" not in log
        return
    # The first step compiles, four are watched; the first with the new loss is without graphs again.
    assert graphs.calls == ["plain"] * 5 + ["graphs"] * 7
    assert log.count("step 4: the GPU waits for the host: CUDA graphs from here on") == 1
    assert seconds(run) == [0, 1, 2, 3, 3, 3, 3, 4, 5, 6, 7, 8]


def test_graphs_that_were_taken_and_fail_are_left_for_good(
    tmp_path: Path, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(call: int, held: list[str]) -> None:
        if held:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    graphs.fails = fails
    monkeypatch.setattr(torch.compiler, "reset", graphs.held.clear)
    monkeypatch.setattr(trainer.Trainer, "_why_eager", lambda _: None)
    monkeypatch.setattr(step, "device_idle", lambda _: True)
    monkeypatch.setattr(step, "worth_compiling", lambda _operations, _steps: True)
    monkeypatch.setattr(step.HostWatch, "STEPS", 3)
    run = train_one(tmp_path, MLP, *STEPS)
    assert run.status().state == "finished"
    assert graphs.calls == ["plain"] * 4 + ["graphs"] + ["plain"] * 8
    assert run.log_path.read_text().count("the run goes on without them, slower") == 1
    monkeypatch.undo()
    straight = train_one(tmp_path, MLP, *STEPS, name="straight")
    assert run.history("train/loss")[1].tolist() == straight.history("train/loss")[1].tolist()
