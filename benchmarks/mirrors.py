"""Mirrors: what `log.also` costs a training, in pairs of the same run without and with it.

Both sides run as `lsc-engine run` trains, alternately, and must end at the same loss. Processor time is that of the
training process; its mirror, a process of its own, has ended before the next run begins.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch

from lsc_engine.bench import Check, Result, Rows, Table
from lsc_engine.common.errors import LscError
from lsc_engine.mirrors.supervise import check_tools, states
from lsc_engine.runs.folder.writer import create_run
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.plan import plan_study

PRESET, VARIANT = "demo", "V21-384"


def run(*, quick: bool = False, pairs: int = 6, epochs: int = 15, tools: str = "tensorboard",
        device: str = "cpu") -> Result:  # fmt: skip
    """`pairs` of trainings of `epochs` epochs; `tools`: those to write for, separated by commas."""
    if quick:
        pairs, epochs = 1, 1
    also = tools.split(",")
    plan_study(PRESET, name="mirrors", sets=(f"log.also={also}",))
    check_tools(also)
    rows = Rows()
    with tempfile.TemporaryDirectory() as scratch:
        # The first training of a process also loads kernels and data.
        _train(Path(scratch), "first", 1, [], device)
        for pair in range(1, pairs + 1):
            sides = ([], also) if pair % 2 else (also, [])
            found = {bool(side): _train(Path(scratch), f"{pair}-{bool(side)}", epochs, side, device) for side in sides}
            (busy, wall, loss), (busy_also, wall_also, loss_also) = found[False], found[True]
            if loss != loss_also:
                raise LscError(f"the losses differ: {loss} and {loss_also}")
            rows.append(
                {"pair": pair, "processor, s": busy, "with mirror": busy_also, "ratio of it": busy_also / busy,
                 "wall, s": wall, "wall with mirror": wall_also, "ratio of wall": wall_also / wall}
            )  # fmt: skip
    checks = []
    for name, key, bar in (("processor time", "ratio of it", 1.02), ("wall time", "ratio of wall", 1.05)):
        ratio = statistics.median(float(row[key]) for row in rows)
        checks.append(
            Check(f"{name} with {tools}, median ratio", f"{ratio:.3f}", f"at most {bar}",
                  None if quick else ratio <= bar)
        )  # fmt: skip
    alone = [float(row["processor, s"]) for row in rows]
    notes = [
        f"{PRESET}/{VARIANT}, {epochs} epochs, {pairs} pairs in alternating order. Processor time without a mirror "
        f"goes from {min(alone):.2f} to {max(alone):.2f} s."
    ]
    return Result("mirrors", checks, [Table("Pairs", rows)], notes)


def _train(root: Path, study: str, epochs: int, also: list[str], device: str) -> tuple[float, float, float]:
    """Seconds of processor and of wall time of a training, and its last loss."""
    from lsc_engine.training.execute import execute
    from lsc_engine.training.job import Job
    from lsc_engine.training.signals import Signals

    sets = (f'train.duration="{epochs} epochs"', f"log.also={also}")
    (plan,) = plan_study(PRESET, name=study, variants=(VARIANT,), seeds=(0,), sets=sets).runs
    folder = create_run(root / plan.id, plan.config, {"command": ["lsc-engine", "bench", "mirrors"]})
    threads = torch.get_num_threads()
    busy, began = time.process_time(), time.perf_counter()
    state = execute(Job(folder, root), plan.config, device=torch.device(device), signals=Signals(), echo=False)
    busy, wall = time.process_time() - busy, time.perf_counter() - began
    torch.set_num_threads(threads)
    if state != "finished":
        raise LscError(f"the training ended as {state}")
    _wait_for(folder, len(also))
    return busy, wall, open_run(folder).last()["train/loss"]


def _wait_for(folder: Path, mirrors: int, seconds: float = 600.0) -> None:
    """Until the mirrors of a run have written all of it and ended."""
    deadline = time.monotonic() + seconds
    while True:
        done = [state for state in states(folder) if state.behind == 0 and not state.active]
        if len(done) == mirrors:
            return
        if time.monotonic() > deadline:
            raise LscError("; ".join(map(str, states(folder))) or "no mirror has begun")
        time.sleep(0.2)
