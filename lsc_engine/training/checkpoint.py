"""Writing and loading checkpoints: whole or absent, and never by unpickling code.

A checkpoint is a folder, written beside its place under a temporary name, synced, described by a manifest with sizes
and sha256, and renamed. model.safetensors holds backbone and head; state.pt holds the rest as tensors and plain
values and is read with `weights_only=True`, without fallback.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lsc_engine.errors import LscError
from lsc_engine.runs import checkpoints

MODEL, STATE = "model.safetensors", "state.pt"


def save(folder: Path, step: int, model: nn.Module, head: nn.Module, state: dict[str, Any]) -> Path:
    """Write checkpoint `step` of the run in `folder` and verify what was written. OSError when the disk refuses."""

    def write(place: Path) -> None:
        tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
        tensors |= {f"head.{name}": t for name, t in head.state_dict().items()}
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, place / MODEL)
        torch.save({"step": step, **state}, place / STATE)

    return checkpoints.write(folder, step, write)


def load_newest(folder: Path, say: Any) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
    """(step, tensors, state) of the newest checkpoint that is whole, or None; `say` hears of every damaged one."""
    for step, place, fault in checkpoints.newest_first(folder):
        if fault is None:
            try:
                state = torch.load(place / STATE, map_location="cpu", weights_only=True)
                return step, load_file(place / MODEL), state
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
        say(f"checkpoint step {step} is damaged ({fault.splitlines()[0]}); trying the one before")
    return None


def restore(model: nn.Module, head: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put the weights of a checkpoint into `model` and `head`. LscError where names or shapes differ."""
    for prefix, module in (("model.", model), ("head.", head)):
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise LscError(f"the checkpoint does not fit this {prefix[:-1]}: {error}") from error


def restore_backbone(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Start `model` from the backbone of another run: every weight of equal name and shape, at least one."""
    own = model.state_dict()
    given = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    fitting = {name: t for name, t in given.items() if name in own and own[name].shape == t.shape}
    if not fitting:
        raise LscError("start_from: no weight of that run's backbone fits this one")
    model.load_state_dict(fitting, strict=False)
