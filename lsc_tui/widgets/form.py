"""The form of New run: its rows (variants, seeds, settings with their marks, where runs go), the choices that Enter
offers for one, and how each is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsc_engine.common.userpaths import home_path
from lsc_engine.config.schema import choices_for
from lsc_engine.registry import DATASETS, LOSSES, MODELS, SYSTEMS
from lsc_engine.vectors.registry import suggested
from lsc_tui.data.preset_form import SETTINGS, Form, shown_value, value_words
from lsc_tui.data.reports import KINDS, made_words
from lsc_tui.data.run_view import Store
from lsc_tui.lines import Line, clean, fit, over, pad, wrap
from lsc_tui.services.form_check import Outcome, Problem
from lsc_tui.services.launch import device_words


def short_name(key: str) -> str:
    """A setting at 80 columns: with its section where the last part alone is not clear and there is room."""
    section, _, name = key.rpartition(".")
    words = f"{'save' if section == 'checkpoint' else section} {name.replace('_', ' ')}"
    if name == "name" or key == "target.momentum":
        return section if name == "name" else "mean momentum"
    unclear = section in ("eval", "log", "checkpoint") or key in ("model.args", "model.width", "data.path")
    return words if unclear and len(words) <= 14 else name


# Name, help, attribute of the form.
PLACES = {
    "study": ("study", "Name of the study: its folder in the runs folder.", "study"),
    "device": ("device", "any free GPU, GPUs by number as in 0,1,3, or cpu", "device"),
    "runs": ("runs folder", "Where the run folders are made.", "runs_dir"),
    "data": ("data folder", "Where data sets are looked for.", "data_dir"),
    "at": ("checkpoint", "The step of the checkpoint that the fork goes on from; empty: the newest good one.", "at"),
}
AS_WRITTEN = "set by the preset: r shows its TOML, w saves a copy to be edited as text"


@dataclass(frozen=True)
class Row:
    """A line of the form. kind: variant | seeds | tune | setting | fact | place | problem | gap."""

    kind: str
    key: str
    name: str = ""
    value: str = ""
    mark: str = " "
    note: str = ""
    default: bool = False
    fault: str = ""


def rows(form: Form, outcome: Outcome | None, store: Store, *, every: bool, wide: bool) -> list[Row]:
    """All rows of the form, in order."""
    problems = outcome.problems if outcome is not None else []
    shown = ["study", "runs", "data"]
    if form.kind != "train":
        out = [Row("fact", "kind", "kind", f"{form.kind}: a report on {KINDS.get(form.kind, '')}")]
        out += [Row("fact", f"fact:{what}", what, words) for what, words in made_words(form.raw)]
    else:
        out = _variant_rows(form, problems)
        # What the launch would make of the form as it is now; None while that is being worked out.
        resolved = outcome.resolved.get(form.variant) if outcome is not None and outcome.text == form.toml() else None
        section = ""
        for key in form.keys(every):
            if wide and key.partition(".")[0] != section:
                section = key.partition(".")[0]
                out.append(Row("gap", ""))
            out.append(_setting(form, key, resolved, problems, wide))
        shown = ["device", "at", "data"] if form.source == "fork" else ["study", "device", "runs", "data"]
    if wide or form.kind != "train":
        out.append(Row("gap", ""))
    out += [_place(form, key, store, problems) for key in shown]
    out += [Row("gap", "")] if problems else []
    words = [("!" if p.warning else "✗", problem_words(form, p), p.key) for p in problems]
    return out + [Row("problem", f"problem:{i}", name, text, note=key) for i, (name, text, key) in enumerate(words)]


def _variant_rows(form: Form, problems: Sequence[Problem]) -> list[Row]:
    out, needed, own = [], form.needed, [key for key in SETTINGS if form.by_variant(key)]
    for number, name in enumerate(form.names):
        box = "x" if name in form.on else "+" if name in needed else " "
        words, name_of = f"[{box}] {form.letter(name)} {clean(form.label(name))}", "" if number else "variants"
        mark = "*" if any(form.changed(key, name) for key in own) else " "
        note, fault = "needed by another" * (name in needed), _fault([p for p in problems if p.variant == name])
        out.append(Row("variant", f"variant:{name}", name_of, words, mark, note, name not in form.on, fault))
    now, before = (raw.get("seeds", raw.get("seed")) for raw in (form.raw, form.before))
    mark = "*" if now != before else " "
    out.append(Row("seeds", "seeds", "seeds", form.seeds, mark, fault=_fault(problems, "seeds")))
    if form.source != "fork":
        lists = [f"{k.rpartition('.')[2]} {value_words(v)}" for k, v in form.grid.items() if isinstance(v, list)]
        words = f"[x] try {'; '.join(lists)} first" if "tune" in form.raw else "[ ] try a grid first"
        mark = "*" if form.raw.get("tune") != form.before.get("tune") else " "
        out.append(Row("tune", "tune", "lr for every", words, mark, fault=_fault(problems, "tune")))
    return out


def problem_words(form: Form, problem: Problem) -> str:
    """`a: model.dim: A at n = 384 has …`"""
    key = short_name(problem.key)
    who = f"{form.letter(problem.variant)}: " if problem.variant in form.names else ""
    return clean(f"{who}{key}: {problem.message}" if key else f"{who}{problem.message}")


def _fault(problems: Sequence[Problem], key: str = "", variant: str | None = None) -> str:
    """`✗`, `!` for warnings alone, else ""; of the problems with a key and of a variant."""
    found = [p for p in problems if key in ("", p.key) and (variant is None or p.variant in (None, variant))]
    return "" if not found else "!" if all(p.warning for p in found) else "✗"


def _setting(form: Form, key: str, resolved: dict[str, Any] | None, problems: Sequence[Problem], wide: bool) -> Row:
    name = form.variant
    value, default = shown_value(key, form.given(key, name), resolved)
    if form.given(key, name) is None and not form.acts_in(key, name):
        value, default = "-", True
    if isinstance(tried := form.grid.get(key), list):
        value, default = f"best of {value_words(tried)}", False
    note = clean(form.provenance(key).partition(":")[2].strip())
    note = f"of {form.letter(name)} alone" if form.by_variant(key) else note
    note = f"preset: {clean(form.old(key))}" if form.changed(key) else note
    shown = key if wide else short_name(key)
    mark = form.mark(key, name)
    return Row("setting", key, shown, clean(value), mark, note, default, _fault(problems, key, name))


def _place(form: Form, key: str, store: Store, problems: Sequence[Problem]) -> Row:
    name = PLACES[key][0]
    gpus = store.hardware.gpus
    value, note = "", ""
    if key == "study":
        value = form.study
        if form.wanted and form.wanted != form.study:
            note = f"{form.wanted} has other settings here"
    elif key == "device":
        free = sum(1 for gpu in gpus if not gpu.busy)
        value = device_words(form.device, gpus)
        note = f"{free} of {len(gpus)} free" if gpus else "no GPU here"
    elif key == "at":
        value = form.at or "the newest good one"
    elif key == "runs":
        value = home_path(form.runs_dir)
    else:
        value = home_path(Path(form.data_dir)) if form.data_dir else "$LSC_DATA, ~/.cache/lsc"
    return Row("place", key, name, clean(value), " ", note, key == "data" and not form.data_dir, _fault(problems, key))


# Settings whose values plugins may add to.
_REGISTRIES = {"model.name": MODELS, "target.system": SYSTEMS, "target.loss": LOSSES, "data.dataset": DATASETS}


def choices(row: Row, store: Store, method: Any = None) -> list[tuple[str, str]]:
    """(value, words) to choose from on a row, with this target.method; empty where Enter opens a text field."""
    if row.kind == "place" and row.key == "device":
        gpus = store.hardware.gpus
        found = [("auto", "any free GPU, a run each" if gpus else "no GPU here: the CPU")]
        found += [(str(gpu.index), f"GPU {gpu.index} {clean(gpu.name)}: {clean(store.owner_of(gpu))}") for gpu in gpus]
        return [*found, ("cpu", "no GPU at all")]
    setting = SETTINGS.get(row.key)
    if row.kind != "setting" or setting is None:
        return []
    if setting.kind == "flag":
        return [("true", ""), ("false", "")]
    values = setting.choices if setting.kind in ("choice", "open") else ()
    if row.key.startswith("target.") and row.key != "target.method":
        values = choices_for(row.key, method)
    if setting.kind == "system" and method != "ce":
        values = tuple(name for name in suggested() if ":" not in name)
    registry = _REGISTRIES.get(row.key)
    brought = [name for name in registry.plugin_names() if name not in values] if registry else []
    if not values and not brought:
        return []
    found = [(value, "") for value in values if value != "timm:NAME"] + [(name, "from a plugin") for name in brought]
    if setting.optional:
        found.append(("", f"leave it out: {setting.shown}"))
    if setting.kind in ("open", "system"):
        found.append(("…", "type another"))
    return found


def row_lines(row: Row, width: int, wide: bool, here: bool) -> list[Line]:
    """A row in `width` cells: name, value with its note, mark. A problem takes as many lines as it needs."""
    bar: Line = [("▌" if here else " ", "accent")]
    styles = {"✗": "error", "!": "warn"}
    if row.kind == "problem":
        texts = wrap(row.value, width - 3) if wide else [row.value]
        heads = [f"{row.name} ", *["  "] * len(texts)]
        style = styles.get(row.name, "")
        lines = [[*(bar if i == 0 else [(" ", "")]), (f"{heads[i]}{text}", style)] for i, text in enumerate(texts)]
    elif row.kind == "gap":
        lines = [[]]
    else:
        room, left = (24, width - 28) if wide else (15, width - 19)
        head = fit(row.name, room - 1 - len(row.fault)) + f"{row.fault} "
        note = row.note if wide and len(row.value) + 3 < left else ""
        value = fit(row.value, left if not note else min(left, max(len(row.value) + 2, left - len(note))))
        line: Line = [*bar, (head[: room - 2], "" if here else "dim"), (head[room - 2 :], styles.get(row.fault, ""))]
        line += [(value, "dim" if row.default else ""), (fit(note, left - len(value)), "dim")]
        lines = [[*line, (f" {row.mark} ", "accent" if row.mark == "*" else "dim")]]
    return [over(pad(line, width), "cursor") if here else pad(line, width) for line in lines]
