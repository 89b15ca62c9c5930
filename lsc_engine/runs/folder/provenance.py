"""What source.json records about a run: command, code, versions, host, and how busy the machine was. Imports none of
the packages whose versions it records."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import lsc_engine
from lsc_engine.common.safe_io import number_of
from lsc_engine.runs.folder import process

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "safetensors", "pydantic")
_GIT_SECONDS = 5.0
# Beyond these the machine had more work than processors, and measured seconds depend on the other work too.
MAX_LOAD, MAX_WAITED = 1.25, 0.1
# A share of less time than this is chance.
_LEAST_NS = 100_000_000


def describe_source(argv: Sequence[str]) -> dict[str, Any]:
    """{"command", "code", "versions", "host", "platform"} of this process; `argv` as started."""
    versions: dict[str, str | None] = {"python": platform.python_version(), "lsc": lsc_engine.__version__}
    for name in PACKAGES:
        versions[name] = None
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "command": shlex.join(["lsc-engine", *argv[1:]]),
        "code": code_version(Path(lsc_engine.__file__).parent),
        "versions": versions,
        "host": process.host_name(),
        "platform": platform.platform(),
    }


def code_version(folder: Path) -> dict[str, Any]:
    """{"commit", "dirty"} of the git checkout that holds `folder`; both None for an installed package. Dirty: the
    content of `folder` differs from the commit; the rest of the checkout does not count."""
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return {"commit": commit, "dirty": None if commit is None or changed is None else bool(changed)}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _scheduled() -> tuple[int, int] | None:
    """Nanoseconds that this thread has run, and has waited for a processor; None if the system does not count them."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ran, waited = Path("/proc/self/schedstat").read_text().split()[:2]
        return int(ran), int(waited)
    return None


def _throttled() -> int | None:
    """How often the processors were slowed down for their heat since the machine started; None if not counted."""
    found = []
    for file in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(file.read_text()))
    return sum(found) if found else None


class LoadMeter:
    """Samples of the load average, and the share of its time that this thread waited for a processor. Kept in
    source.json as `load`."""

    def __init__(self, before: Mapping[str, Any] | None = None) -> None:
        """`before`: the record of an earlier attempt of the same run; the worse of the two counts."""
        self._before = dict(before) if isinstance(before, Mapping) else {}
        self._loads: list[float] = []
        self._start, self._throttled = _scheduled(), _throttled()
        self.sample()

    def sample(self) -> None:
        """Read the load average, which is as cheap as reading a clock."""
        with contextlib.suppress(OSError):
            self._loads.append(os.getloadavg()[0])

    def record(self) -> dict[str, Any]:
        """{"processors", "load", "peak", "waited", "throttled"}: mean and largest load average of a minute, the share
        of waiting, and how often processors were slowed down; None for what the system does not measure."""
        self.sample()
        now, throttled = _scheduled(), _throttled()
        waited = None
        if self._start is not None and now is not None:
            ran, waiting = now[0] - self._start[0], now[1] - self._start[1]
            waited = round(waiting / (ran + waiting), 4) if ran + waiting > _LEAST_NS else 0.0
        found = {
            "load": round(sum(self._loads) / len(self._loads), 2) if self._loads else None,
            "peak": round(max(self._loads), 2) if self._loads else None,
            "waited": waited,
            "throttled": None if throttled is None or self._throttled is None else throttled - self._throttled,
        }
        for key, value in found.items():
            other = self._before.get(key)
            if isinstance(other, int | float):
                found[key] = other if value is None else max(value, other)
        return {"processors": os.cpu_count() or 1, **found}


def overloaded(record: object) -> bool:
    """Whether a `load` record shows more work than processors, or processors that were slowed down."""
    if not isinstance(record, Mapping):
        return False
    count, load, waited, throttled = (
        number_of(record.get(key)) or 0.0 for key in ("processors", "load", "waited", "throttled")
    )
    return (count > 0 and load > MAX_LOAD * count) or waited > MAX_WAITED or throttled > 0
