"""Logging: what metrics, status, heartbeats, log lines and looking for requests cost a small training.

A preset of the demo is trained as `lsc-engine run` does it; every call of the run folder's writer is timed.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lsc_engine.bench import Check, Result, Table
from lsc_engine.common.errors import LscError
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import plan_study

CALLS = ("metrics", "status", "heartbeat", "message", "requests", "record", "trouble", "sync", "finish")


def run(*, quick: bool = False, preset: str = "demo", variant: str = "V21-384", epochs: int = 30,
        device: str = "cpu") -> Result:  # fmt: skip
    """`preset` and `variant`: what is trained, for `epochs` epochs."""
    if quick:
        epochs = 1
    timer = _Timer()
    with tempfile.TemporaryDirectory() as scratch:
        seconds, steps = _train(Path(scratch), preset, variant, epochs, timer, torch.device(device))
    share = sum(timer.seconds.values()) / seconds
    rows = [
        {"call": name, "times": timer.times[name], "ms in all": 1000 * timer.seconds[name],
         "microseconds a step": 1e6 * timer.seconds[name] / steps}
        for name in CALLS if timer.times[name]
    ]  # fmt: skip
    checks = [
        Check("run folder's share of the wall time", f"{100 * share:.2f} %", "at most 0.5 %",
              None if quick else share <= 0.005)
    ]  # fmt: skip
    notes = [f"{preset}/{variant}, {epochs} epochs, {steps} steps, {seconds:.1f} s from the first step to the last."]
    return Result("logging", checks, [Table("Calls of the writer", rows)], notes)


class _Timer:
    """Times calls of the writer; a call within another counts with the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.times: dict[str, int] = defaultdict(int)
        self._inside = False

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return call(*args, **kwargs)
            self._inside = True
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - began
                self.times[name] += 1
                self._inside = False

        return timed


def _train(
    root: Path, preset: str, variant: str, epochs: int, timer: _Timer, device: torch.device
) -> tuple[float, int]:
    """Seconds of the training loop, evaluation and saving included, and its steps."""
    from lsc_engine.config.derived import derive
    from lsc_engine.training.context import RunContext
    from lsc_engine.training.signals import Signals
    from lsc_engine.training.trainer import Trainer

    sets = (f'train.duration="{epochs} epochs"',)
    (plan,) = plan_study(preset, name="logging", variants=(variant,), seeds=(0,), sets=sets).runs
    folder = create_run(root / plan.id, plan.config, {"command": ["lsc-engine", "bench", "logging"]})
    derived = derive(plan.config)
    threads = torch.get_num_threads()
    try:
        with RunWriter.open(folder, device=str(device), total_steps=derived.total_steps, echo=False) as writer:
            trainer = Trainer(RunContext(plan.config, derived, writer, Signals(), device))
            for name in CALLS:
                setattr(writer, name, timer.around(name, getattr(writer, name)))
            began = time.perf_counter()
            state = trainer.train()
            seconds = time.perf_counter() - began
            writer.finish(state, 0)
    finally:
        torch.set_num_threads(threads)
    if state != "finished":
        raise LscError(f"the training ended as {state}")
    return seconds, derived.total_steps
