"""arXiv:2510.04090, Tables 9 and 10: model memory and largest batch against the number of classes, LSC and CE.

ViT-B at 224 px, memory capped at 40 GB. On a CUDA GPU the largest batch is measured: whole training steps (forward,
loss, backward, fused AdamW) under a cap of the process's memory. Elsewhere it is computed, and labelled so:

    largest batch = (cap - 16 bytes x parameters) / (activations kept for the backward pass + logits, per image)
"""

from __future__ import annotations

from typing import Any

import torch

from lsc_engine.bench import Check, Result, Table
from lsc_engine.heads.model_sizes import model_sizes
from lsc_engine.studies.plan import plan_study
from lsc_engine.vectors import n_min

from .measure import megabytes

COUNTS = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
# What the paper prints, for 10^2 to 10^7 classes; its columns are matched by the memory of a 768-wide class layer.
PAPER_MEMORY = ("943", "943", "973", "1237", "3873", "30281")
PAPER_BATCH = ("386", "386", "386", "374", "154", "-")
GIB = 2**30
# Preset that gives everything but model, size and classes, and its vector system.
PRESET, SYSTEM = "vit-s-spectrum", "V21"


def run(
    *, quick: bool = False, model: str = "vit-b", size: int = 224, cap_gb: float = 40.0,
    device: str = "",
) -> Result:  # fmt: skip
    """`cap_gb` in GiB; `device`: cuda where there is one, else the batch is computed."""
    counts = (100, 1_000_000) if quick else COUNTS
    if quick:
        model, size = "timm:vit_tiny_patch16_224", 32
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    measured = device.startswith("cuda")
    cap = int(cap_gb * GIB)
    rows = []
    for classes in counts:
        row: dict[str, Any] = {"classes": classes}
        for method in ("lsc", "ce"):
            row |= _side(method, classes, model, size, cap, device if measured else None)
        if model == "vit-b" and size == 224:
            at = COUNTS.index(classes)
            row |= {"paper: CE MB": PAPER_MEMORY[at], "paper: CE batch": PAPER_BATCH[at]}
        rows.append(row)
    kind = "measured" if measured else "computed"
    change = rows[-1]["LSC weights MB"] - rows[0]["LSC weights MB"]
    flat = rows[-1]["LSC largest batch"] / max(1, rows[0]["LSC largest batch"])
    checks = [
        Check(f"LSC weights, {counts[0]:,} to {counts[-1]:,} classes", f"{change:+.2f} MB", "at most 10 MB more",
              change <= 10),
        Check(f"LSC largest batch, likewise ({kind})", f"x {flat:.3f}", "at least x 0.98", flat >= 0.98),
    ]  # fmt: skip
    notes = [
        f"{model} at {size} px, float32 weights; LSC: {SYSTEM} at n_min by a linear layer from the model's width; CE: "
        "a class layer on the model's width. Embedding and output: bytes of one image in float32. State: weights, "
        f"gradients and AdamW's moments, 16 bytes a parameter. Largest batch in {cap_gb:g} GiB: {kind}"
        + (", with bf16 autocast." if measured else ", float32 activations; a GPU in bf16 holds about twice as many.")
    ]
    title = f"Classes against memory and batch ({kind})"
    return Result("memory", checks, [Table(title, rows)], notes)


def _side(method: str, classes: int, model: str, size: int, cap: int, device: str | None) -> dict[str, Any]:
    label = method.upper()
    n = n_min(SYSTEM, classes) if method == "lsc" else None
    facts = _described(method, classes, model, size)
    parameters = facts["parameters"] + facts["head_parameters"]
    # The estimate for a batch of one, less the state: what each image adds.
    each = facts["memory_bytes"] - 16 * parameters
    if device is None:
        batch = max(0, (cap - 16 * parameters) // each)
    else:
        batch = _largest(method, classes, model, size, cap, device)
    return {
        f"{label} parameters": parameters,
        f"{label} weights MB": round(4 * parameters / 1e6, 2),
        f"{label} state": megabytes(16 * parameters),
        f"{label} embedding": f"{4 * int(n or facts['dim']):,} B",
        f"{label} output": f"{4 * (int(n) if n else classes):,} B",
        f"{label} largest batch": int(batch),
    }


def _config(method: str, classes: int, model: str, size: int, batch: int) -> Any:
    sets = [
        f'model.name="{model}"', f"data.image_size={size}", f"data.classes={classes}", 'data.labels="class"',
        f"train.batch_size={batch}", 'train.duration="1 steps"', 'eval.every="1 steps"', "eval.images=1",
        'optimizer.warmup="0 steps"',
    ]  # fmt: skip
    variant = "CE" if method == "ce" else "V21-min"
    (plan,) = plan_study(PRESET, name="memory", variants=(variant,), seeds=(0,), sets=tuple(sets)).runs
    return plan.config


def _described(method: str, classes: int, model: str, size: int) -> dict[str, Any]:
    config = _config(method, classes, model, size, 1)
    dim = n_min(SYSTEM, classes) if method == "lsc" else None
    return model_sizes(config, channels=3, size=size, dim=dim, classes=classes)


def _largest(method: str, classes: int, model: str, size: int, cap: int, device: str) -> int:
    """The largest batch whose training step fits, within 2 %; 0 where not even one image does."""
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, cap / total), device)
    try:
        low, high = 0, 8
        while high <= 2**16 and _step_fits(method, classes, model, size, high, device):
            low, high = high, 2 * high
        while high - low > max(1, low // 50):
            middle = (low + high) // 2
            if _step_fits(method, classes, model, size, middle, device):
                low = middle
            else:
                high = middle
        return low
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _step_fits(method: str, classes: int, model: str, size: int, batch: int, device: str) -> bool:
    """Do two whole training steps fit?"""
    from lsc_engine.heads.build import build_head
    from lsc_engine.models.build import build_model
    from lsc_engine.training.devices import autocast_dtype
    from lsc_engine.training.step import make_loss, make_optimizer

    where = torch.device(device)
    config = _config(method, classes, model, size, batch)
    dim = n_min(SYSTEM, classes) if method == "lsc" else None
    try:
        network = build_model(config.model, channels=3, size=size, dim=dim, seed=0).to(where)
        width = dim or int(network.backbone.num_features)  # type: ignore[union-attr,arg-type]
        head = build_head(config, classes=classes, dim=width, seed=0).to(where)
        optimizer = make_optimizer(
            "adamw", [*network.parameters(), *head.parameters()], lr=1e-4, weight_decay=0.0, momentum=0.0
        )
        loss = make_loss(network, head, dtype=autocast_dtype("auto", where), device=where, compiled=False)
        images = torch.zeros(batch, 3, size, size, device=where)
        target = head.target(torch.zeros(batch, dtype=torch.long, device=where))
        for _ in range(2):
            loss(images, target).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        network = head = optimizer = loss = images = target = None  # type: ignore[assignment]
        if where.type == "cuda":
            torch.cuda.empty_cache()
