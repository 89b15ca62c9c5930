"""What the form of New run holds: a preset's tables, the user's changes, and where the runs are to go; and the drafts,
forms with changes that are kept over a restart. No widget.

A setting that any variant sets for itself is changed for the shown variant alone, every other one for all; the shown
variant is one that will run. The TOML of the form is the preset as written until something changes; then it says of
each changed setting what it was. That TOML is what is checked, shown, saved and launched.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from lsc_engine.common.duration import Duration
from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import UnreadableError, read_toml, replace_file
from lsc_engine.common.settings import Table, lookup, nested, without
from lsc_engine.config.expand import draft_variants, overlay, raw_variants, sections_of
from lsc_engine.config.schema import Setting, acts, fields
from lsc_engine.config.typed import parse_seeds, typed_value
from lsc_tui.data.run_view import value_text

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SETTINGS: dict[str, Setting] = {
    setting.key: setting for setting in fields() if setting.key not in ("seed", "start_from")
}
MARKS = {"paper": "P", "inferred": "I", "ours": "O"}
TRY_LR = (1e-4, 3e-4, 1e-3)
TRY_SHARE, TRY_SEED = 0.1, 9


@dataclass
class Form:
    """One form. `raw` are the tables now, `before` those of the preset; `on` the variants that are to run."""

    heading: str
    text: str
    raw: Table
    study: str
    runs_dir: Path
    data_dir: str = ""
    device: str = "auto"
    source: str = "preset"  # preset | copy | fork
    path: Path | None = None
    parent: str = ""
    at: str = ""
    before: Table = field(default_factory=dict)
    on: set[str] = field(default_factory=set)
    highlighted: int = 0  # number of the variant that is to be shown
    touched: bool = False  # whether the user changed anything
    tuned: Any = None  # the preset's own [tune]
    _merged: dict[tuple[int, str], tuple[Table, Table]] = field(default_factory=dict, compare=False)
    wanted: str = ""  # the study's name where it is the preset's and not typed: it may give way to a free one

    @staticmethod
    def of(text: str, heading: str, study: str, runs_dir: Path, **options: Any) -> Form:
        """The form of a preset's text. UsageError where it is no TOML."""
        try:
            raw = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
            raise UsageError(f"{heading}: not TOML: {error}") from error
        form = Form(heading, text, raw, study, runs_dir, before=copy.deepcopy(raw), **options)
        form.on = set(form.names)
        form.tuned = raw.get("tune")
        form.wanted = study if form.source == "preset" else ""
        return form

    @property
    def key(self) -> tuple[str, str, Path | None]:
        return self.source, self.heading, self.path

    @property
    def kind(self) -> str:
        """`train`, or what makes a report without training: vectors, data, bench."""
        kind = self.raw.get("kind", "train")
        return kind if isinstance(kind, str) else "train"

    @property
    def takes_system(self) -> bool:
        """Whether its vector system and n can be changed: a fork keeps both, and a report has a list of its own."""
        return self.kind == "train" and self.source != "fork"

    @property
    def variants(self) -> list[Table]:
        return raw_variants(self.raw)

    @property
    def names(self) -> list[str]:
        return [str(v.get("name", "")) for v in self.variants] or ["default"]

    @property
    def needed(self) -> set[str]:
        """Variants that are off and run all the same, since one that is on needs them."""
        known = self._merged.get((id(self.raw), ""))
        if known is None or known[0] is not self.raw:
            needs = {draft.name: draft.needs for draft in draft_variants(self.raw)}
            known = self._merged[id(self.raw), ""] = (self.raw, needs)
        queue, found = list(self.on), set(self.on)
        while queue:
            fresh = set(known[1].get(queue.pop(), ())) - found
            found |= fresh
            queue += fresh
        return (found - self.on) & set(self.names)

    @property
    def running(self) -> list[str]:
        needed = self.needed
        return [name for name in self.names if name in self.on or name in needed]

    @property
    def variant(self) -> str:
        """The variant whose settings are shown and changed: the highlighted one, or the nearest that runs."""
        names, runs = self.names, self.running
        here = min(self.highlighted, len(names) - 1)
        return min(runs or names, key=lambda name: (abs(names.index(name) - here), names.index(name)))

    def step(self, by: int) -> None:
        names = self.running or self.names
        self.highlighted = self.names.index(names[(names.index(self.variant) + by) % len(names)])

    def label(self, name: str) -> str:
        return next((str(v.get("label", name)) for v in self.variants if v.get("name") == name), name)

    def letter(self, name: str) -> str:
        return dict(zip(self.names, LETTERS, strict=False)).get(name, "+")

    def given(self, key: str, variant: str, raw: Table | None = None) -> Any:
        """What the tables say of a setting, None where they leave it to its default."""
        raw = self.raw if raw is None else raw
        known = self._merged.get((id(raw), variant))
        if known is None or known[0] is not raw:
            # Tables are replaced and never changed, so what they amount to holds as long as they do.
            own = next((v for v in raw_variants(raw) if v.get("name") == variant), {})
            known = (raw, overlay(sections_of(raw), sections_of(own)))
            if len(self._merged) > 200:
                self._merged.clear()
            self._merged[id(raw), variant] = known
        return lookup(known[1], key)

    def by_variant(self, key: str) -> bool:
        """Whether a variant sets it for itself, so that a change is for one variant alone."""
        return any(lookup(v, key) is not None for v in self.variants)

    def edited(self, own: Path) -> bool:
        """Whether the form of a preset differs from its file, or its runs go elsewhere than into a study of its name in
        `own`, the runs folder of this viewer."""
        places = (self.wanted or self.study, self.runs_dir, self.data_dir, self.device)
        return self.raw != self.before or self.on != set(self.names) or places != (self.heading, own, "", "auto")

    def changed(self, key: str, variant: str | None = None) -> bool:
        names = [variant] if variant is not None else self.names
        return any(self.given(key, name) != self.given(key, name, self.before) for name in names)

    def mark(self, key: str, variant: str | None = None) -> str:
        """`*` changed here, else P, I or O as the preset says, else a blank."""
        first = re.split(r"[:\s]", self.provenance(key), maxsplit=1)[0]
        return "*" if self.changed(key, variant) else MARKS.get(first, " ")

    def provenance(self, key: str) -> str:
        table = self.raw.get("provenance")
        note = table.get(key) if isinstance(table, dict) else None
        return note if isinstance(note, str) else ""

    def set(self, key: str, text: str, *, variant: str = "") -> None:
        """A setting as typed, for one variant where it is set by variants; empty leaves it to the preset's default.
        UsageError where it cannot be read at all."""
        self.put(key, typed(key, text), [variant or self.variant])

    def put(self, key: str, value: Any, names: Collection[str]) -> None:
        """A setting's value, None to leave it out: for these variants where it is set by variants, else for all."""
        if self.by_variant(key):
            self._put_by_variant(key, dict.fromkeys(names, value))
        else:
            self.raw = _with(self.raw, key, value)

    def _put_by_variant(self, key: str, values: dict[str, Any]) -> None:
        given = self.raw.get("variants")
        if isinstance(given, list):
            names = [str(v.get("name")) for v in given]
            new = [_with(v, key, values[n]) if n in values else v for n, v in zip(names, given, strict=True)]
            self.raw = self.raw | {"variants": new}

    def reset(self, key: str) -> None:
        self.raw = _with(self.raw, key, lookup(self.before, key))
        old = {str(v.get("name")): lookup(v, key) for v in raw_variants(self.before)}
        self._put_by_variant(key, dict.fromkeys(self.names) | old)

    @property
    def seeds(self) -> str:
        given = self.raw.get("seeds", [self.raw.get("seed", 0)])
        return " ".join(map(str, given)) if isinstance(given, list) else str(given)

    def set_seeds(self, text: str) -> None:
        """Seeds as typed: `0 1 2`, `0,1,2` or `0-4`."""
        seeds = list(parse_seeds(text, "seeds"))
        rest, before = without(without(self.raw, "seed"), "seeds"), self.before
        own = {key: before[key] for key in ("seed", "seeds") if key in before}
        same = seeds == before.get("seeds", [before.get("seed", 0)])
        # Top-level keys stand before the first table of the file.
        self.raw = (own if same else {"seeds": seeds}) | rest

    @property
    def grid(self) -> Table:
        """The tuning grid, as far as it is a table; else empty."""
        tune = self.raw.get("tune")
        return tune if isinstance(tune, dict) else {}

    def toggle_tune(self) -> None:
        """The same few learning rates for every variant first, or not; a preset's own grid comes back."""
        tuned, self.raw = "tune" in self.raw, without(self.raw, "tune")
        if not tuned:
            whole = Duration.parse(str(self.given("train.duration", self.variant) or "10 epochs"))
            number, unit = whole.amount * TRY_SHARE, whole.unit
            short = f"{max(1, round(number))}" if unit in ("steps", "examples") else f"{number:g}"
            own = {"optimizer.lr": list(TRY_LR), "duration": f"{short} {unit}", "seed": TRY_SEED}
            self.raw = self.raw | {"tune": self.tuned or own}

    @property
    def tune_text(self) -> str:
        words = {key: ", ".join(map(toml_text, v)) if isinstance(v, list) else str(v) for key, v in self.grid.items()}
        return "; ".join(f"{key} = {text}" for key, text in words.items())

    def set_tune(self, text: str) -> None:
        """The grid as typed; an empty text leaves it out. UsageError for a part that is no setting with values."""
        grid: Table = {}
        for part in filter(str.strip, text.split(";")):
            key, sign, value = (word.strip() for word in part.partition("="))
            if not sign or not value:
                raise UsageError(f'tune: "{part.strip()}" has no values; write optimizer.lr = 1e-4, 1e-3')
            grid[key] = typed_value(f"tune.{key}", value)
        self.raw = without(self.raw, "tune") | ({"tune": grid} if grid else {})

    @property
    def try_share(self) -> float:
        """How long a try of the grid is, as a share of a run."""
        whole = str(self.given("train.duration", self.variant) or "")
        return length_ratio(str(self.grid["duration"]), whole) if "duration" in self.grid else 1.0

    def toml(self) -> str:
        """The preset as it will be saved: as written where nothing it says has changed."""
        if self.raw == self.before:
            return self.text
        raw, note = dict(self.raw), self.raw.get("provenance")
        notes = dict(note) if isinstance(note, dict) else {}
        notes |= {key: f"ours: changed, the preset had {self.old(key)}" for key in SETTINGS if self.changed(key)}
        if notes:
            raw["provenance"] = notes
        variants = raw.get("variants")
        if not isinstance(variants, list) or not all(isinstance(v, dict) for v in variants):
            return tomli_w.dumps(raw)
        del raw["variants"]
        return tomli_w.dumps(raw) + "".join(f"\n[[variants]]\n{_dotted(v)}" for v in variants)

    def running_toml(self) -> str:
        """The preset with the variants that run, and the baseline where it is one of them."""
        running, given = self.running, self.raw.get("variants")
        if not isinstance(given, list) or len(running) == len(self.names):
            return self.toml()
        form = self.copy()
        form.raw["variants"] = [variant for variant in given if variant.get("name") in running]
        compare = form.raw.get("compare")
        if isinstance(compare, dict) and compare.get("baseline") not in running:
            compare.pop("baseline", None)
        return form.toml()

    def old(self, key: str) -> str:
        values = {name: self.given(key, name, self.before) for name in self.names}
        words = {name: "its default" if v is None else value_words(v) for name, v in values.items()}
        if len(set(words.values())) == 1:
            return next(iter(words.values()))
        return ", ".join(f"{word} in {name}" for name, word in words.items())

    def copy(self) -> Form:
        return replace(self, raw=copy.deepcopy(self.raw), on=set(self.on), _merged={})

    def keys(self, every: bool) -> list[str]:
        """The settings to show: those that the preset or the user names and the usual ones, or every one that acts."""
        given = {key for key in SETTINGS if any(self.given(key, name) is not None for name in self.names)}
        names, usual = self.names, USUAL.split()
        shown = (k for k in SETTINGS if every or k in given or k in usual or self.provenance(k))
        return [k for k in shown if k in given or self.changed(k) or any(self.acts_in(k, name) for name in names)]

    def acts_in(self, key: str, variant: str) -> bool:
        """Whether a setting means anything for a variant: cross-entropy has no system."""
        return acts(key, lambda other: self.given(other, variant))


USUAL = (
    "data.dataset data.labels data.classes data.image_size data.augment model.name model.dim target.method "
    "target.system target.order target.loss optimizer.name optimizer.lr optimizer.weight_decay optimizer.schedule "
    "optimizer.warmup train.duration train.batch_size train.precision"
)


def length_ratio(one: str, other: str) -> float:
    """How often the duration `other` goes into `one`; 1 where that cannot be known."""
    try:
        long, short = Duration.parse(one), Duration.parse(other)
    except ValueError:
        return 1.0
    return long.amount / short.amount if long.unit == short.unit and short.amount > 0 else 1.0


def typed(key: str, text: str) -> Any:
    """The TOML value that a typed text means; None for an empty one, which leaves the setting out."""
    return typed_value(key, text) if text.strip() else None


def _with(table: Table, key: str, value: Any) -> Table:
    if value is not None:
        return overlay(table, nested(key, value))
    section, left = key.partition(".")[0], without(table, key)
    return left if left.get(section) else without(left, section)


def _dotted(table: Table, prefix: str = "") -> str:
    """A variant's table as the presets write it: `model.dim = 24`, one line each."""
    out = ""
    for key, value in table.items():
        name = f"{prefix}{_toml_key(key)}"
        if isinstance(value, dict) and value:
            out += _dotted(value, f"{name}.")
        else:
            out += f"{name} = {toml_text(value)}\n"
    return out


def _toml_key(key: str) -> str:
    return tomli_w.dumps({key: 0}).rpartition(" = ")[0]


def toml_text(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_key(k)} = {toml_text(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_text, value))}]"
    return tomli_w.dumps({"v": value}).partition("=")[2].strip()


def value_words(value: Any) -> str:
    """A value as `value_text` has it, a number exactly."""
    short = value_text(value)
    return repr(value) if isinstance(value, float) and float(short) != value else short


def field_text(key: str, value: Any) -> str:
    """A setting's value as it stands in the text field, from which the same is read."""
    text = "" if value is None else value if isinstance(value, str) else toml_text(value)
    return text if value is None or typed(key, text) == value else toml_text(value)


def shown_value(key: str, given: Any, resolved: Table | None) -> tuple[str, bool]:
    """What a setting's line shows, and whether it is a default. `resolved` are the dotted settings of the run that
    would be launched, None while they are not known: then what the form says is shown."""
    found = None
    if resolved is not None:
        inside = {name: value for name, value in resolved.items() if name.startswith(f"{key}.")}
        found = resolved.get(key, {name.removeprefix(f"{key}."): value for name, value in inside.items()} or None)
    if isinstance(given, str) and "@" in given:
        return given, False  # a run of another variant, with each seed another one
    if isinstance(given, str) and found is not None and not isinstance(found, str):
        return f"{given}: {value_words(found)}", False
    if found is None:
        found = given
    if found is not None:
        return value_words(found), given is None
    default = SETTINGS[key].default
    return value_words(default) if isinstance(default, float) else SETTINGS[key].shown, True


MOST_DRAFTS = 200
_TEXTS = ("heading", "text", "study", "data_dir", "device", "source", "parent", "at", "wanted")


def _place(folder: Path, form: Form) -> Path:
    name = "\n".join(map(str, form.key))
    return folder / f"{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:24]}.toml"


def save_draft(folder: Path, form: Form, own: Path) -> None:
    """Keep a form; where nothing can be written it lives as long as the viewer. Its runs folder is kept where it is
    another than `own`, the one of this viewer."""
    document = {name: getattr(form, name) for name in _TEXTS} | {"on": sorted(form.on), "raw": form.raw}
    document |= {"path": str(form.path or ""), "runs_dir": "" if form.runs_dir == own else str(form.runs_dir)}
    with contextlib.suppress(OSError, UnicodeError):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(_place(folder, form), tomli_w.dumps(document).encode(), durable=False)


def drop_draft(folder: Path, form: Form) -> None:
    """Forget a form."""
    with contextlib.suppress(OSError):
        _place(folder, form).unlink()


def read_drafts(folder: Path, own: Path) -> list[Form]:
    """The forms that were kept, `own` being the runs folder of those that name none. A file that cannot be read is left
    alone."""
    out = []
    with contextlib.suppress(OSError):
        for file in sorted(folder.glob("*.toml"))[:MOST_DRAFTS]:
            with contextlib.suppress(UnreadableError, UsageError, KeyError, TypeError, AttributeError):
                document = read_toml(file)
                texts = {name: str(document[name]) for name in _TEXTS}
                form = Form.of(texts["text"], texts["heading"], texts["study"], Path(document["runs_dir"] or own))
                for name, text in texts.items():
                    setattr(form, name, text)
                form.path = Path(document["path"]) if document["path"] else None
                form.raw, form.touched = dict(document["raw"]), True
                form.on = set(map(str, document["on"])) & set(form.names)
                out.append(form)
    return out
