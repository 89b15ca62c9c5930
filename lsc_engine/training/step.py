"""The parts of an optimizer step: the optimizer, the loss of a batch, compiled or not, and its gradient in as many
micro-batches as memory needs. Trainer.train_step puts them together.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from lsc_engine.common.deferred import import_deferred
from lsc_engine.common.errors import LscError
from lsc_engine.data.source import normalise
from lsc_engine.heads.base import Head

# The torch.compile backend.
BACKEND = "inductor"
# Graphs of one step: a batch that does not fit is halved, and each half has a graph of its own.
MOST_GRAPHS = 64
# Devices whose kernels can be recorded as graphs.
GRAPH_DEVICES = ("cuda",)
# Seconds that compiling a step takes on a GPU (13 to 25 on an H200), and what a compiled step saves there: of the
# host's work (demo), and for each operation of the forward pass (ViT-S at 224 px in bf16). Slower cards save more.
COMPILE_SECONDS, HOST_SAVING, OPERATION_SAVING = 25.0, 0.9e-3, 6.5e-15
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "cannot allocate memory")

# (images as floats or as bytes, target) -> mean loss, a scalar.
BatchLoss = Callable[[Tensor, Tensor], Tensor]


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)


def first_line(error: BaseException) -> str:
    """The first line of the message; empty if the message is."""
    return (str(error).splitlines() or [""])[0]


class AdamW(torch.optim.AdamW):
    """torch's fused AdamW. The tensors of a step are collected once and not at every step, which is a fifth of its time
    for a small network: the same kernels on the same tensors. After `use_graphs` a step is one CUDA graph, which reads
    the rate from a number on the device."""

    def __init__(self, parameters: list[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, fused=True)
        # For each group: its parameters, the optimizer's state, first moments, second moments, numbers of steps.
        self._collected: list[tuple[Any, ...]] = []
        self._rate, self._graph, self._on_failure = torch.empty(0), adamw, lambda _: None

    def use_graphs(self, device: torch.device, on_failure: Callable[[str], None] | None) -> None:
        """Steps as CUDA graphs from here on, or not for None; `on_failure` is called with the reason where torch cannot
        do that, and the steps from that one on are fused ones."""
        self._collected, self._graph = [], adamw
        if on_failure is not None:
            self._rate, self._on_failure = torch.zeros((), device=device), on_failure
            self._graph = torch.compile(adamw, dynamic=False, fullgraph=True, mode="reduce-overhead")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step by the gradients; parameters without one stay."""
        # A loaded state is another object, and so is the list of parameters after some were removed.
        if len(self._collected) != len(self.param_groups) or any(
            parameters is not group["params"] or state is not self.state
            for (parameters, state, *_), group in zip(self._collected, self.param_groups, strict=True)
        ):
            self._collected = [self._collect(group["params"]) for group in self.param_groups]
        gradients = [[p.grad for p in group["params"]] for group in self.param_groups]
        if any(g is None for grads in gradients for g in grads) or any(len(each) == 2 for each in self._collected):
            # torch creates the moments at a parameter's first gradient.
            self._collected = []
            super().step()
            return
        for group, collected, grads in zip(self.param_groups, self._collected, gradients, strict=True):
            parameters, _, first, second, steps = collected
            rest: dict[str, Any] = {key: group[key] for key in ("lr", "weight_decay", "eps")}
            rest |= dict(zip(("beta1", "beta2"), group["betas"], strict=True), amsgrad=False, maximize=False)
            unused: list[Tensor] = []
            tensors = parameters, grads, first, second, unused, steps
            if self._graph is not adamw:
                self._rate.fill_(group["lr"])
                try:
                    self._graph(*tensors, foreach=True, capturable=True, **{**rest, "lr": self._rate})
                    continue
                except Exception as error:
                    # Neither compiling nor recording changes a weight.
                    if not (compile_failed(error) or _capture_failed(error)):
                        raise
                    self._graph = adamw
                    self._on_failure(str((CompileFailedError if compile_failed(error) else GraphsFailedError)(error)))
            adamw(*tensors, fused=True, **rest)

    def _collect(self, parameters: list[Any]) -> tuple[Any, ...]:
        moments = [self.state.get(p, {}) for p in parameters]
        if not moments or not all(moments):
            return parameters, self.state
        held = [[m[name] for m in moments] for name in ("exp_avg", "exp_avg_sq", "step")]
        for tensor in [*parameters, *held[0], *held[1], *held[2], self._rate] if self._graph is not adamw else ():
            # Else CUDA graphs would copy it at every step.
            torch._dynamo.mark_static_address(tensor)
        return parameters, self.state, *held

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


def make_optimizer(
    name: str, parameters: list[nn.Parameter], *, lr: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """Fused AdamW or SGD over `parameters`; the rate is set anew at every step."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum, fused=True)
    return AdamW(parameters, lr=lr, weight_decay=weight_decay)


@torch.no_grad()
def step_optimizer(optimizer: torch.optim.Optimizer, sampled: Mapping[nn.Parameter, Tensor]) -> None:
    """A step of the optimizer. Each parameter of `sampled` consists of its rows of these numbers only: neither momentum
    nor weight decay moves the others, and their moments stay. The number of steps is that of the whole parameter."""
    sampled = {p: rows for p, rows in sampled.items() if p.grad is not None}
    whole: dict[Tensor, Tensor] = {}
    for p, rows in sampled.items():
        assert p.grad is not None
        gradient, p.grad = p.grad[rows], None
        for tensor in (*_moments(optimizer, p), p):
            whole[tensor] = tensor.data
            # The tensor itself is kept, as the optimizer may hold it.
            tensor.data = tensor.data[rows]
        p.grad = gradient
    optimizer.step()
    for p, rows in sampled.items():
        p.grad = None
        for tensor in (*_moments(optimizer, p), p):
            # The first step creates the moments.
            rest = whole[tensor] if tensor in whole else torch.zeros_like(whole[p])
            rest[rows] = tensor.data
            tensor.data = rest


def _moments(optimizer: torch.optim.Optimizer, p: nn.Parameter) -> list[Tensor]:
    state = optimizer.state.get(p, {}).values()
    return [value for value in state if isinstance(value, Tensor) and value.shape == p.shape]


def remove_frozen_params(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Remove everything but `parameters` from the optimizer, with its moments; the order stays."""
    kept = {id(parameter) for parameter in parameters}
    for group in optimizer.param_groups:
        for removed in [p for p in group["params"] if id(p) not in kept]:
            optimizer.state.pop(removed, None)
        group["params"] = [p for p in group["params"] if id(p) in kept]


class CompileFailedError(LscError):
    """torch.compile could not build the step; no weight was changed."""

    def __init__(self, error: BaseException) -> None:
        lines = [line.strip() for line in str(error).splitlines()]
        # The first line may only name the backend.
        reasons = [line for line in lines if line and not line.endswith(" raised:")] or [type(error).__name__]
        super().__init__(f"torch.compile failed: {reasons[0]}")


class GraphsFailedError(LscError):
    """The step could not be recorded or replayed as CUDA graphs; no weight was changed."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"CUDA graphs failed: {first_line(error) or type(error).__name__}")


def _capture_failed(error: BaseException) -> bool:
    """Whether CUDA refused what a step does while it was recorded."""
    return isinstance(error, RuntimeError) and "captur" in str(error).lower()


def compile_failed(error: BaseException) -> bool:
    """Whether `error` comes from torch.compile, its backend or the compiler that it calls."""
    tracing, backend = (sys.modules.get(f"torch.{name}.exc") for name in ("_dynamo", "_inductor"))
    kinds = [getattr(tracing, name, None) for name in ("TorchDynamoException", "FailOnRecompileLimitHit")]
    kinds += [getattr(backend, name, None) for name in ("CppCompileError", "InvalidCxxCompiler")]
    return any(kind is not None and isinstance(error, kind) for kind in kinds) or _triton_failed(error)


def _triton_failed(error: BaseException) -> bool:
    """Whether `error` was raised where Triton builds a kernel or its launcher, which needs a C compiler and Python's
    header files; the first launch may come after torch.compile has returned."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith(("triton.runtime.build", "triton.compiler")):
            return True
        trace = trace.tb_next
    return False


def worth_compiling(operations: int, steps: int) -> bool:
    """Whether `steps` steps, each of this many `operations` in its forward pass, gain more time on a GPU by compiling
    than it takes. `steps` are all of a run: a resumed one computes as it began."""
    return steps * (HOST_SAVING + OPERATION_SAVING * operations) > COMPILE_SECONDS


def make_loss(
    model: nn.Module,
    head: Head,
    *,
    dtype: torch.dtype | None,
    device: torch.device,
    compiled: bool,
    graphs: bool = False,
    whole: bool = True,
    on_compile: Callable[[], None] = lambda: None,
) -> BatchLoss:
    """The loss of a batch under autocast; one compiled graph of model and head if `compiled`.

    `graphs`: compiled, and replayed as CUDA graphs. `whole`: a loss that cannot be one graph fails; else it is compiled
    in several, with Python between them. Whatever was compiled before, for another run or other layers, is dropped:
    torch compiles only a few graphs of one function and then continues without a message. `on_compile` is called
    whenever something is compiled or recorded from here on.
    """

    def loss(images: Tensor, target: Tensor) -> Tensor:
        images = normalise(images) if images.dtype == torch.uint8 else images
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return head.batch_loss(model, images, target)

    if not (compiled or graphs):
        return loss
    head.prepare(device)
    import_deferred()
    torch.compiler.reset()
    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    torch._dynamo.callback.on_compile_start(lambda _: on_compile())
    if not graphs:
        return torch.compile(loss, dynamic=False, fullgraph=whole, backend=BACKEND)
    return CudaGraphLoss(loss, whole)


def make_embedding(model: nn.Module, device: torch.device, dtype: torch.dtype | None) -> Callable[[Tensor], Tensor]:
    """Embeddings [B, n] float32 of images on the device, compiled for each size of a batch when it first comes."""

    def embedding(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return model(images).float()

    return torch.compile(embedding, dynamic=False, backend=BACKEND)


class CudaGraphLoss:
    """The loss of a batch as CUDA graphs: a small network no longer waits for the host to start its kernels.

    Gradients lie in the graphs' memory until the next call, so they must be used and dropped before it; gradients of
    several calls are added up with `in_parts`, which is compiled only. So is the first call: a batch that does not fit
    is found before any memory belongs to graphs.
    """

    # The calls until graphs are replayed: one without them, one to warm up, one to record.
    UNTIL_REPLAYED = 3

    def __init__(self, loss: BatchLoss, whole: bool) -> None:
        self._whole = torch.compile(loss, dynamic=False, fullgraph=whole, mode="reduce-overhead")
        self.in_parts = torch.compile(loss, dynamic=False, fullgraph=whole)
        self._calls = 0

    def __call__(self, images: Tensor, target: Tensor) -> Tensor:
        self._calls += 1
        if self._calls == 1:
            return self.in_parts(images, target)
        torch.compiler.cudagraph_mark_step_begin()
        return self._whole(images, target)

    def failed(self, error: BaseException) -> bool:
        """Whether `error`, of the last call or its backward pass, came from graphs: from recording, or because they
        hold memory of their own."""
        return self._calls > 1 and (out_of_memory(error) or _capture_failed(error))


def release_graphs(device: torch.device) -> None:
    """Return the memory of CUDA graphs to `device` after the loss that replays them was dropped."""
    torch.compiler.reset()
    # What torch.compile made refers to itself in circles.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def device_idle(device: torch.device) -> bool:
    """Whether a GPU has done all that was given to it; does not wait."""
    return device.type == "cuda" and torch.cuda.current_stream(device).query()


class HostWatch:
    """Whether the host is the limit of a run: whether the GPU has nothing left to do when most steps begin."""

    STEPS, SHARE = 20, 0.75

    def __init__(self, device: torch.device) -> None:
        self._device, self._idle, self.left = device, 0, self.STEPS

    def host_limits(self) -> bool:
        """To be called where a step begins; True at most once, after `STEPS` of them."""
        self.left -= 1
        self._idle += device_idle(self._device)
        return self.left == 0 and self._idle >= self.SHARE * self.STEPS


def graphs_compiled() -> int:
    """The number of graphs that torch.compile has made in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"]) if "torch._dynamo" in sys.modules else 0


def has_dropout(model: nn.Module) -> bool:
    """Whether a training forward pass draws random numbers."""
    return any(
        (isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0) or (getattr(m, "drop_prob", None) or 0) > 0
        for m in model.modules()
    )


class MicroBatches:
    """The gradient of a batch in `parts` pieces, twice as many whenever memory runs out.

        loss = sum_i (B_i / B) loss_i,    so the gradient is that of the whole batch B, whatever the parts B_i are.

    Only batch statistics differ: they are those of a part. After running out of memory the same step is done again,
    from the same weights, running statistics and random numbers.
    """

    def __init__(self, network: nn.Module, batch_size: int, device: torch.device) -> None:
        self._network, self.batch_size, self._device = network, batch_size, device
        self.parts = 1
        self.has_statistics = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
        # A buffer that is not in the state_dict never changes.
        kept = network.state_dict().keys()
        running = [buffer for name, buffer in network.named_buffers() if buffer.numel() and name in kept]
        # Copied at every step: all contiguous tensors of one type by one operation, others one by one.
        flat = [b.view(-1) for b in running if b.is_contiguous()]
        self._running = [[b for b in flat if b.dtype == kind] for kind in {b.dtype for b in flat}]
        self._running += [[b] for b in running if not b.is_contiguous()]
        self._before = [torch.cat(group) for group in self._running]

    @property
    def size(self) -> int:
        """Images in the largest part."""
        return -(-self.batch_size // self.parts)

    def backward(
        self,
        loss: BatchLoss,
        images: Tensor,
        target: Tensor,
        reseed: Callable[[], None] = lambda: None,
        on_halved: Callable[[str], None] = lambda _sentence: None,
    ) -> Tensor:
        """Leave the gradient of the batch's mean loss in the parameters; returns the loss, a detached scalar.

        `reseed` is called before every try, `on_halved` after the parts were halved. LscError if the smallest part
        does not fit, CompileFailedError if the step cannot be compiled, GraphsFailedError if it can but not as CUDA
        graphs; all leave everything as it was before.
        """
        for running, before in zip(self._running, self._before, strict=True):
            torch.cat(running, out=before)
        while True:
            reseed()
            try:
                return self._accumulate(loss, images, target)
            except Exception as error:
                if self.parts == 1 and isinstance(loss, CudaGraphLoss) and loss.failed(error):
                    self.undo()
                    raise GraphsFailedError(error) from error
                if not out_of_memory(error):
                    self.undo()
                    if compile_failed(error):
                        raise CompileFailedError(error) from error
                    raise
                reason = first_line(error) or type(error).__name__
            # Outside the except block, where the failed graph is no longer held by the error's frames.
            self.undo()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            # Batch statistics of a single image do not exist.
            parts = min(2 * self.parts, self.batch_size // (2 if self.has_statistics else 1))
            if parts <= self.parts:
                raise LscError(
                    f"out of memory at micro-batches of {self.size} images on {self._device}, which cannot be halved: "
                    f"take a smaller model or image size, or a device with more memory ({reason})"
                )
            self.parts = parts
            on_halved(
                f"out of memory: micro-batches of {self.size} from here on, still {self.batch_size} images a step"
            )

    def _accumulate(self, batch_loss: BatchLoss, images: Tensor, target: Tensor) -> Tensor:
        if self.parts == 1:
            loss = batch_loss(images, target)
            loss.backward()
            return loss.detach()
        total = torch.zeros((), device=self._device)
        part_loss = getattr(batch_loss, "in_parts", batch_loss)
        for part, goal in zip(images.tensor_split(self.parts), target.tensor_split(self.parts), strict=True):
            loss = part_loss(part, goal) * (len(part) / len(images))
            loss.backward()
            total += loss.detach()
        return total

    def undo(self) -> None:
        """Gradients and running statistics as before the try."""
        self._network.zero_grad(set_to_none=True)
        for running, before in zip(self._running, self._before, strict=True):
            torch._foreach_copy_(running, before.split([len(b) for b in running]))
