"""What a run takes from other runs: a table of centres, class means, weights to begin with, a teacher.

Runs are looked for where this one lies; config/references.py has the settings that name them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lsc_engine.config import RunConfig
from lsc_engine.config.references import Reference, references
from lsc_engine.errors import LscError, UsageError
from lsc_engine.heads import Teacher
from lsc_engine.runs import Run, open_run
from lsc_engine.runs.files import UnreadableError, read_json
from lsc_engine.runs.layout import CLASS_MEANS, PRESET, SOURCE
from lsc_engine.training import checkpoint


@dataclass(frozen=True)
class Start:
    """The run that another one begins with: its id, its number of classes where it has the same data, and a reader
    of its newest good checkpoint."""

    id: str
    classes: int | None
    load: Callable[[], checkpoint.Loaded]


@dataclass(frozen=True)
class Taken:
    """All of it; None where the settings name none. `table` [rows, n] are centres, `means` [rows, n] choose them."""

    table: Tensor | None = None
    means: Tensor | None = None
    start: Start | None = None
    teacher: Teacher | None = None


def take(config: RunConfig, folder: Path, runs_dir: Path, *, channels: int, device: torch.device) -> Taken:
    """Read what the run in `folder` takes. UsageError where a run, or what is wanted of it, is missing."""
    named = {reference.key: reference for reference in references(config)}
    system, order = named.get("target.system"), named.get("target.order")
    teacher, start = named.get("target.teacher"), named.get("start_from")
    table = None if system is None else class_means_of(system, runs_dir)
    if config.target.system is not None and config.target.system.startswith("file:"):
        from lsc_engine.vectors import load_table

        table = load_table(Path(config.target.system.removeprefix("file:")))
    return Taken(
        table=table,
        means=None if order is None else class_means_of(order, runs_dir),
        start=None if start is None else _start(config, start, folder, runs_dir),
        teacher=None if teacher is None else _teacher(config, teacher, runs_dir, channels, device),
    )


def class_means_of(reference: Reference, runs_dir: Path) -> Tensor:
    """The class means [classes, n] that a run stored at its end."""
    from safetensors.torch import load_file

    run = open_run(reference.ref, [runs_dir])
    path = run.path / CLASS_MEANS
    if not path.is_file():
        raise UsageError(f"{reference.key}: {run.id} has no {CLASS_MEANS}; train it with eval.class_means = true")
    try:
        return load_file(path)["class_means"]
    except Exception as error:
        raise LscError(f"{path}: cannot be read: {error}") from error


def _start(config: RunConfig, reference: Reference, folder: Path, runs_dir: Path) -> Start:
    try:
        known = read_json(folder / SOURCE).get("start")
    except UnreadableError:
        known = None
    if isinstance(known, dict) and known.get("id"):
        # Begun already: what it goes on with is its own, and the other run may be gone.
        classes = known.get("classes")
    else:
        other = RunConfig.from_toml(open_run(reference.ref, [runs_dir]).path / PRESET)
        same = (other.data.dataset, other.data.labels) == (config.data.dataset, config.data.labels)
        classes = other.data.classes if same else None
    return Start(reference.ref, classes, lambda: _newest(reference, open_run(reference.ref, [runs_dir])))


def _newest(reference: Reference, run: Run) -> checkpoint.Loaded:
    found = checkpoint.load_newest(run.path, lambda text: None)
    if found is None:
        raise UsageError(f"{reference.key}: {run.id} has no good checkpoint")
    return found


def _teacher(config: RunConfig, reference: Reference, runs_dir: Path, channels: int, device: torch.device) -> Teacher:
    """The teacher's backbone and class layer, built from its own preset and frozen."""
    from lsc_engine.heads import build_head
    from lsc_engine.heads.cross_entropy import CrossEntropyHead
    from lsc_engine.models import build_model

    run = open_run(reference.ref, [runs_dir])
    other = RunConfig.from_toml(run.path / PRESET)
    found = _newest(reference, run)
    layer = found.tensors.get("head.narrow.weight", found.tensors.get("head.layer.weight"))
    size, classes = config.data.image_size, other.data.classes
    if layer is None or size is None or classes is None or classes != config.data.classes:
        raise UsageError(f"target.teacher: {run.id} has no logits of {config.data.classes} classes")
    dim = other.model.dim if isinstance(other.model.dim, int) else None
    model = build_model(other.model, channels=channels, size=size, dim=dim, seed=0)
    plain = other.model_copy(update={"target": other.target.model_copy(update={"teacher": None})})
    head = build_head(plain, classes=classes, dim=layer.shape[1], seed=0)
    assert isinstance(head, CrossEntropyHead)
    checkpoint.restore(model, head, found.tensors)
    return Teacher(model.to(device), head.to(device), f"{run.id} step {found.step}", found.sha256)
