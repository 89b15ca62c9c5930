"""Every run of a process is compiled, as one graph, whatever ran before; what is not is logged and recorded.

torch's own tracer, with the backend that runs a graph as it is: what a graph is turned into is not the matter here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from lsc_engine.models.build import build_model
from lsc_engine.training import evaluator, step, trainer
from lsc_engine.training.context import RunContext
from lsc_engine.training.mesh import ALONE, Mesh

from .stages import BASE, train_one

pytestmark = pytest.mark.slow

SHORT = ('train.duration="3 steps"', "eval.images=64", 'train.compile="on"')
MLP = BASE.replace('name = "encoder"\nwidth = 0.1', 'name = "mlp"\nwidth = 0.1')
# A call of what torch.compile has made, in a profile.
GRAPH_CALL = re.compile(r"Torch-Compiled Region|CompiledFunctionBackward$")


@pytest.fixture(autouse=True)
def _plain_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "BACKEND", "eager")


def facts(run: Any) -> tuple[Any, Any, Any]:
    return tuple(run.source.get(key) for key in ("compiled", "graphs", "eager"))  # type: ignore[return-value]


def test_more_networks_of_other_widths_than_torch_keeps_are_compiled_in_one_process(tmp_path: Path) -> None:
    """torch keeps 8 graphs of one function by itself, and trains the others without a word."""
    for number in range(12):
        run = train_one(tmp_path, MLP, *SHORT, f"model.width={0.05 + 0.01 * number}", name=f"n{number}")
        assert run.status().state == "finished"
        assert facts(run) == (True, 1, None), number


def test_a_step_of_cuda_graphs_is_three_of_them_and_a_handful_of_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the host starts at each step: forward pass, backward pass and optimizer, and a few kernels beside them."""
    monkeypatch.setattr(step, "GRAPH_DEVICES", ("cpu",))
    train_step, profiles = trainer.Trainer.train_step, list[Any]()

    def profiled(self: trainer.Trainer, batch: Any) -> torch.Tensor:
        if self.step < step.CudaGraphLoss.UNTIL_REPLAYED:
            return train_step(self, batch)
        with profile(activities=[ProfilerActivity.CPU]) as found:
            loss = train_step(self, batch)
        profiles.append(found)
        return loss

    monkeypatch.setattr(trainer.Trainer, "train_step", profiled)
    train_one(tmp_path, BASE, 'train.duration="6 steps"', "eval.images=64", "train.compile=graphs")
    assert len(profiles) == 3
    for found in profiles:
        graphs, kernels = [], []
        for event in found.events():
            parents = [event]
            while parents[-1].cpu_parent is not None:
                parents.append(parents[-1].cpu_parent)
            of_graph = [parent.name for parent in parents if GRAPH_CALL.match(parent.name)]
            if event.name in of_graph:
                graphs.append(event.name)
            elif event.name.startswith("aten::") and not of_graph and not event.cpu_children:
                kernels.append(event.name)
        assert len(graphs) == 3
        assert len(kernels) <= 8


def test_a_run_with_more_graphs_than_are_kept_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself torch would train it eager from the next graph on, without a word."""

    def changing(*given: Any, **settings: Any) -> torch.nn.Module:
        """A network with another graph at every call."""
        network: Any = build_model(*given, **settings)
        plain, network.calls = network.forward, 0

        def forward(images: torch.Tensor) -> torch.Tensor:
            network.calls += 1
            z: torch.Tensor = plain(images) * network.calls
            return z

        network.forward = forward
        made: torch.nn.Module = network
        return made

    monkeypatch.setattr(trainer, "build_model", changing)
    monkeypatch.setattr(step, "MOST_GRAPHS", 1)
    run = train_one(tmp_path, MLP, *SHORT)
    assert run.status().state == "finished"
    compiled, graphs, why = facts(run)
    assert (compiled, graphs) == (False, 1)
    assert why.startswith("torch.compile failed: ")
    assert "recompile_limit" in why
    assert "the run goes on without it" in run.log_path.read_text()


def test_losses_and_rates_of_a_sweep_are_compiled_each(tmp_path: Path) -> None:
    for number, lr in enumerate(("1e-2", ".003", "1e-3", "3e-4", "1e-4", "3e-5", "1e-5", "3e-6", "1e-6")):
        loss = ("cosine", "distance", "cosine+distance")[number % 3]
        run = train_one(tmp_path, MLP, *SHORT, f"optimizer.lr={lr}", f"target.loss={loss}", name=f"r{number}")
        assert facts(run) == (True, 1, None), number


def test_evaluations_are_one_graph_whatever_their_number_and_find_what_eager_ones_do(tmp_path: Path) -> None:
    """Of 512, 512 and 76 images: the last batch is filled up."""
    sets = ('train.duration="4 steps"', 'eval.every="1 steps"', "eval.images=1100")
    runs = [train_one(tmp_path, BASE, *sets, f'train.compile="{how}"', name=how) for how in ("on", "off")]
    assert [run.source.get("evaluation_graphs") for run in runs] == [1, None]
    assert facts(runs[0]) == (True, 1, None)
    for name in ("train/accuracy", "train/loss_eval", "train/inside", "val/accuracy", "val/loss"):
        compiled, eager = (run.history(name)[1] for run in runs)
        assert len(compiled) == 4
        np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-6, err_msg=name)


def test_evaluations_take_more_images_at_a_time_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one GPU at most as many as there are; several processes deal out small batches."""
    found: dict[str, list[int]] = {}

    def looked(run: RunContext, *given: Any) -> evaluator.Evaluator:
        for kind, mesh in (("cpu", ALONE), ("cuda", ALONE), ("cuda", Mesh(0, 2))):
            for images in (64, 1100, 10_000):
                derived = replace(run.derived, eval_images=images)
                other = replace(run, device=torch.device(kind), mesh=mesh, derived=derived)
                found.setdefault(f"{kind} {mesh.size}", []).append(evaluator.Evaluator(other, *given).batch_size)
        return evaluator.Evaluator(run, *given)

    monkeypatch.setattr(trainer, "Evaluator", looked)
    train_one(tmp_path, MLP, *SHORT)
    assert found == {"cpu 1": [512] * 3, "cuda 1": [512, 1100, 4096], "cuda 2": [512] * 3}


def test_an_evaluation_that_cannot_be_compiled_goes_on_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(images: torch.Tensor) -> torch.Tensor:
        raise torch._dynamo.exc.TorchDynamoException("no")

    monkeypatch.setattr(evaluator, "make_embedding", lambda *_: refuse)
    run = train_one(tmp_path, MLP, *SHORT)
    assert run.status().state == "finished"
    assert "evaluation after step 3: torch.compile failed: no; it goes on" in run.log_path.read_text()
    assert facts(run) == (True, 1, None)
    assert "train/accuracy" in run.last()


@pytest.mark.parametrize(
    "sets",
    [
        ("target.system=A-interp", "target.loss=distance"),
        ("target.system=A-helmert", "target.order=sequential"),
        ("target.system=V21pm", "target.loss=cosine+distance"),
        ("target.system=planar", "model.dim=2", "target.loss=distance"),
        ("target.system=simplex", "model.dim=9"),
        ("target.system=W4", "data.labels=unique", "model.dim=6"),
        ("target.system=V31", "target.within=kld", "model.dim=5"),
        ("target.system=V21", "target.within=gaussian", "data.augment=light1"),
        ("target.method=ce", "target.bottleneck=5"),
        ("target.method=ce", "model.dim=12", "model.etf_layers=1"),
        ("target.method=ssl",),
        ("model.name=timm:vit_tiny_patch16_224", "model.args.depth=2", "train.precision=bf16"),
    ],
    ids=" ".join,
)
def test_every_head_is_one_graph(tmp_path: Path, sets: tuple[str, ...]) -> None:
    run = train_one(tmp_path, BASE, *SHORT, *sets, "train.batch_size=16")
    assert facts(run) == (True, 1, None), run.status().message


def test_a_table_of_vectors_is_one_graph(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32))
    run = train_one(tmp_path, BASE, *SHORT, f"target.system=file:{tmp_path}/rows.npy")
    assert facts(run) == (True, 1, None)


def test_what_is_not_to_be_compiled_says_so(tmp_path: Path) -> None:
    assert facts(train_one(tmp_path, MLP, 'train.duration="2 steps"', name="a")) == (
        False, 0, 'train.compile = "auto" on cpu'
    )  # fmt: skip
    off = train_one(tmp_path, MLP, 'train.duration="2 steps"', "train.compile=off", name="b")
    assert facts(off) == (False, 0, 'train.compile = "off"')


def test_a_step_that_cannot_be_compiled_is_trained_without_and_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        raise FileNotFoundError("no compiler here\nand a long trace")

    plain = train_one(tmp_path, MLP, *SHORT, "train.compile=off", name="plain")
    monkeypatch.setattr(step, "BACKEND", broken)
    run = train_one(tmp_path, MLP, *SHORT, name="broken")
    assert run.status().state == "finished"
    compiled, graphs, why = facts(run)
    assert (compiled, graphs) == (False, 0)
    assert why.startswith("torch.compile failed: ")
    assert "no compiler here" in why
    assert "\n" not in why
    assert "the run goes on without it" in run.log_path.read_text()
    assert run.history("train/loss")[1].tolist() == plain.history("train/loss")[1].tolist()


def test_layers_that_are_fixed_later_and_cannot_be_compiled_end_the_compiling_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first graph is made; that of the network with fixed layers is not."""
    seen: list[int] = []

    def tired(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        seen.append(1)
        if len(seen) > 1:
            raise RuntimeError("the compiler went away")
        return graph.forward

    monkeypatch.setattr(step, "BACKEND", tired)
    adaptive = (
        MLP.replace("dim = 4", 'args = { layers = 3, class_layer = true }\netf_layers = "adaptive"')
        .replace('method = "lsc"\nsystem = "V21"', 'method = "ce"')
        .replace("lr = 3e-3", 'name = "sgd"\nlr = 3e-2')
    )
    sets = ("model.etf_threshold=.2", "model.etf_patience=1", 'train.duration="4 epochs"', "train.compile=on")
    run = train_one(tmp_path, adaptive, *sets)
    assert run.status().state == "finished"
    assert "fixed to a simplex ETF from here on" in run.log_path.read_text()
    compiled, graphs, why = facts(run)
    assert (compiled, graphs) == (False, 1)
    assert "the compiler went away" in why
    (change,) = run.source["numerics"]
    assert change["why"] == "compiled up to here"
    assert change["step"] > 0


# torch's own, of a tensor that goes from one graph into the next.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_code_that_is_not_ours_may_be_several_graphs_and_their_number_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of a plugin that goes back to Python in between cannot be one graph."""
    from lsc_engine import plugins
    from lsc_engine.registry import LOSSES

    plugin = tmp_path / "halting.py"
    plugin.write_text(
        "import torch\nfrom lsc_engine.plugins import register\n\n"
        "def made(system):\n"
        "    def loss(z, index):\n"
        "        cosine = system.cosine(z, index)\n"
        "        torch._dynamo.graph_break()\n"
        "        return 1 - cosine\n"
        "    return loss\n\n"
        'register("losses", "halting", made)\n'
    )
    monkeypatch.setattr(LOSSES, "factories", {})
    plugins.load_plugins([plugin])
    run = train_one(tmp_path, MLP, *SHORT, "target.loss=halting")
    assert run.status().state == "finished", run.status().message
    compiled, graphs, why = facts(run)
    assert compiled is True, (graphs, why)
    assert graphs >= 2
    assert why is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("compiler", ["/bin/false", "g++"])
def test_the_command_trains_with_and_without_a_compiler(tmp_path: Path, compiler: str) -> None:
    """A real process, torch's own backend and the compiler of $CXX."""
    (tmp_path / "t.toml").write_text(MLP)
    words = ["run", "t.toml", "--set", "train.compile=on", "--set", "train.duration=3 steps", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "lsc_engine", *words], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "CXX": compiler, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
             "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    from lsc_engine.runs.read.run import open_run

    compiled, graphs, why = facts(open_run("t/default/seed-0", [tmp_path / "runs"]))
    if compiler == "g++":
        assert (compiled, graphs, why) == (True, 1, None)
    else:
        assert (compiled, graphs) == (False, 0)
        assert "C++ compiler" in why
        assert "the run goes on without it" in done.stderr
