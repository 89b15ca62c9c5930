"""The training of one run: from its first step or its newest good checkpoint to its last step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.common.errors import DivergedError, LscError, UsageError
from lsc_engine.common.formatting import grouped
from lsc_engine.common.safe_io import mode_by_umask
from lsc_engine.config.derived import standardized
from lsc_engine.config.schema import Lsc, Sgd
from lsc_engine.config.tuning import lower_is_better
from lsc_engine.data.batches import Batch, Batches, images_from_class
from lsc_engine.data.stream import WorkerLostError
from lsc_engine.heads.build import build_head
from lsc_engine.models.build import build_model, embedding_width
from lsc_engine.registry import LOSSES, MODELS
from lsc_engine.runs.folder.layout import CLASS_MEANS
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.runs.read.run import open_run
from lsc_engine.training import checkpointing, step, vector_choice
from lsc_engine.training.checkpointing import Checkpointer
from lsc_engine.training.context import MOST_WORKER_FAILURES, RunContext
from lsc_engine.training.dependencies import InitialWeights
from lsc_engine.training.devices import cpu_threads, operations
from lsc_engine.training.etf_freezing import EtfFreezer
from lsc_engine.training.evaluator import Evaluator
from lsc_engine.training.mesh import PartedGradient, PeerLostError
from lsc_engine.training.run_images import check_images, fingerprint, fingerprint_diff, open_images, record_images
from lsc_engine.training.schedule import derive_seed, is_time, learning_rate
from lsc_engine.training.signals import Interrupted
from lsc_engine.training.trained_run import trivial_baseline_of


class Clock:
    """Training seconds over all attempts of a run, without compiling, evaluation and saving; paused until `restart`
    where one of them begins."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._seconds = device, 0.0
        self._since: float | None = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training seconds so far. Waits for the device, so use it at log steps only."""
        return self._seconds if self._since is None else self._seconds + self._now() - self._since

    def restart(self) -> None:
        """Drop the time since the clock was created or last paused, as after a step that compiled."""
        self._since = self._now()

    def add(self, seconds: float) -> None:
        """Count `seconds` before now, as those of earlier attempts, which `restart` does not drop."""
        self._seconds += seconds
        self.restart()

    @property
    def stands(self) -> bool:
        """Whether it is paused."""
        return self._since is None

    def pause(self) -> None:
        self._seconds, self._since = self.seconds, None

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.pause()
        try:
            yield
        finally:
            self.restart()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class Trainer:
    """Everything one run trains with, built from its settings; `train` is the loop."""

    # A request is read once, and all processes of the run stop by it a step or two later.
    user_stops = False
    # Another process was seen on the GPU.
    _shared = False

    def __init__(self, run: RunContext) -> None:
        config, derived, device, o = run.config, run.derived, run.device, run.config.optimizer
        self.run, self.config, self.writer, self.signals = run, config, run.writer, run.signals
        self.step = self.first_step = 0
        # Coming steps that the clock does not count, and those of this attempt that it did not.
        self._untimed = self._steps_untimed = 0
        # The step before which the vectors were last chosen.
        self._chosen_at = -1
        self.total_steps, self.steps_per_epoch = derived.total_steps, derived.steps_per_epoch

        self.mesh, parts = run.mesh, config.train.parts or 1
        with self.mesh.first_alone():
            self.source, validation = open_images(config, run.data_dir, device, run.report)
        self.dependencies = needed = run.dependencies.for_classes(self.source.class_names)
        channels, size, batch_size = self.source.channels, self.source.size, config.train.batch_size
        seed = derive_seed(config.seed, "model")
        shape: dict[str, Any] = {"channels": channels, "size": size, "dim": derived.n}
        self.model = build_model(config.model, **shape, seed=seed, residual=config.train.residual).to(device)
        width = derived.n or embedding_width(self.model, channels, size, device)
        classes, seed, table = derived.classes, derive_seed(config.seed, "head"), needed.vectors
        means, teacher = needed.class_means, needed.teacher
        self.head = build_head(
            config, classes=classes, dim=width, seed=seed, table=table, means=means, teacher=teacher
        ).to(device)
        self.network = nn.ModuleDict({"model": self.model, "head": self.head})
        class_layer = sum(p.numel() for p in self.head.parameters())
        self._operations = batch_size * operations(self.model, channels, size, class_layer, device)
        if device.type == "cpu":
            torch.set_num_threads(cpu_threads(self._operations, parts))
        self.freezer = EtfFreezer(self.network, config.model, config.seed)
        self.fingerprint = fingerprint(config, self.head, self.source)

        self.batches = Batches(
            self.source,
            batch_size,
            config.seed,
            device=device,
            augment=config.data.augment,
            augment_per=config.data.augment_per,
            views=self.head.two_views,
            target=self.head.training_target,
            subset=images_from_class(self.source, config.data.first_class),
            rows=self.mesh.own_rows(batch_size),
            workers=self.mesh.data_workers,
        )
        if self.batches.images != derived.images:
            raise LscError(f"{self.batches.images} images to train on were found, {derived.images} were counted")
        momentum, parameters = o.momentum if isinstance(o, Sgd) else 0.0, list(self.network.parameters())
        self.optimizer = step.make_optimizer(
            o.name, parameters, lr=o.lr, weight_decay=o.weight_decay, momentum=momentum
        )
        self._rate: dict[str, Any] = {"base": o.lr, "schedule": o.schedule, "gamma": o.gamma or 0.1}
        self._rate |= {"total": derived.total_steps, "warmup": derived.warmup_steps, "milestones": derived.milestones}
        self.micro_batches = step.MicroBatches(self.network, batch_size // parts, device)
        self._parted = (
            PartedGradient(self.network, self.micro_batches, self.mesh, parts, bool(config.train.deterministic))
            if parts > 1
            else None
        )
        self._stochastic = step.has_dropout(self.model)
        self.clock = Clock(device)
        self._eager = self._why_eager()
        self._graphs = self._eager is None and config.train.compile == "graphs" and device.type in step.GRAPH_DEVICES
        self.loss = self._make_loss()
        self._graphs_before, self._graphs_recorded, self._evaluation_graphs = step.graphs_compiled(), -1, 0
        # Changes of the order of sums during the run, for source.json.
        self._numerics: list[dict[str, Any]] = []

        known = needed.start.classes if needed.start else None
        self.evaluator = Evaluator(run, self.model, self.head, self.source, validation, width, known)
        self.checkpointer = Checkpointer(run, self.network)
        self._seconds_before = 0.0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._loss_count = 0
        # Step and training seconds of the last log line.
        self._logged = (0, 0.0)
        # The newest value of every metric of train.until.
        self._until = dict.fromkeys(config.train.until or {}, math.nan)
        self._displayed: dict[str, float] = {}

    @property
    def epoch(self) -> float:
        return self.step / self.steps_per_epoch

    def train(self) -> str:
        """Train until the last step, a signal or a request to stop: "finished" or "stopped".

        DivergedError if loss or weights are not finite; LscError if images cannot be read or nothing can be saved.
        """
        self._begin()
        batches = self._resilient_batches()
        if self.signals.stop is not None:
            return "stopped"
        watch = self._host_watch()
        while self.step < self.total_steps:
            if watch is not None and not self._untimed and watch.left and watch.host_limits():
                self._take_graphs()
            if self._untimed:
                self.clock.pause()
            try:
                with self._checkpoint_before_failing():
                    if self.step in self.run.derived.reassigned_at and self._chosen_at != self.step:
                        self._choose()
                        batches = self._resilient_batches()
                    batch = next(batches)
            except Interrupted:
                # The stop came while images were read: the steps done are saved.
                self.writer.status(state="stopping", step=self.step)
                if self.step > self.first_step:
                    self._save(last=True)
                return "stopped"
            rate = learning_rate(self.step, **self._rate)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            try:
                self.loss_sum += self.train_step(batch)
            except PeerLostError as error:
                self.writer.status(state="stopping", step=self.step)
                self._save(last=True)
                raise Interrupted(str(error)) from error
            self._loss_count += 1
            self.step += 1
            if self.clock.stands:
                # Compiling and first-touch costs belong to the first step with a loss: not training time.
                self._untimed = max(0, self._untimed - 1)
                self._steps_untimed += 1
                self._record_graphs()
                self.clock.restart()
                self.batches.waiting(1.0)
                self._logged = self.step, self.clock.seconds

            if is_time(self.step, self.run.derived.log_every, self.total_steps):
                self._log(rate)
            if is_time(self.step, self.run.derived.eval_every, self.total_steps):
                self._evaluate()
            if self._poll_and_save() or self.evaluator.pending:
                return "stopped"

        self._measure_also()
        self._write_class_means()
        # What comparisons need to know a run that has learned nothing, as far as it is found in no time.
        trivial = trivial_baseline_of(self.config, open_run(self.run.folder), self.run.data_dir, search=False)
        self.writer.record(trivial=asdict(trivial))
        return "finished"

    def train_step(self, batch: Batch[Tensor]) -> Tensor:
        """One update of the weights; returns the mean loss of the batch, a detached scalar.

        `self.loss` is head.batch_loss(model, images, target) under autocast, compiled or not; `backward` leaves its
        gradient in the parameters, of the batch as a whole or of as many parts as memory needs.
        """

        def reseed(*part: int) -> None:
            if self._stochastic:
                torch.manual_seed(derive_seed(self.config.seed, "dropout", self.step, *part))

        def backward() -> Tensor:
            images, target = batch.images, batch.target
            if self._parted is None:
                return self.micro_batches.backward(self.loss, images, target, reseed, self._on_halved)
            return self._parted.backward(self.loss, images, target, reseed, self._on_halved, self._stop_requested())

        self.head.begin_step(self.step, batch.target)
        loss = self._without_what_fails(backward)
        step.step_optimizer(self.optimizer, self.head.sampled_rows())
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _without_what_fails(self, backward: Callable[[], Tensor]) -> Tensor:
        """`backward()`, without CUDA graphs if they fail, and not compiled if that fails."""
        try:
            return backward()
        except step.CompileFailedError as error:
            self._continue_uncompiled(error)
        except step.GraphsFailedError as error:
            self._graphs = False
            self.writer.message(f"step {self.step}: {error}; the run goes on without them, slower")
            self.writer.status(message=str(error))
        if isinstance(self.loss, step.CudaGraphLoss):
            # Here, where the failed graph is no longer held by the error's frames.
            del self.loss
            step.release_graphs(self.run.device)
        self.loss = self._make_loss()
        return self._without_what_fails(backward)

    def _on_ungraphed(self, reason: str) -> None:
        self.writer.message(f"step {self.step}: the optimizer cannot be a CUDA graph and goes on without: {reason}")

    def _on_halved(self, sentence: str) -> None:
        # The rest of the step compiles and tries anew.
        self.clock.pause()
        statistics = self.micro_batches.has_statistics
        why = "batch statistics are of a micro-batch" if statistics else "sums are in other order"
        self.writer.message(f"step {self.step}: {sentence}; numerics change: {why}")
        self._record_numerics(why)
        self.writer.status(message=sentence)

    def _record_numerics(self, why: str) -> None:
        sizes = {"micro_batch": self.micro_batches.size, "batch_size": self.config.train.batch_size}
        self._numerics.append({"step": self.step, **sizes, "why": why})
        self.writer.record(numerics=self._numerics)

    def _make_loss(self) -> step.BatchLoss:
        config, device = self.config, self.run.device
        self._untimed = step.CudaGraphLoss.UNTIL_REPLAYED if self._graphs else 1
        if isinstance(self.optimizer, step.AdamW) and not self.head.sampled_rows():
            self.optimizer.use_graphs(device, self._on_ungraphed if self._graphs else None)
        # A model or loss of a plugin may contain what cannot be compiled.
        built_in = not isinstance(config.target, Lsc) or config.target.loss in LOSSES.built_in
        return step.make_loss(
            self.model,
            self.head,
            dtype=self.run.dtype,
            device=device,
            compiled=self._eager is None,
            graphs=self._graphs,
            whole=built_in and config.model.name in MODELS.built_in,
            on_compile=self.clock.pause,
        )

    def _why_eager(self) -> str | None:
        """Why the step is not compiled; None if it is."""
        choice, device, steps = self.config.train.compile, self.run.device, self.run.derived.total_steps
        if choice == "off":
            return 'train.compile = "off"'
        if choice == "auto" and device.type != "cuda":
            return f'train.compile = "auto" on {device.type}'
        if choice == "auto" and not step.worth_compiling(self._operations, steps):
            return f'train.compile = "auto": compiling takes longer than {grouped(steps)} steps gain by it'
        return None

    def _evaluation_worth_compiling(self) -> bool:
        """Whether evaluations, whose batches are a forward pass and so a third of a step, gain more than that takes;
        always where the preset compiles. Not the network of a plugin, nor one whose layers are observed."""
        config, derived = self.config, self.run.derived
        if config.eval.ncc or config.model.name in MODELS.plugin_names():
            return False
        batches = -(-derived.eval_images // self.evaluator.batch_size)
        evaluations = derived.total_steps // (derived.eval_every or derived.total_steps)
        operations = self._operations * self.evaluator.batch_size // config.train.batch_size
        return config.train.compile != "auto" or step.worth_compiling(operations, batches * evaluations // 3)

    def _host_watch(self) -> step.HostWatch | None:
        """For a compiled step that may become CUDA graphs: not one whose images or gradients come from elsewhere."""
        train, device = self.config.train, self.run.device
        may = self._eager is None and train.compile == "auto" and device.type in step.GRAPH_DEVICES
        alone = self._parted is None and self.batches.waited is None and not train.deterministic
        return step.HostWatch(device) if may and alone else None

    def _take_graphs(self) -> None:
        """CUDA graphs from here on, if they gain more time than compiling takes."""
        left = self.total_steps - self.step
        if self._eager is None and self.micro_batches.parts == 1 and step.worth_compiling(0, left):
            self._graphs = True
            self.loss = self._make_loss()
            self.writer.message(f"step {self.step}: the GPU waits for the host: CUDA graphs from here on")

    def _continue_uncompiled(self, error: step.CompileFailedError) -> None:
        """After a step that could not be compiled, the first or, if layers were fixed, a later one. Interrupted after a
        stop signal, since a Ctrl-C also ends the compiler."""
        if self.signals.stop is not None:
            if self.step > self.first_step:
                self._save()
            raise Interrupted("stopped while compiling") from error
        self._eager, self._graphs, self._graphs_recorded = str(error), False, -1
        self.writer.message(f"step {self.step}: {error}; the run goes on without it, slower")
        self.writer.status(message=f"not compiled: {error}")
        if self.step:
            self._record_numerics("compiled up to here")

    def _record_graphs(self) -> None:
        """In source.json: `compiled`, whether every step of every attempt was, and the `graphs` of this attempt."""
        graphs = step.graphs_compiled() - self._graphs_before
        if graphs == self._graphs_recorded:
            return
        self._graphs_recorded = graphs
        if self._eager is None and not graphs:
            self._eager = "torch.compile found nothing to compile"
        why = self._eager or (self.writer.source().get("eager") if self.first_step else None)
        self.writer.record(compiled=why is None, graphs=graphs, eager=why)

    def _resilient_batches(self) -> Iterator[Batch[Tensor]]:
        """The batches from the current step on. Data workers that died are restarted from the batch that is due."""
        failures, batches = 0, self.batches.from_step(self.step)
        while True:
            try:
                batch = next(batches)
            except WorkerLostError as error:
                failures += 1
                if failures >= MOST_WORKER_FAILURES:
                    raise
                self.writer.message(f"step {self.step}: {error}; its work goes to new ones")
                batches = self.batches.from_step(self.step)
                continue
            yield batch
            failures = 0

    def _evaluate(self) -> None:
        graphs = step.graphs_compiled()
        self.evaluator.compiled = self._eager is None and self._evaluation_worth_compiling()
        with self.clock.paused(), self._checkpoint_before_failing():
            values = self.evaluator.evaluate(self.step)
        if made := step.graphs_compiled() - graphs:
            self._graphs_before += made
            self._evaluation_graphs += made
            self.writer.record(evaluation_graphs=self._evaluation_graphs)
        if values is None:
            return
        frozen = self.freezer.update(values)
        if frozen is not None:
            step.remove_frozen_params(self.optimizer, self.network.parameters())
            self.loss = self._make_loss()
            self.writer.message(f"step {self.step}: {frozen}")
        values |= self.freezer.metrics()
        self.writer.metrics(self.step, self.epoch, self.clock.seconds, values)
        with self.clock.paused():
            if isinstance(self.writer, RunWriter):
                self.evaluator.recorder.write(self.writer, self.step, self.epoch)
        self._report(values)
        if self._levels_reached():
            self._end_here()
            self.writer.message(f"step {self.step} is the last: every level of train.until is reached")

    def _log(self, rate: float) -> None:
        """The metrics of the steps since the last log step; their loss is the one host sync. DivergedError if it is not
        finite."""
        logged_step, logged_seconds = self._logged
        seconds, steps = self.clock.seconds, self.step - logged_step
        loss = (self.loss_sum / max(1, self._loss_count)).item()
        self.loss_sum.zero_()
        self._loss_count = 0
        values = {"train/loss": loss, "lr": rate}
        if steps > 0 and seconds > logged_seconds:
            elapsed = seconds - logged_seconds
            values["speed/images_per_second"] = steps * self.config.train.batch_size / elapsed
            values |= self.batches.waiting(elapsed)
        self._logged = self.step, seconds
        self.writer.metrics(self.step, self.epoch, seconds, values)
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss} at step {self.step}; {self.checkpointer.last_good()}")
        self._report(values)

    def _report(self, values: dict[str, float]) -> None:
        """One line in log.txt, the seconds left, and the display."""
        self._until |= {name: value for name, value in values.items() if name in self._until}
        if self.run.alerts is not None:
            self.run.alerts.metrics(self.step, values)
        total = self.run.derived.total_steps
        steps, seconds = self.step - self.first_step - self._steps_untimed, self.clock.seconds - self._seconds_before
        if steps > 0 and seconds > 0:
            self.run.eta = seconds / steps * (total - self.step)
        parts = [f"epoch {self.epoch:.2f}", f"step {self.step} of {total}"]
        self.writer.message("  ".join([*parts, *(formatted_metric(*item) for item in values.items())]))
        if self.run.progress is not None:
            self._displayed |= values
            self.run.progress(self.config.run_id, self.step, total, self._displayed, self.run.eta)
        if self.run.machine is not None and self.run.machine.shared and not self._shared:
            self._shared = True
            self.writer.record(shared_gpu=True)
            self.writer.message("another process is on this GPU: seconds of this run are not compared")

    def _levels_reached(self) -> bool:
        """Whether every metric of train.until is at or beyond its level, by its newest value."""
        levels = self.config.train.until or {}
        return bool(levels) and all(
            value <= levels[name] if lower_is_better(name) else value >= levels[name]
            for name, value in self._until.items()
        )

    def _end_here(self) -> None:
        self.total_steps = self.step
        self.writer.status(total_steps=self.step)

    def _choose(self) -> float:
        """Standardise the output before the first step, choose vectors, and record what that took; the seconds of it,
        which count as training."""
        found = vector_choice.choose(self.run, self.evaluator, self.model, self.head, self.step)
        self._chosen_at = self.step
        earlier = [one for one in self.writer.source().get("choices", []) if one["step"] < self.step]
        self.writer.record(head=self.head.record(), choices=[*earlier, found])
        seconds = {name: found[name] for name in ("pass_seconds", "assign_seconds") if name in found}
        words = ", ".join(f"{name.removesuffix('_seconds')} {value:.1f} s" for name, value in seconds.items())
        close = f", mean cosine {found['mean_cosine']:.4f}" if "mean_cosine" in found else ""
        self.writer.message(f"step {self.step}: {'vectors chosen' if close else 'output standardised'}: {words}{close}")
        return sum(seconds.values())

    def _save(self, *, last: bool = False) -> None:
        """Write a checkpoint if the disk takes it; the `last` one waits for room."""
        if self.mesh.rank:
            return
        save = self.checkpointer.save_last if last else self.checkpointer.save
        with self.clock.paused():
            save(self.step, self.state_dict(), self.evaluator.score)

    @contextmanager
    def _checkpoint_before_failing(self) -> Iterator[None]:
        try:
            yield
        except LscError:
            self._save()
            raise

    def _poll_and_save(self) -> bool:
        """Heartbeat, requests, and a checkpoint if one is due. Whether to stop here, before the last step."""
        self.writer.heartbeat(self.step, self.run.eta)
        requests = self.writer.requests()
        self.user_stops = self.user_stops or "stop" in requests
        stopping = self._stop_requested()
        if self._parted is not None and self.mesh.size > 1:
            stopping = self._parted.stop_decided() or self.evaluator.pending
        if stopping:
            self.writer.status(state="stopping", step=self.step)
        if stopping or self.step == self.total_steps:
            self._save(last=True)
        elif self.checkpointer.due(self.step) or self.signals.take_save() or "checkpoint" in requests:
            self._save()
        return stopping and self.step < self.total_steps

    def _stop_requested(self) -> bool:
        return self.signals.stop is not None or self.user_stops

    def state_dict(self) -> dict[str, Any]:
        """The training state beside the weights, as tensors and plain values."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "loss_sum": self.loss_sum.cpu(),
            "loss_count": self._loss_count,
            "seconds": self.clock.seconds,
            "identity": json.dumps(self.fingerprint),
            "threads": torch.get_num_threads(),
            "parts": self.micro_batches.parts,
            "numerics": json.dumps(self._numerics),
            "until": self._until,
            "chosen_at": self._chosen_at,
            "owes_evaluation": self.evaluator.pending,
            **self.freezer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """After the weights were restored, which may have fixed layers."""
        step.remove_frozen_params(self.optimizer, self.network.parameters())
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss_sum.copy_(state["loss_sum"])
        self._loss_count = state["loss_count"]
        self.micro_batches.parts, self._numerics = state["parts"], json.loads(state["numerics"])
        self._until |= state.get("until", {})
        self._chosen_at = state.get("chosen_at", -1)
        self._seconds_before = state["seconds"]
        self.clock.add(self._seconds_before)
        self.evaluator.pending = state["owes_evaluation"]
        self.freezer.load_state_dict(state)
        threads = state["threads"]
        if self.run.device.type == "cpu" and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
            self.writer.message(f"{threads} CPU threads as before, so that the run goes on bit by bit")

    def _begin(self) -> None:
        """Continue from the newest good checkpoint, or begin; and evaluate if that is pending."""
        self._load()
        if self.step == 0 and standardized(self.config):
            self.clock.add(self._choose())
            self._seconds_before = self.clock.seconds
        self.model.train()
        self._logged = self.step, self.clock.seconds
        self.writer.status(state="running", step=self.step)
        if self.evaluator.pending:
            self._evaluate()
        elif self._levels_reached():
            # The process ended between its last checkpoint and its end.
            self._end_here()

    def _load(self) -> None:
        run, folder = self.run, self.run.folder
        found = checkpointing.load_newest(folder, self.writer.message)
        check_images(run, self.source, self.fingerprint, begun=found is not None)
        if found is not None:
            before = json.loads(found.state["identity"])
            if changed := fingerprint_diff(before, self.fingerprint, folder, found.step):
                raise UsageError(
                    f"{folder}: checkpoint step {found.step} is of another training: {'; '.join(changed)}. "
                    "Set it back; or change settings by lsc-engine fork"
                )
        if not self.mesh.rank:
            record_images(run, self.source, self.fingerprint)
            self.evaluator.recorder.forget_after(0 if found is None else found.step)
        if found is None:
            if self.dependencies.start is not None:
                self._start_from(self.dependencies.start)
            self.clock.restart()
            return
        checkpointing.restore(self.network, found.tensors)
        self.load_state_dict(found.state)
        self.checkpointer.load_state_dict(found.state, found.step)
        self.step = self.first_step = found.step
        if self._chosen_at >= 0:
            self.writer.record(head=self.head.record())
        self.writer.message(f"resumed at step {self.step} of {run.derived.total_steps}")

    def _start_from(self, start: InitialWeights) -> None:
        """Begin with the weights of another run. They are evaluated before the first step: curves go on from there."""
        found = start.load()
        new = checkpointing.restore_backbone(self.model, found.tensors)
        layer = {name.removeprefix("head."): t for name, t in found.tensors.items() if name.startswith("head.")}
        copied = self.head.start_from(layer, start.rows)
        parts = [f"begins with the weights of {start.id} at step {found.step}"]
        parts += [f"new: {', '.join(new)}"] if new else []
        parts += [f"class layer: {', '.join(copied)}"] if copied else []
        if start.rows is not None:
            parts += ["classes have other numbers than there: rows of a class layer go by name, centres by number"]
        self.writer.message("; ".join(parts))
        self.writer.record(start={"id": start.id, "step": found.step, "sha256": found.sha256, "classes": start.classes})
        self.evaluator.pending = True

    def _measure_also(self) -> None:
        """The metrics of eval.also, after the last step. Interrupted by a stop."""
        if not self.config.eval.also or self.mesh.rank:
            return
        with self.clock.paused():
            values, notes = self.evaluator.measure_also(self.total_steps)
        for note in notes:
            self.writer.message(f"note: {note}")
        if values:
            self.writer.metrics(self.step, self.epoch, self.clock.seconds, values)
            self._report(values)

    def _write_class_means(self) -> None:
        """class_means.safetensors after the last step, if the preset wants it. Interrupted by a stop."""
        if not self.config.eval.class_means or self.mesh.rank:
            return
        from safetensors.torch import save_file

        means = self.evaluator.class_means(self.total_steps)
        if not torch.isfinite(means).all():
            raise LscError("class means are not finite")
        self.writer.check()
        part = self.run.folder / f"{CLASS_MEANS}.part"
        save_file({"class_means": means.cpu()}, part)
        mode_by_umask(part)
        self.writer.check()
        part.replace(self.run.folder / CLASS_MEANS)
        self.writer.message(f"class means of {self.run.derived.classes} classes written")


def formatted_metric(name: str, value: float) -> str:
    """A metric for the log: "loss 0.1401", "val/accuracy 93.2%", "21 388 img/s"."""
    if name == "speed/images_per_second":
        return f"{grouped(value)} img/s"
    if "accuracy" in name or "inside" in name or "data_wait" in name:
        return f"{name} {100 * value:.1f}%"
    return f"{name.removeprefix('train/') if name == 'train/loss' else name} {value:.4g}"
