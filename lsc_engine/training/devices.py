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


# For products whose sums have one order; cuBLAS reads it once in a process.
CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Operations of a batch's forward pass that keep one more CPU thread busy. A second thread gains little on a smaller
# step, and loses a factor of 30 where its core is shared, since each operation waits for both.
FLOPS_PER_THREAD = 10**9
# torch's default, or OMP_NUM_THREADS, or what Slurm gave the task; read before any run changes it.
THREADS = min(torch.get_num_threads(), int(os.environ.get("SLURM_CPUS_PER_TASK") or torch.get_num_threads()))


def cpu_threads(operations: int, parts: int = 1) -> int:
    """Threads for training on the CPU with this many operations in a step's forward pass: torch's default, fewer for
    small networks and where the processes of several `parts` share the cores."""
    return max(1, min(THREADS // parts, operations // parts // FLOPS_PER_THREAD))


def operations(model: nn.Module, channels: int, size: int, class_layer: int, device: torch.device) -> int:
    """Operations of an image's forward pass, two per multiply-add, those of `class_layer` parameters included: counted
    on one empty image in evaluation mode, which changes nothing."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = model.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros((1, channels, size, size), device=device))
    model.train(was_training)
    return int(counter.get_total_flops()) + 2 * class_layer


def set_numerics(device: torch.device, dtype: torch.dtype | None, deterministic: bool) -> None:
    """How this process computes on a GPU from here on; the CPU needs no setting.

    float32 is float32, without TF32 in convolutions and products. With an autocast `dtype` cuDNN takes the fastest
    convolutions, found by trial, which may differ from run to run; not if `deterministic`: then sums have one order,
    and an operation that has no such kernel warns.
    """
    if device.type != "cuda":
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = dtype is not None and not deterministic
    if deterministic:
        os.environ.setdefault(*CUBLAS_WORKSPACE)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)


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
