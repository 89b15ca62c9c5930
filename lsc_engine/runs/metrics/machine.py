"""machine.jsonl: what the host of a run and the run's own GPUs did, one JSON object per line, about every 10 s. Line:
{"time", "step", "cpu", "load", "memory", "disk", "data_wait", "gpu": [{"index", "use", "memory", "power",
"temperature", "clock", "throttled": [reasons]}]}. `time` is Unix seconds; `cpu`, `data_wait` and `use` are shares, 0 to
1, `load` the load average of a minute by processor; `memory` is in use and `disk` free, in bytes; watts, °C, MHz; null
for what was not measured. As metrics the values are called machine/…, over the run's GPUs and, of several, of each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from lsc_engine.common.hardware import POWER_CAP, Gpu, Hardware
from lsc_engine.common.safe_io import UnreadableError, number_of, read_tail
from lsc_engine.runs.metrics.parsing import MAX_LINE, Floats, Ints
from lsc_engine.runs.metrics.reader import MetricsTable, MetricsTail

PREFIX = "machine/"
LOAD, GPU_THROTTLED = "machine/load", "machine/gpu_throttled"
# Per value of a GPU: its name in the file, in `Gpu` and as a metric; what `Gpu` has of it as one of the file, and as
# one of the metric; its digits in the file; and how the values of the GPUs of a run become one.
_GPU_VALUES: tuple[tuple[str, str, str, float, float, int | None, Callable[[list[float]], float]], ...] = (
    ("use", "util", "use", 0.01, 0.01, 4, fmean),
    ("memory", "memory", "memory_gb", 1, 1e-9, None, sum),
    ("power", "power", "power_w", 1, 1, 1, sum),
    ("temperature", "temperature", "temperature_c", 1, 1, 1, max),
    ("clock", "clock", "clock_mhz", 1, 1, 1, min),
)
_MOST_GPUS, _MOST_REASONS = 64, 16


@dataclass(frozen=True)
class Sample:
    """One line. `hardware` is in per cent, without totals and names."""

    time: float
    step: int
    load: float | None
    data_wait: float | None
    hardware: Hardware

    def line(self) -> bytes:
        hardware = self.hardware
        gpus = [
            {
                "index": gpu.index,
                **{key: _times(getattr(gpu, name), by, digits) for key, name, _, by, _, digits, _ in _GPU_VALUES},
                "throttled": list(gpu.throttled),
            }
            for gpu in hardware.gpus
        ]
        row = {"time": round(self.time, 3), "step": self.step, "cpu": _times(hardware.cpu, 0.01)}
        row |= {"load": _times(self.load), "memory": _times(hardware.memory, digits=None)}
        row |= {"disk": _times(hardware.disk_free, digits=None), "data_wait": _times(self.data_wait)}
        return json.dumps({**row, "gpu": gpus}).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Sample | None:
        """The sample of a line; None for one that is torn or no sample."""
        try:
            row = json.loads(line) if len(line) <= MAX_LINE else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(row, dict) or type(step := row.get("step")) is not int or not 0 <= step < 1 << 53:
            return None
        if (time := _number(row.get("time"))) is None:
            return None
        listed = row.get("gpu")
        gpus = [_gpu(gpu) for gpu in listed[:_MOST_GPUS] if isinstance(gpu, dict)] if isinstance(listed, list) else []
        cpu, load, memory, disk, wait = (
            _number(row.get(key)) for key in ("cpu", "load", "memory", "disk", "data_wait")
        )
        return cls(
            time, step, load, wait, Hardware(tuple(gpus), "", _times(cpu, 100, 12), memory=memory, disk_free=disk)
        )

    def values(self) -> dict[str, float]:
        """The metrics of the sample, without what was not measured."""
        hardware = self.hardware
        found = {"cpu": _times(hardware.cpu, 0.01), "load": self.load, "data_wait": self.data_wait}
        found |= {"memory_gb": _times(hardware.memory, 1e-9, 9), "disk_free_gb": _times(hardware.disk_free, 1e-9, 9)}
        each = {
            name: [_times(getattr(g, key), by, 9) for g in hardware.gpus] for _, key, name, _, by, *_ in _GPU_VALUES
        }
        each["throttled"] = [float(any(reason != POWER_CAP for reason in gpu.throttled)) for gpu in hardware.gpus]
        over = {name: function for _, _, name, *_, function in _GPU_VALUES} | {"throttled": max}
        for name, values in each.items():
            known = [value for value in values if value is not None]
            found[f"gpu_{name}"] = over[name](known) if known else None
            if len(values) > 1:
                found |= {f"gpu_{name}/{gpu.index}": one for gpu, one in zip(hardware.gpus, values, strict=True)}
        return {f"{PREFIX}{name}": value for name, value in found.items() if value is not None}


def _gpu(row: Mapping[str, Any]) -> Gpu:
    index, reasons = row.get("index"), row.get("throttled")
    words = tuple(str(word)[:40] for word in reasons[:_MOST_REASONS]) if isinstance(reasons, list) else ()
    values: dict[str, Any] = {name: _times(_number(row.get(key)), 1 / by, 12) for key, name, _, by, *_ in _GPU_VALUES}
    return Gpu(index if type(index) is int and 0 <= index < 10_000 else 0, throttled=words, **values)


def _number(value: object) -> float | None:
    """None also for what no machine has, and no sum can hold."""
    number = number_of(value)
    return number if number is not None and abs(number) < 1e18 else None


def _times(value: float | None, factor: float = 1, digits: int | None = 4) -> float | None:
    return None if value is None else round(value * factor, digits)


class MachineTable(MetricsTable):
    """The samples read so far: of each step the last, and where a run was resumed those of the steps done again."""

    def __init__(self) -> None:
        super().__init__()
        self._samples: list[tuple[int, dict[str, float]]] = []
        self._names: dict[str, None] = {}
        self.newest_sample: Sample | None = None

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, data: bytes) -> None:
        for line in data.splitlines():
            self.lines += 1
            if (sample := Sample.parse(line)) is None:
                self.garbage += bool(line.strip())
                continue
            while self._samples and self._samples[-1][0] >= sample.step:
                del self._samples[-1]
            self._samples.append((sample.step, sample.values()))
            self._names |= dict.fromkeys(self._samples[-1][1])
            self.newest_sample = sample

    @property
    def names(self) -> list[str]:
        return list(self._names)

    def series(self, name: str) -> tuple[Ints, Floats]:
        found = [(step, values[name]) for step, values in self._samples if name in values]
        steps, numbers = zip(*found, strict=True) if found else ((), ())
        return np.array(steps, np.int64), np.array(numbers, np.float64)


class MachineTail(MetricsTail):
    """Follows machine.jsonl."""

    table: MachineTable
    table_type = MachineTable


def newest(path: Path) -> Sample | None:
    """The last sample of a file, without reading all of it; None if it has none."""
    with contextlib.suppress(UnreadableError):
        lines = reversed(read_tail(path, 64 << 10).split(b"\n"))
        return next((sample for line in lines if (sample := Sample.parse(line)) is not None), None)
    return None


def beside(step: Ints, table: MetricsTable) -> tuple[Floats, Floats]:
    """Epoch and training seconds at `step` [N], also behind the lines of `table`; NaN while there are none."""
    nothing = np.full(len(step), np.nan)
    for name in table.names:
        known, (_, *columns) = table.columns(name, "epoch", "time")
        good = np.isfinite(columns).all(axis=0) & (known > 0)
        if good.any():
            x = np.concatenate([[0], known[good]])
            epoch, time = (np.concatenate([[0.0], column[good]]) for column in columns)
            beyond = np.maximum(step - x[-1], 0) / x[-1]
            # Behind the end as steep as on the whole; damaged files hold numbers of any size.
            with np.errstate(over="ignore", invalid="ignore"):
                return np.interp(step, x, epoch) + beyond * epoch[-1], np.interp(step, x, time) + beyond * time[-1]
    return nothing, nothing
