"""Single values that a preset may hold: what is allowed of each, and the sentence for what is not.

Each function returns the value as it is kept, or raises ValueError; schema.py hangs them on its fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from lsc_engine.common.duration import PROGRESS, UNITS, Duration
from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.data.dataset import built_in_data_sets
from lsc_engine.registry import DATASETS, LOSSES, MODELS, Registry
from lsc_engine.vectors.choice import INIT_ORDER
from lsc_engine.vectors.registry import fault as system_fault

MODEL_NAMES = tuple(MODELS.built_in)
DATASET_NAMES = tuple(built_in_data_sets())
LOSS_NAMES = tuple(LOSSES.built_in)
ETF_LAYERS = ("feed-forward", "adaptive")
ORDERS = ("shuffled", "sequential", "lexicographic", INIT_ORDER)
DIM_MAX = 65_536


@dataclass(frozen=True)
class Meta:
    """What the form, the overlay and the sentences need to know of a setting beside its type.

    shown: the default in words; `off`: "none" switches it off; needs: another setting and the values of it at which
    this one acts; reset_by: a setting whose change leaves this one behind when a variant is laid over its preset.
    """

    shown: str = ""
    kind: str = ""
    choices: tuple[str, ...] = ()
    off: bool = False
    needs: tuple[str, tuple[str, ...]] | None = None
    reset_by: str = ""


def duration(*units: str, zero: bool = False) -> AfterValidator:
    """A duration in one of `units`, above 0 unless `zero` is allowed."""

    def check(text: str) -> str:
        duration = Duration.parse(text, units)
        if duration.unit not in units:
            raise ValueError(f"{quoted(text)}: {duration.unit} do not go here. Allowed: {', '.join(units)}")
        if duration.amount == 0 and not zero:
            raise ValueError(f"{quoted(text)}: more than 0 is needed")
        return str(duration)

    return AfterValidator(check)


def listed(value: Any) -> Any:
    """TOML has lists only; frozen models hold tuples."""
    return tuple(value) if isinstance(value, list) else value


def checked(fine: Callable[[Any], object], sentence: Callable[[Any], str]) -> Callable[[Any], Any]:
    """Keeps a value that is `fine`; ValueError with the value and the `sentence` about it for another."""

    def check(value: Any) -> Any:
        if fine(value):
            return value
        raise ValueError(f"{quoted(value)} {sentence(value)}")

    return check


def one_of(registry: Registry[Any], built_in: tuple[str, ...]) -> BeforeValidator:
    """A name of `built_in`, or one that a plugin adds."""

    def check(value: Any) -> Any:
        if value in built_in or value in (brought := registry.plugin_names()):
            return value
        raise ValueError(f"{quoted(value)} is not allowed; {did_you_mean(str(value)[:100], [*built_in, *brought])}")

    return BeforeValidator(check)


DatasetName = Annotated[str, one_of(DATASETS, DATASET_NAMES), Meta(kind="choice", choices=DATASET_NAMES)]
LossName = Annotated[str, one_of(LOSSES, LOSS_NAMES)]
Length = Annotated[str, duration(*PROGRESS), Meta(kind="duration")]
LengthOrNone = Annotated[str, duration(*PROGRESS, zero=True), Meta(kind="duration")]
AnyLength = Annotated[str, duration(*UNITS), Meta(kind="duration")]
Lengths = Annotated[tuple[Length, ...], BeforeValidator(listed), Meta(kind="durations")]


def _whole(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


# A latent dimension.
dim = checked(
    lambda value: value == "min" or _whole(value, DIM_MAX),
    lambda _: f'is no latent dimension. Allowed: a whole number from 1 to {DIM_MAX}, or "min"',
)


def radius(value: Any) -> Any:
    """A length of centres."""
    if type(value) in (int, float) and 0 < value < 1e6:
        return float(value)
    if value == "native":
        return value
    raise ValueError(f'{quoted(value)} is no radius. Allowed: a number above 0, or "native"')


def bottleneck(value: Any) -> Any:
    """A width before the class layer."""
    if isinstance(value, str) and re.fullmatch(r"min:\S+", value):
        system(value.removeprefix("min:"))
    elif not _whole(value, DIM_MAX):
        raise ValueError(f'{quoted(value)} is no bottleneck. Allowed: "none", a whole number from 1, or "min:SYSTEM"')
    return value


def system(value: str) -> str:
    """The name of a vector system."""
    if (fault := system_fault(value)) is not None:
        raise ValueError(fault)
    return value


# An order of classes, or the run whose class means choose it.
order = checked(
    lambda value: value in ORDERS or re.fullmatch(r"nearest:\S+", value),
    lambda value: f"is not allowed; {did_you_mean(value, [*ORDERS, 'nearest:RUN'])}",
)
# The name of a backbone.
model_name = checked(
    lambda value: value in (*MODEL_NAMES, *MODELS.plugin_names()) or re.fullmatch(r"timm:[A-Za-z0-9_./:@-]+", value),
    lambda value: f"is not a model; {did_you_mean(value, [*MODEL_NAMES, 'timm:NAME', *MODELS.plugin_names()])}",
)
_LAYERS = f'a whole number k from 1 (the last k layers), "first:k", {", ".join(map(quoted, ("none", *ETF_LAYERS)))}'
# Which layers are fixed.
etf_layers = checked(
    lambda value: _whole(value, 1000) or value in ETF_LAYERS or re.fullmatch(r"first:[1-9][0-9]{0,2}", str(value)),
    lambda _: f"names no layers. Allowed: {_LAYERS}",
)


def args(value: Any) -> Any:
    """What TOML can say of a table of arguments."""

    def fine(item: Any) -> bool:
        if isinstance(item, dict):
            return all(isinstance(k, str) and fine(v) for k, v in item.items())
        if isinstance(item, list):
            return all(map(fine, item))
        return isinstance(item, int | str) or (isinstance(item, float) and math.isfinite(item))

    if not isinstance(value, dict) or not fine(value):
        raise ValueError("a table of numbers, texts, true/false and lists is needed")
    return value
