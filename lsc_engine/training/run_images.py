"""The images of a run: opened, kept in mind with the run, and compared when it goes on.

What is kept makes the training folder dispensable: names of the classes in classes.json, and in source.json how many
images there were, the labels and mean grey levels of some, and where they lay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from lsc_engine.common.safe_io import UnreadableError, replace_file
from lsc_engine.config import RunConfig
from lsc_engine.config.datasets import facts_of
from lsc_engine.data import ImageSource, open_source
from lsc_engine.data.named import by_name
from lsc_engine.errors import UsageError
from lsc_engine.runs.folder.classes import changed_classes, listed, other_classes, read_classes, write_classes
from lsc_engine.runs.folder.layout import CLASSES, PRESET
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.runs.read.run import moved_from, open_run
from lsc_engine.training.fingerprint import PICTURES, known_pictures, other_pictures, pictures


def open_images(
    config: RunConfig, data_dir: Path | None, device: torch.device, say: Callable[[str], None]
) -> tuple[ImageSource, ImageSource | None]:
    """Training images and, where there are any, validation images, of this or of another data set: with the labels of
    the training classes of the same names."""
    data, other = config.data, config.eval.dataset
    source = open_source(data, split="train", data_dir=data_dir, device=device, say=say)
    names, what = source.class_names, f"validation images of {data.dataset}"
    if other not in (None, data.dataset):
        what = f"eval.dataset: {other}"
        data = data.model_copy(update={"dataset": other, "path": None, "image_size": source.size})
        fixed = facts_of(data.dataset).class_names
        if names and fixed and fixed[: len(names)] != names:
            data = data.model_copy(update={"classes": None})
    validation = open_source(data, split="val", data_dir=data_dir, device=device, say=say)
    if validation is None or validation.class_names == names:
        return source, validation
    if not names or not validation.class_names:
        say(f"{what}: classes have no names there or here, and go by their numbers")
        return source, validation
    validation, found = by_name(validation, names)
    if not validation.images:
        raise UsageError(f"{what}: none of its classes is one of this run: {listed(found.only_there)}")
    if found.only_there:
        say(f"{what}: left out, since this run does not have such classes: {listed(found.only_there)}")
    absent = [name for label, name in enumerate(names) if label not in found.labels]
    if absent:
        say(f"{what}: no images of {listed(absent)}")
    return source, validation


def check_images(
    folder: Path, config: RunConfig, source: ImageSource, own: Mapping[str, Any], *, begun: bool, like: Path | None
) -> None:
    """UsageError where the run in `folder`, which has `begun`, comes back to other classes; or where its images, that
    lie at another place than before, are others. `own`: its identity; `like`: the folder of a run that has these images
    from another place."""
    where = config.data.path or config.data.dataset
    before = _known_names(folder) if begun else ()
    changed = changed_classes(before, source.class_names) if before else None
    if changed:
        raise UsageError(other_classes(folder, where, changed))
    like = like or (folder if moved_from(folder, config.data.path) else None)
    if like is not None:
        _compare(like, where, own)


def check_moved(folder: Path, config: RunConfig, data_dir: Path | None, say: Callable[[str], None]) -> None:
    """UsageError where the training images of `config` are not those of the run in `folder`."""
    source = open_source(config.data, split="train", data_dir=data_dir, say=say)
    _compare(folder, config.data.path or config.data.dataset, pictures(source))


def _compare(folder: Path, where: str, own: Mapping[str, Any]) -> None:
    others = other_pictures(known_pictures(folder), own)
    if others:
        raise UsageError(
            f"data.path: {where} does not hold the images that {folder} was trained on: {'; '.join(others)}. "
            "Name the folder that they are in now; other images need another --name"
        )


def _known_names(folder: Path) -> tuple[str, ...]:
    try:
        return read_classes(folder)
    except UnreadableError:
        return ()


def keep_images(
    folder: Path, config: RunConfig, source: ImageSource, own: Mapping[str, Any], writer: RunWriter
) -> None:
    """Note with the run what its images are and where. A disk that refuses is told in the status."""
    facts: dict[str, Any] = {"channels": source.channels, "pictures": {key: own[key] for key in PICTURES}}
    moved = moved_from(folder, config.data.path)
    writer.check()
    try:
        if source.class_names:
            write_classes(folder, source.class_names)
        if moved is not None:
            replace_file(folder / PRESET, config.to_toml().encode())
    except OSError as error:
        writer.trouble("images", f"{error.filename or CLASSES}: {error.strerror or error}")
    if moved is not None:
        now = config.data.path or "the data folder"
        writer.message(f"the images are in {now} now; they were in {moved}")
        before = open_run(folder).source.get("moved") or []
        facts["moved"] = [*before, {"time": time.time(), "from": moved, "to": now}]
    writer.record(**facts)
