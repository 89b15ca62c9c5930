"""How the benchmarks measure: sides alternated in one process, medians, ratios per round, memory by allocations."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lsc_engine.common.errors import LscError

# A timed stretch of one side lasts at least this long, so that the clock's grain and a task switch do not matter.
STRETCH = 0.02


@dataclass(frozen=True)
class Timed:
    """Seconds of one call of each side, per round."""

    seconds: dict[str, list[float]]

    def median(self, side: str) -> float:
        """Seconds of one call, the median over the rounds."""
        return statistics.median(self.seconds[side])

    def ratio(self, side: str, other: str) -> float:
        """How many times as long `side` takes as `other`: the median of the ratios of every round."""
        return statistics.median(a / b for a, b in zip(self.seconds[side], self.seconds[other], strict=True))


def wait() -> None:
    """Wait until the GPU has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternate(
    sides: Mapping[str, Callable[[], Any]], *, rounds: int = 7, stretch: float = STRETCH, most: float = 20.0
) -> Timed:
    """Time the sides in turns: one stretch of each per round, the order reversed every other round.

    `most`: seconds after which a round is the last, once there are three (one, where a single round takes longer).
    """
    repeats = {}
    for name, call in sides.items():
        once = _seconds(call)
        if once < 10 * stretch:
            once = _seconds(call)
        repeats[name] = max(1, min(10_000, round(stretch / max(once, 1e-7))))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    started = time.perf_counter()
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            call, times = sides[name], repeats[name]
            began = time.perf_counter()
            for _ in range(times):
                call()
            wait()
            seconds[name].append((time.perf_counter() - began) / times)
        spent = time.perf_counter() - started
        if spent > most and number + 1 >= (3 if spent < 3 * most else 1):
            break
    return Timed(seconds)


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - began


def peak_bytes(call: Callable[[], Any], device: torch.device | str = "cpu") -> int:
    """The most memory that tensors made inside `call` hold at once, in bytes, beyond what was there before."""
    if torch.device(device).type == "cuda":
        wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        wait()
        return int(torch.cuda.max_memory_allocated() - before)
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        call()
    pending = list(prof.profiler.kineto_results.experimental_event_tree())
    changes = []
    while pending:
        event = pending.pop()
        pending.extend(event.children)
        if event.name == "[memory]":
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
    held = peak = 0
    for _, size in sorted(changes):
        held += size
        peak = max(peak, held)
    return peak


def same(what: str, left: Tensor, right: Tensor, *, tolerance: float = 0.0) -> None:
    """LscError unless both sides of a comparison gave the same, within `tolerance`."""
    if left.shape != right.shape:
        raise LscError(f"{what}: shapes {list(left.shape)} and {list(right.shape)} differ")
    if tolerance == 0.0 and not left.is_floating_point():
        worst = float((left != right).sum())
    else:
        worst = float((left.double() - right.double()).abs().max()) if left.numel() else 0.0
    if not worst <= tolerance:
        raise LscError(f"{what}: the sides differ by {worst:.3g}, {tolerance:.3g} is allowed")


def demo_images() -> tuple[str, ...]:
    """Settings of generated images for the preset demo where scikit-learn, which has its images, is not installed."""
    return () if importlib.util.find_spec("sklearn") else ('data.dataset="spectrum"', "data.image_size=8")


def megabytes(count: float | None) -> str:
    """Bytes as MB, GB or TB, `-` for none."""
    if count is None:
        return "-"
    if count >= 1e12:
        return f"{count / 1e12:.3g} TB"
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def milliseconds(seconds: float | None) -> str:
    """Seconds as ms or s, `-` for none."""
    if seconds is None:
        return "-"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def free_bytes(device: torch.device | str = "cpu") -> int:
    """Memory that a side may take here without driving others out."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
