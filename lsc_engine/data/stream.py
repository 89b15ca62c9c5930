"""Reading images on the host with worker processes, in the requested order, into pinned memory.

Workers hand images over in shared memory (/dev/shm): requests are kept small enough to fit, and what does not fit is
read in this process. No wait is without end: a worker that died is noticed, and the wait can be ended once a second
(`attended`).
"""

from __future__ import annotations

import atexit
import mmap
import multiprocessing
import os
import shutil
import signal
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lsc_engine.common.errors import LscError
from lsc_engine.common.hardware import RUNS_HERE
from lsc_engine.data.source import Reader

T = TypeVar("T")
SHARED_MEMORY = Path("/dev/shm")
# Images in one request of `read_all`, at most.
BLOCK = 256
_PREFETCH = 2
_PAGE = 4096
# Seconds between two looks at whether to go on, and until a worker that does not end by itself is killed.
_LOOK_SECONDS, _END_SECONDS = 1.0, 3.0
# What torch raises where a worker has died: before it answered, or while its answer was being fetched from it.
_LOST = (RuntimeError, ConnectionError, EOFError, FileNotFoundError)
_UNHEARD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


class WorkerLostError(LscError):
    """A worker process was killed or crashed; the images themselves may be well."""


class _Attendant(NamedTuple):
    """What is called while images are read. `reported`: sentences that were reported already."""

    check: Callable[[], None]
    say: Callable[[str], None]
    reported: set[str]


_attendant = _Attendant(lambda: None, lambda _: None, set())


@contextmanager
def attended(check: Callable[[], None], say: Callable[[str], None]) -> Iterator[None]:
    """While images are read in here, `check` is called once a second of waiting and between blocks, and may raise;
    `say` receives sentences on what slows the reading down."""
    global _attendant
    before, _attendant = _attendant, _Attendant(check, say, set())
    try:
        yield
    finally:
        _attendant = before


def _say_once(sentence: str) -> None:
    if sentence not in _attendant.reported:
        _attendant.reported.add(sentence)
        _attendant.say(sentence)


class _Requests(Dataset[T | LscError | None], Generic[T]):
    """`dataset[index]` with all image numbers of a request. A failure travels back as the error, not as a traceback of
    the worker; None is the answer where shared memory is full."""

    def __init__(self, read: Callable[[Tensor], T]) -> None:
        self._read = read

    def __getitem__(self, index: Tensor) -> T | LscError | None:
        try:
            found = self._read(index)
        except LscError as error:
            return error
        for part in found if isinstance(found, tuple) else (found,):
            if isinstance(part, Tensor) and part.numel():
                try:
                    # Here, since a failure while the answer is being sent would lose it without a word.
                    part.share_memory_()
                except RuntimeError:
                    return None
        return found


class _EndOfWork:
    """The event that ends torch's workers, as a shared byte. `multiprocessing.Event` has a lock, and a worker that is
    killed while it holds that leaves everybody waiting for it for ever."""

    def __init__(self) -> None:
        self._flag = mmap.mmap(-1, 1)

    def is_set(self) -> bool:
        return self._flag[0] == 1

    def set(self) -> None:
        self._flag[0] = 1


class _Fork(ForkContext):
    def Event(self) -> _EndOfWork:  # type: ignore[override]
        return _EndOfWork()


class _Plan(Sampler[Tensor]):
    """The requests in order; those not answered yet are in `under_way`."""

    def __init__(self, requests: Iterable[Tensor]) -> None:
        self._requests = requests
        self.under_way: deque[Tensor] = deque()

    def __iter__(self) -> Iterator[Tensor]:
        for request in self._requests:
            self.under_way.append(request)
            yield request


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
    images = _batches(reader, iter(batches), default_workers() if workers is None else workers, pin)
    _open.add(images)
    return images


def read_all(
    read: Callable[[Tensor], T], requests: Iterable[Tensor], image_bytes: int, images: int, workers: int | None = None
) -> Iterator[T]:
    """`read(request)` for every int64 [B] of `requests`, in order, by workers where `images` are many. Requests should
    have at most `block_of` images."""
    # Workers cost more than they give for a few blocks.
    count = 0 if images <= 2 * BLOCK else default_workers() if workers is None else workers
    results = _streamed(read, requests, _fitting(image_bytes, count)[0], False)
    _open.add(results)
    for found in results:
        yield found
        _attendant.check()


def block_of(image_bytes: int, workers: int | None = None) -> int:
    """How many images of `image_bytes` bytes go into one request of `read_all`."""
    return min(BLOCK, _fitting(image_bytes, default_workers() if workers is None else workers)[1])


# At exit Python asks the workers to end by SIGTERM, which they never see, and waits: close what is still open before.
_open: weakref.WeakSet[Generator[object, None, None]] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for images in list(_open):
        images.close()


def _fitting(image_bytes: int, workers: int) -> tuple[int, int]:
    """How many of `workers` can hand over images of this size, and how many images at a time: all requests under way
    must fit into half of the shared memory that is free. (0, BLOCK) where not one worker can."""
    if workers == 0:
        return 0, BLOCK
    free = _shared_memory_free()
    for count in range(workers, 0, -1):
        images = free // 2 // (count * _PREFETCH + 2) // (image_bytes + _PAGE)
        if images:
            if count < workers:
                _say_once(f"{_little(free)}: images are read by {count} of {workers} processes. {_MORE}")
            return count, int(images)
    _say_once(f"{_little(free)}: images are read without further processes, which is slower. {_MORE}")
    return 0, BLOCK


_MORE = "docker run --shm-size=2g gives more"


def _little(free: int) -> str:
    return f"{SHARED_MEMORY} (shared memory) has {free / 2**20:.3g} MB free" if free else f"no {SHARED_MEMORY}"


def _shared_memory_free() -> int:
    """Bytes free in shared memory, 0 if it cannot be written."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free if os.access(SHARED_MEMORY, os.W_OK) else 0
    except OSError:
        return 0


def _batches(reader: Reader, batches: Iterator[Tensor], workers: int, pin: bool) -> Generator[Tensor, None, None]:
    """Whole batches, out of several requests where shared memory is too small for one."""
    workers, most = _fitting(reader.channels * reader.size**2, workers)
    sizes: deque[int] = deque()

    def requests() -> Iterator[Tensor]:
        for batch in batches:
            sizes.append(len(batch))
            yield from batch.split(most) if workers and len(batch) > most else (batch,)

    parts = _streamed(reader.read, requests(), workers, pin)
    try:
        for part in parts:
            size = sizes.popleft()
            if len(part) == size:
                yield part
                continue
            whole = torch.empty((size, *part.shape[1:]), dtype=part.dtype, pin_memory=pin)
            whole[: len(part)] = part
            start = len(part)
            while start < size:
                # Copied at once, so that its shared memory is free for the next request.
                part = next(parts)
                whole[start : start + len(part)] = part
                start += len(part)
            del part
            yield whole
    finally:
        parts.close()


def _streamed(
    read: Callable[[Tensor], T], requests: Iterable[Tensor], workers: int, pin: bool
) -> Generator[T, None, None]:
    if workers == 0:
        for request in requests:
            found = read(request)
            yield found.pin_memory() if pin and isinstance(found, Tensor) else found  # type: ignore[misc]
        return
    plan = _Plan(requests)
    loader = DataLoader(
        _Requests(read),
        sampler=plan,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_PREFETCH,
        pin_memory=pin,
        timeout=_LOOK_SECONDS,
        multiprocessing_context=_Fork(),
        # Without its own generator it would draw from torch's global one, which the model's dropout uses.
        generator=torch.Generator(),
    )
    before = set(multiprocessing.active_children())
    with _deaf_children():
        iterator = iter(loader)
    processes = [child for child in multiprocessing.active_children() if child not in before]
    try:
        while True:
            fault = ""
            try:
                answer = next(iterator)
            except StopIteration:
                return
            except _LOST as error:
                fault = (str(error).splitlines() or [type(error).__name__])[0]
            # Outside of the handler, whose traceback would keep the iterator, and so the workers, alive.
            if fault.startswith("DataLoader timed out"):
                _attendant.check()
                continue
            if fault:
                free = _shared_memory_free()
                raise WorkerLostError(f"a data worker ended: {fault}" + (f" ({_little(free)})" if free < 2**28 else ""))
            request = plan.under_way.popleft()
            if answer is None:
                _say_once(f"{_little(_shared_memory_free())}: some images are read without further processes. {_MORE}")
                answer = read(request)
            if isinstance(answer, LscError):
                raise answer
            yield answer
            del answer
    finally:
        # Workers end when the last reference is dropped; one that is stuck in a read of a dead disk would not.
        killer = threading.Timer(_END_SECONDS, lambda: deque(map(BaseProcess.kill, processes)))
        killer.daemon = True
        killer.start()
        del iterator
        for process in processes:
            process.join(2 * _END_SECONDS)
        killer.cancel()


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
