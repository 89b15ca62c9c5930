"""Signals as flags that the loop reads between two steps.

SIGTERM, Ctrl-C and, when attached to a terminal, SIGHUP request a checkpoint and a stop; a second one exits at once,
but not a second SIGTERM of Slurm or torchrun, which repeat it.
SIGUSR1 requests a checkpoint. A detached process, or one started under nohup, ignores SIGHUP.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from lsc_engine.runs.folder.process import DETACHED
from lsc_engine.runs.folder.slurm import under_launcher

# Wrappers and process groups deliver one Ctrl-C twice; signals within this time are one request.
BURST_SECONDS = 0.2
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(Exception):
    """Work that can be repeated was left because a stop was requested."""

    def __init__(self, message: str = "stopped") -> None:
        super().__init__(message)


class Signals:
    """Context manager: inside it `stop` is the number of the signal that requested a stop, or None. With `ignored`,
    signals have no effect: the first process of a run decides for all."""

    def __init__(self, *, ignored: bool = False) -> None:
        self._ignored = ignored
        self.stop: int | None = None
        self.save = False
        self._before: dict[int, Any] = {}
        self._wakeup, self._wakeup_before = -1, -1
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Signals:
        if threading.current_thread() is not threading.main_thread():
            return self
        if self._ignored:
            self._before = {n: signal.signal(n, signal.SIG_IGN) for n in (*_STOPS, signal.SIGUSR1)}
            return self
        # Stop signals are counted in a thread: handlers wait for the main thread, which may be in a long computation.
        source, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        self._watcher = threading.Thread(target=_exit_at_the_second, args=(source,), daemon=True, name="signals")
        self._watcher.start()
        self._wakeup_before = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        if os.environ.get(DETACHED):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (*_STOPS, signal.SIGUSR1):
            # Detached or under nohup a closed terminal does not end the process.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive)
        # A closed terminal or pipe ends messages, not the training; nor does it afterwards change the exit code.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._watcher is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._wakeup)
            self._watcher.join(1.0)
            self._watcher = None

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.save = True
        elif self.stop is None:
            self.stop = number

    def take_save(self) -> bool:
        """Whether a checkpoint was requested since the last call."""
        requested, self.save = self.save, False
        return requested

    def check(self) -> None:
        """Interrupted if a stop was requested."""
        if self.stop is not None:
            raise Interrupted


def _exit_at_the_second(source: int) -> None:
    first: float | None = None
    counted = _STOPS[1:] if under_launcher() else _STOPS
    with contextlib.closing(os.fdopen(source, "rb", buffering=0)) as numbers:
        while received := numbers.read(64):
            for number in received:
                if number not in counted:
                    continue
                now = time.monotonic()
                first = now if first is None else first
                if now - first > BURST_SECONDS:
                    os._exit(128 + number)


def _forget_wakeup() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)


# A forked worker shares the pipe: its signals are not those of the trainer.
os.register_at_fork(after_in_child=_forget_wakeup)
