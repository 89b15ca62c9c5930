"""Every setting with its kind, choices, default and help: what the form, the documentation and --set know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lsc_engine.config.schema import (
    SECTIONS,
    SEED_MAX,
    TAGS,
    Settings,
    choices_of,
    literals,
    meta_of,
    settings_fields,
)


@dataclass(frozen=True)
class Setting:
    """One setting. kind: choice | open (choices are a guide) | system | integer | number | text | flag | duration |
    durations | list | table. `default` is None where it depends on other settings; `shown` says it in words.
    `least` and `most` are inclusive bounds where there are any (`least` of a positive number is not reached);
    `optional`: it may be left out, and its default is not one of its values."""

    key: str
    kind: str
    choices: tuple[str, ...]
    default: Any
    shown: str
    help: str
    least: float | None = None
    most: float | None = None
    optional: bool = False


@cache
def fields() -> tuple[Setting, ...]:
    """All settings of a run in the order of the form: the sections, then `start_from` and `seed`."""
    found = [_setting(key, info, choices_for(key)) for key, info in settings_fields()]
    help = Settings.model_fields["start_from"].description or ""
    found.append(Setting("start_from", "text", (), None, "none", help, optional=True))
    words = "Seed of the weights, the order and the augmentation."
    return (*found, Setting("seed", "integer", (), 0, "0", words, 0, SEED_MAX))


def choices_for(key: str, tag: Any = None) -> tuple[str, ...]:
    """The values that a setting names: with the `tag` of its table, as method ce, those of that table alone."""
    section, name = key.split(".")
    models = [model for model in SECTIONS[section] if name in model.model_fields]
    own = [model for model in models if tag in literals(model.model_fields[TAGS.get(section, name)].annotation)]
    return tuple(dict.fromkeys(c for model in own or models for c in choices_of(model.model_fields[name])))


@cache
def setting_keys() -> tuple[str, ...]:
    """The dotted keys of `fields()`."""
    return tuple(setting.key for setting in fields())


def _setting(key: str, info: FieldInfo, choices: tuple[str, ...]) -> Setting:
    meta = meta_of(info)
    bounds: dict[str, float] = {}
    for limit in info.metadata:
        bounds |= {name: getattr(limit, name) for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)}
    required = info.default is PydanticUndefined
    default = None if required else info.default
    words = "none" if default in ((), {}) else str(default).lower() if isinstance(default, bool) else str(default)
    plain: Any = next((part for part in get_args(info.annotation) if part is not type(None)), info.annotation)
    kind = {bool: "flag", int: "integer", float: "number", str: "text"}.get(plain, "list")
    return Setting(
        key=key,
        kind=meta.kind or ("choice" if literals(info.annotation) else kind),
        choices=choices,
        default=default,
        shown=meta.shown or ("required" if required else words),
        help=" ".join((info.description or "").split()),
        least=bounds.get("ge", bounds.get("gt")),
        most=bounds.get("le", bounds.get("lt")),
        optional=bool(meta.shown),
    )
