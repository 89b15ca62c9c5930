"""The Triton kernels without a GPU: their numbers by Triton's interpreter, their launches, their code for Hopper."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from lsc_engine.common import deferred
from lsc_engine.data.datasets import spectrum
from lsc_engine.heads import scan
from lsc_engine.heads.decode import predict_nearest
from lsc_engine.registry import SYSTEMS
from lsc_engine.vectors import bijection, n_min, system
from lsc_engine.vectors.order import Order

triton = pytest.importorskip("triton")
HERE = Path(__file__).parent
NO_KERNEL = (torch.ops.aten.empty, torch.ops.aten.empty_like, torch.ops.prim.device)


class Launches(TorchDispatchMode):
    """Counts operations that start a kernel on a GPU: neither views nor memory alone. What the host reads of the device
    is given: `missing` rows that `nonzero` finds, weights that are all known."""

    def __init__(self, missing: int = 0) -> None:
        super().__init__()
        self.count, self.missing = 0, missing

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not (func.is_view or func.overloadpacket in NO_KERNEL)
        if func is torch.ops.aten.nonzero.default:
            return torch.empty((self.missing, 1), dtype=torch.int64, device="cuda")
        if func is torch.ops.aten._local_scalar_dense.default:
            return False
        return func(*args, **(kwargs or {}))


def launches(work: Callable[[], Any], missing: int = 0) -> int:
    """Kernels that `work` starts the second time, when tables and row numbers are on the device."""
    with Launches(missing):
        work()
    STARTED.clear()
    with Launches(missing) as counted:
        work()
    return counted.count + len(STARTED)


STARTED: list[Any] = []


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CUDA tensors without values, and Triton kernels that are only counted."""
    for module in (bijection, spectrum, scan):
        monkeypatch.setattr(module, "triton_kernels", importlib.import_module)
    monkeypatch.setattr(torch.cuda, "device_of", lambda _: nullcontext())
    kernel = triton.runtime.jit.KernelInterface
    monkeypatch.setattr(kernel, "__getitem__", lambda self, _: lambda *_args, **_sizes: STARTED.append(self))
    spectrum._circle.cache_clear()
    with FakeTensorMode():
        yield
    spectrum._circle.cache_clear()


def test_a_bijection_is_one_launch(on_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, order = torch.empty(512, dtype=torch.int64, device="cuda"), bijection.Bijection(1_281_167, 0, "order")
    assert launches(lambda: order(labels)) == launches(lambda: order.inverse(labels)) == 1
    # Torch's own operations, where Triton is missing.
    monkeypatch.setattr(bijection, "triton_kernels", lambda _: None)
    assert launches(lambda: order(labels)) > 300


@pytest.mark.parametrize("per_class", [None, 13])
def test_a_batch_of_spectrum_is_few_launches(
    on_cuda: None, monkeypatch: pytest.MonkeyPatch, per_class: int | None
) -> None:
    shape: Any = {"per_class": per_class, "split": "train", "size": 64, "device": torch.device("cuda")}
    source = spectrum.SpectrumSource(classes=1_281_167, **shape)
    index = torch.empty(512, dtype=torch.int64, device="cuda")
    assert launches(lambda: source.fetch(index)) == 3 + (per_class is not None)
    monkeypatch.setattr(spectrum, "triton_kernels", lambda _: None)
    assert launches(lambda: source.fetch(index)) > 60


def test_vectors_that_are_kept_are_compared_in_few_launches(on_cuda: None) -> None:
    """512 embeddings against 1.28 million classes of a system whose vectors have no zeros."""
    vectors = system("rademacher", 21)
    search = scan.Scan(vectors, Order.make("shuffled", vectors, 0), 1_281_167)
    z = torch.empty(512, 21, device="cuda")
    search._kept[z.device] = list(torch.empty((1_281_167, 21), device="cuda").split(scan.SCORES_AT_ONCE["cuda"] // 21))
    assert launches(lambda: search(z)) <= 50


# Codes are decoded by a transform for each coset; random systems have no structure; a simplex has a dimension a class.
NOT_BY_STRUCTURE = {"bch", "hadamard", "kerdock", "gaussian", "rademacher", "simplex"}
LISTED = {name for each in SYSTEMS.built_in.values() for name in each.listed}
CLASSES = 1_281_167


@pytest.mark.parametrize("name", sorted(LISTED - NOT_BY_STRUCTURE))
def test_a_label_is_few_launches_with_and_without_rows_that_lack_a_class(
    name: str, request: pytest.FixtureRequest
) -> None:
    """512 embeddings among 1.28 million classes in the smallest n. Of embeddings of any direction the share of unused
    vectors lies nearest to one without a class; to those of a trained network fewer do."""
    n = n_min(name, classes=CLASSES)
    vectors = system(name, n)
    unused = math.ceil(512 * (1 - CLASSES / vectors.count))
    some = torch.randint(vectors.count, (20_000,), generator=torch.Generator().manual_seed(0))
    weights = len(vectors.coordinates(some)[1].unique())
    assert weights <= scan.MOST_WEIGHTS
    vectors._constants.clear()
    request.getfixturevalue("on_cuda")
    z, search = torch.empty(512, n, device="cuda"), scan.Scan(vectors, Order.make("shuffled", vectors, 0), CLASSES)
    # Those that a scan finds in the vectors.
    search._weights = torch.empty(weights)
    for missing in (0, 1, unused):
        assert launches(lambda: predict_nearest(z, search), missing) <= 50
    assert search._kept


@pytest.mark.parametrize(("name", "n", "classes"), [("V21", 29, 10_000), ("A-interp", 70, 100_000), ("bch", 64, 2**16)])
def test_a_label_among_few_classes_is_one_product(on_cuda: None, name: str, n: int, classes: int) -> None:
    vectors = system(name, n)
    search = scan.Scan(vectors, Order.make("shuffled", vectors, 0), classes)
    z = torch.empty(256, n, device="cuda")
    assert launches(lambda: predict_nearest(z, search)) <= 3


def run(code: list[str], **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *code], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONWARNINGS": "ignore", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_kernels_give_the_numbers_of_the_host() -> None:
    found = json.loads(run([str(HERE / "kernels.py")], TRITON_INTERPRET="1"))
    assert found["bijection"] == found["scan"] == []
    assert len(found["spectrum"]) == 3
    for size, (waves, grey, share) in found["spectrum"].items():
        assert waves <= 1e-6, size
        assert grey <= 1, size
        assert share <= 1e-3, size


@pytest.mark.slow
def test_the_kernels_build_for_hopper(tmp_path: Path) -> None:
    """Down to machine code, by the assembler that Triton brings."""
    code = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lsc_engine.data import triton_spectrum as spectrum
from lsc_engine.heads import triton_scan as scan
from lsc_engine.vectors import triton_bijection as bijection

def build(kernel, **given):
    types = {name: value if isinstance(value, str) else "constexpr" for name, value in given.items()}
    fixed = {name: value for name, value in given.items() if not isinstance(value, str)}
    made = triton.compile(ASTSource(fn=kernel, signature=types, constexprs=fixed), target=GPUTarget("cuda", 90, 32))
    assert len(made.asm["cubin"]) > 1000

ints = dict.fromkeys(("x_at", "keys_at", "out_at"), "*i64")
build(bijection._kernel, **ints, size="i32", ROUNDS=32, BLOCK=1024)
tables = {"numbers_at": "*i32", "rows_at": "*fp32", "value_at": "*fp32", "label_at": "*i64"}
sizes = {"EACH": 3, "SHARE": 4096, "CLASSES": 32, "ROWS": 64}
build(scan._kernel, **tables, classes="i32", count="i32", **sizes)
keys = {"style_key": "i64", "phase_key": "i64"}
places = {"label_at": "*i64", "index_at": "*i64", "circle_at": "*fp32", "out_at": "*fp32"}
build(spectrum._waves, **places, **keys, SIZE=32, BLOCK=1024)
build(spectrum._colours, label_at="*i64", planes_at="*fp32", out_at="*u8", style_key="i64", PIXELS=1024, BLOCK=1024)
"""
    run(["-c", code], TRITON_CACHE_DIR=str(tmp_path))


def test_without_kernels_that_run_torch_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has Triton and no GPU, or not even Triton."""
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert deferred.triton_kernels("lsc_engine.vectors.triton_bijection") is None
    assert deferred.triton_kernels("lsc_engine.data.triton_spectrum") is None
