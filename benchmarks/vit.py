"""Vit: ViT-S/16 at 224 px in bf16 on one GPU, LSC and CE with 1 000 classes, beside timm's recipe.

Part 2 of benchmarks/gpu.sh without its pauses; without a CUDA GPU it ends with a message.
"""

from __future__ import annotations

import time
from typing import Any

from lsc_engine.bench import Check, Result, Rows, Table, machine
from lsc_engine.training.devices import pick_device

from . import gpu, throughput

# Images a second to reach on one H100 or H200.
BAR = 8_000


def run(*, quick: bool = False, minutes: float = 5.0, device: str = "auto") -> Result:
    """`minutes`: no case begins after them."""
    where, began, rows, notes = pick_device(device), time.perf_counter(), Rows(), []
    if where.type == "cpu" and not quick:
        notes = ["There is no CUDA GPU here. Run the same command where there is one."]
    else:
        for case in list(gpu.vit_cases(quick))[: 3 if quick else None]:
            if time.perf_counter() - began < 60 * minutes:
                rows.append(throughput.measure(case, where, *((0.05, 0) if quick else ())))
        notes = [throughput.MFU]
    checks = [_check(rows, what, quick) for what in ("LSC", "CE")]
    return Result("vit", checks, [Table("Training", rows)] if rows else [], notes, machine=machine("timm"))


def _check(rows: list[dict[str, Any]], case: str, quick: bool) -> Check:
    row = next((row for row in rows if row["case"] == f"ViT-S, {case}, 1 000 classes, batch 512"), None)
    figure = f"{row['images/s']:,.0f} images/s, MFU {row['MFU']}" if row else "-"
    reached = None if row is None or quick else row["images/s"] >= BAR
    return Check(f"ViT-S/16, 224 px, bf16, {case} with 1 000 classes", figure, f"at least {BAR:,} images/s", reached)
