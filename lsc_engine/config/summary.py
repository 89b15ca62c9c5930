"""What a run's settings amount to, as one flat document: `check --json` and the form's "what follows". Torch-free."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lsc_engine.config.derived import Derived, data_found, derive, missing_data
from lsc_engine.config.schema import CrossEntropy, Lsc, Settings
from lsc_engine.data.dataset import data_set
from lsc_engine.errors import UsageError

METHOD_LOSSES = {"ce": "cross-entropy", "ssl": "NT-Xent"}


def summary(config: Settings, data_dir: str | Path | None = None) -> dict[str, Any]:
    """Numbers of one run by name; those that need files that are missing are None. No error for missing data:
    `missing` then holds the sentences that say what to put where."""
    found, chosen = data_found(config, data_dir), data_set(config.data.dataset)
    document: dict[str, Any] = {
        "dataset": config.data.dataset,
        "data_found": found is not None,
        "data_at": str(found) if found is not None and not chosen.made_from_index else None,
        "missing": missing_data(config, data_dir),
    }
    try:
        return document | _numbers(config, derive(config, data_dir))
    except UsageError as error:
        fault = [line for line in error.faults if line not in document["missing"]]
        return document | {"missing": document["missing"] + fault}


def _numbers(config: Settings, derived: Derived) -> dict[str, Any]:
    target = config.target
    return {
        "images": derived.images,
        "images_counted": derived.counted,
        "val_images": derived.val_images,
        "eval_images": derived.eval_images,
        "classes": derived.classes,
        "image_size": derived.image_size,
        "channels": derived.channels,
        "n": derived.n,
        "method": target.method,
        "loss": target.loss if isinstance(target, Lsc) else METHOD_LOSSES[target.method],
        "loss_kind": derived.loss_kind,
        "bottleneck": derived.bottleneck,
        "first_class": config.data.first_class,
        "start_from": config.start_from,
        "teacher": target.teacher if isinstance(target, CrossEntropy) else None,
        "within": target.within if isinstance(target, Lsc) else None,
        "shift": config.eval.shift,
        **_vectors(config, derived),
        "table_bytes": derived.table_bytes,
        "embedding_bytes": 4 * derived.n if derived.n else None,
        "steps_per_epoch": derived.steps_per_epoch,
        "total_steps": derived.total_steps,
        "warmup_steps": derived.warmup_steps,
        "eval_every_steps": derived.eval_every,
        "log_every_steps": derived.log_every,
    }


def _vectors(config: Settings, derived: Derived) -> dict[str, Any]:
    facts, target = derived.system, config.target
    if facts is None or not isinstance(target, Lsc):
        return {"system": None}
    near = facts.used_neighbours(derived.classes)
    known = not math.isnan(facts.max_cosine)
    return {
        "system": facts.name,
        "order": target.order,
        "count": facts.count,
        "in_use": derived.classes / facts.count,
        "max_cosine": facts.max_cosine if known else None,
        "min_angle_deg": facts.min_angle_deg if known else None,
        "sure_below": facts.guaranteed_below if known else None,
        "near_in_use": list(near) if near else None,
        "decode": facts.decode,
    }
