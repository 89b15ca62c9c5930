"""Loader: training at 32 px with unique labels end to end, against the same steps on one batch held ready.

Sources: images held as bytes on the device, with and without augmentation; `spectrum`, computed from the image's
number; and a packed file on disk read by worker processes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lsc_engine.bench import Check, Result, Rows, Table
from lsc_engine.data.batches import Batches
from lsc_engine.data.datasets.spectrum import SpectrumSource
from lsc_engine.data.pack import Manifest, PackedReader
from lsc_engine.data.source import ImageSource, StreamedSource, TensorSource
from lsc_engine.heads.lsc import LscHead
from lsc_engine.models.backbones.encoder import Encoder
from lsc_engine.training.step import make_optimizer
from lsc_engine.vectors import n_min, system
from lsc_engine.vectors.order import Order

from .measure import alternate, milliseconds, wait

SIZE = 32


def run(
    *, quick: bool = False, images: int = 20_000, batch: int = 128, width: float = 0.5, rounds: int = 9,
    device: str = "cpu", workers: int = 1,
) -> Result:  # fmt: skip
    """`width` of the encoder: a half, four times as quick as the papers' and so four times as demanding."""
    if quick:
        images, batch, width, rounds = 200, 16, 0.05, 2
    where = torch.device(device)
    step = _step(images, width, where)
    rows = Rows()
    with tempfile.TemporaryDirectory() as scratch:
        for name, source, augment in _sources(images, where, Path(scratch)):
            with _feed(source, batch, augment, where, workers) as feed:
                held = next(feed)

                def whole(feed: Iterator[Any] = feed) -> None:
                    one = next(feed)
                    step(one.images, one.target)

                timed = alternate(
                    {"end to end": whole, "model only": lambda held=held: step(held.images, held.target)},  # type: ignore[misc]
                    rounds=rounds, stretch=0.02 if quick else 0.6, most=30.0,
                )  # fmt: skip
            rows.append(
                {
                    "images": name, "end to end": milliseconds(timed.median("end to end")),
                    "model only": milliseconds(timed.median("model only")),
                    "images/s": batch / timed.median("end to end"),
                    "share of model only": timed.ratio("model only", "end to end"),
                }
            )  # fmt: skip
    worst = min(row["share of model only"] for row in rows)
    checks = [Check("throughput with loading, of model only", f"{100 * worst:.1f} % at worst", "at least 95 %",
                    None if quick else worst >= 0.95)]  # fmt: skip
    notes = [
        f"Encoder of width {width}, {SIZE} px, batch {batch}, V21 at n_min, {images:,} classes; forward, backward and "
        "AdamW on both sides."
    ]
    return Result("loader", checks, [Table("End to end against model only", rows)], notes)


def _step(classes: int, width: float, device: torch.device) -> Callable[[torch.Tensor, torch.Tensor], None]:
    n = n_min("V21", classes)
    made = system("V21", n)
    head = LscHead(made, Order.make("shuffled", made, 0), classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Encoder().build(3, SIZE, n, width).to(device)
    optimizer = make_optimizer("adamw", list(model.parameters()), lr=1e-4, weight_decay=1e-5, momentum=0.0)
    vectors_of = head.order.index

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        head.loss(model(images), vectors_of(labels)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _sources(images: int, device: torch.device, scratch: Path) -> Iterator[tuple[str, ImageSource, str]]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    resident = TensorSource(pixels, None, classes=images, device=device)
    yield "held on the device", resident, "none"
    yield "held on the device, light1", resident, "light1"
    yield "spectrum", SpectrumSource(classes=images, per_class=None, split="train", size=SIZE, device=device), "none"
    data = pixels.numpy().tobytes()
    path = scratch / "packed-train-32px.u8"
    path.write_bytes(data)
    sha = hashlib.sha256(data).hexdigest()
    manifest = Manifest("folder", "train", SIZE, 3, images, (("one", images),), "", sha)
    reader = PackedReader(path, manifest)
    yield "packed file, workers", StreamedSource(reader, None, images=images, classes=images, device=device), "none"


@contextmanager
def _feed(source: ImageSource, batch: int, augment: str, device: torch.device, workers: int) -> Iterator[Iterator[Any]]:
    batches = Batches(source, batch, 0, device=device, augment=augment, workers=workers, target=lambda labels: labels)
    feed = batches.from_step(0)
    try:
        yield feed
    finally:
        feed.close()  # type: ignore[attr-defined]
        wait()
