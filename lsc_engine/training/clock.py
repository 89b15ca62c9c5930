"""Training seconds, the unit of speed and speed-ups, without compiling, evaluation and saving."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Counts seconds over all attempts of a run, from the `seconds` of the attempts before."""

    def __init__(self, device: torch.device, seconds: float = 0.0) -> None:
        self._device, self._seconds = device, seconds
        self._since: float | None = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training seconds so far. Waits for the device, so use it at log steps only."""
        if self._since is None:
            return self._seconds
        self._wait()
        return self._seconds + time.perf_counter() - self._since

    def restart(self) -> None:
        """Drop the time since the clock was created or last paused, as after a step that compiled."""
        self._wait()
        self._since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside the block is not training time."""
        self._seconds, self._since = self.seconds, None
        try:
            yield
        finally:
            self._wait()
            self._since = time.perf_counter()

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
