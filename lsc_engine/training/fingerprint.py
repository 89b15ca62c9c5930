"""What a checkpoint must share with the run that continues it: settings, vectors and their order, and the images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from lsc_engine.common.safe_io import UnreadableError, read_json
from lsc_engine.config.schema import RunConfig
from lsc_engine.data.source import ImageSource
from lsc_engine.heads.base import Head
from lsc_engine.runs.folder.layout import SOURCE
from lsc_engine.runs.settings import FORK_CHANGES, PLACE, differences, settings_of
from lsc_engine.training import checkpointing
from lsc_engine.vectors.bijection import Bijection

_SAMPLE = 64
# Decoders of other versions and machines differ by far less than another image does, in grey levels of the mean.
_SAME_IMAGE = 1.0
_MOST_CLAUSES = 8
IMAGE_KEYS = ("data", "files", "labels", "means", "colours")


def fingerprint(config: RunConfig, head: Head, source: ImageSource) -> dict[str, Any]:
    """Plain values that identify what is trained on what, without the place of the data and what is kept for viewers;
    `state.pt` and source.json hold them."""
    settings = settings_of(config.to_table())
    for key in (PLACE, "eval.embeddings"):
        settings.pop(key, None)
    return {"settings": settings, "seed": config.seed, "head": head.record(), **image_fingerprint(source)}


def image_fingerprint(source: ImageSource) -> dict[str, Any]:
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


def fingerprint_diff(before: Mapping[str, Any], now: Mapping[str, Any], allowed: tuple[str, ...] = ()) -> list[str]:
    """A clause for each difference of two fingerprints; settings that begin with one of `allowed` may differ."""
    now = json.loads(json.dumps(now))
    changed = differences(before.get("settings", {}), now["settings"])
    clauses = _clauses({key: change for key, change in changed.items() if not (allowed and key.startswith(allowed))})
    seed_and_data = [{"seed": each.get("seed"), **each.get("data", {})} for each in (before, now)]
    clauses += _clauses(differences(*seed_and_data))
    if not clauses and before.get("head") != now["head"]:
        heads = [settings_of({"head": dict(each.get("head", {}))}) for each in (before, now)]
        clauses += _clauses(differences(*heads))
    if not clauses:
        clauses += _changed_images(before, now)
    more = len(clauses) - _MOST_CLAUSES
    return [*clauses[:_MOST_CLAUSES], f"and {more} more"] if more > 0 else clauses


def image_diff(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A clause for each difference of the images alone; empty if `before` holds nothing on them."""
    if not before.get("means"):
        return []
    changed = differences(before.get("data", {}), json.loads(json.dumps(now["data"])))
    return _clauses(changed) or _changed_images(before, now)


def _clauses(changed: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [f"{key} was {old!r} and is {new!r}" for key, (old, new) in changed.items()]


def recorded_image_fingerprint(folder: Path) -> dict[str, Any]:
    """That of the run in `folder`, as recorded at its start or, failing that, in its newest checkpoint; {} for
    neither."""
    try:
        recorded = read_json(folder / SOURCE).get("pictures")
    except UnreadableError:
        recorded = None
    if isinstance(recorded, dict):
        return recorded
    found = checkpointing.load_newest(folder)
    saved = {} if found is None else json.loads(found.state["identity"])
    return {key: saved[key] for key in IMAGE_KEYS if key in saved}


def _changed_images(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A clause if the images are others: by the mean levels of some, by the names and sizes of all files, and for
    packed images by every pixel, if the same decoder read them."""

    def differ(old: Iterable[float], new: Iterable[float]) -> bool:
        return any(abs(a - b) > _SAME_IMAGE for a, b in zip(old, new, strict=False))

    # Checkpoints of earlier versions have no levels by channel, and no names and sizes.
    others = [differ([old], [new]) for old, new in zip(before.get("means", []), now["means"], strict=False)]
    for i, (old, new) in enumerate(zip(before.get("colours", []), now["colours"], strict=False)):
        others[i] |= differ(old, new)
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


def allowed_changes(folder: Path, step: int) -> tuple[str, ...]:
    """Settings that a fork may have changed: at the step it was forked at, its checkpoint is its parent's."""
    try:
        parent = read_json(folder / SOURCE).get("parent")
    except UnreadableError:
        return ()
    return FORK_CHANGES if isinstance(parent, dict) and parent.get("step") == step else ()
