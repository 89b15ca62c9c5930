"""One optimizer step: forward, loss, backward, update. Compiled as a whole where that pays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from lsc_engine.errors import LscError
from lsc_engine.heads.base import Head

# What compiles a graph of the step.
BACKEND = "inductor"
# Graphs of one step: a batch that does not fit is halved, and each half has a graph of its own.
MOST_GRAPHS = 64


class CompileFailedError(LscError):
    """torch.compile could not build the step; no weight was changed."""

    def __init__(self, error: BaseException) -> None:
        lines = [line.strip() for line in str(error).splitlines()]
        # The first of them may only name the backend.
        said = [line for line in lines if line and not line.endswith(" raised:")] or [type(error).__name__]
        super().__init__(f"torch.compile failed: {said[0]}")


def compile_failed(error: BaseException) -> bool:
    """Does `error` come from torch.compile, its backend or the compiler that this calls?"""
    tracing, backend = (sys.modules.get(f"torch.{name}.exc") for name in ("_dynamo", "_inductor"))
    kinds = [getattr(tracing, name, None) for name in ("TorchDynamoException", "FailOnRecompileLimitHit")]
    kinds += [getattr(backend, name, None) for name in ("CppCompileError", "InvalidCxxCompiler")]
    return any(kind is not None and isinstance(error, kind) for kind in kinds)


class AdamW(torch.optim.AdamW):
    """torch's fused AdamW. What a step works on is gathered once and not at every step, which is a fifth of its time
    for a small network: the same kernels on the same tensors."""

    def __init__(self, parameters: list[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, fused=True)
        self._gathered: list[_Gathered] = []

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step by the gradients; parameters without one stay."""
        if not self._up_to_date():
            self._gathered = [_Gathered(group, self.state) for group in self.param_groups]
        gradients = [[p.grad for p in group["params"]] for group in self.param_groups]
        if any(g is None for some in gradients for g in some) or not all(g.moments for g in self._gathered):
            # Torch makes the moments at a parameter's first gradient.
            self._gathered = []
            super().step()
            return
        for group, kept, grads in zip(self.param_groups, self._gathered, gradients, strict=True):
            first, second, steps = kept.moments
            adamw(
                kept.parameters, grads, first, second, [], steps, fused=True, amsgrad=False, maximize=False,
                beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"], weight_decay=group["weight_decay"],
                eps=group["eps"],
            )  # fmt: skip

    def _up_to_date(self) -> bool:
        """A loaded state is another object, and so is the list of parameters when some were taken out."""
        return len(self._gathered) == len(self.param_groups) and all(
            kept.state is self.state and kept.parameters is group["params"]
            for kept, group in zip(self._gathered, self.param_groups, strict=True)
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


class _Gathered:
    """The moments of a group's parameters: first, second, number of steps; empty where some have none yet."""

    def __init__(self, group: dict[str, Any], state: Any) -> None:
        self.parameters: list[Any] = group["params"]
        self.state = state
        known = [state.get(p) for p in self.parameters]
        self.moments: list[list[Tensor]] = []
        if known and all(known):
            self.moments = [[k[name] for k in known] for name in ("exp_avg", "exp_avg_sq", "step")]


def make_optimizer(name: str, parameters: list[nn.Parameter], *, lr: float, weight_decay: float, momentum: float
                   ) -> torch.optim.Optimizer:  # fmt: skip
    """AdamW (fused) or SGD over `parameters`; the rate is set anew at every step."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum, fused=True)
    return AdamW(parameters, lr=lr, weight_decay=weight_decay)


def keep_only(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Take everything but `parameters` out of the optimizer, with its moments; the order stays."""
    kept = {id(parameter) for parameter in parameters}
    for group in optimizer.param_groups:
        for gone in [p for p in group["params"] if id(p) not in kept]:
            optimizer.state.pop(gone, None)
        group["params"] = [p for p in group["params"] if id(p) in kept]


def make_loss(
    model: nn.Module, head: Head, *, dtype: torch.dtype | None, device: torch.device, compiled: bool,
    graphs: bool = False, whole: bool = True,
) -> Callable[[Tensor, Tensor], Tensor]:  # fmt: skip
    """(images, targets) -> scalar loss, under autocast; one compiled graph of model and loss where asked.

    `graphs`: compiled, and replayed as CUDA graphs. `whole`: what cannot be one graph fails; else in several, with
    Python between them. What was compiled before, for another run or other layers, is dropped: torch compiles only a
    few graphs of one function and then goes on without a word.
    """

    def loss(images: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return head.batch_loss(model, images, target)

    if not (compiled or graphs):
        return loss
    head.prepare(device)
    torch.compiler.reset()
    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    if not graphs:
        return torch.compile(loss, dynamic=False, fullgraph=whole, backend=BACKEND)
    return Replayed(loss, whole)


def graphs_compiled() -> int:
    """How many graphs torch.compile has made in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"]) if "torch._dynamo" in sys.modules else 0


class Replayed:
    """The loss of a batch as CUDA graphs: a small network no longer waits for the host to start its kernels.

    Gradients lie in the graphs' memory until the next call, so they are used and dropped before it; what adds up
    gradients of several calls takes `in_parts`, which is compiled only.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], whole: bool) -> None:
        self._whole = torch.compile(loss, dynamic=False, fullgraph=whole, mode="reduce-overhead")
        self.in_parts = torch.compile(loss, dynamic=False, fullgraph=whole)

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return self._whole(images, target)


def has_dropout(model: nn.Module) -> bool:
    """Does a training forward pass draw random numbers?"""
    return any(
        (isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0) or (getattr(m, "drop_prob", None) or 0) > 0
        for m in model.modules()
    )
