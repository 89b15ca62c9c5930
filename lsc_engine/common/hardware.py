"""What a machine does right now: GPUs through NVML, processors and memory through psutil. Every field may be missing.

NVML is opened once and makes no CUDA context, so looking costs no GPU memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# In the environment of a run: how many of a study train on this host at once, each with its share of processors.
RUNS_HERE = "LSC_RUNS_HERE"

# Bits of nvmlDeviceGetCurrentClocksEventReasons that slow a busy GPU down, by nvidia-smi's names. Under full load a GPU
# is usually at its power cap.
POWER_CAP = "sw_power_cap"
_THROTTLING = {
    0x04: POWER_CAP,
    0x08: "hw_slowdown",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
}


@dataclass(frozen=True)
class Gpu:
    """One GPU: per cent, bytes, watts, °C, MHz; what could not be read is None."""

    index: int
    name: str = ""
    util: float | None = None
    memory: float | None = None
    memory_total: float | None = None
    power: float | None = None
    power_limit: float | None = None
    temperature: float | None = None
    processes: tuple[tuple[int, str], ...] = ()  # pid and user
    clock: float | None = None
    throttled: tuple[str, ...] = ()  # why its clock is held down

    @property
    def busy(self) -> bool:
        """Whether a process holds it, or it works for one that cannot be seen."""
        return bool(self.processes) or (self.util or 0) > 10


@dataclass(frozen=True)
class Hardware:
    """This machine; bytes, watts, per cent."""

    gpus: tuple[Gpu, ...] = ()
    gpu_problem: str = ""
    cpu: float | None = None
    cpus: int = 0
    memory: float | None = None
    memory_total: float | None = None
    disk_free: float | None = None


def memory_total() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_of(nvml: Any, handle: Any) -> Any:
    """NVML's memory of a GPU; `used` without what the driver keeps for itself, which drivers before 510 count in."""
    try:
        return nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)
    except Exception:  # NVML raises its own classes, made at run time
        return nvml.nvmlDeviceGetMemoryInfo(handle)


class Sampler:
    """Reads the machine, of its GPUs all or those of `uuids`; `sample` never raises."""

    def __init__(self, uuids: Sequence[str] | None = None) -> None:
        self._uuids = uuids
        self._nvml: Any = None
        self._problem = ""
        self._handles: list[Any] = []
        self._opened = False
        self._psutil: Any = None

    def _open(self) -> None:
        self._opened = True
        with contextlib.suppress(ImportError):
            import psutil

            self._psutil = psutil
            psutil.cpu_percent()
        try:
            import pynvml

            pynvml.nvmlInit()
            if self._uuids is None:
                self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            else:
                self._handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in self._uuids]
            self._nvml = pynvml
        except ImportError:
            self._problem = "NVML is not installed"
        except Exception as error:  # NVML raises its own classes, made at run time
            self._problem = f"no NVML: {error}"

    def sample(self, folder: Path | None) -> Hardware:
        """The load now; `folder` is whose free disk space is shown."""
        if not self._opened:
            self._open()
        cpu = memory = total = None
        cpus = 0
        if self._psutil is not None:
            with contextlib.suppress(OSError, AttributeError):
                cpu, cpus = self._psutil.cpu_percent(), self._psutil.cpu_count() or 0
                ram = self._psutil.virtual_memory()
                memory, total = float(ram.total - ram.available), float(ram.total)
        disk = None
        if folder is not None:
            with contextlib.suppress(OSError):
                disk = float(shutil.disk_usage(folder).free)
        gpus = tuple(self._gpu(i, handle) for i, handle in enumerate(self._handles))
        return Hardware(gpus, self._problem, cpu, cpus, memory, total, disk)

    def _gpu(self, index: int, handle: Any) -> Gpu:
        nvml = self._nvml

        def ask(question: Callable[[], T]) -> T | None:
            # Each field by itself: MIG, vGPU and missing permissions answer some and refuse others.
            try:
                return question()
            except Exception:  # NVML raises its own classes, made at run time
                return None

        name = ask(lambda: nvml.nvmlDeviceGetName(handle))
        memory = ask(lambda: memory_of(nvml, handle))
        power = ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000)
        limit = ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000)
        found = ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or []
        reasons = ask(lambda: int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)))
        if reasons is None:
            # Drivers before 535 have the older name only.
            reasons = ask(lambda: int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))) or 0
        number = ask(lambda: int(nvml.nvmlDeviceGetIndex(handle)))
        return Gpu(
            index if number is None else number,
            name.decode() if isinstance(name, bytes) else str(name or "GPU"),
            ask(lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
            float(memory.used) if memory is not None else None,
            float(memory.total) if memory is not None else None,
            power,
            limit,
            ask(lambda: float(nvml.nvmlDeviceGetTemperature(handle, 0))),
            tuple((int(p.pid), self._user(int(p.pid))) for p in found),
            ask(lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))),
            tuple(name for bit, name in _THROTTLING.items() if reasons & bit),
        )

    def _user(self, pid: int) -> str:
        if self._psutil is None:
            return ""
        try:
            return str(self._psutil.Process(pid).username())
        except Exception:  # gone, or another container's
            return ""
