"""Parameters and memory of a run without training it; needs no images and builds weights only as shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from lsc_engine.config.derived import standardized
from lsc_engine.heads.build import class_layer
from lsc_engine.models import etf
from lsc_engine.models.build import build_model, embedding_width
from lsc_engine.models.network import output_layer

if TYPE_CHECKING:
    from lsc_engine.config.schema import RunConfig


def model_sizes(
    config: RunConfig, *, channels: int, size: int, dim: int | None, classes: int, teacher: RunConfig | None = None
) -> dict[str, int]:
    """{"parameters", "head_parameters", "fixed_parameters", "optimizer_bytes", "teacher_bytes", "dim",
    "memory_bytes"}: trained parameters of the backbone and of the class layer (0 for LSC), weights of layers fixed
    from the start on, the optimizer's moments, the bytes of a teacher, the embedding's width, and an estimate of the
    training memory in bytes.

    The estimate counts weights, gradients and two AdamW moments in float32, and the activations that one forward pass
    of one image keeps for the backward pass, times the batch; cross-entropy adds two copies of its logits. A teacher
    (target.teacher) adds its weights and its logits: it keeps no activations.
    """
    cross_entropy = config.target.method == "ce"
    with torch.device("meta"):
        residual = config.train.residual
        model = build_model(config.model, channels=channels, size=size, dim=dim, seed=0, residual=residual)
        width = dim or embedding_width(model, channels, size, torch.device("meta"))
        head = nn.Module()
        if cross_entropy:
            head = class_layer(config, width, classes, seed=0)
        network = nn.ModuleDict({"model": model, "head": head})
        fixed = etf.layers_to_fix(network, config.model)
        etf.fix_layers(network, dict.fromkeys(fixed, 0), config.model.etf_frame or "canonical")
    if standardized(config):
        output_layer(model)
    parameters, in_head = (sum(p.numel() for p in module.parameters()) for module in (model, head))
    # Frames of fixed layers, running means, centres.
    kept = sum(b.nbytes for name, b in network.named_buffers() if name.endswith(("frame", "means", "centers")))
    batch = config.train.batch_size
    logits = 2 * 4 * batch * (len(getattr(head, "sampled", ())) or classes) if cross_entropy else 0
    # Self-supervision embeds two views of each image.
    activations = (2 if config.target.method == "ssl" else 1) * batch * activation_bytes(model, channels, size)
    teacher_bytes = 0
    if teacher is not None:
        their_dim = teacher.model.dim if isinstance(teacher.model.dim, int) else None
        theirs = model_sizes(teacher, channels=channels, size=size, dim=their_dim, classes=classes)
        teacher_bytes = 4 * (theirs["parameters"] + theirs["head_parameters"]) + 4 * batch * classes
    return {
        "parameters": parameters,
        "head_parameters": in_head,
        "fixed_parameters": etf.fixed_weight_count(network),
        "optimizer_bytes": 4 * (2 if config.optimizer.name == "adamw" else 1) * (parameters + in_head),
        "teacher_bytes": teacher_bytes,
        "dim": width,
        "memory_bytes": 16 * (parameters + in_head) + kept + activations + logits + teacher_bytes,
    }


def activation_bytes(model: nn.Module, channels: int, size: int) -> int:
    """Bytes that autograd saves for one image, counted on shapes alone (batch of two, since batch norm refuses one).

    Layers also save their weights, as views that are no parameters: those are recognised by their storage and left
    out.
    """
    weights = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in weights:
            saved[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        # The output must live until the sum: a freed storage may be counted under the address of another one.
        output = model(torch.empty(2, channels, size, size, device="meta"))
        total = sum(saved.values())
    del output
    return total // 2


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
