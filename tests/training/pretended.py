"""A device that is not the CPU, on machines without one: its tensors compute on the CPU, and refuse what a GPU refuses.

An operation on tensors of both devices raises, as it does between CPU and GPU; what would make the host wait for a GPU
(a value read, a shape that depends on values, a copy) is counted. Backends written in Python are experimental in torch
and for the whole process: this is for processes of their own (rehearsal.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "pretended"
aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
READS = (
    aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default,
    aten._unique2.default, aten.bincount.default, aten.repeat_interleave.Tensor,
)  # fmt: skip
# What made the host wait, one name an occasion.
waits: list[str] = []


def register() -> torch.device:
    """Make the device known to torch; once in a process."""
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    module = getattr(torch, NAME)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    built = torch.tensor

    def tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        # Built below the dispatcher, where a device of Python has nothing to say.
        made = built(data, **options)
        return made if device is None else made.to(device)

    torch.tensor = tensor  # type: ignore[assignment]
    return torch.device(NAME, 0)


class Pretended(Tensor):
    """A tensor of the device; `held` has its values."""

    held: Tensor
    # What asks whether it may wait for a value asks this.
    is_cuda = property(lambda self: True)

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretended:
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        made.held = held
        return made

    def tolist(self) -> Any:
        waits.append("tolist")
        return self.held.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return run(func, args, kwargs or {})


class Everywhere(TorchDispatchMode):
    """While it is entered, what is made for the device is Pretended."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on what the tensors hold."""
    given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = any(isinstance(tensor, Pretended) for tensor in given)
    if there and func not in COPIES:
        for tensor in given:
            if not isinstance(tensor, Pretended) and tensor.dim() > 0:
                raise RuntimeError(f"{func}: a tensor {list(tensor.shape)} on the CPU among tensors on the device")
    if there and (func in READS or (func in INDEXING and _by_mask(args[1]))):
        waits.append(str(func))
    device = kwargs.get("device")
    requested = device is not None and torch.device(device).type == NAME
    held_args, held_kwargs = pytree.tree_map(lambda x: x.held if isinstance(x, Pretended) else x, (args, kwargs))
    if requested:
        held_kwargs["device"] = torch.device("cpu")
    result = func(*held_args, **held_kwargs)
    if func is aten.copy_.default:
        if isinstance(args[0], Pretended) != isinstance(args[1], Pretended):
            waits.append(str(func))
        return args[0]
    wrapped = requested or (there and device is None)
    if func is aten._to_copy.default and wrapped != there and not kwargs.get("non_blocking"):
        waits.append(str(func))
    if not wrapped or func is aten._local_scalar_dense.default:
        return result
    known = {id(tensor.held): tensor for tensor in given if isinstance(tensor, Pretended)}

    def outside(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return known[id(leaf)] if id(leaf) in known else Pretended(leaf)

    return pytree.tree_map(outside, result)


def _by_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)
