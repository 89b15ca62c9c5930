"""Sizes as the tables of benchmarks print them, such as "12.8 MB" or "0.5 ms"."""

from __future__ import annotations

import math
import re

MEMORY, TIME = "memory in bytes", "time in seconds"
# Factor and kind by unit.
UNITS = {
    "B": (1.0, MEMORY), "bytes": (1.0, MEMORY), "kB": (1e3, MEMORY), "MB": (1e6, MEMORY), "GB": (1e9, MEMORY),
    "TB": (1e12, MEMORY), "MiB": (2.0**20, MEMORY), "GiB": (2.0**30, MEMORY), "us": (1e-6, TIME), "µs": (1e-6, TIME),
    "ms": (1e-3, TIME), "s": (1.0, TIME),
}  # fmt: skip
_QUANTITY = re.compile(r"[~≈]?\s*([0-9][0-9., ]*(?:e[+-]?[0-9]+)?)\s*([A-Za-zµ]+)?")


def quantity(value: object) -> tuple[float, str] | None:
    """The number and the unit ("" for none) of a cell; None if it is no quantity."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if not isinstance(value, str):
        return (float(value), "") if math.isfinite(value) else None
    found = _QUANTITY.fullmatch(value.strip())
    if found is None:
        return None
    try:
        return float(found[1].replace(" ", "").replace(",", "")), found[2] or ""
    except ValueError:
        return None


def plain(value: object) -> float | None:
    """A cell as a number, in bytes or seconds if it has a unit; None if it is no quantity."""
    found = quantity(value)
    return None if found is None else found[0] * UNITS.get(found[1], (1.0, ""))[0]
