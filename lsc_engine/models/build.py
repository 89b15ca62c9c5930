"""From a preset's [model] to a backbone with reproducible initial weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.models.backbones.vit import build_timm, lower_residual_stream
from lsc_engine.registry import MODELS

if TYPE_CHECKING:
    from lsc_engine.config.schema import Model


def build_model(
    model: Model, *, channels: int, size: int, dim: int | None, seed: int, residual: str | None = None
) -> nn.Module:
    """A backbone on the CPU: images [B, channels, size, size] in [-1, 1] -> embeddings [B, dim].

    The initial weights are a function of `seed` alone. `dim=None` keeps the network's own width; `residual`: the type
    of a transformer's residual stream under autocast, float32 for None.
    """
    built = _built(model, channels, size, dim, seed)
    if residual == "bf16":
        lower_residual_stream(built, model.name)
    return built


def _built(model: Model, channels: int, size: int, dim: int | None, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model.name in MODELS.built_in:
            return MODELS.built_in[model.name](**model.args).build(channels, size, dim, model.width)
        if model.name.startswith("timm:"):
            return build_timm(model.name.removeprefix("timm:"), channels, size, dim, dict(model.args))
        if model.name in (names := MODELS.plugin_names()):
            factory = MODELS.load_plugin(model.name, "model.name")
            built: nn.Module = factory(channels=channels, size=size, dim=dim, width=model.width, **model.args)
            return built
    known = [*MODELS.built_in, "timm:NAME", *names]
    raise UsageError(f'model.name: "{model.name}" is not known; {did_you_mean(model.name, known)}')


def embedding_width(model: nn.Module, channels: int, size: int, device: torch.device) -> int:
    """The width of the embeddings of a network on `device`, by one forward pass in evaluation mode."""
    was_training = model.training
    with torch.no_grad():
        width = int(model.eval()(torch.zeros((2, channels, size, size), device=device)).shape[1])
    model.train(was_training)
    return width
