"""Checkpoints: written whole or not at all, when they are due, and never loaded by unpickling code.

model.safetensors holds backbone and head; state.pt holds the rest as tensors and plain values and is read with
`weights_only=True`, without fallback. Folder, manifest, hashes and the choice of the newest good one are in
runs/folder/checkpoints.py.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lsc_engine.common.errors import DivergedError, LscError
from lsc_engine.common.safe_io import mode_by_umask
from lsc_engine.models import etf
from lsc_engine.runs.folder import checkpoints
from lsc_engine.runs.folder.layout import CHECKPOINTS
from lsc_engine.training.step import first_line

if TYPE_CHECKING:
    from lsc_engine.training.context import RunContext

MODEL, STATE = "model.safetensors", "state.pt"
# Room left for what else a run writes.
MARGIN = 1 << 20
# After the disk refused a checkpoint, the next try comes after this time, whatever [checkpoint] says.
RETRY_SECONDS = 60.0
# Seconds that a run folder may be missing, as while a network folder is mounted again.
GONE_PATIENCE = 30.0
# Seconds to wait for room for the last checkpoint: after a stop, and at the end of the training.
STOP_PATIENCE, END_PATIENCE = 10.0, 300.0


class Checkpointer:
    """Saves the checkpoints of a run at the times of [checkpoint], and again after a failed write; keeps the newest,
    the best and those that [checkpoint] names."""

    def __init__(self, run: RunContext, network: nn.Module) -> None:
        self._run, self._network = run, network
        self._begun = time.monotonic()
        self._retry_at: float | None = None
        self._gone_since: float | None = None
        self._saved_step: int | None = None
        # Checkpoints are compared among themselves, each by the evaluation before it.
        self._best: float | None = None
        self._best_step: int | None = None

    def due(self, step: int) -> bool:
        every, now = self._run.derived.checkpoint_every, time.monotonic()
        if self._retry_at is not None and now >= self._retry_at:
            return True
        if step in self._run.derived.checkpoint_also_at or (every.steps and step % every.steps == 0):
            return True
        return every.seconds is not None and now - self._begun >= every.seconds

    def save(self, step: int, state: Mapping[str, Any], score: float | None) -> bool:
        """Write a checkpoint. A disk that refuses it is reported in the status, tried again within a minute, and does
        not end the training: False. DivergedError for weights or a loss (`state["loss_sum"]`) that are not finite: no
        checkpoint ever holds such."""
        if self._saved_step == step:
            return True
        run, writer = self._run, self._run.writer
        tensors = {name: t.detach().cpu().contiguous() for name, t in self._network.state_dict().items()}
        broken = [name for name, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
        if broken or not math.isfinite(state["loss_sum"].item()):
            what = f"{broken[0]} holds values" if broken else "the loss is a value"
            raise DivergedError(f"{what} that are not finite at step {step}; {self.last_good()}")
        self._begun = time.monotonic()
        best = {"best": self._best, "best_step": self._best_step}
        if score is not None and (self._best is None or score > self._best):
            best = {"best": score, "best_step": step}
        try:
            writer.sync()
            written = save(run.folder, step, tensors, {**state, **best}, writer.check)
        except OSError as error:
            writer.trouble("checkpoint", f"checkpoint step {step}: {error.strerror or error}")
            writer.message(f"checkpoint step {step} not written: {error.strerror or error}; {self.last_good()}")
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._check_folder()
            return False
        self._retry_at = self._gone_since = None
        self.load_state_dict(best, step)
        for_good = {*run.derived.checkpoint_also_at, *([] if self._best_step is None else [self._best_step])}
        writer.check()
        prune(run.folder, step=step, keep=run.config.checkpoint.keep, for_good=for_good)
        writer.trouble("checkpoint", None)
        took = time.monotonic() - self._begun
        writer.message(f"checkpoint step {step} written and verified, {written.size / 1e6:.1f} MB, {took:.1f} s")
        return True

    def _check_folder(self) -> None:
        """LscError if the run folder has been missing for long: it was removed, and nothing can be saved there."""
        now = time.monotonic()
        self._gone_since = None if self._run.folder.is_dir() else self._gone_since or now
        if self._gone_since is not None and now - self._gone_since > GONE_PATIENCE:
            raise LscError(f"the run folder {self._run.folder} is gone, nothing can be kept there")

    def save_last(self, step: int, state: Mapping[str, Any], score: float | None) -> None:
        """Write the final checkpoint. If the disk refuses it, wait for room: briefly after a stop, longer at the end of
        the training. LscError if there is none: the run has then not kept what it learnt."""
        began = time.monotonic()
        while not self.save(step, state, score):
            waited = time.monotonic() - began
            stopped = self._run.signals.stop is not None or step < self._run.derived.total_steps
            if waited > (STOP_PATIENCE if stopped else END_PATIENCE):
                raise LscError(f"checkpoint step {step} could not be written in {waited:.0f} s; {self.last_good()}")
            self._run.writer.heartbeat(step, self._run.eta)
            time.sleep(min(1.0, STOP_PATIENCE / 5))

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """`state` of the checkpoint of `step`, which this run continues from or has just written."""
        self._best, self._best_step, self._saved_step = state["best"], state["best_step"], step

    def last_good(self) -> str:
        step = self._saved_step
        return "there is no checkpoint yet" if step is None else f"last good checkpoint step {step}"


@dataclass(frozen=True)
class Loaded:
    """A checkpoint read back: its step, the tensors of backbone and head, the rest of the training state, and the
    sha256 of the tensors' file."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    sha256: str = ""


def save(
    folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any], check: Callable[[], None] = lambda: None
) -> checkpoints.Checkpoint:
    """Write checkpoint `step` of the run in `folder` and verify it by its hashes. OSError if the disk refuses it; and
    any error of `check`, which is called before anything in the folder changes.

    Room is checked before anything is written: a disk filled to the last byte would leave none for the metrics.
    """
    needed = sum(t.nbytes for t in tree_leaves([tensors, state]) if isinstance(t, Tensor)) + MARGIN
    free = shutil.disk_usage(folder).free
    if free < needed:
        room = f"{needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free"
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({room})")
    with checkpoints.new_checkpoint(folder, step, check=check) as place:
        try:
            save_file(tensors, place / MODEL)
            torch.save(state, place / STATE)
            # On a shared disk others fork from this file.
            mode_by_umask(place / MODEL)
        except Exception as error:
            # Both libraries have errors of their own for a full disk.
            raise error if isinstance(error, OSError) else OSError(str(error)) from error
    written = checkpoints.read_checkpoint(folder / CHECKPOINTS / checkpoints.step_name(step))
    if (fault := checkpoints.verify(written)) is not None:
        raise OSError(fault)
    return written


def prune(folder: Path, *, step: int, keep: int, for_good: Collection[int]) -> None:
    """Remove all checkpoints except the newest `keep` up to the verified one, of `step`, and those `for_good`.

    Any beyond `step` was damaged, or training would have gone on from there; it must not count as newest.
    """
    known = checkpoints.list_checkpoints(folder)
    newest = [old.step for old in known if old.step <= step][-keep:]
    for old in known:
        if old.step > step or old.step not in {*newest, *for_good}:
            shutil.rmtree(old.path, ignore_errors=True)


def load_newest(folder: Path, report: Callable[[str], None] | None = None, at: int | None = None) -> Loaded | None:
    """The newest checkpoint that is whole (of step `at`, if given), or None; damaged ones are reported."""
    found, faults = checkpoints.newest_good(folder, at)
    if report is not None:
        for fault in faults:
            report(f"checkpoint passed over: {fault}")
    if found is None:
        return None
    try:
        state = torch.load(found.path / STATE, map_location="cpu", weights_only=True)
        return Loaded(found.step, load_file(found.path / MODEL), state, found.files[MODEL][1])
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise LscError(f"{found.path}: not a checkpoint of this program ({reason})") from error


def restore(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load the weights of a checkpoint into `network`. LscError if names or shapes differ.

    Layers that are fixed in the checkpoint are fixed here too: their weights follow from their seeds.
    """
    etf.fix_layers_of_checkpoint(network, tensors)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise LscError(f"the checkpoint does not fit this run: {error}") from error


def restore_backbone(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Load every weight of equal name and shape, at least one, from the backbone of another run; returns the names of
    the other weights of `model`."""
    own = model.state_dict()
    theirs = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    fitting = {
        name: t
        for name, t in theirs.items()
        if name in own and own[name].shape == t.shape and not name.endswith(f".{etf.SPEC}")
    }
    if not fitting:
        raise LscError("start_from: no weight of that run's backbone fits this one")
    model.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]
