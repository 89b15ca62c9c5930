"""Ways to spoil a valid preset, each with the key that the sentence must name."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import strategies as st

from lsc_engine.config.schema import Setting, fields

Table = dict[str, Any]
REQUIRED = ("data.dataset", "model.name", "target.method", "target.system", "train.duration")


def base() -> Table:
    """A preset in which every section and a second variant stand."""
    return {
        "title": "t",
        "seeds": [0, 1],
        "data": {"dataset": "digits", "labels": "unique", "classes": 500},
        "model": {"name": "encoder", "dim": 384, "width": 0.25},
        "target": {"method": "lsc", "system": "V21", "order": "shuffled", "loss": "cosine"},
        "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-5, "schedule": "constant", "warmup": "1 epochs"},
        "train": {"duration": "5 epochs", "batch_size": 64, "precision": "auto"},
        "eval": {"every": "1 epochs", "images": 500},
        "log": {"every": "7 steps"},
        "checkpoint": {"every": "10 minutes", "keep": 2, "also_at": ["1 epochs"]},
        "compare": {"baseline": "a", "levels": {"train/accuracy": [0.5, 0.9]}},
        "provenance": {"optimizer.lr": "paper", "train.batch_size": "ours: not stated"},
        "tune": {"optimizer.lr": [1e-4, 1e-3], "duration": "2 epochs", "seed": 9, "by": "train/accuracy"},
        "variants": [{"name": "a"}, {"name": "b", "label": "B", "target": {"system": "A"}}],
    }


def put(table: Table, key: str, value: Any) -> Table:
    """`table` with `value` at the dotted key."""
    result = copy.deepcopy(table)
    inner = result
    *sections, last = key.split(".")
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    return result


def without(table: Table, key: str) -> Table:
    """`table` without the dotted key."""
    result = copy.deepcopy(table)
    section, last = key.split(".")
    del result[section][last]
    return result


def write(table: Table, folder: Path) -> Path:
    """The preset as a file."""
    path = folder / "spoilt.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    return path


def wrong_values(setting: Setting) -> st.SearchStrategy[Any]:
    """Values that a setting must refuse."""
    text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20).map(lambda s: f"?{s}")
    odd: list[st.SearchStrategy[Any]] = [st.just({"x": 1}), st.sampled_from([math.nan, math.inf, -math.inf])]
    odd.append(st.booleans() if setting.kind != "flag" else st.integers())
    odd.append(text if setting.key not in ("data.path", "start_from") else st.integers())
    if setting.kind in ("integer", "number", "open"):
        odd.append(st.integers(max_value=-1))
        odd.append(st.floats(max_value=-1e-9, allow_nan=False))
    if setting.kind == "integer":
        odd.append(st.floats(min_value=0.1, max_value=0.9))
    if setting.kind in ("duration", "durations", "list", "names"):
        odd.append(st.integers())
        odd.append(st.just(["5"]))
        odd.append(st.just("5 parsecs"))
    if setting.kind == "table":
        odd = [text, st.integers(), st.booleans()]
    return st.one_of(odd)


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[Table, str]:
    """A preset with one fault in it, and the key that must be named."""
    known = [s for s in fields() if "." in s.key]
    way = draw(st.sampled_from(["value", "variant", "unknown", "missing", "section", "name", "choice"]))
    table = base()
    if way in ("value", "variant"):
        setting = draw(st.sampled_from(known))
        value = draw(wrong_values(setting))
        if way == "value":
            return put(table, setting.key, value), setting.key
        table["variants"][1] = put(table["variants"][1], setting.key, value)
        return table, setting.key
    if way == "unknown":
        section = draw(st.sampled_from(sorted({s.key.split(".")[0] for s in known} | {"compare", "run"})))
        word = draw(st.from_regex(r"[a-z]{3,8}_x", fullmatch=True))
        return put(table, f"{section}.{word}", draw(st.integers(0, 5))), word
    if way == "missing":
        key = draw(st.sampled_from(REQUIRED))
        table["variants"] = [{"name": "a"}]
        return without(table, key), key
    if way == "section":
        section = draw(st.sampled_from([*sorted({s.key.split(".")[0] for s in known}), "compare", "tune", "variants"]))
        return table | {section: draw(st.one_of(st.integers(), st.text(max_size=5), st.just([1])))}, section
    if way == "name":
        bad = draw(st.sampled_from(["", "../x", "/etc", "a b", "-a", "a/b", "\x1b[2J", "a\nb", "é", "x" * 300, 7]))
        table["variants"][1]["name"] = bad
        return table, "name"
    setting = draw(st.sampled_from([s for s in known if s.kind == "choice"]))
    near = draw(st.sampled_from(setting.choices))
    return put(table, setting.key, near[:-1] + "x" + near[-1]), setting.key
