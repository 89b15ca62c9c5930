"""Mistakes in a preset as sentences: file, variant, key, what is allowed, the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.settings import Table
from lsc_engine.config.schema import SECTIONS, TAGS, Settings, choices_of
from lsc_engine.vectors.registry import plugin_names, suggested

Model = TypeVar("Model", bound=BaseModel)
# Keys that people bring from other trainers, and what to use instead.
FOREIGN = {
    "mixup": "mixup mixes labels, and a mixed label has no vector of its own; leave it out",
    "cutmix": "cutmix mixes labels, and a mixed label has no vector of its own; leave it out",
    "label_smoothing": "label smoothing spreads a label over all classes, which predefined vectors do not have",
    "epochs": 'write [train] duration = "… epochs"',
    "steps": 'write [train] duration = "… steps"',
    "n": "the latent dimension is model.dim",
    "device": "the device is no part of a preset; use --device",
    "weight-decay": "write weight_decay",
}
_LACKS = {
    "lsc": "with lsc the latent dimension is model.dim and there is no class layer",
    "ce": "cross-entropy (ce) has no vector system",
    "ssl": "self-supervision (ssl) has neither vectors nor a class layer",
}
_LIMITS = {
    "greater_than": ("gt", "must be above {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be below {}"),
    "less_than_equal": ("le", "must be at most {}"),
}
_EXPECTED = {
    "string_type": "a text in quotes",
    "string_too_short": "a text with at least one character",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "too_long": "a shorter list",
}


@dataclass(frozen=True)
class ValidationIssue:
    """One mistake: its dotted key, the variant (None: the whole file), what is wrong and what is allowed."""

    key: str
    message: str
    variant: str | None = None

    def in_entry(self, number: int) -> ValidationIssue:
        """Of an entry of the list that the key names; the first is 1."""
        return replace(self, message=f"in entry {number}: {self.message}")

    def sentence(self, file: str) -> str:
        """The mistake with its place, for the command line."""
        where = f' variant "{self.variant}":' if self.variant is not None else ""
        key = f" {self.key}:" if self.key else ""
        text = f"{file}:{where}{key} {self.message}"
        return "".join(c if c.isprintable() else "?" for c in text)


class PresetError(UsageError):
    """All mistakes of one preset. `details` keeps key and variant of each, for a form."""

    def __init__(self, file: str, details: Iterable[ValidationIssue]) -> None:
        self.file = file
        self.details = tuple(details)
        super().__init__(*(issue.sentence(file) for issue in self.details))


def validate(
    model: type[Model], table: Any, name: str, *, complete: bool = True
) -> tuple[Model | None, list[ValidationIssue]]:
    """The model of a table that the file calls `name`, or its mistakes; required keys may be missing in one that is not
    `complete`."""
    if not isinstance(table, dict):
        return None, [not_a_table(name, table)]
    try:
        return model.model_validate(table), []
    except ValidationError as error:
        # Texts that are not UTF-8 are reported for the whole preset.
        passed = ("string_unicode", *(() if complete else ("missing", "union_tag_not_found")))
        items = [item for item in error.errors(include_url=False) if item["type"] not in passed]
        issues = [
            _of_settings(item, table) if model is Settings else (item["loc"], _message(item, model)) for item in items
        ]
        return None, [_located(name, loc, message) for loc, message in issues]
    except (OverflowError, RecursionError) as error:
        return None, [ValidationIssue(name, f"holds a value that cannot be read: {error}")]


def validate_settings(table: Table, *, complete: bool = True) -> tuple[Settings | None, list[ValidationIssue]]:
    """The settings that the tables of a preset amount to, or their mistakes."""
    return validate(Settings, {name: {} for name in SECTIONS} | table, "", complete=complete)


def not_a_table(name: str, value: Any) -> ValidationIssue:
    """For a section that is no table."""
    return ValidationIssue(name, f"a table is needed, not {quoted(value)}")


def unknown(name: str, allowed: Iterable[str]) -> str:
    """The sentence for a key that does not exist."""
    return f"unknown key; {FOREIGN.get(name) or did_you_mean(name, allowed)}"


def _located(name: str, path: Iterable[Any], message: str) -> ValidationIssue:
    keys = [name] if name else []
    for part in path:
        if isinstance(part, int):
            message = f"in entry {part + 1}: {message}"
        else:
            plain = part.replace("_", "").replace("-", "").isalnum() and part.isascii()
            keys.append(part if plain else quoted(part))
    return ValidationIssue(".".join(keys), message)


def _tag(model: type[BaseModel], section: str) -> str:
    return str(get_args(model.model_fields[TAGS[section]].annotation)[0])


def _of_settings(item: Any, table: Table) -> tuple[list[Any], str]:
    """Where a mistake in whole settings is, and its sentence."""
    section, *rest = item["loc"]
    models: Any = SECTIONS.get(section, (Settings,))
    if section not in TAGS:
        return [section, *rest], _message(item, models[0], rest or [section])
    key, choices = TAGS[section], [_tag(model, section) for model in models]
    if not rest:
        value = table.get(section, {}).get(key)
        wrong = f"{quoted(value)} is not allowed; {did_you_mean(str(value)[:100], choices)}"
        return [section, key], wrong if value is not None else f"is required. Allowed: {', '.join(choices)}"
    tag, *rest = rest
    model, name = models[choices.index(tag)], str(rest[0])
    if item["type"] == "missing" and name == "system":
        return [section, *rest], f"is required for lsc. Allowed: {', '.join((*suggested(), 'Vpq', *plugin_names()))}"
    if item["type"] != "extra_forbidden":
        return [section, *rest], _message(item, model, rest)
    # A key of the other models is not unknown.
    others = [other for other in models if name in other.model_fields]
    if not others:
        return [section, *rest], unknown(name, dict.fromkeys(field for one in models for field in one.model_fields))
    owners = [_tag(other, section) for other in others]
    # A value that is wrong wherever the key belongs is the nearer mistake.
    _, issues = validate(others[0], {key: owners[0], name: item["input"]}, "")
    message = next((issue.message for issue in issues if issue.key.split(".")[0] == name), None)
    why = f", and the optimizer is {tag}" if section == "optimizer" else f"; {_LACKS[tag]}. Leave it out"
    return [section, *rest], message or f"belongs to {' or '.join(owners)}{why}"


def _message(item: Any, model: type[BaseModel], loc: Any = ()) -> str:
    loc = loc or item["loc"]
    # In a list of tables.
    inner = get_args(model.model_fields[loc[0]].annotation)[:1] if loc[0] in model.model_fields else ()
    if len(loc) > 2 and isinstance(inner and inner[0], type) and issubclass(inner[0], BaseModel):
        model, loc = inner[0], loc[2:]
    kind, value, context = item["type"], item.get("input"), item.get("ctx", {})
    # A key of the file may be the alias of its field.
    fields = {info.alias or name: info for name, info in model.model_fields.items()}
    if kind == "extra_forbidden":
        return unknown(str(loc[-1]), fields)
    if kind == "value_error":
        return str(context.get("error", item["msg"]))
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        limit = context[name]
        return f"{words.format(f'{limit:g}' if isinstance(limit, float) else limit)}, not {quoted(value)}"
    info = fields.get(str(loc[-1 if kind == "missing" else 0]))
    choices = choices_of(info) if info else ()
    if kind == "missing":
        return "is required" + (f". Allowed: {', '.join(choices)}" if choices else "")
    if kind == "literal_error":
        return f"{quoted(value)} is not allowed; {did_you_mean(str(value)[:100], choices)}"
    expected = _EXPECTED.get(kind, f"another value ({kind.replace('_', ' ')})")
    kinds: dict[type, str] = {dict: "a table", list: "a list", tuple: "a list", str: f"the text {quoted(value)}"}
    return f"{expected} is needed, not {kinds.get(type(value), quoted(value))}"
