"""What a run takes from other runs: a table of centres, class means, weights to begin with, a teacher.

Runs are looked for where this one lies; config/references.py has the settings that name them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lsc_engine.common.safe_io import UnreadableError, read_json
from lsc_engine.config import RunConfig
from lsc_engine.config.references import Reference, references
from lsc_engine.errors import LscError, UsageError
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.distillation import Teacher
from lsc_engine.runs.folder.classes import changed_classes, labels_of, listed, read_classes, without
from lsc_engine.runs.folder.layout import CLASS_MEANS, PRESET, SOURCE
from lsc_engine.runs.read.run import Run, open_run
from lsc_engine.training import checkpointing


@dataclass(frozen=True)
class Start:
    """The run that another one begins with: its id, its number of classes where it has the same data, a reader of its
    newest good checkpoint, and the names of its classes, where they have some. `rows`: for each class of this run its
    label there, -1 where it is new; None where labels are the same."""

    id: str
    classes: int | None
    load: Callable[[], checkpointing.Loaded]
    names: tuple[str, ...] = ()
    rows: tuple[int, ...] | None = None


@dataclass(frozen=True)
class RunDependencies:
    """All of it; None where the settings name none. `table` [rows, n] are centres, `means` [rows, n] choose them."""

    table: Tensor | None = None
    means: Tensor | None = None
    start: Start | None = None
    teacher: Teacher | None = None
    # What the rows of each are called, by the key of the setting: (run, names of its classes).
    named: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def aligned(self, names: Sequence[str]) -> RunDependencies:
        """The same with rows in the order of the classes `names`, where both have names. UsageError for a class that a
        run has no row of."""
        changes: dict[str, Any] = {}
        for key, run, theirs in self.named:
            rows = _rows(key, run, theirs, names)
            if rows is None:
                continue
            if key == "target.teacher":
                assert self.teacher is not None
                changes["teacher"] = replace(self.teacher, head=_in_order(self.teacher.head, rows))
            else:
                part = "table" if key == "target.system" else "means"
                changes[part] = getattr(self, part)[torch.tensor(rows)]
        if self.start is not None and names and self.start.names:
            changes["start"] = _start_aligned(self.start, names)
        return replace(self, **changes)


def load_dependencies(
    config: RunConfig, folder: Path, runs_dir: Path, *, channels: int, device: torch.device
) -> RunDependencies:
    """Read what the run in `folder` takes. UsageError where a run, or what is wanted of it, is missing."""
    named = {reference.key: reference for reference in references(config)}
    system, order = named.get("target.system"), named.get("target.order")
    teacher, start = named.get("target.teacher"), named.get("start_from")
    table = None if system is None else class_means_of(system, runs_dir)
    if config.system is not None and config.system.startswith("file:"):
        from lsc_engine.vectors.families.tables import load_table

        table = load_table(Path(config.system.removeprefix("file:")))
    named_rows = tuple(
        (one.key, run.id, theirs)
        for one in (system, order, teacher)
        if one is not None and (theirs := names_of(run := open_run(one.ref, [runs_dir])))
    )
    return RunDependencies(
        named=named_rows,
        table=table,
        means=None if order is None else class_means_of(order, runs_dir),
        start=None if start is None else _start(config, start, folder, runs_dir),
        teacher=None if teacher is None else _teacher(config, teacher, runs_dir, channels, device),
    )


def names_of(run: Run) -> tuple[str, ...]:
    """The names of the classes of a run; none where it kept none, or they cannot be read."""
    try:
        return read_classes(run.path)
    except UnreadableError:
        return ()


def _rows(key: str, run: str, theirs: Sequence[str], own: Sequence[str]) -> list[int] | None:
    """The rows of `run`, whose classes are called `theirs`, in the order of the classes `own`, the others behind them;
    None where that is their order already, or names are not known."""
    if not own or not theirs or changed_classes(theirs[: len(own)], own) is None:
        return None
    absent = without(own, theirs)
    if absent:
        raise UsageError(f"{key}: {run} was not trained on all classes of this run; it lacks {listed(absent)}")
    rows = labels_of(own, theirs)
    used = set(rows)
    return [*rows, *(row for row in range(len(theirs)) if row not in used)]


def _in_order(head: CrossEntropyHead, rows: Sequence[int]) -> CrossEntropyHead:
    """`head` with its classes in the order `rows`."""
    index = torch.tensor(rows, device=head.layer.weight.device)
    with torch.no_grad():
        head.layer.weight.copy_(head.layer.weight[index])
        head.layer.bias.copy_(head.layer.bias[index])
    return head


def _start_aligned(start: Start, names: Sequence[str]) -> Start:
    if changed_classes(start.names, names[: len(start.names)]) is None:
        return start
    # The classes known are then not the first ones, and no accuracy of them is told apart.
    return replace(start, classes=None, rows=tuple(labels_of(names, start.names)))


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
        classes, names = known.get("classes"), _names_if_there(reference, runs_dir)
    else:
        run = open_run(reference.ref, [runs_dir])
        other = RunConfig.from_toml(run.path / PRESET)
        same = (other.data.dataset, other.data.labels) == (config.data.dataset, config.data.labels)
        classes, names = other.data.classes if same else None, names_of(run)
    return Start(reference.ref, classes, lambda: _newest(reference, open_run(reference.ref, [runs_dir])), names)


def _names_if_there(reference: Reference, runs_dir: Path) -> tuple[str, ...]:
    try:
        return names_of(open_run(reference.ref, [runs_dir]))
    except UsageError:
        return ()


def _newest(reference: Reference, run: Run) -> checkpointing.Loaded:
    found = checkpointing.load_newest(run.path, lambda text: None)
    if found is None:
        raise UsageError(f"{reference.key}: {run.id} has no good checkpoint")
    return found


def _teacher(config: RunConfig, reference: Reference, runs_dir: Path, channels: int, device: torch.device) -> Teacher:
    """The teacher's backbone and class layer, built from its own preset and frozen."""
    from lsc_engine.heads.build import build_head
    from lsc_engine.models.build import build_model

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
    checkpointing.restore(model, head, found.tensors)
    return Teacher(model.to(device), head.to(device), f"{run.id} step {found.step}", found.sha256)
