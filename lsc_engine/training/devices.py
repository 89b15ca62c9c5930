"""Which device a run trains on, and in which precision."""

from __future__ import annotations

import torch

from lsc_engine.errors import UsageError


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a device that is there; UsageError otherwise."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f'--device: "{name}" is not a device. Allowed: auto, cpu, cuda, cuda:0, cuda:1, …')
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device: {name} asked for, but torch {torch.__version__} finds no CUDA GPU here; use cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device: {name} asked for, but there are {torch.cuda.device_count()} GPUs, from cuda:0")
    return device


def device_name(device: torch.device) -> str:
    """What the run folder calls the device: "cpu", or the GPU's model with its index."""
    if device.type == "cpu":
        return "cpu"
    return f"{torch.cuda.get_device_name(device)} ({device})"


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type of `train.precision`, None for plain float32. `auto` is bf16 on CUDA, float32 on the CPU."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else None
    return torch.bfloat16 if precision == "bf16" else None
