"""How busy the machine was while a run trained: what its seconds are worth. Kept in source.json as `load`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Beyond these the machine had more to do than processors: seconds then tell of the others too.
MOST_LOAD, MOST_WAITED = 1.25, 0.1
# A share of less time than this is chance.
_LEAST_NS = 100_000_000


def processors() -> int:
    """The processors of the machine, which the load average counts for."""
    return os.cpu_count() or 1


def _scheduled() -> tuple[int, int] | None:
    """Nanoseconds that this thread has run, and has waited for a processor; None where the system does not count."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ran, waited = Path("/proc/self/schedstat").read_text().split()[:2]
        return int(ran), int(waited)
    return None


def _throttled() -> int | None:
    """How often the processors were slowed down for their heat since the machine started; None where not counted."""
    found = []
    for file in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(file.read_text()))
    return sum(found) if found else None


class LoadMeter:
    """Samples of the load average, and the share of its time that this thread waited for a processor."""

    def __init__(self, before: Mapping[str, Any] | None = None) -> None:
        """`before`: the record of an earlier attempt of the same run; the worse of the two counts."""
        self._before = dict(before) if isinstance(before, Mapping) else {}
        self._loads: list[float] = []
        self._start, self._throttled = _scheduled(), _throttled()
        self.sample()

    def sample(self) -> None:
        """Look at the load average, as cheaply as a clock."""
        with contextlib.suppress(OSError):
            self._loads.append(os.getloadavg()[0])

    def record(self) -> dict[str, Any]:
        """{"processors", "load", "peak", "waited", "throttled"}: mean and largest load average of a minute, the share
        of waiting, and how often processors were slowed down; None for what the system does not tell."""
        self.sample()
        now, hot = _scheduled(), _throttled()
        waited = None
        if self._start is not None and now is not None:
            ran, waiting = now[0] - self._start[0], now[1] - self._start[1]
            waited = round(waiting / (ran + waiting), 4) if ran + waiting > _LEAST_NS else 0.0
        found = {
            "load": round(sum(self._loads) / len(self._loads), 2) if self._loads else None,
            "peak": round(max(self._loads), 2) if self._loads else None,
            "waited": waited,
            "throttled": hot - self._throttled if hot is not None and self._throttled is not None else None,
        }
        for key, value in found.items():
            other = self._before.get(key)
            if isinstance(other, int | float):
                found[key] = other if value is None else max(value, other)
        return {"processors": processors(), **found}


def overloaded(record: object) -> bool:
    """Whether a record tells of more work than processors, or of processors slowed down; False where there is none."""
    if not isinstance(record, Mapping):
        return False

    def number(key: str) -> float:
        value = record.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0

    count = number("processors")
    return (
        (count > 0 and number("load") > MOST_LOAD * count) or number("waited") > MOST_WAITED or number("throttled") > 0
    )
