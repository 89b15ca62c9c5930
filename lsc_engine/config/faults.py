"""Faults of a preset as sentences: file, variant, key, what is allowed, the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lsc_engine.common.formatting import quoted
from lsc_engine.errors import UsageError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
# Keys that people bring from other trainers, and what to say to them.
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


@dataclass(frozen=True)
class Fault:
    """One fault: the dotted key it is at, the variant (None: the whole file), what is wrong and what is allowed."""

    key: str
    message: str
    variant: str | None = None

    def sentence(self, file: str) -> str:
        """The fault with its place, for the command line."""
        where = f' variant "{self.variant}":' if self.variant is not None else ""
        key = f" {self.key}:" if self.key else ""
        return _shown(f"{file}:{where}{key} {self.message}")


class PresetError(UsageError):
    """All faults of one preset at once. `details` keeps key and variant of each, for a form."""

    def __init__(self, file: str, details: Iterable[Fault]) -> None:
        self.file = file
        self.details = tuple(details)
        super().__init__(*(fault.sentence(file) for fault in self.details))


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def from_pydantic(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Fault]:
    """One fault per pydantic error below `prefix`; keys of `model` are offered for unknown ones."""
    faults = []
    for item in error.errors(include_url=False):
        if item["type"] == "string_unicode":
            continue  # told of every text of the preset by `unprintable`
        path = [str(part) for part in item["loc"]]
        key = ".".join([*([prefix] if prefix else []), *(_key(part) for part in path)])
        faults.append(Fault(key, _message(item, model)))
    return faults


def validated(
    model: type[Model], table: dict[str, Any], name: str, *, required: bool = True
) -> tuple[Model | None, list[Fault]]:
    """The model of a table, or its faults; without `required` keys may be missing."""
    try:
        return model.model_validate(table), []
    except ValidationError as error:
        found = from_pydantic(error, model, name)
        return None, found if required else [f for f in found if not f.message.startswith("is required")]
    except (OverflowError, RecursionError) as error:
        return None, [Fault(name, f"holds a value that cannot be read: {error}")]


def unknown(name: str, allowed: Iterable[str]) -> str:
    """The sentence for a key that does not exist."""
    foreign = FOREIGN.get(name)
    return f"unknown key; {foreign or did_you_mean(name, allowed)}"


def _key(part: str) -> str:
    return part if part.replace("_", "").replace("-", "").isalnum() and part.isascii() else quoted(part)


def _message(item: Any, model: type[BaseModel]) -> str:
    kind, value, context = item["type"], item.get("input"), item.get("ctx", {})
    if kind == "missing":
        return f"is required{_allowed(model, str(item['loc'][-1]))}"
    if kind == "extra_forbidden":
        return unknown(str(item["loc"][-1]), [info.alias or name for name, info in model.model_fields.items()])
    if kind == "literal_error":
        choices = [str(c) for c in _literals(model, str(item["loc"][0]))]
        return f"{quoted(value)} is not allowed; {did_you_mean(str(value)[:100], choices)}"
    if kind == "value_error":
        return str(context.get("error", item["msg"]))
    limits = {
        "greater_than": ("gt", "must be above {}"),
        "greater_than_equal": ("ge", "must be at least {}"),
        "less_than": ("lt", "must be below {}"),
        "less_than_equal": ("le", "must be at most {}"),
    }
    if kind in limits:
        name, words = limits[kind]
        return f"{words.format(context[name])}, not {quoted(value)}"
    return f"{_expected(kind)} is needed, not {_what(value)}"


def _expected(kind: str) -> str:
    table = {
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
    return table.get(kind, f"another value ({kind.replace('_', ' ')})")


def _what(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    kind = "the text " if isinstance(value, str) else ""
    return f"{kind}{quoted(value)}"


def _literals(model: type[BaseModel], field: str) -> list[Any]:
    from lsc_engine.config.catalogue import literals

    info = _field(model, field)
    return literals(info.annotation) if info is not None else []


def _field(model: type[BaseModel], key: str) -> FieldInfo | None:
    """The field behind a key of the file, which may be its alias."""
    fields = model.model_fields
    return fields.get(key) or next((info for info in fields.values() if info.alias == key), None)


def _allowed(model: type[BaseModel], field: str) -> str:
    from lsc_engine.config.catalogue import choices_of

    info = _field(model, field)
    choices = choices_of(info) if info else ()
    return f". Allowed: {', '.join(choices)}" if choices else ""
