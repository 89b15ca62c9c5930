"""What a run needs of other runs: a table of vectors, class means, initial weights, a teacher.

Runs are looked for in the runs folder of this one; `Settings.references` are the settings that name them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.config.load import load_run_config
from lsc_engine.config.schema import Reference, RunConfig
from lsc_engine.data.class_folders import labels_of, without
from lsc_engine.heads.build import build_head
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.distillation import Teacher
from lsc_engine.models.build import build_model
from lsc_engine.runs.folder.classes import changed_classes, listed
from lsc_engine.runs.folder.layout import CLASS_MEANS, PRESET
from lsc_engine.runs.read.run import Run, no_checkpoint, open_run
from lsc_engine.training import checkpointing
from lsc_engine.training.run_images import class_names, recorded


@dataclass(frozen=True)
class InitialWeights:
    """The run of start_from: its id, its number of classes if it has the same data, a reader of its newest good
    checkpoint, and the names of its classes, if they have any. `rows`: for each class of this run its label there, -1
    for a new one; None if labels are the same."""

    id: str
    classes: int | None
    load: Callable[[], checkpointing.Loaded]
    names: tuple[str, ...] = ()
    rows: tuple[int, ...] | None = None


@dataclass(frozen=True)
class RunDependencies:
    """None for what the settings do not name. `vectors` [rows, n] are a vector system; `class_means` [rows, n] choose
    the vectors of one."""

    vectors: Tensor | None = None
    class_means: Tensor | None = None
    start: InitialWeights | None = None
    teacher: Teacher | None = None
    row_names: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """By the key of a setting: (key, run, names of the classes in the order of its rows)."""

    def for_classes(self, names: Sequence[str]) -> RunDependencies:
        """The same with rows in the order of the classes `names`, if both have names. UsageError for a class without
        a row."""
        changes: dict[str, Any] = {}
        for key, run, theirs in self.row_names:
            if not names or changed_classes(theirs[: len(names)], names) is None:
                continue
            if absent := without(names, theirs):
                raise UsageError(f"{key}: {run} was not trained on all classes of this run; it lacks {listed(absent)}")
            rows = labels_of(names, theirs)
            index = torch.tensor([*rows, *sorted(set(range(len(theirs))) - set(rows))])
            if key == "target.teacher":
                assert self.teacher is not None
                layer = self.teacher.head.layer
                with torch.no_grad():
                    for parameter in (layer.weight, layer.bias):
                        parameter.copy_(parameter[index.to(parameter.device)])
            else:
                part = "vectors" if key == "target.system" else "class_means"
                changes[part] = getattr(self, part)[index]
        start = self.start
        if start and names and start.names and changed_classes(start.names, names[: len(start.names)]) is not None:
            # The classes that run knew are then not the first ones, and their accuracy is not reported apart.
            changes["start"] = replace(start, classes=None, rows=tuple(labels_of(names, start.names)))
        return replace(self, **changes)


def load_dependencies(
    config: RunConfig, folder: Path, runs_dir: Path, *, channels: int, device: torch.device
) -> RunDependencies:
    """Those of the run in `folder`. UsageError if a run, or what is needed of it, is missing."""
    named = {one.key: one for one in config.references}
    start = named.pop("start_from", None)
    runs = {key: open_run(one.ref, [runs_dir]) for key, one in named.items()}
    means = {key: _class_means(key, runs[key]) for key, one in named.items() if one.of_means}
    teacher, vectors = runs.get("target.teacher"), means.get("target.system")
    if config.system is not None and config.system.startswith("file:"):
        from lsc_engine.vectors.families.tables import load_table

        vectors = load_table(Path(config.system.removeprefix("file:")))
    return RunDependencies(
        vectors=vectors,
        class_means=means.get("target.order"),
        start=None if start is None else _initial_weights(config, start, folder, runs_dir),
        teacher=None if teacher is None else _teacher(config, teacher, channels, device),
        row_names=tuple((key, run.id, theirs) for key, run in runs.items() if (theirs := class_names(run.path))),
    )


def _class_means(key: str, run: Run) -> Tensor:
    """The class means [classes, n] that a run stored at its end; `key`: the setting that names it."""
    from safetensors.torch import load_file

    path = run.path / CLASS_MEANS
    if not path.is_file():
        raise UsageError(f"{key}: {run.id} has no {CLASS_MEANS}; train it with eval.class_means = true")
    try:
        return load_file(path)["class_means"]
    except Exception as error:
        raise LscError(f"{path}: cannot be read: {error}") from error


def _initial_weights(config: RunConfig, reference: Reference, folder: Path, runs_dir: Path) -> InitialWeights:
    def newest() -> checkpointing.Loaded:
        return _newest(reference.key, open_run(reference.ref, [runs_dir]))

    begun = recorded(folder, "start")
    try:
        run = open_run(reference.ref, [runs_dir])
    except UsageError:
        # Begun already: its checkpoints are its own, and the other run may be gone.
        if not begun.get("id"):
            raise
        return InitialWeights(reference.ref, begun.get("classes"), newest)
    names = class_names(run.path)
    if begun.get("id"):
        return InitialWeights(reference.ref, begun.get("classes"), newest, names)
    other = load_run_config(run.path / PRESET)
    same = (other.data.dataset, other.data.labels) == (config.data.dataset, config.data.labels)
    return InitialWeights(reference.ref, other.data.classes if same else None, newest, names)


def _newest(key: str, run: Run) -> checkpointing.Loaded:
    found = checkpointing.load_newest(run.path)
    if found is None:
        raise UsageError(f"{key}: {no_checkpoint(run)}")
    return found


def _teacher(config: RunConfig, run: Run, channels: int, device: torch.device) -> Teacher:
    """The teacher's backbone and class layer, built from its own preset and frozen."""
    other = load_run_config(run.path / PRESET)
    found = _newest("target.teacher", run)
    layer = found.tensors.get("head.narrow.weight", found.tensors.get("head.layer.weight"))
    size, classes = config.data.image_size, other.data.classes
    if getattr(other.target, "loss", None) is not None:
        raise UsageError(f"target.teacher: {run.id} is not trained with cross-entropy of softmax")
    if layer is None or size is None or classes is None or classes != config.data.classes:
        raise UsageError(f"target.teacher: {run.id} has no logits of {config.data.classes} classes")
    dim = other.model.dim if isinstance(other.model.dim, int) else None
    residual = other.train.residual
    model = build_model(other.model, channels=channels, size=size, dim=dim, seed=0, residual=residual)
    head = build_head(other.with_values({"target.teacher": None}), classes=classes, dim=layer.shape[1], seed=0)
    assert isinstance(head, CrossEntropyHead)
    checkpointing.restore(nn.ModuleDict({"model": model, "head": head}), found.tensors)
    return Teacher(model.to(device), head.to(device), f"{run.id} step {found.step}", found.sha256)
