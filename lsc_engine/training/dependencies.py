"""What a run needs of other runs: a table of vectors, class means, initial weights, a teacher.

Runs are looked for in the runs folder of this one; config/references.py has the settings that name them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import UnreadableError, read_json
from lsc_engine.config.load import load_run_config
from lsc_engine.config.references import Reference, references
from lsc_engine.config.schema import RunConfig
from lsc_engine.data.class_names import labels_of, without
from lsc_engine.heads.build import build_head
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.distillation import Teacher
from lsc_engine.models.build import build_model
from lsc_engine.runs.folder.classes import changed_classes, listed
from lsc_engine.runs.folder.layout import CLASS_MEANS, PRESET, SOURCE
from lsc_engine.runs.read.run import Run, open_run
from lsc_engine.training import checkpointing
from lsc_engine.training.run_images import class_names


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

    def for_classes(self, names: Sequence[str]) -> InitialWeights:
        if not names or not self.names or changed_classes(self.names, names[: len(self.names)]) is None:
            return self
        # The classes that run knew are then not the first ones, and their accuracy is not reported apart.
        return replace(self, classes=None, rows=tuple(labels_of(names, self.names)))


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
            rows = _rows(key, run, theirs, names)
            if rows is None:
                continue
            if key == "target.teacher":
                assert self.teacher is not None
                changes["teacher"] = replace(self.teacher, head=_reordered(self.teacher.head, rows))
            else:
                part = "vectors" if key == "target.system" else "class_means"
                changes[part] = getattr(self, part)[torch.tensor(rows)]
        if self.start is not None:
            changes["start"] = self.start.for_classes(names)
        return replace(self, **changes)


def load_dependencies(
    config: RunConfig, folder: Path, runs_dir: Path, *, channels: int, device: torch.device
) -> RunDependencies:
    """Those of the run in `folder`. UsageError if a run, or what is needed of it, is missing."""
    named = {reference.key: reference for reference in references(config)}
    system, order = named.get("target.system"), named.get("target.order")
    teacher, start = named.get("target.teacher"), named.get("start_from")
    vectors = None if system is None else class_means_of(system, runs_dir)
    if config.system is not None and config.system.startswith("file:"):
        from lsc_engine.vectors.families.tables import load_table

        vectors = load_table(Path(config.system.removeprefix("file:")))
    return RunDependencies(
        row_names=tuple(
            (one.key, run.id, theirs)
            for one in (system, order, teacher)
            if one is not None and (theirs := class_names((run := open_run(one.ref, [runs_dir])).path))
        ),
        vectors=vectors,
        class_means=None if order is None else class_means_of(order, runs_dir),
        start=None if start is None else _initial_weights(config, start, folder, runs_dir),
        teacher=None if teacher is None else _teacher(config, teacher, runs_dir, channels, device),
    )


def _rows(key: str, run: str, theirs: Sequence[str], own: Sequence[str]) -> list[int] | None:
    """The rows of `run`, whose classes are called `theirs`, in the order of the classes `own`, the others behind them;
    None if that is their order already, or names are not known."""
    if not own or not theirs or changed_classes(theirs[: len(own)], own) is None:
        return None
    absent = without(own, theirs)
    if absent:
        raise UsageError(f"{key}: {run} was not trained on all classes of this run; it lacks {listed(absent)}")
    rows = labels_of(own, theirs)
    used = set(rows)
    return [*rows, *(row for row in range(len(theirs)) if row not in used)]


def _reordered(head: CrossEntropyHead, rows: Sequence[int]) -> CrossEntropyHead:
    """`head` with its classes in the order `rows`."""
    index = torch.tensor(rows, device=head.layer.weight.device)
    with torch.no_grad():
        head.layer.weight.copy_(head.layer.weight[index])
        head.layer.bias.copy_(head.layer.bias[index])
    return head


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


def _initial_weights(config: RunConfig, reference: Reference, folder: Path, runs_dir: Path) -> InitialWeights:
    def newest() -> checkpointing.Loaded:
        return _newest(reference, open_run(reference.ref, [runs_dir]))

    try:
        recorded = read_json(folder / SOURCE).get("start")
    except UnreadableError:
        recorded = None
    if isinstance(recorded, dict) and recorded.get("id"):
        # Begun already: its checkpoints are its own, and the other run may be gone.
        try:
            names = class_names(open_run(reference.ref, [runs_dir]).path)
        except UsageError:
            names = ()
        return InitialWeights(reference.ref, recorded.get("classes"), newest, names)
    run = open_run(reference.ref, [runs_dir])
    other = load_run_config(run.path / PRESET)
    same = (other.data.dataset, other.data.labels) == (config.data.dataset, config.data.labels)
    return InitialWeights(reference.ref, other.data.classes if same else None, newest, class_names(run.path))


def _newest(reference: Reference, run: Run) -> checkpointing.Loaded:
    found = checkpointing.load_newest(run.path)
    if found is None:
        raise UsageError(f"{reference.key}: {run.id} has no good checkpoint")
    return found


def _teacher(config: RunConfig, reference: Reference, runs_dir: Path, channels: int, device: torch.device) -> Teacher:
    """The teacher's backbone and class layer, built from its own preset and frozen."""
    run = open_run(reference.ref, [runs_dir])
    other = load_run_config(run.path / PRESET)
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
    checkpointing.restore(nn.ModuleDict({"model": model, "head": head}), found.tensors)
    return Teacher(model.to(device), head.to(device), f"{run.id} step {found.step}", found.sha256)
