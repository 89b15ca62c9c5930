"""Every setting with its kind, choices, default and help: what the form, the documentation and --set know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lsc_engine.config.sections import KINDS, SECTIONS, Compare, Section, Tune


@dataclass(frozen=True)
class Setting:
    """One setting. kind: choice | open (choices are a guide) | system | integer | number | text | flag | duration |
    durations | list | table. `default` is None where it depends on other settings; `shown` says it in words.
    `least` and `most` are inclusive bounds where there are any (`least` of a positive number is not reached)."""

    key: str
    kind: str
    choices: tuple[str, ...]
    default: Any
    shown: str
    help: str
    required: bool
    least: float | None = None
    most: float | None = None
    optional: bool = False


@cache
def fields() -> tuple[Setting, ...]:
    """All settings of a run in the order of the form: the sections, then `start_from` and `seed`."""
    made = [_setting(f"{name}.{key}", info) for name, model in SECTIONS.items() for key, info in _items(model)]
    made.append(
        Setting(
            "start_from",
            "text",
            (),
            None,
            "none",
            'Begin with the weights of another run, or of "@variant".',
            False,
            optional=True,
        )
    )
    made.append(
        Setting(
            "seed", "integer", (), 0, "0", "Seed of the weights, the order and the augmentation.", False, 0, 2**63 - 1
        )
    )
    return tuple(made)


def top_fields() -> tuple[Setting, ...]:
    """The settings of a whole preset that no variant changes."""
    from lsc_engine.config.reporting import BenchReport, Claim, DatasetsReport, Paper, VectorsReport

    words = (
        ("title", "text", (), "the file's name", "What the preset shows, in one line."),
        ("source", "text", (), "", "Paper and figure that it follows."),
        ("claim", "text", (), "", "The sentence that the preset tests."),
        ("kind", "choice", KINDS, "train", "train, or a report that needs no training."),
        ("seeds", "list", (), "[0]", "One run per variant and seed."),
    )
    made = [Setting(key, kind, choices, None, shown, help, False) for key, kind, choices, shown, help in words]
    tables: dict[str, type[Section]] = {"compare": Compare, "tune": Tune, "paper": Paper, "claims": Claim}
    tables |= {"vectors": VectorsReport, "datasets": DatasetsReport, "bench": BenchReport}
    for name, model in tables.items():
        made += [_setting(f"{name}.{info.alias or key}", info) for key, info in _items(model)]
    return tuple(made)


@cache
def setting_keys() -> tuple[str, ...]:
    """The dotted keys of `fields()`."""
    return tuple(setting.key for setting in fields())


def literals(annotation: Any) -> list[Any]:
    """The values of the Literal inside an annotation, through Optional and Annotated; empty without one."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return [value for part in get_args(annotation) for value in literals(part)]
    return literals(get_args(annotation)[0]) if get_origin(annotation) is Annotated else []


def choices_of(info: FieldInfo) -> tuple[str, ...]:
    """The values a field names: all it allows for a choice, a guide for an open one."""
    named = literals(info.annotation)
    extra: Any = info.json_schema_extra or {}
    return tuple(map(str, named)) or tuple(extra.get("choices", ()))


def _items(model: type[Any]) -> list[tuple[str, FieldInfo]]:
    return list(model.model_fields.items())


def _setting(key: str, info: FieldInfo) -> Setting:
    extra: Any = info.json_schema_extra or {}
    required = info.default is PydanticUndefined or info.default is ...
    default = None if required else info.default
    bounds: dict[str, float] = {}
    for limit in info.metadata:
        for name in ("ge", "gt", "le", "lt"):
            if getattr(limit, name, None) is not None:
                bounds[name] = getattr(limit, name)
    return Setting(
        key=key,
        kind=extra.get("kind") or _kind(info.annotation),
        choices=choices_of(info),
        default=default,
        shown=extra.get("shown") or ("required" if required else _words(default)),
        help=info.description or "",
        required=required,
        least=bounds.get("ge", bounds.get("gt")),
        most=bounds.get("le", bounds.get("lt")),
        optional=not required and default is None,
    )


def _kind(annotation: Any) -> str:
    if literals(annotation):
        return "choice"
    plain = [part for part in get_args(annotation) if part is not type(None)] or [annotation]
    return {bool: "flag", int: "integer", float: "number", str: "text"}.get(plain[0], "list")


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value in ((), {}) else str(value)
