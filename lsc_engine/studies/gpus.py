"""The GPUs of `--gpus`: named by index or UUID, or `auto` for all idle ones. Those that CUDA_VISIBLE_DEVICES leaves
out, as Slurm sets it, do not count."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from lsc_engine.common.errors import UsageError
from lsc_engine.common.hardware import RUNS_HERE, memory_of

# A GPU with less than this in use and no process on it is idle.
IDLE_BYTES = 1 << 30


@dataclass(frozen=True)
class Slot:
    """A place where one run at a time trains: what --device says there, and the environment that makes it so."""

    label: str
    device: str
    environment: dict[str, str] = field(default_factory=dict)


class _Gpu(NamedTuple):
    """A GPU, or an instance of a divided one (MIG), which is number 3:0, 3:1, … `names`: what CUDA_VISIBLE_DEVICES may
    call it; a divided GPU is its first instance there."""

    number: str
    uuid: str
    idle: bool
    names: tuple[str, ...]


def gpu_slots(wanted: str, each: int = 1) -> list[Slot]:
    """One slot per `each` GPUs of `auto` or a list such as "0,1,3", pinned by UUID so that indices cannot drift."""
    gpus = _list_gpus()
    if wanted == "auto":
        chosen = [gpu for gpu in gpus if gpu.idle]
        if not chosen:
            raise UsageError(f"--gpus auto: none of the {len(gpus)} GPUs is free; name them, as in --gpus 0,1")
    else:
        by_name = {name: gpu for gpu in gpus for name in gpu.names}
        names = [part.strip() for part in wanted.split(",")]
        if missing := [name for name in names if name not in by_name]:
            there = ", ".join(gpu.number for gpu in gpus) or "none"
            raise UsageError(f"--gpus: no GPU {', '.join(missing)} here. There are: {there}")
        # A GPU named twice is one place all the same.
        chosen = list(dict.fromkeys(by_name[name] for name in names))
    if len(chosen) < each:
        raise UsageError(f"--gpus-per-run: {each} GPUs are needed, and --gpus {wanted} names {len(chosen)}")
    slots = []
    for group in (chosen[i : i + each] for i in range(0, len(chosen) // each * each, each)):
        visible = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in group)}
        slots.append(Slot(f"GPU {','.join(gpu.number for gpu in group)}", "cuda", visible))
    return slots


def has_gpus() -> bool:
    """Whether an NVIDIA driver answers and has a GPU."""
    try:
        return bool(_list_gpus())
    except UsageError:
        return False


def _list_gpus() -> list[_Gpu]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:
        raise UsageError(f"--gpus: no NVIDIA driver answers here ({error}); leave --gpus out to use the CPU") from error
    gpus = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        whole = (str(index), pynvml.nvmlDeviceGetUUID(handle))
        if (instances := _instances(pynvml, handle)) is None:
            gpus.append(_Gpu(*whole, _idle(pynvml, handle), whole))
        for place, instance in enumerate(instances or ()):
            own = (f"{index}:{place}", pynvml.nvmlDeviceGetUUID(instance))
            gpus.append(_Gpu(*own, _idle(pynvml, instance), own if place else (*own, *whole)))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus
    chosen = []
    for name in map(str.strip, visible.split(",")):
        by_uuid = name.startswith(("GPU-", "MIG-"))
        hits = [gpu for gpu in gpus if name in gpu.names or (by_uuid and any(n.startswith(name) for n in gpu.names))]
        if len(hits) != 1:
            # CUDA drops what it does not know, and all that follows.
            break
        chosen += hits
    return chosen


def _idle(nvml: Any, handle: Any) -> bool:
    try:
        return memory_of(nvml, handle).used < IDLE_BYTES and not nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return False


def _instances(nvml: Any, handle: Any) -> list[Any] | None:
    """The instances of a GPU that MIG divides; None for a whole one. Nothing runs on a divided one without any."""
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] == 0:
            return None
    except (nvml.NVMLError, AttributeError):
        return None
    found = []
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place))
        except nvml.NVMLError:
            # Not made.
            continue
    return found


def share_host(slots: Sequence[Slot], runs: int, processes: int) -> list[Slot]:
    """Slots whose runs, `runs` in all each of several processes, divide the processors of this host: threads, data
    workers and processes that compile. What the user has set stays."""
    at_once = min(len(slots), runs)
    if at_once * processes == 1:
        return list(slots)
    cores = str(max(1, len(os.sched_getaffinity(0)) // (at_once * processes)))
    shares = {name: cores for name in ("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS") if name not in os.environ}
    return [replace(slot, environment={**slot.environment, RUNS_HERE: str(at_once), **shares}) for slot in slots]
