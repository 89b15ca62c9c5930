"""Signals while torch.compile is at work with a real C++ compiler, and a compiler that fails."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lsc_engine.training.step import CompileFailedError, MicroBatches, compile_failed

from .harness import PHASES, PRESET, Process, begun, good, outcome, place, run_of, train, until

COMPILED = PRESET.replace('name = "encoder"\nwidth = 0.05', 'name = "mlp"\ndim = "min"').replace(
    "[train]", '[train]\ncompile = "on"'
)

GCC = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is compiled once for all tests: the first of them finds it empty."""
    return tmp_path_factory.mktemp("cache")


def compile_in(folder: Path, cache: Path, setup: str = "") -> Process:
    """The run, with what it compiles kept in `cache`."""
    return train(folder, env={"TORCHINDUCTOR_CACHE_DIR": str(cache)}, setup=setup)


def compiling(group: int) -> bool:
    """Is a C++ compiler at work in this group of processes?"""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text()
            except OSError:
                continue
            name, rest = fields[fields.index("(") + 1 :].rsplit(")", 1)
            if name == "cc1plus" and int(rest.split()[2]) == group:
                return True
    return False


@pytest.mark.slow
@GCC
def test_a_stop_while_compiling_waits_for_the_step_and_saves_it(cache: Path, tmp_path: Path) -> None:
    """And a Ctrl-C of the terminal, which reaches the compiler as well, is a stop and no failure."""
    stopped, broken, straight = (place(tmp_path / name, COMPILED) for name in ("stopped", "broken", "straight"))
    process = compile_in(stopped, cache)
    until(lambda: compiling(process.pid))
    process.send(signal.SIGTERM)
    assert process.wait() == 143, process.log.read_text()
    status = run_of(stopped).status()
    assert (status.state, status.exit_code, status.step) == ("stopped", 143, 1)
    assert good(stopped).step == 1

    # Which vector instructions there are is found out, by the compiler too, before the training begins.
    setup = PHASES + "from torch._inductor.cpu_vec_isa import pick_vec_isa\npick_vec_isa()\n"
    process = compile_in(broken, tmp_path / "empty", setup)
    until(lambda: begun(broken, "t") and compiling(process.pid))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130, process.log.read_text()
    status = run_of(broken).status()
    assert (status.state, status.exit_code, status.step) == ("stopped", 130, 0)
    assert status.message == "stopped while compiling; there is no checkpoint yet"

    # All three end alike; what the first compiled serves them.
    outcomes = []
    for folder in (straight, stopped, broken):
        process = compile_in(folder, cache)
        assert process.wait() == 0, process.log.read_text()
        outcomes.append(outcome(folder))
    assert outcomes[1] == outcomes[0]
    assert outcomes[2] == outcomes[0]


@pytest.mark.slow
@GCC
def test_a_compiler_that_is_not_there_ends_the_compiling_only(tmp_path: Path) -> None:
    folder = place(tmp_path / "t", COMPILED)
    setup = 'import torch._inductor.config as c\nc.cpp.cxx = ("/nonexistent/g++",)\n'
    process = compile_in(folder, tmp_path / "cache", setup)
    assert process.wait() == 0, process.log.read_text()
    run = run_of(folder)
    assert run.status().state == "finished"
    assert run.source["compiled"] is False
    assert "C++ compiler" in run.source["eager"]
    assert "the run goes on without it" in run.log_path.read_text()


def test_a_step_that_cannot_be_compiled_leaves_all_as_it_was() -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        raise RuntimeError("no such compiler\nand more")

    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    loss = torch.compile(lambda images, target: (model(images) - target).square().mean(), backend=broken)
    micro = MicroBatches(model, 8, torch.device("cpu"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CompileFailedError, match="no such compiler") as caught:
        micro.backward(loss, torch.randn(8, 4), torch.randn(8, 3))
    assert "\n" not in str(caught.value)
    assert str(caught.value) == "torch.compile failed: RuntimeError: no such compiler"
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not compile_failed(RuntimeError("shape mismatch"))
