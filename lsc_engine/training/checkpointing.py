"""The tensors of a checkpoint: written whole or not at all, and never loaded by unpickling code.

model.safetensors holds backbone and head; state.pt holds the rest as tensors and plain values and is read with
`weights_only=True`, without fallback. Folder, manifest, hashes and the choice of the newest good one are in
runs/checkpoints.py.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lsc_engine.common.safe_io import mode_by_umask
from lsc_engine.errors import LscError
from lsc_engine.models import etf
from lsc_engine.runs.folder import checkpoints

MODEL, STATE = "model.safetensors", "state.pt"
# Room left for what else a run writes.
MARGIN = 1 << 20


@dataclass(frozen=True)
class Loaded:
    """A checkpoint read back: its step, the tensors of backbone and head, and the rest of the training state; the
    sha256 of the tensors' file."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    sha256: str = ""


def weights(model: nn.Module, head: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of both by name, on the CPU."""
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    tensors |= {f"head.{name}": t for name, t in head.state_dict().items()}
    return {name: t.detach().cpu().contiguous() for name, t in tensors.items()}


def save(
    folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any], check: Callable[[], None] = lambda: None
) -> checkpoints.Checkpoint:
    """Write checkpoint `step` of the run in `folder` and read its hashes back. OSError when the disk refuses; and what
    `check` raises, which is called before anything in the folder changes.

    Room is asked for before anything is written: a disk filled to the last byte would take the metrics' place too.
    """
    needed = sum(t.nbytes for t in [*tensors.values(), *_tensors(state)]) + MARGIN
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free)"
        )
    with checkpoints.new_checkpoint(folder, step, check=check) as place:
        try:
            save_file(tensors, place / MODEL)
            torch.save(state, place / STATE)
            # On a shared disk others fork from this file.
            mode_by_umask(place / MODEL)
        except Exception as error:
            # Both libraries tell of a full disk in errors of their own.
            raise error if isinstance(error, OSError) else OSError(str(error)) from error
    written = checkpoints.read_checkpoint(folder / checkpoints.CHECKPOINTS / checkpoints.step_name(step))
    fault = checkpoints.verify(written)
    if fault is not None:
        raise OSError(fault)
    return written


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tables and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def prune(folder: Path, *, step: int, keep: int, for_good: Collection[int]) -> None:
    """Remove all checkpoints but the newest `keep` up to the one just verified, of `step`, and those `for_good`.

    What lies beyond `step` was damaged, or training would have gone on from there; it must not count as newest.
    """
    known = checkpoints.list_checkpoints(folder)
    upto = [old for old in known if old.step <= step]
    beyond = [old for old in known if old.step > step]
    for old in [*upto[: max(0, len(upto) - keep)], *beyond]:
        if old.step not in for_good or old.step > step:
            shutil.rmtree(old.path, ignore_errors=True)


def load_newest(folder: Path, say: Callable[[str], None], at: int | None = None) -> Loaded | None:
    """The newest checkpoint that is whole (of step `at`, where given), or None; `say` hears of every damaged one."""
    found, faults = checkpoints.newest_good(folder, at)
    for fault in faults:
        say(f"checkpoint passed over: {fault}")
    if found is None:
        return None
    try:
        state = torch.load(found.path / STATE, map_location="cpu", weights_only=True)
        return Loaded(found.step, load_file(found.path / MODEL), state, found.files[MODEL][1])
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise LscError(f"{found.path}: not a checkpoint of this program ({type(error).__name__}: {first})") from error


def restore(model: nn.Module, head: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put the weights of a checkpoint into `model` and `head`. LscError where names or shapes differ.

    Layers that are fixed in the checkpoint are fixed here too: their weights follow from their seeds.
    """
    etf.fix_layers_of_checkpoint(nn.ModuleDict({"model": model, "head": head}), tensors)
    for prefix, module in (("model.", model), ("head.", head)):
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise LscError(f"the checkpoint does not fit this {prefix[:-1]}: {error}") from error


def restore_backbone(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Start `model` from the backbone of another run: every weight of equal name and shape, at least one. The names of
    its own weights that the other does not have so are given back."""
    own = model.state_dict()
    given = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    fitting = {
        name: t
        for name, t in given.items()
        if name in own and own[name].shape == t.shape and not name.endswith(f".{etf.SPEC}")
    }
    if not fitting:
        raise LscError("start_from: no weight of that run's backbone fits this one")
    model.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]
