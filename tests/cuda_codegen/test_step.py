"""The CUDA code of training steps, generated without a GPU: graphs, kernels and bytes of a step.

Counts are facts of the generated code; what it computes, and how fast, only a GPU shows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
COMPILER = shutil.which("gcc") or shutil.which("cc")
TRITON = find_spec("triton")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(TRITON is None, reason="needs triton"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"),
    pytest.mark.skipif(torch.version.cuda is None, reason="needs torch with CUDA"),
]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library in the place of the CUDA runtime and driver."""
    assert TRITON is not None
    assert TRITON.origin is not None
    headers = Path(TRITON.origin).parent / "backends/nvidia/include"
    library = tmp_path_factory.mktemp("cudart") / "libcuda.so.1"
    words = ["-shared", "-fPIC", f"-Wl,-soname,{library.name}", f"-I{headers}", HERE / "cudart.c", "-o", library]
    subprocess.run([str(COMPILER), *map(str, words)], check=True)
    return library


def generate(runtime: Path, *cases: dict[str, Any]) -> list[dict[str, Any]]:
    """What `generate.train` returns for each of `cases`, trained one after another in one process."""
    environment = {
        **os.environ,
        "LD_PRELOAD": str(runtime),
        "PYTHONPATH": str(HERE.parents[1]),
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, HERE / "generate.py", *map(json.dumps, cases)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any], recorded: bool = False) -> None:
    """One graph forward and one backward for all steps whatever their rate; where CUDA graphs are `recorded`, of the
    steps after the first, which has its own, with the optimizer as a third."""
    assert found["graphs"] == 1 + 2 * recorded
    assert found["breaks"] == 0
    assert found["skips"] == 0
    assert found["kinds"] == ["forward", "backward"] * (1 + recorded) + ["inference"] * recorded
    # Nothing is left out of a CUDA graph: the generated function is one part.
    assert found["parts"] == [0, 0] + [1, 1, 1] * recorded


def test_a_small_step_is_one_graph_at_every_rate_and_may_be_a_cuda_graph(runtime: Path) -> None:
    (found,) = generate(runtime, {"width": 0.1, "graphs": True})
    check(found, recorded=True)
    assert sum(found["launches"].values()) <= 48
    assert found["bytes"] <= 14e3
    # Of 18 parameters.
    assert found["optimizer_launches"] == {"triton": 3}


def test_a_number_on_the_host_keeps_a_step_out_of_cuda_graphs(runtime: Path) -> None:
    """The counts that `check` looks at are not 0 by themselves."""
    (found,) = generate(runtime, {"width": 0.1, "graphs": True, "on_host": True})
    assert found["skips"] > 0
    with pytest.raises(AssertionError):
        check(found, recorded=True)


def test_a_deterministic_step_adds_in_one_order(runtime: Path) -> None:
    """Vectors of W4 name a column more than once, and their gradients are added up there by all threads at once."""
    usual, deterministic = generate(runtime, {"method": "W4"}, {"method": "W4", "deterministic": True})
    check(usual)
    check(deterministic)
    assert (usual["atomic"], deterministic["atomic"]) == (1, 0)


@pytest.mark.slow
def test_the_encoder_may_be_cuda_graphs(runtime: Path) -> None:
    case = {"model": "encoder", "size": 8, "batch": 32, "dim": 64, "width": 0.25, "graphs": True}
    (found,) = generate(runtime, case)
    check(found, recorded=True)


@pytest.mark.slow
def test_a_dozen_networks_of_one_process_are_all_compiled(runtime: Path) -> None:
    """torch keeps 8 graphs of one function by itself, and trains the others without a word."""
    for found in generate(runtime, *({"width": 0.05, "dim": 6 + n} for n in range(12))):
        check(found)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["V21", "ce"])
def test_kernels_and_bytes_of_the_encoder(runtime: Path, method: str) -> None:
    case = {"model": "encoder", "size": 32, "batch": 1024, "dim": 64, "method": method}
    (found,) = generate(runtime, case)
    check(found)
    assert found["launches"]["extern_kernels.convolution"] == 8
    assert sum(found["launches"].values()) <= 148
    assert found["bytes"] <= 9.4e6


@pytest.mark.slow
@pytest.mark.parametrize("method", ["V21", "ce"])
def test_kernels_and_bytes_of_vit_s(runtime: Path, method: str) -> None:
    (found,) = generate(runtime, {"model": "vit-s", "size": 224, "batch": 512, "dim": 64, "method": method})
    check(found)
    assert found["launches"]["torch.ops.aten._scaled_dot_product_cudnn_attention.default"] == 12
    assert sum(found["launches"].values()) <= 556
    assert found["bytes"] <= 244e6


@pytest.mark.slow
def test_a_residual_stream_in_bf16_moves_fewer_bytes(runtime: Path) -> None:
    (found,) = generate(runtime, {"model": "vit-s", "size": 224, "batch": 512, "dim": 64, "residual": "bf16"})
    check(found)
    assert sum(found["launches"].values()) <= 525
    assert found["bytes"] <= 208e6
