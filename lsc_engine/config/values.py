"""Single values that a preset may hold: what is allowed of each, and the sentence for what is not.

Each function gives the value back, as it is kept, or raises ValueError; schema.py hangs them on its fields.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.formatting import number, quoted
from lsc_engine.data.dataset import built_in_data_sets
from lsc_engine.registry import DATASETS, LOSSES, MODELS, Registry
from lsc_engine.vectors.choice import INIT_ORDER
from lsc_engine.vectors.registry import fault as system_fault

MODEL_NAMES = tuple(MODELS.built_in)
ETF_LAYERS = ("feed-forward", "adaptive")
ORDERS = ("shuffled", "sequential", "lexicographic", INIT_ORDER)
DIM_MAX = 65_536
DATASET_NAMES = tuple(built_in_data_sets())
LOSS_NAMES = tuple(LOSSES.built_in)

PROGRESS = ("epochs", "steps", "examples")
UNITS = (*PROGRESS, "minutes")
# The number is read by `number`; a sign is no part of a length.
_TEXT = re.compile(r"\s*\+?([0-9.][0-9_.\s]*(?:[eE][+-]?[0-9]{1,2})?)\s*([A-Za-z]+)\s*\Z")
_ONE = {"epoch": "epochs", "step": "steps", "example": "examples", "minute": "minutes"}
LARGEST = 1e15


@dataclass(frozen=True)
class Duration:
    """An amount of training in one unit. Only epochs and minutes may be fractions."""

    amount: float
    unit: str

    @staticmethod
    def parse(text: str) -> Duration:
        """Read "AMOUNT UNIT". ValueError with a sentence where it cannot be read."""
        match = _TEXT.match(text)
        if match is None:
            raise ValueError(f'{quoted(text)} is not a duration; write it like "200 epochs" ({", ".join(UNITS)})')
        unit = _ONE.get(match[2], match[2])
        if unit not in UNITS:
            raise ValueError(f"{quoted(match[2])} is not a unit of a duration. Allowed: {', '.join(UNITS)}")
        amount = number(match[1])
        if amount is None:
            raise ValueError(f'{quoted(match[1])} is not a number; write a duration like "200 epochs"')
        amount = float(amount)
        if amount > LARGEST:
            raise ValueError(f"{quoted(text)} is too long")
        if unit in ("steps", "examples") and not amount.is_integer():
            raise ValueError(f"{quoted(text)}: {unit} are counted in whole numbers")
        return Duration(amount, unit)

    @property
    def seconds(self) -> float | None:
        """Seconds, or None where the unit is not of time."""
        return self.amount * 60 if self.unit == "minutes" else None

    def steps(self, steps_per_epoch: int, batch_size: int) -> int:
        """Steps, rounded up; at least 1 unless the amount is 0. ValueError for minutes."""
        if self.unit == "minutes":
            raise ValueError("minutes are no number of steps")
        if self.unit == "epochs":
            # Decimal fractions are not exact in binary: 0.1 epochs of 30 steps are 3 steps, not 4.
            return math.ceil(round(self.amount * steps_per_epoch, 6))
        if self.unit == "examples":
            return -(-int(self.amount) // batch_size)
        return int(self.amount)

    def __str__(self) -> str:
        return f"{int(self.amount) if self.amount.is_integer() else self.amount} {self.unit}"


def duration(*units: str, zero: bool = False) -> Any:
    """A duration in one of `units`, above 0 unless `zero` is allowed."""

    def check(text: str) -> str:
        duration = Duration.parse(text)
        if duration.unit not in units:
            raise ValueError(f"{quoted(text)}: {duration.unit} do not go here. Allowed: {', '.join(units)}")
        if duration.amount == 0 and not zero:
            raise ValueError(f"{quoted(text)}: more than 0 is needed")
        return str(duration)

    return AfterValidator(check)


def listed(value: Any) -> Any:
    """TOML has lists only; frozen models hold tuples."""
    return tuple(value) if isinstance(value, list) else value


def one_of(registry: Registry[Any], built_in: tuple[str, ...]) -> Any:
    """A name of `built_in`, or one that a plugin adds."""

    def check(value: Any) -> Any:
        if value in built_in or value in (brought := registry.plugin_names()):
            return value
        raise ValueError(f"{quoted(value)} is not allowed; {did_you_mean(str(value)[:100], [*built_in, *brought])}")

    return BeforeValidator(check)


DatasetName = Annotated[str, one_of(DATASETS, DATASET_NAMES)]
LossName = Annotated[str, one_of(LOSSES, LOSS_NAMES)]
Length = Annotated[str, duration(*PROGRESS)]
LengthOrNone = Annotated[str, duration(*PROGRESS, zero=True)]
AnyLength = Annotated[str, duration(*PROGRESS, "minutes")]
Lengths = Annotated[tuple[Length, ...], BeforeValidator(listed)]


def dim(value: Any) -> Any:
    """A latent dimension."""
    if value == "min" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= DIM_MAX):
        return value
    raise ValueError(f'{quoted(value)} is no latent dimension. Allowed: a whole number from 1 to {DIM_MAX}, or "min"')


def radius(value: Any) -> Any:
    """A length of centres."""
    if value == "native" or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6):
        return value if value == "native" else float(value)
    raise ValueError(f'{quoted(value)} is no radius. Allowed: a number above 0, or "native"')


def bottleneck(value: Any) -> Any:
    """A width before the class layer."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= DIM_MAX:
        return value
    if isinstance(value, str) and re.fullmatch(r"min:\S+", value):
        system(value.removeprefix("min:"))
        return value
    raise ValueError(f'{quoted(value)} is no bottleneck. Allowed: "none", a whole number from 1, or "min:SYSTEM"')


def system(value: str) -> str:
    """The name of a vector system."""
    if (fault := system_fault(value)) is not None:
        raise ValueError(fault)
    return value


def order(value: str) -> str:
    """An order of classes, or the run whose class means choose it."""
    if value in ORDERS or re.fullmatch(r"nearest:\S+", value):
        return value
    raise ValueError(f"{quoted(value)} is not allowed; {did_you_mean(value, [*ORDERS, 'nearest:RUN'])}")


def model_name(value: str) -> str:
    """The name of a backbone."""
    if value in MODEL_NAMES or re.fullmatch(r"timm:[A-Za-z0-9_./:@-]+", value):
        return value
    installed = MODELS.plugin_names()
    if value in installed:
        return value
    raise ValueError(f"{quoted(value)} is not a model; {did_you_mean(value, [*MODEL_NAMES, 'timm:NAME', *installed])}")


def etf_layers(value: Any) -> Any:
    """Which layers are fixed."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000:
        return value
    if isinstance(value, str) and (value in ETF_LAYERS or re.fullmatch(r"first:[1-9][0-9]{0,2}", value)):
        return value
    allowed = f'a whole number k from 1 (the last k layers), "first:k", {", ".join(map(quoted, ("none", *ETF_LAYERS)))}'
    raise ValueError(f"{quoted(value)} names no layers. Allowed: {allowed}")


def args(value: Any) -> Any:
    """What TOML can say of a table of arguments."""

    def fine(item: Any) -> bool:
        if isinstance(item, dict):
            return all(isinstance(k, str) and fine(v) for k, v in item.items())
        if isinstance(item, list):
            return all(map(fine, item))
        return isinstance(item, bool | int | str) or (isinstance(item, float) and abs(item) < float("inf"))

    if not isinstance(value, dict) or not fine(value):
        raise ValueError("a table of numbers, texts, true/false and lists is needed")
    return value
