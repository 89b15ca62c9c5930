"""arXiv:2510.04090, Tables 9 and 10: model memory and largest batch against the number of classes, LSC and CE.

ViT-B at 224 px, memory capped at 40 GB. On a CUDA GPU the largest batch is measured: the peak of whole training steps
(forward, loss, backward, fused AdamW) of two batches lies on a straight line, and a step of the batch that it gives
must fit. Elsewhere it is computed, and labelled so:

    largest batch = (cap - 16 bytes x parameters) / (activations kept for the backward pass + logits, per image)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lsc_engine.bench import Check, Result, Rows, Table
from lsc_engine.heads.build import build_head
from lsc_engine.heads.model_sizes import model_sizes
from lsc_engine.models.build import build_model
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.devices import autocast_dtype, pick_device
from lsc_engine.training.step import make_loss, make_optimizer
from lsc_engine.vectors import n_min

from .measure import megabytes, peak_bytes

COUNTS = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
# What the paper prints, for 10^2 to 10^7 classes; its columns are matched by the memory of a 768-wide class layer.
PAPER_MEMORY = ("943", "943", "973", "1237", "3873", "30281")
PAPER_BATCH = ("386", "386", "386", "374", "154", "-")
GIB = 2**30
# Preset that gives everything but model, size and classes, and its vector system.
PRESET, SYSTEM = "vit-s-spectrum", "V21"


def run(
    *, quick: bool = False, model: str = "vit-b", size: int = 224, cap_gb: float = 40.0,
    device: str = "auto",
) -> Result:  # fmt: skip
    """`cap_gb` in GiB; `device`: on a GPU the batch is measured."""
    counts = (100, 1_000_000) if quick else COUNTS
    if quick:
        model, size = "timm:vit_tiny_patch16_224", 32
    where = pick_device(device)
    measured = where.type == "cuda"
    cap = int(cap_gb * GIB)
    rows = Rows()
    for classes in counts:
        row: dict[str, Any] = {"classes": classes}
        for method in ("lsc", "ce"):
            row |= _side(method, classes, model, size, cap, where if measured else None)
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


def _side(method: str, classes: int, model: str, size: int, cap: int, device: torch.device | None) -> dict[str, Any]:
    label = method.upper()
    n = n_min(SYSTEM, classes) if method == "lsc" else None
    facts = _described(method, classes, model, size)
    parameters = facts["parameters"] + facts["head_parameters"]
    # The estimate for a batch of one, less the state: what each image adds.
    each = facts["memory_bytes"] - 16 * parameters
    if device is None:
        batch = max(0, (cap - 16 * parameters) // each)
    else:
        batch = 0 if 16 * parameters >= cap else largest_batch(_step(method, classes, model, size, device), cap, device)
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


def largest_batch(step: Callable[[int], None], cap: int, device: torch.device) -> int:
    """The most images of which `step` needs at most `cap` bytes, within 2 %; 0 if not one does."""
    step(1)  # creates the optimizer's state
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0

    def needed(batch: int) -> float:
        try:
            return held + peak_bytes(lambda: step(batch), device)
        except torch.OutOfMemoryError:
            return float("inf")

    few, more = needed(8), needed(16)
    batch = int((cap - few) / max(1.0, (more - few) / 8) + 8) if more < cap else 8
    while batch and needed(batch) > cap:
        batch = int(0.98 * batch)
    return batch


def _step(method: str, classes: int, model: str, size: int, device: torch.device) -> Callable[[int], None]:
    """A training step on a batch of this size. The weights are created on the device, at random: a class layer of 10^7
    classes takes minutes on the CPU."""
    config = _config(method, classes, model, size, 1)
    dim = n_min(SYSTEM, classes) if method == "lsc" else None
    with torch.device("meta"):
        network = build_model(config.model, channels=3, size=size, dim=dim, seed=0)
        width = dim or int(network.backbone.num_features)  # type: ignore[union-attr,arg-type]
        head = build_head(config, classes=classes, dim=width, seed=0) if method == "ce" else None
    network = network.to_empty(device=device)
    head = build_head(config, classes=classes, dim=width, seed=0) if head is None else head.to_empty(device=device)
    parameters = [*network.parameters(), *head.parameters()]
    for parameter in parameters:
        torch.nn.init.normal_(parameter, std=0.02)
    optimizer = make_optimizer("adamw", parameters, lr=1e-4, weight_decay=0.0, momentum=0.0)
    loss = make_loss(network, head, dtype=autocast_dtype("auto", device), device=device, compiled=False)

    def step(batch: int) -> None:
        try:
            images = torch.zeros(batch, 3, size, size, device=device)
            loss(images, head.training_target(torch.zeros(batch, dtype=torch.long, device=device))).backward()
            optimizer.step()
        finally:
            optimizer.zero_grad(set_to_none=True)

    return step
