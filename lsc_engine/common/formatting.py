"""Values as text for people: counts, bytes, durations, shares, anything quoted in a sentence; and texts as numbers."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

from lsc_engine.common.errors import UsageError

NOTHING = "-"
# At more classes some n would not fit 64 bits.
MOST_COUNTED = 10**36
_NUMBER = re.compile(r"[+-]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?")
# Thousands apart, by a plain, a fixed or a narrow space.
_GROUPED = re.compile("[+-]?[0-9]{1,3}(?:[ \u00a0\u202f][0-9]{3})+")
_UNITS = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12}
_COUNT = r"\+?((?:[0-9]{1,3}(?:[ ,][0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]+)?(?:[eE]\+?[0-9]{1,2})?)\s*([kKMGT]?)"


def natural(text: str) -> tuple[str | int, ...]:
    """A key by which names sort as people count: lr-2 before lr-10."""
    return tuple(int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", text)))


def grouped(number: float | None) -> str:
    """A whole number with a space between thousands, `147 840`; "-" for None and for what is not finite."""
    if number is None or not math.isfinite(number):
        return NOTHING
    return f"{number:,.0f}".replace(",", " ") if isinstance(number, float) else f"{number:,}".replace(",", " ")


def counted(number: int, one: str, many: str = "") -> str:
    """`1 run`, `3 runs`, `1 200 images`."""
    return f"{grouped(number)} {one if number == 1 else many or f'{one}s'}"


def size(number: float | None) -> str:
    """A number of bytes in powers of a thousand, `1.23 MB`; "-" for None and for what is not finite."""
    if number is None or not math.isfinite(number):
        return NOTHING
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} EB"


def significant(number: float | None, digits: int = 4) -> str:
    """A number with a few significant digits, `0.0123`; "-" for None and for what is not finite."""
    return NOTHING if number is None or not math.isfinite(number) else f"{number:.{digits}g}"


def loss_text(loss: float | None, kind: str) -> str:
    """A loss and the letter of its kind, `0.0123c`; "-" for None and for what is not finite."""
    return NOTHING if loss is None or not math.isfinite(loss) else f"{significant(loss)}{kind}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in per cent without the sign, `12.5`; "-" for None and for what is not finite."""
    return NOTHING if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f}"


def duration(seconds: float | None, digits: int = 1) -> str:
    """A time, `41 s`, `14.2 min`, `9.2 h`, `3.1 d`; "-" for None and for what is not finite."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{digits if unit > 1 or seconds < 10 else 0}f} {name}"
    return f"{seconds / 86_400:.{digits}f} d"


def clock(seconds: float | None) -> str:
    """A time left or passed: `16:49` below an hour, then `9h12`, then `4d03`; "-" where it is not known."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return NOTHING
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 2 * 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}"
    return f"{min(whole // 86400, 9999)}d{whole % 86400 // 3600:02d}"


def quoted(value: object) -> str:
    """`value` as a preset would show it, on one line, at most 60 characters, without control characters."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = str(value)
    except ValueError:  # integers beyond the interpreter's digit limit
        text = "a very long number"
    text = "".join(c if c.isprintable() else "?" for c in text)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f'"{text}"' if isinstance(value, str) else text


def number(text: str) -> int | float | None:
    """The number that a text is, infinite where it is too large for one; None for anything else."""
    text = text.strip().replace("−", "-")
    if _GROUPED.fullmatch(text):
        text = re.sub(r"\s", "", text)
    if not _NUMBER.fullmatch(text):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def parse_count(text: str, what: str = "classes") -> int:
    """A whole number of 1 or more: 300000, 300_000, 300 000, 300k, 1.28M. Raises UsageError.

    >>> parse_count("1.28M")
    1280000
    """
    match = re.fullmatch(_COUNT, text.strip())
    try:
        value = Decimal(re.sub("[_ ,]", "", match[1])).scaleb(_UNITS[match[2]]) if match else None
    except InvalidOperation:
        value = None
    if value is None:
        raise UsageError(f'{what}: "{text}" is not a number (300000, 300_000, 300k and 1.28M are)')
    if value != value.to_integral_value():
        raise UsageError(f"{what}: {text} is not a whole number")
    if value < 1:
        raise UsageError(f"{what}: {text} is too few, 1 or more")
    if value > MOST_COUNTED:
        raise UsageError(f"{what}: {text} is too many, 10^36 at most")
    return int(value)
