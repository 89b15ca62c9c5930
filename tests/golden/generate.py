"""What presets resolve to and how malformed ones are refused, as plain data. `python -m tests.golden` stores it.

Settings that do not act (see `acting`) and the wording of sentences may change; what is stored here may not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tomli_w

from lsc_engine.config.load import check_text, shipped_presets
from lsc_engine.config.preset import Preset
from lsc_engine.config.schema import RunConfig
from lsc_engine.studies.plan import RunPlan, plan_study
from tests.config.mutations import base, put
from tests.config.test_malformed import CORPUS

FOLDER = Path(__file__).parent
DISTANCE = ("distance", "cosine+distance")
# Settings that act only where another one has one of these values.
ACTS_ONLY = {
    "data.augment_per": ("data.augment", ("light1",)),
    "target.radius": ("target.loss", DISTANCE),
    "target.cluster_radius": ("target.loss", DISTANCE),
    "target.weights": ("target.loss", ("cosine+distance",)),
    "optimizer.gamma": ("optimizer.schedule", ("steps",)),
}


def acting(settings: dict[str, Any]) -> dict[str, Any]:
    """The flat settings that decide what is computed, as JSON holds them."""
    found = {}
    for key, value in settings.items():
        other, values = ACTS_ONLY.get(key, ("", ()))
        if value in (None, "none", {}, [], ()) or (other and settings.get(other) not in values):
            continue
        if key == "model.width" and str(settings["model.name"]).startswith(("vit-", "timm:")):
            continue
        found[key] = list(value) if isinstance(value, tuple) else value
    return found


def _run(run: RunPlan) -> dict[str, Any]:
    config: RunConfig = run.config
    return acting(config.settings()) | {"label": config.label, "needs": list(run.needs)}


def _compact(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The settings that all runs share, and of each run the others."""
    if not runs:
        return {}
    first = next(iter(runs.values()))
    common = {key: value for key, value in first.items() if all(run.get(key) == value for run in runs.values())}
    return {"common": common, "runs": {i: _less(run, common) for i, run in runs.items()}}


def _less(table: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`table` without what `other` says too; None for what `other` alone has."""
    gone = dict.fromkeys(key for key in other if key not in table)
    return gone | {key: value for key, value in table.items() if key not in other or other[key] != value}


def presets() -> dict[str, Any]:
    """Every shipped preset: its runs and tries with their resolved settings."""
    found = {}
    for info in shipped_presets():
        plan = plan_study(info.name)
        document: dict[str, Any] = {
            "study": plan.study,
            "kind": plan.preset.kind,
            "seeds": list(plan.preset.seeds),
            "warnings": len(plan.preset.warnings),
            "compare": plan.preset.compare.model_dump(mode="json", exclude_none=True),
            **_compact({run.id: _run(run) for run in plan.runs}),
        }
        if plan.tune is not None:
            document["tries"] = {
                "study": plan.tune.study,
                "purposes": {name: list(map(str, aims)) for name, aims in plan.tune.purposes.items()},
                **_compact({run.id: _run(run) for run in plan.tune.runs}),
            }
        found[info.name] = document
    return found


_SENTENCE = re.compile(r'(?P<file>\S+):(?: variant "(?P<variant>[^"]*)":)?(?: (?P<key>[^ :]+|"[^"]*"):)? ')
# A key that is quoted in a table, like compare.levels."train/acc".
_NEAREST = re.compile(r'did you mean "([^"]*)"')
_ALLOWED = re.compile(r"[Aa]llowed: (.*)")


def meaning(sentence: str, file: str) -> list[Any]:
    """Key, variant, nearest name and allowed values of one sentence."""
    assert sentence.startswith(f"{file}:"), sentence
    match = _SENTENCE.match(sentence.replace(file, "FILE", 1))
    key, variant = (match["key"], match["variant"]) if match else (None, None)
    near, allowed = _NEAREST.search(sentence), _ALLOWED.search(sentence)
    return [key, variant, near[1] if near else None, allowed[1] if allowed else None]


def _refusal(table: dict[str, Any]) -> tuple[list[Any], Preset | None, int]:
    """The meanings of the sentences that refuse a preset, the preset where there are none, the number of warnings."""
    try:
        text = tomli_w.dumps(table)
    except TypeError:
        return ["no TOML"], None, 0
    preset, faults, warnings = check_text(text)
    file = "preset.toml"
    return sorted((meaning(fault.sentence(file), file) for fault in faults), key=repr), preset, len(warnings)


def malformed() -> dict[str, Any]:
    """The malformed presets of tests/config, each with the meaning of the sentences that refuse it."""
    return {
        f"{number} {key} = {value!r}": _refusal(put(base(), key, value))[0]
        for number, (key, value, _) in enumerate(CORPUS)
    }


# --- one setting at a time --------------------------------------------------------------------------------------------

_DATA = {"dataset": "digits", "labels": "class"}
_TRAIN = {"duration": "5 epochs", "batch_size": 64}
CONTEXTS: dict[str, dict[str, Any]] = {
    "lsc": {"model": {"name": "encoder", "dim": 20}, "target": {"method": "lsc", "system": "V21"}},
    "lsc-distance": {
        "model": {"name": "mlp", "width": 0.5},
        "target": {"method": "lsc", "system": "A", "loss": "cosine+distance", "radius": 2.0, "within": "kld"},
        "data": {"augment": "light1"},
        "optimizer": {"name": "sgd", "schedule": "steps", "milestones": ["2 epochs"]},
    },
    "planar": {"model": {"name": "encoder"}, "target": {"method": "lsc", "system": "planar", "loss": "distance"}},
    "ce": {"model": {"name": "mlp"}, "target": {"method": "ce"}, "optimizer": {"name": "sgd", "momentum": 0.5}},
    "ce-narrow": {
        "model": {"name": "vit-s", "dim": 30},
        "target": {"method": "ce", "bottleneck": "min:V21", "teacher": "study/ce/seed-0"},
    },
    "adaptive": {"model": {"name": "mlp", "etf_layers": "adaptive"}, "target": {"method": "ce"}},
    "ssl": {"model": {"name": "encoder"}, "target": {"method": "ssl"}, "optimizer": {"schedule": "cosine"}},
}
WRONG = (-1, 0, 1.5, True, "", "?", "none", {"x": 1}, [], [1, 2])
RIGHT: dict[str, tuple[Any, ...]] = {
    "data.dataset": ("digits", "fashion-mnist", "cifar10", "imagenet", "folder", "spectrum", "printed-digits"),
    "data.labels": ("class", "unique"),
    "data.classes": (2, 10, 11),
    "data.first_class": (0, 3, 10),
    "data.image_size": (4, 8, 1025),
    "data.augment": ("light1", "light2"),
    "data.augment_per": ("image", "batch"),
    "data.path": ("/nowhere",),
    "data.skip_bad": (False,),
    "data.label_noise": (0.2, 0, 1),
    "data.imbalance": (0.1, 1, 0),
    "model.name": ("encoder", "mlp", "vit-s", "vit-b", "timm:resnet18", "resnet"),
    "model.dim": ("min", 9, 384, 65_537),
    "model.width": (1, 0.25, 17),
    "model.args": ({"layers": 3}, {"class_layer": True}, {"depth": 4}),
    "model.etf_layers": (1, 2, 30, "first:1", "first:0", "feed-forward", "adaptive"),
    "model.etf_frame": ("canonical", "random"),
    "model.etf_threshold": (0.5, 1),
    "model.etf_patience": (1, 3),
    "target.method": ("lsc", "ce", "ssl"),
    "target.system": (
        "V21",
        "A",
        "planar",
        "simplex",
        "V2l",
        "embeddings:@b",
        "embeddings:x/ce/seed-0",
        "file:/x.npy",
    ),
    "target.order": ("shuffled", "sequential", "lexicographic", "nearest:study/ssl/seed-0", "shuffle"),
    "target.loss": ("cosine", "distance", "cosine+distance", "cos"),
    "target.radius": (1, 2.5, "native"),
    "target.cluster_radius": (0, 0.5, 3),
    "target.weights": ([1, 1], [1, 64], [0, 0]),
    "target.bottleneck": (8, "min:V21", "min:V2l", "min:file:/x.npy"),
    "target.within": ("kld", "gaussian"),
    "target.within_weight": (0.1, 0.5),
    "target.teacher": ("study/ce/seed-0", "@b"),
    "target.teacher_weight": (0.5, 0.25, 2),
    "target.temperature": (0.5, 4, 2000),
    "optimizer.name": ("adamw", "sgd", "adam"),
    "optimizer.lr": (0.1, 1, 1001),
    "optimizer.weight_decay": (0.5,),
    "optimizer.momentum": (0.9, 0.5, 1),
    "optimizer.schedule": ("constant", "cosine", "steps"),
    "optimizer.warmup": ("1 epochs", "0 steps", "9 epochs", "1 minutes"),
    "optimizer.milestones": (["2 epochs", "3 epochs"], ["3 epochs", "2 epochs"], ["5 epochs"], "1 epochs"),
    "optimizer.gamma": (0.1, 0.5, 2),
    "train.duration": ("1 epoch", "100 steps", "5_000 examples", "5 minutes"),
    "train.until": ({"train/accuracy": 0.9}, {"train/acc": 0.9}),
    "train.batch_size": (1, 32, 5000),
    "train.precision": ("auto", "bf16", "float32", "fp16"),
    "train.compile": ("auto", "on", "off", "graphs"),
    "eval.every": ("10 steps",),
    "eval.images": (100, 20_000),
    "eval.dataset": ("digits", "cifar10", "fashion-mnist", "folder", "printed-digits"),
    "eval.shift": ("moved", "turned", "noise", "contrast", "move"),
    "eval.ncc": (False,),
    "eval.class_means": (False,),
    "eval.embeddings": ("auto", "on", "off"),
    "log.every": ("7 steps", "1 minutes"),
    "checkpoint.every": ("10 minutes", "1 epochs", "0 minutes"),
    "checkpoint.keep": (1, 5),
    "checkpoint.also_at": (["1 epochs"], ["1 epochs", "x"]),
    "start_from": ("@b", "study/ce/seed-0"),
}


def _context(name: str) -> dict[str, Any]:
    table: dict[str, Any] = {"data": dict(_DATA), "train": dict(_TRAIN)}
    for section, values in CONTEXTS[name].items():
        table[section] = table.get(section, {}) | values
    return table


def _variant(key: str, value: Any, table: dict[str, Any]) -> Any:
    """What a second variant that changes one setting becomes: the settings in which it differs from the first, the
    number of warnings where there are any, or the meanings of its sentences."""
    table = table | {"variants": [{"name": "b"}, put({"name": "a", "label": "A"}, key, value)]}
    faults, preset, warnings = _refusal(table)
    if preset is None:
        return faults
    first, other = (acting(preset.variant(name).settings.flat()) for name in "ba")
    return _less(other, first) | ({"warnings": warnings} if warnings else {})


def settings() -> dict[str, Any]:
    """Each setting with right and wrong values, in presets of every kind, in a variant of its own."""
    found: dict[str, Any] = {}
    for context in CONTEXTS:
        table = _context(context)
        faults, preset, _ = _refusal(table)
        assert preset is not None, faults
        found[context] = acting(preset.variants[0].settings.flat())
        for key, value in _values():
            found[f"{context} {key} = {value!r}"] = _variant(key, value, table)
    for key, value in _values(wrong=True):
        same = {case: found.pop(case) for case in [f"{context} {key} = {value!r}" for context in CONTEXTS]}
        common = next(iter(same.values()))
        if all(result == common for result in same.values()):
            found[f"{key} = {value!r}"] = common
        else:
            found |= same
    return found


def _values(*, wrong: bool = False) -> Iterator[tuple[str, Any]]:
    for key, right in RIGHT.items():
        values: Iterable[Any] = WRONG if wrong else (*WRONG, *right)
        yield from ((key, value) for value in values)


DOCUMENTS = {"presets": presets, "malformed": malformed, "settings": settings}
