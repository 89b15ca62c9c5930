"""Presets: what they may say, loading and checking them, and the runs they become. Loads no torch.

A preset (TOML) is read by `load_preset`; `plan_study` makes the runs of a study of it, each with a `RunConfig` in
which every setting is resolved; `derive` gives the numbers that follow (steps, vectors, images).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsc_engine.config.catalogue import Setting as Setting
    from lsc_engine.config.catalogue import fields as fields
    from lsc_engine.config.catalogue import top_fields as top_fields
    from lsc_engine.config.datasets import DATASETS as DATASETS
    from lsc_engine.config.datasets import data_folder as data_folder
    from lsc_engine.config.datasets import locate as locate
    from lsc_engine.config.datasets import missing_sentence as missing_sentence
    from lsc_engine.config.derived import Derived as Derived
    from lsc_engine.config.derived import Every as Every
    from lsc_engine.config.derived import bottleneck_width as bottleneck_width
    from lsc_engine.config.derived import data_found as data_found
    from lsc_engine.config.derived import derive as derive
    from lsc_engine.config.derived import missing_data as missing_data
    from lsc_engine.config.durations import Duration as Duration
    from lsc_engine.config.load import PresetInfo as PresetInfo
    from lsc_engine.config.load import check_text as check_text
    from lsc_engine.config.load import find_preset as find_preset
    from lsc_engine.config.load import list_presets as list_presets
    from lsc_engine.config.load import load_preset as load_preset
    from lsc_engine.config.load import own_presets as own_presets
    from lsc_engine.config.load import shipped_presets as shipped_presets
    from lsc_engine.config.plan import RunPlan as RunPlan
    from lsc_engine.config.plan import StudyPlan as StudyPlan
    from lsc_engine.config.plan import Try as Try
    from lsc_engine.config.plan import TunePlan as TunePlan
    from lsc_engine.config.plan import plan_study as plan_study
    from lsc_engine.config.preset import Preset as Preset
    from lsc_engine.config.preset import Variant as Variant
    from lsc_engine.config.schema import RunConfig as RunConfig
    from lsc_engine.config.schema import Settings as Settings
    from lsc_engine.config.schema import differences as differences
    from lsc_engine.config.validation_errors import PresetError as PresetError
    from lsc_engine.config.validation_errors import ValidationIssue as ValidationIssue

# Pydantic is loaded by the models alone; names and durations are used where it is not wanted. No file is called
# like a name of this list, or importing the file would hide the name.
_HOMES = {
    "datasets": ("DATASETS", "data_folder", "locate", "missing_sentence"),
    "derived": ("Derived", "Every", "bottleneck_width", "data_found", "derive", "missing_data"),
    "durations": ("Duration",),
    "validation_errors": ("PresetError", "ValidationIssue"),
    "catalogue": ("Setting", "fields", "top_fields"),
    "load": (
        "PresetInfo",
        "check_text",
        "find_preset",
        "list_presets",
        "load_preset",
        "own_presets",
        "shipped_presets",
    ),
    "plan": ("RunPlan", "StudyPlan", "Try", "TunePlan", "plan_study"),
    "preset": ("Preset", "Variant"),
    "schema": ("RunConfig", "Settings", "differences"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
