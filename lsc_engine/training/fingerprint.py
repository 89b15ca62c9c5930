"""What a checkpoint must share with the run that continues it: settings, vectors and their order, and the images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lsc_engine.common.safe_io import UnreadableError, read_json
from lsc_engine.config import RunConfig
from lsc_engine.data import ImageSource
from lsc_engine.heads.base import Head
from lsc_engine.runs.folder.layout import SOURCE
from lsc_engine.runs.settings import FORK_CHANGES, PLACE, differences, parse, settings_of
from lsc_engine.training import checkpointing
from lsc_engine.vectors.bijection import Bijection

_SAMPLE = 64
# Decoders of other versions and machines differ by far less than another image does, in grey levels of the mean.
_SAME_IMAGE = 1.0
_SHOWN = 8
PICTURES = ("data", "files", "labels", "means", "colours")


def identity(config: RunConfig, head: Head, source: ImageSource) -> dict[str, Any]:
    """Plain values that name what is trained on what. The place of the data may change, the data may not; what is kept
    for viewers does not matter."""
    settings = settings_of(parse(config.to_toml()))
    for key in (PLACE, "eval.embeddings"):
        settings.pop(key, None)
    return {"settings": settings, "seed": config.seed, "head": head.record(), **pictures(source)}


def pictures(source: ImageSource) -> dict[str, Any]:
    """The part of an identity that names the images: how many, and of some the labels, mean grey levels and mean levels
    of each channel."""
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


def differing(saved: Mapping[str, Any], own: Mapping[str, Any], free: tuple[str, ...] = ()) -> list[str]:
    """A clause for each difference of two identities; settings that begin with one of `free` may differ."""
    own = json.loads(json.dumps(own))
    found = [
        f"{key} was {old!r} and is {new!r}"
        for key, (old, new) in differences(saved.get("settings", {}), own["settings"]).items()
        if not (free and key.startswith(free))
    ]
    flat = {"seed": saved.get("seed"), **saved.get("data", {})}, {"seed": own["seed"], **own["data"]}
    found += [f"{key} was {old!r} and is {new!r}" for key, (old, new) in differences(*flat).items()]
    if not found and saved.get("head") != own["head"]:
        changed = differences(_flat(saved.get("head", {})), _flat(own["head"]))
        found += [f"{key} was {old!r} and is {new!r}" for key, (old, new) in changed.items()]
    if not found:
        found += _images(saved, own)
    more = len(found) - _SHOWN
    return [*found[:_SHOWN], f"and {more} more"] if more > 0 else found


def other_pictures(saved: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """A clause for each difference of the images alone; none where `saved` knows nothing of them."""
    if not saved.get("means"):
        return []
    changed = differences(saved.get("data", {}), json.loads(json.dumps(own["data"])))
    return [f"{key} was {old!r} and is {new!r}" for key, (old, new) in changed.items()] or _images(saved, own)


def known_pictures(folder: Path) -> dict[str, Any]:
    """What the run in `folder` was trained on: as it noted at its start, else as its newest checkpoint has it; empty
    where neither is there."""
    try:
        noted = read_json(folder / SOURCE).get("pictures")
    except UnreadableError:
        noted = None
    if isinstance(noted, dict):
        return noted
    found = checkpointing.load_newest(folder, lambda text: None)
    saved = {} if found is None else json.loads(found.state["identity"])
    return {key: saved[key] for key in PICTURES if key in saved}


def _images(saved: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """A clause where the images are others: by the mean levels of some, by the names and sizes of all files, and for
    packed images by every pixel, as far as the same decoder read them."""
    # Checkpoints of earlier versions have no levels by channel, and no names and sizes.
    pairs = list(zip(saved.get("means", []), own["means"], strict=False))
    other = [abs(old - new) > _SAME_IMAGE for old, new in pairs]
    for place, (old, new) in enumerate(zip(saved.get("colours", []), own["colours"], strict=False)):
        other[place] |= any(abs(a - b) > _SAME_IMAGE for a, b in zip(old, new, strict=False))
    if any(other):
        return [f"{sum(other)} of {len(pairs)} images looked at are other images, or come in another order"]
    if saved.get("labels") != own["labels"]:
        return ["images have other labels"]
    before, now = saved.get("files") or {}, own["files"]
    if before and now and before["files"] != now["files"]:
        return ["image files were renamed, moved to other classes, or replaced by files of other sizes"]
    if before.get("pixels") and now.get("pixels") and before["decoder"] == now["decoder"]:
        return (
            [] if before["pixels"] == now["pixels"] else ["images were replaced by others of the same names and sizes"]
        )
    return []


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    return settings_of({"head": dict(record)})


def may_differ(folder: Path, step: int) -> tuple[str, ...]:
    """Settings that a fork may have changed: at the step it was forked at, its checkpoint is its parent's."""
    try:
        parent = read_json(folder / SOURCE).get("parent")
    except UnreadableError:
        return ()
    return FORK_CHANGES if isinstance(parent, dict) and parent.get("step") == step else ()
