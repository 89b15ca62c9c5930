"""Which device a run trains on, and in which precision."""

from __future__ import annotations

import contextlib
import os

import torch
from torch import nn

from lsc_engine.common.errors import UsageError


def pick_device(name: str) -> torch.device:
    """The available device `auto`, `cpu`, `cuda` or `cuda:N`; UsageError otherwise."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f'--device: "{name}" is not a device. Allowed: auto, cpu, cuda, cuda:0, cuda:1, …')
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"--device: {name} was requested, but torch {torch.__version__} finds no CUDA GPU here; use cpu"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device: {name} was requested, but there are {torch.cuda.device_count()} GPUs, from cuda:0")
    return device


# Operations of a batch's forward pass that keep one more CPU thread busy. A second thread gains little on a smaller
# step, and loses a factor of 30 where its core is shared, since each operation waits for both.
FLOPS_PER_THREAD = 10**9
# torch's default, or OMP_NUM_THREADS, or what Slurm gave the task; read before any run changes it.
THREADS = min(torch.get_num_threads(), int(os.environ.get("SLURM_CPUS_PER_TASK") or torch.get_num_threads()))


def cpu_threads(model: nn.Module, channels: int, size: int, batch_size: int, class_layer: int, parts: int = 1) -> int:
    """Threads for training `model`, and a class layer of so many parameters, on the CPU: torch's default, fewer for
    small networks and where the processes of several `parts` share the cores. The operations are counted on one empty
    image in evaluation mode, which changes nothing."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = model.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros((1, channels, size, size)))
    model.train(was_training)
    flops = counter.get_total_flops() + 2 * class_layer
    return max(1, min(THREADS // parts, flops * batch_size // parts // FLOPS_PER_THREAD))


def use_deterministic_kernels(device: torch.device) -> None:
    """Kernels whose sums have one order, for this process; the CPU's have. An operation that has none warns."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def device_name(device: torch.device) -> str:
    """The name of the device in the run folder: "cpu", or the GPU's model and its number on this machine, as in "NVIDIA
    H100 (cuda:3)". The number is the driver's, since a process restricted to one GPU of many counts it as its first."""
    if device.type == "cpu":
        return "cpu"
    number = torch.cuda.current_device() if device.index is None else device.index
    # NVML raises its own classes, made at run time; torch's number is used then.
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        # By its UUID: the driver and torch may count GPUs in different orders.
        number = pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid(device)))
    return f"{torch.cuda.get_device_name(device)} (cuda:{number})"


def gpu_uuid(device: torch.device) -> str | None:
    """The driver's name of a GPU; None for a CPU."""
    if device.type != "cuda":
        return None
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return uuid if uuid.startswith(("GPU", "MIG")) else f"GPU-{uuid}"


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type of `train.precision`, None for plain float32. `auto` is bf16 on GPUs that compute in it, which
    those before Ampere only emulate, and float32 elsewhere."""
    if precision == "auto":
        native = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if native else None
    return torch.bfloat16 if precision == "bf16" else None
