"""One CUDA machine in under eight minutes: images a second, memory and MFU of LSC and CE from 10^3 to 10^7 classes.

Every case trains as the engine does: bf16 autocast, model and loss compiled together with static shapes, fused AdamW,
images on the device. Cases run in the order of their weight until the time is up; the rest is said not to have run.

    MFU = images/s x FLOP of an image / peak,    FLOP of an image = 2 per multiply-add of all matrix products and
    convolutions, forward and backward, counted by torch's FlopCounterMode on the model with its head
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.bench import Check, Result, Rows, Table, machine
from lsc_engine.data.batches import Batches
from lsc_engine.data.source import TensorSource
from lsc_engine.heads.base import Head
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.lsc import LscHead
from lsc_engine.models.backbones.encoder import Encoder
from lsc_engine.models.backbones.vit import build_timm
from lsc_engine.training.devices import pick_device
from lsc_engine.training.step import make_loss, make_optimizer
from lsc_engine.vectors import system
from lsc_engine.vectors.order import Order

from .measure import megabytes, wait

# Dense bf16 peak in FLOP/s, by what the GPU's name contains.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}
DIM = 384
# Images a second to reach with ViT-S/16 at 224 px on one H100 or H200.
VIT_BAR = 8_000


@dataclass(frozen=True)
class Case:
    """One training: backbone, pixels, method, classes, batch, and how the step runs."""

    model: str
    size: int
    method: str
    classes: int
    batch: int
    mode: str = "compiled"
    loading: bool = False

    @property
    def label(self) -> str:
        """Backbone and pixels."""
        return f"{self.model} {self.size} px"


def cases() -> list[Case]:
    """The most telling first."""
    vit, small, encoder = ("vit-s", 224, 512), ("vit-s", 32, 1024), ("encoder", 32, 1024)

    def case(kind: tuple[str, int, int], method: str, classes: int, **more: Any) -> Case:
        return Case(kind[0], kind[1], method, classes, kind[2], **more)

    return [
        case(vit, "lsc", 1_000),
        case(vit, "ce", 1_000),
        case(vit, "timm", 1_000),
        case(encoder, "lsc", 1_000),
        case(encoder, "lsc", 1_000, mode="graphs"),
        case(encoder, "lsc", 10_000_000),
        case(encoder, "ce", 1_000),
        case(encoder, "ce", 1_000_000),
        case(encoder, "lsc", 1_000, loading=True),
        case(vit, "lsc", 10_000_000),
        case(small, "lsc", 1_000),
        case(small, "ce", 1_000),
        case(vit, "ce", 1_000_000),
        case(encoder, "ce", 100_000),
        case(encoder, "ce", 10_000_000),
        case(encoder, "lsc", 1_000, mode="eager"),
        case(vit, "lsc", 1_000, mode="eager"),
        case(small, "lsc", 10_000_000),
        case(small, "ce", 1_000_000),
    ]


TINY = [
    Case("timm:vit_tiny_patch16_224", 32, "timm", 1_000, 2, "eager"),
    Case("encoder", 8, "lsc", 1_000, 8, "eager"),
    Case("encoder", 8, "ce", 2_000, 8, "eager", True),
]


def run(*, quick: bool = False, minutes: float = 7.5, device: str = "auto", only: str = "") -> Result:
    """`minutes`: no case begins after them; `only`: cases whose label contains it, such as "vit-s 224"."""
    where = pick_device(device)
    if where.type == "cpu" and not quick:
        return _not_here()
    chosen = [case for case in (TINY if quick else cases()) if only in case.label]
    began, rows = time.perf_counter(), Rows()
    for case in chosen:
        if time.perf_counter() - began > 60 * minutes:
            rows.append(_row(case) | {"images/s": "not run: time is up"})
            continue
        try:
            rows.append(_measure(case, where, 0.05 if quick else 2.0))
        except torch.OutOfMemoryError:
            rows.append(_row(case) | {"images/s": "does not fit"})
        gc.collect()
        if case.mode != "eager":
            torch.compiler.reset()
        if where.type == "cuda":
            torch.cuda.empty_cache()
    peak = _measured_peak(where, 256 if quick else 8192)
    notes = [
        __doc__.partition("\n\n    MFU")[2].join(("MFU", "")).strip().replace("\n    ", " ") + ".",
        f"The same GPU reaches {peak / 1e12:.0f} TFLOP/s in a bf16 product of two square matrices of 8 192 rows. "
        "timm: its model with a class layer, its optimizer factory and cross-entropy, compiled as its training script "
        "does, on the same images; the script itself also loads images. `with loading`: batches drawn from bytes on "
        "the device.",
    ]
    return Result("gpu", _checks(rows, quick), [Table("Training", rows)], notes, machine=machine("timm"))


def _not_here() -> Result:
    checks = [
        Check("ViT-S/16, 224 px, bf16, LSC", "-", f"at least {VIT_BAR:,} images/s", None),
        Check("ViT-S/16, 224 px, bf16, CE with 1 000 classes", "-", f"at least {VIT_BAR:,} images/s", None),
        Check("LSC at 10^7 classes against 10^3", "-", "at most 2 % slower, 10 MB more", None),
    ]
    return Result("gpu", checks, [], ["There is no CUDA GPU here. Run the same command where there is one."])


def _checks(rows: list[dict[str, Any]], quick: bool) -> list[Check]:
    def find(**wanted: Any) -> dict[str, Any] | None:
        named = (row for row in rows if all(row[key] == value for key, value in wanted.items()))
        return next((row for row in named if isinstance(row["images/s"], float)), None)

    checks = []
    for method, what in (("lsc", "LSC"), ("ce", "CE with 1 000 classes")):
        row = find(model="vit-s 224 px", method=method, classes=1_000, step="compiled")
        rate = row["images/s"] if row else 0.0
        figure = f"{rate:,.0f} images/s, MFU {row['MFU']}" if row else "-"
        checks.append(
            Check(f"ViT-S/16, 224 px, bf16, {what}", figure, f"at least {VIT_BAR:,} images/s",
                  None if row is None or quick else rate >= VIT_BAR)
        )  # fmt: skip
    for model in ("encoder 32 px", "vit-s 224 px"):
        few = find(model=model, method="lsc", classes=1_000, step="compiled")
        many = find(model=model, method="lsc", classes=10_000_000, step="compiled")
        if few and many:
            slower, more = few["images/s"] / many["images/s"] - 1, many["bytes"] - few["bytes"]
            checks.append(
                Check(f"{model}: LSC at 10^7 classes against 10^3", f"{100 * slower:+.1f} %, {megabytes(more)} more",
                      "at most 2 % slower, 10 MB more", slower <= 0.02 and more <= 10e6)
            )  # fmt: skip
    held, loaded = (
        find(model="encoder 32 px", method="lsc", classes=1_000, step=step) for step in ("compiled", "with loading")
    )
    if held and loaded:
        share = loaded["images/s"] / held["images/s"]
        checks.append(
            Check("encoder with loading, of model only", f"{100 * share:.1f} %", "at least 95 %", share >= 0.95)
        )
    for row in rows:
        row.pop("bytes", None)
    return checks


def _row(case: Case) -> dict[str, Any]:
    return {
        "model": case.label, "method": case.method, "classes": case.classes, "batch": case.batch,
        "step": "with loading" if case.loading else case.mode, "images/s": "-", "memory": "-", "MFU": "-",
        "first step": "-",
    }  # fmt: skip


def _measure(case: Case, device: torch.device, seconds: float) -> dict[str, Any]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step, flops = build(case, device)
    began = time.perf_counter()
    step()
    wait()
    first = time.perf_counter() - began
    block = 5 if device.type == "cuda" else 1
    for _ in range(block - 1):
        step()
    wait()
    rates = []
    # Several stretches: the median is reported.
    for _ in range(3):
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / 3:
            for _ in range(block):
                step()
            wait()
            done += block
        rates.append(done * case.batch / (time.perf_counter() - began))
    rate = sorted(rates)[1]
    held = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    peak = next((value for name, value in PEAKS.items() if name in _name(device)), None)
    part = f"{100 * rate * flops / peak:.1f} % of {peak / 1e12:.0f} TFLOP/s" if peak else f"{flops / 1e9:.3g} GFLOP"
    return _row(case) | {
        "images/s": rate, "memory": megabytes(held) if held else "-", "bytes": held,
        "MFU": part, "first step": f"{first:.1f} s",
    }  # fmt: skip


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def build(case: Case, device: torch.device) -> tuple[Callable[[], Tensor], float]:
    """A whole training step as a call that returns the loss, and the FLOP of one image in it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, head = _model(case), _head(case)
        model, head = model.to(device), head.to(device)
    images, labels = next(_images(case, device))
    with torch.no_grad():
        target = head.training_target(labels)
    dtype = torch.bfloat16 if device.type == "cuda" else None
    parameters = [*model.parameters(), *head.parameters()]
    if case.method == "timm":
        loss, optimizer = _timm_recipe(model, head, parameters, dtype, device, case.mode)
    else:
        graphs = case.mode == "graphs"
        loss = make_loss(model, head, dtype=dtype, device=device, compiled=case.mode == "compiled", graphs=graphs)
        optimizer = make_optimizer("adamw", parameters, lr=1e-4, weight_decay=1e-5, momentum=0.0)
    flops = _flops(case)
    feed: Iterator[tuple[Tensor, Tensor]] = itertools.repeat((images, target))
    if case.loading:
        feed = ((batch.images, batch.target) for batch in _batches(case, device, head))

    def step() -> Tensor:
        pixels, goal = next(feed)
        value = loss(pixels, goal)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value.detach()

    return step, flops


def _model(case: Case) -> nn.Module:
    if case.model == "encoder":
        return Encoder().build(3, case.size, DIM, 1.0)
    return build_timm(case.model.removeprefix("timm:"), 3, case.size, DIM, {})


def _head(case: Case) -> Head:
    if case.method == "lsc":
        # V22 has vectors for every number of classes: one system, so that only the number differs.
        made = system("V22", DIM)
        return LscHead(made, Order.make("shuffled", made, 0), case.classes)
    return CrossEntropyHead(DIM, case.classes, None, 0)


def _images(case: Case, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shape = (case.batch, 3, case.size, case.size)
    images = torch.randn(shape, generator=generator).to(device)
    if case.model == "encoder":
        images = images.to(memory_format=torch.channels_last)
    yield images, torch.randint(case.classes, (case.batch,), generator=generator).to(device)


def _batches(case: Case, device: torch.device, head: Head) -> Iterator[Any]:
    # Whatever the classes: an epoch of a single batch would make numbers and targets anew at every step.
    count = 50_000
    pixels = torch.randint(0, 256, (count, 3, case.size, case.size), dtype=torch.uint8)
    source = TensorSource(pixels, None, classes=count, device=device)
    yield from Batches(
        source, case.batch, 0, device=device, target=lambda x: head.training_target(x % case.classes)
    ).from_step(0)


def _timm_recipe(
    model: nn.Module, head: Head, parameters: list[nn.Parameter], dtype: torch.dtype | None, device: torch.device,
    mode: str,
) -> tuple[Callable[[Tensor, Tensor], Tensor], torch.optim.Optimizer]:  # fmt: skip
    """The step of timm's training script with --amp --amp-dtype bfloat16 --torchcompile --opt adamw."""
    from timm.optim import create_optimizer_v2

    whole: nn.Module = nn.Sequential(model, head.layer)  # type: ignore[arg-type]
    criterion = nn.CrossEntropyLoss()
    optimizer = create_optimizer_v2(whole, opt="adamw", lr=1e-4, weight_decay=1e-5)
    network = whole if mode == "eager" else torch.compile(whole, backend="inductor")

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            value: Tensor = criterion(network(images), labels)
        return value

    return loss, optimizer


def _flops(case: Case) -> float:
    """FLOP of one image's forward and backward pass, class layer included, on shapes alone."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = _model(case)
        layer = nn.Linear(DIM, case.classes) if case.method != "lsc" else nn.Identity()
        images = torch.empty(2, 3, case.size, case.size)
    counter = FlopCounterMode(display=False)
    with counter:
        layer(model(images)).sum().backward()
    return counter.get_total_flops() / 2


def _measured_peak(device: torch.device, rows: int) -> float:
    """FLOP/s of a bf16 product of two square matrices."""
    left = torch.randn(rows, rows, device=device, dtype=torch.bfloat16)
    for _ in range(2):
        left @ left
    wait()
    began = time.perf_counter()
    for _ in range(10):
        left @ left
    wait()
    return 10 * 2 * rows**3 / (time.perf_counter() - began)
