"""The images of a run: opened, recorded in its folder, and compared when it continues.

The record makes the training folder dispensable: names of the classes in classes.json, and in source.json the number
of images, the labels and mean grey levels of some, and their place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import UnreadableError, replace_file
from lsc_engine.config.schema import RunConfig
from lsc_engine.data.dataset import facts_of
from lsc_engine.data.named import by_name
from lsc_engine.data.opening import open_source
from lsc_engine.data.source import ImageSource
from lsc_engine.runs.folder.classes import changed_classes, listed, other_classes, read_classes, write_classes
from lsc_engine.runs.folder.layout import CLASSES, PRESET
from lsc_engine.runs.read.run import moved_from, open_run
from lsc_engine.training.fingerprint import IMAGE_KEYS, image_diff, image_fingerprint, recorded_image_fingerprint

if TYPE_CHECKING:
    from lsc_engine.training.context import RunContext


def open_images(
    config: RunConfig, data_dir: Path | None, device: torch.device, report: Callable[[str], None]
) -> tuple[ImageSource, ImageSource | None]:
    """Training images and, if there are any, validation images, of this or of another data set: with the labels of
    the training classes of the same names."""
    data, other = config.data, config.eval.dataset
    source = open_source(data, split="train", data_dir=data_dir, device=device, say=report)
    names, what = source.class_names, f"validation images of {data.dataset}"
    if other not in (None, data.dataset):
        what = f"eval.dataset: {other}"
        data = data.model_copy(update={"dataset": other, "path": None, "image_size": source.size})
        fixed = facts_of(data.dataset).class_names
        if names and fixed and fixed[: len(names)] != names:
            data = data.model_copy(update={"classes": None})
    validation = open_source(data, split="val", data_dir=data_dir, device=device, say=report)
    if validation is None or validation.class_names == names:
        return source, validation
    if not names or not validation.class_names:
        report(f"{what}: classes have no names there or here, and go by their numbers")
        return source, validation
    validation, found = by_name(validation, names)
    if not validation.images:
        raise UsageError(f"{what}: none of its classes is one of this run: {listed(found.only_there)}")
    if found.only_there:
        report(f"{what}: left out, since this run does not have such classes: {listed(found.only_there)}")
    absent = [name for label, name in enumerate(names) if label not in found.labels]
    if absent:
        report(f"{what}: no images of {listed(absent)}")
    return source, validation


def check_images(run: RunContext, source: ImageSource, own: Mapping[str, Any], *, begun: bool) -> None:
    """UsageError if the run has `begun` and comes back to other classes; or if its images, now at another place, are
    others. `own`: its fingerprint."""
    folder, path = run.folder, run.config.data.path
    where = path or run.config.data.dataset
    if begun and (before := class_names(folder)) and (changed := changed_classes(before, source.class_names)):
        raise UsageError(other_classes(folder, where, changed))
    reference = run.same_images_as or (folder if moved_from(folder, path) else None)
    if reference is not None:
        _check_same(reference, where, own)


def check_moved(folder: Path, config: RunConfig, data_dir: Path | None, report: Callable[[str], None]) -> None:
    """UsageError if the training images of `config` are not those of the run in `folder`."""
    source = open_source(config.data, split="train", data_dir=data_dir, say=report)
    _check_same(folder, config.data.path or config.data.dataset, image_fingerprint(source))


def _check_same(folder: Path, where: str, own: Mapping[str, Any]) -> None:
    if changed := image_diff(recorded_image_fingerprint(folder), own):
        raise UsageError(
            f"data.path: {where} does not hold the images that {folder} was trained on: {'; '.join(changed)}. "
            "Name the folder that they are in now; other images need another --name"
        )


def class_names(folder: Path) -> tuple[str, ...]:
    """The names of the classes of the run in `folder`; empty if it has none, or they cannot be read."""
    try:
        return read_classes(folder)
    except UnreadableError:
        return ()


def record_images(run: RunContext, source: ImageSource, own: Mapping[str, Any]) -> None:
    """Record what the images of a run are and where. A disk that refuses it is reported in the status."""
    folder, writer, path = run.folder, run.writer, run.config.data.path
    facts: dict[str, Any] = {"channels": source.channels, "pictures": {key: own[key] for key in IMAGE_KEYS}}
    moved = moved_from(folder, path)
    writer.check()
    try:
        if source.class_names:
            write_classes(folder, source.class_names)
        if moved is not None:
            replace_file(folder / PRESET, run.config.to_toml().encode())
    except OSError as error:
        writer.trouble("images", f"{error.filename or CLASSES}: {error.strerror or error}")
    if moved is not None:
        now = path or "the data folder"
        writer.message(f"the images are in {now} now; they were in {moved}")
        before = open_run(folder).source.get("moved") or []
        facts["moved"] = [*before, {"time": time.time(), "from": moved, "to": now}]
    writer.record(**facts)
