"""Parameters and memory of a run without training it; needs no images and builds weights only as shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lsc_engine.models.build import build_model

if TYPE_CHECKING:
    from lsc_engine.config.schema import RunConfig


def describe(config: RunConfig, *, channels: int, size: int, dim: int | None, classes: int) -> dict[str, Any]:
    """{"parameters", "head_parameters", "dim", "memory_bytes"}: trained parameters of the backbone and of the class
    layer (0 for LSC), the embedding's width, and an estimate of the training memory in bytes.

    The estimate counts weights, gradients and two AdamW moments in float32, and the activations that one forward pass
    of one image keeps for the backward pass, times the batch; cross-entropy adds two copies of its logits.
    """
    with torch.device("meta"):
        model = build_model(config.model, channels=channels, size=size, dim=dim, seed=0)
    width = dim or _own_width(model)
    parameters = sum(p.numel() for p in model.parameters())
    head = 0
    if config.target.method == "ce":
        from lsc_engine.config import bottleneck_width

        narrow = bottleneck_width(config.target.bottleneck, classes)
        head = (width * narrow if narrow else 0) + ((narrow or width) + 1) * classes
    batch = config.train.batch_size
    logits = 2 * 4 * batch * classes if head else 0
    activations = batch * _activation_bytes(model, channels, size)
    return {
        "parameters": parameters,
        "head_parameters": head,
        "dim": width,
        "memory_bytes": 16 * (parameters + head) + activations + logits,
    }


def _own_width(model: torch.nn.Module) -> int:
    last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    return int(getattr(getattr(model, "backbone", None), "num_features", last.out_features))


def _activation_bytes(model: torch.nn.Module, channels: int, size: int) -> int:
    """Bytes that autograd saves for one image, counted on shapes alone (batch of two, since batch norm refuses one).

    Layers save their weights too, as views that are no parameters: known by their storage, they are left out.
    """
    weights = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in weights:
            saved[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(torch.empty(2, channels, size, size, device="meta"))
    total = sum(saved.values())
    del output
    return total // 2


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
