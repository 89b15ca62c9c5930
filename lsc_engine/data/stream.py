"""Reading images on the host with worker processes, in the requested order, into pinned memory.

Workers write images into anonymous memory that they share with this process, whatever room /dev/shm has. No wait is
without end: a worker that died is noticed, and the wait can be ended once a second (`attended`).
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsc_engine.common.errors import LscError
from lsc_engine.common.hardware import RUNS_HERE
from lsc_engine.data.imagefiles import FileReader
from lsc_engine.data.source import Reader

# Images in one request to a worker, at most.
BLOCK = 256
# Requests under way for each worker.
_PREFETCH = 2
# Seconds between two looks at whether to go on.
_LOOK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
# Images, and what else the reader found.
_Found = tuple[Tensor, Any]


def _go_on() -> None:
    """What nobody attends to is read to its end."""


_check = _go_on


class WorkerLostError(LscError):
    """A worker process was killed or crashed; the images themselves may be well."""


@contextmanager
def attended(check: Callable[[], None]) -> Iterator[None]:
    """While images are read in here, `check` is called once a second of waiting and between blocks, and may raise."""
    global _check
    before, _check = _check, check
    try:
        yield
    finally:
        _check = before


def default_workers() -> int:
    """Worker processes where no number is given: the cores this process may use, at most 16, or the run's share of them
    where several train on this host."""
    return max(1, min(16, len(os.sched_getaffinity(0)) // int(os.environ.get(RUNS_HERE, 1))))


def stream(
    reader: Reader, batches: Iterable[Tensor], *, workers: int | None = None, pin: bool = False
) -> Iterator[Tensor]:
    """For every int64 [B] of `batches`, which may be endless, its uint8 images [B, C, S, S], in that order.

    `workers`: processes (None: `default_workers`; 0: read in this one); `pin`: into page-locked memory, for
    asynchronous copies to a GPU. The reader's error where an image cannot be read; WorkerLostError where a worker dies.
    """
    count = default_workers() if workers is None else workers
    shape, sizes = (reader.channels, reader.size, reader.size), deque[int]()

    def requests() -> Iterator[Tensor]:
        for batch in batches:
            sizes.append(len(batch))
            yield from batch.split(BLOCK)

    whole, filled = None, 0
    for images, _ in _answers(lambda index: (reader.read(index), None), shape, requests(), count):
        if whole is None:
            whole, filled = torch.empty((sizes.popleft(), *shape), dtype=torch.uint8, pin_memory=pin), 0
        whole[filled : filled + len(images)] = images
        filled += len(images)
        if filled == len(whole):
            yield whole
            whole = None


def read_all(
    reader: FileReader, say: Callable[[str], None], done: str, *, start: int = 0, workers: int | None = None
) -> Iterator[tuple[Tensor, Tensor, list[tuple[int, str]]]]:
    """(numbers, the images of those that can be used, why not of the others) of all images from number `start` on, a
    block at a time, in order; images are overwritten by those of later blocks. `say`: how many are `done`, at times."""
    total, said = len(reader.files), start
    blocks = torch.arange(start, total).split(BLOCK) if start < total else ()
    # Workers cost more than they give for a few blocks.
    count = 0 if len(blocks) <= 2 else default_workers() if workers is None else workers
    shape = (reader.channels, reader.size, reader.size)
    for index, (images, bad) in zip(blocks, _answers(reader.read_usable, shape, blocks, count), strict=True):
        yield index, images, bad
        _check()
        if (now := int(index[-1]) + 1) - said >= total / 20:
            say(f"{done} {now:,} of {total:,}")
            said = now


def _answers(
    read: Callable[[Tensor], _Found], shape: tuple[int, ...], requests: Iterable[Tensor], workers: int
) -> Generator[_Found, None, None]:
    """`read(request)` for every request of at most BLOCK images, in order."""
    if not workers:
        yield from map(read, requests)
        return
    places = _PREFETCH * workers + 1
    memory = mmap.mmap(-1, places * BLOCK * int(np.prod(shape)))
    shared = torch.frombuffer(memory, dtype=torch.uint8).view(places, BLOCK, *shape)
    under_way = deque[tuple[int, Future[tuple[int, Any]]]]()

    def answer() -> _Found:
        place, future = under_way.popleft()
        while not wait([future], _LOOK_SECONDS).done:
            _check()
        images, more = future.result()
        return shared[place, :images], more

    # Forked whatever is Python's default: others would import everything anew.
    try:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _begin_worker, (read, shared))
    except OSError as error:  # their locks are files in /dev/shm, of a page each
        raise LscError(f"data workers cannot be started: {error.strerror or error}; make room in /dev/shm") from None
    try:
        for number, request in enumerate(requests):
            under_way.append((number % places, pool.submit(_fill, number % places, request.numpy())))
            if len(under_way) == places:
                yield answer()
        while under_way:
            yield answer()
    except BrokenProcessPool as error:
        raise WorkerLostError(f"a data worker ended: {error}") from None
    finally:
        # Not asked to end: one may be stuck in a read of a dead disk.
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown()


_worker: tuple[Callable[[Tensor], _Found], Tensor]
"""In a worker: how images are read, and where they are written to."""


def _begin_worker(read: Callable[[Tensor], _Found], shared: Tensor) -> None:
    global _worker
    _worker = read, shared
    # Signals reach the whole process group, and the trainer still needs batches to end a step and save.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # A trainer that is killed takes its workers with it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    torch.set_num_threads(1)


def _fill(place: int, index: np.ndarray) -> tuple[int, Any]:
    read, shared = _worker
    images, more = read(torch.from_numpy(index))
    shared[place, : len(images)] = images
    return len(images), more
