"""One optimizer step: forward, loss, backward, update. Compiled as a whole where that pays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from lsc_engine.errors import LscError
from lsc_engine.heads import Head


class CompileFailedError(LscError):
    """torch.compile could not build the step; no weight was changed."""

    def __init__(self, error: BaseException) -> None:
        lines = [line.strip() for line in str(error).splitlines()]
        # The first of them may only name the backend.
        said = [line for line in lines if line and not line.endswith(" raised:")] or [type(error).__name__]
        super().__init__(f'torch.compile failed: {said[0]}; train.compile = "off" trains without it')


def compile_failed(error: BaseException) -> bool:
    """Does `error` come from torch.compile, its backend or the compiler that this calls?"""
    tracing, backend = (sys.modules.get(f"torch.{name}.exc") for name in ("_dynamo", "_inductor"))
    kinds = [getattr(tracing, "TorchDynamoException", None)]
    kinds += [getattr(backend, name, None) for name in ("CppCompileError", "InvalidCxxCompiler")]
    return any(kind is not None and isinstance(error, kind) for kind in kinds)


def make_optimizer(name: str, parameters: list[nn.Parameter], *, lr: float, weight_decay: float, momentum: float
                   ) -> torch.optim.Optimizer:  # fmt: skip
    """AdamW (fused) or SGD over `parameters`; the rate is set anew at every step."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum, fused=True)
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def keep_only(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Take everything but `parameters` out of the optimizer, with its moments; the order stays."""
    kept = {id(parameter) for parameter in parameters}
    for group in optimizer.param_groups:
        for gone in [p for p in group["params"] if id(p) not in kept]:
            optimizer.state.pop(gone, None)
        group["params"] = [p for p in group["params"] if id(p) in kept]


def make_loss(
    model: nn.Module, head: Head, *, dtype: torch.dtype | None, device: torch.device, compiled: bool,
    graphs: bool = False,
) -> Callable[[Tensor, Tensor], Tensor]:  # fmt: skip
    """(images, targets) -> scalar loss, under autocast; one compiled graph of model and loss where asked.

    `graphs`: compiled, and replayed as CUDA graphs.
    """

    def loss(images: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return head.batch_loss(model, images, target)

    if not (compiled or graphs):
        return loss
    head.prepare(device)
    if not graphs:
        return torch.compile(loss, dynamic=False)
    return Replayed(loss)


class Replayed:
    """The loss of a batch as CUDA graphs: a small network no longer waits for the host to start its kernels.

    Gradients lie in the graphs' memory until the next call, so they are used and dropped before it; what adds up
    gradients of several calls takes `in_parts`, which is compiled only.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._whole = torch.compile(loss, dynamic=False, mode="reduce-overhead")
        self.in_parts = torch.compile(loss, dynamic=False)

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return self._whole(images, target)


def has_dropout(model: nn.Module) -> bool:
    """Does a training forward pass draw random numbers?"""
    return any(
        (isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0) or (getattr(m, "drop_prob", None) or 0) > 0
        for m in model.modules()
    )
