"""The training loop: one run, from its first step or its newest good checkpoint to its last step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lsc_engine.errors import DivergedError
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.training.feed import feed
from lsc_engine.training.schedule import is_time, learning_rate
from lsc_engine.training.signals import Interrupted, Signals
from lsc_engine.training.step import CompileFailedError
from lsc_engine.training.trainer import Session


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `state` finished or stopped, the signal that stopped it if one did, and its last step."""

    state: str
    signal: int | None
    step: int


def train(session: Session, writer: RunWriter, signals: Signals) -> Outcome:
    """Train until the last step, a signal or a request to stop.

    DivergedError when loss or weights are not finite; LscError when images cannot be read or nothing can be saved.
    """
    s, optimizer, total = session, session.optimizer, session.total_steps

    # ------------------------------------------------------------------------------- Start, or go on where it stopped
    step = s.resume(writer)
    s.model.train()
    batches = feed(s, writer, step)
    logged_step, logged_seconds = step, s.clock.seconds
    writer.status(state="running", step=step)
    if s.owes_evaluation:
        s.evaluate(writer, step, signals)
    if signals.stop is not None:
        return Outcome("stopped", signals.stop, step)

    if s.reached():
        # The process ended between its last checkpoint and its end.
        total = step
        writer.status(total_steps=total)

    while step < total:
        # --------------------------------------------------------------------------------------------- One step
        try:
            batch = next(batches)
        except Interrupted:
            # The stop came while images were waited for: what is done is kept.
            writer.status(state="stopping", step=step)
            if step > s.first_step:
                with s.clock.paused():
                    s.save_last(writer, step, signals)
            return Outcome("stopped", signals.stop, step)
        rate = learning_rate(step, **s.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        try:
            loss = s.backward(writer, batch, step)
        except CompileFailedError as error:
            s.go_on_uncompiled(writer, step, error, signals)
            loss = s.backward(writer, batch, step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        s.loss_sum += loss
        s.loss_count += 1
        step += 1
        if step == s.first_step + 1:
            # Compiling and first-touch costs belong to the first step of an attempt: not training time.
            s.clock.restart()
            s.batches.waiting(1.0)
            logged_step, logged_seconds = step, s.clock.seconds

        # --------------------------------------------------------------------------------- Log, evaluate, save
        epoch = step / s.steps_per_epoch
        if is_time(step, s.log_every, total):
            seconds = s.clock.seconds
            values = {"train/loss": s.take_loss(), "lr": rate}
            if step > logged_step and seconds > logged_seconds:
                values["speed/images_per_second"] = (step - logged_step) * s.batch_size / (seconds - logged_seconds)
                values |= s.batches.waiting(seconds - logged_seconds)
            logged_step, logged_seconds = step, seconds
            writer.metrics(step, epoch, seconds, values)
            if not math.isfinite(values["train/loss"]):
                raise DivergedError(f"the loss is {values['train/loss']} at step {step}; {s.last_good()}")
            s.report(writer, step, values)
        if is_time(step, s.eval_every, total):
            s.evaluate(writer, step, signals)
            if s.reached() and not s.owes_evaluation:
                total = step
                writer.status(total_steps=total)
                writer.message(f"step {step} is the last: every level of train.until is reached")

        # ------------------------------------------------------------------ Signs of life, and what others ask for
        writer.heartbeat(step, s.remaining)
        asked = writer.requests()
        stopping = signals.stop is not None or "stop" in asked
        if stopping:
            writer.status(state="stopping", step=step)
        if stopping or step == total:
            with s.clock.paused():
                s.save_last(writer, step, signals)
        elif s.save_times.due(step) or signals.take_save() or "checkpoint" in asked:
            with s.clock.paused():
                s.save(writer, step)
        if s.owes_evaluation or (stopping and step < total):
            return Outcome("stopped", signals.stop, step)

    s.finish(writer, signals)
    return Outcome("finished", None, step)
