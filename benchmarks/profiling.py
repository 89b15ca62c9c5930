"""Where the time of a training step goes, the least it could take, and our distance from that.

    floor = operations / measured rate of a matrix product + bytes / measured rate of a copy

Operations: every matrix product and convolution, forward and backward, two per multiply-add. Bytes: activations kept
for the backward pass written once and read once, and AdamW's reads of weight, gradient and moments and its writes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.bench import Check, Result, Table
from lsc_engine.heads.base import Head
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.lsc import LscHead
from lsc_engine.heads.model_sizes import activation_bytes
from lsc_engine.models.backbones.encoder import Encoder
from lsc_engine.training.step import make_loss, make_optimizer
from lsc_engine.vectors import system
from lsc_engine.vectors.order import Order

from .measure import alternate, megabytes, milliseconds, wait

SIZE, DIM = 32, 384
# Kinds of work by what the operator's name contains; the first that fits.
KINDS = {
    "convolution, backward": ("convolution_backward",),
    "convolution, forward": ("convolution", "cudnn"),
    "batch norm": ("batch_norm",),
    "ReLU and pooling": ("threshold", "clamp", "relu", "pool"),
    "AdamW": ("adam",),
    "matrix products (linear layers, class layer)": ("mm", "linear"),
    "cross-entropy": ("softmax", "nll"),
    "gather and norm (LSC loss)": ("gather", "scatter", "norm", "searchsorted", "take"),
}


def run(*, quick: bool = False, batch: int = 256, width: float = 1.0, classes: int = 100_000, device: str = "cpu"
        ) -> Result:  # fmt: skip
    """The encoder at 32 px with LSC (V21, n = 384) and with a class layer."""
    if quick:
        batch, width, classes = 8, 0.1, 500
    where = torch.device(device)
    sides = {"LSC": _step("lsc", batch, width, classes, where), "CE": _step("ce", batch, width, classes, where)}
    timed = alternate({name: step for name, (step, *_) in sides.items()}, rounds=5, most=20.0)
    shares = {name: _shares(step, where) for name, (step, *_) in sides.items()}
    kinds = sorted({kind for share in shares.values() for kind in share}, key=lambda k: -shares["LSC"].get(k, 0.0))
    where_rows = [
        {"work": kind, **{f"{name}, share": f"{100 * shares[name].get(kind, 0.0):.1f} %" for name in sides}}
        for kind in kinds
    ]
    rate, copied = _rates(where, quick)
    floors = []
    for name, (_, model, head) in sides.items():
        operations = batch * _operations(model, head, classes)
        moved = _bytes(model, head, batch)
        floor = operations / rate + moved / copied
        step = timed.median(name)
        floors.append(
            {
                "step": name, "measured": milliseconds(step), "images/s": batch / step,
                "operations": f"{operations / 1e9:.3g} G", "bytes": megabytes(moved), "floor": milliseconds(floor),
                "floor / measured": floor / step,
            }
        )  # fmt: skip
    reached = float(floors[0]["floor / measured"])
    checks = [
        Check("LSC step: floor / measured", f"{100 * reached:.0f} %", "no bar", None),
        Check("LSC step against the CE step", f"x {timed.ratio('LSC', 'CE'):.3f} its time", "no bar", None),
    ]
    notes = [
        f"Encoder of width {width}, {SIZE} px, batch {batch}, n = {DIM}, {classes:,} classes. Shares: of the processor "
        "time that torch's profiler gives each operator itself, over three steps.",
        f"A product of float32 matrices reaches {rate / 1e9:.0f} GFLOP/s here, a copy {copied / 1e9:.1f} GB/s, read "
        "and written. The floor assumes both at their full rate and nothing twice; convolutions by "
        "Winograd's method can go below it.",
    ]
    tables = [Table("Where the time goes", where_rows), Table("Floor", floors)]
    return Result("profile", checks, tables, notes)


def _step(
    method: str, batch: int, width: float, classes: int, device: torch.device
) -> tuple[Callable[[], Any], nn.Module, Head]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Encoder().build(3, SIZE, DIM, width).to(device)
    made = system("V21", DIM)
    head: Head = CrossEntropyHead(DIM, classes, None, 0)
    if method == "lsc":
        head = LscHead(made, Order.make("shuffled", made, 0), classes)
    head = head.to(device)
    optimizer = make_optimizer(
        "adamw", [*model.parameters(), *head.parameters()], lr=1e-5, weight_decay=1e-5, momentum=0.0
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, SIZE, SIZE, generator=generator).to(device)
    target = head.target(torch.randint(classes, (batch,), generator=generator).to(device))
    loss = make_loss(model, head, dtype=None, device=device, compiled=False)

    def step() -> Tensor:
        value = loss(images, target)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value

    return step, model, head


def _shares(step: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Share of each kind of work in the time of three steps."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities) as prof:
        for _ in range(3):
            step()
        wait()
    spent: dict[str, float] = defaultdict(float)
    for event in prof.key_averages():
        taken = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "everything else")
        spent[kind] += taken
    whole = sum(spent.values())
    return {kind: taken / whole for kind, taken in spent.items()}


def _operations(model: nn.Module, head: Head, classes: int) -> float:
    """Operations of one image, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    width = model.levels[0][0].out_channels / 64  # type: ignore[index,union-attr,operator]
    with torch.device("meta"):
        shape = Encoder().build(3, SIZE, DIM, float(width))
        layer = nn.Linear(DIM, classes) if isinstance(head, CrossEntropyHead) else nn.Identity()
        images = torch.empty(2, 3, SIZE, SIZE)
    counter = FlopCounterMode(display=False)
    with counter:
        layer(shape(images)).sum().backward()
    return counter.get_total_flops() / 2


def _bytes(model: nn.Module, head: Head, batch: int) -> float:
    parameters = sum(p.numel() for p in [*model.parameters(), *head.parameters()])
    with torch.device("meta"):
        width = model.levels[0][0].out_channels / 64  # type: ignore[index,union-attr,operator]
        kept = activation_bytes(Encoder().build(3, SIZE, DIM, float(width)), 3, SIZE)
    logits = 4 * head.classes if isinstance(head, CrossEntropyHead) else 0
    # AdamW: weight, gradient and two moments read, weight and moments written.
    return 2.0 * batch * (kept + logits) + 7 * 4.0 * parameters


def _rates(device: torch.device, quick: bool) -> tuple[float, float]:
    """FLOP/s of a float32 matrix product, and bytes a second of a copy, read and written."""
    rows = 256 if quick else 2048
    left = torch.randn(rows, rows, device=device)
    large = torch.empty(2**20 if quick else 2**26, device=device)
    other = torch.empty_like(large)
    best = []
    for call, work in ((lambda: left @ left, 2.0 * rows**3), (lambda: other.copy_(large), 2.0 * large.nbytes)):
        call()
        wait()
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            call()
            wait()
            taken.append(time.perf_counter() - began)
        best.append(work / min(taken))
    return best[0], best[1]
