"""Inductor's CUDA code of training steps on a machine without a GPU: `python generate.py CASE …`, JSON on stdout.

Runs with the library of cudart.c preloaded. Tensors are torch's FakeTensors on `cuda`, so model, head, autograd,
optimizer and torch.compile take the paths of a GPU. The generated source is kept, and instead of its kernels a function
runs that makes tensors of the right shapes.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections import Counter
from typing import Any

import torch
import triton
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor import compile_fx, config, decomposition, graph, ir
from torch._inductor.fx_passes import joint_graph
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget

from lsc_engine.config.schema import Model
from lsc_engine.heads.base import Head
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.lsc import LscHead
from lsc_engine.models.build import build_model
from lsc_engine.training import step
from lsc_engine.vectors import system
from lsc_engine.vectors.order import Order

# What starts kernels in a generated function: a Triton kernel, a product or convolution, another operation of torch.
LAUNCH = re.compile(r"^\s+(?:.* = )?(?:(\w+)\.run\(|(extern_kernels\.\w+)\(|(torch\.ops\.(?!inductor)[\w.]+)\()", re.M)
CUDA = torch.device("cuda")


class Driver:
    """What Triton wants to know of an H100."""

    class utils:
        @staticmethod
        def get_device_properties(_device: int) -> dict[str, int]:
            return {"max_shared_mem": 232448, "multiprocessor_count": 132, "warpSize": 32, "max_num_regs": 65536}

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        return CUDA

    def get_device_interface(self) -> Any:
        return torch.cuda

    def get_current_device(self) -> int:
        return 0


def pretend() -> list[dict[str, Any]]:
    """From here on torch generates code for a GPU; returns what is generated, a growing list: the kind of each graph,
    launches by kernel, bytes read and written, parts that one CUDA graph captures, and the source."""
    made: list[dict[str, Any]] = []

    def keep(lowering: graph.GraphLowering) -> types.ModuleType:
        """In the place of GraphLowering.compile_to_module."""
        source = lowering.codegen()[0].value
        kind = "backward" if lowering.is_backward else "inference" if lowering.is_inference else "forward"
        launches = Counter("triton" if found[0] else found[1] or found[2] for found in LAUNCH.findall(source))
        parts = source.count("def partition_")
        bytes_moved = lowering.count_bytes()[0]
        made.append({"kind": kind, "launches": launches, "bytes": bytes_moved, "parts": parts, "source": source})
        outputs = [_shape(each) for each in lowering.graph_outputs]

        def call(args: list[Any]) -> tuple[Any, ...]:
            args.clear()
            return tuple(None if shape is None else torch.empty_strided(**shape) for shape in outputs)

        module = types.ModuleType("generated")
        module.__file__ = module.__path__ = __file__  # type: ignore[assignment]
        module.call = call  # type: ignore[attr-defined]
        module.runner = types.SimpleNamespace(partitions=[], recursively_apply_fns=lambda _: None)  # type: ignore[attr-defined]
        lowering.cache_key, lowering.cache_path, lowering.cache_linemap = "generated", __file__, []
        return module

    graph.GraphLowering.compile_to_module = keep  # type: ignore[assignment,method-assign]
    compile_fx.cudagraphify = lambda model, **_: model  # type: ignore[assignment]
    triton.runtime.driver.set_active(Driver())
    # Patterns found by tracing, padding chosen by timing, and constants computed, all on the device.
    joint_graph.lazy_init = lambda *_: None
    config.shape_padding = config.joint_graph_constant_folding = config.triton.autotune_at_compile_time = False
    config.compile_threads, config.fx_graph_cache = 1, False
    torch._functorch.config.enable_autograd_cache = False
    # torch.tensor makes numbers on the host first, also for a device of FakeTensors, and so do decompositions.
    torch._C._set_only_lift_cpu_tensors(True)
    decomposition.torch = types.SimpleNamespace(**{**vars(torch), "tensor": _tensor})  # type: ignore[attr-defined]
    return made


def _tensor(data: Any, **how: Any) -> Tensor:
    return torch.full((), data, **how) if "device" in how else torch.tensor(data, **how)


def _shape(output: ir.IRNode) -> dict[str, Any] | None:
    if isinstance(output, ir.NoneAsConstantBuffer):
        return None
    size, stride = ([int(number) for number in each] for each in (output.get_size(), output.get_stride()))
    return {"size": size, "stride": stride, "dtype": output.get_dtype(), "device": output.get_device()}


def on_device(module: nn.Module) -> nn.Module:
    """`module` with parameters and buffers on the device, without values."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    bare = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=CUDA)
                    held[name] = nn.Parameter(bare) if isinstance(tensor, nn.Parameter) else bare
    return module


class Scaled(nn.Module):
    """Embeddings times numbers on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(16))

    def forward(self, z: Tensor) -> Tensor:
        return z * self.scale.to(z.device)


def make_head(method: str, classes: int, dim: int) -> Head:
    """An LSC head with the vectors of a system in shuffled order, or a class layer."""
    if method == "ce":
        return CrossEntropyHead(dim, classes, None, 0)
    vectors = system(method, dim)
    return LscHead(vectors, Order.make("shuffled", vectors, 0), classes)


def train(
    made: list[dict[str, Any]],
    *,
    model: str = "mlp",
    size: int = 8,
    batch: int = 32,
    dim: int = 16,
    method: str = "V21",
    classes: int = 100,
    width: float = 1.0,
    graphs: bool = False,
    residual: str | None = None,
    deterministic: bool = False,
    on_host: bool = False,
) -> dict[str, Any]:
    """Four steps at different rates, in bf16: what was generated for them, and how often. `on_host`: numbers that the
    embeddings are multiplied by stay on the host, and a graph with such is not divided for CUDA graphs."""
    torch.use_deterministic_algorithms(deterministic)
    config.graph_partition = not on_host
    first, known, skips = len(made), step.graphs_compiled(), counters["inductor"]["cudagraph_skips"]
    network = build_model(Model(name=model, width=width), channels=3, size=size, dim=dim, seed=0, residual=residual)
    head = make_head(method, classes, dim)
    with FakeTensorMode(allow_non_fake_inputs=True):
        on_device(nn.ModuleList([network, head])).train()
        if on_host:
            network = nn.Sequential(network, Scaled())
        loss = step.make_loss(network, head, dtype=torch.bfloat16, device=CUDA, compiled=True, graphs=graphs)
        parameters = [*network.parameters(), *head.parameters()]
        optimizer = step.AdamW(parameters, lr=1e-3, weight_decay=1e-2)
        optimizer.use_graphs(CUDA, sys.exit if graphs else None)
        for number in range(4):
            optimizer.param_groups[0]["lr"] = 1e-3 / (1 + number)
            images = torch.empty(batch, 3, size, size, dtype=torch.uint8, device=CUDA)
            target: Tensor = head.training_target(torch.zeros(batch, dtype=torch.int64, device=CUDA))
            loss(images, target).backward()
            optimizer.step()
            optimizer.zero_grad()
    found = made[first:]
    # Of the last loss compiled: with CUDA graphs the first step has one of its own, and the optimizer another.
    last = found[-3:-1] if graphs else found
    return {
        "graphs": step.graphs_compiled() - known,
        "breaks": sum(counters["graph_break"].values()),
        "skips": counters["inductor"]["cudagraph_skips"] - skips,
        "kinds": [each["kind"] for each in found],
        "parts": [each["parts"] for each in found],
        "launches": sum((Counter(each["launches"]) for each in last), Counter()),
        "bytes": sum(each["bytes"] for each in last) / batch,
        "atomic": sum(each["source"].count("tl.atomic_add(") for each in last),
        "optimizer_launches": found[-1]["launches"],
    }


if __name__ == "__main__":
    generated = pretend()
    print(json.dumps([train(generated, **json.loads(case)) for case in sys.argv[1:]]))
