"""The images of a run: opened, identified, recorded in its folder, and compared when it continues.

The record makes the training folder dispensable: names of the classes in classes.json, and in source.json the number
of images, the labels and mean grey levels of some, and their place.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import UnreadableError, read_json, replace_file
from lsc_engine.config.schema import RunConfig
from lsc_engine.data.class_folders import without
from lsc_engine.data.dataset import data_set, facts_of, open_source
from lsc_engine.data.named import by_name, changed
from lsc_engine.data.source import ImageSource
from lsc_engine.heads.base import Head
from lsc_engine.runs.folder.classes import changed_classes, listed, other_classes, read_classes, write_classes
from lsc_engine.runs.folder.layout import CLASSES, PRESET, SOURCE
from lsc_engine.runs.read.run import moved_from, open_run
from lsc_engine.runs.settings import FORK_CHANGES, PLACE, differences, settings_of
from lsc_engine.training import checkpointing
from lsc_engine.vectors.bijection import Bijection

if TYPE_CHECKING:
    from lsc_engine.training.context import RunContext

MADE_CLASSES = 500
_SAMPLE = 64
# Decoders of other versions and machines differ by far less than another image does, in grey levels of the mean.
_SAME_IMAGE = 1.0
_MOST_CLAUSES = 8


def open_images(
    config: RunConfig, data_dir: Path | None, device: torch.device, report: Callable[[str], None]
) -> tuple[ImageSource, ImageSource | None]:
    """Training images and, if there are any, validation images, of this or of another data set: with the labels of
    the training classes of the same names."""
    data, other = config.data, config.eval.dataset
    source = open_source(data, split="train", data_dir=data_dir, device=device, say=report)
    source = changed(source, config.seed, noise=data.label_noise, imbalance=data.imbalance)
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
    others = without(validation.class_names, names)
    validation, found = by_name(validation, names)
    if not validation.images:
        raise UsageError(f"{what}: none of its classes is one of this run: {listed(others)}")
    if others:
        report(f"{what}: left out, since this run does not have such classes: {listed(others)}")
    absent = [name for label, name in enumerate(names) if label not in found]
    if absent:
        report(f"{what}: no images of {listed(absent)}")
    return source, validation


def open_ood(
    config: RunConfig, data_dir: Path | None, device: torch.device, report: Callable[[str], None]
) -> ImageSource:
    """The images of eval.ood at the size of the training images: those of validation, else of training."""
    assert config.eval.ood is not None
    other = {"dataset": config.eval.ood, "path": None, "classes": classes_of(config.eval.ood), "labels": "class"}
    data = config.data.model_copy(update=other)
    found = open_source(data, split="val", data_dir=data_dir, device=device, say=report)
    return found or open_source(data, split="train", data_dir=data_dir, device=device, say=report)


def classes_of(dataset: str) -> int | None:
    """How many classes to take of another data set: None for all, a fixed number where the data set is unbounded."""
    chosen = data_set(dataset)
    return MADE_CLASSES if chosen.made_from_index or chosen.counted_late else None


def class_names(folder: Path) -> tuple[str, ...]:
    """The names of the classes of the run in `folder`; empty if it has none, or they cannot be read."""
    try:
        return read_classes(folder)
    except UnreadableError:
        return ()


def recorded(folder: Path, key: str) -> dict[str, Any]:
    """A table of the run's source.json; empty if there is none, or the file cannot be read."""
    try:
        found = read_json(folder / SOURCE).get(key)
    except UnreadableError:
        found = None
    return found if isinstance(found, dict) else {}


def fingerprint(config: RunConfig, head: Head, source: ImageSource) -> dict[str, Any]:
    """Plain values that identify what is trained on what, without the place of the data and what is kept for viewers;
    `state.pt` and source.json hold them."""
    settings = settings_of(config.to_table())
    for key in (PLACE, "eval.embeddings"):
        settings.pop(key, None)
    return {"settings": settings, "seed": config.seed, "head": head.record(), **_image_fingerprint(source)}


def _image_fingerprint(source: ImageSource) -> dict[str, Any]:
    """The part that identifies the images: their number, and of some the labels, mean grey levels and mean levels of
    each channel."""
    index = Bijection(source.images, 0, "images looked at again")(torch.arange(min(_SAMPLE, source.images)))
    index = index.to(source.device)
    images = source.fetch(index).float()
    return {
        "data": {"images": source.images, "classes": source.classes, "size": source.size},
        "files": source.record,
        "labels": source.labels(index).tolist(),
        "means": images.mean((1, 2, 3)).tolist(),
        "colours": images.mean((2, 3)).tolist(),
    }


def fingerprint_diff(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path, step: int) -> list[str]:
    """A clause for each difference of two fingerprints. The settings that a fork may change count from the step on that
    the run in `folder` was forked at: there its checkpoint is its parent's."""
    allowed = FORK_CHANGES if recorded(folder, "parent").get("step") == step else ()
    now = json.loads(json.dumps(now))
    changed = differences(before.get("settings", {}), now["settings"])
    clauses = _clauses({key: change for key, change in changed.items() if not (allowed and key.startswith(allowed))})
    clauses += _clauses(differences(*({"seed": each.get("seed"), **each.get("data", {})} for each in (before, now))))
    if not clauses and before.get("head") != now["head"]:
        heads = ({**each.get("head", {}), "vectors_sha256": None} for each in (before, now))
        clauses = _clauses(differences(*(settings_of({"head": head}) for head in heads)))
        clauses += changed_vectors(before, now["head"])
    clauses = clauses or _changed_images(before, now)
    more = len(clauses) - _MOST_CLAUSES
    return [*clauses[:_MOST_CLAUSES], f"and {more} more"] if more > 0 else clauses


def changed_vectors(before: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """A clause if the rows of a table of vectors are others than those of the fingerprint `before`."""
    # Checkpoints of earlier versions have no hash of them.
    known = before.get("head", {}).get("vectors_sha256")
    changed = known not in (None, head.get("vectors_sha256"))
    return [f"{head['system']} holds other vectors now"] if changed else []


def _clauses(changed: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [f"{key} was {old!r} and is {new!r}" for key, (old, new) in changed.items()]


def _changed_images(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A clause if the images are others: by the mean levels of some, by the names and sizes of all files, and for
    packed images by every pixel, if the same decoder read them."""
    # Checkpoints of earlier versions have no levels by channel, and no names and sizes.
    others = [abs(old - new) > _SAME_IMAGE for old, new in zip(before.get("means", []), now["means"], strict=False)]
    for i, (old, new) in enumerate(zip(before.get("colours", []), now["colours"], strict=False)):
        others[i] |= any(abs(a - b) > _SAME_IMAGE for a, b in zip(old, new, strict=False))
    if any(others):
        return [f"{sum(others)} of {len(others)} images looked at are other images, or come in another order"]
    if before.get("labels") != now["labels"]:
        return ["images have other labels"]
    old_files, new_files = before.get("files") or {}, now["files"]
    if old_files and new_files and old_files["files"] != new_files["files"]:
        return ["image files were renamed, moved to other classes, or replaced by files of other sizes"]
    packed = old_files.get("pixels") and new_files.get("pixels") and old_files["decoder"] == new_files["decoder"]
    if packed and old_files["pixels"] != new_files["pixels"]:
        return ["images were replaced by others of the same names and sizes"]
    return []


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
    data = config.data
    source = open_source(data, split="train", data_dir=data_dir, say=report)
    source = changed(source, config.seed, noise=data.label_noise, imbalance=data.imbalance)
    _check_same(folder, config.data.path or config.data.dataset, _image_fingerprint(source))


def _check_same(folder: Path, where: str, own: Mapping[str, Any]) -> None:
    """By what was recorded at the run's start or, failing that, in its newest checkpoint."""
    before = recorded(folder, "pictures")
    if not before and (found := checkpointing.load_newest(folder)) is not None:
        before = json.loads(found.state["identity"])
    if not before.get("means"):
        return
    changed = _clauses(differences(before.get("data", {}), own["data"])) or _changed_images(before, own)
    if changed:
        raise UsageError(
            f"data.path: {where} does not hold the images that {folder} was trained on: {'; '.join(changed)}. "
            "Name the folder that they are in now; other images need another --name"
        )


def record_images(run: RunContext, source: ImageSource, own: Mapping[str, Any]) -> None:
    """Record what the images of a run are and where. A disk that refuses it is reported in the status."""
    folder, writer, path = run.folder, run.writer, run.config.data.path
    pictures = {key: own[key] for key in ("data", "files", "labels", "means", "colours")}
    facts: dict[str, Any] = {"channels": source.channels, "pictures": pictures}
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
