"""The training loop: one run, from its first step or its newest good checkpoint to its last step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lsc_engine.errors import DivergedError
from lsc_engine.runs import RunWriter
from lsc_engine.training.schedule import is_time, learning_rate
from lsc_engine.training.seeds import derive_seed
from lsc_engine.training.session import Session
from lsc_engine.training.signals import Signals


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `state` finished or stopped, the signal that stopped it if one did, and its last step."""

    state: str
    signal: int | None
    step: int


def train(session: Session, writer: RunWriter, signals: Signals) -> Outcome:
    """Train until the last step, a signal or a request to stop. DivergedError when the loss is not finite."""
    s, optimizer, total = session, session.optimizer, session.total_steps

    # ------------------------------------------------------------------------------- Start, or go on where it stopped
    step = s.resume(writer)
    s.model.train()
    batches = s.batches.from_step(step)
    logged_step, logged_seconds = step, s.clock.seconds
    writer.status(state="running", step=step)

    while step < total:
        # --------------------------------------------------------------------------------------------- One step
        batch = next(batches)
        rate = learning_rate(step, **s.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if s.stochastic:
            torch.manual_seed(derive_seed(s.config.seed, "dropout", step))
        loss = s.loss(batch.images, batch.target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        s.loss_sum += loss.detach()
        s.loss_count += 1
        step += 1
        if step == s.first_step + 1:
            # Compiling and first-touch costs belong to the first step of an attempt: not training time.
            s.clock.restart()
            logged_step, logged_seconds = step, s.clock.seconds

        # --------------------------------------------------------------------------------- Log, evaluate, save
        epoch = step / s.steps_per_epoch
        if is_time(step, s.log_every, total):
            seconds = s.clock.seconds
            values = {"train/loss": s.take_loss(), "lr": rate}
            if step > logged_step and seconds > logged_seconds:
                values["speed/images_per_second"] = (step - logged_step) * s.batch_size / (seconds - logged_seconds)
            logged_step, logged_seconds = step, seconds
            writer.metrics(step, epoch, seconds, values)
            if not math.isfinite(values["train/loss"]):
                raise DivergedError(f"the loss is {values['train/loss']} at step {step}; {s.last_good()}")
            s.report(writer, step, values)
        if is_time(step, s.eval_every, total):
            with s.clock.paused():
                values = s.evaluate()
            writer.metrics(step, epoch, s.clock.seconds, values)
            s.report(writer, step, values)

        # ------------------------------------------------------------------ Signs of life, and what others ask for
        writer.heartbeat(step, s.remaining)
        asked = writer.requests()
        stopping = signals.stop is not None or "stop" in asked
        if stopping:
            writer.status(state="stopping", step=step)
        if s.checkpoint_due(step) or signals.take_save() or "checkpoint" in asked or stopping or step == total:
            with s.clock.paused():
                s.save(writer, step)
        if stopping and step < total:
            return Outcome("stopped", signals.stop, step)

    s.finish(writer)
    return Outcome("finished", None, step)
