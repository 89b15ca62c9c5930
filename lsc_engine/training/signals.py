"""Signals as flags that the loop reads between two steps.

SIGTERM, Ctrl-C and, when attached to a terminal, SIGHUP ask for a checkpoint and an end; the same again leaves at
once. SIGUSR1 asks for a checkpoint. A detached process ignores SIGHUP.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

DETACHED = "LSC_DETACHED"


class Signals:
    """Context manager: inside it `stop` is the number of the signal that asks for an end, or None."""

    def __init__(self) -> None:
        self.stop: int | None = None
        self.save = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            handlers = {signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop, signal.SIGUSR1: self._on_save}
            for number, handler in handlers.items():
                self._before[number] = signal.signal(number, handler)
            hangup = signal.SIG_IGN if os.environ.get(DETACHED) else self._on_stop
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, hangup)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def take_save(self) -> bool:
        """Was a checkpoint asked for since the last call?"""
        asked, self.save = self.save, False
        return asked

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop is not None:
            os._exit(128 + number)
        self.stop = number

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self.save = True
