"""Parameters and memory of a run without training it; needs no images and builds weights only as shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lsc_engine.models import etf
from lsc_engine.models.build import build_model

if TYPE_CHECKING:
    from lsc_engine.config.schema import RunConfig


def describe(
    config: RunConfig, *, channels: int, size: int, dim: int | None, classes: int, teacher: RunConfig | None = None
) -> dict[str, Any]:
    """{"parameters", "head_parameters", "fixed_parameters", "optimizer_bytes", "teacher_bytes", "dim",
    "memory_bytes"}: trained parameters of the backbone and of the class layer (0 for LSC), weights of layers fixed
    from the start on, the optimizer's moments, what a teacher holds, the embedding's width, and an estimate of the
    training memory in bytes.

    The estimate counts weights, gradients and two AdamW moments in float32, and the activations that one forward pass
    of one image keeps for the backward pass, times the batch; cross-entropy adds two copies of its logits. A teacher
    (target.teacher) adds its weights and its logits: it keeps no activations.
    """
    with torch.device("meta"):
        model = build_model(config.model, channels=channels, size=size, dim=dim, seed=0)
        width = dim or _own_width(model)
        head = _class_layer(config, width, classes)
        modules = {"model": model, "head": head}
        fixed = etf.named_layers(modules, config.model)
        etf.fix(modules, fixed, frame=config.model.etf_frame or "canonical", seeds=[0] * len(fixed))
    parameters, in_head = (sum(p.numel() for p in module.parameters()) for module in (model, head))
    frames = sum(b.nbytes for module in (model, head) for name, b in module.named_buffers() if name.endswith("frame"))
    batch = config.train.batch_size
    logits = 2 * 4 * batch * classes if config.target.method == "ce" else 0
    # Self-supervision embeds two views of each image.
    activations = (2 if config.target.method == "ssl" else 1) * batch * _activation_bytes(model, channels, size)
    beside = 0 if teacher is None else _teacher_bytes(teacher, channels, size, classes, batch)
    return {
        "parameters": parameters,
        "head_parameters": in_head,
        "fixed_parameters": etf.fixed_weights(modules),
        "optimizer_bytes": 4 * (1 if config.optimizer.name == "sgd" else 2) * (parameters + in_head),
        "teacher_bytes": beside,
        "dim": width,
        "memory_bytes": 16 * (parameters + in_head) + frames + activations + logits + beside,
    }


def _teacher_bytes(teacher: RunConfig, channels: int, size: int, classes: int, batch: int) -> int:
    """Weights of a frozen network with its class layer, and its logits for one batch."""
    dim = teacher.model.dim if isinstance(teacher.model.dim, int) else None
    held = describe(teacher, channels=channels, size=size, dim=dim, classes=classes)
    return 4 * (int(held["parameters"]) + int(held["head_parameters"])) + 4 * batch * classes


def _class_layer(config: RunConfig, width: int, classes: int) -> nn.Module:
    """What a head trains, as shapes."""
    head = nn.Module()
    if config.target.method == "ce":
        from lsc_engine.config import bottleneck_width

        narrow = bottleneck_width(config.target.bottleneck, classes)
        if narrow:
            head.narrow = nn.Linear(width, narrow, bias=False)
        head.layer = nn.Linear(narrow or width, classes)
        head.in_a_row = ["narrow", "layer"] if narrow else ["layer"]  # type: ignore[assignment]
    return head


def _own_width(model: torch.nn.Module) -> int:
    width = getattr(getattr(model, "backbone", None), "num_features", None)
    if width is None:
        width = [m for m in model.modules() if isinstance(m, nn.Linear)][-1].out_features
    return int(width)


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
