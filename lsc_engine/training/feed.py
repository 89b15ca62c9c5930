"""Batches for the loop, from readers that may die or find their files gone."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lsc_engine.data import Batch, WorkerLostError
from lsc_engine.errors import LscError
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.training.trainer import TRIES, Session


def feed(session: Session, writer: RunWriter, step: int) -> Iterator[Batch[Tensor]]:
    """The batches from `step` on. Data workers that died are started again from the batch that is due.

    What cannot be read ends the run with a sentence, after a checkpoint of the steps done.
    """
    tries = 0
    batches = session.batches.from_step(step)
    while True:
        try:
            batch = next(batches)
        except WorkerLostError as error:
            tries += 1
            if tries >= TRIES:
                session.save(writer, step)
                raise
            writer.message(f"step {step}: {error}; its work is given to new ones")
            batches = session.batches.from_step(step)
            continue
        except LscError:
            session.save(writer, step)
            raise
        yield batch
        step, tries = step + 1, 0
