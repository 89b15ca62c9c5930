"""The GPUs of `--gpus`: named by index or UUID, or `auto` for all idle ones. Those that CUDA_VISIBLE_DEVICES leaves
out, as Slurm sets it, do not count."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import NamedTuple

from lsc_engine.common.errors import UsageError

# A GPU with less than this in use and no process on it is idle; drivers keep some memory for themselves.
IDLE_BYTES = 1 << 30


@dataclass(frozen=True)
class Slot:
    """A place where one run at a time trains: what --device says there, and the environment that makes it so."""

    label: str
    device: str
    environment: dict[str, str] = field(default_factory=dict)


class _Gpu(NamedTuple):
    number: int
    uuid: str
    idle: bool


def gpu_slots(wanted: str, each: int = 1) -> list[Slot]:
    """One slot per `each` GPUs of `auto` or a list such as "0,1,3", pinned by UUID so that indices cannot drift."""
    gpus = _list_gpus()
    if wanted == "auto":
        chosen = [gpu for gpu in gpus if gpu.idle]
        if not chosen:
            raise UsageError(f"--gpus auto: none of the {len(gpus)} GPUs is free; name them, as in --gpus 0,1")
    else:
        by_name = {str(gpu.number): gpu for gpu in gpus} | {gpu.uuid: gpu for gpu in gpus}
        names = [part.strip() for part in wanted.split(",")]
        if missing := [name for name in names if name not in by_name]:
            there = ", ".join(str(gpu.number) for gpu in gpus) or "none"
            raise UsageError(f"--gpus: no GPU {', '.join(missing)} here. There are: {there}")
        # A GPU named twice is one place all the same.
        chosen = list(dict.fromkeys(by_name[name] for name in names))
    if len(chosen) < each:
        raise UsageError(f"--gpus-per-run: {each} GPUs are needed, and --gpus {wanted} names {len(chosen)}")
    slots = []
    for group in (chosen[i : i + each] for i in range(0, len(chosen) // each * each, each)):
        visible = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in group)}
        slots.append(Slot(f"GPU {','.join(str(gpu.number) for gpu in group)}", "cuda", visible))
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
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        try:
            used = pynvml.nvmlDeviceGetMemoryInfo(handle).used
            idle = used < IDLE_BYTES and not pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except pynvml.NVMLError:
            idle = False
        gpus.append(_Gpu(index, uuid if isinstance(uuid, str) else uuid.decode(), idle))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return [gpu for gpu in gpus if any(name == str(gpu.number) or gpu.uuid.startswith(name) for name in names)]
