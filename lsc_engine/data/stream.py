"""Reading images on the host with worker processes, in the order asked for, into pinned memory."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lsc_engine.data.source import Reader
from lsc_engine.errors import LscError

_PREFETCH = 2
_UNHEARD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


class WorkerLostError(LscError):
    """A worker process was killed or crashed; the images themselves may be well."""


class _Requests(Dataset[Tensor | str]):
    """`dataset[index]` with a whole batch of image numbers. A failure travels back as its sentence, not as a
    traceback of the worker."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __getitem__(self, index: Tensor) -> Tensor | str:
        try:
            return self._reader.read(index)
        except LscError as error:
            return str(error)


class _Plan(Sampler[Tensor]):
    def __init__(self, batches: Iterable[Tensor]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._batches)


def default_workers() -> int:
    """Worker processes where none are asked for: the cores this process may use, at most 16."""
    return min(16, len(os.sched_getaffinity(0)))


def stream(
    reader: Reader, batches: Iterable[Tensor], *, workers: int | None = None, pin: bool = False
) -> Iterator[Tensor]:
    """For every int64 [B] of `batches`, which may be endless, its uint8 images [B, C, S, S], in that order.

    `workers`: processes (None: `default_workers`; 0: read in this one); `pin`: into page-locked memory, for
    asynchronous copies to a GPU. LscError with the reader's sentence where an image cannot be read.
    """
    images = _streamed(reader, batches, default_workers() if workers is None else workers, pin)
    _open.add(images)
    return images


# At exit Python asks the workers to end by SIGTERM, which they never see, and waits: close what is still open before.
_open: weakref.WeakSet[Generator[Tensor, None, None]] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for images in list(_open):
        images.close()


def _streamed(reader: Reader, batches: Iterable[Tensor], workers: int, pin: bool) -> Generator[Tensor, None, None]:
    if workers == 0:
        for index in batches:
            images = reader.read(index)
            yield images.pin_memory() if pin else images
        return
    loader = DataLoader(
        _Requests(reader),
        sampler=_Plan(batches),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_PREFETCH,
        pin_memory=pin,
        # Without its own generator it would draw from torch's global one, which the model's dropout uses.
        generator=torch.Generator(),
    )
    with _deaf_children():
        iterator = iter(loader)
    try:
        while True:
            try:
                images = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:
                raise WorkerLostError(f"a data worker ended: {str(error).splitlines()[0]}{_shared_memory()}") from error
            if isinstance(images, str):
                raise LscError(images)
            yield images
    finally:
        # Dropping the last reference ends the workers.
        del iterator


def read_all(
    reader: Reader,
    start: int,
    stop: int,
    *,
    workers: int | None = None,
    block: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Tensor]:
    """The images `start` to `stop` in blocks, telling `progress` how many are done."""
    plan = (torch.arange(first, min(first + block, stop)) for first in range(start, stop, block))
    # Workers cost more than they give for a few blocks.
    few = stop - start <= 2 * block
    done = start
    for images in stream(reader, plan, workers=0 if few else workers):
        done += len(images)
        yield images
        if progress is not None:
            progress(done)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started here never see Ctrl-C, SIGTERM, SIGHUP or SIGUSR1, from their first instruction on.

    They reach the whole process group, and the trainer still needs batches to end a step and save. A blocked signal
    is inherited; setting it to be ignored in the worker would come after torch's own handler, which dies of it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _UNHEARD)
    at_death = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # torch raises where the trainer happens to be when a worker dies, be it half way through the weights; without
        # that the loss shows at the next batch, within seconds.
        if threading.current_thread() is threading.main_thread() and at_death is not None:
            signal.signal(signal.SIGCHLD, at_death)


def _shared_memory() -> str:
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return ""
    free = shutil.disk_usage(shared).free
    return f" (shared memory left in /dev/shm: {free / 2**20:.0f} MB)" if free < 2**28 else ""
