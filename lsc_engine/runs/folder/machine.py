"""The thread of a run that samples its machine into machine.jsonl, and the record `load` in source.json: how busy the
machine was, by which seconds are compared or not."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lsc_engine.common.hardware import Sampler
from lsc_engine.common.safe_io import number_of
from lsc_engine.runs.folder.layout import MACHINE
from lsc_engine.runs.folder.lock import LostRunError
from lsc_engine.runs.folder.writer import MetricsLog, RunWriter
from lsc_engine.runs.metrics.machine import GPU_THROTTLED, LOAD, Sample

EVERY = 10.0
# The first sample comes sooner: a run of seconds has one as well.
_FIRST = 1.0
# Samples that wait for room on a full disk: an hour.
_MAX_PENDING = 360
# A driver that does not answer any more delays the end of a run by this.
_PATIENCE = 5.0
# Beyond these the machine had more work than processors, and measured seconds depend on the other work too.
MAX_LOAD, MAX_WAITED = 1.25, 0.1
# The share of samples in which a GPU was slowed down for its heat or its supply that counts.
MAX_THROTTLED = 0.05
BUSY, THROTTLED = "busy machine", "throttled"
# A share of less time than this is chance.
_LEAST_NS = 100_000_000


def slowed_by(record: object) -> str:
    """What slowed a run with this `load` record: BUSY (more work than processors), THROTTLED (heat or power), or ""."""
    if not isinstance(record, Mapping):
        return ""
    keys = ("processors", "load", "waited", "throttled", "gpu_throttled")
    count, load, waited, throttled, gpu = (number_of(record.get(key)) or 0.0 for key in keys)
    if (count > 0 and load > MAX_LOAD * count) or waited > MAX_WAITED:
        return BUSY
    return THROTTLED if throttled > 0 or gpu > MAX_THROTTLED else ""


def load_record(load: Sequence[float], gpu_throttled: Sequence[float], processors: int = 1) -> dict[str, Any]:
    """{"processors", "load", "peak", "gpu_throttled"} from samples: mean and largest load average of a minute, given by
    processor, and the share of samples in which a GPU was throttled; None for what was not sampled."""
    return {
        "processors": processors,
        "load": round(fmean(load) * processors, 2) if len(load) else None,
        "peak": round(max(load) * processors, 2) if len(load) else None,
        "gpu_throttled": round(fmean(gpu_throttled), 4) if len(gpu_throttled) else None,
    }


def _scheduled(thread: int) -> tuple[int, int] | None:
    """Nanoseconds that a thread has run, and has waited for a processor; None if they are not counted."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        ran, waited = Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[:2]
        return int(ran), int(waited)
    return None


def _throttled() -> int | None:
    """How often the processors were slowed down for their heat since the machine started; None if not counted."""
    found = []
    for file in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(file.read_text()))
    return sum(found) if found else None


class MachineRecorder:
    """Samples the machine every `EVERY` seconds until `stop`, for the thread that makes it. The training gives it what
    it has in `data_waited`: seconds waited for images so far, None for images at hand."""

    def __init__(self, writer: RunWriter, gpus: Sequence[str] = (), before: object = None) -> None:
        """`gpus`: UUIDs of the run's GPUs on this host; `before`: the `load` of earlier attempts, the worse counts."""
        self.data_waited: Callable[[], float | None] = lambda: None
        self.shared = False
        """Whether a process of another run was seen on one of the GPUs."""
        self._writer, self._path = writer, writer.folder / MACHINE
        self._log = MetricsLog(self._path, most_pending=_MAX_PENDING)
        self._sampler = Sampler(gpus)
        self._processors = os.cpu_count() or 1
        self._before = dict(before) if isinstance(before, Mapping) else {}
        # Its load averages, on as many processors as there are here.
        share = self._processors / (number_of(self._before.get("processors")) or self._processors)
        self._before |= {
            key: round(value * share, 2) for key in ("load", "peak") if (value := number_of(self._before.get(key)))
        }
        self._samples: dict[str, list[float]] = {LOAD: [], GPU_THROTTLED: []}
        self._own = threading.get_native_id()
        self._start, self._throttled = _scheduled(self._own), _throttled()
        self._waited: tuple[float, float | None] = (time.monotonic(), None)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_ended, name="machine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(_PATIENCE)

    def _sample_until_ended(self) -> None:
        # The run of another process is not written into.
        with contextlib.suppress(LostRunError):
            # Opens the driver and begins the time that the first share of the processors is of.
            self._sampler.sample(None)
            ended, rest = False, _FIRST
            while not ended:
                ended, rest = self._ended.wait(rest), EVERY
                self._sample()
        self._log.close()

    def _sample(self) -> None:
        hardware = self._sampler.sample(self._path.parent)
        load = None
        with contextlib.suppress(OSError):
            load = os.getloadavg()[0] / self._processors
        now, waited = time.monotonic(), self.data_waited()
        then, before = self._waited
        self._waited = now, waited
        wait = None if waited is None or before is None else min(1.0, max(0.0, waited - before) / (now - then))
        sample = Sample(time.time(), self._writer.step, load, wait, hardware)
        for name, values in self._samples.items():
            values += [value for key, value in sample.values().items() if key == name]
        # Counted, not compared by id: in a container the own process may have another one.
        self.shared = self.shared or any(len(gpu.processes) > 1 for gpu in hardware.gpus)
        self._writer.check()
        self._log.append(sample.line())

    def record(self) -> dict[str, Any]:
        """What `load_record` has, the share of time that the thread waited, and how often it was throttled."""
        now, throttled = _scheduled(self._own), _throttled()
        found = load_record(self._samples[LOAD], self._samples[GPU_THROTTLED], self._processors)
        found["waited"] = None
        if self._start is not None and now is not None:
            ran, waiting = now[0] - self._start[0], now[1] - self._start[1]
            found["waited"] = round(waiting / (ran + waiting), 4) if ran + waiting > _LEAST_NS else 0.0
        found["throttled"] = None if throttled is None or self._throttled is None else throttled - self._throttled
        for key, value in found.items():
            other = self._before.get(key)
            if key != "processors" and isinstance(other, int | float):
                found[key] = other if value is None else max(value, other)
        return found
