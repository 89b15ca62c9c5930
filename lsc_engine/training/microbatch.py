"""Forward and backward of a step, in as many parts as memory needs.

    loss = sum_i (B_i / B) loss_i,    so the gradient is that of the whole batch B, whatever the parts B_i are.

Only batch statistics differ: they are those of a part. Where memory runs out the parts are halved and the same step is
done again, from the same weights, running statistics and random numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lsc_engine.errors import LscError
from lsc_engine.training.step import CompileFailedError, compile_failed

_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "cannot allocate memory")


def out_of_memory(error: BaseException) -> bool:
    """Does `error` say that memory ran out, on a GPU or on the host?"""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


class MicroBatches:
    """Makes the gradient of a batch; `parts` is in how many pieces. `loss` may be exchanged between two steps."""

    def __init__(
        self, loss: Callable[[Tensor, Tensor], Tensor], model: nn.Module, head: nn.Module, *, batch_size: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.loss, self._modules, self._device = loss, (model, head), device
        self._batch_size = batch_size
        self.parts = 1
        self.has_statistics = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        # Batch statistics of a single image do not exist.
        self._least = 2 if self.has_statistics else 1
        # What a state_dict leaves out is no running statistic: it never changes.
        running: list[Tensor] = []
        for module in self._modules:
            kept = module.state_dict().keys()
            running += [b for name, b in module.named_buffers() if b.numel() and name in kept]
        # Copied every step: one operation for all of a type, of a tensor by itself where it cannot be laid flat.
        flat, other = [b.view(-1) for b in running if b.is_contiguous()], [b for b in running if not b.is_contiguous()]
        self._running = [[b for b in flat if b.dtype == kind] for kind in {b.dtype for b in flat}]
        self._running += [[b] for b in other]
        self._before = [torch.cat(group) for group in self._running]

    @property
    def size(self) -> int:
        """Images in the largest part."""
        return -(-self._batch_size // self.parts)

    def backward(
        self, images: Tensor, target: Tensor, reseed: Callable[[], None], changed: Callable[[str], None]
    ) -> Tensor:
        """Leave the gradient of the batch's mean loss in the parameters; the loss, a detached scalar.

        `reseed` goes before every try; `changed` hears that parts were halved. LscError where the smallest part does
        not fit, CompileFailedError where the step cannot be compiled; either leaves all as it was before.
        """
        for running, before in zip(self._running, self._before, strict=True):
            torch.cat(running, out=before)
        while True:
            reseed()
            try:
                return self._accumulate(images, target)
            except Exception as error:
                if not out_of_memory(error):
                    self._undo()
                    if compile_failed(error):
                        raise CompileFailedError(error) from error
                    raise
                why = (str(error).splitlines() or [type(error).__name__])[0]
            # Outside the except block, where the failed graph is no longer held by the error's frames.
            self._halve(why)
            changed(f"out of memory: micro-batches of {self.size} from here on, still {self._batch_size} images a step")

    def _accumulate(self, images: Tensor, target: Tensor) -> Tensor:
        if self.parts == 1:
            loss = self.loss(images, target)
            loss.backward()
            return loss.detach()
        total = torch.zeros((), device=self._device)
        loss_of = getattr(self.loss, "in_parts", self.loss)
        for part, goal in zip(images.tensor_split(self.parts), target.tensor_split(self.parts), strict=True):
            loss = loss_of(part, goal) * (len(part) / len(images))
            loss.backward()
            total += loss.detach()
        return total

    def _undo(self) -> None:
        """Gradients and running statistics as before the try."""
        for module in self._modules:
            module.zero_grad(set_to_none=True)
        for running, before in zip(self._running, self._before, strict=True):
            torch._foreach_copy_(running, before.split([len(b) for b in running]))

    def _halve(self, why: str) -> None:
        self._undo()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        parts = min(2 * self.parts, self._batch_size // self._least)
        if parts <= self.parts:
            raise LscError(
                f"out of memory at micro-batches of {self.size} images on {self._device}, which cannot be halved: take "
                f"a smaller model or image size, or a device with more memory ({why})"
            )
        self.parts = parts
