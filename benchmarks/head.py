"""Head: time and memory of the LSC head from 10^3 to 10^9 classes, with the cosine and with a softmax over all vectors
of the system, class layers beside it where they fit.

One call is what a step pays for the head: target lookup for the labels of a batch, forward, backward. Weights of class
layers and their gradients are memory that stays; AdamW would add two more copies, which the table gives as computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lsc_engine.bench import Check, Result, Rows, Table
from lsc_engine.heads.losses.softmax import Softmax
from lsc_engine.heads.lsc import LscHead
from lsc_engine.vectors import system
from lsc_engine.vectors.order import Order

from . import baselines
from .measure import alternate, free_bytes, megabytes, milliseconds, peak_bytes, same

COUNTS = (1_000, 100_000, 1_281_167, 10_000_000, 1_000_000_000)
LAYERS = {"dense CE": baselines.DenseCE, "chunked CE": baselines.ChunkedCE, "sampled CE": baselines.SampledCE}


def run(
    *, quick: bool = False, n: int = 384, batch: int = 256, name: str = "V22", device: str = "cpu", rounds: int = 61,
    memory_gb: float | None = None,
) -> Result:  # fmt: skip
    """`memory_gb`: what class layers may take; by default a third of the memory that is free."""
    counts = COUNTS
    if quick:
        n, batch, rounds, counts = 64, 32, 3, (1_000, 20_000)
    limit = free_bytes(device) / 3 if memory_gb is None else memory_gb * 1e9
    made = system(name, n)
    order = Order.make("shuffled", made, 0)
    heads = {(label, classes): LscHead(made, order, classes, loss)
             for label, loss in (("LSC", None), ("softmax", Softmax())) for classes in counts}  # fmt: skip
    sides = {side: _lsc(head, batch, device) for side, head in heads.items()}
    for (label, classes), head in heads.items():
        _check_loss(label, head, batch, classes, device)
    # Rounds of one loss: the other one would leave other things in the caches.
    timed = {
        label: alternate({str(c): call for (of, c), call in sides.items() if of == label}, rounds=many, stretch=0.005)
        for label, many in (("LSC", rounds), ("softmax", max(3, rounds // 4)))
    }
    memory = {side: peak_bytes(call, device) for side, call in sides.items()}
    step = encoder_step(batch, n, device, quick)

    rows = Rows()
    for classes in counts:
        row: dict[str, Any] = {"classes": classes}
        for label in timed:
            row[f"{label} time"] = milliseconds(timed[label].median(str(classes)))
            row[f"{label} memory"] = megabytes(memory[label, classes])
        for label in LAYERS:
            row |= _layer(label, n, classes, batch, device, limit, quick)
        rows.append(row)

    times = [timed["LSC"].median(str(classes)) for classes in counts]
    changes, spreads = {}, {}
    for label, each in timed.items():
        # Against the fewest classes, round by round.
        changes[label] = max(abs(each.ratio(str(classes), str(counts[0])) - 1) for classes in counts)
        used = [memory[label, classes] for classes in counts]
        spreads[label] = max(used) - min(used)
    change, spread = changes["LSC"], spreads["LSC"]
    checks = [
        Check("change of the head's time", f"{100 * change:.1f} %", "at most 10 %",
              None if quick else change <= 0.10),
        Check("that change, of an encoder step", f"{100 * change * times[0] / step:.4f} %", "at most 2 %",
              None if quick else change * times[0] / step <= 0.02),
        Check("change of the head's memory", megabytes(spread), "at most 10 MB", spread <= 10e6),
        Check("head, of an encoder step", f"{100 * max(times) / step:.3f} %", "no bar", None if quick else True),
        Check("change of the softmax's time", f"{100 * changes['softmax']:.1f} %", "at most 10 %",
              None if quick else changes["softmax"] <= 0.10),
        Check("change of the softmax's memory", megabytes(spreads["softmax"]), "at most 10 MB",
              spreads["softmax"] <= 10e6),
    ]  # fmt: skip
    notes = [
        f"{name} at n = {n} ({made.count:,} vectors), shuffled, batch {batch}: target lookup, forward and backward. "
        f"softmax: over all {made.count:,} vectors, "
        f"exact. An encoder step (9 M parameters, 32 px, batch {batch}, forward, backward, AdamW) takes "
        f"{milliseconds(step)}.",
        "Memory of a class layer: peak of the measured call with weights and gradients; AdamW's two moments come on "
        "top (as much again as weights and gradients together). Sampled CE is another, approximate loss; its gradient "
        "of the weights is sparse. A side stops where weights, gradients and logits would not fit in "
        f"{megabytes(limit)}; what it would need is then given.",
        "Every loss is compared with one computed from dense vectors; chunked CE with dense CE, gradients included.",
    ]
    return Result(
        "head", checks, [Table("10³ to 10⁹ classes", rows)], notes, files={"scaling.md": _snippet(rows, notes)}
    )


def _snippet(rows: list[dict[str, Any]], notes: list[str]) -> str:
    """The table as the README shows it: one cell a method."""
    short = []
    for row in rows:
        cells: dict[str, Any] = {"classes": row["classes"]}
        for label in ("LSC", "softmax", *LAYERS):
            time, memory = row[f"{label} time"], row[f"{label} memory"]
            heading = "LSC, softmax over all vectors" if label == "softmax" else label
            cells[heading] = f"needs {memory.partition(' (')[0]}" if time == "does not fit" else f"{time}, {memory}"
        short.append(cells)
    table = Table("", short).markdown()
    return f"<!-- scaling -->\n{table}\n\n{notes[0]}\n<!-- /scaling -->\n"


def _lsc(head: LscHead, batch: int, device: str) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(batch, head.system.n, generator=generator).to(device).requires_grad_()
    labels = torch.randint(head.classes, (batch,), generator=generator).to(device)

    def call() -> Tensor:
        z.grad = None
        loss = head.loss(z, head.target(labels))
        loss.backward()
        return loss

    return call


def _check_loss(label: str, head: LscHead, batch: int, classes: int, device: str) -> None:
    loss = _lsc(head, batch, device)().detach()
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(batch, head.system.n, generator=generator)
    labels = torch.randint(classes, (batch,), generator=generator)
    dense = head.system.vectors(head.order.index(labels))
    cosine = torch.cosine_similarity(z, dense)
    want = 1 - cosine.mean()
    if isinstance(head.distance, Softmax):
        unit = torch.nn.functional.normalize(z.double(), dim=1)
        want = (head.system.log_partition(head.distance.scale * unit) - head.distance.scale * cosine).mean().float()
    same(f"{label} at {classes} classes", loss.cpu(), want, tolerance=1e-5)


def _layer(label: str, n: int, classes: int, batch: int, device: str, limit: float, quick: bool) -> dict[str, Any]:
    """Time and memory of one class layer, or what it would need."""
    needed = layer_bytes(label, n, classes, batch)
    # The measured pass holds weights twice for a moment where a gradient is replaced.
    if needed * 1.15 > limit:
        return {f"{label} time": "does not fit", f"{label} memory": f"{megabytes(needed)} (computed)"}
    layer = LAYERS[label](n, classes, device)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(batch, n, generator=generator).to(device).requires_grad_()
    labels = torch.randint(classes, (batch,), generator=generator).to(device)

    def call() -> Tensor:
        z.grad = layer.weight.grad = None
        loss: Tensor = layer(z, labels)
        loss.backward()
        return loss.detach()

    if label == "chunked CE" and classes <= 100_000:
        _check_chunked(layer, n, classes, z, labels, call)
    timed = alternate({label: call}, rounds=3 if classes > 10**6 else 5, most=10.0)
    weights = 4 * n * classes
    return {
        f"{label} time": milliseconds(timed.median(label)),
        f"{label} memory": megabytes(weights + peak_bytes(call, device)),
    }


def _check_chunked(
    layer: Any, n: int, classes: int, z: Tensor, labels: Tensor, call: Callable[[], Tensor]
) -> None:  # fmt: skip
    loss, grads = call(), (z.grad.clone(), layer.weight.grad.clone())  # type: ignore[union-attr]
    z.grad = None
    dense = baselines.DenseCE(n, classes, z.device)
    whole = dense(z, labels)
    whole.backward()
    same("chunked CE, loss", loss, whole.detach(), tolerance=1e-4)
    same("chunked CE, gradient of the embeddings", grads[0], z.grad, tolerance=1e-5)
    same("chunked CE, gradient of the weights", grads[1], dense.weight.grad, tolerance=1e-5)


def layer_bytes(label: str, n: int, classes: int, batch: int) -> float:
    """Bytes of weights, gradients and logits (with their gradient) that a class layer needs, float32."""
    weights = 4.0 * n * classes
    if label == "sampled CE":
        return 1.2 * weights + 3 * 4.0 * batch * 0.1 * classes
    logits = 4.0 * batch * (16384 if label == "chunked CE" else classes)
    return 2 * weights + 3 * logits


def encoder_step(batch: int, n: int, device: str, quick: bool) -> float:
    """Seconds of a training step of the encoder of the papers' size at 32 px, without a head."""
    from lsc_engine.models.backbones.encoder import Encoder
    from lsc_engine.training.step import make_optimizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Encoder().build(3, 32, n, 0.1 if quick else 1.0).to(device)
    optimizer = make_optimizer("adamw", list(model.parameters()), lr=1e-5, weight_decay=1e-5, momentum=0.0)
    images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)

    def call() -> None:
        model(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return alternate({"step": call}, rounds=3, most=5.0).median("step")
