"""Loop: our training step against a loop written by hand, with the same model, images, order and optimizer.

Our loop is the one that `lsc-engine run` uses, run folder, log lines and requests included. After every stretch of
steps its batches let the bare one do as many: in turns, in one thread. Cross-entropy on the CPU must end with equal
weights bit by bit. The bare LSC loop gathers rows of a dense table, as Algorithm 1 of arXiv:2510.04090 does.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.bench import Check, Result, Rows, Table
from lsc_engine.common.errors import LscError
from lsc_engine.config.derived import derive
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.context import RunContext
from lsc_engine.training.signals import Signals
from lsc_engine.training.trainer import Trainer

from .measure import Timed, demo_images, milliseconds, same, wait

# name -> (preset, variant, settings, steps of a stretch)
CASES: dict[str, tuple[str, str, tuple[str, ...], int]] = {
    "digits, batch 32, CE": ("demo", "CE-384", (), 60),
    "digits, batch 32, LSC": ("demo", "V21-384", (), 60),
    "32 px, batch 128, CE": (
        "demo", "CE-384", ("data.image_size=32", "train.batch_size=128", "model.width=0.5"), 3,
    ),
    "32 px, batch 128, LSC": (
        "demo", "V21-384", ("data.image_size=32", "train.batch_size=128", "model.width=0.5"), 3,
    ),
}  # fmt: skip


def run(*, quick: bool = False, rounds: int = 41, device: str = "cpu", only: str = "") -> Result:
    """`rounds` stretches of each side; `only`: the cases whose name contains it."""
    rows = Rows()
    for name, (preset, variant, sets, stretch) in CASES.items():
        if only in name and not (quick and "32 px" in name):
            rows.append(_case(name, preset, variant, sets, 4 if quick else stretch, 2 if quick else rounds, device))
    # On a CPU that others use too, a step waits for them on either side: what counts is the processor time.
    key = "in processor time" if device == "cpu" else "ours / bare"
    worst = max(row[key] for row in rows)
    limit = 1.02 if device == "cpu" else 1.0
    bar = "at most 2 % slower" if device == "cpu" else "faster"
    what = "our step against the bare loop" + (", processor time" if device == "cpu" else "")
    figure = f"{100 * (worst - 1):+.1f} % at worst"
    checks = [Check(what, figure, bar, None if quick else worst <= limit)]
    notes = [
        *(["Ours makes its images anew, as scikit-learn's are not installed."] if demo_images() else []),
        "Same initial weights, images, order of images and fused AdamW. For cross-entropy on the CPU all final weights "
        "are equal bit by bit; else, where ours is compiled or computes the loss in another way, the loss after the "
        "first stretch, within 0.01. Ours includes metrics, status and "
        "heartbeat; evaluation and checkpoints are left out on both sides.",
    ]
    return Result("loop", checks, [Table("A training step", rows)], notes)


def _case(
    name: str, preset: str, variant: str, sets: tuple[str, ...], stretch: int, rounds: int, device: str
) -> dict[str, Any]:
    steps = stretch * (rounds + 1) + 1
    fixed = (f'train.duration="{steps} steps"', f'eval.every="{steps} steps"', "eval.images=32", *demo_images(), *sets)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as scratch:
        (plan,) = plan_study(preset, name="loop", variants=(variant,), seeds=(0,), sets=fixed).runs
        derived = derive(plan.config)
        folder = create_run(Path(scratch) / plan.id, plan.config, {"command": ["lsc-engine", "bench", "loop"]})
        try:
            with RunWriter.open(folder, device=device, total_steps=steps, echo=False) as writer:
                trainer = Trainer(RunContext(plan.config, derived, writer, Signals(), torch.device(device)))
                # A compiled step rounds in another way.
                exact = trainer.config.target.method == "ce" and trainer.run.device.type == "cpu"
                timed, pairs = _race(trainer, _Bare(trainer), stretch, rounds, exact)
        finally:
            torch.set_num_threads(threads)
    for ours, bare in pairs:
        same(f"{name}: {'weights' if exact else 'loss'}", ours, bare, tolerance=0.0 if exact else 1e-2)
    return {
        "case": name, "ours": milliseconds(timed.median("ours") / stretch),
        "bare": milliseconds(timed.median("bare") / stretch), "ours / bare": timed.ratio("ours", "bare"),
        "in processor time": timed.ratio("ours, processor", "bare, processor"),
    }  # fmt: skip


class _Bare:
    """The loop a user writes: whole data set and labels as tensors, an order per epoch, no run folder."""

    def __init__(self, trainer: Trainer) -> None:
        self.model, self.head = copy.deepcopy(trainer.model), copy.deepcopy(trainer.head)
        self.dtype, self.device, config = trainer.run.dtype, trainer.run.device, trainer.config
        source = trainer.source
        everything = torch.arange(source.images, device=source.device)
        self.pixels, self.labels = source.fetch(everything), source.labels(everything)
        self.batch, self.per_epoch = trainer.config.train.batch_size, trainer.steps_per_epoch
        # The order of our run, so that weights can be compared.
        self.orders = [
            trainer.batches.order(epoch)(everything) for epoch in range(trainer.total_steps // self.per_epoch + 1)
        ]
        self.table: Tensor | None = None
        if config.target.method == "lsc":
            head: Any = trainer.head
            self.table = head.system.vectors(head.order.index(torch.arange(source.classes))).to(self.device)
        parameters = [*self.model.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=config.optimizer.lr, weight_decay=config.optimizer.weight_decay, fused=True
        )
        self.model.train()
        self.step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)

    def run(self, steps: int) -> None:
        """This many training steps."""
        for _ in range(steps):
            epoch, at = divmod(self.step, self.per_epoch)
            index = self.orders[epoch][at * self.batch : (at + 1) * self.batch]
            images = self.pixels[index].float().mul_(1.0 / 127.5).sub_(1.0)
            labels = self.labels[index]
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                z = self.model(images)
                if self.table is None:
                    logits = self.head.layer(z)  # type: ignore[operator]
                    loss = nn.functional.cross_entropy(logits.float(), labels)
                else:
                    loss = 1 - nn.functional.cosine_similarity(z.float(), self.table[labels]).mean()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.loss_sum += loss.detach()
            self.step += 1


class _Paced:
    """The batches of a trainer, with a call of `pause` before every stretch of them."""

    def __init__(self, batches: Any, stretch: int, pause: Callable[[], None]) -> None:
        self._batches, self._stretch, self._pause = batches, stretch, pause

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def from_step(self, step: int) -> Iterator[Any]:
        """As `Batches.from_step`."""
        for number, batch in enumerate(self._batches.from_step(step)):
            if number % self._stretch == 0:
                self._pause()
            yield batch


def _race(
    trainer: Trainer, bare: _Bare, stretch: int, rounds: int, exact: bool
) -> tuple[Timed, list[tuple[Tensor, Tensor]]]:
    """Stretches of our loop and of the bare one in turns, and what must be equal: weights for CE, the loss for LSC."""
    sides = ("ours", "bare", "ours, processor", "bare, processor")
    taken: dict[str, list[float]] = {side: [] for side in sides}
    pairs: list[tuple[Tensor, Tensor]] = []
    number, began = 0, _now()

    def pause() -> None:
        nonlocal number, began, pairs
        wait()
        times = [began, _now()]
        if 0 < number <= rounds + 1:
            bare.run(stretch)
            wait()
            times.append(_now())
            # The first stretch warms up.
            if number > 1:
                for side, before, after in (("ours", times[0], times[1]), ("bare", times[1], times[2])):
                    taken[side].append(after[0] - before[0])
                    taken[f"{side}, processor"].append(after[1] - before[1])
            # Two ways to compute a cosine round differently, and training amplifies it: compared early on.
            if exact and number == rounds + 1:
                pairs = _weights(trainer, bare)
            elif number == 1 and not exact:
                pairs = _losses(trainer, bare)
        number += 1
        began = _now()

    trainer.batches = _Paced(trainer.batches, stretch, pause)  # type: ignore[assignment]
    state = trainer.train()
    if state != "finished":
        raise LscError(f"our loop ended as {state}")
    return Timed(taken), pairs


def _now() -> tuple[float, float]:
    """Time, and processor time of all threads of this process: only one of the sides runs at a time."""
    return time.perf_counter(), time.process_time()


def _weights(trainer: Trainer, bare: _Bare) -> list[tuple[Tensor, Tensor]]:
    own = [*trainer.model.state_dict().values(), *trainer.head.state_dict().values()]
    other = [*bare.model.state_dict().values(), *bare.head.state_dict().values()]
    return [(a.clone(), b.clone()) for a, b in zip(own, other, strict=True)]


@torch.no_grad()
def _losses(trainer: Trainer, bare: _Bare) -> list[tuple[Tensor, Tensor]]:
    """The loss of both networks on some images, by the same head."""
    images = bare.pixels[:64].float().mul_(1.0 / 127.5).sub_(1.0)
    target = trainer.head.target(bare.labels[:64])
    found = []
    for model in (trainer.model, bare.model):
        model.eval()
        found.append(trainer.head.loss(model(images), target))
        model.train()
    return [(found[0], found[1])]
