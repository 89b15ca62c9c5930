"""This machine's load: GPUs through NVML, processors and memory through psutil. Every field may be missing.

NVML is opened once and queried only for what is shown; it makes no CUDA context, so looking costs no GPU memory.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lsc_tui.data.run_view import Gpu, Hardware

T = TypeVar("T")


class Sampler:
    """Reads the machine; `sample` never raises."""

    def __init__(self) -> None:
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
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
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
        memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        power = ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000)
        limit = ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000)
        found = ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or []
        return Gpu(
            index,
            name.decode() if isinstance(name, bytes) else str(name or "GPU"),
            ask(lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
            float(memory.used) if memory is not None else None,
            float(memory.total) if memory is not None else None,
            power,
            limit,
            ask(lambda: float(nvml.nvmlDeviceGetTemperature(handle, 0))),
            tuple((int(p.pid), self._user(int(p.pid))) for p in found),
        )

    def _user(self, pid: int) -> str:
        if self._psutil is None:
            return ""
        try:
            return str(self._psutil.Process(pid).username())
        except Exception:  # gone, or another container's
            return ""
