"""A preset that trains in seconds, for the tests that need any training at all."""

from __future__ import annotations

from typing import Any

import tomli_w

# Four steps on 20 classes by a perceptron.
PERCEPTRON = {
    "data.classes": 20,
    "model.name": "mlp",
    "model.width": 0.125,
    "model.dim": 8,
    "train.duration": "4 steps",
    "train.batch_size": 8,
}


def tiny(changes: dict[str, Any] | None = None) -> str:
    """A preset as TOML: 64 images of the digits, each its own class, on a narrow encoder, 8 steps in 2 epochs;
    `changes` sets dotted keys ("data.classes") or whole sections ("variants")."""
    preset: dict[str, Any] = {
        "data": {"dataset": "digits", "labels": "unique", "classes": 64},
        "model": {"name": "encoder", "width": 0.05},
        "target": {"method": "lsc", "system": "V21"},
        "optimizer": {"lr": 3e-3},
        "train": {"duration": "2 epochs", "batch_size": 16},
    }
    for key, value in (changes or {}).items():
        section, _, name = key.rpartition(".")
        (preset.setdefault(section, {}) if section else preset)[name] = value
    return tomli_w.dumps(preset)
