"""Images a second of training steps: those of our loop, and those of timm's training script.

Ours are measured in `Trainer.train` itself, log lines, heartbeat and requests included; its batches keep the time. The
images are one batch held on the device, bytes on the device drawn anew at every step, or made by the data set.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.config.derived import derive
from lsc_engine.data.batches import Batches
from lsc_engine.data.source import TensorSource, normalise
from lsc_engine.heads.build import build_head
from lsc_engine.models.build import build_model, embedding_width
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.context import RunContext
from lsc_engine.training.devices import autocast_dtype, set_numerics
from lsc_engine.training.signals import Signals
from lsc_engine.training.trainer import Trainer

from .measure import megabytes, wait

# Dense bf16 peak in FLOP/s, by what the GPU's name contains.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}
MFU = (
    "MFU = images/s x FLOP of an image / peak (989 TFLOP/s for H100 and H200). FLOP of an image: 2 per multiply-add of "
    "all matrix products and convolutions, forward and backward, counted by torch's FlopCounterMode on the model with "
    "its head. timm's loop: its model with a class layer, its optimizer factory and cross-entropy, compiled as its "
    "training script does, on the same images; the script itself also loads images."
)
# Steps before the first stretch that counts: compiling, capture, and what is decided by the first steps of a run.
WARM_UP = 25
# Images of the data that are drawn from bytes on the device.
BYTES_IMAGES = 50_000


@dataclass(frozen=True)
class Case:
    """A training by a preset, one of its variants and settings; `images` "held", "bytes" or "made"; `timm`: by the
    loop of timm's script instead of ours; `autotune`: with Inductor's max_autotune."""

    name: str
    preset: str
    variant: str
    sets: tuple[str, ...] = ()
    images: str = "held"
    timm: bool = False
    autotune: bool = False


class _Measured(Exception):
    """The measurement is complete: the training needs no further step."""


@contextlib.contextmanager
def trainer(preset: str, variant: str, sets: tuple[str, ...], device: torch.device) -> Iterator[Trainer]:
    """A Trainer with a run folder of its own, which is deleted afterwards."""
    (plan,) = plan_study(preset, name="bench", variants=(variant,), seeds=(0,), sets=sets).runs
    derived, threads = derive(plan.config), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        folder = create_run(Path(scratch) / plan.id, plan.config, {"command": ["lsc-engine", "bench"]})
        try:
            with RunWriter.open(folder, device=str(device), total_steps=derived.total_steps, echo=False) as writer:
                run = RunContext(plan.config, derived, writer, Signals(), device)
                set_numerics(device, run.dtype, bool(plan.config.train.deterministic))
                yield Trainer(run)
        finally:
            torch.set_num_threads(threads)


class _Paced:
    """Batches of a trainer that measure the steps between them for `seconds`, and then raise _Measured."""

    def __init__(self, batches: Batches[Any], held: bool, seconds: float, warm_up: int) -> None:
        self._batches, self._held, self._seconds, self._warm_up = batches, held, seconds, warm_up
        self.first_step, self.rates = 0.0, list[float]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def from_step(self, step: int) -> Iterator[Any]:
        """As `Batches.from_step`."""
        made = self._batches.from_step(step)
        one = next(made)

        def steps(count: int) -> Iterator[Any]:
            for _ in range(count):
                yield one if self._held else next(made)

        def timed(count: int) -> Iterator[Any]:
            wait()
            began = time.perf_counter()
            yield from steps(count)
            wait()
            return time.perf_counter() - began

        self.first_step = yield from timed(1)
        yield from steps(self._warm_up)
        each = (yield from timed(2)) / 2
        stretch, taken = max(1, round(self._seconds / 4 / each)), 0.0
        while taken < self._seconds:
            took = yield from timed(stretch)
            self.rates.append(stretch * self._batches.batch_size / took)
            taken += took
        raise _Measured


def measure(case: Case, device: torch.device, seconds: float = 2.0, warm_up: int = WARM_UP) -> dict[str, Any]:
    """One row: images/s, the median of stretches that last `seconds` together; peak memory, MFU, first step."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    sets = (*case.sets, 'train.duration="10000000 steps"', 'eval.every="10000000 steps"', "eval.images=1")
    tuned = torch._inductor.config.patch(max_autotune=True) if case.autotune else contextlib.nullcontext()
    with tuned, trainer(case.preset, case.variant, sets, device) as ours:
        if case.images == "bytes":
            ours.batches = _drawn(ours, device)
        paced = _Paced(ours.batches, case.images == "held", seconds, warm_up)
        ours.batches = paced  # type: ignore[assignment]
        if case.timm:
            _timms_loop(ours, device)
        else:
            with contextlib.suppress(_Measured):
                ours.train()
        source = ours.writer.source()
        config, classes = ours.config, ours.source.classes
    rate = statistics.median(paced.rates)
    flops = flops_an_image(config, ours.source.channels, ours.source.size, ours.run.derived.n, classes)
    peak = next((peak for name, peak in PEAKS.items() if device.type == "cuda" and name in _gpu(device)), None)
    step = "timm's" if case.timm else config.train.compile if source.get("compiled") else "not compiled"
    if ours.micro_batches.parts > 1:
        step += f", in {ours.micro_batches.parts} parts"
    return {
        "case": case.name, "batch": config.train.batch_size, "classes": classes, "step": step,
        "images/s": rate, "MFU": f"{100 * rate * flops / peak:.1f} %" if peak else "-",
        "GFLOP an image": flops / 1e9,
        "memory": megabytes(torch.cuda.max_memory_allocated() if device.type == "cuda" else None),
        "first step": f"{paced.first_step:.1f} s", "slowest stretch": min(paced.rates), "fastest": max(paced.rates),
    }  # fmt: skip


def _gpu(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


def _drawn(ours: Trainer, device: torch.device) -> Batches[Any]:
    """Batches of random images that lie on the device as bytes."""
    source, count = ours.source, min(BYTES_IMAGES, ours.source.images)
    pixels = torch.randint(0, 256, (count, source.channels, source.size, source.size), dtype=torch.uint8)
    held = TensorSource(pixels, None, classes=count, device=device)
    return Batches(held, ours.config.train.batch_size, 0, device=device, target=ours.head.training_target)


def _timms_loop(ours: Trainer, device: torch.device) -> None:
    """The steps of timm's script with --amp --amp-dtype bfloat16 --torchcompile --opt adamw: the same model and
    class layer, on the same batches."""
    from timm.optim import create_optimizer_v2

    whole = nn.Sequential(ours.model, ours.head.layer)  # type: ignore[arg-type]
    criterion = nn.CrossEntropyLoss()
    optimizer = create_optimizer_v2(whole, opt="adamw", lr=1e-4, weight_decay=1e-5)
    compiled = device.type == "cuda" and ours.config.train.compile != "off"
    network = torch.compile(whole, backend="inductor") if compiled else whole
    dtype = autocast_dtype(ours.config.train.precision, device)
    whole.train()
    with contextlib.suppress(_Measured):
        for batch in ours.batches.from_step(0):
            images = batch.images if batch.images.is_floating_point() else normalise(batch.images)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                loss: Tensor = criterion(network(images), batch.labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def flops_an_image(config: Any, channels: int, size: int, dim: int | None, classes: int) -> float:
    """FLOP of one image's forward and backward pass, class layer included, on shapes alone."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = build_model(config.model, channels=channels, size=size, dim=dim, seed=0)
        images = torch.empty(2, channels, size, size)
        layer: nn.Module = nn.Identity()
        if config.target.method == "ce":
            width = dim or embedding_width(model, channels, size, torch.device("meta"))
            layer = build_head(config, classes=classes, dim=width, seed=0).layer  # type: ignore[assignment]
        with FlopCounterMode(display=False) as counter:
            layer(model(images)).sum().backward()
    return counter.get_total_flops() / 2
