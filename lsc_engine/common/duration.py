"""The length of a training, as a preset states it: "200 epochs", "30 minutes"."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lsc_engine.common.formatting import number, quoted

PROGRESS = ("epochs", "steps", "examples")
UNITS = (*PROGRESS, "minutes")
# The number is read by `number`; a sign is no part of a length.
_TEXT = re.compile(r"\s*\+?([0-9.][0-9_.\s]*(?:[eE][+-]?[0-9]{1,2})?)\s*([A-Za-z]+)\s*\Z")
LARGEST = 1e15


@dataclass(frozen=True)
class Duration:
    """An amount of training in one unit. Only epochs and minutes may be fractions."""

    amount: float
    unit: str

    @staticmethod
    def parse(text: str, units: Sequence[str] = UNITS) -> Duration:
        """Read "AMOUNT UNIT". ValueError with a sentence, which names `units`, where it cannot be read."""
        match = _TEXT.match(text)
        if match is None:
            raise ValueError(f'{quoted(text)} is not a duration; write it like "200 epochs" ({", ".join(units)})')
        unit = match[2] if match[2].endswith("s") else f"{match[2]}s"
        if unit not in UNITS:
            raise ValueError(f"{quoted(match[2])} is not a unit of a duration. Allowed: {', '.join(units)}")
        if (amount := number(match[1])) is None:
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
        return -(-int(self.amount) // (batch_size if self.unit == "examples" else 1))

    def __str__(self) -> str:
        return f"{int(self.amount) if self.amount.is_integer() else self.amount} {self.unit}"
