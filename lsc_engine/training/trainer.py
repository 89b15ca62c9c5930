"""All that one run trains with, built from its configuration: data, model, head, optimizer, clock, and their state."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lsc_engine.common.safe_io import mode_by_umask
from lsc_engine.config import Derived, RunConfig
from lsc_engine.config.schema import Lsc, Sgd
from lsc_engine.config.tuning import lower_is_better
from lsc_engine.data import Batch, Batches, WorkerLostError, eval_batches, images_from_class
from lsc_engine.errors import DivergedError, LscError, UsageError
from lsc_engine.heads.base import Head
from lsc_engine.heads.build import build_head
from lsc_engine.models.build import build_model
from lsc_engine.registry import LOSSES, MODELS
from lsc_engine.runs.folder.layout import CLASS_MEANS
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.training import checkpointing
from lsc_engine.training.clock import Clock
from lsc_engine.training.dependencies import RunDependencies, Start
from lsc_engine.training.devices import Neighbours, autocast_dtype
from lsc_engine.training.etf_freezing import EtfFreezer
from lsc_engine.training.evaluate import class_means
from lsc_engine.training.evaluator import Measure
from lsc_engine.training.fingerprint import differing, identity, may_differ
from lsc_engine.training.microbatch import MicroBatches, out_of_memory
from lsc_engine.training.run_images import check_images, keep_images, open_images
from lsc_engine.training.saving import SaveTimes
from lsc_engine.training.schedule import derive_seed
from lsc_engine.training.signals import Interrupted, Signals
from lsc_engine.training.step import (
    CompileFailedError,
    graphs_compiled,
    has_dropout,
    keep_only,
    make_loss,
    make_optimizer,
)

# Workers that die again without a batch, or an evaluation, between are killed by something that stays.
TRIES = 3
# Seconds to wait for room for the last checkpoint: when asked to stop, and at the end of the training.
STOP_PATIENCE, END_PATIENCE = 10.0, 300.0


class Display(Protocol):
    """Whoever watches a run from the same process."""

    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None:
        """Where the run `name` is, with its newest metrics and the seconds left."""


class Session:
    """One run's objects. The loop reads it; `resume`, `evaluate`, `save` and `finish` are its longer verbs."""

    def __init__(
        self, config: RunConfig, derived: Derived, folder: Path, *, device: torch.device, data_dir: Path | None,
        say: Callable[[str], None], taken: RunDependencies | None = None, display: Display | None = None,
        like: Path | None = None, sample_load: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.config, self.derived, self.folder, self.device, self.like = config, derived, folder, device, like
        self.dtype = autocast_dtype(config.train.precision, device)
        self.batch_size = config.train.batch_size
        self.steps_per_epoch, self.total_steps = derived.steps_per_epoch, derived.total_steps
        self.log_every, self.eval_every = derived.log_every, derived.eval_every
        self.source, self.validation = open_images(config, data_dir, device, say)
        self.taken = (taken or RunDependencies()).aligned(self.source.class_names)
        self._build()
        self._prepare_steps()
        self.identity = identity(config, self.head, self.source)
        self.numerics: list[dict[str, Any]] = []
        self._graphs_before, self._graphs_told = graphs_compiled(), -1
        self.clock = Clock(device)
        self.first_step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.loss_count = 0
        # The newest value of every metric of train.until.
        self._until = dict.fromkeys(config.train.until or {}, math.nan)
        self.best: float | None = None
        self.best_step: int | None = None
        self._score: float | None = None
        self._saved_step: int | None = None
        self.save_times = SaveTimes(derived, folder)
        self._seconds_before = 0.0
        # Owed: an evaluation that a stop cut short, and that of weights taken over, before the first step.
        self.owes_evaluation = False
        self.remaining: float | None = None
        self._sample_load = sample_load
        self._display, self._shown = display, dict[str, float]()
        self._neighbours = Neighbours(device)

    def _build(self) -> None:
        """Backbone, head, and what measures them."""
        config, derived, taken = self.config, self.derived, self.taken
        self.model = build_model(
            config.model, channels=self.source.channels, size=self.source.size, dim=derived.n,
            seed=derive_seed(config.seed, "model"),
        ).to(self.device)  # fmt: skip
        width = derived.n or self._width()
        self.head: Head = build_head(
            config, classes=derived.classes, dim=width, seed=derive_seed(config.seed, "head"),
            table=taken.table, means=taken.means, teacher=taken.teacher,
        ).to(self.device)  # fmt: skip
        self.fixing = EtfFreezer(config, torch.nn.ModuleDict({"model": self.model, "head": self.head}))
        parts = {"model": self.model, "head": self.head}
        self.parameters = {name: sum(p.numel() for p in m.parameters() if p.requires_grad) for name, m in parts.items()}
        self.measure = Measure(
            config, derived, self.folder, self.model, self.head, self.source, self.validation, width=width,
            device=self.device, dtype=self.dtype, known=taken.start.classes if taken.start else None,
        )  # fmt: skip

    def _prepare_steps(self) -> None:
        """Optimizer, schedule, the gradient of a batch, and the batches."""
        config, o = self.config, self.config.optimizer
        parameters = [*self.model.parameters(), *self.head.parameters()]
        self.optimizer = make_optimizer(
            o.name, parameters, lr=o.lr, weight_decay=o.weight_decay, momentum=o.momentum if isinstance(o, Sgd) else 0.0
        )
        self.schedule: dict[str, Any] = {
            "base": o.lr, "schedule": o.schedule, "total": self.total_steps, "warmup": self.derived.warmup_steps,
            "milestones": self.derived.milestones, "gamma": o.gamma or 0.1,
        }  # fmt: skip
        # Why the step is not compiled, None where it is.
        self.eager: str | None = None
        loss = self._make_loss()
        self.micro = MicroBatches(loss, self.model, self.head, batch_size=self.batch_size, device=self.device)
        self.stochastic = has_dropout(self.model)
        self.batches = Batches(
            self.source, self.batch_size, config.seed, device=self.device, augment=config.data.augment,
            augment_per=config.data.augment_per, views=self.head.two_views, target=self.head.training_target,
            subset=images_from_class(self.source, config.data.first_class),
        )  # fmt: skip
        if self.batches.images != self.derived.images:
            raise LscError(f"{self.batches.images} images to train on were found, {self.derived.images} were counted")

    def _make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        c, device = self.config, self.device
        choice = c.train.compile
        if self.eager is None and (choice == "off" or (choice == "auto" and device.type != "cuda")):
            self.eager = f'train.compile = "{choice}"' + (f" on {device.type}" if choice == "auto" else "")
        # A model or loss that is not ours may leave what can be compiled.
        ours = c.model.name in MODELS.built_in and (not isinstance(c.target, Lsc) or c.target.loss in LOSSES.built_in)
        return make_loss(
            self.model, self.head, dtype=self.dtype, device=device, compiled=self.eager is None,
            graphs=self.eager is None and choice == "graphs" and device.type == "cuda", whole=ours,
        )  # fmt: skip

    def _width(self) -> int:
        with torch.no_grad():
            self.model.eval()
            shape = (2, self.source.channels, self.source.size, self.source.size)
            width = self.model(torch.zeros(shape, device=self.device)).shape[1]
            self.model.train()
        return int(width)

    # ------------------------------------------------------------------------------------------- Loss and reports
    def backward(self, writer: RunWriter, batch: Batch[Tensor], step: int) -> Tensor:
        """Leave the gradients of a step's batch in the parameters; the loss, a detached scalar. CompileFailedError,
        with all as it was before, where the step cannot be compiled."""

        def reseed() -> None:
            if self.stochastic:
                torch.manual_seed(derive_seed(self.config.seed, "dropout", step))

        def changed(sentence: str) -> None:
            why = "batch statistics are of a micro-batch" if self.micro.has_statistics else "sums are in other order"
            writer.message(f"step {step}: {sentence}; numerics change: {why}")
            self._numerics_change(writer, step, why)
            writer.status(message=sentence)

        loss = self.micro.backward(batch.images, batch.target, reseed, changed)
        if (graphs := graphs_compiled() - self._graphs_before) != self._graphs_told:
            self._graphs_told = graphs
            self._record_compiling(writer, graphs)
        return loss

    def go_on_uncompiled(self, writer: RunWriter, step: int, error: CompileFailedError, signals: Signals) -> None:
        """After a step that could not be compiled, the first or, where layers are fixed, a later one: train without.
        Raises `error` where a stop ended the compiler, as a Ctrl-C does."""
        if signals.stop is not None:
            if step > self.first_step:
                self.save(writer, step)
            raise error
        self.eager, self._graphs_told = str(error), -1
        self.micro.loss = self._make_loss()
        writer.message(f"step {step}: {error}; the run goes on without it, slower")
        writer.status(message=f"not compiled: {error}")
        if step:
            self._numerics_change(writer, step, "compiled up to here")

    def _numerics_change(self, writer: RunWriter, step: int, why: str) -> None:
        self.numerics.append({"step": step, "micro_batch": self.micro.size, "batch_size": self.batch_size, "why": why})
        writer.record(numerics=self.numerics)

    def _record_compiling(self, writer: RunWriter, graphs: int) -> None:
        """In source.json: `compiled`, whether every step of every attempt was; `graphs` of this attempt; and
        `eager`, why it was not."""
        if self.eager is None and not graphs:
            self.eager = "torch.compile found nothing to compile"
        why = self.eager or (writer.recorded("eager") if self.first_step else None)
        writer.record(compiled=why is None, graphs=graphs, eager=why)

    def take_loss(self) -> float:
        """The mean loss of the steps since the last call; the one host sync between log steps."""
        mean = (self.loss_sum / max(1, self.loss_count)).item()
        self.loss_sum.zero_()
        self.loss_count = 0
        return float(mean)

    def reached(self) -> bool:
        """Whether every metric of train.until is at or beyond its level, by its newest value."""
        levels = self.config.train.until or {}
        return bool(levels) and all(
            value <= levels[name] if lower_is_better(name) else value >= levels[name]
            for name, value in self._until.items()
        )

    def report(self, writer: RunWriter, step: int, values: dict[str, float]) -> None:
        """One line in log.txt, the seconds left, and the display."""
        self._until |= {name: value for name, value in values.items() if name in self._until}
        self._sample_load()
        done, seconds = step - self.first_step - 1, self.clock.seconds - self._seconds_before
        if done > 0 and seconds > 0:
            self.remaining = seconds / done * (self.total_steps - step)
        parts = [f"epoch {step / self.steps_per_epoch:.2f}", f"step {step} of {self.total_steps}"]
        parts += [_told(name, value) for name, value in values.items()]
        writer.message("  ".join(parts))
        if self._display is not None:
            self._shown |= values
            self._display.update(self.config.run_id, step, self.total_steps, self._shown, self.remaining)

        if self._neighbours.appeared():
            writer.record(shared_gpu=True)
            writer.message("another process is on this GPU: seconds of this run are not compared")

    # ------------------------------------------------------------------------------------------------- Evaluation
    def evaluate(self, writer: RunWriter, step: int, signals: Signals) -> None:
        """Write the metrics of evaluation after `step`. A stop cuts it short and leaves it owed; memory that runs out
        halves its batches."""
        self.owes_evaluation = True
        with self.clock.paused():
            try:
                values = self._measured(writer, step, signals)
            except Interrupted:
                return
            except LscError:
                self.save(writer, step)
                raise
        self.owes_evaluation = False
        self._score = self.measure.score(values)
        self._fix_what_is_due(writer, step, values)
        values |= self.fixing.metrics()
        writer.metrics(step, step / self.steps_per_epoch, self.clock.seconds, values)
        with self.clock.paused():
            self.measure.watch.write(writer, step, step / self.steps_per_epoch)
        self.report(writer, step, values)

    def _fix_what_is_due(self, writer: RunWriter, step: int, values: dict[str, float]) -> None:
        """Adaptive layers: fixed ones leave the optimizer, and a compiled step is compiled anew."""
        said = self.fixing.update(values)
        if said:
            keep_only(self.optimizer, [*self.model.parameters(), *self.head.parameters()])
            self.micro.loss = self._make_loss()
            writer.message(f"step {step}: {said}")

    def _go_on(self, writer: RunWriter, step: int, signals: Signals) -> None:
        """A sign of life between two batches; Interrupted when an end was asked for."""
        signals.check()
        writer.heartbeat(step, self.remaining)

    def _measured(self, writer: RunWriter, step: int, signals: Signals) -> dict[str, float]:
        """The metrics, measured again where workers die or memory runs out."""
        lost = 0
        while True:
            try:
                return self.measure(lambda: self._go_on(writer, step, signals))
            except WorkerLostError as error:
                lost += 1
                if lost == TRIES:
                    raise
                writer.message(f"evaluation after step {step}: {error}; it begins again")
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or self.measure.batch == 1:
                    raise
                self.measure.batch //= 2
                writer.message(
                    f"evaluation after step {step}: out of memory, {self.measure.batch} images at a time from here on"
                )

    # ------------------------------------------------------------------------------------------------ Checkpoints
    def save(self, writer: RunWriter, step: int) -> bool:
        """Write a checkpoint. A disk that refuses is told in the status, tried again within a minute, and never ends
        training: False. DivergedError where loss or weights are not finite: no checkpoint ever holds such."""
        if self._saved_step == step:
            return True
        tensors = checkpointing.weights(self.model, self.head)
        broken = [name for name, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()]
        if broken or not math.isfinite(self.loss_sum.item()):
            what = f"{broken[0]} holds values" if broken else "the loss is a value"
            raise DivergedError(f"{what} that are not finite at step {step}; {self.last_good()}")
        started = self.save_times.begin()
        # Checkpoints are judged among themselves, each by the evaluation before it.
        best, best_step = self.best, self.best_step
        if self._score is not None and (best is None or self._score > best):
            best, best_step = self._score, step
        state = {
            "optimizer": self.optimizer.state_dict(),
            "loss_sum": self.loss_sum.cpu(),
            "loss_count": self.loss_count,
            "seconds": self.clock.seconds,
            "best": best,
            "best_step": best_step,
            "identity": json.dumps(self.identity),
            "threads": torch.get_num_threads(),
            "parts": self.micro.parts,
            "numerics": json.dumps(self.numerics),
            "owes_evaluation": self.owes_evaluation,
            **self.fixing.state_dict(),
            "until": self._until,
        }
        try:
            writer.sync()
            written = checkpointing.save(self.folder, step, tensors, state, writer.check)
        except OSError as error:
            writer.trouble("checkpoint", f"checkpoint step {step}: {error.strerror or error}")
            writer.message(f"checkpoint step {step} not written: {error.strerror or error}; {self.last_good()}")
            self.save_times.refused()
            return False
        self.save_times.written()
        self.best, self.best_step, self._saved_step = best, best_step, step
        for_good = {*self.derived.checkpoint_also_at, *([] if self.best_step is None else [self.best_step])}
        writer.check()
        checkpointing.prune(self.folder, step=step, keep=self.config.checkpoint.keep, for_good=for_good)
        writer.trouble("checkpoint", None)
        took = time.monotonic() - started
        writer.message(f"checkpoint step {step} written and verified, {written.size / 1e6:.1f} MB, {took:.1f} s")
        return True

    def save_last(self, writer: RunWriter, step: int, signals: Signals) -> None:
        """Write the checkpoint that nothing comes after. Where the disk refuses, wait for room: briefly when asked to
        stop, longer at the end of the training. LscError when it stays so: the run has then not kept what it learnt."""
        began = time.monotonic()
        while not self.save(writer, step):
            waited = time.monotonic() - began
            if waited > (STOP_PATIENCE if signals.stop is not None or step < self.total_steps else END_PATIENCE):
                raise LscError(
                    f"the checkpoint of step {step} could not be written in {waited:.0f} s; {self.last_good()}"
                )
            writer.heartbeat(step, self.remaining)
            time.sleep(min(1.0, STOP_PATIENCE / 5))

    def resume(self, writer: RunWriter) -> int:
        """Continue from the newest good checkpoint: its step, or 0 where there is none."""
        found = checkpointing.load_newest(self.folder, writer.message)
        images = (self.folder, self.config, self.source, self.identity)
        check_images(*images, begun=found is not None, like=self.like)
        if found is None:
            keep_images(*images, writer)
            self.measure.watch.forget_after(0)
            if self.taken.start is not None:
                self._begin_with(self.taken.start, writer)
            self.clock.restart()
            return 0
        step, state = found.step, found.state
        changed = differing(json.loads(state["identity"]), self.identity, may_differ(self.folder, step))
        if changed:
            raise UsageError(
                f"{self.folder}: checkpoint step {step} is of another training: {'; '.join(changed)}. "
                "Set it back; or change settings by lsc-engine fork"
            )
        keep_images(*images, writer)
        checkpointing.restore(self.model, self.head, found.tensors)
        keep_only(self.optimizer, [*self.model.parameters(), *self.head.parameters()])
        self.fixing.load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_sum.copy_(state["loss_sum"])
        self.loss_count = state["loss_count"]
        self.best, self.best_step = state["best"], state["best_step"]
        self.micro.parts, self.numerics = state["parts"], json.loads(state["numerics"])
        self.owes_evaluation = state["owes_evaluation"]
        self._until |= state.get("until", {})
        if self.device.type == "cpu" and state["threads"] != torch.get_num_threads():
            torch.set_num_threads(state["threads"])
            writer.message(f"{state['threads']} CPU threads as before, so that the run goes on bit by bit")
        self.clock = Clock(self.device, state["seconds"])
        self._seconds_before, self.first_step, self._saved_step = state["seconds"], step, step
        self.measure.watch.forget_after(step)
        writer.message(f"resumed at step {step} of {self.total_steps}")
        return step

    def _begin_with(self, start: Start, writer: RunWriter) -> None:
        """Take over the weights of another run. They are evaluated before the first step: curves go on from there."""
        found = start.load()
        new = checkpointing.restore_backbone(self.model, found.tensors)
        layer = {name.removeprefix("head."): t for name, t in found.tensors.items() if name.startswith("head.")}
        taken = self.head.start_from(layer, start.rows)
        words = [f"begins with the weights of {start.id} at step {found.step}"]
        words += [f"new: {', '.join(new)}"] if new else []
        words += [f"class layer: {', '.join(taken)}"] if taken else []
        if start.rows is not None:
            words += ["classes have other numbers than there: rows of a class layer go by name, centres by number"]
        writer.message("; ".join(words))
        writer.record(start={"id": start.id, "step": found.step, "sha256": found.sha256, "classes": start.classes})
        self.owes_evaluation = True

    def last_good(self) -> str:
        """A clause that names the newest good checkpoint."""
        if self._saved_step is None:
            return "there is no checkpoint yet"
        return f"last good checkpoint step {self._saved_step}"

    # -------------------------------------------------------------------------------------------------------- End
    def finish(self, writer: RunWriter, signals: Signals) -> None:
        """What is made once, after the last step: class means, where asked for. Interrupted by a stop."""
        if not self.config.eval.class_means:
            return
        from safetensors.torch import save_file

        def batches() -> Iterator[Batch[None]]:
            for batch in eval_batches(self.source, torch.arange(self.source.images), self.measure.batch):
                self._go_on(writer, self.total_steps, signals)
                yield batch

        means = class_means(self.model, batches(), self.derived.classes, device=self.device, dtype=self.dtype)
        if not torch.isfinite(means).all():
            raise LscError("class means are not finite")
        writer.check()
        part = self.folder / f"{CLASS_MEANS}.part"
        save_file({"class_means": means.cpu()}, part)
        mode_by_umask(part)
        writer.check()
        part.replace(self.folder / CLASS_MEANS)
        writer.message(f"class means of {self.derived.classes} classes written")


def _told(name: str, value: float) -> str:
    """A metric as the log tells it: "loss 0.1401", "val/accuracy 93.2%", "21 388 img/s"."""
    if name == "speed/images_per_second":
        return f"{value:,.0f} img/s".replace(",", " ")
    if "accuracy" in name or "inside" in name or "data_wait" in name:
        return f"{name} {100 * value:.1f}%"
    return f"{name.removeprefix('train/') if name == 'train/loss' else name} {value:.4g}"
