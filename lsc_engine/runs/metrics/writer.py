"""The one writer of metrics.jsonl: one JSON object per line, each appended by one write."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from lsc_engine.runs.metrics.parsing import MAX_KEY, RESERVED

_MAX_PENDING = 100_000


def format_line(step: int, epoch: float, time: float, attempt: int, values: Mapping[str, float]) -> bytes:
    """One line with its newline. Raises ValueError for a name that is not a metric name."""
    row: dict[str, object] = {"step": int(step), "epoch": float(epoch), "time": float(time), "attempt": int(attempt)}
    nonfinite: dict[str, str] = {}
    for name, value in values.items():
        if name in RESERVED or name in row or not name.isprintable() or not 0 < len(name) <= MAX_KEY:
            raise ValueError(f"{name!r} is not a metric name")
        number = float(value)
        if math.isfinite(number):
            row[name] = number
        else:
            row[name] = None
            nonfinite[name] = str(number)
    if nonfinite:
        row["nonfinite"] = nonfinite
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"


class MetricsLog:
    """The one writer of a metrics file: every line is one write at the end of the file.

    A line that cannot be written (disk full, quota) is kept and written with a later one; `append` never raises
    OSError, `error` is the current problem.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._pending: list[bytes] = []
        self.dropped = 0
        self.error: str | None = None

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o666)
            size = os.fstat(self._descriptor).st_size
            # A line torn by a crash must not swallow the first line of this attempt.
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                self._write(self._descriptor, b"\n")
        return self._descriptor

    @staticmethod
    def _write(descriptor: int, data: bytes) -> None:
        size = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, data) == len(data):
                return
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
        os.ftruncate(descriptor, size)
        raise OSError(28, os.strerror(28))

    def append(self, line: bytes) -> bool:
        """Write `line` after those still waiting; False when it has to wait."""
        self._pending.append(line)
        return self.flush()

    def flush(self) -> bool:
        """Write what waits; True when nothing waits any more."""
        try:
            descriptor = self._open()
            written = 0
            try:
                for line in self._pending:
                    self._write(descriptor, line)
                    written += 1
            finally:
                del self._pending[:written]
            self.error = None
            return True
        except OSError as error:
            self.error = f"{self._path.name}: {error.strerror}"
            excess = len(self._pending) - _MAX_PENDING
            if excess > 0:
                del self._pending[:excess]
                self.dropped += excess
            return False

    def sync(self) -> None:
        """Flush to the disk: lines up to a checkpoint should survive what the checkpoint survives."""
        if self.flush() and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._descriptor)

    def close(self) -> None:
        """Write what waits, as far as it goes, and close."""
        self.flush()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
