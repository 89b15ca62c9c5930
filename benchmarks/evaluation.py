"""What evaluation costs beside training, and what it tells for that, under the presets' [eval].

For shipped presets whose images are at hand: seconds of one evaluation against those of the training between two, the
share of the label in it, and the standard error of the accuracy that it tells, sqrt(p (1 - p) / M) <= 1 / (2 sqrt M).
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lsc_engine.bench import Check, Result, Rows, Table
from lsc_engine.common.errors import LscError
from lsc_engine.config.derived import derive
from lsc_engine.data.batches import eval_batches
from lsc_engine.heads.lsc import LscHead
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.context import RunContext
from lsc_engine.training.evaluator import evaluate
from lsc_engine.training.signals import Signals
from lsc_engine.training.trainer import Trainer

from . import baselines
from .measure import milliseconds, wait

PRESETS = "demo/V21-384,demo/V21-min,fashion-v21/V21-min,spectrum-300k/300k"


def run(
    *, quick: bool = False, presets: str = PRESETS, steps: int = 12, images: int = 2048, device: str = "cpu"
) -> Result:
    """`presets`: preset/variant, comma-separated; `steps` timed for training, at most `images` for evaluation."""
    if quick:
        presets, steps, images = "spectrum-300k/1k", 1, 64
    rows = Rows()
    for word in presets.split(","):
        preset, _, variant = word.strip().rpartition("/")
        rows.append(_case(preset, variant, steps, images, torch.device(device)))
    share = max(row["label, share of the evaluation"] for row in rows)
    worst = max(row["evaluation, share of the time"] for row in rows)
    checks = [
        Check("label, share of an evaluation", f"{100 * share:.2f} % at most", "at most 5 %",
              None if quick else share <= 0.05),
        Check("evaluation, share of a run's time", f"{100 * worst:.1f} % at most", "at most 25 %",
              None if quick else worst <= 0.25),
    ]  # fmt: skip
    for row in rows:
        for key in ("label, share of the evaluation", "evaluation, share of the time", "label by a table, share"):
            row[key] = None if row[key] is None else f"{100 * row[key]:.3g} %"
    notes = [
        "An evaluation is on a fixed sample of at most 10 240 images, whatever the data set's size, and without "
        "gradients; `standard error`: of the accuracy. `label by a table`: the same evaluation with the label by "
        "an exhaustive matrix product, where a dense table is small enough."
    ]
    return Result("evaluation", checks, [Table("Evaluation beside training", rows)], notes)


def _case(preset: str, variant: str, steps: int, most: int, device: torch.device) -> dict[str, Any]:
    (plan,) = plan_study(preset, name="evaluation", variants=(variant,), seeds=(0,)).runs
    derived = derive(plan.config)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        folder = create_run(Path(scratch) / plan.id, plan.config, {"command": ["lsc-engine", "bench", "evaluation"]})
        try:
            with RunWriter.open(folder, device=str(device), total_steps=derived.total_steps, echo=False) as writer:
                trainer = Trainer(RunContext(plan.config, derived, writer, Signals(), device))
                step = _seconds_a_step(trainer, steps)
            count = min(most, derived.eval_images)
            ours, label = _evaluated(trainer, count, None)
            table = _table(trainer)
            dense = None if table is None else _evaluated(trainer, count, table)
        finally:
            torch.set_num_threads(threads)
    whole = ours * derived.eval_images / count
    between = step * derived.eval_every
    return {
        "preset": f"{preset}/{variant}", "images": derived.eval_images, "classes": derived.classes,
        "training between two": milliseconds(between), "evaluation": milliseconds(whole),
        "evaluation, share of the time": whole / (whole + between),
        "label, share of the evaluation": label / ours,
        "label by a table, share": None if dense is None else dense[1] / dense[0],
        "standard error": f"at most {50 / math.sqrt(derived.eval_images):.2f} %",
    }  # fmt: skip


def _seconds_a_step(trainer: Trainer, steps: int) -> float:
    trainer.model.train()
    batches = trainer.batches.from_step(0)
    taken = []
    for _ in range(steps + 2):
        began = time.perf_counter()
        trainer.train_step(next(batches))
        trainer.step += 1
        wait()
        taken.append(time.perf_counter() - began)
    return sorted(taken[2:])[len(taken[2:]) // 2]


def _table(trainer: Trainer) -> Tensor | None:
    head = trainer.head
    if not isinstance(head, LscHead) or head.classes * head.system.n > 2**27:
        return None
    return baselines.table_of(head.system, head.order, head.classes).to(trainer.run.device)


def _evaluated(trainer: Trainer, count: int, table: Tensor | None) -> tuple[float, float]:
    """Seconds of an evaluation on `count` images, and of its labels."""
    head, labels_only = trainer.head, [0.0]
    exact = head.predict

    def predict(z: Tensor) -> Tensor:
        wait()
        began = time.perf_counter()
        labels = exact(z) if table is None else baselines.gemm_labels(z, table)
        wait()
        labels_only[0] += time.perf_counter() - began
        return labels

    index = torch.arange(trainer.source.images)[:count]
    values, taken = [], []
    head.predict = predict  # type: ignore[method-assign]
    try:
        for _ in range(2):
            labels_only[0] = 0.0
            began = time.perf_counter()
            batches = eval_batches(trainer.source, index, max(512, trainer.config.train.batch_size))
            values.append(
                evaluate(trainer.model, head, batches, device=trainer.run.device, dtype=trainer.run.dtype)["accuracy"]
            )
            taken.append((time.perf_counter() - began, labels_only[0]))
    finally:
        head.predict = exact  # type: ignore[method-assign]
    if values[0] != values[1]:
        raise LscError(f"two evaluations of the same images differ: {values}")
    return taken[-1]
